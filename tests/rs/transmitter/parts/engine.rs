//! The engine by itself: what its channels mean.

use std::sync::Mutex;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use tokio::sync::mpsc;

use super::*;
use crate::destination::discard::Discard;
use crate::outcome::{AdmittedDelivery, Outcome, Status};
use crate::transmitter::batch_slice::BatchSlice;

/// whatever ended the intake, nobody waits for what it would have brought.
#[tokio::test(start_paused = true)]
async fn what_is_here_is_settled_when_nothing_more_can_come() {
    let outcomes: Arc<Mutex<Vec<Outcome>>> = Arc::default();
    let heard = outcomes.clone();
    let mut config = Config::default();
    config.batching.linger = Duration::from_secs(3_600);
    let engine = Engine::new(
        Arc::new(Discard::new("discard:").unwrap()),
        &config,
        RowSource::callers(),
        Arc::new(Admission::new(1_000)),
        Arc::default(),
        Arc::new(move |event| {
            if let Event::Settled(outcome) = event {
                heard.lock().unwrap().push(*outcome);
            }
        }),
    );
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let (arrivals, receiver) = mpsc::channel(1);
    let (_control, control) = mpsc::unbounded_channel();
    let (over, _end) = oneshot::channel();
    let delivery = ImportedDelivery {
        entry: AdmittedDelivery {
            sequence: 1,
            rows: 2,
            bytes: 0,
            charge: 0,
            admitted: now(),
            handoff: Duration::ZERO,
            buffers_copied_for_pin_limit: 0,
            buffers_realigned: 0,
        },
        payload_digest: None,
        slices: Ok(vec![BatchSlice::whole(batch, 16)]),
        captured: None,
    };
    let running = tokio::spawn(engine.run(receiver, control, over));
    arrivals
        .send(vec![Arrival::Delivery(delivery)])
        .await
        .ok()
        .unwrap();
    drop(arrivals);
    running.await.unwrap();
    let outcomes = outcomes.lock().unwrap();
    assert_eq!((outcomes.len(), outcomes[0].status), (1, Status::Unknown));
    assert_eq!(outcomes[0].error.as_ref().unwrap().code(), Code::Internal);
}
