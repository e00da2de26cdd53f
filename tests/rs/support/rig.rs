//! A transmitter with somebody to listen to it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_ingest::callbacks::RetryPredicate;
use arrow_ingest::config::Config;
use arrow_ingest::counters::Counters;
use arrow_ingest::destination::Destination;
use arrow_ingest::error::Result;
use arrow_ingest::handoff::{HandoffBatch, Pool};
use arrow_ingest::outcome::Outcome;
use arrow_ingest::transmitter::{
    Admit, Delivery, Event, Fact, Log, OpenedSpool, PayloadDigest, Reply, Transmitter,
};
use serde_json::Value;
use tokio::sync::{Notify, oneshot};

use super::columns;
use super::scripted::{Scripted, World};

/// For how long a test waits for anything, by a clock that no test stops: a wait without an end would take CI's whole
/// time, and tell nobody which test it was.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Rig {
    pub transmitter: Transmitter,
    pub counters: Arc<Counters>,
    pub heard: Arc<Mutex<Heard>>,
    scripted: Option<Arc<Scripted>>,
    news: Arc<Notify>,
    last_sequence: AtomicU64,
    /// Sequences and deliveries go in the same order, however many threads send.
    gate: Mutex<()>,
}

/// All that the transmitter has told.
#[derive(Default)]
pub struct Heard {
    pub outcomes: Vec<Outcome>,
    pub granted: Vec<u64>,
    pub spooled: Vec<u64>,
    pub recovered: Vec<Outcome>,
    queued: Vec<u64>,
    pub logs: Vec<Log>,
    pub facts: Vec<Fact>,
    times: HashMap<u64, usize>,
}

impl Rig {
    pub fn new(scripted: Scripted, options: Value) -> Rig {
        let scripted = Arc::new(scripted);
        let mut rig = Rig::over(scripted.clone(), options);
        rig.scripted = Some(scripted);
        rig
    }

    /// With somebody to ask before another try.
    pub fn asking(scripted: Scripted, options: Value, predicate: Arc<dyn RetryPredicate>) -> Rig {
        let scripted = Arc::new(scripted);
        let mut config = Config::from_json(&options).unwrap();
        config.retry.predicate = Some(predicate);
        let mut rig = Rig::start(scripted.clone(), &config, None);
        rig.scripted = Some(scripted);
        rig
    }

    pub fn over(destination: Arc<dyn Destination>, options: Value) -> Rig {
        Rig::start(destination, &Config::from_json(&options).unwrap(), None)
    }

    /// With a spool that was opened.
    pub fn spooled(destination: Arc<dyn Destination>, options: Value, spool: OpenedSpool) -> Rig {
        Rig::start(destination, &Config::from_json(&options).unwrap(), Some(spool))
    }

    fn start(destination: Arc<dyn Destination>, config: &Config, spool: Option<OpenedSpool>) -> Rig {
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let news: Arc<Notify> = Arc::default();
        let counters: Arc<Counters> = Arc::default();
        let (ears, bell) = (heard.clone(), news.clone());
        let observer = Arc::new(move |event: Event| {
            let mut heard = ears.lock().unwrap();
            match event {
                Event::Settled(outcome) => {
                    *heard.times.entry(outcome.sequence).or_default() += 1;
                    heard.outcomes.push(*outcome);
                }
                Event::Spooled(sequence) => heard.spooled.push(sequence),
                Event::Recovered(outcome) => heard.recovered.push(*outcome),
                Event::Granted(ticket) => heard.granted.push(ticket),
                Event::Log(log) => heard.logs.push(log),
                Event::Fact(fact) => heard.facts.push(*fact),
            }
            bell.notify_waiters();
        });
        Rig {
            transmitter: Transmitter::start(
                destination,
                config,
                Pool::new(1 << 20),
                counters.clone(),
                observer,
                spool,
            ),
            counters,
            heard,
            scripted: None,
            news,
            last_sequence: AtomicU64::new(0),
            gate: Mutex::default(),
        }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.scripted.as_ref().unwrap().world()
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    /// Sends one batch, which the budget must have room for.
    pub fn send(&self, batch: &RecordBatch) -> u64 {
        self.send_all(std::slice::from_ref(batch))
    }

    pub fn send_all(&self, batches: &[RecordBatch]) -> u64 {
        self.send_handoffs(batches.iter().map(columns).collect(), None)
    }

    pub fn send_handoffs(
        &self,
        handoff_batches: Vec<HandoffBatch>,
        payload_digest: Option<PayloadDigest>,
    ) -> u64 {
        let bytes = handoff_batches.iter().map(HandoffBatch::bytes).sum();
        assert_eq!(self.transmitter.request(bytes).unwrap(), Admit::Admitted);
        self.deliver(handoff_batches, bytes, payload_digest)
    }

    /// Asks to be let in and waits for it, as callers do.
    pub async fn send_waiting(&self, batch: &RecordBatch) -> Result<u64> {
        self.send_all_waiting(std::slice::from_ref(batch)).await
    }

    pub async fn send_all_waiting(&self, batches: &[RecordBatch]) -> Result<u64> {
        let handoff_batches: Vec<HandoffBatch> = batches.iter().map(columns).collect();
        let bytes = handoff_batches.iter().map(HandoffBatch::bytes).sum();
        if let Admit::Queued(ticket) = self.transmitter.request(bytes)? {
            self.heard().queued.push(ticket);
            self.until(|heard| heard.granted.contains(&ticket)).await;
            self.transmitter.redeem(ticket, bytes)?;
            self.heard().queued.retain(|queued| *queued != ticket);
        }
        Ok(self.deliver(handoff_batches, bytes, None))
    }

    /// As callers do who have lost patience.
    pub fn take_back_tickets(&self) {
        let queued = std::mem::take(&mut self.heard().queued);
        for ticket in queued {
            assert!(self.transmitter.cancel(ticket));
        }
    }

    pub fn deliver(
        &self,
        handoff_batches: Vec<HandoffBatch>,
        bytes: usize,
        payload_digest: Option<PayloadDigest>,
    ) -> u64 {
        let _gate = self.gate.lock().unwrap();
        let sequence = self.last_sequence.fetch_add(1, Ordering::Relaxed) + 1;
        self.transmitter.deliver(Delivery {
            sequence,
            handoff_batches,
            bytes,
            charge: bytes,
            admitted: tokio::time::Instant::now().into_std(),
            handoff: Duration::ZERO,
            buffers_copied_for_pin_limit: 0,
            payload_digest,
        });
        sequence
    }

    pub async fn outcome(&self, sequence: u64) -> Outcome {
        self.until(|heard| heard.times.contains_key(&sequence)).await;
        let heard = self.heard();
        let found = heard.outcomes.iter().find(|outcome| outcome.sequence == sequence);
        found.unwrap().clone()
    }

    pub async fn until(&self, done: impl Fn(&Heard) -> bool) {
        let heard = async {
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if done(&self.heard()) {
                    return;
                }
                // With the clock stopped this is reached only when nothing at all will ever happen.
                let patience = tokio::time::timeout(Duration::from_secs(1_000_000), news);
                patience.await.expect("the transmitter fell silent");
            }
        };
        if patiently(heard).await.is_none() {
            let heard = self.heard();
            let told = heard
                .outcomes
                .iter()
                .map(|outcome| (outcome.sequence, outcome.status));
            let told: Vec<_> = told.collect();
            let said: Vec<_> = heard.logs.iter().rev().take(8).map(|log| &log.message).collect();
            panic!(
                "it did not come: spooled {:?}, outcomes {told:?}, said last {said:?}",
                heard.spooled
            );
        }
    }

    pub async fn flush(&self) -> Result<()> {
        self.ask(|reply| self.transmitter.flush(reply)).await
    }

    pub async fn close(&self, deadline: Duration) -> Result<()> {
        self.ask(|reply| self.transmitter.close(deadline, reply)).await
    }

    pub async fn prepare(&self, schema: SchemaRef) -> Result<()> {
        self.ask(|reply| self.transmitter.prepare(schema, reply)).await
    }

    /// Asks now; the answer may be waited for later.
    pub fn ask<Ask: FnOnce(Reply)>(&self, ask: Ask) -> impl Future<Output = Result<()>> + use<Ask> {
        let (sender, receiver) = oneshot::channel();
        ask(Reply::new(move |result| {
            let _ = sender.send(result);
        }));
        async {
            let patience = tokio::time::timeout(Duration::from_secs(1_000_000), receiver);
            let answer = patiently(patience).await.expect("nobody answered in time");
            answer.expect("nobody answered").unwrap()
        }
    }

    /// What must be true of every run once it is closed: nothing is left, nothing was said twice,
    /// and the destination saw nothing that it must not see.
    pub fn check_the_end(&self) {
        assert_eq!(self.transmitter.in_flight_bytes(), 0, "budget");
        assert_eq!(self.transmitter.waiting(), 0, "tickets");
        assert_eq!(self.counters.unsettled.get(), 0, "unsettled");
        assert_eq!(self.counters.arriving.get(), 0, "arriving");
        let heard = self.heard();
        for sequence in 1..=self.last_sequence.load(Ordering::Relaxed) {
            assert_eq!(heard.times.get(&sequence), Some(&1), "delivery {sequence}");
        }
        if let Some(scripted) = &self.scripted {
            assert_eq!(scripted.world().violations, Vec::<String>::new());
        }
    }
}

/// Waits until something is so that nobody tells of.
pub async fn eventually(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "it never came to be so");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What comes of a future, or `None` after [`PATIENCE`] of the machine's time.
async fn patiently<T>(future: impl Future<Output = T>) -> Option<T> {
    static SECONDS: LazyLock<Arc<Notify>> = LazyLock::new(|| {
        let seconds = Arc::new(Notify::new());
        let told = Arc::clone(&seconds);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                told.notify_waiters();
            }
        });
        seconds
    });
    let began = Instant::now();
    tokio::pin!(future);
    loop {
        tokio::select! {
            biased;
            done = &mut future => return Some(done),
            () = SECONDS.notified() => {
                if began.elapsed() >= PATIENCE {
                    return None;
                }
            }
        }
    }
}
