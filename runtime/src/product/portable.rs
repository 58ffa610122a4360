//! Products without vector instructions: arrays of lanes and `mul_add`, for machines that no other file of this folder knows.
//!
//! `mul_add` is rounded once everywhere, so the bits are those of the vector units; where a machine has no such instruction it is a
//! function, and slow.

use super::simd::{Simd, Tile, TileFn, instantiate, tiles};

const LANES: usize = 4;

macro_rules! portable {
    ($(#[$doc:meta])* $name:ident, $element:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name;

        impl Simd for $name {
            type Element = $element;
            type Vector = [$element; LANES];
            type Mask = usize;
            type Square = [Self::Vector; LANES];
            const LANES: usize = LANES;
            const SLIVER: usize = LANES;
            const WIDE: usize = 1;
            const WIDE_STRIDED: usize = 1;

            // SAFETY, for all of these: the trait's caller has valid pointers.
            #[inline(always)]
            unsafe fn zero() -> Self::Vector {
                [0.0; LANES]
            }
            #[inline(always)]
            unsafe fn splat(from: *const $element) -> Self::Vector {
                // SAFETY: see above.
                [unsafe { *from }; LANES]
            }
            #[inline(always)]
            unsafe fn load(from: *const $element) -> Self::Vector {
                // SAFETY: see above; an array has the alignment of its elements.
                unsafe { from.cast::<Self::Vector>().read() }
            }
            #[inline(always)]
            unsafe fn store(to: *mut $element, vector: Self::Vector) {
                // SAFETY: as above.
                unsafe { to.cast::<Self::Vector>().write(vector) }
            }
            #[inline(always)]
            unsafe fn mask(count: usize) -> usize {
                count
            }
            #[inline(always)]
            unsafe fn load_masked(from: *const $element, mask: usize) -> Self::Vector {
                let mut vector = [0.0; LANES];
                for (lane, element) in vector.iter_mut().enumerate() {
                    if lane < mask {
                        // SAFETY: see above; only the lanes of the mask are touched.
                        *element = unsafe { *from.wrapping_add(lane) };
                    }
                }
                vector
            }
            #[inline(always)]
            unsafe fn store_masked(to: *mut $element, vector: Self::Vector, mask: usize) {
                for (lane, element) in vector.into_iter().enumerate() {
                    if lane < mask {
                        // SAFETY: as above.
                        unsafe { *to.wrapping_add(lane) = element }
                    }
                }
            }
            #[inline(always)]
            unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
                std::array::from_fn(|lane| a[lane] + b[lane])
            }
            #[inline(always)]
            unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
            }
            #[inline(always)]
            unsafe fn prefetch(_: *const $element) {}
            #[inline(always)]
            unsafe fn prefetch_to_l2(_: *const $element) {}
            #[inline(always)]
            unsafe fn square(from: *const $element, stride: isize, rows: usize, cols: usize) -> Self::Square {
                let mut square = [[0.0; LANES]; LANES];
                for (col, vector) in square.iter_mut().enumerate() {
                    for (row, element) in vector.iter_mut().enumerate() {
                        if row < rows && col < cols {
                            // SAFETY: row and column are below what the trait's caller names.
                            *element = unsafe {
                                *from.wrapping_add(col).wrapping_offset(row as isize * stride)
                            };
                        }
                    }
                }
                square
            }

            tiles!(1: flat [1 2 3 4] strided [1 2 3 4], packing 1: [1 2 3 4]);
        }

        instantiate!($name);
    };
}

portable!(
    /// 4 elements of f32 at a time.
    PortableF32, f32
);
portable!(
    /// 4 elements of f64 at a time.
    PortableF64, f64
);
