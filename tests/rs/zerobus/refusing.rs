//! Rows that the table cannot hold.

use arrow_ingest::error::Code;
use arrow_ingest::outcome::Status;
use serde_json::json;

use crate::emulated::TABLE;
use crate::support::{Road, numbers};

/// The table holds 32 bits; every tenth number has more.
const LARGE: i64 = 1 << 40;

fn table() -> serde_json::Value {
    json!({"tables": {TABLE: [{"name": "id", "type": "int"}]}})
}

fn is_large(id: i64) -> bool {
    id % 10 == 3
}

fn mixed(ids: std::ops::Range<i64>) -> arrow::array::RecordBatch {
    let values = ids.map(|id| if is_large(id) { id + LARGE } else { id });
    let ids: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from_iter_values(values));
    arrow::array::RecordBatch::try_from_iter([("id", ids)]).unwrap()
}

/// What came of 20 deliveries of mixed rows: refused rows are told by their number, the others are there.
async fn check(road: &Road) {
    for turn in 0..20 {
        let batch = mixed(turn * 100..turn * 100 + 100);
        road.rig.send_waiting(&batch).await.unwrap();
    }
    for (turn, outcome) in road.close().await.iter().enumerate() {
        assert_eq!(outcome.status, Status::Partial, "{turn} {outcome:?}");
        let rows: Vec<u64> = outcome.rejections.iter().map(|rejection| rejection.row).collect();
        let expected: Vec<u64> = (0..100).filter(|row| is_large(*row as i64)).collect();
        assert_eq!(rows, expected, "delivery {turn}");
        assert_eq!(outcome.accepted_rows, 90);
        assert_eq!(outcome.rejections[0].code, "BATCH_INVALID");
        assert!(
            outcome.rejections[0].message.contains("id: "),
            "{:?}",
            outcome.rejections[0]
        );
    }
}

/// As the table stores them: its `id` has 32 bits.
fn ids(road: &Road) -> Vec<i64> {
    let mut ids = Vec::new();
    for batch in crate::emulated::read(&road.emulated.table()) {
        let column = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Int64).unwrap();
        ids.extend(crate::harness::values(
            &arrow::array::RecordBatch::try_from_iter([("id", column)]).unwrap(),
        ));
    }
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_are_refused_and_the_others_go() {
    let road = Road::new(table(), json!({})).await;
    check(&road).await;
    assert_eq!(
        ids(&road),
        (0..2_000).filter(|id| !is_large(*id)).collect::<Vec<_>>()
    );
}

/// refusals are told once, and nothing is sent twice, wherever within a write a stream breaks.
#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_survive_replays() {
    for rows in [1, 2, 3, 4, 45, 88, 89] {
        let road = Road::new(table(), json!({})).await;
        road.emulated
            .fault(&format!("partial:rows={rows},after=200rows,times=6"));
        check(&road).await;
        assert_eq!(
            ids(&road),
            (0..2_000).filter(|id| !is_large(*id)).collect::<Vec<_>>(),
            "{rows}"
        );
    }
    let road = Road::new(table(), json!({})).await;
    road.emulated.fault("rotate:after=300rows,grace=2s,times=4");
    check(&road).await;
    assert_eq!(
        ids(&road),
        (0..2_000).filter(|id| !is_large(*id)).collect::<Vec<_>>()
    );
}

/// Without a quarantine the delivery that holds the row fails, by its own row number, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_quarantine_the_delivery_at_fault_fails_alone() {
    let options = json!({"quarantine": {"enabled": false}, "batching": {"maxRows": 1_000, "linger": "20ms"}});
    let road = Road::new(table(), options).await;
    for turn in 0..20 {
        let ids = turn * 100..turn * 100 + 100;
        let batch = if turn == 7 { mixed(ids) } else { numbers(ids) };
        road.rig.send_waiting(&batch).await.unwrap();
    }
    for (turn, outcome) in road.close().await.iter().enumerate() {
        if turn != 7 {
            assert_eq!(outcome.status, Status::Acknowledged, "{turn} {outcome:?}");
            continue;
        }
        assert_eq!(outcome.status, Status::Failed);
        let error = outcome.error.as_ref().unwrap();
        assert_eq!(
            (error.code(), error.row(), error.field()),
            (Code::BatchInvalid, Some(3), Some("id"))
        );
    }
    let expected = (0..2_000).filter(|id| !(700..800).contains(id));
    assert_eq!(ids(&road), expected.collect::<Vec<_>>(), "nothing is there twice");
}

/// A refusal of the service's own: nothing of the batch is there, and what was acknowledged stays so.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_service_refuses_are_not_in_doubt() {
    let road = Road::with(
        "reject:column=id,equals=555",
        json!({"quarantine": {"enabled": false}}),
    )
    .await;
    road.send(0..100).await;
    road.rig.flush().await.unwrap();
    road.send(500..600).await;
    let outcomes = road.close().await;
    assert_eq!(outcomes[0].status, Status::Acknowledged);
    assert_eq!(outcomes[1].status, Status::Failed, "{:?}", outcomes[1]);
    assert_eq!(outcomes[1].error.as_ref().unwrap().code(), Code::RowsRejected);
    assert_eq!(road.emulated.ids(), (0..100).collect::<Vec<_>>());
}
