//! What the largest product of a loop asks for while it multiplies: the entries that the other steps touch next.
//!
//! An iteration touches one entry of each stack and comes back to none. A kernel between two products is done before any of it has come, and
//! waits for memory for half of its time; the products wait for nothing.

use super::{Plan, Resolved};
use crate::product::LINE;
use std::ops::Range;

/// The bytes that a product asks for at most: half of what a small L2 holds.
const MOST_BYTES: usize = 512 << 10;

/// Stacks of fewer bytes together stay in L2.
const LEAST_BYTES: usize = 1 << 20;

/// Multiplications for each line that a product asks for, at least: a line takes as long as a few dozen of them.
const MULTIPLICATIONS_PER_LINE: usize = 1024;

/// An entry.
#[derive(Clone, Copy)]
pub(crate) struct Ask {
    /// A position in the plan's addresses: the entry of this iteration.
    pub(crate) address: usize,
    /// From there, in bytes.
    pub(crate) offset: isize,
    /// Its size.
    pub(crate) bytes: usize,
}

/// The most entries that a product asks for.
pub(crate) const MOST_ASKS: usize = 12;

impl Plan {
    /// Gives the largest product among the steps of a body, but for bodies within, the entries that it asks for.
    pub(super) fn ask_ahead(&mut self, body: Range<usize>, moves: Range<usize>) {
        let mut largest: Option<(usize, usize)> = None;
        let mut at = body.start;
        while at < body.end {
            if let Resolved::Product(product) = &self.steps[at]
                && let Some(room) = product.method.room_to_ask()
                && largest.is_none_or(|(most, _)| room > most)
            {
                largest = Some((room, at));
            }
            at = self.steps[at].end(at);
        }
        let Some((room, at)) = largest else {
            return;
        };
        let Resolved::Product(product) = &mut self.steps[at] else {
            return;
        };
        // Those of a ring are still in cache.
        let stacks = self.moves[moves].iter().filter(|one| one.entries > 2);
        let whole: usize = stacks
            .clone()
            .map(|one| one.whole)
            .fold(0, usize::saturating_add);
        if whole < LEAST_BYTES {
            return;
        }
        let mut left = MOST_BYTES.min(room / MULTIPLICATIONS_PER_LINE * LINE);
        for one in stacks {
            let bytes = one.step.unsigned_abs();
            let touched = self.targets[one.targets.clone()].iter().copied().min();
            let Some(address) = touched.filter(|_| bytes <= left) else {
                continue;
            };
            // Positions are in the order of the steps, so that what is touched first behind the product is this iteration's.
            let offset = if address > product.dst.address {
                0
            } else {
                one.step
            };
            if product.asks.len() < MOST_ASKS {
                left -= bytes;
                product.asks.push(Ask {
                    address,
                    offset,
                    bytes,
                });
            }
        }
    }
}
