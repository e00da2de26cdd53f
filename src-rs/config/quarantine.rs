//! The options of `quarantine` and `deadLetter`: refused rows are looked for, and kept.

use std::path::PathBuf;
use std::time::Duration;

use super::group::Group;

/// How rows that make a destination refuse a write are looked for.
#[derive(Debug, Clone)]
pub struct QuarantineOptions {
    /// Without it a refused write fails as a whole.
    pub enabled: bool,
    /// Refusals that may be spent on the rows of one delivery.
    pub max_attempts: u32,
    /// Of one search, from the refusal that began it.
    pub deadline: Duration,
}

/// Where refused rows are kept.
#[derive(Debug, Clone)]
pub struct DeadLetterOptions {
    pub directory: PathBuf,
    /// A file is closed once it has grown to this.
    pub max_file_bytes: usize,
    /// Of all files together; the oldest go first.
    pub max_bytes: usize,
    pub max_files: usize,
    /// Files that were closed longer ago are removed.
    pub max_age: Option<Duration>,
}

impl Default for QuarantineOptions {
    fn default() -> Self {
        QuarantineOptions {
            enabled: true,
            max_attempts: 1_000,
            deadline: Duration::from_secs(60),
        }
    }
}

/// `quarantine: false` is short for `quarantine: { enabled: false }`.
pub(super) fn read(root: &mut Group<'_>) -> QuarantineOptions {
    let default = QuarantineOptions::default();
    if root.holds_flag("quarantine") {
        return QuarantineOptions {
            enabled: root.flag("quarantine", default.enabled),
            ..default
        };
    }
    root.group("quarantine", |group| {
        let attempts = group.count("maxAttempts", default.max_attempts as usize, 1);
        QuarantineOptions {
            enabled: group.flag("enabled", default.enabled),
            max_attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            deadline: group.duration("deadline", default.deadline),
        }
    })
}

pub(super) fn read_dead_letter(root: &mut Group<'_>) -> Option<DeadLetterOptions> {
    if !root.holds("deadLetter") {
        root.value("deadLetter");
        return None;
    }
    root.group("deadLetter", |group| {
        let directory = group.text("directory").unwrap_or_default();
        if directory.is_empty() {
            group.issue("directory", "is missing".into(), None);
        }
        let max_file_bytes = group.bytes("maxFileBytes", 64 << 20, 1);
        let max_bytes = group.bytes("maxBytes", max_file_bytes.max(1 << 30), 1);
        if max_bytes < max_file_bytes {
            group.issue("maxBytes", "is less than maxFileBytes".into(), None);
        }
        Some(DeadLetterOptions {
            directory: PathBuf::from(directory),
            max_file_bytes,
            max_bytes,
            max_files: group.count("maxFiles", 1_000, 1),
            max_age: group.duration_if_given("maxAge"),
        })
    })
}
