//! The disk → the engine, in the order of the positions.
//!
//! Invariants:
//! - What is in memory to be delivered stays within its budget, but for one delivery that is larger.
//! - [`FeedState::through`] rises before the engine is given what lies below it: who finds a position at or above
//!   it, and says under the lock that it is cancelled, can rely on it.
//! - A word that rows are waited for follows these rows.
//!
//! It settles nothing. An error of the disk, or a panic of the reader, is told, and tried again once a second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::{Sender, UnboundedSender};

use super::{StageEvent, held};
use crate::counters::Counters;
use crate::disk;
use crate::error::{Code, Error, Result};
use crate::outcome::AdmittedDelivery;
use crate::spool::{Reader, Spool, SpoolEntry, SpoolRows};
use crate::transmitter::Reply;
use crate::transmitter::admission::{Admission, Admit};
use crate::transmitter::batch_slice::BatchSlice;
use crate::transmitter::clock::now;
use crate::transmitter::engine::Control;
use crate::transmitter::facts::SpooledBy;
use crate::transmitter::intake::{Arrival, ImportedDelivery};

/// Read by one task of the disk: small deliveries until they have this many bytes, or are this many.
const GROUP_BYTES: usize = 1 << 20;
const GROUP: usize = 256;
/// What a delivery takes of the budget at least.
const FLOOR_BYTES: usize = 1_024;
const AGAIN: Duration = Duration::from_secs(1);

/// What the feeder and the stage both know.
#[derive(Default)]
pub struct FeedState {
    /// Rows below are the engine's, or are not to be delivered.
    pub through: u64,
    /// Deliveries at or above it that are not to be delivered.
    pub cancelled: BTreeSet<u64>,
    /// Somebody waits for the outcome of all below.
    pub hurry: u64,
    /// Somebody waits until all below is settled.
    pub flush: u64,
    /// Deliveries that the engine has.
    fed: BTreeMap<u64, FedDelivery>,
}

#[derive(Debug, Clone, Copy)]
struct FedDelivery {
    /// When it was appended, in milliseconds since 1970.
    time_ms: u64,
    by: SpooledBy,
}

impl FeedState {
    pub fn forget(&mut self, position: u64) {
        self.fed.remove(&position);
    }

    /// Its position, and when it was appended.
    pub fn oldest(&self) -> Option<(u64, u64)> {
        let first = self.fed.iter().next();
        first.map(|(position, fed)| (*position, fed.time_ms))
    }

    pub fn whose(&self, position: u64) -> SpooledBy {
        self.fed.get(&position).map_or(SpooledBy::Nobody, |fed| fed.by)
    }
}

pub struct Feeder {
    pub spool: Arc<Spool>,
    /// Rows below are an earlier client's.
    pub own_from: u64,
    pub admission: Arc<Admission>,
    pub state: Arc<Mutex<FeedState>>,
    /// Notified when there may be more to read, or to say.
    pub wanted: Arc<Notify>,
    /// Notified when a ticket was granted.
    pub granted: Arc<Notify>,
    pub engine: Sender<Vec<Arrival>>,
    pub control: UnboundedSender<Control>,
    pub events: UnboundedSender<StageEvent>,
    pub counters: Arc<Counters>,
}

/// The engine takes nothing more.
struct EngineGone;

/// What one task of the disk has read.
struct ReadGroup {
    reader: Reader,
    entries: Vec<SpoolEntry>,
    failed: Result<()>,
}

impl Feeder {
    pub async fn run(self, position: u64) {
        if self.feed(position).await.is_err() {
            let _ = self.events.send(StageEvent::EngineGone);
        }
    }

    /// Until the spool's writer has ended.
    async fn feed(&self, position: u64) -> Result<(), EngineGone> {
        let mut reader = self.spool.read_from(position);
        let mut readable = self.spool.readable();
        let (mut hurried, mut flushed) = (0, 0);
        loop {
            readable.mark_unchanged();
            let group = self.read_group(reader).await;
            reader = group.reader;
            let found = !group.entries.is_empty();
            let mut arrivals = self.admit(group.entries, reader.position()).await?;
            {
                let state = held(&self.state);
                let through = state.through;
                // Asked for again as the engine gets more: its budget may be less than what is waited for.
                if state.hurry > hurried && through > hurried {
                    arrivals.push(Arrival::Hurry);
                    hurried = through.min(state.hurry);
                }
                if state.flush > flushed && through >= state.flush {
                    arrivals.push(Arrival::Flush {
                        reply: Reply::new(|_| {}),
                    });
                    flushed = state.flush;
                }
            }
            if !arrivals.is_empty() {
                self.engine.send(arrivals).await.map_err(|_| EngineGone)?;
            }
            if let Err(error) = group.failed {
                let _ = self.events.send(StageEvent::Unreadable(error));
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            if found {
                continue;
            }
            tokio::select! {
                changed = readable.changed() => if changed.is_err() { return Ok(()) },
                () = self.wanted.notified() => {}
            }
        }
    }

    async fn read_group(&self, reader: Reader) -> ReadGroup {
        let from = reader.position();
        let group = disk::spawn(move || read(reader)).await;
        // A panic of the reader would be a fault of ours, and takes the reader with it.
        group.unwrap_or_else(|_| {
            let text = "reading the spool panicked; please report this";
            ReadGroup {
                reader: self.spool.read_from(from),
                entries: Vec::new(),
                failed: Err(Error::new(Code::Internal, text).during("spool")),
            }
        })
    }

    /// Waits until there is room for what was read, and makes deliveries of it.
    async fn admit(&self, entries: Vec<SpoolEntry>, through: u64) -> Result<Vec<Arrival>, EngineGone> {
        let mut rows = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry {
                SpoolEntry::Rows(read) => rows.push((charge(&read), read)),
                SpoolEntry::Damage(damage) => {
                    let _ = self.events.send(StageEvent::Damaged(damage));
                }
            }
        }
        let charge: usize = rows.iter().map(|(charge, _)| charge).sum();
        if charge > 0 {
            self.wait_for_room(charge).await?;
        }
        let mut dropped = 0;
        let mut arrivals = Vec::with_capacity(rows.len());
        {
            let mut state = held(&self.state);
            // Of where each of them begins and ends: what lies between has no rows to deliver.
            let mut end = state.through;
            state.through = state.through.max(through);
            for (charge, read) in rows {
                self.skipped(end, read.positions.start);
                end = read.positions.end;
                if state.cancelled.contains(&read.delivery.start) {
                    dropped += charge;
                    continue;
                }
                let fed = FedDelivery {
                    time_ms: read.time_ms,
                    by: match read.positions.start < self.own_from {
                        true => SpooledBy::Earlier,
                        false => SpooledBy::Caller(read.identity),
                    },
                };
                state.fed.insert(read.positions.start, fed);
                arrivals.push(Arrival::Delivery(delivery(read, charge)));
            }
            self.skipped(end, through);
            state.cancelled = state.cancelled.split_off(&through);
        }
        self.counters.arriving.add(arrivals.len());
        if dropped > 0 {
            self.admission.release(dropped);
        }
        Ok(arrivals)
    }

    fn skipped(&self, from: u64, to: u64) {
        if from < to {
            let _ = self.events.send(StageEvent::Skipped(from..to));
        }
    }

    async fn wait_for_room(&self, bytes: usize) -> Result<(), EngineGone> {
        let ticket = match self.admission.request(bytes).map_err(|_| EngineGone)? {
            Admit::Admitted => return Ok(()),
            Admit::Queued(ticket) => ticket,
        };
        // The engine sleeps while rows linger, and would not learn that somebody needs their bytes.
        let _ = self.control.send(Control::Waiting);
        loop {
            self.granted.notified().await;
            // Of one ticket at a time: a grant is of this one, there is none yet, or the engine has ended.
            match self.admission.redeem(ticket, bytes) {
                Ok(_) => return Ok(()),
                Err(error) if error.code() == Code::Closed => return Err(EngineGone),
                Err(_) => {}
            }
        }
    }
}

fn read(mut reader: Reader) -> ReadGroup {
    let mut entries = Vec::new();
    let mut bytes = 0;
    let mut failed = Ok(());
    while entries.len() < GROUP && bytes < GROUP_BYTES {
        match reader.next() {
            Ok(Some(entry)) => {
                if let SpoolEntry::Rows(rows) = &entry {
                    bytes += charge(rows);
                }
                entries.push(entry);
            }
            Ok(None) => break,
            Err(error) => {
                failed = Err(error);
                break;
            }
        }
    }
    ReadGroup {
        reader,
        entries,
        failed,
    }
}

fn charge(rows: &SpoolRows) -> usize {
    rows.bytes.max(FLOOR_BYTES)
}

fn delivery(read: SpoolRows, charge: usize) -> ImportedDelivery {
    let rows: usize = read.batches.iter().map(|batch| batch.num_rows()).sum();
    ImportedDelivery {
        entry: AdmittedDelivery {
            sequence: read.positions.start,
            rows,
            bytes: read.bytes,
            charge,
            admitted: now(),
            handoff: Duration::ZERO,
            buffers_copied_for_pin_limit: 0,
            buffers_realigned: 0,
        },
        payload_digest: None,
        slices: Ok(BatchSlice::of_batches(read.batches, read.bytes).collect()),
        captured: None,
    }
}
