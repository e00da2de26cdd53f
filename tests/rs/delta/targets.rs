//! A target names one table: the one that the system or the store finds by that name.

use std::path::Path;

use arrow_ingest::destination::{self, delta::Delta};
use arrow_ingest::error::Code;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Table, Writer, config, rows};

fn refused(target: &str) -> String {
    let found = destination::validate(target, &config(json!({})))
        .err()
        .unwrap_or_else(|| panic!("{target:?} should have been refused"));
    assert_eq!(found.code(), Code::ConfigInvalid, "{target}: {found}");
    found.message().to_string()
}

async fn write_to(target: &str) {
    let delta = Delta::connect(target, &config(json!({})))
        .await
        .unwrap_or_else(|error| panic!("{target:?}: {error}"));
    let mut writer = Writer::open(&delta, &rows(0, 3), Uuid::new_v4(), None)
        .await
        .unwrap();
    writer.write(0, &rows(0, 3)).await.unwrap();
    assert_eq!(writer.close().await.unwrap().len(), 1, "{target:?}");
}

/// What a URL library leaves away or rewrites would lead to another table.
#[test]
fn what_a_url_would_lose_is_refused() {
    for (target, word) in [
        ("delta:file:///d/table#2026", "%23"),
        ("delta:s3://b/t#", "%23"),
        ("delta:s3://b/t#secret-x", "%23"),
        ("delta:s3://b/a/../t", ".."),
        ("delta:file:///a/%2E%2e/t", ".."),
        ("delta:s3://b/./t", ".."),
        ("delta:s3://b/a\\t", "\\"),
        ("delta:file:///a\\t", "\\"),
        ("delta:s3://b/ta\tble", "%XX"),
        ("delta:s3://b/t ", "%XX"),
        ("delta:s3://b/t?secret-x", "storage"),
    ] {
        let found = refused(target);
        assert!(found.contains(word), "{target:?}: {found}");
        assert!(!found.contains("secret-x"), "{found}");
    }
}

/// Paths that a shell or a URL would understand otherwise are refused with what was probably meant.
#[cfg(unix)]
#[test]
fn a_path_that_means_something_else_is_refused_with_the_nearest_right_one() {
    for (target, meant) in [
        ("delta://lake/events", "\"delta:/lake/events\""),
        ("delta://lake/events", "\"delta:./lake/events\""),
        ("delta:///lake/events", "\"delta:/lake/events\""),
        ("delta:/lake\\events", "\"delta:/lake/events\""),
        ("delta:~else/events", "\"delta:/home/else/events\""),
        ("delta:file://lake/events", "\"delta:file:///lake/events\""),
        ("delta:dir:x/events", "delta:./dir:x/events"),
        ("delta:/a\0b", "control"),
        ("delta:/a\nb", "control"),
    ] {
        let found = refused(target);
        assert!(found.contains(meant), "{target:?}: {found}");
    }
    let home = std::env::var("HOME").unwrap();
    let found = refused("delta:~/x");
    assert!(
        found.contains(&format!("\"delta:{}/x\"", home.trim_end_matches('/'))),
        "{found}"
    );
}

/// A target without `delta:` in front of it.
#[test]
fn a_bare_path_or_store_url_is_answered_with_the_target_that_was_meant() {
    for (target, meant) in [
        ("s3://b/t", "\"delta:s3://b/t\""),
        ("az://c/t", "\"delta:az://c/t\""),
        ("gs://b/t", "\"delta:gs://b/t\""),
        ("abfss://c@account.dfs.core.windows.net/t", "\"delta:abfss://…\""),
        ("s3://b/t?token=secret-x", "\"delta:s3://…\""),
        ("file:///d/t", "\"delta:file:///d/t\""),
        ("file:/d/t", "\"delta:file:/d/t\""),
        ("./x", "\"delta:./x\""),
        ("../x", "\"delta:../x\""),
        ("/abs/x", "\"delta:/abs/x\""),
        ("lake/events", "\"delta:lake/events\""),
        ("C:\\lake", "\"delta:C:\\lake\""),
        (
            "https://1234.zerobus.eu-west-1.cloud.databricks.com",
            "\"zerobus://1234.zerobus.eu-west-1.cloud.databricks.com/<catalog>.<schema>.<table>\"",
        ),
    ] {
        let found = refused(target);
        assert!(found.contains(meant), "{target}: {found}");
        assert!(!found.contains("secret-x"), "{found}");
    }
    for target in [
        "",
        "https://example.com/x",
        "https://u:secret-x@w.zerobus.y/",
        "kafka://h:1/t",
    ] {
        let found = refused(target);
        assert!(
            found.contains("delta:<path or URL>") && !found.contains("secret-x"),
            "{target}: {found}"
        );
    }
}

/// `..` behind a link is the parent of what the link points to, as for any program.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_parent_of_a_link_is_that_of_what_it_points_to() {
    let home = Table::new().home;
    let at = |name: &str| home.path().join(name);
    std::fs::create_dir_all(at("real/inner")).unwrap();
    std::os::unix::fs::symlink(at("real/inner"), at("link")).unwrap();
    std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
    std::fs::write(at("file"), "").unwrap();
    write_to(&format!("delta:{}", at("link/../t").display())).await;
    assert!(at("real/t/_delta_log").is_dir() && !at("t").exists());
    // Where nothing is, there is nothing to follow.
    write_to(&format!("delta:{}", at("x/./y/../../u").display())).await;
    assert!(at("u/_delta_log").is_dir());
    for name in ["file/../t", "dangling/../t"] {
        let found = refused(&format!("delta:{}", at(name).display()));
        assert!(found.contains("cannot be followed"), "{found}");
    }
    let here = std::env::current_dir().unwrap();
    let below = pathdiff(&at("v"), &here);
    write_to(&format!("delta:{below}")).await;
    assert!(at("v/_delta_log").is_dir());
}

/// A relative spelling of an absolute path.
fn pathdiff(path: &Path, from: &Path) -> String {
    let up = "../".repeat(from.components().count() - 1);
    format!("{up}{}", path.strip_prefix("/").unwrap().display())
}

/// Whatever a name holds, the table lies there, by that name, and others find it.
#[tokio::test(flavor = "multi_thread")]
async fn odd_names_are_names() {
    for name in [
        "a b",
        "a#b",
        "a?b",
        "a;b",
        "a{b}",
        "a[b]^`|",
        "a\"b<c>",
        "a~b",
        "~",
        "ä漢🦀",
        "a:b",
        "a+b&c=d@e,f$!*'()",
    ] {
        let table = Table::new();
        let path = table.home.path().join(name);
        write_to(&format!("delta:{}", path.display())).await;
        let log = path.join("_delta_log");
        assert!(log.join(format!("{:020}.json", 1)).is_file(), "{name}");
        let entries = std::fs::read_dir(table.home.path()).unwrap().count();
        assert_eq!(entries, 1, "{name}");
        let url = url::Url::from_directory_path(&path).unwrap();
        let found = deltalake_core::DeltaTableBuilder::from_url(url.clone())
            .unwrap()
            .load()
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.version(), Some(1), "{name}");
        // And by a URL it is the same table.
        write_to(&format!("delta:{}", url.as_str().trim_end_matches('/'))).await;
        assert!(log.join(format!("{:020}.json", 2)).is_file(), "{name}");
    }
}
