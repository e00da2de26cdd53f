//! Every error of the official crate has one code of ours.

use std::collections::HashMap;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use databricks_zerobus_ingest_sdk::{SchemaValidationCause, ZerobusError};
use tonic::{Code as Grpc, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::config::Secret;
use crate::destination::flight::status::Secrets;
use crate::destination::flight::target::ServerAddress;
use crate::destination::zerobus::errors::{Context, Server, error, is_of_credentials, is_rotation};
use crate::error::{Code, Error, RetryClass};

fn told(said: &ZerobusError) -> Error {
    told_by(said, false)
}

fn told_by(said: &ZerobusError, met: bool) -> Error {
    let server = Server {
        address: ServerAddress::Tcp {
            authority: "1234.zerobus.example.com:443".into(),
            tls: true,
        },
        name: None,
        own_ca: true,
        met,
    };
    let mut secrets = Secrets::default();
    secrets.add(&Secret::new("Bearer hunter22"));
    let schema = Schema::new(vec![
        Field::new("city", DataType::Utf8, true),
        Field::new("price", DataType::Float64, true),
    ]);
    let context = Context {
        secrets: &secrets,
        schema: &schema,
        schema_is: "is the first batch's, because nobody was asked",
        pause: Duration::from_secs(60),
        server: &server,
    };
    let told = error(said, &context);
    assert!(!format!("{told:?}").contains("hunter22"), "{told:?}");
    told
}

/// `specs/errors.md` has this table.
#[test]
fn every_error_of_the_crate_has_a_code() {
    use ZerobusError as Z;
    let text = || "with hunter22 in it".to_string();
    let status = |code| Status::new(code, text());
    let table = [
        (Z::ChannelCreationError(text()), Code::Unavailable),
        (Z::FailedToEstablishTlsConnectionError, Code::Unavailable),
        (Z::UnexpectedStreamResponseError(text()), Code::Unavailable),
        (Z::ConnectionTimeout(text()), Code::Unavailable),
        (Z::TokenFetchError(text()), Code::Unavailable),
        (Z::InvalidZerobusEndpointError(text()), Code::ConfigInvalid),
        (Z::InvalidTableName(text()), Code::ConfigInvalid),
        (Z::InvalidUCEndpointError(text()), Code::ConfigInvalid),
        (Z::InvalidArgument(text()), Code::ConfigInvalid),
        (Z::InvalidUCTokenError(text()), Code::PermissionDenied),
        (Z::InvalidStateError(text()), Code::Unsupported),
        (
            Z::CreateStreamError(status(Grpc::InvalidArgument)),
            Code::ConfigInvalid,
        ),
        (
            Z::StreamClosedError(status(Grpc::InvalidArgument)),
            Code::RowsRejected,
        ),
        (Z::CreateStreamError(status(Grpc::NotFound)), Code::NotFound),
        (
            Z::CreateStreamError(status(Grpc::Unauthenticated)),
            Code::Unauthenticated,
        ),
        (
            Z::StreamClosedError(status(Grpc::PermissionDenied)),
            Code::PermissionDenied,
        ),
        (
            Z::StreamClosedError(status(Grpc::ResourceExhausted)),
            Code::ResourceExhausted,
        ),
        (Z::StreamClosedError(status(Grpc::Internal)), Code::Unavailable),
        (
            Z::StreamClosedError(status(Grpc::DeadlineExceeded)),
            Code::Unavailable,
        ),
        (
            Z::StreamClosedError(status(Grpc::Unimplemented)),
            Code::Unsupported,
        ),
    ];
    for (said, code) in table {
        assert_eq!(told(&said).code(), code, "{said:?}");
    }
    let stuck = Z::StreamClosedError(Status::deadline_exceeded("Server ack timeout"));
    assert_eq!(told(&stuck).code(), Code::Unavailable);
    assert!(told(&stuck).message().contains("acknowledgementTimeout"));
}

#[test]
fn a_rotation_is_told_from_a_failure() {
    let rotation = Status::unavailable("Server requested graceful stream rotation");
    assert!(is_rotation(&ZerobusError::StreamClosedError(rotation)));
    assert!(!is_rotation(&ZerobusError::StreamClosedError(
        Status::unavailable("down")
    )));
    let refused = ZerobusError::CreateStreamError(Status::unauthenticated("who?"));
    assert!(is_of_credentials(&refused) && !is_rotation(&refused));
}

#[test]
fn a_pause_is_asked_for_by_number_and_lasts_a_minute_or_more() {
    let details = ErrorDetails::with_error_info(
        "PAUSED",
        "zerobus.databricks.com",
        HashMap::from([("error_code".to_string(), "6006".to_string())]),
    );
    let detailed = Status::with_error_details(Grpc::Unavailable, "later", details);
    let plain = Status::unavailable("Error Code 6006: the stream is throttled");
    for status in [detailed, plain] {
        let told = told(&ZerobusError::CreateStreamError(status));
        assert_eq!(told.code(), Code::ResourceExhausted);
        assert_eq!(told.retry_class(), RetryClass::Throttled);
        let hint = told.hint().unwrap().as_secs_f64();
        assert!((60.0..=90.0).contains(&hint), "{hint}");
    }
    let other = told(&ZerobusError::CreateStreamError(Status::unavailable(
        "16006 rows",
    )));
    assert_eq!((other.code(), other.hint()), (Code::Unavailable, None));
}

/// The variant is not ours to make; the crate makes it of what the server says, and the tests with the
/// emulator see it. What it says when it knows more than we do can be tried here.
#[test]
fn causes_have_words() {
    let causes = [
        SchemaValidationCause::FieldNotInTable,
        SchemaValidationCause::MissingRequiredColumn,
        SchemaValidationCause::FieldOutOfOrder,
        SchemaValidationCause::TypeIncompatible,
        SchemaValidationCause::FieldCountMismatch,
        SchemaValidationCause::Unknown("MOON_PHASE".into()),
    ];
    let words: std::collections::HashSet<&str> = causes
        .iter()
        .map(crate::destination::zerobus::errors::cause)
        .collect();
    assert_eq!(words.len(), causes.len());
    assert!(words.contains("MOON_PHASE"));
}

/// What a handshake failed by is in the crate's error, and never passes until it has once.
#[test]
fn a_handshake_that_can_never_pass_says_what_to_change() {
    let failed = |error: rustls::Error| {
        let error = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        ZerobusError::CreateStreamError(Status::from_error(Box::new(error)))
    };
    let issuer = failed(rustls::CertificateError::UnknownIssuer.into());
    for (met, code) in [(false, Code::ConfigInvalid), (true, Code::Unavailable)] {
        let told = told_by(&issuer, met);
        assert_eq!(told.code(), code);
        assert!(told.message().contains("tls.ca"), "{told}");
    }
    let named = told(&failed(rustls::CertificateError::NotValidForName.into()));
    assert!(named.message().contains("1234.zerobus.example.com"), "{named}");
    let other = told(&failed(rustls::Error::HandshakeNotComplete));
    assert_eq!(other.code(), Code::Unavailable, "{other}");
    assert!(!other.message().contains("answered"), "{other}");
}
