//! What a host heard of rows → the outcomes of deliveries.
//!
//! Invariants:
//! - A row is settled once: ranges that overlap, or reach beyond their delivery, are refused before any is folded.
//! - The ledger of the native client folds them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::encoding::moment;
use super::envelope::{Answer, Request, check_deliveries};
use crate::error::{Code, Error, Result};
use crate::outcome::{AdmittedDelivery, Ledger, Outcome, Position, Rejection, RowRange, Status};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Head {
    /// Rows of each delivery.
    deliveries: Vec<usize>,
    settled: Vec<Settled>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Settled {
    delivery: usize,
    first_row: usize,
    rows: usize,
    /// What became of the rows that no rejection names.
    #[serde(default)]
    end: End,
    #[serde(default)]
    rejections: Vec<Refused>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum End {
    #[default]
    Accepted,
    Failed,
    Unknown,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    /// Counted within the delivery.
    row: u64,
    code: String,
    message: String,
}

pub fn settle(request: Request) -> Result<Answer> {
    let (head, parts) = request.read::<Head>()?;
    parts.end()?;
    check_deliveries(head.deliveries.len())?;
    check(&head)?;
    let now = moment();
    let mut ledger = Ledger::default();
    let mut outcomes = Vec::with_capacity(head.deliveries.len());
    for (sequence, rows) in head.deliveries.iter().enumerate() {
        ledger.enter(AdmittedDelivery {
            sequence: sequence as u64,
            rows: *rows,
            bytes: 0,
            charge: 0,
            admitted: now,
            handoff: Duration::ZERO,
            buffers_copied_for_pin_limit: 0,
            buffers_realigned: 0,
        });
        if *rows == 0 {
            let nothing = RowRange {
                sequence: sequence as u64,
                first_row: 0,
                rows: 0,
            };
            outcomes.extend(ledger.accept(&nothing, Position::None, now));
        }
    }
    for settled in head.settled {
        let range = RowRange {
            sequence: settled.delivery as u64,
            first_row: settled.first_row,
            rows: settled.rows,
        };
        ledger.sent(&range, 1, true, now);
        let rejections = settled.rejections.into_iter().map(|refused| Rejection {
            row: refused.row,
            code: refused.code,
            message: refused.message,
        });
        outcomes.extend(match settled.end {
            End::Accepted => ledger.refuse(&range, rejections.collect(), Position::None, now),
            End::Failed => ledger.fail(&range, &failure(), now),
            End::Unknown => ledger.fail(&range, &failure().ambiguous(), now),
        });
    }
    let mut answer = Answer::default();
    let outcomes: Vec<Value> = outcomes
        .iter()
        .map(|settled| outcome_json(&settled.outcome))
        .collect();
    answer.head.insert("outcomes".into(), outcomes.into());
    answer.head.insert("open".into(), ledger.sequences().into());
    Ok(answer)
}

fn failure() -> Error {
    Error::new(Code::Unavailable, "the host says that the rows did not arrive").during("write")
}

/// # Errors
/// `CONFIG_INVALID` for ranges that no client could have.
fn check(head: &Head) -> Result<()> {
    let wrong = |index: usize, what: &str| {
        let text = format!("settled[{index}] {what}");
        Err(Error::new(Code::ConfigInvalid, text).in_field(format!("settled[{index}]")))
    };
    // Where each range of a delivery ends, by where it begins.
    let mut known: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); head.deliveries.len()];
    for (index, settled) in head.settled.iter().enumerate() {
        let (Some(rows), Some(ranges)) = (
            head.deliveries.get(settled.delivery),
            known.get_mut(settled.delivery),
        ) else {
            return wrong(index, "names a delivery that there is not");
        };
        let start = settled.first_row;
        let Some(end) = start.checked_add(settled.rows).filter(|end| end <= rows) else {
            return wrong(index, "reaches beyond its delivery");
        };
        if start == end {
            return wrong(index, "has no rows");
        }
        let overlaps = ranges
            .range(..end)
            .next_back()
            .is_some_and(|(_, before)| *before > start);
        if overlaps {
            return wrong(index, "settles rows that are settled already");
        }
        ranges.insert(start, end);
        if settled.end != End::Accepted && !settled.rejections.is_empty() {
            return wrong(index, "has rejections of rows that did not arrive");
        }
        let mut before = None;
        for Refused { row, .. } in &settled.rejections {
            if !(start as u64..end as u64).contains(row) || before >= Some(*row) {
                return wrong(index, "has rejections that are not in order, or of other rows");
            }
            before = Some(*row);
        }
    }
    Ok(())
}

fn outcome_json(outcome: &Outcome) -> Value {
    let status = match outcome.status {
        Status::Acknowledged => "acknowledged",
        Status::Spooled => "spooled",
        Status::Partial => "partial",
        Status::Failed => "failed",
        Status::Unknown => "unknown",
    };
    json!({
        "delivery": outcome.sequence,
        "status": status,
        "rows": outcome.rows,
        "acceptedRows": outcome.accepted_rows,
        "rejections": outcome.rejections,
        "error": outcome.error.as_ref().map(Error::to_json),
    })
}
