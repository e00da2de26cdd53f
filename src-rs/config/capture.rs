//! The options of `capture`: what was handed over is recorded.

use std::path::PathBuf;
use std::time::Duration;

use super::group::Group;

/// Where and how rows are recorded.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    pub directory: PathBuf,
    pub format: CaptureFormat,
    /// A file is closed once it has grown to this,
    pub max_file_bytes: usize,
    /// or once it is so old.
    pub rotate_after: Duration,
    /// The oldest go first.
    pub max_files: usize,
    /// Files that were closed longer ago are removed.
    pub max_age: Option<Duration>,
    /// The part of the deliveries that is recorded: above 0, at most 1.
    pub sample: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureFormat {
    ArrowFile,
    ArrowStream,
    /// A line of JSON for each row.
    Ndjson,
}

pub(super) fn read(root: &mut Group<'_>) -> Option<CaptureOptions> {
    if !root.holds("capture") {
        root.value("capture");
        return None;
    }
    root.group("capture", |group| {
        let directory = group.text("directory").unwrap_or_default();
        if directory.is_empty() {
            group.issue("directory", "is missing".into(), None);
        }
        Some(CaptureOptions {
            directory: PathBuf::from(directory),
            format: group.choice(
                "format",
                CaptureFormat::ArrowFile,
                &[
                    ("arrow-file", CaptureFormat::ArrowFile),
                    ("arrow-stream", CaptureFormat::ArrowStream),
                    ("ndjson", CaptureFormat::Ndjson),
                ],
            ),
            max_file_bytes: group.bytes("maxFileBytes", 64 << 20, 1),
            rotate_after: group.duration("rotateAfter", Duration::from_secs(60)),
            max_files: group.count("maxFiles", 16, 1),
            max_age: group.duration_if_given("maxAge"),
            sample: group.part("sample", 1.0),
        })
    })
}
