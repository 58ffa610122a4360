//! Zeroed, 64-byte aligned blocks, large ones in large pages: the ground on which arenas, states and scratch are laid out.
//!
//! Kernels address memory by raw pointers and offsets that the plan computed; everyone else goes through views
//! checked for bounds and alignment. Running out of memory is an error here, never an abort. Nothing in this file
//! knows what lies where in a block: that is the plan's business.

use crate::element::Element;
use memmap2::MmapMut;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;

/// The alignment of every block, in bytes: one cache line, and one AVX-512 register.
pub const ALIGNMENT: usize = 64;

/// The bytes of a large page, of which the processor remembers the place by one entry.
const LARGE_PAGE: usize = 2 << 20;

/// The bytes from which a block asks for large pages. The operands of a product lie thousands of bytes apart from row to row, and a large arena
/// has more small pages than the processor remembers.
const LARGE: usize = 2 * LARGE_PAGE;

/// The system would not give this many bytes, or no address space could hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot allocate {bytes} bytes")]
pub struct OutOfMemory {
    /// The size that was asked for.
    pub bytes: usize,
}

/// Why a typed view of a block was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The view would end past the block.
    #[error(
        "a view of {count} elements of {size} bytes at byte {offset} leaves a block of {len} bytes"
    )]
    OutOfBounds {
        /// Where the view was to begin, in bytes.
        offset: usize,
        /// How many elements were asked for.
        count: usize,
        /// The size of an element in bytes.
        size: usize,
        /// The length of the block in bytes.
        len: usize,
    },
    /// The offset is not a multiple of the element's alignment.
    #[error("byte {offset} is not aligned to {alignment}")]
    Misaligned {
        /// Where the view was to begin, in bytes.
        offset: usize,
        /// The alignment of the element in bytes.
        alignment: usize,
    },
}

/// An owned block of bytes, zeroed when made and aligned to [`ALIGNMENT`]. A block of length 0 owns no memory.
pub struct AlignedBytes {
    pointer: NonNull<u8>,
    len: usize,
    /// Where the bytes lie if not on the heap.
    mapping: Option<MmapMut>,
}

impl AlignedBytes {
    /// A block of `len` zero bytes.
    ///
    /// # Errors
    /// [`OutOfMemory`] where the allocator has not got that much.
    pub fn zeroed(len: usize) -> Result<AlignedBytes, OutOfMemory> {
        let refused = OutOfMemory { bytes: len };
        let layout = Layout::from_size_align(len, ALIGNMENT).map_err(|_| refused)?;
        if len == 0 {
            // The layout's own dangling pointer: non-null and aligned, as an empty slice needs it.
            return Ok(AlignedBytes {
                pointer: layout.dangling_ptr(),
                len,
                mapping: None,
            });
        }
        if len >= LARGE {
            return AlignedBytes::mapped(len).ok_or(refused);
        }
        // SAFETY: the layout has a size above zero.
        let pointer = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(refused)?;
        Ok(AlignedBytes {
            pointer,
            len,
            mapping: None,
        })
    }

    /// A block of `len` zero bytes that begins at a large page, and lies in such where the system has them.
    fn mapped(len: usize) -> Option<AlignedBytes> {
        let mut mapping = MmapMut::map_anon(len.checked_add(LARGE_PAGE)?).ok()?;
        // A system that has no large pages has the others.
        #[cfg(target_os = "linux")]
        let _ = mapping.advise(memmap2::Advice::HugePage);
        let first = mapping.as_mut_ptr();
        let behind = first.addr().wrapping_neg() % LARGE_PAGE;
        Some(AlignedBytes {
            pointer: NonNull::new(first.wrapping_add(behind))?,
            len,
            mapping: Some(mapping),
        })
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the length is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address of the first byte, for reading; it does not change while the block lives.
    pub fn as_ptr(&self) -> *const u8 {
        self.pointer.as_ptr()
    }

    /// The address of the first byte, for reading and writing.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.pointer.as_ptr()
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block owns `len` initialised bytes (zeroed at birth), and `&self` keeps writers out.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.len) }
    }

    /// All bytes, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` keeps every other access out.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.len) }
    }

    /// `count` elements from byte `offset` on.
    ///
    /// # Errors
    /// [`ViewError`] where the view would leave the block or its begin is not aligned for `T`.
    pub fn view<T: Element>(&self, offset: usize, count: usize) -> Result<&[T], ViewError> {
        let range = self.check::<T>(offset, count)?;
        let bytes = &self.bytes()[range];
        // SAFETY: `check` made sure that `count` elements lie inside the block and that the offset is a multiple
        // of T's alignment, which divides the block's; every bit pattern is a T.
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) })
    }

    /// `count` elements from byte `offset` on, for writing.
    ///
    /// # Errors
    /// As [`AlignedBytes::view`].
    pub fn view_mut<T: Element>(
        &mut self,
        offset: usize,
        count: usize,
    ) -> Result<&mut [T], ViewError> {
        let range = self.check::<T>(offset, count)?;
        let bytes = &mut self.bytes_mut()[range];
        // SAFETY: as in `view`, and `&mut self` makes the view unique; every T is a valid bit pattern of bytes.
        Ok(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), count) })
    }

    /// The bytes that `count` elements at `offset` take up, if they may be seen as `T`.
    fn check<T: Element>(&self, offset: usize, count: usize) -> Result<Range<usize>, ViewError> {
        let size = size_of::<T>();
        let alignment = align_of::<T>();
        if !offset.is_multiple_of(alignment) {
            return Err(ViewError::Misaligned { offset, alignment });
        }
        count
            .checked_mul(size)
            .and_then(|bytes| offset.checked_add(bytes))
            .filter(|&end| end <= self.len)
            .map(|end| offset..end)
            .ok_or(ViewError::OutOfBounds {
                offset,
                count,
                size,
                len: self.len,
            })
    }
}

// SAFETY: the block is plain owned memory, on the heap or mapped for nobody else; access goes through `&self` and `&mut self` as with a `Vec<u8>`.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above; `&self` gives read access only.
unsafe impl Sync for AlignedBytes {}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        let layout = Layout::from_size_align(self.len, ALIGNMENT);
        if let (None, 1.., Ok(layout)) = (&self.mapping, self.len, layout) {
            // SAFETY: the pointer came from `alloc_zeroed` with this very layout, and it is freed once.
            unsafe { dealloc(self.pointer.as_ptr(), layout) }
        }
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zeroed_and_aligned() {
        for len in [0, 1, 63, 64, 65, 100_001, LARGE - 1, LARGE, LARGE + 1] {
            let block = AlignedBytes::zeroed(len).unwrap();
            assert_eq!(block.len(), len);
            assert_eq!(block.is_empty(), len == 0);
            let alignment = if len < LARGE { ALIGNMENT } else { LARGE_PAGE };
            assert!(block.as_ptr().addr().is_multiple_of(alignment));
            assert_eq!(block.bytes(), vec![0; len]);
        }
    }

    #[test]
    fn too_much_is_an_error() {
        for bytes in [usize::MAX, isize::MAX as usize, 1 << 62] {
            assert_eq!(
                AlignedBytes::zeroed(bytes).unwrap_err(),
                OutOfMemory { bytes }
            );
        }
    }

    #[test]
    fn views_write_through() {
        let mut block = AlignedBytes::zeroed(24).unwrap();
        block
            .view_mut::<f32>(4, 2)
            .unwrap()
            .copy_from_slice(&[1.0, -2.0]);
        block.view_mut::<i64>(16, 1).unwrap()[0] = -1;
        assert_eq!(
            block.view::<u32>(0, 4).unwrap(),
            [0, 0x3F80_0000, 0xC000_0000, 0]
        );
        assert_eq!(block.bytes()[16..], [0xFF; 8]);
    }

    #[test]
    fn views_are_refused_out_of_bounds_and_misaligned() {
        let mut block = AlignedBytes::zeroed(24).unwrap();
        assert!(block.view::<f64>(0, 3).is_ok());
        assert!(block.view::<f64>(24, 0).is_ok());
        let refused = ViewError::OutOfBounds {
            offset: 0,
            count: 4,
            size: 8,
            len: 24,
        };
        assert_eq!(block.view::<f64>(0, 4), Err(refused));
        assert_eq!(
            block.view_mut::<f64>(4, 1),
            Err(ViewError::Misaligned {
                offset: 4,
                alignment: 8
            })
        );
        assert!(block.view::<u8>(25, 0).is_err());
        assert!(block.view::<f64>(usize::MAX - 7, 1).is_err());
        assert!(block.view::<f64>(8, usize::MAX / 4).is_err());
        let empty = AlignedBytes::zeroed(0).unwrap();
        assert_eq!(empty.view::<f64>(0, 0), Ok(&[][..]));
    }
}
