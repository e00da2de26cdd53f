//! The answer of a store's server, as `object_store` writes it into the text of its errors → our codes.
//!
//! `object_store` keeps the type of these errors to itself, so the text is all there is. It changes when a store or
//! that library words an answer differently.

use std::error::Error as StdError;

use crate::error::Code;

/// A server's refusal.
struct Answer<'a> {
    status: u16,
    /// The word of S3, Azure or Google for it, where the answer has a body.
    word: Option<&'a str>,
    listing: bool,
}

impl<'a> Answer<'a> {
    fn of(text: &'a str) -> Option<Answer<'a>> {
        let (before, after) = text
            .split_once("non-2xx status code: ")
            .or_else(|| text.split_once("Server returned error response: "))?;
        let word = between(after, "<Code>", "</Code>").or_else(|| {
            // Google and Azure's data lake answer in JSON.
            let json = after.split_once("\"code\":")?.1;
            between(json.trim_start(), "\"", "\"")
        });
        Some(Answer {
            // S3 may say 200 and put the failure into the body.
            status: after
                .get(..3)
                .and_then(|status| status.parse().ok())
                .unwrap_or(200),
            word,
            listing: before.contains("list request"),
        })
    }

    fn code(&self) -> Code {
        self.word.and_then(of_word).unwrap_or_else(|| self.of_status())
    }

    fn of_status(&self) -> Code {
        match (self.status, self.word) {
            (401, _) => Code::Unauthenticated,
            (403, _) => Code::PermissionDenied,
            // A store answers a listing of nothing with an empty one; 404 without a word is somebody else's.
            (404, None) if self.listing => Code::Unavailable,
            (404, _) => Code::NotFound,
            (405 | 501, _) => Code::Unsupported,
            (412, _) => Code::Conflict,
            (429 | 503 | 507 | 509, _) => Code::ResourceExhausted,
            // An object store says in a word what it does not understand; a proxy in between does not.
            (400, Some(_)) => Code::ConfigInvalid,
            _ => Code::Unavailable,
        }
    }
}

/// What object stores say with more than one status, or with a status that says something else.
fn of_word(word: &str) -> Option<Code> {
    Some(match word {
        // S3 answers 403 or 400 to wrong and expired keys as well as to missing rights.
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "RequestTimeTooSkewed"
        | "RequestExpired"
        | "AuthenticationFailed"
        | "InvalidAuthenticationInfo"
        | "NoAuthenticationInformation" => Code::Unauthenticated,
        "SlowDown"
        | "ServerBusy"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "QuotaExceeded"
        | "XMinioStorageFull" => Code::ResourceExhausted,
        "RequestTimeout"
        | "OperationTimedOut"
        | "InternalError"
        | "IncompleteBody"
        | "BadDigest"
        | "Md5Mismatch"
        | "XAmzContentSHA256Mismatch"
        | "NoSuchUpload"
        | "OperationAborted"
        | "ConditionalRequestConflict" => Code::Unavailable,
        "NoSuchBucket" | "ContainerNotFound" | "FilesystemNotFound" => Code::NotFound,
        "AuthorizationHeaderMalformed"
        | "InvalidBucketName"
        | "PermanentRedirect"
        | "TemporaryRedirect"
        | "IllegalLocationConstraintException" => Code::ConfigInvalid,
        _ => return None,
    })
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    Some(text.split_once(from)?.1.split_once(to)?.0)
}

pub fn answered(error: &(dyn StdError + 'static)) -> Option<Code> {
    let text = error.to_string();
    // Without keys the machine's own metadata is asked for some, and most machines have none.
    if ["169.254.169.254", "169.254.170.2", "metadata.google.internal"]
        .iter()
        .any(|host| text.contains(&format!("http://{host}")))
    {
        return Some(Code::Unauthenticated);
    }
    if text.contains("redirect without LOCATION") {
        return Some(Code::ConfigInvalid);
    }
    Answer::of(&text).map(|answer| answer.code())
}

/// Whether two requests met: a conflict of the moment, after which the name may be free.
pub fn is_busy(text: &str) -> bool {
    Answer::of(text).is_some_and(|answer| {
        answer.status == 409 && answer.word.is_some_and(|word| !word.ends_with("AlreadyExists"))
    })
}
