//! A process that is starting a program: for a moment that has open whatever the process has.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

/// While a program is forked, so that all that is open is open in it, too, and runs nothing of its own yet.
pub fn while_a_program_starts(work: impl FnOnce()) {
    let (mut is_forked, mut forked) = std::io::pipe().unwrap();
    let (mut is_over, mut over) = std::io::pipe().unwrap();
    let starting = std::thread::spawn(move || {
        let mut program = Command::new("true");
        let waits = move || {
            forked.write_all(&[0])?;
            is_over.read_exact(&mut [0])
        };
        // SAFETY: between fork and exec there are only calls of `write` and `read`, which are allowed there.
        unsafe { program.pre_exec(waits) };
        program.status()
    });
    is_forked.read_exact(&mut [0]).unwrap();
    // A program that waits for ever would keep the output of the tests open.
    let done = catch_unwind(AssertUnwindSafe(work));
    over.write_all(&[0]).unwrap();
    assert!(starting.join().unwrap().unwrap().success());
    done.unwrap();
}
