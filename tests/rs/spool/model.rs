//! the log against a model, on a disk that loses, fails and fills up. `SPOOL_SEQUENCES` and
//! `SPOOL_ACTIONS` say how much of it (`npm run torture`).

use std::collections::BTreeSet;

use arrow_ingest::spool::{Durability, SpoolEntry, SpoolOptions, WhenFull, WriterTurn};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::simulated::{Call, EDQUOT, EIO, ENOSPC, Simulated};
use crate::support::{Rig, answer, batch, disk, options, try_open, values};

#[derive(Debug, Clone)]
enum Action {
    /// So many rows, in so many deliveries that are written together.
    Append {
        rows: u8,
        deliveries: u8,
        large: bool,
    },
    /// Part of what is left.
    SettleThrough(u8),
    Settle(u8, u8),
    Cancel(u8, u8),
    /// The cursor's second passes.
    Later,
    Read,
    Sync,
    Kill,
    PowerCut(u64),
    Reopen,
    Fill,
    Empty,
    Fail(Call, u8, bool, i32),
    Heal,
    WriteShort,
}

fn action() -> impl Strategy<Value = Action> {
    use Action as A;
    let call = prop::sample::select(vec![
        Call::Create,
        Call::Open,
        Call::Read,
        Call::Write,
        Call::SetLength,
        Call::Sync,
        Call::Rename,
        Call::Unlink,
        Call::SyncDirectory,
        Call::List,
    ]);
    let errno = prop::sample::select(vec![EIO, ENOSPC, EDQUOT]);
    prop_oneof![
        8 => (1u8..20, 1u8..5, prop::bool::weighted(0.1))
            .prop_map(|(rows, deliveries, large)| A::Append { rows, deliveries, large }),
        3 => any::<u8>().prop_map(A::SettleThrough),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| A::Settle(from, to)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| A::Cancel(from, to)),
        3 => Just(A::Later),
        2 => Just(A::Read),
        1 => Just(A::Sync),
        1 => Just(A::Kill),
        2 => any::<u64>().prop_map(A::PowerCut),
        1 => Just(A::Reopen),
        1 => Just(A::Fill),
        1 => Just(A::Empty),
        2 => (call, 0u8..6, prop::bool::weighted(0.2), errno)
            .prop_map(|(call, nth, for_good, errno)| A::Fail(call, nth, for_good, errno)),
        3 => Just(A::Heal),
        1 => Just(A::WriteShort),
    ]
}

/// What must be there, and what may be.
#[derive(Default)]
struct Model {
    /// Acknowledged as durable against all that may happen next.
    kept: BTreeSet<i64>,
    /// Acknowledged as written: a kill leaves it, the power may take it.
    written: BTreeSet<i64>,
    /// Written, and a sync has failed that somebody was told of: a kill leaves it, the power may take it.
    doomed: BTreeSet<i64>,
    /// Not answered, or ambiguously.
    maybe: BTreeSet<i64>,
    /// Somebody said that nobody needs it: it may come back, as the cursor lags.
    settled: BTreeSet<i64>,
    /// And was answered that this is durable: it may not.
    cancelled: BTreeSet<i64>,
    /// Settled, and not found by an opening: what made it so may have been in memory only.
    ghosts: BTreeSet<i64>,
    next: i64,
}

struct Machine {
    disk: Simulated,
    rig: Option<Rig>,
    options: SpoolOptions,
    model: Model,
    /// Position → value, of everything that a reader or an answer has shown.
    shown: std::collections::BTreeMap<u64, i64>,
    /// Positions that a reader has shown, which were synced.
    read: BTreeSet<u64>,
    /// A sync was made to fail: what the system holds since then, no sync brings to the disk.
    tainted: bool,
    /// Segments that a power cut may have damaged. A reader that passes over what is settled meets it later.
    cut: BTreeSet<std::path::PathBuf>,
}

impl Machine {
    fn new(durability: Durability, bounded: bool) -> Machine {
        let options = SpoolOptions {
            segment_bytes: 3000,
            durability,
            max_bytes: bounded.then_some(12_000),
            when_full: WhenFull::Reject,
            ..options()
        };
        let disk = disk();
        Machine {
            rig: Some(try_open(&disk, &options).unwrap()),
            disk,
            options,
            model: Model::default(),
            shown: Default::default(),
            read: BTreeSet::new(),
            tainted: false,
            cut: BTreeSet::new(),
        }
    }

    fn act(&mut self, action: &Action) {
        // A disk that failed when the spool was opened may do now.
        if self.rig.is_none() {
            self.rig = try_open(&self.disk, &self.options).ok();
        }
        match action {
            Action::Append {
                rows,
                deliveries,
                large,
            } => self.append(i64::from(*rows) * if *large { 40 } else { 1 }, *deliveries),
            Action::SettleThrough(part) => self.settle(|positions| 0..positions(*part)),
            Action::Settle(from, to) => self.settle(|positions| positions(*from)..positions(*to)),
            Action::Cancel(from, to) => self.cancel(*from, *to),
            Action::Later => {
                if let Some(rig) = &mut self.rig {
                    rig.turn_later();
                }
            }
            Action::Read => self.read(),
            Action::Sync => self.sync(),
            Action::Kill => {
                let disk = self.disk.after_kill();
                self.restart(disk, false);
            }
            Action::PowerCut(seed) => {
                let disk = self.disk.after_power_cut(*seed);
                self.restart(disk, true);
            }
            Action::Reopen => {
                if let Some(mut rig) = self.rig.take() {
                    drop(rig.spool);
                    while rig.writer.turn(std::time::Instant::now()) != WriterTurn::End {}
                }
                let disk = self.disk.clone();
                self.restart(disk, false);
            }
            Action::Fill => self.disk.allows(Some(self.disk.used() + 700)),
            Action::Empty => self.disk.holds(None),
            Action::Fail(call, nth, for_good, errno) => {
                self.tainted |= matches!(call, Call::Sync | Call::SyncDirectory);
                let times = if *for_good { usize::MAX } else { 1 };
                self.disk.fail(*call, usize::from(*nth), times, *errno);
            }
            Action::Heal => self.disk.heal(),
            Action::WriteShort => self.disk.write_short(),
        }
    }

    fn append(&mut self, rows: i64, deliveries: u8) {
        let Some(rig) = &mut self.rig else { return };
        let mut waiting = Vec::new();
        for _ in 0..deliveries {
            let rows = self.model.next..self.model.next + rows;
            self.model.next = rows.end;
            if let Some(Ok(appended)) = rig.offer(&[batch(rows.clone())], rows.start as u64) {
                for (position, value) in (appended.position..).zip(rows.clone()) {
                    // A position is given once, whoever has seen it.
                    let other = self.shown.get(&position);
                    assert!(other.is_none(), "{position} was {other:?} and is {value}");
                }
                waiting.push((rows, appended));
            }
        }
        rig.turn();
        for (rows, appended) in waiting {
            match answer(appended.durable).expect("a turn answers all") {
                Ok(()) => {
                    self.shown.extend((appended.position..).zip(rows.clone()));
                    match self.options.durability {
                        Durability::Synced => self.model.kept.extend(rows),
                        Durability::Written => self.model.written.extend(rows),
                    }
                }
                Err(error) if error.is_ambiguous() => self.model.maybe.extend(rows),
                Err(_) => {}
            }
        }
    }

    /// A range of positions of what was ever acknowledged.
    fn settle(&mut self, range: impl Fn(&dyn Fn(u8) -> u64) -> std::ops::Range<u64>) {
        let Some(rig) = &mut self.rig else { return };
        let positions: Vec<u64> = self.shown.keys().copied().collect();
        let Some(last) = positions.last() else { return };
        let at = |part: u8| match positions.get(positions.len() * usize::from(part) / 200) {
            Some(position) => *position,
            None => last + 1,
        };
        let range = range(&at);
        match range.start {
            0 => rig.spool.settle_through(range.end),
            _ => rig.spool.settle(range.clone()),
        }
        if range.start < range.end {
            let settled = self.shown.range(range).map(|(_, value)| *value);
            self.model.settled.extend(settled);
        }
    }

    fn cancel(&mut self, from: u8, to: u8) {
        let Some(rig) = &mut self.rig else { return };
        let positions: Vec<u64> = self.shown.keys().copied().collect();
        let at = |part: u8| {
            positions
                .get(positions.len() * usize::from(part) / 256)
                .copied()
                .unwrap_or(0)
        };
        let range = at(from.min(to))..at(from.max(to));
        let durable = rig.spool.cancel(range.clone());
        rig.turn();
        let told = answer(durable).expect("a turn answers all");
        let values: Vec<i64> = self.shown.range(range).map(|(_, value)| *value).collect();
        self.model.settled.extend(&values);
        if told.is_ok() && self.options.durability == Durability::Synced {
            self.model.cancelled.extend(values);
        }
    }

    fn sync(&mut self) {
        let Some(rig) = &mut self.rig else { return };
        let synced = rig.spool.sync();
        rig.turn();
        let synced = answer(synced).expect("a turn answers all");
        let written = std::mem::take(&mut self.model.written);
        match synced {
            Ok(()) => self.model.kept.extend(written),
            Err(_) => self.model.doomed.extend(written),
        }
    }

    /// Whatever a reader gives is in order, was appended, and is synced from then on.
    fn read(&mut self) {
        let Some(rig) = &mut self.rig else { return };
        let mut reader = rig.spool.read_from(0);
        let mut found = Vec::new();
        while let Ok(Some(entry)) = reader.next() {
            if let SpoolEntry::Rows(rows) = entry {
                found.extend(rows.positions.zip(values(&rows.batches)));
            }
        }
        rig.turn();
        self.check_found(&found);
    }

    fn check_found(&mut self, found: &[(u64, i64)]) {
        assert!(
            found.is_sorted_by(|one, other| one.0 < other.0 && one.1 < other.1),
            "{found:?}"
        );
        for (position, value) in found {
            let model = &self.model;
            let is_known = [
                &model.kept,
                &model.written,
                &model.doomed,
                &model.maybe,
                &model.ghosts,
            ];
            let is_known = is_known.iter().any(|known| known.contains(value));
            assert!(is_known, "{value} was refused, and is found");
            assert!(
                !model.cancelled.contains(value),
                "{value} was cancelled, and is found"
            );
            self.read.insert(*position);
            let shown = self.shown.insert(*position, *value);
            assert!(
                shown.is_none_or(|shown| shown == *value),
                "{position} was {shown:?} and is {value}"
            );
        }
    }

    /// Another process opens it, on a disk that does what it should.
    fn restart(&mut self, disk: Simulated, power_cut: bool) {
        self.rig = None;
        self.disk = disk;
        self.disk.heal();
        self.disk.holds(None);
        if power_cut {
            self.cut.extend(self.disk.files().into_keys());
        }
        let mut rig = try_open(&self.disk, &self.options).expect("damage is no reason not to open");
        let mut reader = rig.spool.read_from(0);
        let mut found = Vec::new();
        loop {
            match reader.next().unwrap() {
                Some(SpoolEntry::Rows(rows)) => found.extend(rows.positions.zip(values(&rows.batches))),
                Some(SpoolEntry::Damage(damage)) => assert!(self.cut.contains(&damage.segment), "{damage:?}"),
                None => break,
            }
        }
        let values: BTreeSet<i64> = found.iter().map(|(_, value)| *value).collect();
        let written = self.model.written.iter().chain(&self.model.doomed);
        let must = self.model.kept.iter().chain(written.filter(|_| !power_cut));
        for value in must {
            let is_there = values.contains(value) || self.model.settled.contains(value);
            assert!(is_there, "{value} was acknowledged, and is lost");
        }
        self.check_found(&found);
        if power_cut && self.options.durability == Durability::Written {
            // Rows that were only written are gone with their positions, which nobody has seen but who gave them.
            self.shown.retain(|position, _| self.read.contains(position));
        }
        if power_cut && self.tainted {
            // The process before was told that a sync failed, and this one was not: what it has read is gone.
            let left: BTreeSet<u64> = found.iter().map(|(position, _)| *position).collect();
            self.shown.retain(|position, _| left.contains(position));
            self.read.retain(|position| left.contains(position));
        }
        // What was found is synced, and what was not found is gone for good.
        let tainted = self.tainted;
        let before = std::mem::take(&mut self.model);
        let known = before
            .kept
            .iter()
            .chain(&before.written)
            .chain(&before.doomed)
            .chain(&before.ghosts);
        let ghosts = known.filter(|value| before.settled.contains(value) && !values.contains(value));
        let was_written = before.written.intersection(&values).copied();
        self.model = Model {
            kept: before.kept.intersection(&values).copied().collect(),
            doomed: before.doomed.intersection(&values).copied().collect(),
            maybe: before
                .maybe
                .union(&before.ghosts)
                // The name of the segment that voids a row may never reach the disk where a sync has failed.
                .filter(|value| values.contains(value) || tainted)
                .copied()
                .collect(),
            ghosts: ghosts.copied().collect(),
            settled: before.settled,
            cancelled: before.cancelled,
            next: before.next,
            ..Model::default()
        };
        match self.tainted {
            // The system told the process before that their sync failed, and no later process of it.
            true => self.model.doomed.extend(was_written),
            false => self.model.kept.extend(was_written),
        }
        // What a power cut has left, it has left on the disk.
        self.tainted &= !power_cut;
        // The cursor is written anew, and synced: what is below may not come back.
        rig.turn_later();
        let through = rig.recovered.position;
        let gone: Vec<i64> = self.shown.range(..through).map(|(_, value)| *value).collect();
        self.model.cancelled.extend(gone);
        self.rig = Some(rig);
    }
}

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: setting("SPOOL_SEQUENCES", 400),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("proptest-regressions/spool/model.txt"))),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_was_durable_is_there_once_and_in_order_whatever_happens(
        written in any::<bool>(),
        bounded in any::<bool>(),
        actions in prop::collection::vec(action(), 1..=setting("SPOOL_ACTIONS", 64) as usize),
    ) {
        let durability = if written { Durability::Written } else { Durability::Synced };
        let mut machine = Machine::new(durability, bounded);
        for action in &actions {
            machine.act(action);
        }
        // Whatever it was, it ends well.
        let disk = machine.disk.after_kill();
        machine.restart(disk, false);
        let disk = machine.disk.after_power_cut(0);
        machine.restart(disk, true);
    }
}
