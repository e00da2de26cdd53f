//! what was on the disk is delivered, whatever happens to process, power and destination in between.
//! Lives of a transmitter on one disk, one after the other, against a destination that fails, forgets answers, refuses
//! and goes away; the disk fails and is full meanwhile. `SPOOL_LIVES` says how many disks (`npm run torture`), `SPOOL_SEED` the first of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, Schema};
use arrow::ipc::reader::FileReader;
use arrow_ingest::destination::{
    Acknowledgement, Acknowledgements, Capabilities, Destination, Epochs, Opened, Opening, Session, Write,
};
use arrow_ingest::error::{Code, Error, Result};
use arrow_ingest::file_system::{Disk, RealDisk};
use arrow_ingest::outcome::{Outcome, Position, Rejection, Status};
use arrow_ingest::spool::{Durability, Recovered, Spool, SpoolOptions};
use arrow_ingest::transmitter::OpenedSpool;
use async_trait::async_trait;
use futures::StreamExt;
use serde_json::json;

use crate::simulated::{Call, EIO, Simulated};
use crate::transmitting::rig::{Rig, eventually};
use crate::transmitting::{batch, schema, values};

/// A delivery with such a row fails whole.
pub const POISON: i64 = 49;
/// Such a row is refused alone.
pub const REFUSED: i64 = 23;

/// What the destination has, over all lives.
#[derive(Default)]
pub struct Shelf {
    pub rows: Vec<i64>,
    /// The position of the log up to which it has everything.
    through: u64,
    epoch: Option<u64>,
    /// Answers that were lost: how the writes ended that they were of.
    untold: BTreeMap<u64, Vec<Rejection>>,
    /// Calls to come that fail, and how.
    pub moods: Vec<Mood>,
    pub is_away: bool,
    /// Panics when it is asked what it can do, which ends the engine.
    pub is_mad: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Mood {
    Away,
    Forbidden,
    /// The rows are kept and the answer is lost.
    LostAnswer,
    /// The same of the writes before this one, which does not come.
    TornOff,
    Graceful,
}

struct Keeper {
    shelf: Arc<Mutex<Shelf>>,
    /// The process that talks to it still lives.
    lives: Arc<AtomicBool>,
    /// It keeps the producer's position with the rows.
    exact: bool,
}

struct KeeperSession {
    shelf: Arc<Mutex<Shelf>>,
    lives: Arc<AtomicBool>,
    known: u64,
    epoch: Option<u64>,
    pending: Vec<Arc<Write>>,
    since: Option<Instant>,
    acknowledgements: Acknowledgements,
}

pub fn shelf_of(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap()
}

fn is(lives: &AtomicBool) -> Result<()> {
    match lives.load(Ordering::SeqCst) {
        true => Ok(()),
        false => Err(Error::new(Code::Unavailable, "the process was killed").ambiguous()),
    }
}

fn mood(shelf: &mut Shelf) -> Result<Option<Mood>> {
    if shelf.is_away {
        return Err(Error::new(Code::Unavailable, "away"));
    }
    match shelf.moods.pop() {
        Some(Mood::Away) => Err(Error::new(Code::Unavailable, "gone for a moment")),
        Some(Mood::Forbidden) => Err(Error::new(Code::PermissionDenied, "revoked")),
        Some(Mood::Graceful) => Err(Error::new(Code::Unavailable, "please rotate").graceful()),
        mood => Ok(mood),
    }
}

#[async_trait]
impl Destination for Keeper {
    fn capabilities(&self) -> Capabilities {
        let is_mad = shelf_of(&self.shelf).is_mad;
        assert!(!is_mad, "mad");
        Capabilities {
            name: "keeper",
            tells_what_landed: self.exact,
            refusals_are_atomic: false,
            joins: false,
        }
    }

    fn computes_on(&self, _: &Schema) -> bool {
        true
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    fn commit_interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(2))
    }

    async fn open(&self, opening: Opening) -> Result<Opened> {
        is(&self.lives)?;
        let (known, found, landed) = {
            let mut shelf = shelf_of(&self.shelf);
            mood(&mut shelf)?;
            // What an earlier process was not told nobody asks for.
            if opening.resume_from == Some(0) {
                shelf.untold.clear();
            }
            let untold = opening.resume_from.filter(|_| self.exact).map(|first| {
                let untold = shelf.untold.range(first..);
                untold.map(|(id, rejections)| answer(*id, rejections.clone()))
            });
            let landed: Vec<Acknowledgement> = untold.into_iter().flatten().collect();
            (shelf.through, shelf.epoch, landed)
        };
        let epochs: Arc<dyn Epochs> = opening.epochs.expect("a spool has epochs");
        let epoch = match self.exact {
            true => Some(epochs.confirm(found).await?),
            false => None,
        };
        let session = KeeperSession {
            shelf: Arc::clone(&self.shelf),
            lives: Arc::clone(&self.lives),
            known: if self.exact { known } else { 0 },
            epoch,
            pending: Vec::new(),
            since: None,
            acknowledgements: opening.acknowledgements,
        };
        Ok(Opened {
            session: Box::new(session),
            landed,
            conclusive: true,
        })
    }
}

fn answer(id: u64, rejections: Vec<Rejection>) -> Acknowledgement {
    let position = Position::None;
    match rejections.is_empty() {
        true => Acknowledgement::Through { id, position },
        false => Acknowledgement::Refused {
            id,
            rejections,
            position,
        },
    }
}

fn rows_of(write: &Write) -> Vec<i64> {
    write.batches.iter().flat_map(values).collect()
}

#[async_trait]
impl Session for KeeperSession {
    async fn write(&mut self, write: Arc<Write>) -> Result<()> {
        {
            let mut shelf = shelf_of(&self.shelf);
            is(&self.lives)?;
            if let Some(Mood::TornOff) = mood(&mut shelf)? {
                let writes = std::mem::take(&mut self.pending);
                let answers = self.land(&mut shelf, &writes);
                shelf.untold.extend(answers);
                return Err(Error::new(Code::Unavailable, "it did not come").ambiguous());
            }
        }
        let rows = rows_of(&write);
        assert_eq!(rows.len(), write.rows);
        let positions: u64 = write.positions.iter().map(|range| range.end - range.start).sum();
        assert_eq!(positions as usize, write.rows, "a write whose rows have no place");
        // What it has already it does not look at.
        let mut new = rows.iter().enumerate().skip(write.rows_below(self.known));
        if let Some((row, _)) = new.find(|(_, value)| *value % 100 == POISON) {
            return Err(Error::new(Code::RowsRejected, "poison").at_row(row as u64));
        }
        self.pending.push(write);
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn flush_due(&self) -> Option<Instant> {
        self.since.map(|since| since + Duration::from_millis(2))
    }

    async fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let writes = std::mem::take(&mut self.pending);
        self.since = None;
        let answers = {
            let mut shelf = shelf_of(&self.shelf);
            // Under the lock: whoever kills looks at the disk after it.
            is(&self.lives)?;
            let mood = mood(&mut shelf)?;
            let answers = self.land(&mut shelf, &writes);
            if let Some(Mood::LostAnswer | Mood::TornOff) = mood {
                shelf.untold.extend(answers);
                return Err(Error::new(Code::Unavailable, "the answer was lost").ambiguous());
            }
            answers
        };
        for (id, rejections) in answers {
            self.acknowledgements.send(answer(id, rejections));
        }
        Ok(())
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        self.flush().await
    }
}

impl KeeperSession {
    /// The rows are there. Says how each of the writes ended.
    fn land(&self, shelf: &mut Shelf, writes: &[Arc<Write>]) -> Vec<(u64, Vec<Rejection>)> {
        let mut answers = Vec::new();
        for write in writes {
            let below = write.rows_below(self.known);
            let mut rejections = Vec::new();
            for (row, value) in rows_of(write).into_iter().enumerate() {
                if value % 100 == REFUSED {
                    rejections.push(Rejection {
                        row: row as u64,
                        code: "NO".into(),
                        message: "not this one".into(),
                    });
                } else if row >= below {
                    shelf.rows.push(value);
                }
            }
            shelf.through = shelf.through.max(write.id);
            answers.push((write.id, rejections));
        }
        shelf.epoch = self.epoch.or(shelf.epoch);
        answers
    }
}

/// What a caller was promised of a delivery.
#[derive(Debug, Default, Clone)]
struct Promise {
    values: Vec<i64>,
    /// Told that it is durable, in a life that ended in a way which `durable` outlives.
    durable: bool,
    aborted: bool,
    outcome: Option<(Status, usize)>,
}

pub struct Story {
    pub disk: Simulated,
    home: PathBuf,
    pub shelf: Arc<Mutex<Shelf>>,
    pub exact: bool,
    pub durability: Durability,
    pub max_bytes: Option<u64>,
    dice: fastrand::Rng,
    next: i64,
    promises: Vec<Promise>,
}

pub struct Life {
    pub rig: Rig,
    lives: Arc<AtomicBool>,
    /// Promises by the number of the delivery.
    own: HashMap<u64, usize>,
}

impl Story {
    pub fn new(seed: u64, home: &Path) -> Story {
        let mut dice = fastrand::Rng::with_seed(seed);
        Story {
            disk: Simulated::with(&[&home.to_string_lossy()]),
            home: home.into(),
            shelf: Arc::default(),
            exact: dice.bool(),
            durability: if dice.u8(..4) == 0 {
                Durability::Written
            } else {
                Durability::Synced
            },
            max_bytes: None,
            dice,
            next: 0,
            promises: Vec::new(),
        }
    }

    pub async fn begin(&mut self) -> Life {
        self.mend_disk();
        let disk = self.disk.clone();
        self.begin_on(Arc::new(disk), self.home.clone()).await
    }

    async fn begin_on(&mut self, disk: Arc<dyn Disk>, home: PathBuf) -> Life {
        let options = SpoolOptions {
            durability: self.durability,
            max_bytes: self.max_bytes,
            segment_bytes: 1 << 14,
            ..SpoolOptions::new(home, "discard:")
        };
        let (spool, recovered): (Spool, Recovered) =
            tokio::task::spawn_blocking(move || Spool::open(disk, &options))
                .await
                .unwrap()
                .unwrap();
        let lives = Arc::new(AtomicBool::new(true));
        let keeper = Keeper {
            shelf: Arc::clone(&self.shelf),
            lives: Arc::clone(&lives),
            exact: self.exact,
        };
        let opened = OpenedSpool {
            spool,
            recovered,
            dead_letter: None,
        };
        let options = json!({
            "batching": { "maxRows": 64, "linger": "1ms" },
            "retry": { "baseDelay": "1ms", "maxDelay": "4ms" },
            "inflight": { "maxBytes": "64KiB" },
        });
        Life {
            rig: Rig::spooled(Arc::new(keeper), options, opened),
            lives,
            own: HashMap::new(),
        }
    }

    fn mend_disk(&self) {
        self.disk.heal();
        self.disk.holds(None);
    }

    async fn act(&mut self, life: &mut Life) {
        match self.dice.u8(..25) {
            0..9 => {
                for _ in 0..self.dice.usize(1..6) {
                    let rows = if self.dice.u8(..10) == 0 {
                        self.dice.i64(60..200)
                    } else {
                        self.dice.i64(1..12)
                    };
                    let batch = batch(&schema("n"), self.next..self.next + rows);
                    self.next += rows;
                    let Ok(sequence) = life.rig.send_waiting(&batch).await else {
                        return;
                    };
                    life.own.insert(sequence, self.promises.len());
                    self.promises.push(Promise {
                        values: values(&batch),
                        ..Promise::default()
                    });
                }
            }
            9..12 => {
                let moods = [
                    Mood::Away,
                    Mood::Forbidden,
                    Mood::LostAnswer,
                    Mood::LostAnswer,
                    Mood::Graceful,
                ];
                let mood = moods[self.dice.usize(..moods.len())];
                shelf_of(&self.shelf).moods.push(mood);
            }
            12 => shelf_of(&self.shelf).is_away = true,
            13 | 14 => shelf_of(&self.shelf).is_away = false,
            15 => {
                let Some(sequence) = life.own.keys().copied().max() else {
                    return;
                };
                self.promises[life.own[&sequence]].aborted = true;
                life.rig.transmitter.abort(sequence);
            }
            16 => life.rig.transmitter.hurry(),
            20 => {
                let mut own: Vec<u64> = life.own.keys().copied().collect();
                own.sort_unstable();
                if let Some(sequence) = self.dice.choice(own) {
                    life.rig.transmitter.leave(sequence);
                }
            }
            17 => {
                let calls = [
                    Call::Write,
                    Call::Create,
                    Call::Read,
                    Call::Sync,
                    Call::SyncDirectory,
                ];
                // What a failed sync has lost no later sync brings back. With "written" nobody was told, and the power
                // may go in a later life: the log's model knows which rows that takes.
                let count = match self.durability {
                    Durability::Synced => calls.len(),
                    Durability::Written => 3,
                };
                let call = calls[self.dice.usize(..count)];
                let (nth, times) = (self.dice.usize(..4), self.dice.usize(1..3));
                self.disk.fail(call, nth, times, EIO);
            }
            18 => {
                let room = self.disk.used() + self.dice.usize(..8_000);
                match self.dice.bool() {
                    true => self.disk.holds(Some(room)),
                    false => self.disk.allows(Some(room)),
                }
            }
            19 => self.mend_disk(),
            _ => tokio::time::sleep(Duration::from_millis(self.dice.u64(0..6))).await,
        }
    }

    /// Notes what the callers of a life were told by now.
    fn note(&mut self, life: &Life, outlives: bool) {
        let heard = life.rig.heard();
        let spooled: BTreeSet<u64> = heard.spooled.iter().copied().collect();
        let outcomes: BTreeMap<u64, &Outcome> = heard
            .outcomes
            .iter()
            .map(|outcome| (outcome.sequence, outcome))
            .collect();
        for (sequence, promise) in &life.own {
            let promise = &mut self.promises[*promise];
            promise.durable |= outlives && spooled.contains(sequence);
            // A power cut may lose that a delivery was cancelled, as it may lose one that was only written.
            let told = outcomes.get(sequence).filter(|_| outlives || !promise.aborted);
            promise.outcome = told.map(|outcome| (outcome.status, outcome.accepted_rows));
        }
    }

    async fn end(&mut self, life: Life) {
        match self.dice.u8(..4) {
            0 => {
                let deadline = Duration::from_millis(self.dice.u64(0..30));
                life.rig.close(deadline).await.unwrap();
                // What close reports as spooled is durable.
                self.note(&life, true);
                life.rig.check_the_end();
            }
            way => {
                {
                    let _shelf = shelf_of(&self.shelf);
                    life.lives.store(false, Ordering::SeqCst);
                }
                let power = way == 1;
                self.note(&life, !power || self.durability == Durability::Synced);
                self.disk = match power {
                    true => self.disk.after_power_cut(self.dice.u64(..)),
                    false => self.disk.after_kill(),
                };
                life.rig.transmitter.terminate();
            }
        }
    }

    pub async fn finish(&mut self) {
        {
            let mut shelf = shelf_of(&self.shelf);
            shelf.is_away = false;
            shelf.moods.clear();
        }
        let life = self.begin().await;
        let flush = tokio::time::timeout(Duration::from_secs(60), life.rig.flush());
        flush.await.expect("the spool is not delivered").unwrap();
        life.rig.close(Duration::from_secs(60)).await.unwrap();
    }

    /// What a killed life was writing gets its name by the thread that wrote it, which goes on for a moment here.
    async fn sealed(&self) {
        let is_open = |path: &PathBuf| path.extension().is_some_and(|end| end == "part");
        for _ in 0..2_000 {
            if !listing(&self.home.join("default")).iter().any(is_open) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn check(&self, seed: u64) {
        let shelf = shelf_of(&self.shelf);
        let mut there: HashMap<i64, usize> = HashMap::new();
        for value in &shelf.rows {
            *there.entry(*value).or_default() += 1;
        }
        let aside = set_aside(&self.home.join("default"));
        for promise in &self.promises {
            for value in &promise.values {
                let times = there.get(value).copied().unwrap_or(0);
                let is_refused = value % 100 == REFUSED;
                if promise.durable && !promise.aborted {
                    let is_safe = times > 0 || aside.contains(value);
                    let listed = listing(&self.home.join("default"));
                    assert!(
                        is_safe,
                        "seed {seed}: row {value} is lost: {promise:?}; {aside:?}; {listed:?}"
                    );
                }
                assert!(
                    !is_refused || times == 0,
                    "seed {seed}: refused row {value} is there"
                );
                if self.exact {
                    assert!(
                        times <= 1,
                        "seed {seed}: row {value} is there {times} times: {promise:?}"
                    );
                }
            }
            let count = promise
                .values
                .iter()
                .filter(|value| there.contains_key(value))
                .count();
            match promise.outcome {
                Some((Status::Failed, accepted)) => {
                    assert_eq!(count, accepted, "seed {seed}: failed and there: {promise:?}");
                }
                Some((Status::Acknowledged, _)) => {
                    assert_eq!(
                        count,
                        promise.values.len(),
                        "seed {seed}: acknowledged and lost: {promise:?}"
                    );
                }
                _ => {}
            }
        }
        if self.exact {
            assert!(
                shelf.rows.windows(2).all(|two| two[0] < two[1]),
                "seed {seed}: out of order: {:?}",
                shelf.rows.windows(2).find(|two| two[0] >= two[1])
            );
        }
    }
}

fn listing(spool: &Path) -> Vec<PathBuf> {
    let folders = ["failed", "dead-letters"].map(|folder| std::fs::read_dir(spool.join(folder)));
    let files = folders.into_iter().flatten().flatten().flatten();
    files.map(|file| file.path()).collect()
}

/// Rows that were put aside for their data.
pub fn set_aside(spool: &Path) -> BTreeSet<i64> {
    all_set_aside(spool).into_iter().collect()
}

/// The same, each as often as it is there.
pub fn all_set_aside(spool: &Path) -> Vec<i64> {
    let mut found = Vec::new();
    for folder in ["failed", "dead-letters"] {
        let Ok(files) = std::fs::read_dir(spool.join(folder)) else {
            continue;
        };
        for file in files.flatten() {
            let path = file.path();
            let bytes = std::fs::File::open(&path).unwrap();
            let Ok(reader) = FileReader::try_new(bytes, None) else {
                continue;
            };
            for batch in reader {
                let batch = batch.unwrap();
                let column = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>();
                found.extend(column.values().iter().copied());
            }
        }
    }
    found
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

async fn tell(seed: u64) {
    let home = tempfile::tempdir().unwrap();
    let mut story = Story::new(seed, home.path());
    for _ in 0..story.dice.usize(1..6) {
        let mut life = story.begin().await;
        for _ in 0..story.dice.usize(1..16) {
            // Somebody who waits for a full budget may be killed while it waits.
            let _ = tokio::time::timeout(Duration::from_millis(50), story.act(&mut life)).await;
        }
        story.end(life).await;
    }
    story.finish().await;
    story.sealed().await;
    story.check(seed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_durable_is_delivered_or_put_aside_whatever_happens() {
    let first = number("SPOOL_SEED", 0);
    let stories = (first..first + number("SPOOL_LIVES", 200)).map(|seed| async move {
        // Whatever a story ends with, its seed is what is needed to tell it again.
        let told = tokio::spawn(tell(seed)).await;
        told.unwrap_or_else(|failed| panic!("seed {seed}: {failed}"));
    });
    // They wait for clocks most of the time.
    let mut stories = futures::stream::iter(stories).buffer_unordered(4);
    while stories.next().await.is_some() {}
}

/// rows of a copy are not taken for the log's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_spool_stops_before_its_rows_are_taken_for_others() {
    let home = tempfile::tempdir().unwrap();
    let mut story = Story::new(1, home.path());
    story.exact = true;
    story.durability = Durability::Synced;
    let (original, copied) = (home.path().join("original"), home.path().join("copied"));
    let life = story.begin_on(Arc::new(RealDisk), original.clone()).await;
    let sequence = life.rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(life.rig.outcome(sequence).await.status, Status::Acknowledged);
    life.rig.close(Duration::from_secs(10)).await.unwrap();
    std::fs::create_dir_all(copied.join("default")).unwrap();
    for file in std::fs::read_dir(original.join("default")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copied.join("default").join(file.file_name())).unwrap();
    }
    // The original goes on.
    let life = story.begin_on(Arc::new(RealDisk), original).await;
    let sequence = life.rig.send(&batch(&schema("n"), 3..5));
    assert_eq!(life.rig.outcome(sequence).await.status, Status::Acknowledged);
    life.rig.close(Duration::from_secs(10)).await.unwrap();
    // The copy wants to put other rows at the same positions.
    let life = story.begin_on(Arc::new(RealDisk), copied).await;
    let sequence = life.rig.send(&batch(&schema("n"), 100..102));
    life.rig
        .until(|heard| {
            let mut logs = heard.logs.iter();
            logs.any(|log| log.fields["error"]["code"] == "SPOOL_FOREIGN")
        })
        .await;
    life.rig.close(Duration::ZERO).await.unwrap();
    assert_eq!(life.rig.outcome(sequence).await.status, Status::Spooled);
    assert_eq!(shelf_of(&story.shelf).rows, [0, 1, 2, 3, 4]);
}

/// who waits for rows that the disk cannot give back hears of it, and those behind them go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_the_disk_cannot_give_back_fail_and_those_behind_them_go_on() {
    let home = tempfile::tempdir().unwrap();
    let mut story = Story::new(0, home.path());
    story.durability = Durability::Synced;
    shelf_of(&story.shelf).is_away = true;
    let life = story.begin().await;
    // Nobody reads them before they are damaged.
    story.disk.hang(".segment", Call::Read);
    let mut sequences = Vec::new();
    // More than the budget: the last ones are on the disk alone.
    for n in 0..12_i64 {
        // No row that the destination would refuse.
        let rows = (0..500).map(|row| 1_000_000 * n + 100 * row);
        sequences.push(life.rig.send_waiting(&batch(&schema("n"), rows)).await.unwrap());
    }
    life.rig
        .until(|heard| heard.spooled.len() == sequences.len())
        .await;
    let files = story.disk.files();
    let segments = files
        .keys()
        .filter(|path| path.to_string_lossy().ends_with(".segment"));
    let last = segments.max().unwrap().clone();
    story.disk.damage(&last, |bytes| {
        let place = bytes.len() - 2_000;
        bytes[place] ^= 1;
    });
    story.disk.heal();
    shelf_of(&story.shelf).is_away = false;
    let mut failed = Vec::new();
    for sequence in &sequences {
        let outcome = tokio::time::timeout(Duration::from_secs(20), life.rig.outcome(*sequence)).await;
        let outcome = outcome.expect("nobody is told");
        if outcome.status != Status::Acknowledged {
            assert_eq!(outcome.status, Status::Failed, "{outcome:?}");
            assert_eq!(outcome.error.unwrap().code(), Code::SpoolFailed);
            failed.push(*sequence);
        }
    }
    assert_eq!(failed, [12]);
    let later = life.rig.send(&batch(&schema("n"), [1, 2]));
    let outcome = tokio::time::timeout(Duration::from_secs(20), life.rig.outcome(later)).await;
    assert_eq!(outcome.expect("nobody is told").status, Status::Acknowledged);
    life.rig.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(shelf_of(&story.shelf).rows.len(), 11 * 500 + 2);
}

/// a fault of ours that ends the engine leaves what is on the disk there, and nobody waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_told_that_it_stays_in_the_spool_when_the_engine_ends() {
    let home = tempfile::tempdir().unwrap();
    let mut story = Story::new(3, home.path());
    (story.exact, story.durability) = (true, Durability::Synced);
    let life = story.begin().await;
    let sequence = life.rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(life.rig.outcome(sequence).await.status, Status::Acknowledged);
    {
        let mut shelf = shelf_of(&story.shelf);
        // The line in the log about this names the destination.
        shelf.moods.push(Mood::Away);
        shelf.is_mad = true;
    }
    let mut sequences = vec![life.rig.send(&batch(&schema("n"), 3..5))];
    let first = tokio::time::timeout(Duration::from_secs(20), life.rig.outcome(sequences[0])).await;
    assert_eq!(first.expect("nobody is told").status, Status::Spooled);
    // It may be let in before the client knows.
    if let Ok(sequence) = life.rig.send_waiting(&batch(&schema("n"), 5..6)).await {
        sequences.push(sequence);
    }
    life.rig.close(Duration::from_secs(1)).await.unwrap();
    for sequence in sequences {
        assert_eq!(life.rig.outcome(sequence).await.status, Status::Spooled);
    }
    shelf_of(&story.shelf).is_mad = false;
    story.finish().await;
    let rows = shelf_of(&story.shelf).rows.clone();
    assert_eq!(rows[..5], [0, 1, 2, 3, 4]);
}

/// whatever of the disk hangs, a close takes its deadline and five seconds, not five for each thing it waits for.
#[tokio::test]
async fn a_disk_that_hangs_holds_a_close_for_five_seconds_beyond_its_deadline_and_no_longer() {
    let hangs = [
        (Call::Write, ".segment"),
        (Call::Sync, ".segment"),
        (Call::Create, ".segment"),
        (Call::Read, ".segment"),
        (Call::Unlink, ".segment"),
        (Call::Write, "cursor"),
        (Call::Sync, "cursor"),
        (Call::SyncDirectory, ""),
    ];
    for (call, within) in hangs {
        for is_away in [true, false] {
            let told = hung(call, within, is_away).await;
            assert!(
                told <= Duration::from_millis(6_100),
                "{call:?} {within}: {told:?}"
            );
        }
    }
}

/// How long a close of a second takes, by a clock that passes over what nobody needs.
async fn hung(call: Call, within: &'static str, is_away: bool) -> Duration {
    let home = tempfile::tempdir().unwrap();
    let mut story = Story::new(4, home.path());
    (story.exact, story.durability) = (true, Durability::Synced);
    let life = story.begin().await;
    // Several segments, some of them settled.
    let rows = |n: i64| batch(&schema("n"), (0..1_000).map(move |row| 1_000_000 * n + 100 * row));
    for n in 0..4 {
        let sequence = life.rig.send_waiting(&rows(n)).await.unwrap();
        assert_eq!(life.rig.outcome(sequence).await.status, Status::Acknowledged);
    }
    shelf_of(&story.shelf).is_away = is_away;
    story.disk.hang(within, call);
    for n in 4..7 {
        life.rig.send(&rows(n));
    }
    // The others may come at the close, or have come before.
    let is_certain = within == ".segment" && matches!(call, Call::Write | Call::Sync);
    if is_certain {
        eventually(|| story.disk.hanging() > 0).await;
    }
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    life.rig.close(Duration::from_secs(1)).await.unwrap();
    let took = began.elapsed();
    tokio::time::resume();
    life.rig.check_the_end();
    story.disk.heal();
    took
}
