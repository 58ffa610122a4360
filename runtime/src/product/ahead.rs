//! Memory that the steps behind a product will touch, which its tiles ask for while they multiply.

use super::pack::cut;
use kiln_ir::program::ALIGNMENT;
use std::cell::Cell;

/// The bytes of a cache line.
pub(crate) const LINE: usize = ALIGNMENT;

/// Consecutive lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines {
    /// In the first one. Nothing is read there, so any address will do.
    pub(crate) at: *const u8,
    /// How many.
    pub(crate) count: usize,
}

impl Lines {
    /// None at all.
    pub(crate) const NONE: Lines = Lines {
        at: std::ptr::null(),
        count: 0,
    };

    /// The lines of so many bytes.
    pub(crate) fn of(at: *const u8, bytes: usize) -> Lines {
        let count = bytes.div_ceil(LINE);
        Lines { at, count }
    }

    /// The share `index` of `shares`.
    pub(crate) fn share(self, index: usize, shares: usize) -> Lines {
        let own = cut(self.count, shares, index);
        Lines {
            at: self.at.wrapping_add(own.start * LINE),
            count: own.len(),
        }
    }
}

/// What the tiles of one call ask for, each a few lines. All at once would hold up the operands.
pub(super) struct Ahead<'a> {
    all: &'a [Lines],
    /// How many lines a tile asks for.
    each: usize,
    /// The first of `all` that is left, and how many lines of it are not.
    next: Cell<(usize, usize)>,
}

impl<'a> Ahead<'a> {
    /// All of it, by so many tiles.
    #[inline(always)]
    pub(super) fn new(all: &'a [Lines], tiles: usize) -> Self {
        let count: usize = all.iter().map(|lines| lines.count).sum();
        Self {
            all,
            each: count.div_ceil(tiles.max(1)),
            next: Cell::new((0, 0)),
        }
    }

    /// The lines for the next tile, which asks for one with each depth.
    #[inline(always)]
    pub(super) fn take(&self, depth: usize) -> Lines {
        if self.each == 0 {
            return Lines::NONE;
        }
        let (at, taken) = self.next.get();
        let Some(lines) = self.all.get(at) else {
            return Lines::NONE;
        };
        let count = self.each.min(depth).min(lines.count - taken);
        self.next.set(match taken + count == lines.count {
            true => (at + 1, 0),
            false => (at, taken + count),
        });
        Lines {
            at: lines.at.wrapping_add(taken * LINE),
            count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_tiles_ask_for_every_line_once() {
        let base = std::ptr::null::<u8>();
        let all = [
            Lines::of(base, 1000),
            Lines::of(base.wrapping_add(4096), 64 * 90),
            Lines::NONE,
            Lines::of(base, 1),
        ];
        let mut counted = Vec::new();
        for share in 0..3 {
            let own = all.map(|lines| lines.share(share, 3));
            let count: usize = own.iter().map(|lines| lines.count).sum();
            let ahead = Ahead::new(&own, 7);
            let mut found = Vec::new();
            for _ in 0..7 + own.len() {
                let taken = ahead.take(8);
                assert!(taken.count <= count.div_ceil(7).min(8));
                found.extend((0..taken.count).map(|line| taken.at.addr() / LINE + line));
            }
            assert_eq!(found.len(), count);
            counted.extend(found);
        }
        counted.sort_unstable();
        let mut wanted: Vec<usize> = (0..16).chain(64..154).chain([0]).collect();
        wanted.sort_unstable();
        assert_eq!(counted, wanted);
    }
}
