//! A target as it was written → the URL of the table's directory.
//!
//! Invariants:
//! - A target names one table, the one that the system or the store would find by that name. What a URL
//!   library drops or rewrites in silence (a fragment, `..`, a tab, a `\`) is refused: the rows would be
//!   acknowledged and lie elsewhere.
//! - A refusal says what to write instead, and shows no target that may hold a secret.
//!
//! It reaches for nothing but the links in a local path.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use url::Url;

use crate::error::{Code, Error, Result};

/// Where a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaTarget {
    /// Of the table's directory, with a slash at its end.
    pub url: Url,
    /// The table's directory, if it is on this machine.
    pub local: Option<PathBuf>,
}

/// `delta:` and a path or URL.
///
/// # Errors
/// `CONFIG_INVALID` for a target that names no table, or not one alone.
pub fn parse(target: &str) -> Result<DeltaTarget> {
    let rest = target.strip_prefix("delta:").unwrap_or(target);
    if rest.is_empty() {
        return Err(invalid("delta: needs a path or a URL after the colon"));
    }
    if has_scheme(rest) {
        of_url(rest)
    } else {
        of_path(rest)
    }
}

/// The target that was probably meant by one that no destination answers to.
pub fn meant(target: &str) -> Option<String> {
    const STORES: [&str; 8] = ["s3", "s3a", "az", "azure", "adl", "abfs", "abfss", "gs"];
    let (scheme, after) = target.split_once("://").unwrap_or_default();
    let secret = after.contains(['@', '?']);
    match scheme {
        "http" | "https" => {
            let workspace = after.split(['/', ':', '?', '#']).next().unwrap_or_default();
            (workspace.contains(".zerobus.") && !secret)
                .then(|| format!("zerobus://{workspace}/<catalog>.<schema>.<table>"))
        }
        _ if scheme == "file" || STORES.contains(&scheme) => Some(match secret {
            true => format!("delta:{scheme}://…"),
            false => format!("delta:{target}"),
        }),
        "" if target.starts_with('~') => Some(format!("delta:{}", at_home(target))),
        "" if target.starts_with('/') => Some(format!("delta:/{}", target.trim_start_matches('/'))),
        "" if target.starts_with("file:/") || !(target.is_empty() || has_scheme(target)) => {
            Some(format!("delta:{target}"))
        }
        _ => None,
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::ConfigInvalid, message).during("connect")
}

/// One letter before a colon is a drive, not a scheme.
fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.len() > 1
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

fn of_url(rest: &str) -> Result<DeltaTarget> {
    if !rest.contains("://") && !rest.starts_with("file:/") {
        return Err(invalid(format!(
            "delta: a URL has :// after its scheme; a path with a colon begins with ./, as in delta:./{rest}"
        )));
    }
    // The parser strips some of these and turns others into a slash.
    if rest.contains('\\') || rest.chars().any(char::is_control) || rest.trim() != rest {
        return Err(invalid(
            "the target's URL holds a \\, a control character or a blank at an end: write / for \\, and other characters as %XX",
        ));
    }
    let mut url = Url::parse(rest).map_err(|error| invalid(format!("the target is no URL: {error}")))?;
    let container_as_user = matches!(url.scheme(), "abfs" | "abfss") && url.password().is_none();
    if (!url.username().is_empty() && !container_as_user) || url.password().is_some() || url.query().is_some()
    {
        // Not shown: whoever writes this has put a secret there.
        return Err(invalid(
            "the target holds credentials or a query; classifier go into delta.storage or the environment",
        ));
    }
    if url.fragment().is_some() {
        return Err(invalid(
            "the target's URL has a fragment, which is no part of a path: write %23 if the table's name holds a #",
        ));
    }
    let segments = rest
        .split('/')
        .map(|segment| segment.to_ascii_lowercase().replace("%2e", "."));
    if segments
        .into_iter()
        .any(|segment| segment == ".." || segment == ".")
    {
        return Err(invalid(
            "the target's URL holds . or .., which mean nothing in a store: leave them out",
        ));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    if url.scheme() != "file" {
        return Ok(DeltaTarget { url, local: None });
    }
    if let Some(host) = url.host_str().filter(|_| !cfg!(windows)) {
        return Err(invalid(format!(
            "file://{host} is another machine; did you mean \"delta:file:///{host}{}\"?",
            url.path().trim_end_matches('/')
        )));
    }
    let path = url
        .to_file_path()
        .map_err(|()| invalid("the target's URL names no path on this machine"))?;
    local(path, url)
}

fn of_path(rest: &str) -> Result<DeltaTarget> {
    if rest.starts_with('~') {
        // Shells know what it stands for; here it would be a directory of that name.
        let text = format!(
            "delta: a path does not begin with ~; did you mean \"delta:{}\"? (a directory of that name is ./~)",
            at_home(rest)
        );
        return Err(invalid(text));
    }
    if !cfg!(windows) {
        if rest.starts_with("//") {
            let path = rest.trim_start_matches('/');
            let text = format!(
                "delta:{rest} names neither a store nor a path; did you mean \"delta:/{path}\", \"delta:./{path}\" or \"delta:s3://{path}\"?"
            );
            return Err(invalid(text));
        }
        if rest.contains('\\') {
            let text = format!(
                "a table's path cannot hold a \\; did you mean \"delta:{}\"?",
                rest.replace('\\', "/")
            );
            return Err(invalid(text));
        }
    }
    if rest.chars().any(char::is_control) {
        return Err(invalid("a table's path cannot hold a control character"));
    }
    let path = std::path::absolute(rest).map_err(|error| invalid(format!("{rest:?}: {error}")))?;
    let path = resolved(&path)?;
    let url = Url::from_directory_path(&path).map_err(|()| invalid(format!("{rest:?} is no path")))?;
    local(path, url)
}

fn local(path: PathBuf, url: Url) -> Result<DeltaTarget> {
    if path.to_string_lossy().contains('%') {
        // The kernel decodes table paths twice, and would look for another directory.
        return Err(invalid(format!(
            "{}: a table's path cannot hold a %",
            path.display()
        )));
    }
    Ok(DeltaTarget {
        url,
        local: Some(path),
    })
}

fn at_home(path: &str) -> String {
    let home = std::env::var("HOME").ok().filter(|home| !home.is_empty());
    match (path.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => format!("{}/{below}", home.trim_end_matches('/')),
        (Some(below), None) => format!("<your home>/{below}"),
        // Another user's, or the home itself.
        (None, _) => format!("/home/{}", path.trim_start_matches('~')),
    }
}

/// Without `.` and `..`, which object stores take for names. What stands before a `..` is followed as the
/// system follows it: the parent of a link is that of what it points to.
fn resolved(path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                let trouble = |why: &dyn std::fmt::Display| {
                    invalid(format!("{}/.. cannot be followed: {why}", clean.display()))
                };
                clean = match clean.canonicalize() {
                    Ok(real) if real.is_dir() => real,
                    Ok(_) => return Err(trouble(&"it is no directory")),
                    // Nothing is there, so there is nothing to follow.
                    Err(error) if error.kind() == ErrorKind::NotFound && !clean.is_symlink() => clean,
                    Err(error) => return Err(trouble(&error)),
                };
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    Ok(clean)
}
