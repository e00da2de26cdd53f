//! Which positions are settled: all below one, and some ranges above it.
//!
//! Invariants:
//! - Ranges are apart from each other and above `through`: one that touches it raises it.
//! - So there are never more ranges than deliveries that are not settled.
//!
//! `through` is the first position that is not settled. (Of a destination's acknowledgement, `through` is the last
//! write that is.) It does not know what is on the disk.

use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettledPositions {
    through: u64,
    /// First position → last, excluded.
    ranges: BTreeMap<u64, u64>,
}

impl SettledPositions {
    /// Everything below this is settled.
    pub fn through(&self) -> u64 {
        self.through
    }

    /// Nothing at or above this is settled.
    pub fn last(&self) -> u64 {
        self.ranges.values().next_back().copied().unwrap_or(self.through)
    }

    /// What is settled above it.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        self.ranges.iter().map(|(first, end)| *first..*end).collect()
    }

    /// Settled positions above `through` and below `end`.
    pub fn count_between(&self, end: u64) -> u64 {
        let lengths = self
            .ranges
            .range(..end)
            .map(|(first, last)| (*last).min(end) - first);
        lengths.sum()
    }

    pub fn ranges_count(&self) -> usize {
        self.ranges.len()
    }

    pub fn settle(&mut self, range: Range<u64>) {
        let (mut first, mut end) = (range.start, range.end);
        if first >= end || end <= self.through {
            return;
        }
        // Neighbours that it touches become one with it.
        while let Some((other, last)) = self.ranges.range(..=end).next_back().map(|(a, b)| (*a, *b)) {
            if last < first {
                break;
            }
            self.ranges.remove(&other);
            first = first.min(other);
            end = end.max(last);
        }
        if first <= self.through {
            self.through = end;
        } else {
            self.ranges.insert(first, end);
        }
    }

    /// What of the range is not settled.
    pub fn holes(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut holes = Vec::new();
        let mut at = range.start.max(self.through);
        let before = self.ranges.range(..=at).next_back();
        let within = self.ranges.range(at.saturating_add(1)..);
        for (first, end) in before.into_iter().chain(within) {
            if *first >= range.end {
                break;
            }
            if *first > at {
                holes.push(at..*first);
            }
            at = at.max(*end);
        }
        if at < range.end {
            holes.push(at..range.end);
        }
        holes
    }
}
