//! What was received and not taken yet, in order.
//!
//! Invariants:
//! - To find one costs the logarithm of how many wait, so that thousands who give up one by one behind a full disk do
//!   not cost the square of their number.
//! - A place that was left is kept until its turn comes, but never more such places than there are deliveries, and
//!   [`SPARE`], and an order to hurry goes with what it was for: calls that come and give up for as long as the disk is
//!   full take no memory.

use std::collections::VecDeque;

use crate::transmitter::intake::{Arrival, ImportedDelivery};

/// Below so many a queue is not tidied.
const SPARE: usize = 64;

/// The budget of bytes bounds the deliveries among them.
#[derive(Default)]
pub struct Waiting {
    /// With the sequence of the delivery, or of the last one before; they do not fall. None: it was taken out.
    places: VecDeque<(u64, Option<Arrival>)>,
    /// How many of them have a delivery, and how many were left.
    deliveries: usize,
    left: usize,
}

impl Waiting {
    pub fn push(&mut self, arrival: Arrival) {
        let last = self.places.back().map_or(0, |(sequence, _)| *sequence);
        let sequence = match &arrival {
            Arrival::Delivery(delivery) => {
                self.deliveries += 1;
                last.max(delivery.entry.sequence)
            }
            _ => last,
        };
        self.places.push_back((sequence, Some(arrival)));
    }

    pub fn pop(&mut self) -> Option<Arrival> {
        loop {
            let (_, place) = self.places.pop_front()?;
            match &place {
                Some(Arrival::Delivery(_)) => self.deliveries -= 1,
                Some(_) => {}
                None => {
                    self.left -= 1;
                    continue;
                }
            }
            return place;
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
        self.deliveries -= 1;
        self.left += 1;
        if self.left > SPARE.max(self.deliveries) {
            self.tidy();
        }
        Some(delivery)
    }

    /// Without places that were left. Of orders to hurry that nothing stands between any more, one is enough.
    fn tidy(&mut self) {
        let mut hurries = false;
        self.places.retain(|(_, place)| {
            let hurried = std::mem::replace(&mut hurries, matches!(place, Some(Arrival::Hurry)));
            match place {
                None => {
                    hurries = hurried;
                    false
                }
                Some(Arrival::Hurry) => !hurried,
                Some(_) => true,
            }
        });
        self.left = 0;
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

    #[test]
    fn orders_to_hurry_are_one_where_nothing_stands_between_them() {
        let mut waiting = Waiting::default();
        for sequence in [1, 2, 3, 4] {
            waiting.push(delivery(sequence));
            waiting.push(Arrival::Hurry);
        }
        assert!(waiting.take(2).is_some() && waiting.take(4).is_some());
        waiting.tidy();
        assert_eq!(rest(&mut waiting), [1, 0, 3, 0]);
    }

    /// an hour of a full disk, in which callers come and give up.
    #[test]
    fn callers_that_come_and_give_up_take_no_memory() {
        let mut waiting = Waiting::default();
        (1..=100).for_each(|sequence| waiting.push(delivery(sequence)));
        for sequence in 101..=100_000 {
            waiting.push(delivery(sequence));
            // As each `send` does.
            waiting.push(Arrival::Hurry);
            assert!(waiting.take(sequence).is_some());
            assert!(waiting.places.len() <= 400, "{}", waiting.places.len());
        }
        let rest = rest(&mut waiting);
        assert_eq!(rest[..100], (1..=100).collect::<Vec<_>>());
        assert!(rest.len() > 100 && rest[100..].iter().all(|sequence| *sequence == 0));
        assert_eq!((waiting.left, waiting.deliveries), (0, 0));
    }
}
