//! A destination in memory that does as it is told, and takes note of what it is asked.
//!
//! What it durably holds is in [`World::held`]. It breaks off wherever the script says so, before or
//! after rows were kept, and complains in [`World::violations`] when the transmitter breaks its side
//! of the contract.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_ingest::destination::{
    Acknowledgement, Acknowledgements, Capabilities, Destination, Opened, Opening, Session, Write,
};
use arrow_ingest::error::{Code, Error, Result};
use arrow_ingest::outcome::{Position, Rejection};
use async_trait::async_trait;
use tokio::time::Instant;

use super::values;

/// What becomes of one call.
#[derive(Debug, Clone)]
pub enum Act {
    Pass,
    /// Takes this long, then does as the next says.
    After(Duration, Box<Act>),
    /// Fails with nothing kept.
    Fail(Error),
    /// Keeps the rows and fails all the same: the answer is lost.
    KeepAndFail(Error),
    /// Keeps and acknowledges so many rows of the write, then does as the next says with the rest.
    Partly(usize, Box<Act>),
    /// Passes, and breaks between calls so much later.
    BreakLater(Duration, Error),
    /// Passes, and says in the same breath that it is broken.
    BreakNow(Error),
    /// Says that all is well and acknowledges nothing.
    Forget,
    Hang,
    Panic,
}

/// When it acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    AtWrite,
    AtFlush,
}

#[derive(Default)]
pub struct World {
    pub opens: VecDeque<Act>,
    pub writes: VecDeque<Act>,
    pub flushes: VecDeque<Act>,
    pub closes: VecDeque<Act>,
    /// Writes that hold one of these fail for good, however often they come.
    pub poison: HashSet<i64>,
    /// Writes that hold one of these fail for good, and the error names the first of them, or all.
    pub faulty: HashSet<i64>,
    pub names_all: bool,
    /// These rows are refused, the others of their write kept.
    pub refused: HashSet<i64>,
    /// Whatever becomes durable together is refused whole, and nothing of it kept, for one of these.
    pub at_fault: HashSet<i64>,
    /// Refusals for rows at fault are said between calls, after so long.
    pub refuses_late: Option<Duration>,
    /// Schemas with a column of this name are refused at `open`.
    pub unwanted: HashSet<String>,
    /// Panics where nobody expects it: when it is asked what it can do.
    pub mad: bool,
    /// Panics when it is asked what it does with a batch, which is while that is imported.
    pub mad_at_import: bool,
    /// So many sessions look for what landed and cannot tell yet.
    pub looks_in_vain: usize,
    /// Flushes unasked so long after the first write.
    pub flush_interval: Option<Duration>,

    /// Rows in the order in which they became durable.
    pub held: Vec<i64>,
    /// How often a row became durable.
    pub times: HashMap<i64, usize>,
    /// Every call, as text, with the time since the beginning.
    pub calls: Vec<(String, Duration)>,
    /// Rows of each write, whatever became of it.
    pub writes_seen: Vec<Vec<i64>>,
    /// Address of the first column's values, for each batch of each write.
    pub pointers: Vec<usize>,
    pub schemas: Vec<SchemaRef>,
    pub resumed_from: Vec<Option<u64>>,
    pub violations: Vec<String>,
    live: usize,
    landed: u64,
    /// Refusals of writes that landed, which nobody was told of.
    unsaid: Vec<(u64, Vec<Rejection>)>,
}

impl World {
    /// The calls of one kind, in full.
    pub fn calls_like(&self, start: &str) -> Vec<String> {
        let names = self.calls.iter().map(|(call, _)| call);
        names.filter(|call| call.starts_with(start)).cloned().collect()
    }

    pub fn times_of(&self, start: &str) -> Vec<Duration> {
        let calls = self.calls.iter().filter(|(call, _)| call.starts_with(start));
        calls.map(|(_, at)| *at).collect()
    }

    fn keep(&mut self, rows: &[i64]) {
        for row in rows {
            self.held.push(*row);
            *self.times.entry(*row).or_default() += 1;
        }
    }
}

pub struct Scripted {
    pub tells_what_landed: bool,
    pub refusals_are_atomic: bool,
    pub renews_credentials: bool,
    pub durable: Durable,
    world: Arc<Mutex<World>>,
    start: Instant,
}

impl Scripted {
    pub fn new(durable: Durable, tells_what_landed: bool) -> Scripted {
        Scripted {
            tells_what_landed,
            refusals_are_atomic: false,
            renews_credentials: true,
            durable,
            world: Arc::default(),
            start: Instant::now(),
        }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn note(&self, call: String) {
        let at = self.start.elapsed();
        self.world().calls.push((call, at));
    }
}

pub fn transient() -> Error {
    Error::new(Code::Unavailable, "gone away")
}

/// What is said of rows at fault.
pub fn refusal() -> Error {
    Error::new(Code::RowsRejected, "some row is not welcome").refused_as("NOT_WELCOME")
}

pub fn never() -> Error {
    Error::new(Code::BatchInvalid, "not like this")
}

#[async_trait]
impl Destination for Scripted {
    fn capabilities(&self) -> Capabilities {
        // The lock is let go of first: a poisoned one would fail the test for another reason.
        let mad = self.world().mad;
        assert!(!mad, "mad");
        Capabilities {
            name: "scripted",
            tells_what_landed: self.tells_what_landed,
            refusals_are_atomic: self.refusals_are_atomic,
            joins: false,
        }
    }

    fn computes_on(&self, _: &Schema) -> bool {
        let mad = self.world().mad_at_import;
        assert!(!mad, "mad");
        false
    }

    fn renews_credentials(&self) -> bool {
        self.renews_credentials
    }

    fn commit_interval(&self) -> Option<Duration> {
        (self.durable == Durable::AtFlush).then(|| self.world().flush_interval.unwrap_or(Duration::ZERO))
    }

    fn expect(&self, _: &SchemaRef) {
        let mad = self.world().mad;
        assert!(!mad, "mad");
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn open(&self, opening: Opening) -> Result<Opened> {
        self.note("open".into());
        let act = {
            let mut world = self.world();
            world.resumed_from.push(opening.resume_from);
            world.opens.pop_front().unwrap_or(Act::Pass)
        };
        let act = wait(act).await;
        if let Act::Fail(error) | Act::KeepAndFail(error) = act {
            return Err(error);
        }
        let name = opening.schema.field(0).name().clone();
        if self.world().unwanted.contains(&name) {
            return Err(Error::new(Code::SchemaMismatch, format!("no column {name}")));
        }
        let mut world = self.world();
        if world.live > 0 {
            world
                .violations
                .push("a session was opened while another lived".into());
        }
        world.live += 1;
        world.schemas.push(opening.schema.clone());
        let mut landed = Vec::new();
        let conclusive = opening.resume_from.is_none() || world.looks_in_vain == 0;
        if !conclusive {
            world.looks_in_vain -= 1;
        }
        if let Some(from) = opening
            .resume_from
            .filter(|_| self.tells_what_landed && conclusive)
        {
            let through = |id| Acknowledgement::Through {
                id,
                position: Position::Version(id),
            };
            for (id, rejections) in std::mem::take(&mut world.unsaid) {
                landed.push(through(id - 1));
                landed.push(Acknowledgement::Refused {
                    id,
                    rejections,
                    position: Position::Version(id),
                });
            }
            landed.extend((world.landed >= from).then(|| through(world.landed)));
        }
        drop(world);
        let session = ScriptedSession {
            durable: self.durable,
            world: self.world.clone(),
            start: self.start,
            schema: opening.schema,
            acknowledgements: opening.acknowledgements,
            buffered: Vec::new(),
            due: None,
            last_id: 0,
            broken: false,
            refused: false,
        };
        session.afterwards(act);
        Ok(Opened {
            session: Box::new(session),
            landed,
            conclusive,
        })
    }
}

struct ScriptedSession {
    durable: Durable,
    world: Arc<Mutex<World>>,
    start: Instant,
    schema: SchemaRef,
    acknowledgements: Acknowledgements,
    /// Id, rows, and how many rows before them were kept already.
    buffered: Vec<(u64, Vec<i64>, usize)>,
    due: Option<Instant>,
    last_id: u64,
    broken: bool,
    /// Said, or about to be said, that rows are at fault: what comes now is not even read.
    refused: bool,
}

impl Drop for ScriptedSession {
    fn drop(&mut self) {
        // A panicking test has poisoned it already.
        if let Ok(mut world) = self.world.lock() {
            world.live -= 1;
        }
    }
}

impl ScriptedSession {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn begin(&mut self, call: String, acts: fn(&mut World) -> &mut VecDeque<Act>) -> Act {
        let at = self.start.elapsed();
        let broken = self.broken;
        let mut world = self.world();
        if broken {
            world.violations.push(format!("{call} after an error"));
        }
        world.calls.push((call, at));
        acts(&mut world).pop_front().unwrap_or(Act::Pass)
    }

    fn fail(&mut self, error: Error) -> Result<()> {
        self.broken = true;
        Err(error)
    }

    /// Rows are durable now; whether that is said is another matter.
    fn keep(&mut self, id: u64, rows: &[i64], done: usize, said: bool) {
        let mut world = self.world();
        let refused: Vec<usize> = (0..rows.len())
            .filter(|row| world.refused.contains(&rows[*row]))
            .collect();
        let kept: Vec<i64> = rows
            .iter()
            .copied()
            .filter(|row| !world.refused.contains(row))
            .collect();
        world.keep(&kept);
        world.landed = id;
        let rejection = |row: usize, done: usize| Rejection {
            row: (done + row) as u64,
            code: "REFUSED".into(),
            message: format!("{} is refused", rows[row]),
        };
        if !said {
            if !refused.is_empty() {
                let rejections = refused.iter().map(|row| rejection(*row, 0)).collect();
                world.unsaid.push((id, rejections));
            }
            return;
        }
        drop(world);
        let position = Position::Version(id);
        self.acknowledgements.send(if refused.is_empty() {
            Acknowledgement::Through { id, position }
        } else {
            Acknowledgement::Refused {
                id,
                rejections: refused.iter().map(|row| rejection(*row, done)).collect(),
                position,
            }
        });
    }

    /// Only a destination that keeps at once knows of parts; elsewhere a later write would become
    /// durable before an earlier one.
    fn keep_part(&mut self, id: u64, rows: &[i64], count: usize) -> usize {
        let mut world = self.world();
        let refused = rows
            .iter()
            .position(|row| world.refused.contains(row) || world.at_fault.contains(row));
        let count = count.min(refused.unwrap_or(rows.len() - 1)).min(rows.len() - 1);
        if self.durable == Durable::AtFlush || self.refused || count == 0 {
            return 0;
        }
        world.keep(&rows[..count]);
        drop(world);
        self.acknowledgements
            .send(Acknowledgement::Partly { id, rows: count });
        count
    }

    fn keep_buffered(&mut self, said: bool) {
        for (id, rows, done) in std::mem::take(&mut self.buffered) {
            self.keep(id, &rows, done, said);
        }
        self.due = None;
    }

    /// Whether something that would become durable now is at fault; then nothing of it is kept.
    fn refuses(&mut self) -> bool {
        let world = self.world();
        let mut rows = self.buffered.iter().flat_map(|(_, rows, _)| rows);
        let at_fault = rows.any(|row| world.at_fault.contains(row));
        drop(world);
        if at_fault {
            self.buffered.clear();
            self.refused = true;
        }
        at_fault
    }

    fn refuse(&mut self) -> Result<()> {
        let Some(delay) = self.world().refuses_late else {
            return self.fail(refusal());
        };
        self.afterwards(Act::BreakLater(delay, refusal()));
        Ok(())
    }

    fn settle(&mut self, act: Act) -> Result<()> {
        if self.refused {
            self.buffered.clear();
            return Ok(());
        }
        if matches!(act, Act::Fail(_) | Act::Forget) {
            // Nothing becomes durable.
        } else if self.refuses() {
            return self.refuse();
        }
        match act {
            Act::Fail(error) => self.fail(error),
            Act::KeepAndFail(error) => {
                self.keep_buffered(false);
                self.fail(error)
            }
            Act::Forget => {
                self.buffered.clear();
                Ok(())
            }
            act => {
                self.keep_buffered(true);
                self.afterwards(act);
                Ok(())
            }
        }
    }

    fn afterwards(&self, act: Act) {
        let acknowledgements = self.acknowledgements.clone();
        match act {
            Act::BreakNow(error) => acknowledgements.send(Acknowledgement::Broken { error }),
            Act::BreakLater(delay, error) => {
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    acknowledgements.send(Acknowledgement::Broken { error });
                });
            }
            _ => {}
        }
    }
}

#[async_trait]
impl Session for ScriptedSession {
    async fn write(&mut self, write: Arc<Write>) -> Result<()> {
        let act = self.begin(format!("write {}", write.id), |world| &mut world.writes);
        let rows: Vec<i64> = write.batches.iter().flat_map(values).collect();
        {
            let mut complaints = Vec::new();
            if write.id <= self.last_id {
                complaints.push(format!("write {} after {}", write.id, self.last_id));
            }
            if write.batches.iter().any(|batch| batch.schema() != self.schema) {
                complaints.push(format!("write {} is not of the session's schema", write.id));
            }
            if rows.is_empty() || rows.len() != write.rows {
                complaints.push(format!("write {} says {} rows", write.id, write.rows));
            }
            let mut world = self.world();
            world.violations.append(&mut complaints);
            world.writes_seen.push(rows.clone());
            world.pointers.extend(write.batches.iter().map(address));
        }
        self.last_id = write.id;
        if write.batches.iter().any(|batch| batch.schema() != self.schema) {
            let error = Error::new(Code::SchemaMismatch, "not of the session's schema");
            return self.fail(error);
        }
        let act = wait(act).await;
        if rows.iter().any(|row| self.world().poison.contains(row)) {
            return self.fail(never());
        }
        let faults = {
            let world = self.world();
            let faulty = (0..rows.len()).filter(|row| world.faulty.contains(&rows[*row]));
            let mut faults: Vec<Error> = faulty.map(|row| never().at_row(row as u64)).collect();
            faults.truncate(if world.names_all { usize::MAX } else { 1 });
            faults
        };
        if !faults.is_empty() {
            let mut faults = faults.into_iter();
            let first = faults.next().unwrap();
            return self.fail(first.with_others(faults.collect()));
        }
        if self.due.is_none() {
            let interval = self.world().flush_interval;
            self.due = interval.map(|interval| Instant::now() + interval);
        }
        let (rows, done, act) = match act {
            Act::Partly(count, next) => {
                let done = self.keep_part(write.id, &rows, count);
                (rows[done..].to_vec(), done, wait(*next).await)
            }
            act => (rows, 0, act),
        };
        match (self.durable, act) {
            (_, Act::Fail(error)) => self.fail(error),
            (Durable::AtWrite, act) => {
                self.buffered.push((write.id, rows, done));
                self.settle(act)
            }
            (Durable::AtFlush, act) => {
                self.buffered.push((write.id, rows, done));
                if let Act::KeepAndFail(error) = act {
                    return self.settle(Act::KeepAndFail(error));
                }
                self.afterwards(act);
                Ok(())
            }
        }
    }

    async fn flush(&mut self) -> Result<()> {
        let act = self.begin("flush".into(), |world| &mut world.flushes);
        let act = wait(act).await;
        self.settle(act)?;
        // Whoever is asked to make all durable must not leave it at that.
        if self.refused {
            self.fail(refusal())
        } else {
            Ok(())
        }
    }

    fn flush_due(&self) -> Option<std::time::Instant> {
        self.due.map(Instant::into_std)
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        let act = self.begin("close".into(), |world| &mut world.closes);
        let act = wait(act).await;
        self.settle(act)?;
        // Whoever is asked to make all durable must not leave it at that.
        if self.refused {
            self.fail(refusal())
        } else {
            Ok(())
        }
    }
}

async fn wait(mut act: Act) -> Act {
    loop {
        match act {
            Act::After(delay, next) => {
                tokio::time::sleep(delay).await;
                act = *next;
            }
            Act::Hang => std::future::pending().await,
            Act::Panic => panic!("as the script says"),
            act => return act,
        }
    }
}

fn address(batch: &RecordBatch) -> usize {
    batch.column(0).to_data().buffers()[0].as_ptr() as usize
}
