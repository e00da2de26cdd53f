//! What the service says when it says no, with the details that clients tell its errors apart by.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};

use super::schema::Mismatch;

/// The domain under which the service scopes its details.
const DOMAIN: &str = "zerobus.databricks.com";

/// A schema that does not fit its table, with every cause.
pub fn schema(mismatch: &Mismatch) -> Status {
    let causes: Vec<&str> = mismatch.causes.iter().map(|cause| cause.word()).collect();
    let text = format!(
        "the schema does not fit the table: {}",
        mismatch.details.join("; ")
    );
    let info = ErrorInfo {
        reason: "SCHEMA_VALIDATION_FAILED".into(),
        domain: DOMAIN.into(),
        metadata: HashMap::from([
            ("causes".into(), causes.join(",")),
            ("error_code".into(), "8001".into()),
        ]),
    };
    with_details(Code::InvalidArgument, text, vec![info.any()])
}

/// Error 6006: the table takes nothing for a while.
pub fn pause(stream: u64, time: Option<Duration>) -> Status {
    let text = coded("the table takes no rows for now", stream, 6006);
    let info = ErrorInfo {
        reason: "PAUSED".into(),
        domain: DOMAIN.into(),
        metadata: HashMap::from([("error_code".into(), "6006".into())]),
    };
    let mut details = vec![info.any()];
    details.extend(time.map(|time| RetryInfo::of(time).any()));
    with_details(Code::Unavailable, text, details)
}

/// A stream whose time is over, after a rotation that the client did not follow.
pub fn rotated(stream: u64) -> Status {
    Status::unavailable(coded("the time of the stream is over", stream, 6002))
}

fn coded(what: &str, stream: u64, code: u32) -> String {
    format!("{what}; closing the stream (ID: {stream}). Error Code: {code}, Error State: 0.")
}

fn with_details(code: Code, text: String, details: Vec<Any>) -> Status {
    let details = GoogleStatus {
        code: code as i32,
        message: text.clone(),
        details,
    };
    Status::with_details(code, text, details.encode_to_vec().into())
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct GoogleStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

impl ErrorInfo {
    fn any(&self) -> Any {
        Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(),
            value: self.encode_to_vec(),
        }
    }
}

/// `google.rpc.RetryInfo`, whose one field is a `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl RetryInfo {
    fn of(time: Duration) -> RetryInfo {
        RetryInfo {
            delay: Some(Delay {
                seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
                nanos: time.subsec_nanos() as i32,
            }),
        }
    }

    fn any(&self) -> Any {
        Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
            value: self.encode_to_vec(),
        }
    }
}
