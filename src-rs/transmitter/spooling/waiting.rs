//! What was received and not taken yet, in order.
//!
//! Invariants:
//! - To find one costs the logarithm of how many wait, so that thousands who give up one by one behind a full disk do
//!   not cost the square of their number.
//! - A place that was left is kept until its turn comes, but never more such places than there are others, and
//!   [`SPARE`]: calls that come and give up for as long as the disk is full take no memory.

use std::collections::VecDeque;

use crate::transmitter::intake::{Arrival, ImportedDelivery};

/// Below so many a queue is not tidied.
const SPARE: usize = 64;

/// The budget of bytes bounds what waits.
#[derive(Default)]
pub struct Waiting {
    /// With the sequence of the delivery, or of the last one before; they do not fall. None: it was taken out.
    places: VecDeque<(u64, Option<Arrival>)>,
    /// How many of them were left.
    left: usize,
}

impl Waiting {
    pub fn push(&mut self, arrival: Arrival) {
        let last = self.places.back().map_or(0, |(sequence, _)| *sequence);
        let sequence = match &arrival {
            Arrival::Delivery(delivery) => last.max(delivery.entry.sequence),
            _ => last,
        };
        self.places.push_back((sequence, Some(arrival)));
    }

    pub fn pop(&mut self) -> Option<Arrival> {
        loop {
            match self.places.pop_front()? {
                (_, Some(arrival)) => return Some(arrival),
                (_, None) => self.left -= 1,
            }
        }
    }

    /// Takes a delivery out from among the others, if it waits.
    pub fn take(&mut self, sequence: u64) -> Option<ImportedDelivery> {
        let start = self.places.partition_point(|(other, _)| *other < sequence);
        // It is the first of its number; what is no delivery and has that number came after it.
        let (_, place) = self
            .places
            .get_mut(start)
            .filter(|(other, _)| *other == sequence)?;
        let Some(Arrival::Delivery(delivery)) = place.take_if(|place| matches!(place, Arrival::Delivery(_)))
        else {
            return None;
        };
        self.left += 1;
        if self.left > SPARE.max(self.places.len() / 2) {
            self.places.retain(|(_, place)| place.is_some());
            self.left = 0;
        }
        Some(delivery)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::instant::Instant;
    use crate::outcome::AdmittedDelivery;

    fn delivery(sequence: u64) -> Arrival {
        Arrival::Delivery(ImportedDelivery {
            entry: AdmittedDelivery {
                sequence,
                rows: 1,
                bytes: 1,
                charge: 1,
                admitted: Instant::now(),
                handoff: Duration::ZERO,
                buffers_copied_for_pin_limit: 0,
                buffers_realigned: 0,
            },
            payload_digest: None,
            slices: Ok(Vec::new()),
            captured: None,
        })
    }

    fn rest(waiting: &mut Waiting) -> Vec<u64> {
        let arrivals = std::iter::from_fn(|| waiting.pop());
        let sequence = |arrival| match arrival {
            Arrival::Delivery(delivery) => delivery.entry.sequence,
            _ => 0,
        };
        arrivals.map(sequence).collect()
    }

    #[test]
    fn any_one_is_taken_out_once_and_the_others_keep_their_order() {
        let mut waiting = Waiting::default();
        waiting.push(Arrival::Hurry);
        for sequence in [3, 5, 6, 9] {
            waiting.push(delivery(sequence));
            waiting.push(Arrival::Hurry);
        }
        for (sequence, is_there) in [
            (5, true),
            (5, false),
            (4, false),
            (0, false),
            (10, false),
            (3, true),
        ] {
            assert_eq!(waiting.take(sequence).is_some(), is_there, "{sequence}");
        }
        assert_eq!(rest(&mut waiting), [0, 0, 0, 6, 0, 9, 0]);
        assert!(waiting.take(9).is_none());
    }

    /// an hour of a full disk, in which callers come and give up.
    #[test]
    fn callers_that_come_and_give_up_take_no_memory() {
        let mut waiting = Waiting::default();
        (1..=100).for_each(|sequence| waiting.push(delivery(sequence)));
        for sequence in 101..=100_000 {
            waiting.push(delivery(sequence));
            assert!(waiting.take(sequence).is_some());
            assert!(waiting.places.len() <= 300, "{}", waiting.places.len());
        }
        assert_eq!(rest(&mut waiting), (1..=100).collect::<Vec<_>>());
        assert_eq!(waiting.left, 0);
    }
}
