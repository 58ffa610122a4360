//! How the work of a launch is shared out: which thread runs which iterations of which part.
//!
//! Every thread gets an equal share of each large part, so that parts need not take the same time for an element, and a thread finds the
//! rows of a tensor that it had in the launch before. What is small, or has too few iterations, is laid end to end, as long as the elements
//! that it touches, and the whole is cut into one run for each thread. So sixty small tensors are as balanced as one large one. The cuts
//! are a function of numbers alone and are made when a plan is; nothing here is balanced while a step runs.

use crate::pool::split;
use std::cmp::Ordering;
use std::ops::Range;

/// A launch that touches fewer elements than this stays on the calling thread. A streaming kernel goes through as many in a few
/// microseconds, and a fork and join costs about one, so that below it there is little to win and above it little to lose.
pub(crate) const PARALLEL_ELEMENTS: usize = 32 * 1024;

/// The size of a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Iterations of its outermost loop.
    pub(crate) total: usize,
    /// Cuts lie at multiples of as many iterations; 0 counts as 1.
    pub(crate) grain: usize,
    /// Elements that an iteration touches; 0 counts as 1, since a kernel may have something to say about no elements.
    pub(crate) work: usize,
}

impl Extent {
    fn elements(&self) -> u128 {
        self.total.saturating_mul(self.work.max(1)) as u128
    }

    /// Whether the part is worth a fork of its own, and each of `threads` has something to do.
    fn is_large(&self, threads: usize) -> bool {
        let blocks = self.total.div_ceil(self.grain.max(1));
        self.elements() >= PARALLEL_ELEMENTS as u128 && blocks >= threads
    }
}

/// Iterations of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) part: usize,
    /// Never empty.
    pub(crate) range: Range<usize>,
}

/// What each thread runs, in order: at most `threads` shares, none of them empty, that cover every iteration of every part once.
pub(crate) fn share_out(parts: &[Extent], threads: usize) -> Vec<Vec<Piece>> {
    let all: u128 = parts.iter().map(Extent::elements).sum();
    let count = if all < PARALLEL_ELEMENTS as u128 {
        1
    } else {
        threads.max(1)
    };
    let large: Vec<bool> = parts.iter().map(|p| p.is_large(count)).collect();
    let laid: Vec<Extent> = parts
        .iter()
        .zip(&large)
        .map(|(part, large)| Extent {
            total: if *large { 0 } else { part.total },
            ..*part
        })
        .collect();
    let laid_elements: u128 = laid.iter().map(Extent::elements).sum();
    let mut shares = Vec::new();
    let mut from = (0, 0);
    for share in 0..count {
        let to = if share + 1 == count {
            (parts.len(), 0)
        } else {
            cut(&laid, laid_elements * (share as u128 + 1) / count as u128)
        };
        let ranges = parts.iter().enumerate().map(|(number, part)| {
            if large[number] {
                split(part.total, count, part.grain, share)
            } else {
                between(number, part.total, from, to)
            }
        });
        let pieces = ranges
            .enumerate()
            .map(|(part, range)| Piece { part, range });
        let pieces: Vec<Piece> = pieces.filter(|p| !p.range.is_empty()).collect();
        if !pieces.is_empty() {
            shares.push(pieces);
        }
        from = to;
    }
    shares
}

/// The part and the iteration nearest to so many elements from the start, at a multiple of the part's grain.
fn cut(parts: &[Extent], elements: u128) -> (usize, usize) {
    let mut rest = elements;
    for (number, part) in parts.iter().enumerate() {
        if rest < part.elements() {
            // Less than `total`, so it fits.
            let iterations = (rest / part.work.max(1) as u128) as usize;
            let grain = part.grain.max(1);
            let blocks = iterations.saturating_add(grain / 2) / grain;
            return (number, blocks.saturating_mul(grain).min(part.total));
        }
        rest -= part.elements();
    }
    (parts.len(), 0)
}

/// The iterations of a part that lie between two cuts.
fn between(part: usize, total: usize, from: (usize, usize), to: (usize, usize)) -> Range<usize> {
    let at = |cut: (usize, usize)| match part.cmp(&cut.0) {
        Ordering::Less => total,
        Ordering::Equal => cut.1,
        Ordering::Greater => 0,
    };
    at(from)..at(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(total: usize, grain: usize, work: usize) -> Extent {
        Extent { total, grain, work }
    }

    fn ranges(shares: &[Vec<Piece>]) -> Vec<Vec<(usize, Range<usize>)>> {
        let piece = |p: &Piece| (p.part, p.range.clone());
        let share = |s: &Vec<Piece>| s.iter().map(piece).collect();
        shares.iter().map(share).collect()
    }

    /// Every iteration once, in order, cut at multiples of the grain, however odd the numbers.
    #[test]
    fn shares_cover_all_parts_once() {
        let mut stream = kiln_ir::philox::Stream::new(3, "share", 0);
        let mut below = |n: u64| stream.below(n) as usize;
        for _ in 0..500 {
            let parts: Vec<Extent> = (0..1 + below(7))
                .map(|_| extent(below(3000), below(3) * 64, below(200)))
                .collect();
            for threads in 1..6 {
                let shares = share_out(&parts, threads);
                assert!(shares.len() <= threads);
                let mut next: Vec<usize> = vec![0; parts.len()];
                for piece in shares.iter().flatten() {
                    let grain = parts[piece.part].grain.max(1);
                    assert_eq!(piece.range.start, next[piece.part]);
                    assert!(piece.range.start.is_multiple_of(grain) && !piece.range.is_empty());
                    next[piece.part] = piece.range.end;
                }
                let totals: Vec<usize> = parts.iter().map(|p| p.total).collect();
                assert_eq!(next, totals);
            }
        }
    }

    #[test]
    fn large_parts_are_cut_and_small_ones_handed_out() {
        // Each thread has half of both large parts, whatever an element of them takes.
        let parts = [extent(100, 1, 1000), extent(100_000, 64, 1)];
        let shares = ranges(&share_out(&parts, 2));
        assert_eq!(
            shares,
            [
                vec![(0, 0..50), (1, 0..50_048)],
                vec![(0, 50..100), (1, 50_048..100_000)]
            ]
        );
        // Small parts are cut where half of the elements are, at a multiple of a grain.
        let parts = [extent(10_000, 64, 2), extent(15_000, 64, 2)];
        let shares = ranges(&share_out(&parts, 2));
        assert_eq!(
            shares,
            [
                vec![(0, 0..10_000), (1, 0..2_496)],
                vec![(1, 2_496..15_000)]
            ]
        );
        // What cannot be cut weighs as much as it is long.
        let parts = [extent(1, 1, 30_000), extent(100, 1, 300)];
        let shares = ranges(&share_out(&parts, 2));
        assert_eq!(shares, [vec![(0, 0..1)], vec![(1, 0..100)]]);
    }

    #[test]
    fn what_is_small_or_cannot_be_cut_stays_together() {
        let small = [extent(100, 64, 5), extent(0, 64, 5), extent(7, 1, 9)];
        assert_eq!(
            ranges(&share_out(&small, 4)),
            [vec![(0, 0..100), (2, 0..7)]]
        );
        assert_eq!(ranges(&share_out(&[extent(1, 1, 1 << 40)], 4)).len(), 1);
        assert!(share_out(&[extent(0, 1, 9)], 4).is_empty());
        let huge = [extent(usize::MAX, usize::MAX, usize::MAX); 3];
        assert_eq!(share_out(&huge, 2).iter().flatten().count(), 3);
    }
}
