//! A road from a sender through the transmitter to an emulator, and eyes on its lake.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow_ingest::config::Config;
use arrow_ingest::destination::zerobus::Zerobus;
use arrow_ingest::error::Result;
use arrow_ingest::outcome::{Outcome, Status};
use serde_json::{Value, json};

use crate::emulated::{Rig as Emulated, TABLE};
use crate::harness::rig::Rig;

pub const PER_BATCH: i64 = 100;

pub struct Road {
    pub emulated: Emulated,
    pub rig: Rig,
}

impl Road {
    /// Every delivery is a write of its own, failures are tried again soon.
    pub async fn new(emulator: Value, options: Value) -> Road {
        let emulated = Emulated::new(emulator).await;
        Road::over(emulated, options).await
    }

    pub async fn over(emulated: Emulated, options: Value) -> Road {
        let options = client(&emulated, options);
        let rig = Rig::over(Arc::new(connect(&emulated, &options).await.unwrap()), options);
        Road { emulated, rig }
    }

    /// The road with one fault on it.
    pub async fn with(fault: &str, options: Value) -> Road {
        let road = Road::new(json!({}), options).await;
        road.emulated.fault(fault);
        road
    }

    /// Sends `count` deliveries of consecutive numbers and closes; every one has an outcome.
    pub async fn deliver(&self, count: i64) -> Vec<Outcome> {
        for turn in 0..count {
            self.send(turn * PER_BATCH..(turn + 1) * PER_BATCH).await;
        }
        self.close().await
    }

    /// As [`Road::deliver`], and waits after every `pause` deliveries until all is settled.
    pub async fn deliver_slowly(&self, count: i64, pause: i64) -> Vec<Outcome> {
        for turn in 0..count {
            self.send(turn * PER_BATCH..(turn + 1) * PER_BATCH).await;
            if turn % pause == pause - 1 {
                self.rig.flush().await.unwrap();
            }
        }
        self.close().await
    }

    pub async fn send(&self, ids: Range<i64>) -> u64 {
        self.rig.send_waiting(&numbers(ids)).await.unwrap()
    }

    pub async fn close(&self) -> Vec<Outcome> {
        self.rig.close(Duration::from_secs(60)).await.unwrap();
        self.rig.check_the_end();
        let mut outcomes = self.rig.heard().outcomes.clone();
        outcomes.sort_by_key(|outcome| outcome.sequence);
        outcomes
    }

    /// How often each row is in the table.
    pub fn held(&self) -> BTreeMap<i64, usize> {
        let mut held = BTreeMap::new();
        for id in self.emulated.ids() {
            *held.entry(id).or_default() += 1;
        }
        held
    }

    /// No row is lost, none is there twice.
    pub fn check_once(&self, count: i64) {
        let held = self.held();
        let wrong: Vec<_> = (0..count * PER_BATCH)
            .filter(|id| held.get(id) != Some(&1))
            .map(|id| (id, held.get(&id).copied().unwrap_or(0)))
            .collect();
        assert_eq!(wrong, [], "{:#?}", self.emulated.lines());
        assert_eq!(held.len() as i64, count * PER_BATCH);
    }

    /// No row is lost; those that are there twice.
    pub fn repeated(&self, count: i64) -> Vec<i64> {
        let held = self.held();
        assert!(
            (0..count * PER_BATCH).all(|id| held.contains_key(&id)),
            "rows are lost"
        );
        held.into_iter()
            .filter(|(_, times)| *times > 1)
            .map(|(id, _)| id)
            .collect()
    }
}

/// Options that make a transmitter quick to try again, with credentials for this emulator.
pub fn client(emulated: &Emulated, options: Value) -> Value {
    let mut all = json!({
        "batching": {"maxRows": PER_BATCH, "linger": "1ms"},
        "retry": {"attempts": 1_000, "baseDelay": "1ms", "maxDelay": "20ms"},
        "zerobus": {
            "unityCatalogUrl": emulated.emulator.unity_catalog_url(),
            "clientId": "client",
            "clientSecret": "secret",
        },
    });
    if let Some(ca) = emulated.emulator.ca_pem() {
        all["tls"] = json!({ "ca": ca });
    }
    for (name, value) in options.as_object().unwrap() {
        match (all.get_mut(name).and_then(Value::as_object_mut), value) {
            (Some(group), Value::Object(given)) => group.extend(given.clone()),
            _ => all[name] = value.clone(),
        }
    }
    all
}

pub async fn connect(emulated: &Emulated, options: &Value) -> Result<Zerobus> {
    let config = Config::from_json(options).unwrap();
    Zerobus::connect(&emulated.emulator.url(TABLE), &config).await
}

pub fn numbers(ids: Range<i64>) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    RecordBatch::try_from_iter([("id", ids)]).unwrap()
}

pub fn check_acknowledged(outcomes: &[Outcome], count: i64) {
    assert_eq!(outcomes.len() as i64, count);
    for outcome in outcomes {
        assert_eq!(outcome.status, Status::Acknowledged, "{:?}", outcome.error);
    }
}
