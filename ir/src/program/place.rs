//! Offsets of the arena buffers of one binding: best fit over the interval graph of live ranges.
//!
//! Buffers are placed from the largest to the smallest, each into the smallest gap that its live range leaves between those placed
//! before. The order is a function of sizes and ids alone, so every run of the same binding has the same plan.

use super::{Buffer, Home, LiveRange};
use crate::dim::{BindError, Bindings};

/// The alignment of every buffer within arena and scratch, in bytes: one cache line, and one AVX-512 register.
pub const ALIGNMENT: usize = 64;

/// Where the buffers of one binding lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// For each buffer of the arena or of scratch, its offset in bytes there.
    pub offsets: Vec<Option<usize>>,
    /// The bytes of each buffer.
    pub bytes: Vec<usize>,
    /// The size of the arena, in bytes.
    pub arena: usize,
    /// The size of one thread's scratch, in bytes.
    pub scratch: usize,
    /// The largest sum of live arena bytes at any step, rounded up to the alignment: no arena can be smaller.
    pub live_peak: usize,
}

struct Placed {
    offset: usize,
    end: usize,
    live: LiveRange,
}

/// Places the buffers of a program under a binding of its symbols.
///
/// # Errors
/// A size that is unbound, negative or too large.
pub fn place(buffers: &[Buffer], bindings: &Bindings) -> Result<Placement, BindError> {
    let bytes: Vec<usize> = buffers
        .iter()
        .map(|b| b.bytes(bindings))
        .collect::<Result<_, _>>()?;
    let mut offsets = vec![None; buffers.len()];
    let mut scratch = 0usize;
    let mut arena_buffers: Vec<(usize, usize, LiveRange)> = Vec::new();
    for (id, buffer) in buffers.iter().enumerate() {
        let size = bytes[id].next_multiple_of(ALIGNMENT);
        match buffer.home {
            Home::Scratch => {
                offsets[id] = Some(scratch);
                scratch = scratch.saturating_add(size);
            }
            Home::Arena(live) => arena_buffers.push((id, size, live)),
            Home::Input | Home::Resident | Home::Output | Home::Constant(_) => {}
        }
    }
    let live_peak = live_peak(&arena_buffers);
    arena_buffers.sort_by_key(|(id, size, _)| (std::cmp::Reverse(*size), *id));
    // Sorted by offset, so that the gaps can be read off in one walk.
    let mut placed: Vec<Placed> = Vec::new();
    let mut arena = 0;
    for (id, size, live) in arena_buffers {
        let offset = best_gap(&placed, size, live);
        let end = offset.saturating_add(size);
        arena = arena.max(end);
        offsets[id] = Some(offset);
        let at = placed.partition_point(|p| p.offset <= offset);
        placed.insert(at, Placed { offset, end, live });
    }
    Ok(Placement {
        offsets,
        bytes,
        arena,
        scratch,
        live_peak,
    })
}

/// The start of the smallest gap of at least `size` bytes among the buffers that live at the same time; behind them all if none fits.
fn best_gap(placed: &[Placed], size: usize, live: LiveRange) -> usize {
    let mut free = 0;
    let mut best: Option<(usize, usize)> = None;
    for other in placed.iter().filter(|p| p.live.meets(live)) {
        if other.offset > free {
            let gap = other.offset - free;
            if gap >= size && best.is_none_or(|(least, _)| gap < least) {
                best = Some((gap, free));
            }
        }
        free = free.max(other.end);
    }
    best.map_or(free, |(_, offset)| offset)
}

fn live_peak(buffers: &[(usize, usize, LiveRange)]) -> usize {
    // A sum of live bytes can rise only where a buffer begins.
    let at = |step: usize| {
        let live = buffers
            .iter()
            .filter(|(_, _, l)| l.first <= step && step <= l.last);
        live.fold(0usize, |sum, (_, size, _)| sum.saturating_add(*size))
    };
    buffers
        .iter()
        .map(|(_, _, l)| at(l.first))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Dim;
    use crate::dtype::DType;
    use crate::philox::Stream;

    fn arena(elements: usize, first: usize, last: usize) -> Buffer {
        Buffer {
            name: String::new(),
            dtype: DType::F32,
            elements: Dim::from(elements),
            home: Home::Arena(LiveRange { first, last }),
        }
    }

    /// No two buffers that live at the same time overlap, every offset is aligned, and the arena holds them all.
    fn check(buffers: &[Buffer], placement: &Placement) {
        for (i, a) in buffers.iter().enumerate() {
            let (Home::Arena(live), Some(offset)) = (&a.home, placement.offsets[i]) else {
                continue;
            };
            assert!(offset.is_multiple_of(ALIGNMENT));
            assert!(offset + placement.bytes[i] <= placement.arena);
            for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                let (Home::Arena(other), Some(at)) = (&b.home, placement.offsets[j]) else {
                    continue;
                };
                let apart = offset + placement.bytes[i] <= at || at + placement.bytes[j] <= offset;
                assert!(apart || !live.meets(*other), "{i} and {j} overlap");
            }
        }
    }

    #[test]
    fn a_chain_needs_two_buffers_at_a_time() {
        let chain: Vec<Buffer> = (0..10).map(|i| arena(16, i, i + 1)).collect();
        let placement = place(&chain, &Bindings::new()).unwrap();
        check(&chain, &placement);
        assert_eq!((placement.arena, placement.live_peak), (128, 128));
    }

    #[test]
    fn random_plans_never_overlap_and_stay_near_the_bound() {
        let mut stream = Stream::new(7, "place", 0);
        for _ in 0..200 {
            let buffers: Vec<Buffer> = (0..1 + stream.below(40))
                .map(|_| {
                    let first = stream.below(30) as usize;
                    let last = first + stream.below(8) as usize;
                    arena(stream.below(5000) as usize, first, last)
                })
                .collect();
            let placement = place(&buffers, &Bindings::new()).unwrap();
            check(&buffers, &placement);
            assert!(placement.arena >= placement.live_peak);
        }
    }

    #[test]
    fn sizes_follow_the_binding_and_bad_ones_are_refused() {
        let mut buffer = arena(0, 0, 0);
        buffer.elements = Dim::symbol("b") * 10;
        let at = |b: i64| place(std::slice::from_ref(&buffer), &Bindings::from([("b", b)]));
        assert_eq!(at(3).unwrap().bytes, [120]);
        assert_eq!(at(0).unwrap().arena, 0);
        assert!(at(-1).is_err());
        assert!(at(i64::MAX / 8).is_err());
        assert!(place(&[buffer], &Bindings::new()).is_err());
    }
}
