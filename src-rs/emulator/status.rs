//! What the service says when it says no, with the details that clients tell its errors apart by.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorInfo, RetryInfo, StatusExt as _};

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
    let metadata = HashMap::from([
        ("causes".into(), causes.join(",")),
        ("error_code".into(), "8001".into()),
    ]);
    let info = ErrorInfo::new("SCHEMA_VALIDATION_FAILED", DOMAIN, metadata);
    Status::with_error_details_vec(Code::InvalidArgument, text, vec![info.into()])
}

/// Error 6006: the table takes nothing for a while.
pub fn pause(stream: u64, time: Option<Duration>) -> Status {
    let text = coded("the table takes no rows for now", stream, 6006);
    let metadata = HashMap::from([("error_code".into(), "6006".into())]);
    let mut details = vec![ErrorInfo::new("PAUSED", DOMAIN, metadata).into()];
    details.extend(time.map(|time| RetryInfo::new(Some(time)).into()));
    Status::with_error_details_vec(Code::Unavailable, text, details)
}

/// A stream whose time is over, after a rotation that the client did not follow.
pub fn rotated(stream: u64) -> Status {
    Status::unavailable(coded("the time of the stream is over", stream, 6002))
}

fn coded(what: &str, stream: u64, code: u32) -> String {
    format!("{what}; closing the stream (ID: {stream}). Error Code: {code}, Error State: 0.")
}
