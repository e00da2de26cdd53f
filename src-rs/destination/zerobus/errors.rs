//! What the official crate says → ours, in one place.
//!
//! Invariants:
//! - Every error of the crate has one code here; `specs/errors.md` has the table.
//! - No secret that this client sent is in a message.
//!
//! It does not know whether rows may have landed; whoever sent them does.

use std::time::Duration;

use arrow::datatypes::Schema;
use databricks_zerobus_ingest_sdk::{SchemaValidationCause, ZerobusError};
use tonic::{Code as Grpc, Status};
use tonic_types::StatusExt as _;

use super::super::flight::status::{self, Secrets};
use super::super::flight::target::ServerAddress;
use crate::destination::tls;
use crate::error::{Code, Error};

/// The crate's own words for what it does not have a variant for.
const ROTATION: &str = "Server requested graceful stream rotation";
const STUCK: &str = "Server ack timeout";
/// The service's number for: come back later, and not soon.
const PAUSE: &str = "6006";

/// The context of an error: what its message needs beside the error itself.
pub struct Context<'c> {
    pub secrets: &'c Secrets,
    pub schema: &'c Schema,
    /// Where the schema came from, in words.
    pub schema_is: &'c str,
    pub pause: Duration,
    pub server: &'c Server,
}

/// Whom a stream goes to.
pub struct Server {
    pub address: ServerAddress,
    /// What its certificate is for, if not for the host.
    pub name: Option<String>,
    /// `tls.ca` is given.
    pub own_ca: bool,
    /// It was reached before.
    pub met: bool,
}

impl Server {
    /// What can never pass, as an error that says what to change.
    fn stranger(&self, status: &Status) -> Option<Error> {
        let source = std::error::Error::source(status)?;
        let ServerAddress::Tcp { authority, .. } = &self.address else {
            return None;
        };
        let name = self.name.as_deref().unwrap_or(authority);
        let text = tls::explained(source, name, self.own_ca)?;
        let code = match self.met {
            // What has passed once may pass again.
            true => Code::Unavailable,
            false => Code::ConfigInvalid,
        };
        Some(Error::new(code, text))
    }
}

/// Whether the server asked for another stream, and nothing failed.
pub fn is_rotation(error: &ZerobusError) -> bool {
    matches!(error, ZerobusError::StreamClosedError(status)
        if status.code() == Grpc::Unavailable && status.message() == ROTATION)
}

/// Whether the server will not have these credentials, so that others may pass.
pub fn is_of_credentials(error: &ZerobusError) -> bool {
    matches!(error, ZerobusError::CreateStreamError(status) | ZerobusError::StreamClosedError(status)
        if matches!(status.code(), Grpc::Unauthenticated | Grpc::PermissionDenied))
}

pub fn error(error: &ZerobusError, context: &Context<'_>) -> Error {
    let said = |code: Code| Error::new(code, context.secrets.scrub(&error.to_string()));
    match error {
        ZerobusError::CreateStreamError(status) => told(status, true, context),
        ZerobusError::StreamClosedError(status) if status.message() == STUCK => {
            let text = "the server does not acknowledge: zerobus.acknowledgementTimeout is over";
            Error::new(Code::Unavailable, text)
        }
        ZerobusError::StreamClosedError(status) => told(status, false, context),
        ZerobusError::InvalidSchema {
            message,
            causes,
            error_code,
            ..
        } => refused_schema(message, causes, error_code.as_deref(), context),
        ZerobusError::ChannelCreationError(_)
        | ZerobusError::FailedToEstablishTlsConnectionError
        | ZerobusError::UnexpectedStreamResponseError(_)
        | ZerobusError::ConnectionTimeout(_)
        | ZerobusError::TokenFetchError(_) => said(Code::Unavailable),
        ZerobusError::InvalidZerobusEndpointError(_)
        | ZerobusError::InvalidTableName(_)
        | ZerobusError::InvalidUCEndpointError(_)
        | ZerobusError::InvalidArgument(_) => said(Code::ConfigInvalid),
        ZerobusError::InvalidUCTokenError(_) => said(Code::PermissionDenied),
        // More rows acknowledged than were sent: such a server cannot be believed about any.
        ZerobusError::InvalidStateError(_) => said(Code::Unsupported),
        // The crate may grow; what it does not say to be of the moment is not tried again.
        other if other.is_retryable() => said(Code::Unavailable),
        _ => said(Code::Internal),
    }
}

fn told(status: &Status, setting_up: bool, context: &Context<'_>) -> Error {
    if let Some(stranger) = context.server.stranger(status) {
        return stranger;
    }
    let error = status::error(status, context.secrets);
    if asks_for_a_pause(status) {
        // Everybody was sent away at the same moment; they must not come back at the same moment.
        let pause = context.pause.mul_f64(1.0 + fastrand::f64() / 2.0);
        let text = format!("{} (a pause is asked for)", error.message());
        return Error::new(Code::ResourceExhausted, text).retry_after(error.hint().unwrap_or(pause));
    }
    match error.code() {
        // No row was sent yet, so it is not the rows.
        Code::RowsRejected if setting_up => Error::new(Code::ConfigInvalid, error.message()),
        _ => error,
    }
}

fn asks_for_a_pause(status: &Status) -> bool {
    let detail = status.get_details_error_info();
    let code = detail.as_ref().and_then(|info| info.metadata.get("error_code"));
    let mut words = status
        .message()
        .split(|letter: char| !letter.is_ascii_alphanumeric());
    code.is_some_and(|code| code == PAUSE) || words.any(|word| word == PAUSE)
}

fn refused_schema(
    message: &str,
    causes: &[SchemaValidationCause],
    number: Option<&str>,
    context: &Context<'_>,
) -> Error {
    let message = context.secrets.scrub(message);
    let causes: Vec<&str> = causes.iter().map(cause).collect();
    let number = number
        .map(|number| format!(", error {number}"))
        .unwrap_or_default();
    let causes = match causes.is_empty() {
        true => String::new(),
        false => format!(" ({}{number})", causes.join("; ")),
    };
    let text = format!(
        "the table does not take this schema{causes}: {message} [the stream's schema {}]",
        context.schema_is
    );
    let error = Error::new(Code::SchemaMismatch, text);
    match named(&message, context.schema) {
        Some(field) => error.in_field(field),
        None => error,
    }
}

/// The column that a message is about: the first of its words that is one of ours, or else what it puts
/// between quotes, which is then one of the table's.
fn named(message: &str, schema: &Schema) -> Option<String> {
    let mut words = message.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
    let own = words.find(|word| schema.column_with_name(word).is_some());
    let quoted = || {
        message
            .split(['\'', '"', '`'])
            .nth(1)
            .filter(|word| super::limits::is_name(word))
    };
    own.or_else(quoted).map(str::to_string)
}

pub fn cause(cause: &SchemaValidationCause) -> &str {
    match cause {
        SchemaValidationCause::FieldNotInTable => "a field is not in the table",
        SchemaValidationCause::MissingRequiredColumn => "a required column is missing",
        SchemaValidationCause::FieldOutOfOrder => "fields are out of order",
        SchemaValidationCause::TypeIncompatible => "a type does not fit",
        SchemaValidationCause::FieldCountMismatch => "the number of fields differs",
        SchemaValidationCause::Unknown(token) => token,
        _ => "for a reason that this client does not know",
    }
}
