//! The stage between intake and engine where a delivery goes to the disk, and from where it is delivered.
//!
//! ```text
//! intake ─► appending ─► spool ─► feeding ─► engine
//!               │                              │
//!               └────────► spooling ◄──────────┘
//! ```
//!
//! What is delivered is what was read back from the disk, of this process or of an earlier one, in the order of the
//! positions. To the engine the sequence of a delivery is the position of its first row; callers keep their numbers.
//!
//! Invariants:
//! - A caller is told that its delivery is durable once, and its outcome once, in this order.
//! - Rows are settled in the spool after the destination has them, or after the disk has them as failed or refused
//!   rows. What neither is true of stays.
//! - An aborted delivery that was not given to the engine never is.
//! - The engine is told that rows have ended which did not land once the disk has that: put aside, and settled in the
//!   log. A destination that keeps positions is given nothing behind them until then.
//! - Memory does not grow with what is on the disk, but for [`CALLER_BYTES`] of the budget for each delivery whose
//!   caller waits.
//!
//! The engine's other stages know no file. This one knows no write and no session.

mod ages;
mod appending;
mod ending;
mod epochs;
mod feeding;
mod moving;
mod recording;
mod starting;
mod view;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;
use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, watch};

use self::ages::Ages;
use self::ending::{SpoolClosing, StageTasks};
use self::feeding::FeedState;
use self::moving::{Move, Moved};
use self::recording::{RECORD_PATIENCE, Recording};
pub use self::starting::{OpenedSpool, StageChannels, open_spool, start};
pub use self::view::{SpoolStats, SpoolView};
use super::admission::Admission;
use super::clock::{LONGEST, now, until};
use super::engine::Control;
use super::intake::Arrival;
use super::rows::EndedRange;
use super::{Event, Fact, FactKind, Log, Observer, Reply, count};
use crate::counters::Counters;
use crate::error::{Code, Error, Result, RetryClass};
use crate::outcome::{AdmittedDelivery, Outcome, Position, Status, Timings};
use crate::spool::{self, Damage, Durable, Spool};

/// What a delivery on the disk takes of the memory budget for as long as its caller waits.
pub const CALLER_BYTES: usize = 2_048;
/// How long the end of a client waits for a disk that does not answer.
const DISK_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at whether a flush is over, while one waits.
const FLUSH_TICK: Duration = Duration::from_millis(10);
const TURN: usize = 1_024;

/// What the parts of the stage tell [`Spooling`].
enum StageEvent {
    Appended(AppendedDelivery),
    /// It is not in the spool, and never will be.
    Refused(AdmittedDelivery, Error),
    /// The same, by its caller, while one before it waits for the disk.
    TakenBack(AdmittedDelivery),
    /// It has no row, so there is nothing to keep.
    Empty(AdmittedDelivery),
    Prepare(SchemaRef, Reply),
    Hurry(u64),
    Flush(u64, Reply),
    Close(Reply),
    /// The intake is gone.
    NothingMore,
    Accepted(Range<u64>),
    Ended(EndedRange),
    Settled(Outcome, bool),
    GivenUp(Outcome),
    /// No row at these positions is delivered: none is there, or all are settled.
    Skipped(Range<u64>),
    Damaged(Damage),
    Unreadable(Error),
    /// The engine takes nothing more, though nobody has closed.
    EngineGone,
}

struct AppendedDelivery {
    entry: AdmittedDelivery,
    positions: Range<u64>,
    durable: Durable,
    /// Its memory was written to between the handoff and the copy on the disk.
    changed: bool,
}

/// Somebody who waits for the outcome of a delivery.
struct Caller {
    entry: AdmittedDelivery,
    positions: Range<u64>,
    durable: bool,
    /// Waits no longer than until it is durable.
    leaves: bool,
}

/// The memory of somebody's abort, before the delivery is in the spool.
#[derive(Default)]
struct Early {
    aborted: BTreeSet<u64>,
    left: BTreeSet<u64>,
    /// Told of each: the delivery may be one that waits for room.
    news: Arc<Notify>,
}

impl Early {
    /// The first of those that are not to come into the spool, from a sequence on.
    fn taken_back_from(&self, sequence: u64, also_left: bool, most: usize) -> Vec<u64> {
        let left = also_left
            .then(|| self.left.range(sequence..))
            .into_iter()
            .flatten();
        let mut first: Vec<u64> = self.aborted.range(sequence..).take(most).copied().collect();
        first.extend(left.take(most));
        first.sort_unstable();
        first.dedup();
        first.truncate(most);
        first
    }

    /// A delivery is in the spool, or has its end: whether it was aborted, and whether its caller has left. It is
    /// forgotten then, and so is what came too late of those before it.
    fn pass(&mut self, sequence: u64) -> (bool, bool) {
        let [aborted, left] = [&mut self.aborted, &mut self.left].map(|early| {
            let has = early.contains(&sequence);
            while early.first().is_some_and(|first| *first <= sequence) {
                early.pop_first();
            }
            has
        });
        (aborted, left)
    }

    /// Whether a delivery is not to come into the spool. Asked once: it is forgotten then.
    fn is_taken_back(&mut self, sequence: u64, also_left: bool) -> bool {
        self.aborted.remove(&sequence) || also_left && self.left.remove(&sequence)
    }
}

/// A delivery that was taken back.
struct CancelledDelivery {
    position: u64,
    outcome: Outcome,
    /// The engine was told that it ends, and not that this is recorded.
    held: bool,
    result: Result<()>,
}

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

struct Spooling {
    spool: Arc<Spool>,
    /// Rows below are an earlier client's.
    own_from: u64,
    /// They are settled, and that was told.
    replayed: bool,
    /// Of rows below, it is known who waits for them: nobody, if they are an earlier process'.
    appended_through: u64,
    /// By the position of their first row.
    callers: BTreeMap<u64, Caller>,
    by_sequence: HashMap<u64, u64>,
    /// Outcomes that came before word of their delivery's place.
    unmatched: HashMap<u64, (Outcome, bool)>,
    /// Deliveries that are taken back, until the disk has that.
    cancelling: HashSet<u64>,
    early: Arc<Mutex<Early>>,
    /// The last delivery that came as far as the disk.
    last_sequence: u64,
    front: Arc<Admission>,
    behind: Arc<Admission>,
    feed: Arc<Mutex<FeedState>>,
    /// Tells the appender to refuse what is not in the spool.
    stop: watch::Sender<bool>,
    /// Tells the feeder that there is something new in `feed` or on the disk.
    wanted: Arc<Notify>,
    flushes: VecDeque<(u64, Reply)>,
    durables: FuturesUnordered<Task<(u64, Result<()>)>>,
    /// Cancelled deliveries, told once that is durable.
    cancels: FuturesUnordered<Task<CancelledDelivery>>,
    recording: Recording,
    ages: Arc<Mutex<Ages>>,
    closing: Option<SpoolClosing>,
    engine: Option<Sender<Vec<Arrival>>>,
    engine_control: UnboundedSender<Control>,
    counters: Arc<Counters>,
    observer: Observer,
    finished: bool,
}

impl Spooling {
    async fn run(
        mut self,
        mut inbox: UnboundedReceiver<StageEvent>,
        mut control: UnboundedReceiver<Control>,
        ends: StageTasks,
    ) {
        let mut turn = Vec::with_capacity(TURN);
        while !self.finished {
            let wake = self.wake_at();
            tokio::select! {
                biased;
                Some(control) = control.recv() => self.on_control(control),
                Some((position, result)) = self.durables.next(), if !self.durables.is_empty() => {
                    self.on_durable(position, result);
                }
                Some(cancelled) = self.cancels.next(), if !self.cancels.is_empty() => {
                    self.on_cancelled(cancelled);
                }
                moved = self.recording.moved() => self.on_moved(moved),
                count = inbox.recv_many(&mut turn, TURN) => {
                    if count == 0 {
                        break;
                    }
                    self.on_events(&mut turn);
                }
                () = until(wake) => {}
            }
            self.advance();
        }
        self.end(inbox, ends).await;
    }

    // ---- what happens -------------------------------------------------------------------------

    fn on_events(&mut self, turn: &mut Vec<StageEvent>) {
        // One settling for neighbours: thousands of small deliveries are accepted in one acknowledgement.
        let mut accepted: Option<Range<u64>> = None;
        for event in turn.drain(..) {
            if let StageEvent::Accepted(range) = event {
                match &mut accepted {
                    Some(before) if before.end == range.start => before.end = range.end,
                    _ => {
                        if let Some(before) = accepted.replace(range) {
                            self.spool.settle(before);
                        }
                    }
                }
                continue;
            }
            self.on_event(event);
        }
        if let Some(range) = accepted {
            self.spool.settle(range);
        }
    }

    fn on_event(&mut self, event: StageEvent) {
        match event {
            StageEvent::Appended(appended) => self.on_appended(appended),
            StageEvent::Refused(entry, error) => self.end_unspooled(&entry, Status::Failed, Some(error)),
            // Those before it are still to come: it says nothing of how far the disk is.
            StageEvent::TakenBack(entry) => {
                self.publish(ended(&entry, Status::Failed, Some(aborted_error())), entry.charge);
            }
            StageEvent::Empty(entry) => self.end_unspooled(&entry, Status::Acknowledged, None),
            StageEvent::Prepare(schema, reply) => self.prepare(schema, reply),
            StageEvent::Hurry(through) => self.order(|feed| feed.hurry = feed.hurry.max(through)),
            StageEvent::Flush(through, reply) => {
                self.flushes.push_back((through, reply));
                self.order(|feed| feed.flush = feed.flush.max(through));
            }
            StageEvent::Close(reply) => {
                let closing = self.close_by(LONGEST);
                closing.arrived = true;
                closing.replies.push(reply);
                let through = self.spool.next_position();
                self.order(|feed| feed.flush = feed.flush.max(through));
            }
            StageEvent::NothingMore => {
                self.close_by(Duration::ZERO).arrived = true;
            }
            StageEvent::Accepted(range) => self.spool.settle(range),
            StageEvent::Ended(ended) => self.recording.add(Move::Rows(ended)),
            StageEvent::Settled(outcome, told) => self.on_settled(outcome, told),
            StageEvent::GivenUp(outcome) => {
                if let Some(caller) = self.release(outcome.sequence) {
                    self.tell(&caller, outcome);
                }
            }
            StageEvent::Skipped(positions) => self.on_skipped(positions),
            StageEvent::EngineGone => self.on_engine_gone(),
            StageEvent::Damaged(damage) => self.on_damage(&damage),
            StageEvent::Unreadable(error) => {
                self.warn(
                    "the spool cannot be read; it is tried again",
                    json!({ "error": error.to_json() }),
                );
            }
        }
    }

    fn on_appended(&mut self, appended: AppendedDelivery) {
        let AppendedDelivery {
            entry,
            positions,
            durable,
            changed,
        } = appended;
        let (sequence, position) = (entry.sequence, positions.start);
        self.last_sequence = sequence;
        self.appended_through = positions.end;
        held(&self.ages).note(position, now(), spool::now_ms());
        self.counters.rows_admitted.add(entry.rows);
        self.counters.buffers_realigned.add(entry.buffers_realigned);
        self.counters
            .buffers_copied_for_pin_limit
            .add(entry.buffers_copied_for_pin_limit);
        let (aborted, leaves) = held(&self.early).pass(sequence);
        self.by_sequence.insert(sequence, position);
        self.callers.insert(
            position,
            Caller {
                entry,
                positions,
                durable: false,
                leaves,
            },
        );
        self.durables
            .push(Box::pin(async move { (position, durable.await) }));
        if let Some((outcome, told)) = self.unmatched.remove(&position) {
            self.on_settled(outcome, told);
        } else if changed {
            let text = "the memory of this batch was written to between handoff and the copy on the disk";
            let error = Error::new(Code::PayloadChanged, text).during("send");
            self.cancel(position, error);
        } else if aborted {
            self.cancel(position, aborted_error());
        }
    }

    fn on_durable(&mut self, position: u64, result: Result<()>) {
        match result {
            Ok(()) => self.durable(position),
            // It was taken back before it was written, and whoever did that tells why.
            Err(error) if error.code() == Code::Aborted && self.cancelling.contains(&position) => {}
            Err(error) => {
                if let Some(caller) = self.release(position) {
                    // What may be found by a later opening has not failed.
                    let status = match error.is_ambiguous() {
                        true => Status::Unknown,
                        false => Status::Failed,
                    };
                    let outcome = ended(&caller.entry, status, Some(error));
                    self.tell(&caller, outcome);
                }
            }
        }
        // What was written may be read once it is synced, and somebody has to ask for that.
        self.wanted.notify_one();
    }

    /// The caller's delivery is on the disk: only a trace of it is left in memory.
    fn durable(&mut self, position: u64) {
        let Some(caller) = self.callers.get_mut(&position) else {
            return;
        };
        if std::mem::replace(&mut caller.durable, true) {
            return;
        }
        let (sequence, leaves) = (caller.entry.sequence, caller.leaves);
        let freed = caller.entry.charge.saturating_sub(CALLER_BYTES);
        caller.entry.charge -= freed;
        (self.observer)(Event::Spooled(sequence));
        self.give_back(freed);
        if leaves {
            self.leave(position);
        }
    }

    fn on_settled(&mut self, outcome: Outcome, told: bool) {
        let position = outcome.sequence;
        if position >= self.appended_through {
            self.unmatched.insert(position, (outcome, told));
            return;
        }
        // It was read from the disk.
        self.durable(position);
        held(&self.feed).forget(position);
        let rows = position..position + outcome.rows as u64;
        match outcome.status {
            Status::Spooled => self.conclude(outcome, told),
            Status::Acknowledged => {
                self.spool.settle(rows);
                self.conclude(outcome, told);
            }
            // One that its caller has left may hold rows that were refused since: they are put aside.
            Status::Failed | Status::Unknown | Status::Partial if is_abort(&outcome) && !told => {
                self.cancel_in_log(rows, outcome, false);
            }
            Status::Failed | Status::Unknown | Status::Partial => {
                self.recording.add(Move::Delivery(outcome, told));
            }
        }
    }

    fn on_moved(&mut self, moved: Moved) {
        let moves = match self.recording.finish(moved) {
            Ok(moves) => moves,
            Err(error) => {
                return self.warn(
                    "rows that the destination refused cannot be put aside; it is tried again",
                    json!({ "error": error.to_json() }),
                );
            }
        };
        let mut recorded = 0;
        for moved in moves {
            match moved {
                Move::Rows(_) => recorded += 1,
                Move::Delivery(outcome, told) => {
                    self.spool
                        .settle(outcome.sequence..outcome.sequence + outcome.rows as u64);
                    self.conclude(outcome, told);
                }
            }
        }
        self.recording.recorded(recorded);
    }

    fn cancel_in_log(&mut self, rows: Range<u64>, outcome: Outcome, held: bool) {
        let position = rows.start;
        if held {
            self.recording.cancel();
        }
        let durable = self.spool.cancel(rows);
        self.cancelling.insert(position);
        self.cancels.push(Box::pin(async move {
            CancelledDelivery {
                position,
                outcome,
                held,
                result: durable.await,
            }
        }));
    }

    fn on_cancelled(&mut self, cancelled: CancelledDelivery) {
        let CancelledDelivery {
            position,
            mut outcome,
            held,
            result,
        } = cancelled;
        if let Err(error) = result {
            // Nobody knows whether the next process finds it.
            outcome.status = Status::Unknown;
            outcome.error = Some(error.ambiguous());
        }
        if held {
            self.recording.cancelled();
        }
        self.cancelling.remove(&position);
        if let Some(caller) = self.release(position) {
            self.tell(&caller, outcome);
        }
    }

    /// Callers of deliveries that the disk has lost: a sync failed after they were told that they were written, or bytes
    /// cannot be read.
    fn on_skipped(&mut self, positions: Range<u64>) {
        let lost: Vec<u64> = self
            .callers
            .range(positions)
            .map(|(position, _)| *position)
            .collect();
        for position in lost {
            if self.cancelling.contains(&position) {
                continue;
            }
            if let Some(caller) = self.release(position) {
                let text = "the disk has lost this delivery before it was sent";
                let error = Error::new(Code::SpoolFailed, text).during("spool");
                let outcome = ended(&caller.entry, Status::Failed, Some(error));
                self.tell(&caller, outcome);
            }
        }
    }

    /// After a fault of ours nothing is delivered any more. What is on the disk stays there.
    fn on_engine_gone(&mut self) {
        for ticket in self.front.close() {
            (self.observer)(Event::Granted(ticket));
        }
        let waiting: Vec<u64> = self.callers.keys().copied().collect();
        for position in waiting {
            self.leave(position);
        }
    }

    fn on_damage(&mut self, damage: &Damage) {
        self.counters.spool_damaged_bytes.add(damage.bytes as usize);
        self.warn(
            "a part of the spool cannot be read, and was set aside: what it held is not delivered",
            json!({
                "segment": damage.segment.display().to_string(),
                "offset": damage.offset,
                "bytes": damage.bytes,
                "setAside": damage.set_aside.as_ref().map(|path| path.display().to_string()),
                "reason": damage.reason,
            }),
        );
    }

    fn on_control(&mut self, control: Control) {
        match control {
            Control::Abort(sequence) => self.abort(sequence),
            Control::Leave(sequence) => match self.by_sequence.get(&sequence).copied() {
                Some(position) => self.leave(position),
                None if sequence <= self.last_sequence => {}
                None => {
                    let mut early = held(&self.early);
                    early.left.insert(sequence);
                    early.news.notify_one();
                }
            },
            Control::CloseBy(deadline) => {
                self.close_by(deadline);
                let _ = self.engine_control.send(Control::CloseBy(deadline));
            }
            Control::KeepRefused {
                sequence,
                rows,
                reply,
            } => self.recording.mover.keep_refused(sequence, rows, reply),
            // Only the disk frees what callers wait for, and it is not told to.
            Control::Waiting
            | Control::EndedElsewhere
            | Control::Recorded(_)
            | Control::CannotRecord
            | Control::CanRecord => {}
        }
    }

    /// The caller does not want it delivered any more.
    fn abort(&mut self, sequence: u64) {
        match self.by_sequence.get(&sequence).copied() {
            Some(position) => self.cancel(position, aborted_error()),
            // It has its outcome.
            None if sequence <= self.last_sequence => {}
            None => {
                let mut early = held(&self.early);
                early.aborted.insert(sequence);
                early.news.notify_one();
            }
        }
    }

    /// Takes a delivery out of the spool, or out of the engine, if that has it.
    fn cancel(&mut self, position: u64, error: Error) {
        let Some(caller) = self.callers.get(&position) else {
            return;
        };
        let fed = {
            let mut feed = held(&self.feed);
            let fed = position < feed.through;
            if !fed {
                // Before the feeder passes it: the engine must not send what comes behind it as if it had landed.
                let _ = self.engine_control.send(Control::EndedElsewhere);
                feed.cancelled.insert(position);
            }
            fed
        };
        if fed {
            let _ = self.engine_control.send(Control::Abort(position));
            return;
        }
        let outcome = ended(&caller.entry, Status::Failed, Some(error));
        let rows = caller.positions.clone();
        self.cancel_in_log(rows, outcome, true);
    }

    /// The caller waits no longer, and the delivery goes on.
    fn leave(&mut self, position: u64) {
        let Some(caller) = self.callers.get_mut(&position) else {
            return;
        };
        if !caller.durable {
            caller.leaves = true;
            return;
        }
        if let Some(caller) = self.release(position) {
            let outcome = ended(&caller.entry, Status::Spooled, None);
            self.tell(&caller, outcome);
        }
    }

    fn prepare(&self, schema: SchemaRef, reply: Reply) {
        let Some(engine) = self.engine.clone() else {
            return;
        };
        // A destination that is away is no reason not to take rows for it.
        let answer = Reply::new(move |result| match result {
            Err(error) if error.retry_class() != RetryClass::Never => reply.answer(Ok(())),
            result => reply.answer(result),
        });
        tokio::spawn(async move {
            let _ = engine
                .send(vec![Arrival::Prepare {
                    schema,
                    reply: answer,
                }])
                .await;
        });
    }

    // ---- what can be done ---------------------------------------------------------------------

    fn advance(&mut self) {
        self.recording.move_next();
        if self.recording.give_up() {
            self.warn(
                "the disk takes no refused rows; delivering goes on, and if the process is killed before it does, \
                 the next one takes them for delivered",
                json!({ "waitedSeconds": RECORD_PATIENCE.as_secs() }),
            );
        }
        if !self.replayed && self.spool.settled_through() >= self.own_from {
            self.replayed = true;
            (self.observer)(Event::Fact(Box::new(Fact::now(FactKind::Replayed))));
        }
        if !self.flushes.is_empty() {
            let through = self.spool.settled_through();
            while let Some((_, reply)) = self.flushes.pop_front_if(|(barrier, _)| *barrier <= through) {
                reply.answer(Ok(()));
            }
        }
        if let Some(closing) = &self.closing {
            let all_done = closing.arrived
                && !self.recording.is_moving()
                && self.cancels.is_empty()
                && self.spool.settled_through() >= self.spool.next_position();
            let now = now();
            if closing.deadline <= now {
                let _ = self.stop.send(true);
            }
            // Whoever closes is answered behind all that came before it.
            let is_late = closing.arrived || closing.deadline + DISK_PATIENCE <= now;
            self.finished = all_done || closing.deadline <= now && is_late;
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let waits = !self.flushes.is_empty() || self.closing.is_some();
        let tick = waits.then(|| now() + FLUSH_TICK);
        let deadline = self.closing.as_ref().map(|closing| closing.deadline);
        [tick, deadline, self.recording.due()].into_iter().flatten().min()
    }

    fn order(&mut self, change: impl FnOnce(&mut FeedState)) {
        change(&mut held(&self.feed));
        self.wanted.notify_one();
    }

    /// The outcome of a delivery that is settled, or stays.
    fn conclude(&mut self, outcome: Outcome, told: bool) {
        let position = outcome.sequence;
        match self.release(position) {
            Some(caller) => self.tell(&caller, outcome),
            // What stays is told of when it ends.
            None if told || outcome.status == Status::Spooled => {}
            None => {
                count(&self.counters, &outcome);
                (self.observer)(Event::Recovered(Box::new(outcome)));
            }
        }
    }

    fn release(&mut self, position: u64) -> Option<Caller> {
        let caller = self.callers.remove(&position)?;
        self.by_sequence.remove(&caller.entry.sequence);
        Some(caller)
    }

    fn tell(&mut self, caller: &Caller, mut outcome: Outcome) {
        let entry = &caller.entry;
        outcome.sequence = entry.sequence;
        outcome.bytes = entry.bytes;
        outcome.buffers_copied_for_pin_limit = entry.buffers_copied_for_pin_limit;
        outcome.buffers_realigned = entry.buffers_realigned;
        let latency = now().saturating_duration_since(entry.admitted);
        let timings = &mut outcome.timings;
        timings.handoff = entry.handoff;
        timings.latency = latency;
        timings.queue = latency.saturating_sub(timings.transmit + timings.acknowledge);
        self.publish(outcome, entry.charge);
    }

    /// Of a delivery that never came to the spool.
    fn end_unspooled(&mut self, entry: &AdmittedDelivery, status: Status, error: Option<Error>) {
        self.last_sequence = entry.sequence;
        held(&self.early).pass(entry.sequence);
        self.publish(ended(entry, status, error), entry.charge);
    }

    fn publish(&mut self, outcome: Outcome, charge: usize) {
        self.counters.unsettled.sub(1);
        count(&self.counters, &outcome);
        (self.observer)(Event::Settled(Box::new(outcome)));
        self.give_back(charge);
    }

    fn give_back(&self, bytes: usize) {
        for ticket in self.front.release(bytes) {
            (self.observer)(Event::Granted(ticket));
        }
    }

    fn warn(&self, message: &str, fields: serde_json::Value) {
        (self.observer)(Event::Log(Log {
            level: "warn",
            message: message.to_string(),
            fields,
        }));
    }
}

/// An outcome that no destination has to do with.
fn ended(entry: &AdmittedDelivery, status: Status, error: Option<Error>) -> Outcome {
    let latency = now().saturating_duration_since(entry.admitted);
    Outcome {
        sequence: entry.sequence,
        status,
        rows: entry.rows,
        accepted_rows: 0,
        rejections: Vec::new(),
        attempts: 0,
        retries: 0,
        writes: 0,
        bytes: entry.bytes,
        buffers_copied_for_pin_limit: entry.buffers_copied_for_pin_limit,
        buffers_realigned: entry.buffers_realigned,
        payload_changed: error
            .as_ref()
            .is_some_and(|error| error.code() == Code::PayloadChanged),
        position: Position::None,
        timings: Timings {
            handoff: entry.handoff,
            queue: latency,
            latency,
            ..Timings::default()
        },
        error,
    }
}

fn is_abort(outcome: &Outcome) -> bool {
    outcome
        .error
        .as_ref()
        .is_some_and(|error| error.code() == Code::Aborted)
}

fn aborted_error() -> Error {
    Error::new(Code::Aborted, "the send was aborted").during("send")
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is done under these locks does not panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
