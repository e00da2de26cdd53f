//! Foreign failures → our codes, in one place.
//!
//! Invariants:
//! - The match over `object_store::Error` names every variant, so that an upgrade which adds one is looked at here.
//! - Nothing that a storage option or a credential in the environment holds is in a message:
//!   servers quote keys and signed strings back in their answers.
//!
//! It does not decide whether a write landed, `commit` reads the log for that; nor whether a log is damaged, which
//! `log` does.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use crate::error::{Code, Error};

/// What must never be shown, taken from options and environment.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let mut secrets: Vec<String> = pairs
            .into_iter()
            .filter(|(key, value)| value.len() >= 4 && !harmless(key))
            .map(|(_, value)| value.clone())
            .collect();
        // Longest first: a secret that contains another must not leave its tail behind.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Secrets(secrets)
    }

    fn scrub(&self, text: String) -> String {
        self.0
            .iter()
            .fold(text, |text, secret| text.replace(secret.as_str(), "[secret]"))
    }

    /// An error of ours that carries the scrubbed chain of a foreign one.
    fn report(&self, code: Code, cause: &(dyn std::error::Error + 'static)) -> Error {
        let chain = self.chain(cause);
        let message = chain.text.clone();
        match chain.source {
            Some(inner) => Error::new(code, message).caused_by(inner.as_ref()),
            None => Error::new(code, message),
        }
    }

    fn chain(&self, cause: &(dyn std::error::Error + 'static)) -> Scrubbed {
        Scrubbed {
            text: self.scrub(cause.to_string()),
            source: cause.source().map(|inner| Box::new(self.chain(inner))),
        }
    }

    pub fn store(&self, error: &object_store::Error) -> Error {
        self.report(of_store(error), error)
    }

    pub fn parquet(&self, error: &parquet::errors::ParquetError) -> Error {
        self.report(in_chain(error).unwrap_or(Code::Internal), error)
    }

    /// `what` names the file or directory: an `io::Error` alone never does.
    pub fn io(&self, what: impl fmt::Display, error: &io::Error) -> Error {
        Error::new(of_io(error), self.scrub(format!("{what}: {error}")))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secrets]")
    }
}

/// Names of options whose values help in a message and are no secret.
fn harmless(key: &str) -> bool {
    const WORDS: [&str; 14] = [
        "region",
        "endpoint",
        "bucket",
        "allow",
        "timeout",
        "retr",
        "conditional",
        "container",
        "account_name",
        "style",
        "proxy_excludes",
        "checksum",
        "limit",
        "interval",
    ];
    let key = key.to_ascii_lowercase();
    WORDS.iter().any(|word| key.contains(word))
}

/// Options and environment of the clouds, as one map: the source of [`Secrets`].
pub fn credentials(storage: &BTreeMap<String, String>) -> Secrets {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| {
            ["AWS_", "AZURE_", "GOOGLE_"]
                .iter()
                .any(|cloud| key.starts_with(cloud))
        })
        .collect();
    Secrets::new(
        storage
            .iter()
            .chain(environment.iter().map(|(key, value)| (key, value))),
    )
}

#[derive(Debug)]
struct Scrubbed {
    text: String,
    source: Option<Box<Scrubbed>>,
}

impl fmt::Display for Scrubbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Scrubbed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|inner| inner as _)
    }
}

/// Whether a store has refused a request outright: it was not carried out and never will be.
pub fn is_refusal(error: &object_store::Error) -> bool {
    let refused = matches!(
        of_store(error),
        Code::PermissionDenied
            | Code::Unauthenticated
            | Code::NotFound
            | Code::ConfigInvalid
            | Code::Unsupported
    );
    // The store below tries again by itself, and only the last try was refused then.
    refused && !error.to_string().contains(" retries, ")
}

pub fn of_io(error: &io::Error) -> Code {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge | Kind::OutOfMemory => {
            Code::ResourceExhausted
        }
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::NotADirectory | Kind::IsADirectory | Kind::InvalidFilename | Kind::InvalidInput => {
            Code::ConfigInvalid
        }
        Kind::InvalidData | Kind::UnexpectedEof => Code::TableCorrupt,
        // EMFILE has no kind of its own on stable; it passes when others close their files.
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => Code::ResourceExhausted,
        _ => Code::Unavailable,
    }
}

/// The code of the innermost I/O error, if there is one below.
fn in_chain(error: &(dyn std::error::Error + 'static)) -> Option<Code> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // Wrapped foreign errors have no kind worth reading; their own chain goes on below.
            match io.get_ref() {
                Some(inner) if io.raw_os_error().is_none() => {
                    return in_chain(inner).or_else(|| Some(of_io(io)));
                }
                _ => return Some(of_io(io)),
            }
        }
        if let Some(store) = error.downcast_ref::<object_store::Error>() {
            return Some(of_store(store));
        }
        next = error.source();
    }
    None
}

fn of_store(error: &object_store::Error) -> Code {
    use object_store::Error as Store;
    match error {
        Store::NotFound { source, .. } => match source.downcast_ref::<io::Error>() {
            Some(io) => of_io(io),
            None => Code::NotFound,
        },
        Store::PermissionDenied { source, .. } => {
            of_answer(&source.to_string()).unwrap_or(Code::PermissionDenied)
        }
        Store::Unauthenticated { .. } => Code::Unauthenticated,
        Store::AlreadyExists { .. } | Store::Precondition { .. } | Store::NotModified { .. } => {
            Code::Conflict
        }
        Store::InvalidPath { .. } | Store::UnknownConfigurationKey { .. } => Code::ConfigInvalid,
        Store::NotSupported { .. } | Store::NotImplemented { .. } => Code::Unsupported,
        Store::JoinError { .. } => Code::Internal,
        Store::Generic { source, .. } => of_answer(&source.to_string())
            .or_else(|| in_chain(source.as_ref()))
            .unwrap_or(Code::Unavailable),
        // The enum may grow; what is unknown is at least worth a second try.
        _ => Code::Unavailable,
    }
}

/// What a server said. Its status is in a type that object_store keeps to itself, so text it is.
fn of_answer(text: &str) -> Option<Code> {
    const BAD_KEYS: [&str; 6] = [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "AuthenticationFailed",
    ];
    // S3 answers 403 to wrong keys as well as to missing rights.
    if BAD_KEYS.iter().any(|word| text.contains(word)) {
        return Some(Code::Unauthenticated);
    }
    let status = text.split_once("status code: ")?.1.get(..3)?;
    match status {
        "401" => Some(Code::Unauthenticated),
        "403" => Some(Code::PermissionDenied),
        "404" => Some(Code::NotFound),
        "429" | "503" => Some(Code::ResourceExhausted),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::Error as Store;

    fn generic(text: &str) -> Store {
        Store::Generic {
            store: "S3",
            source: text.into(),
        }
    }

    #[test]
    fn what_a_server_says_has_a_code() {
        for (text, code) in [
            (
                "Server returned non-2xx status code: 404 Not Found: NoSuchBucket",
                Code::NotFound,
            ),
            ("status code: 403 Forbidden", Code::PermissionDenied),
            (
                "status code: 403 Forbidden: <Code>SignatureDoesNotMatch</Code>",
                Code::Unauthenticated,
            ),
            ("status code: 401 Unauthorized", Code::Unauthenticated),
            ("status code: 503 SlowDown", Code::ResourceExhausted),
            ("connection refused", Code::Unavailable),
        ] {
            assert_eq!(of_store(&generic(text)), code, "{text}");
        }
        let denied = Store::PermissionDenied {
            path: "x".into(),
            source: "InvalidAccessKeyId".into(),
        };
        assert_eq!(of_store(&denied), Code::Unauthenticated);
    }

    #[test]
    fn every_error_of_a_store_has_a_code() {
        let (path, store) = ("p".to_string(), "S3");
        let why = || -> Box<dyn std::error::Error + Send + Sync> { "why".into() };
        let missing = io::Error::from(io::ErrorKind::NotADirectory);
        for (error, code) in [
            (
                Store::NotFound {
                    path: path.clone(),
                    source: why(),
                },
                Code::NotFound,
            ),
            (
                Store::NotFound {
                    path: path.clone(),
                    source: missing.into(),
                },
                Code::ConfigInvalid,
            ),
            (
                Store::Unauthenticated {
                    path: path.clone(),
                    source: why(),
                },
                Code::Unauthenticated,
            ),
            (
                Store::PermissionDenied {
                    path: path.clone(),
                    source: why(),
                },
                Code::PermissionDenied,
            ),
            (
                Store::AlreadyExists {
                    path: path.clone(),
                    source: why(),
                },
                Code::Conflict,
            ),
            (
                Store::Precondition {
                    path: path.clone(),
                    source: why(),
                },
                Code::Conflict,
            ),
            (
                Store::UnknownConfigurationKey {
                    store,
                    key: "k".into(),
                },
                Code::ConfigInvalid,
            ),
            (Store::NotSupported { source: why() }, Code::Unsupported),
            (generic("status code: 500"), Code::Unavailable),
        ] {
            assert_eq!(of_store(&error), code, "{error}");
            let outer = io::Error::other(error);
            assert_eq!(in_chain(&outer), Some(code), "{outer}");
        }
    }

    #[test]
    fn every_kind_of_io_error_has_a_code() {
        use io::ErrorKind as Kind;
        for (kind, code) in [
            (Kind::StorageFull, Code::ResourceExhausted),
            (Kind::ReadOnlyFilesystem, Code::PermissionDenied),
            (Kind::NotFound, Code::NotFound),
            (Kind::NotADirectory, Code::ConfigInvalid),
            (Kind::InvalidData, Code::TableCorrupt),
            (Kind::TimedOut, Code::Unavailable),
        ] {
            assert_eq!(of_io(&kind.into()), code);
            let wrapped = io::Error::other(io::Error::from(kind));
            let store = Store::Generic {
                store: "local",
                source: Box::new(wrapped),
            };
            assert_eq!(of_store(&store), code, "{kind} below another error");
        }
        assert_eq!(of_io(&io::Error::from_raw_os_error(24)), Code::ResourceExhausted);
    }

    /// What a store refused is not there; what was refused after another try may be.
    #[test]
    fn only_what_was_refused_at_once_is_a_refusal() {
        for (text, refusal) in [
            ("status code: 403 Forbidden", true),
            ("status code: 404 Not Found: NoSuchBucket", true),
            (
                "after 2 retries, max_retries: 3 - status code: 403 Forbidden",
                false,
            ),
            ("status code: 503 SlowDown", false),
            ("connection reset", false),
        ] {
            assert_eq!(is_refusal(&generic(text)), refusal, "{text}");
        }
    }

    #[test]
    fn secrets_are_taken_out_of_the_whole_chain() {
        let storage = BTreeMap::from([
            ("aws_secret_access_key".to_string(), "hunter2hunter2".to_string()),
            ("aws_region".to_string(), "eu-west-1".to_string()),
        ]);
        let secrets = credentials(&storage);
        let error = secrets.store(&generic("signed with hunter2hunter2 in eu-west-1"));
        let shown = format!("{error:?} {secrets:?}");
        assert!(
            !shown.contains("hunter2") && shown.contains("eu-west-1"),
            "{shown}"
        );
    }
}
