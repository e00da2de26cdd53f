//! Where the Arrow project's integration files lie: beside this project, or where `ARROW_TESTING` says.

use std::path::{Path, PathBuf};

pub fn golden_root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(std::env::var_os("ARROW_TESTING").unwrap_or_else(|| "../shared/arrow-testing".into()))
}

/// Why a test is left out that needs them.
pub fn no_golden_files() -> String {
    format!(
        "{} is not there (ARROW_TESTING says where it is)",
        golden_root().display()
    )
}
