//! Starts Node on the TypeScript tests, with the addon that cargo has just built beside this test.
//!
//! That makes `cargo test` reach `src-rs/binding`, which nothing but Node can call; under
//! `scripts/check_coverage.sh` the addon is instrumented and what Node ran is counted.
//! Stands behind the feature "node": `npm test` runs the same suite on the release addon instead.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_typescript_tests_pass_on_the_addon_that_was_built_with_this_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(
        root.join("dist/index.js").exists() && root.join("node_modules").exists(),
        "the TypeScript side is not built: run `npm run build:debug` first"
    );

    let deps = env::current_exe()
        .expect("a path of this test")
        .parent()
        .expect("its folder")
        .to_path_buf();
    let library = format!(
        "{}arrow_ingest{}",
        env::consts::DLL_PREFIX,
        env::consts::DLL_SUFFIX
    );
    // Node takes a file for an addon by its extension; a symbolic link it would follow to `.so` first.
    let addon = deps.join("arrow_ingest.node");
    let _ = std::fs::remove_file(&addon);
    std::fs::hard_link(deps.join(library), &addon).expect("cargo builds the addon beside its tests");

    let command =
        env::var("ARROW_INGEST_HOST").unwrap_or_else(|_| "node node_modules/vitest/vitest.mjs run".into());
    let mut words = command.split_whitespace();
    let path = env::join_paths(
        [root.join("node_modules/.bin")]
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    )
    .expect("a PATH");
    let status = Command::new(words.next().expect("a command in ARROW_INGEST_HOST"))
        .args(words)
        .current_dir(root)
        .env("PATH", path)
        .env("ARROW_INGEST_ADDON", addon)
        // For Node's workers and children as well.
        .env(
            "NODE_OPTIONS",
            format!("--require={}", root.join("scripts/use_addon.cjs").display()),
        )
        .stdin(Stdio::null())
        .status()
        .expect("Node starts");
    assert!(status.success(), "`{command}` failed: {status}");
}
