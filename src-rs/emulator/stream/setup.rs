//! Whether a stream may begin: its connection, its token, its table, its schema, in this order, with the
//! faults of each step before the step.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::Schema;
use arrow_flight::FlightData;
use tonic::{Status, Streaming};

use super::super::event::EmulatorEvent;
use super::super::fault::FaultKind;
use super::super::listener::Link;
use super::super::schema::{self, Mismatch};
use super::super::table::EmulatedTable;
use super::super::tokens::TokenGrant;
use super::super::{EmulatorState, TableName, status};
use super::{Answers, OpenedStream, StreamHandler, by_fault, shutting_down, tell_fault};
use crate::error::{Code, Error};

/// Who asks for a stream, and how.
pub struct Caller {
    pub authorization: Option<String>,
    pub table: Option<String>,
    pub client: String,
    pub link: Link,
}

/// Of which table, if that is known, and why.
pub type SetupRefusal = (Option<String>, Status);

/// From the first frame and what was said before it to a stream that may begin.
///
/// # Errors
/// The status with which it is refused.
pub async fn set_up(
    shared: &Arc<EmulatorState>,
    caller: Caller,
    number: u64,
    open: usize,
    inbound: &mut Streaming<FlightData>,
    out: Answers,
) -> Result<StreamHandler, SetupRefusal> {
    let Some(name) = caller.table.as_deref() else {
        let text = "the metadata x-databricks-zerobus-table-name is missing";
        return Err((None, Status::invalid_argument(text)));
    };
    let refuse = |status| (Some(name.to_string()), status);
    if !caller.link.is_secure() {
        let text = "this endpoint is served in TLS";
        return Err(refuse(Status::unavailable(text)));
    }
    let table_name = TableName::from_str(name).map_err(|text| refuse(Status::invalid_argument(text)))?;
    let mut seen = shared.faults.stream(name);
    let mut fault = |wanted: &dyn Fn(&FaultKind) -> bool| {
        let fired = shared.faults.at_setup(&mut seen, wanted);
        if let Some(kind) = &fired {
            tell_fault(shared, name, number, kind);
        }
        fired
    };
    if fault(&|kind| matches!(kind, FaultKind::Limit { streams } if open > *streams)).is_some() {
        return Err(refuse(Status::resource_exhausted(
            "there are too many open streams",
        )));
    }
    if let Some(FaultKind::Refuse { status, message }) =
        fault(&|kind| matches!(kind, FaultKind::Refuse { .. }))
    {
        return Err(refuse(by_fault(status.code(), message)));
    }
    let authorization = caller.authorization.as_deref();
    if fault(&|kind| *kind == FaultKind::ExpireToken).is_some() {
        shared.tokens.revoke(authorization);
    }
    let scope = shared.tokens.scope(authorization);
    match scope.map_err(|text| refuse(Status::unauthenticated(text)))? {
        TokenGrant::Everything => {}
        TokenGrant::Table(table) if table == table_name => {}
        TokenGrant::Table(_) => {
            return Err(refuse(Status::permission_denied(
                "the token is for another table",
            )));
        }
        TokenGrant::Catalog => {
            return Err(refuse(Status::permission_denied(
                "the token is not one for writing to a table",
            )));
        }
    }
    if let Some(FaultKind::Pause { time }) = fault(&|kind| matches!(kind, FaultKind::Pause { .. })) {
        return Err(refuse(status::pause(number, time)));
    }
    if let Some(FaultKind::RefuseSchema { causes }) =
        fault(&|kind| matches!(kind, FaultKind::RefuseSchema { .. }))
    {
        let mismatch = Mismatch {
            causes: causes.into_iter().collect(),
            details: vec!["a fault of the emulator".into()],
        };
        return Err(refuse(status::schema(&mismatch)));
    }
    let first = tokio::select! {
        first = inbound.message() => first,
        () = shared.stopping() => return Err(refuse(shutting_down())),
    };
    let schema = match first {
        Ok(Some(frame)) => Schema::try_from(&frame).map_err(|error| {
            refuse(Status::invalid_argument(format!(
                "the first frame is no schema: {error}"
            )))
        })?,
        Ok(None) => return Err(refuse(Status::invalid_argument("the stream has no first frame"))),
        Err(status) => return Err(refuse(status)),
    };
    let table = find(shared, &table_name, &schema).await.map_err(refuse)?;
    schema::check(&table.columns, &schema).map_err(|mismatch| refuse(status::schema(&mismatch)))?;
    table.counters.streams.fetch_add(1, Ordering::Relaxed);
    shared.observer.tell(EmulatorEvent::StreamOpened {
        table: name.into(),
        stream: number,
        client: caller.client,
    });
    Ok(StreamHandler::new(OpenedStream {
        shared: shared.clone(),
        table,
        number,
        seen,
        authorization: caller.authorization,
        link: caller.link,
        schema: Arc::new(schema),
        out,
    }))
}

async fn find(
    shared: &EmulatorState,
    name: &TableName,
    schema: &Schema,
) -> Result<Arc<EmulatedTable>, Status> {
    let lost = |error: Error| match error.code() {
        Code::SchemaMismatch => Status::invalid_argument(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    };
    if let Some(table) = shared.tables.find(name).await.map_err(lost)? {
        return Ok(table);
    }
    if !shared.config.auto_create {
        return Err(Status::not_found(format!(
            "the table {} does not exist",
            name.full()
        )));
    }
    let columns = schema::columns_of(schema).map_err(|mismatch| status::schema(&mismatch))?;
    shared.tables.find_or_create(name, columns).await.map_err(lost)
}
