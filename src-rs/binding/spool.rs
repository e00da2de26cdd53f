//! Spools, seen from outside: the functions of `specs/boundary.md`.
//!
//! They wait for disks, so they run on the threads on which Node's own `fs` does, and give promises.

// napi registers them in no test.
#![cfg_attr(test, allow(dead_code))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;
use serde_json::{Value, json};

use super::thrown;
use crate::destination;
use crate::error::{Code, Error, Result};
use crate::file_system::{Disk, RealDisk};
use crate::spool::export::export;
use crate::spool::inspect::{
    self, Depth, Inspection, SeenDelivery, SegmentFacts, Sight, Sights, SpoolFacts, Unfinished,
};
use crate::spool::{Damage, Unsettled, retarget};

type Work = Box<dyn FnOnce() -> Result<Value> + Send>;

/// One call, whose answer is JSON.
pub struct SpoolTask(Option<Work>);

impl Task for SpoolTask {
    type Output = String;
    type JsValue = String;

    fn compute(&mut self) -> napi::Result<String> {
        let fault = || Error::new(Code::Internal, "looking at a spool panicked").during("spool");
        let done = match self.0.take() {
            // A panic must not cross.
            Some(work) => catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(fault())),
            None => Err(fault()),
        };
        done.map(|answer| answer.to_string())
            .map_err(|error| thrown(&error))
    }

    fn resolve(&mut self, _: Env, answer: String) -> napi::Result<String> {
        Ok(answer)
    }
}

fn task(work: impl FnOnce() -> Result<Value> + Send + 'static) -> AsyncTask<SpoolTask> {
    AsyncTask::new(SpoolTask(Some(Box::new(work))))
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// The spools of a directory: `[{ name, facts } | { name, error }]`.
#[napi(catch_unwind, ts_return_type = "Promise<string>")]
pub fn list_spools(directory: String) -> AsyncTask<SpoolTask> {
    task(move || {
        let directory = Path::new(&directory);
        let spools = inspect::names(&RealDisk, directory)?.into_iter().map(|name| {
            match Inspection::open(disk(), directory, &name) {
                Ok(inspection) => json!({ "name": name, "facts": facts(&inspection.facts()) }),
                Err(error) => json!({ "name": name, "error": error.to_json() }),
            }
        });
        Ok(spools.collect())
    })
}

/// One spool, counted by the headers of its records, and its first deliveries that are left.
#[napi(catch_unwind, ts_return_type = "Promise<string>")]
pub fn inspect_spool(directory: String, name: String, limit: f64) -> AsyncTask<SpoolTask> {
    task(move || {
        let inspection = Inspection::open(disk(), Path::new(&directory), &name)?;
        let mut seen = Sights::default();
        let mut first = Vec::new();
        inspection.look(inspection.settled_through(), Depth::Headers, &mut |sight| {
            if let Sight::Delivery(delivery) = &sight
                && !delivery.left.is_empty()
                && (first.len() as f64) < limit
            {
                first.push(described(delivery));
            }
            seen.add(sight);
            Ok(())
        })?;
        Ok(json!({
            "facts": facts(&inspection.facts()),
            "left": unsettled(&seen.left),
            "deliveries": first,
            "damage": list(&seen.damage, damaged),
            "unfinished": list(&seen.unfinished, unfinished),
        }))
    })
}

/// One spool, of which every byte is read.
#[napi(catch_unwind, ts_return_type = "Promise<string>")]
pub fn verify_spool(directory: String, name: String) -> AsyncTask<SpoolTask> {
    task(move || {
        let inspection = Inspection::open(disk(), Path::new(&directory), &name)?;
        let mut seen = Sights::default();
        let looked = inspection.look(0, Depth::Rows, &mut |sight| {
            seen.add(sight);
            Ok(())
        })?;
        Ok(json!({
            "facts": facts(&inspection.facts()),
            "left": unsettled(&seen.left),
            "records": looked.records,
            "deliveries": seen.deliveries,
            "rows": seen.rows,
            "refusedRecords": looked.refused,
            "damage": list(&seen.damage, damaged),
            "unfinished": list(&seen.unfinished, unfinished),
        }))
    })
}

/// What is left in a spool, as Arrow files in an empty folder.
#[napi(catch_unwind, ts_return_type = "Promise<string>")]
pub fn export_spool(directory: String, name: String, to: String) -> AsyncTask<SpoolTask> {
    task(move || {
        let inspection = Inspection::open(disk(), Path::new(&directory), &name)?;
        let exported = export(&inspection, Path::new(&to))?;
        Ok(json!({
            "facts": facts(&inspection.facts()),
            "files": list(&exported.files, shown),
            "list": shown(&exported.list),
            "deliveries": exported.deliveries,
            "rows": exported.rows,
            "damage": list(&exported.damage, damaged),
        }))
    })
}

/// Another target for what is in a spool. The spool must be nobody's.
#[napi(catch_unwind, ts_return_type = "Promise<string>")]
pub fn retarget_spool(directory: String, name: String, target: String) -> AsyncTask<SpoolTask> {
    task(move || {
        destination::recognise(&target)?;
        let done = retarget(&disk(), Path::new(&directory), &name, &target)?;
        Ok(json!({ "from": done.from, "to": done.to, "left": unsettled(&done.left) }))
    })
}

/// Positions and identities are text: numbers of JSON are doubles.
fn described(delivery: &SeenDelivery) -> Value {
    json!({
        "position": delivery.positions.start.to_string(),
        "rows": delivery.positions.end - delivery.positions.start,
        "rowsLeft": delivery.rows_left(),
        "bytes": delivery.bytes,
        "appendedMs": delivery.time_ms,
        "identity": delivery.identity.to_string(),
    })
}

fn facts(facts: &SpoolFacts) -> Value {
    let segment = |segment: &SegmentFacts| {
        json!({
            "path": shown(&segment.path),
            "first": segment.first.to_string(),
            "bytes": segment.bytes,
        })
    };
    let aside = |(path, bytes): &(PathBuf, u64)| json!({ "path": shown(path), "bytes": bytes });
    json!({
        "directory": shown(&facts.directory),
        "id": facts.id.map(|id| id.map(|byte| format!("{byte:02x}")).concat()),
        "target": facts.target,
        "settledThrough": facts.settled_through.to_string(),
        "end": facts.end.to_string(),
        "left": unsettled(&facts.left),
        "segments": list(&facts.segments, segment),
        "cursorDamaged": facts.is_cursor_damaged,
        "setAside": list(&facts.set_aside, aside),
        "foreign": list(&facts.foreign, shown),
        "unknown": list(&facts.unknown, shown),
        "owner": facts.owner,
    })
}

fn unsettled(left: &Unsettled) -> Value {
    json!({
        "deliveries": left.deliveries,
        "rows": left.rows,
        "bytes": left.bytes,
        "oldestMs": left.oldest_ms,
    })
}

fn damaged(damage: &Damage) -> Value {
    json!({
        "segment": shown(&damage.segment),
        "offset": damage.offset,
        "bytes": damage.bytes,
        "setAside": damage.set_aside.as_ref().map(shown),
        "reason": damage.reason,
    })
}

fn unfinished(unfinished: &Unfinished) -> Value {
    json!({
        "segment": shown(&unfinished.segment),
        "offset": unfinished.offset,
        "bytes": unfinished.bytes,
    })
}

fn list<T, Told: Into<Value>>(all: &[T], told: impl Fn(&T) -> Told) -> Value {
    all.iter().map(|one| told(one).into()).collect()
}

#[expect(clippy::ptr_arg, reason = "it is given to lists of `PathBuf` as it is")]
fn shown(path: &PathBuf) -> String {
    path.display().to_string()
}
