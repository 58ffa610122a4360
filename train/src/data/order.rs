//! The order in which examples are seen.
//!
//! One function decides every shuffle of this crate. The order is a function of the seed, the
//! purpose and the epoch alone: it does not depend on what was drawn before, so a run that resumes
//! at epoch 7 sees exactly the batches that an uninterrupted run sees.

use kiln_ir::philox::Stream;

/// What an order is for. Streams of different purpose never meet, although the seed is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Which examples are held out.
    Split,
    /// The order of the batches in one epoch.
    Epoch(u64),
    /// The order of a data set, once and for all.
    Shuffle,
    /// Where the windows of one epoch begin.
    Windows(u64),
}

/// The random numbers that belong to `seed` and `purpose`.
pub(super) fn stream(seed: u64, purpose: Purpose) -> Stream {
    match purpose {
        Purpose::Split => Stream::new(seed, "data/split", 0),
        Purpose::Epoch(epoch) => Stream::new(seed, "data/epoch", epoch),
        Purpose::Shuffle => Stream::new(seed, "data/shuffle", 0),
        Purpose::Windows(epoch) => Stream::new(seed, "data/windows", epoch),
    }
}

/// Puts `rows` into the order that belongs to `seed` and `purpose`.
pub(super) fn shuffle(rows: &mut [usize], seed: u64, purpose: Purpose) {
    stream(seed, purpose).shuffle(rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_purpose_and_epoch_each_give_another_order() {
        let orders = [
            (1, Purpose::Split),
            (2, Purpose::Split),
            (1, Purpose::Shuffle),
            (1, Purpose::Epoch(0)),
            (1, Purpose::Epoch(1)),
            (1, Purpose::Epoch(1 << 32)),
            (1, Purpose::Windows(0)),
            (1, Purpose::Windows(1)),
        ]
        .map(|(seed, purpose)| {
            let mut rows: Vec<usize> = (0..50).collect();
            shuffle(&mut rows, seed, purpose);
            rows
        });
        for (position, order) in orders.iter().enumerate() {
            assert!(
                !orders[..position].contains(order),
                "order {position} was seen before"
            );
        }
    }
}
