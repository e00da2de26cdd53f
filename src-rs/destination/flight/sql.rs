//! Flight SQL bulk ingestion: the command, and the transaction around it.
//!
//! Invariants:
//! - Where the server has transactions, rows count as durable when theirs is committed, not before.
//! - A transaction that is not committed is rolled back, and no other is begun before that was answered:
//!   left open, it would keep the table locked.
//! - A table is created or replaced once; what comes later appends to it, or each commit would wipe out
//!   the one before.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionEndTransactionRequest, Any,
    CommandStatementIngest, EndTransaction, ProstMessageExt as _, TableDefinitionOptions, TableExistsOption,
    TableNotExistOption,
};
use arrow_flight::{Action, FlightDescriptor};
use bytes::Bytes;
use prost::Message as _;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::Code as Grpc;

use super::connection::Connection;
use super::target::{Ingest, Mode};
use crate::error::{Code, Error, Result};

/// How long a rollback may take before the next transaction is begun all the same.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// How many rollbacks were asked for and not answered. They are nobody's tasks: a rollback goes on when whoever
/// waits for it is given up, and when the client is gone.
#[derive(Default)]
pub struct Rollbacks(watch::Sender<usize>);

impl Rollbacks {
    async fn wait(&self) {
        // There is a sender as long as there is somebody who waits.
        let _ = self.0.subscribe().wait_for(|open| *open == 0).await;
    }

    fn begin(self: Arc<Self>) -> Rollback {
        self.0.send_modify(|open| *open += 1);
        Rollback(self)
    }
}

/// One of them, until it is dropped.
struct Rollback(Arc<Rollbacks>);

impl Drop for Rollback {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

/// One that is open on the server; rolled back when it is dropped.
pub struct Transaction {
    id: Bytes,
    connection: Connection,
    rollbacks: Arc<Rollbacks>,
    open: bool,
}

impl Transaction {
    pub fn id(&self) -> Bytes {
        self.id.clone()
    }

    /// # Errors
    /// What the server says; ambiguous, as it may have committed before it failed to say so.
    pub async fn commit(mut self, patience: Duration) -> Result<()> {
        // Asked once: what became of a commit that was not answered is the server's to say.
        self.open = false;
        let ended = end(&self.connection, self.id.clone(), EndTransaction::Commit);
        let error = match tokio::time::timeout(patience, ended).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(status)) => self.connection.error(&status),
            Err(_) => {
                let text = format!(
                    "the server does not answer the commit: flight.acknowledgementTimeout ({patience:?}) is over"
                );
                Error::new(Code::Unavailable, text)
            }
        };
        Err(error.during("commit").ambiguous())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if !self.open {
            return;
        }
        let (id, connection) = (self.id.clone(), self.connection.clone());
        let under_way = Arc::clone(&self.rollbacks).begin();
        runtime.spawn(async move {
            let _under_way = under_way;
            // Best effort: a server that is gone has nothing to roll back.
            let ended = end(&connection, id, EndTransaction::Rollback);
            let _ = tokio::time::timeout(PATIENCE, ended).await;
        });
    }
}

/// A new transaction, or none if the server has none.
///
/// # Errors
/// What the server says; `UNAVAILABLE` if that is nothing for so long.
pub async fn begin(
    connection: &Connection,
    rollbacks: &Arc<Rollbacks>,
    patience: Duration,
) -> Result<Option<Transaction>> {
    rollbacks.wait().await;
    let late = |_| {
        let text =
            format!("the server does not begin a transaction within {patience:?} (flight.connectTimeout)");
        Error::new(Code::Unavailable, text).during("begin")
    };
    let Some(answer) = tokio::time::timeout(patience, ask(connection))
        .await
        .map_err(late)??
    else {
        return Ok(None);
    };
    let unreadable =
        || Error::new(Code::Unsupported, "the server's transaction cannot be read").during("begin");
    let any = Any::decode(answer.body).map_err(|error| unreadable().caused_by(&error))?;
    let begun: Option<ActionBeginTransactionResult> =
        any.unpack().map_err(|error| unreadable().caused_by(&error))?;
    let id = begun.ok_or_else(unreadable)?.transaction_id;
    Ok((!id.is_empty()).then(|| Transaction {
        id,
        connection: connection.clone(),
        rollbacks: Arc::clone(rollbacks),
        open: true,
    }))
}

async fn ask(connection: &Connection) -> Result<Option<arrow_flight::Result>> {
    let body = ActionBeginTransactionRequest {}.as_any().encode_to_vec();
    let request = connection.request(Action {
        r#type: "BeginTransaction".into(),
        body: body.into(),
    });
    let answered = async {
        let mut answers = connection.client().do_action(request).await?.into_inner();
        answers.message().await
    };
    match answered.await {
        Ok(answer) => Ok(answer),
        Err(status) if status.code() == Grpc::Unimplemented => Ok(None),
        Err(status) => Err(connection.error(&status).during("begin")),
    }
}

async fn end(
    connection: &Connection,
    transaction: Bytes,
    action: EndTransaction,
) -> std::result::Result<(), tonic::Status> {
    let end = ActionEndTransactionRequest {
        transaction_id: transaction,
        action: action.into(),
    };
    let request = connection.request(Action {
        r#type: "EndTransaction".into(),
        body: end.as_any().encode_to_vec().into(),
    });
    let mut answers = connection.client().do_action(request).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}
