//! The marks that the spool had left at targets when it was sent to another one: by them a destination to which it
//! comes back is known again.
//!
//! Invariants:
//! - A mark is on the disk before the spool has its next target.
//! - A file that cannot be understood is one without marks. Then a destination that knows the spool takes it for a
//!   copy: it is told of, and nothing is lost.
//! - Of one target there are several, as often as it was left: the last one says nothing where the spool did not get
//!   as far as to the destination meanwhile.
//! - So many are remembered, and those that came last.
//!
//! It does not know what a mark means.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::format::SpoolId;
use crate::file_system::Disk;

const NAME: &str = "marks";
const NEW: &str = "marks.new";
const REMEMBERED: usize = 64;

/// Targets without secrets and marks, what was left last at the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FormerMarks(Vec<(String, SpoolId)>);

/// # Errors
/// What the disk says, but for a file that is not there.
pub fn read(disk: &dyn Disk, directory: &Path) -> io::Result<FormerMarks> {
    let bytes = match disk.open_to_read(&directory.join(NAME)) {
        Ok(file) => file.read_to_end_at(0)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FormerMarks::default()),
        Err(error) => return Err(error),
    };
    let text: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let entries = text["marks"].as_array().into_iter().flatten();
    let entries = entries.filter_map(|entry| {
        let target = entry["target"].as_str()?.to_owned();
        let mark = u128::from_str_radix(entry["mark"].as_str()?, 16).ok()?;
        Some((target, mark.to_be_bytes()))
    });
    Ok(FormerMarks(entries.collect()))
}

impl FormerMarks {
    /// What was left at a target, each time that the spool was sent elsewhere.
    pub fn of(&self, target: &str) -> Vec<SpoolId> {
        let of = self.0.iter().filter(|(other, _)| other == target);
        of.map(|(_, mark)| *mark).collect()
    }

    /// Keeps the mark of a target that is left now: it is synced when this returns.
    ///
    /// # Errors
    /// What the disk says; the file is as it was then.
    pub fn keep(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        target: String,
        mark: SpoolId,
    ) -> io::Result<()> {
        self.0.push((target, mark));
        self.0.drain(..self.0.len().saturating_sub(REMEMBERED));
        let entry = |(target, mark): &(String, SpoolId)| {
            let mark = format!("{:032x}", u128::from_be_bytes(*mark));
            json!({ "target": target, "mark": mark })
        };
        let text = json!({ "marks": self.0.iter().map(entry).collect::<Vec<_>>() });
        let staged = directory.join(NEW);
        match disk.unlink(&staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create_private(&staged)?;
        file.write_all_at(text.to_string().as_bytes(), 0)?;
        file.sync()?;
        disk.rename(&staged, &directory.join(NAME))?;
        disk.sync_directory(directory)
    }
}
