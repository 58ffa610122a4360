//! Products whose right side is packed once for many calls, by whoever calls.
//!
//! A product in a loop multiplies by the same weights in every iteration. With 32 rows, to pack weights that lie transposed was measured to
//! take a fifth to a quarter of each product, and every thread that shares out the columns of a result can read the same packed form.
//! So a method that would pack its right side may be turned into one that finds it packed. Which bits result does not depend on it.

use super::blocked::Packing;
use super::{Method, Walk};

/// The most bytes of lanes that follow one another for which a second copy pays: their packing rides on the first tile and costs one to
/// three hundredths at 30 rows, which is lost again where the copy lies in L3.
const MOST_FOLLOWING: usize = 2 << 20;

impl Method {
    /// The same method with its right side packed by [`Method::pack`], and the bytes of that; `None` where the right side is read in place
    /// anyway, or as fast.
    pub fn apart(&self) -> Option<(Method, usize)> {
        let walk = match &self.walk {
            Walk::Blocked(walk) => walk,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Walk::Split(walk) => return self.split_apart(walk),
            Walk::Plain | Walk::Chain(_) | Walk::Lanes(_) => return None,
        };
        let packs = match walk.blocked.packing {
            Packing::None => false,
            Packing::Strip | Packing::Whole => true,
        };
        // The strips of each part must be those of the whole.
        let aligned = self.parts == 1 || self.part.is_multiple_of(walk.strip);
        if !packs || !aligned || walk.swapped || walk.apart {
            return None;
        }
        let bytes = walk.packed?;
        if walk.blocked.lane == 1 && bytes > MOST_FOLLOWING {
            return None;
        }
        let mut walk = walk.clone();
        walk.apart = true;
        walk.blocked.packing = Packing::Whole;
        let scratch = walk.blocked.room.whole;
        let method = Method {
            scratch,
            walk: Walk::Blocked(walk),
            ..self.clone()
        };
        Some((method, bytes))
    }

    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    fn split_apart(&self, walk: &super::InTiles) -> Option<(Method, usize)> {
        if walk.split.swapped || walk.apart {
            return None;
        }
        let (split, bytes) = walk.split.apart()?;
        let method = Method {
            scratch: split.scratch(),
            walk: Walk::Split(Box::new(super::InTiles { split, apart: true })),
            ..self.clone()
        };
        Some((method, bytes))
    }

    /// Packs a right side to `whole`, for a method with its right side apart; others have nothing to pack.
    ///
    /// # Safety
    /// All elements of `rhs` are initialised, valid for reads of the type and aligned for it, nobody writes them meanwhile, and `whole` is
    /// as many bytes as [`Method::apart`] said, aligned to 64, that nobody else uses.
    pub unsafe fn pack(&self, rhs: *const u8, whole: *mut u8) {
        match &self.walk {
            Walk::Blocked(walk) if walk.apart => {
                // SAFETY: the caller's promise is passed on; the lanes are the right side, and the function is the one of this machine.
                unsafe { (walk.pack_whole)(&walk.blocked, rhs, whole) }
            }
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Walk::Split(walk) if walk.apart => {
                // SAFETY: as above; a machine that has this walk has tiles.
                unsafe { super::split::walk::pack_whole(&walk.split, rhs, whole) }
            }
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Walk::Split(_) => {}
            Walk::Blocked(_) | Walk::Plain | Walk::Chain(_) | Walk::Lanes(_) => {}
        }
    }
}
