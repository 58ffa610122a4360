//! Offsets of the arena buffers of one binding: best fit over the interval graph of live ranges.
//!
//! Buffers are placed one after another, each into the smallest gap that its live range leaves between those placed before. First the
//! largest ones go first. Where that takes more than is alive at once, other orders are tried: that of size times lifetime, that of
//! lifetimes, and each with the buffer on top, which the others left no better place, moved to the front, again and again. The best
//! plan counts. All of it is a function of sizes, live ranges and ids, so every run of the same binding has the same plan; the number
//! of tries is limited by the number of buffers, so that a large program is placed in milliseconds.

use super::{Buffer, Home, LiveRange};
use crate::dim::{BindError, Bindings};

/// The alignment of every buffer within arena and scratch, in bytes: one cache line, and one AVX-512 register.
pub const ALIGNMENT: usize = 64;

/// Where the buffers of one binding lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// For each buffer of the arena or of scratch and each stretch of one, its offset in bytes there.
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

/// A buffer of the arena: its number, its size rounded up to the alignment, and when it is alive.
#[derive(Clone, Copy)]
struct Tenant {
    id: usize,
    size: usize,
    live: LiveRange,
}

impl Tenant {
    /// The number of steps for which it is alive.
    fn lifetime(&self) -> usize {
        let LiveRange { first, last } = self.live;
        last.saturating_sub(first).saturating_add(1)
    }
}

/// What is placed first has the greatest rank.
type Rank = fn(&Tenant) -> (usize, usize);

struct Placed {
    offset: usize,
    end: usize,
    live: LiveRange,
}

/// Offsets for the tenants in some order.
struct Fit {
    /// By position among the tenants.
    offsets: Vec<usize>,
    arena: usize,
    /// The tenant that ends last.
    top: usize,
}

/// Steps of fitting that all tries together may take: pairs of buffers looked at.
const EFFORT: usize = 4_000_000;
/// Enough tries for a small program.
const TRIES: usize = 96;

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
    let (mut tenants, mut locals): (Vec<Tenant>, Vec<Tenant>) = Default::default();
    for (id, buffer) in buffers.iter().enumerate() {
        let size = bytes[id].next_multiple_of(ALIGNMENT);
        match buffer.home {
            Home::Scratch => {
                offsets[id] = Some(scratch);
                scratch = scratch.saturating_add(size);
            }
            Home::Arena(live) => tenants.push(Tenant { id, size, live }),
            Home::Local(live) => locals.push(Tenant { id, size, live }),
            // A slice or a stretch lies in the memory of what it is one of.
            Home::Input
            | Home::Resident
            | Home::Output
            | Home::Constant(_)
            | Home::Slice(_)
            | Home::Stretch(_) => {}
        }
    }
    let live_peak = live_peak(&tenants);
    let fit = best_fit(&tenants, live_peak);
    for (tenant, offset) in tenants.iter().zip(&fit.offsets) {
        offsets[tenant.id] = Some(*offset);
    }
    let local = best_fit(&locals, self::live_peak(&locals));
    for (tenant, offset) in locals.iter().zip(&local.offsets) {
        offsets[tenant.id] = Some(scratch.saturating_add(*offset));
    }
    scratch = scratch.saturating_add(local.arena);
    for (id, buffer) in buffers.iter().enumerate() {
        if let Some(stretch) = buffer.home.stretch() {
            // That nothing is less than nothing keeps it inside of the whole.
            stretch.rest.eval_size(bindings)?;
            let skip = stretch.skip.eval_size(bindings)?;
            let skip = skip.saturating_mul(buffer.dtype.size());
            let whole = offsets.get(stretch.of.index()).copied().flatten();
            offsets[id] = whole.map(|at: usize| at.saturating_add(skip));
        }
    }
    Ok(Placement {
        offsets,
        bytes,
        arena: fit.arena,
        scratch,
        live_peak,
    })
}

/// The first fit that needs no more than `bound`, else the smallest one that was found.
fn best_fit(tenants: &[Tenant], bound: usize) -> Fit {
    let ranks: [Rank; 3] = [
        |t| (t.size, 0),
        |t| (t.size.saturating_mul(t.lifetime()), t.size),
        |t| (t.lifetime(), t.size),
    ];
    let pairs = tenants.len().saturating_mul(tenants.len()).max(1);
    let tries = (EFFORT / pairs).clamp(1, TRIES);
    let mut best: Option<Fit> = None;
    for rank in ranks {
        let mut order: Vec<usize> = (0..tenants.len()).collect();
        order.sort_by_key(|&at| (std::cmp::Reverse(rank(&tenants[at])), at));
        for _ in 0..tries.div_ceil(ranks.len()) {
            let found = fit(tenants, &order);
            let top = found.top;
            if best.as_ref().is_none_or(|best| found.arena < best.arena) {
                best = Some(found);
            }
            if best.as_ref().is_some_and(|best| best.arena <= bound) {
                break;
            }
            if let Some(at) = order.iter().position(|tenant| *tenant == top) {
                order[..=at].rotate_right(1);
            }
        }
    }
    best.unwrap_or_else(|| fit(tenants, &[]))
}

/// Places the tenants in an order, each where it wastes least.
fn fit(tenants: &[Tenant], order: &[usize]) -> Fit {
    // Sorted by offset, so that the gaps can be read off in one walk.
    let mut placed: Vec<Placed> = Vec::with_capacity(order.len());
    let mut fit = Fit {
        offsets: vec![0; tenants.len()],
        arena: 0,
        top: 0,
    };
    for &tenant in order {
        let Tenant { size, live, .. } = tenants[tenant];
        let offset = best_gap(&placed, size, live);
        let end = offset.saturating_add(size);
        if end > fit.arena {
            (fit.arena, fit.top) = (end, tenant);
        }
        fit.offsets[tenant] = offset;
        let at = placed.partition_point(|p| p.offset <= offset);
        placed.insert(at, Placed { offset, end, live });
    }
    fit
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

fn live_peak(tenants: &[Tenant]) -> usize {
    // A sum of live bytes can rise only where a buffer begins.
    let at = |step: usize| {
        let live = tenants
            .iter()
            .filter(|t| t.live.first <= step && step <= t.live.last);
        live.fold(0usize, |sum, t| sum.saturating_add(t.size))
    };
    tenants.iter().map(|t| at(t.live.first)).max().unwrap_or(0)
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
    fn what_is_local_to_a_thread_shares_memory_behind_the_scratch() {
        let home = |home| Buffer {
            home,
            ..arena(16, 0, 0)
        };
        let local = |first, last| home(Home::Local(LiveRange { first, last }));
        let buffers = [local(1, 2), home(Home::Scratch), local(3, 4), local(2, 3)];
        let placement = place(&buffers, &Bindings::new()).unwrap();
        assert_eq!((placement.arena, placement.scratch), (0, 64 + 128));
        assert_eq!(placement.offsets[1], Some(0));
        assert_eq!(placement.offsets[0], placement.offsets[2]);
        assert_ne!(placement.offsets[0], placement.offsets[3]);
    }

    #[test]
    fn a_large_program_is_placed_without_many_tries() {
        // Forward values that live until their backward step, each beside a short one: largest first alone wastes here.
        let layers = 600;
        let buffers: Vec<Buffer> = (0..layers)
            .flat_map(|i| {
                let size = 16 * (1 + i * 7 % 13);
                let value = arena(size, i, 2 * layers - i);
                [value, arena(3 * size, i, i + 1)]
            })
            .collect();
        let placement = place(&buffers, &Bindings::new()).unwrap();
        check(&buffers, &placement);
        assert!(placement.arena * 20 <= placement.live_peak * 21);
        assert_eq!(place(&buffers, &Bindings::new()).unwrap(), placement);
    }

    #[test]
    fn random_plans_never_overlap_and_stay_near_the_bound() {
        let mut stream = Stream::new(7, "place", 0);
        let mut reached = 0;
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
            assert!(placement.arena * 10 <= placement.live_peak * 11);
            reached += usize::from(placement.arena == placement.live_peak);
        }
        assert!(
            reached >= 180,
            "only {reached} of 200 plans reach the bound"
        );
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
