//! Flight SQL bulk ingestion: the command, and the transaction around it.
//!
//! Invariants:
//! - Where the server has transactions, rows count as durable when theirs is committed, not before.
//! - A table is created or replaced once; what comes later appends to it, or each commit would wipe out
//!   the one before.

use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionEndTransactionRequest, Any,
    CommandStatementIngest, EndTransaction, ProstMessageExt as _, TableDefinitionOptions, TableExistsOption,
    TableNotExistOption,
};
use arrow_flight::{Action, FlightDescriptor};
use bytes::Bytes;
use prost::Message as _;
use tonic::Code as Grpc;

use super::connection::Connection;
use super::target::{Ingest, Mode};
use crate::error::{Code, Error, Result};

/// What one stream is put as.
pub fn descriptor(ingest: &Ingest, table_is_ours: bool, transaction: Option<Bytes>) -> FlightDescriptor {
    let mode = match ingest.mode {
        Mode::Create | Mode::Replace if table_is_ours => Mode::Append,
        mode => mode,
    };
    let (missing, exists) = match mode {
        Mode::Append => (TableNotExistOption::Fail, TableExistsOption::Append),
        Mode::Create => (TableNotExistOption::Create, TableExistsOption::Fail),
        Mode::Replace => (TableNotExistOption::Create, TableExistsOption::Replace),
        Mode::CreateAppend => (TableNotExistOption::Create, TableExistsOption::Append),
    };
    let command = CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: missing.into(),
            if_exists: exists.into(),
        }),
        table: ingest.table.clone(),
        schema: ingest.schema.clone(),
        catalog: ingest.catalog.clone(),
        temporary: false,
        transaction_id: transaction,
        options: std::collections::HashMap::new(),
    };
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

/// A new transaction, or none if the server has none.
///
/// # Errors
/// What the server says.
pub async fn begin(connection: &Connection) -> Result<Option<Bytes>> {
    let body = ActionBeginTransactionRequest {}.as_any().encode_to_vec();
    let request = connection.request(Action {
        r#type: "BeginTransaction".into(),
        body: body.into(),
    });
    let failed = |status: tonic::Status| connection.error(&status).during("begin");
    let mut answers = match connection.client().do_action(request).await {
        Ok(response) => response.into_inner(),
        Err(status) if status.code() == Grpc::Unimplemented => return Ok(None),
        Err(status) => return Err(failed(status)),
    };
    let answer = match answers.message().await {
        Ok(Some(answer)) => answer,
        Ok(None) => return Ok(None),
        Err(status) if status.code() == Grpc::Unimplemented => return Ok(None),
        Err(status) => return Err(failed(status)),
    };
    let unreadable =
        || Error::new(Code::Unsupported, "the server's transaction cannot be read").during("begin");
    let any = Any::decode(answer.body).map_err(|error| unreadable().caused_by(&error))?;
    let begun: Option<ActionBeginTransactionResult> =
        any.unpack().map_err(|error| unreadable().caused_by(&error))?;
    let id = begun.ok_or_else(unreadable)?.transaction_id;
    Ok((!id.is_empty()).then_some(id))
}

/// # Errors
/// What the server says; ambiguous, as it may have committed before it failed to say so.
pub async fn commit(connection: &Connection, transaction: Bytes) -> Result<()> {
    let end = ActionEndTransactionRequest {
        transaction_id: transaction,
        action: EndTransaction::Commit.into(),
    };
    let request = connection.request(Action {
        r#type: "EndTransaction".into(),
        body: end.as_any().encode_to_vec().into(),
    });
    let failed = |status: tonic::Status| connection.error(&status).during("commit").ambiguous();
    let mut answers = connection
        .client()
        .do_action(request)
        .await
        .map_err(failed)?
        .into_inner();
    while answers.message().await.map_err(failed)?.is_some() {}
    Ok(())
}
