//! Foreign failures → our codes, in one place; `specs/errors.md` has the tables.
//!
//! Invariants:
//! - One classifier for every request: a data file, the log, a checkpoint and a listing that are
//!   answered the same way have the same code.
//! - The word of a disk, a network or a server goes before the word of the library around it: a
//!   connection that breaks off is never damage.
//! - No message holds a value of a storage option or of a credential in the environment: servers quote keys and
//!   signed strings back in their answers.
//!
//! `answer` reads what a store's server says, `hidden` knows what is a secret.
//!
//! It does not decide whether a write landed, `commit` reads the log for that; nor whether a log is damaged, which
//! `log` does.

mod answer;
mod hidden;

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::io;

use object_store::client::HttpError;

use self::answer::{answered, is_busy};
use self::hidden::Hidden;
use super::retry_after::{Pause, RetryAfter};
use crate::error::{Code, Error};

/// Gives foreign errors our codes. Hides what options and environment hold, and says when the store wants the next
/// request.
#[derive(Clone, Default)]
pub struct Classifier {
    hidden: Hidden,
    retry_after: RetryAfter,
}

impl Classifier {
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        Classifier {
            hidden: Hidden::new(pairs),
            ..Classifier::default()
        }
    }

    /// When the store wants the next request.
    pub fn retry_after(&self) -> &RetryAfter {
        &self.retry_after
    }

    /// An error of ours that carries the scrubbed chain of a foreign one.
    fn report(&self, code: Code, cause: &(dyn StdError + 'static)) -> Error {
        // Around the store's own words the libraries put theirs: "failed to read" of what was written.
        let cause = chain(cause)
            .find(|error| error.is::<object_store::Error>())
            .unwrap_or(cause);
        self.paced(Error::new(code, self.hidden.scrub(cause.to_string())), cause)
    }

    /// With its causes, and the hint when to come back.
    fn paced(&self, error: Error, cause: &(dyn StdError + 'static)) -> Error {
        let causes: Vec<String> = chain(cause)
            .skip(1)
            .map(|error| self.hidden.scrub(error.to_string()))
            .collect();
        let error = error.with_causes(distinct(causes));
        let pause = chain(cause)
            .find_map(|error| error.downcast_ref::<Pause>())
            .map(|pause| pause.0);
        match pause.or_else(|| self.retry_after.pause()) {
            Some(pause) if matches!(error.code(), Code::ResourceExhausted | Code::Unavailable) => {
                error.retry_after(pause)
            }
            _ => error,
        }
    }

    pub fn store(&self, error: &object_store::Error) -> Error {
        self.report(of_store(error), error)
    }

    pub fn parquet(&self, error: &parquet::errors::ParquetError) -> Error {
        self.report(told(error).unwrap_or(Code::Internal), error)
    }

    /// `what` names the file or directory: an `io::Error` alone never does.
    pub fn io(&self, what: impl fmt::Display, error: &io::Error) -> Error {
        let code = told(error).unwrap_or_else(|| of_io(error));
        self.paced(
            Error::new(code, self.hidden.scrub(format!("{what}: {error}"))),
            error,
        )
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[classifier]")
    }
}

/// Many libraries repeat the inner text as the outer one; twice the same line helps nobody.
fn distinct(mut causes: Vec<String>) -> Vec<String> {
    causes.dedup();
    causes
}

/// Options and environment of the clouds, as one map: whose values no message shows.
pub fn credentials(storage: &BTreeMap<String, String>) -> Classifier {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| {
            ["AWS_", "AZURE_", "GOOGLE_"]
                .iter()
                .any(|cloud| key.starts_with(cloud))
        })
        .collect();
    Classifier::new(
        storage
            .iter()
            .chain(environment.iter().map(|(key, value)| (key, value))),
    )
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

/// An error and what is below it. Libraries leave some of it out of their own `source()`.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| below(*error))
}

fn below<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>() {
        // Its own `source()` skips what it wraps.
        Some(io) => io.get_ref().map(|inner| inner as _),
        None => error.source(),
    }
}

/// What a disk, a network or a server said, if the error comes from there.
fn told(error: &(dyn StdError + 'static)) -> Option<Code> {
    chain(error).find_map(|error| {
        if let Some(store) = error.downcast_ref::<object_store::Error>() {
            return Some(of_store(store));
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(match io.get_ref() {
                Some(inner) => told(inner)
                    .or_else(|| answered(inner))
                    .unwrap_or_else(|| wrapped(io)),
                None => of_io(io),
            });
        }
        of_wire(error)
    })
}

/// `InvalidData` around an error of somebody else's is theirs, and not of what a disk holds.
fn wrapped(error: &io::Error) -> Code {
    match of_io(error) {
        Code::TableCorrupt => Code::Unavailable,
        code => code,
    }
}

/// What goes wrong between here and a server, before it has answered whole.
fn of_wire(error: &(dyn StdError + 'static)) -> Option<Code> {
    if error.is::<Pause>() {
        return Some(Code::ResourceExhausted);
    }
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(of_tls(tls));
    }
    if let Some(http) = error.downcast_ref::<HttpError>() {
        return Some(
            http.source()
                .and_then(told)
                .map_or(Code::Unavailable, of_transport),
        );
    }
    None
}

/// A connection that ends too early, or holds what is no HTTP, says nothing of a table.
fn of_transport(code: Code) -> Code {
    match code {
        Code::Unauthenticated | Code::ResourceExhausted | Code::ConfigInvalid | Code::PermissionDenied => {
            code
        }
        _ => Code::Unavailable,
    }
}

/// Who is at the other end does not change by trying again.
fn of_tls(error: &rustls::Error) -> Code {
    use rustls::Error as Tls;
    match error {
        Tls::InvalidCertificate(_) | Tls::NoCertificatesPresented | Tls::PeerIncompatible(_) => {
            Code::ConfigInvalid
        }
        // TLS spoken to a port that speaks plain text.
        Tls::InvalidMessage(_) => Code::ConfigInvalid,
        _ => Code::Unavailable,
    }
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
        Kind::Unsupported | Kind::CrossesDevices => Code::Unsupported,
        Kind::InvalidData => Code::TableCorrupt,
        // EMFILE has no kind of its own on stable; it passes when others close their files.
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => Code::ResourceExhausted,
        _ => Code::Unavailable,
    }
}

fn of_store(error: &object_store::Error) -> Code {
    use object_store::Error as Store;
    match error {
        Store::NotFound { source, .. } => match source.downcast_ref::<io::Error>() {
            Some(io) => of_io(io),
            None => answered(source.as_ref()).unwrap_or(Code::NotFound),
        },
        Store::PermissionDenied { source, .. } => answered(source.as_ref()).unwrap_or(Code::PermissionDenied),
        Store::Unauthenticated { .. } => Code::Unauthenticated,
        Store::AlreadyExists { source, .. } if is_busy(&source.to_string()) => Code::Unavailable,
        Store::AlreadyExists { .. } | Store::Precondition { .. } | Store::NotModified { .. } => {
            Code::Conflict
        }
        Store::InvalidPath { .. } | Store::UnknownConfigurationKey { .. } => Code::ConfigInvalid,
        Store::NotSupported { .. } | Store::NotImplemented { .. } => Code::Unsupported,
        Store::JoinError { .. } => Code::Internal,
        Store::Generic { source, .. } => answered(source.as_ref())
            .or_else(|| told(source.as_ref()))
            .unwrap_or(Code::Unavailable),
        // The enum may grow; what is unknown is at least worth a second try.
        _ => Code::Unavailable,
    }
}

/// Whether the store says that somebody holds the name. A conflict of the moment (two requests that met, a
/// container that is being deleted) is no proof of that, as object_store has it.
pub fn is_taken(error: &object_store::Error) -> bool {
    use object_store::Error as Store;
    match error {
        Store::AlreadyExists { source, .. } => !is_busy(&source.to_string()),
        Store::Precondition { .. } => true,
        _ => false,
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
                "Error performing list request: status code: 404 Not Found: <Code>NoSuchBucket</Code>",
                Code::NotFound,
            ),
            (
                "Error performing list request: status code: 404 Not Found: ",
                Code::Unavailable,
            ),
            (
                "status code: 403 Forbidden: <Code>AccessDenied</Code>",
                Code::PermissionDenied,
            ),
            (
                "status code: 403 Forbidden: <Code>SignatureDoesNotMatch</Code>",
                Code::Unauthenticated,
            ),
            (
                "status code: 400 Bad Request: <Code>ExpiredToken</Code>",
                Code::Unauthenticated,
            ),
            (
                "status code: 400 Bad Request: <Code>InvalidRequest</Code>",
                Code::ConfigInvalid,
            ),
            ("status code: 400 Bad Request: <html>", Code::Unavailable),
            (
                "status code: 400 Bad Request: <Code>RequestTimeout</Code>",
                Code::Unavailable,
            ),
            ("status code: 401 Unauthorized: ", Code::Unauthenticated),
            (
                "status code: 404 Not Found: <Code>NoSuchKey</Code>",
                Code::NotFound,
            ),
            (
                "status code: 404 Not Found: <Code>NoSuchUpload</Code>",
                Code::Unavailable,
            ),
            ("status code: 405 Method Not Allowed: ", Code::Unsupported),
            (
                "status code: 409 Conflict: <Code>OperationAborted</Code>",
                Code::Unavailable,
            ),
            ("status code: 412 Precondition Failed: ", Code::Conflict),
            ("status code: 429 Too Many Requests: ", Code::ResourceExhausted),
            (
                "status code: 500 Internal Server Error: {\"error\": {\"code\": \"ServerBusy\"}}",
                Code::ResourceExhausted,
            ),
            ("status code: 502 Bad Gateway: ", Code::Unavailable),
            (
                "status code: 503 Service Unavailable: <Code>SlowDown</Code>",
                Code::ResourceExhausted,
            ),
            (
                "Server returned error response: <Code>InternalError</Code>",
                Code::Unavailable,
            ),
            (
                "Server returned error response: <Code>SlowDown</Code>",
                Code::ResourceExhausted,
            ),
            (
                "Received redirect without LOCATION, this normally",
                Code::ConfigInvalid,
            ),
            (
                "Error performing PUT http://169.254.169.254/latest/api/token in 1s",
                Code::Unauthenticated,
            ),
            // What a key is called is no word of the server.
            (
                "Error performing GET http://h/InvalidToken/x: status code: 404 Not Found: ",
                Code::NotFound,
            ),
            ("connection refused", Code::Unavailable),
        ] {
            let text = text.replace("status code: ", "Server returned non-2xx status code: ");
            assert_eq!(of_store(&generic(&text)), code, "{text}");
        }
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
            (
                Store::NotImplemented {
                    operation: "o".into(),
                    implementer: "i".into(),
                },
                Code::Unsupported,
            ),
            (generic("status code: 500"), Code::Unavailable),
        ] {
            assert_eq!(of_store(&error), code, "{error}");
            let outer = io::Error::other(error);
            assert_eq!(told(&outer), Some(code), "{outer}");
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
            (Kind::Unsupported, Code::Unsupported),
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

    /// A connection that breaks is no damage of the table, however deep it is buried and by whatever name.
    #[test]
    fn a_broken_connection_is_never_corruption() {
        let broken = |kind| {
            let http = HttpError::new(
                object_store::client::HttpErrorKind::Interrupted,
                io::Error::from(kind),
            );
            Store::Generic {
                store: "S3",
                source: Box::new(http),
            }
        };
        for kind in [
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::InvalidData,
            io::ErrorKind::NotFound,
        ] {
            assert_eq!(of_store(&broken(kind)), Code::Unavailable, "{kind}");
            let parquet = parquet::errors::ParquetError::External(Box::new(io::Error::from(broken(kind))));
            assert_eq!(
                Classifier::default().parquet(&parquet).code(),
                Code::Unavailable,
                "{kind}"
            );
        }
        let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(of_io(&cut), Code::Unavailable);
        let plain = io::Error::new(
            io::ErrorKind::InvalidData,
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
        );
        assert_eq!(told(&plain), Some(Code::ConfigInvalid));
        let dropped = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        assert_eq!(told(&dropped), Some(Code::Unavailable));
    }

    /// Two requests that met are not told as "somebody else holds this version".
    #[test]
    fn a_conflict_of_the_moment_is_not_a_name_that_is_taken() {
        let said = |text: &str| Store::AlreadyExists {
            path: "p".into(),
            source: text.into(),
        };
        for taken in [
            "status code: 412 Precondition Failed: ",
            "non-2xx status code: 409 Conflict: <Code>BlobAlreadyExists</Code>",
            "non-2xx status code: 409 Conflict: ",
            "File exists (os error 17)",
        ] {
            assert!(is_taken(&said(taken)), "{taken}");
            assert_eq!(of_store(&said(taken)), Code::Conflict, "{taken}");
        }
        let busy = said("non-2xx status code: 409 Conflict: <Code>ConditionalRequestConflict</Code>");
        assert!(!is_taken(&busy) && !is_refusal(&busy));
        assert_eq!(of_store(&busy), Code::Unavailable);
        assert!(!is_taken(&generic("connection reset")));
    }

    /// A long pause that the store asks for is `RESOURCE_EXHAUSTED`, with the time.
    #[test]
    fn a_pause_that_was_asked_for_is_a_hint() {
        let pause = Pause(std::time::Duration::from_secs(7));
        let http = HttpError::new(object_store::client::HttpErrorKind::Unknown, pause);
        let error = Store::Generic {
            store: "S3",
            source: Box::new(http),
        };
        let found = Classifier::default().store(&error);
        assert_eq!(found.code(), Code::ResourceExhausted);
        assert_eq!(found.hint(), Some(std::time::Duration::from_secs(7)));
    }

    /// What a store refused is not there; what was refused after another try may be.
    #[test]
    fn only_what_was_refused_at_once_is_a_refusal() {
        for (text, refusal) in [
            ("status code: 403 Forbidden", true),
            ("status code: 404 Not Found: <Code>NoSuchBucket</Code>", true),
            (
                "after 2 retries, max_retries: 3 - status code: 403 Forbidden",
                false,
            ),
            ("status code: 503 SlowDown", false),
            ("connection reset", false),
        ] {
            let text = text.replace("status code: ", "Server returned non-2xx status code: ");
            assert_eq!(is_refusal(&generic(&text)), refusal, "{text}");
        }
    }

    #[test]
    fn secrets_are_taken_out_of_the_whole_chain() {
        let storage = BTreeMap::from([
            ("aws_secret_access_key".to_string(), "hunter2hunter2".to_string()),
            ("aws_region".to_string(), "eu-west-1".to_string()),
        ]);
        let classifier = credentials(&storage);
        let error = classifier.store(&generic("signed with hunter2hunter2 in eu-west-1"));
        let shown = format!("{error:?} {classifier:?}");
        assert!(
            !shown.contains("hunter2") && shown.contains("eu-west-1"),
            "{shown}"
        );
    }
}
