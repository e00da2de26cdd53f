//! How the stage begins: a spool is opened, and its parts run.
//!
//! It delivers nothing and tells nobody.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use futures::stream::FuturesUnordered;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::ages::Ages;
use super::appending::Appending;
use super::ending::StageTasks;
use super::epochs::SpoolEpochs;
use super::feeding::{FeedState, Feeder};
use super::moving::Mover;
use super::recording::Recording;
use super::view::SpoolView;
use super::waiting::Waiting;
use super::{Early, Spooling, StageEvent, held};
use crate::config::{Config, DeadLetterOptions};
use crate::counters::Counters;
use crate::disk;
use crate::error::{Code, Error, Result};
use crate::file_system::RealDisk;
use crate::outcome::{Outcome, RowRange};
use crate::spool::{self, Recovered, Spool};
use crate::transmitter::admission::Admission;
use crate::transmitter::clock::now;
use crate::transmitter::engine::{Control, RowSource};
use crate::transmitter::intake::Arrival;
use crate::transmitter::rows::EndedRange;
use crate::transmitter::{Event, Observer, Settlements};

/// A spool that was opened, for a transmitter to deliver.
pub struct OpenedSpool {
    pub spool: Spool,
    pub recovered: Recovered,
    /// Where refused rows go, if not to the spool's own directory.
    pub dead_letter: Option<DeadLetterOptions>,
}

/// Opens the spool that the options ask for, if they do.
///
/// # Errors
/// As [`Spool::open`].
pub async fn open_spool(config: &Config, target: &str) -> Result<Option<OpenedSpool>> {
    let Some(spool) = &config.spool else {
        return Ok(None);
    };
    let owner = format!("a client for {}", spool::without_secrets(target));
    let options = spool.to_options(target, &owner, config.inflight.max_bytes / 2);
    let opened = disk::spawn(move || Spool::open(Arc::new(RealDisk), &options)).await;
    let panicked = |_| Err(Error::new(Code::Internal, "opening the spool panicked").during("spool"));
    let (spool, recovered) = opened.unwrap_or_else(panicked)?;
    Ok(Some(OpenedSpool {
        spool,
        recovered,
        dead_letter: config.dead_letter.clone(),
    }))
}

impl OpenedSpool {
    /// Lets others open it.
    pub async fn close(self) {
        // A panic has ended it as well.
        let _ = disk::spawn(move || self.spool.close()).await;
    }
}

/// The parts of the stage that run.
pub struct Started {
    pub source: RowSource,
    /// The budget of what the engine holds.
    pub admission: Arc<Admission>,
    /// What the engine tells: grants and lines for the log.
    pub observer: Observer,
    pub view: SpoolView,
    pub tasks: Vec<AbortHandle>,
}

/// The ends of the channels that a stage sits between.
pub struct StageChannels {
    /// From the intake.
    pub arrivals: Receiver<Vec<Arrival>>,
    /// Dropped when the intake is to import no more.
    pub over: oneshot::Sender<()>,
    pub control: UnboundedReceiver<Control>,
    /// To the engine.
    pub engine: Sender<Vec<Arrival>>,
    pub engine_control: UnboundedSender<Control>,
}

/// Starts the stage on the current tokio runtime. `front` is the budget of what is on its way to the disk, `behind`
/// how much of the disk may be in memory to be delivered.
pub fn start(
    opened: OpenedSpool,
    front: Arc<Admission>,
    behind_bytes: usize,
    channels: StageChannels,
    counters: Arc<Counters>,
    observer: Observer,
) -> Started {
    let OpenedSpool {
        spool,
        recovered,
        dead_letter,
    } = opened;
    let spool = Arc::new(spool);
    let behind = Arc::new(Admission::new(behind_bytes));
    let (events, inbox) = tokio::sync::mpsc::unbounded_channel();
    let feed = Arc::new(Mutex::new(FeedState::default()));
    let wanted = Arc::new(Notify::new());
    let granted = Arc::new(Notify::new());
    let early: Arc<Mutex<Early>> = Arc::default();
    let (stop, stopped) = watch::channel(false);
    let mover = Mover::new(&spool, dead_letter, counters.clone(), observer.clone());
    spool.set_beside(mover.bytes());
    let epochs = SpoolEpochs::new(&spool, &recovered, observer.clone());
    let StageChannels {
        arrivals,
        over,
        control,
        engine,
        engine_control,
    } = channels;
    let own_from = spool.next_position();
    let feeder = Feeder {
        spool: spool.clone(),
        own_from,
        admission: behind.clone(),
        state: feed.clone(),
        wanted: wanted.clone(),
        granted: granted.clone(),
        engine: engine.clone(),
        control: engine_control.clone(),
        events: events.clone(),
        counters: counters.clone(),
    };
    let appender = Appending {
        arrivals,
        behind: Waiting::default(),
        is_waiting: false,
        spool: spool.clone(),
        early: early.clone(),
        events: events.clone(),
        stopped,
        measure: mover.measure(),
    };
    let ages = Ages::new(own_from, now(), spool::now_ms());
    let ages = Arc::new(Mutex::new(ages));
    let feeding = tokio::spawn(feeder.run(recovered.position));
    let appending = tokio::spawn(appender.run());
    let stage = Spooling {
        spool: spool.clone(),
        own_from,
        replayed: recovered.position >= own_from,
        appended_through: own_from,
        callers: BTreeMap::new(),
        cancelling: HashSet::new(),
        by_sequence: HashMap::new(),
        unmatched: HashMap::new(),
        early,
        last_sequence: 0,
        front,
        behind: behind.clone(),
        feed: feed.clone(),
        stop,
        wanted,
        flushes: VecDeque::new(),
        durables: FuturesUnordered::new(),
        cancels: FuturesUnordered::new(),
        recording: Recording::new(mover, engine_control.clone()),
        ages: Arc::clone(&ages),
        closing: None,
        engine: Some(engine),
        engine_control,
        counters,
        observer: observer.clone(),
        finished: false,
    };
    let tasks = vec![feeding.abort_handle(), appending.abort_handle()];
    let settlements = Arc::new(ToStage(events));
    let run = stage.run(
        inbox,
        control,
        StageTasks {
            feeding,
            appending,
            over,
        },
    );
    let mut all = vec![tokio::spawn(run).abort_handle()];
    all.extend(tasks);
    let fed = Arc::clone(&feed);
    let engine_observer: Observer = Arc::new(move |event| match event {
        Event::Granted(_) => granted.notify_one(),
        Event::Fact(fact) => {
            let fact = fact.of_the_disk(|position| held(&fed).whose(position));
            observer(Event::Fact(Box::new(fact)));
        }
        event => observer(event),
    });
    Started {
        source: RowSource {
            producer: Uuid::from_bytes(spool.id()),
            log: Some(settlements),
            epochs: Some(Arc::new(epochs)),
        },
        admission: behind,
        observer: engine_observer,
        view: SpoolView {
            spool,
            feed,
            ages,
            recovered,
        },
        tasks: all,
    }
}

/// The engine's words, passed on.
struct ToStage(UnboundedSender<StageEvent>);

impl Settlements for ToStage {
    fn accepted(&self, range: &RowRange) {
        let first = range.sequence + range.first_row as u64;
        let _ = self
            .0
            .send(StageEvent::Accepted(first..first + range.rows as u64));
    }

    fn ended(&self, ended: EndedRange) {
        let _ = self.0.send(StageEvent::Ended(ended));
    }

    fn settled(&self, outcome: Outcome, told: bool) {
        let _ = self.0.send(StageEvent::Settled(outcome, told));
    }

    fn given_up(&self, outcome: Outcome) {
        let _ = self.0.send(StageEvent::GivenUp(outcome));
    }
}
