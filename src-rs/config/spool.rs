//! The options of `spool`: a durable log of deliveries on the disk.

use std::path::PathBuf;

use super::group::Group;
use crate::spool::{Durability, SpoolCompression, SpoolOptions, WhenFull};

/// What a client wants of a spool. The target and the owner are the client's.
#[derive(Debug, Clone)]
pub struct SpoolConfig {
    pub directory: PathBuf,
    pub name: String,
    pub durability: Durability,
    pub compression: Option<SpoolCompression>,
    pub max_bytes: Option<u64>,
    pub min_free_bytes: u64,
    pub segment_bytes: u64,
    pub when_full: WhenFull,
}

impl SpoolConfig {
    /// `budget`: bytes that wait in memory for the disk.
    pub fn to_options(&self, target: &str, owner: &str, budget: usize) -> SpoolOptions {
        SpoolOptions {
            name: self.name.clone(),
            durability: self.durability,
            compression: self.compression,
            max_bytes: self.max_bytes,
            min_free_bytes: self.min_free_bytes,
            segment_bytes: self.segment_bytes,
            queue_bytes: (budget as u64 / 2).max(1),
            when_full: self.when_full,
            owner: owner.to_string(),
            ..SpoolOptions::new(&self.directory, target)
        }
    }
}

pub(super) fn read(root: &mut Group<'_>) -> Option<SpoolConfig> {
    if !root.holds("spool") {
        root.value("spool");
        return None;
    }
    root.group("spool", |group| {
        let directory = group.text("directory").unwrap_or_default();
        if directory.is_empty() {
            group.issue("directory", "is missing".into(), None);
        }
        let name = group.text_or("name", "default");
        if !is_name(&name) {
            let text = "must be a plain name of at most 100 letters, digits, \"-\", \"_\" and \".\"";
            group.issue("name", text.into(), None);
        }
        let segment_bytes = group.bytes("segmentBytes", 64 << 20, 1 << 12) as u64;
        let max_bytes = group.bytes_if_given("maxBytes", 1 << 16);
        Some(SpoolConfig {
            directory: PathBuf::from(directory),
            name,
            durability: group.choice(
                "durability",
                Durability::Synced,
                &[("synced", Durability::Synced), ("written", Durability::Written)],
            ),
            compression: group.choice(
                "compression",
                None,
                &[
                    ("none", None),
                    ("lz4", Some(SpoolCompression::Lz4)),
                    ("zstd", Some(SpoolCompression::Zstd)),
                ],
            ),
            max_bytes: max_bytes.map(|bytes| bytes as u64),
            min_free_bytes: group.bytes("minFreeBytes", 0, 0) as u64,
            segment_bytes,
            when_full: group.choice(
                "whenFull",
                WhenFull::Wait,
                &[("wait", WhenFull::Wait), ("reject", WhenFull::Reject)],
            ),
        })
    })
}

/// The same on every file system.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=100).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
}
