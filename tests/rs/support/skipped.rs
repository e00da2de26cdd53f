//! What a test does when something that it needs is not on this machine.

use std::fs::OpenOptions;
use std::io::Write as _;

/// The test is left out, and named at the end of `npm test`. On CI nothing may be left out.
pub fn skipped(test: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{test}: {why}");
    // The runner keeps what a passing test prints to itself, so it is written where the script reads it.
    if let Some(list) = std::env::var_os("ARROW_INGEST_SKIPPED") {
        let mut list = OpenOptions::new().create(true).append(true).open(list).unwrap();
        writeln!(list, "{test}: {why}").unwrap();
    }
}
