//! gRPC's word for a failure → ours, in one place.
//!
//! Invariants:
//! - The match over `tonic::Code` names every code.
//! - The server's own word on when to come back is kept, however it said it.
//! - No secret that this client sent is in a message: servers quote headers back.
//!
//! - An answer of the server and the end of its connection are two kinds of error: no message says "answered" where nobody
//!   was there.
//!
//! It does not know whether rows may have landed; whoever sent them does.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use tonic::{Code as Grpc, Status};
use tonic_types::pb as google_rpc;

use super::farewell::Farewell;
use crate::config::Secret;
use crate::destination::tls;
use crate::error::{Code, Error};

/// What must never be shown.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    pub fn add(&mut self, secret: &Secret) {
        // Bearer tokens are quoted with and without the word before them.
        let whole = secret.reveal();
        let bare = whole.split_once(' ').map(|(_, token)| token);
        for text in std::iter::once(whole).chain(bare) {
            // Shorter ones would tear words apart and say more by their absence.
            if text.len() >= 4 && !self.0.iter().any(|known| known == text) {
                self.0.push(text.to_string());
            }
        }
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// Of a header of bytes: as they are, and as they go.
    pub fn add_bytes(&mut self, secret: &[u8]) {
        self.add(&Secret::new(String::from_utf8_lossy(secret)));
        // Without the padding, which not everybody writes.
        self.add(&Secret::new(BASE64_STANDARD_NO_PAD.encode(secret)));
    }

    pub fn scrub(&self, text: &str) -> String {
        self.0.iter().fold(text.to_string(), |text, secret| {
            text.replace(secret.as_str(), "[secret]")
        })
    }

    /// The chain of a foreign error as text, scrubbed.
    pub fn chain(&self, error: &(dyn std::error::Error + 'static)) -> String {
        let mut texts: Vec<String> = Vec::new();
        for error in tls::chain(error) {
            let text = self.scrub(&error.to_string());
            if !texts.iter().any(|earlier| earlier.contains(&text)) {
                texts.push(text);
            }
        }
        texts.join(": ")
    }
}

/// The server's verdict as an error of ours, or what its connection came to.
pub fn error(status: &Status, secrets: &Secrets) -> Error {
    error_on(status, secrets, &Farewell::default())
}

/// The same for a line on which the server may have said why it hangs up.
pub fn error_on(status: &Status, secrets: &Secrets, farewell: &Farewell) -> Error {
    if let Some(broken) = broken(status, secrets, farewell) {
        return broken;
    }
    let message = secrets.scrub(status.message());
    let mut code = code(status.code());
    let mut text = if message.is_empty() {
        format!("the server answered {}", name(status.code()))
    } else {
        format!("the server answered {}: {message}", name(status.code()))
    };
    if is_too_large(status) {
        code = Code::ConfigInvalid;
        text = format!("{text} (flight.maxMessageSize is more than the server takes)");
    }
    let hint = hint(status);
    if hint == Some(Hint::Never) && code.retry_class() != crate::error::RetryClass::Never {
        // The one code that says: allowed to ask, and told no.
        code = Code::PermissionDenied;
        text = format!("{text}, and not to try again");
    }
    let mut error = Error::new(code, text);
    if error.is_of_the_data() {
        error = error.refused_as(name(status.code()));
    }
    if let Some(source) = std::error::Error::source(status) {
        error = error.caused_by(&Chain(secrets.chain(source)));
    }
    match hint {
        Some(Hint::After(delay)) => error.retry_after(delay),
        _ => error,
    }
}

/// What became of the connection, if the status is none that the server spoke: the library makes one of every
/// failure.
fn broken(status: &Status, secrets: &Secrets, farewell: &Farewell) -> Option<Error> {
    let source = std::error::Error::source(status)?;
    if let Some(error) = tls::found::<Error>(source) {
        return Some(error.clone());
    }
    let unavailable = |text: String| Some(Error::new(Code::Unavailable, text));
    if tls::found::<tonic::ConnectError>(source).is_some() {
        return unavailable(format!("the server cannot be reached: {}", secrets.chain(source)));
    }
    let protocol = tls::found::<h2::Error>(source);
    let library = tls::found::<hyper::Error>(source);
    if protocol.is_none() && library.is_none() && tls::found::<std::io::Error>(source).is_none() {
        return None;
    }
    if let Some((reason, words)) = farewell.said() {
        let words = secrets.scrub(&words);
        let hint = match farewell.is_of_pings() {
            true => ": flight.keepAlive is shorter than it allows",
            false => "",
        };
        return unavailable(format!(
            "the server closed the connection: GOAWAY {reason} ({words}){hint}"
        ));
    }
    if library.is_some_and(hyper::Error::is_timeout) {
        return unavailable(
            "the server left a ping unanswered (flight.keepAlive): it is gone, or hangs".into(),
        );
    }
    match protocol.filter(|error| error.is_remote()) {
        Some(error) => {
            let text = format!(
                "the server broke the stream off: {}",
                secrets.scrub(&error.to_string())
            );
            Some(Error::new(code(status.code()), text))
        }
        None => unavailable(format!("the connection broke off: {}", secrets.chain(source))),
    }
}

fn code(code: Grpc) -> Code {
    match code {
        // A stream that ends well is no error; one that is taken for one is a bug.
        Grpc::Ok => Code::Internal,
        // Of the data: trying the same again gives the same.
        Grpc::InvalidArgument | Grpc::OutOfRange | Grpc::AlreadyExists => Code::RowsRejected,
        Grpc::NotFound => Code::NotFound,
        Grpc::FailedPrecondition => Code::SchemaMismatch,
        Grpc::Unimplemented => Code::Unsupported,
        Grpc::DataLoss => Code::TableCorrupt,
        Grpc::PermissionDenied => Code::PermissionDenied,
        Grpc::Unauthenticated => Code::Unauthenticated,
        Grpc::ResourceExhausted => Code::ResourceExhausted,
        Grpc::Aborted => Code::Conflict,
        // Of the moment: a server that restarts, a proxy that gives up, a handler that stumbled.
        Grpc::Cancelled | Grpc::Unknown | Grpc::DeadlineExceeded | Grpc::Internal | Grpc::Unavailable => {
            Code::Unavailable
        }
    }
}

fn name(code: Grpc) -> &'static str {
    match code {
        Grpc::Ok => "OK",
        Grpc::Cancelled => "CANCELLED",
        Grpc::Unknown => "UNKNOWN",
        Grpc::InvalidArgument => "INVALID_ARGUMENT",
        Grpc::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Grpc::NotFound => "NOT_FOUND",
        Grpc::AlreadyExists => "ALREADY_EXISTS",
        Grpc::PermissionDenied => "PERMISSION_DENIED",
        Grpc::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Grpc::FailedPrecondition => "FAILED_PRECONDITION",
        Grpc::Aborted => "ABORTED",
        Grpc::OutOfRange => "OUT_OF_RANGE",
        Grpc::Unimplemented => "UNIMPLEMENTED",
        Grpc::Internal => "INTERNAL",
        Grpc::Unavailable => "UNAVAILABLE",
        Grpc::DataLoss => "DATA_LOSS",
        Grpc::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// gRPC gives a message above the limit the same code as an empty purse; only the text tells.
fn is_too_large(status: &Status) -> bool {
    let text = status.message().to_ascii_lowercase();
    matches!(status.code(), Grpc::ResourceExhausted | Grpc::OutOfRange)
        && (text.contains("larger than max") || text.contains("message length too large"))
}

#[derive(Debug, PartialEq, Eq)]
enum Hint {
    After(Duration),
    Never,
}

fn hint(status: &Status) -> Option<Hint> {
    if let Some(pushback) = status.metadata().get("grpc-retry-pushback-ms") {
        // What is no number counts as a no, as gRPC has it.
        let millis = pushback
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse::<i64>().ok());
        return Some(match millis.and_then(|millis| u64::try_from(millis).ok()) {
            Some(millis) => Hint::After(Duration::from_millis(millis)),
            None => Hint::Never,
        });
    }
    // Not `StatusExt::get_details_retry_info`: a delay that is no delay is no word at all, and there it is 0.
    let details: google_rpc::Status = prost::Message::decode(status.details()).ok()?;
    let found = details
        .details
        .iter()
        .find(|any| any.type_url.ends_with("google.rpc.RetryInfo"))?;
    let info: google_rpc::RetryInfo = prost::Message::decode(found.value.as_slice()).ok()?;
    let delay = info.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    let nanos = u32::try_from(delay.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Hint::After(Duration::new(seconds, nanos)))
}

/// Text of a foreign error, as an error again.
#[derive(Debug)]
pub struct Chain(pub String);

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Chain {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RetryClass;
    use prost::Message as _;
    use tonic::metadata::MetadataMap;

    fn with_details(seconds: i64, nanos: i32) -> Status {
        let mut info = google_rpc::RetryInfo::default();
        let delay = info.retry_delay.get_or_insert_default();
        (delay.seconds, delay.nanos) = (seconds, nanos);
        let mut status = google_rpc::Status::default();
        status.details.push(Default::default());
        status.details[0].type_url = "type.googleapis.com/google.rpc.RetryInfo".into();
        status.details[0].value = info.encode_to_vec();
        Status::with_details(Grpc::Unavailable, "later", status.encode_to_vec().into())
    }

    fn with_pushback(value: &str) -> Status {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-retry-pushback-ms", value.parse().unwrap());
        Status::with_metadata(Grpc::Unavailable, "later", metadata)
    }

    #[test]
    fn every_grpc_code_has_one_of_ours() {
        for (number, ours) in [
            (0, Code::Internal),
            (1, Code::Unavailable),
            (2, Code::Unavailable),
            (3, Code::RowsRejected),
            (4, Code::Unavailable),
            (5, Code::NotFound),
            (6, Code::RowsRejected),
            (7, Code::PermissionDenied),
            (8, Code::ResourceExhausted),
            (9, Code::SchemaMismatch),
            (10, Code::Conflict),
            (11, Code::RowsRejected),
            (12, Code::Unsupported),
            (13, Code::Unavailable),
            (14, Code::Unavailable),
            (15, Code::TableCorrupt),
            (16, Code::Unauthenticated),
        ] {
            let status = Status::new(Grpc::from_i32(number), "");
            let error = error(&status, &Secrets::default());
            assert_eq!(error.code(), ours, "{number}");
            assert!(error.message().contains(name(Grpc::from_i32(number))));
            assert_eq!(error.is_of_the_data(), [3, 6, 11].contains(&number));
        }
    }

    #[test]
    fn the_server_says_when_to_come_back() {
        let secrets = Secrets::default();
        let hinted = error(&with_details(3, 500_000_000), &secrets);
        assert_eq!(hinted.hint(), Some(Duration::from_millis(3500)));
        let past = error(&with_details(-3, 0), &secrets);
        assert_eq!(past.hint(), None);
        assert_eq!(
            error(&with_pushback("250"), &secrets).hint(),
            Some(Duration::from_millis(250))
        );
        for no in ["-1", "soon"] {
            let error = error(&with_pushback(no), &secrets);
            assert_eq!(error.retry_class(), RetryClass::Never);
            assert!(error.message().contains("not to try again"));
        }
    }

    #[test]
    fn a_message_above_the_limit_is_told_from_an_empty_purse() {
        let status = Status::resource_exhausted("Received message larger than max (5 vs. 4)");
        let error = error(&status, &Secrets::default());
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert!(error.message().contains("flight.maxMessageSize"));
    }

    #[test]
    fn secrets_are_scrubbed_wherever_the_server_quotes_them() {
        let mut secrets = Secrets::default();
        secrets.add(&Secret::new("Bearer s3cret-token"));
        secrets.add(&Secret::new("abc"));
        let status = Status::unauthenticated("bad token s3cret-token in Bearer s3cret-token");
        let error = error(&status, &secrets);
        assert!(!error.message().contains("s3cret"), "{}", error.message());
        let chain = secrets.chain(&Chain("no s3cret-token".into()));
        assert_eq!(chain, "no [secret]");
    }
}
