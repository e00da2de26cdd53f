//! Flight SQL bulk ingestion: what the server is asked for, and when rows count as there.

use std::time::Duration;

use arrow_flight::sql::{Any, CommandStatementIngest, TableExistsOption, TableNotExistOption};
use arrow_ingest::destination::Destination as _;
use arrow_ingest::destination::flight::Flight;
use arrow_ingest::error::{Code, RetryClass};
use futures::FutureExt as _;
use serde_json::json;
use tonic::Status;

use crate::support::{Answers, Server, Writer, config, numbers};

fn command(server: &Server, put: usize) -> CommandStatementIngest {
    let world = server.world();
    let any: Any = prost::Message::decode(world.descriptors[put].cmd.clone()).unwrap();
    any.unpack().unwrap().unwrap()
}

#[tokio::test]
async fn a_table_is_replaced_once_and_then_appended_to() {
    use {TableExistsOption as Exists, TableNotExistOption as Missing};
    for (query, first, second) in [
        (
            "?mode=replace",
            (Missing::Create, Exists::Replace),
            (Missing::Fail, Exists::Append),
        ),
        (
            "?mode=create",
            (Missing::Create, Exists::Fail),
            (Missing::Fail, Exists::Append),
        ),
        (
            "?mode=append&schema=s&catalog=c",
            (Missing::Fail, Exists::Append),
            (Missing::Fail, Exists::Append),
        ),
        (
            "",
            (Missing::Create, Exists::Append),
            (Missing::Create, Exists::Append),
        ),
    ] {
        let server = Server::start(Answers::Nothing).await;
        let target = format!("flightsql://{}/trips{query}", server.address);
        let flight = Flight::connect(&target, &config(json!({}))).await.unwrap();
        assert_eq!(flight.capabilities().name, "flightsql");
        let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
        for id in 1..3 {
            writer.write(id, vec![numbers([id as i64])]).await.unwrap();
            writer.session.flush().await.unwrap();
        }
        assert_eq!(writer.said(), ["through 1", "through 2"]);
        for (put, (missing, exists)) in [first, second].into_iter().enumerate() {
            let command = command(&server, put);
            assert_eq!(command.table, "trips");
            let options = command.table_definition_options.unwrap();
            assert_eq!(
                (options.if_not_exist, options.if_exists),
                (missing as i32, exists as i32)
            );
            assert_eq!(command.transaction_id, None);
            assert_eq!(command.schema.is_some(), query.contains("schema"));
        }
    }
}

#[tokio::test]
async fn rows_count_once_their_transaction_is_committed() {
    let server = Server::start(Answers::Nothing).await;
    server.world().transactions = true;
    let target = format!("flightsql://{}/trips", server.address);
    let flight = Flight::connect(&target, &config(json!({}))).await.unwrap();
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..3)]).await.unwrap();
    writer.session.flush().await.unwrap();
    assert_eq!(writer.said(), ["through 1"]);
    assert_eq!(server.world().actions, ["BeginTransaction", "EndTransaction"]);
    assert_eq!(command(&server, 0).transaction_id.unwrap().as_ref(), b"tx1");
    server.world().commit_fails = true;
    writer.write(2, vec![numbers(3..4)]).await.unwrap();
    let error = writer.session.flush().await.unwrap_err();
    assert_eq!((error.code(), error.is_ambiguous()), (Code::Unavailable, true));
    assert_eq!(error.retry_class(), RetryClass::Transient);
    assert!(writer.said().is_empty());
}

/// A transaction that nobody ends keeps its table locked for all others.
#[tokio::test]
async fn what_is_not_committed_is_rolled_back_before_the_next_transaction() {
    let server = Server::start(Answers::Nothing).await;
    server.world().transactions = true;
    let target = format!("flightsql://{}/trips", server.address);
    let flight = Flight::connect(&target, &config(json!({}))).await.unwrap();
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..3)]).await.unwrap();
    drop(writer);
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(2, vec![numbers(3..4)]).await.unwrap();
    writer.session.flush().await.unwrap();
    drop(writer);
    // A committed one is not ended twice.
    assert_eq!(
        server.world().actions,
        [
            "BeginTransaction",
            "EndTransaction rollback",
            "BeginTransaction",
            "EndTransaction"
        ]
    );
}

async fn ended(server: &Server) -> bool {
    for _ in 0..200 {
        if server
            .world()
            .actions
            .iter()
            .any(|action| action == "EndTransaction rollback")
        {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// A client that is closed by its deadline leaves no table locked either.
#[tokio::test]
async fn what_is_not_committed_is_rolled_back_although_the_client_is_gone() {
    let server = Server::start(Answers::Nothing).await;
    server.world().transactions = true;
    let target = format!("flightsql://{}/trips", server.address);
    let flight = Flight::connect(&target, &config(json!({}))).await.unwrap();
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..3)]).await.unwrap();
    drop(flight);
    drop(writer);
    assert!(ended(&server).await, "{:?}", server.world().actions);
}

/// A session that is given up while it waits for the rollback of another must not end that.
#[tokio::test]
async fn a_rollback_outlives_the_session_that_waits_for_it() {
    let server = Server::start(Answers::Nothing).await;
    server.world().transactions = true;
    let target = format!("flightsql://{}/trips", server.address);
    let flight = Flight::connect(&target, &config(json!({}))).await.unwrap();
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..3)]).await.unwrap();
    let mut next = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    let batch = vec![numbers(0..3)];
    drop(writer);
    // It waits for the rollback, and is given up.
    assert!(next.write(2, batch).now_or_never().is_none());
    drop(next);
    assert!(ended(&server).await, "{:?}", server.world().actions);
}

#[tokio::test]
async fn a_transaction_that_cannot_be_had() {
    let server = Server::start(Answers::Nothing).await;
    server.world().transactions = true;
    let target = format!("flightsql://{}/trips", server.address);
    let flight = Flight::connect(&target, &config(json!({}))).await.unwrap();
    for (says, code) in [
        (Err(Status::unimplemented("none")), None),
        (Ok(None), None),
        (Ok(Some(b"nonsense".to_vec())), Some(Code::Unsupported)),
        (Ok(Some(Vec::new())), Some(Code::Unsupported)),
        (
            Err(Status::permission_denied("not you")),
            Some(Code::PermissionDenied),
        ),
    ] {
        server.world().begin_says.push_back(says);
        let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
        let wrote = writer.write(1, vec![numbers(0..3)]).await;
        assert_eq!(wrote.as_ref().err().map(|error| error.code()), code);
        if wrote.is_ok() {
            writer.session.flush().await.unwrap();
            let put = server.world().descriptors.len() - 1;
            assert_eq!(command(&server, put).transaction_id, None);
        }
    }
}
