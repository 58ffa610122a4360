//! Matrix products behind one function, a panel at a time.
//!
//! A product `[m, k] x [k, n]` is always cut into panels of [`PANEL_ROWS`] rows of the result (the last one may be
//! short), and a panel is always computed by one call of [`product`] on one thread. The sums of a panel are ordered
//! by the panel's own shape, so the bits of a result depend on the shapes and the class of instruction set alone:
//! not on how many threads share the panels, nor on what runs in between.
//!
//! f32 and f64 go to the `gemm` crate, which allocates packing space on each call and chooses its blocking itself;
//! both are why it sits behind this function, where Kiln's own blocking will replace it. Integers, which no model
//! multiplies in bulk, take a plain loop. This file starts no threads and knows nothing of batches, epilogues or
//! programs.

use gemm::Parallelism;
use std::ops::Range;

/// The number of rows of the result that one call computes. It is part of the definition of the bits of a product.
pub const PANEL_ROWS: usize = 128;

/// The number of panels of a product with `m` rows.
pub fn panels(m: usize) -> usize {
    m.div_ceil(PANEL_ROWS)
}

/// The rows of panel `index` of a product with `m` rows; empty past the last panel.
pub fn panel_rows(m: usize, index: usize) -> Range<usize> {
    let cut = |index: usize| index.saturating_mul(PANEL_ROWS).min(m);
    cut(index)..cut(index.saturating_add(1))
}

/// The types that have a product: all numbers that the JIT computes with.
///
/// Floating-point sums are accumulated in the type itself, with fused multiply-add where the machine has it;
/// integers wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProductType {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// Signed 8-bit integers.
    I8,
    /// Signed 16-bit integers.
    I16,
    /// Signed 32-bit integers.
    I32,
    /// Signed 64-bit integers.
    I64,
    /// Unsigned 8-bit integers.
    U8,
    /// Unsigned 16-bit integers.
    U16,
    /// Unsigned 32-bit integers.
    U32,
    /// Unsigned 64-bit integers.
    U64,
}

impl ProductType {
    /// The size of an element in bytes.
    pub fn size(self) -> usize {
        match self {
            ProductType::I8 | ProductType::U8 => 1,
            ProductType::I16 | ProductType::U16 => 2,
            ProductType::F32 | ProductType::I32 | ProductType::U32 => 4,
            ProductType::F64 | ProductType::I64 | ProductType::U64 => 8,
        }
    }
}

/// A matrix that is read: where element (0, 0) lies, and how many elements lie between rows and between columns.
///
/// A transposed matrix is the same memory with its strides exchanged; a stride of 0 repeats a row or column, a
/// negative one walks backwards.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// Element (0, 0).
    pub ptr: *const u8,
    /// Elements from a row to the next.
    pub row_stride: isize,
    /// Elements from a column to the next.
    pub col_stride: isize,
}

/// The matrix that is written, described as [`Operand`]; its elements must not overlap.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Element (0, 0).
    pub ptr: *mut u8,
    /// Elements from a row to the next.
    pub row_stride: isize,
    /// Elements from a column to the next.
    pub col_stride: isize,
}

/// Computes `dst = lhs . rhs` for one panel: `lhs` is `[m, k]`, `rhs` is `[k, n]`, `dst` is `[m, n]`.
///
/// What `dst` held before is not read. With `k = 0` every element becomes 0; with `m = 0` or `n = 0` nothing
/// happens and no pointer is looked at. To keep the bits of a larger product, call it for each of its
/// [`panel_rows`], with `lhs` and `dst` moved to the panel's first row.
///
/// # Safety
/// Where `m` and `n` are above 0:
/// - the `m * n` elements of `dst` are valid for writes of `dtype`, aligned for it, distinct, and touched by no
///   other thread and by neither operand;
/// - where `k` is above 0 too, the `m * k` elements of `lhs` and the `k * n` elements of `rhs` are initialised,
///   valid for reads of `dtype` and aligned for it, and nobody writes them meanwhile.
pub unsafe fn product(
    dtype: ProductType,
    m: usize,
    n: usize,
    k: usize,
    dst: Target,
    lhs: Operand,
    rhs: Operand,
) {
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: each arm passes on the caller's promise for the type it names; m and n are above 0.
    unsafe {
        match dtype {
            ProductType::F32 => by_crate::<f32>(m, n, k, dst, lhs, rhs, 0.0, 1.0),
            ProductType::F64 => by_crate::<f64>(m, n, k, dst, lhs, rhs, 0.0, 1.0),
            ProductType::I8 => plain::<i8>(m, n, k, dst, lhs, rhs),
            ProductType::I16 => plain::<i16>(m, n, k, dst, lhs, rhs),
            ProductType::I32 => plain::<i32>(m, n, k, dst, lhs, rhs),
            ProductType::I64 => plain::<i64>(m, n, k, dst, lhs, rhs),
            ProductType::U8 => plain::<u8>(m, n, k, dst, lhs, rhs),
            ProductType::U16 => plain::<u16>(m, n, k, dst, lhs, rhs),
            ProductType::U32 => plain::<u32>(m, n, k, dst, lhs, rhs),
            ProductType::U64 => plain::<u64>(m, n, k, dst, lhs, rhs),
        }
    }
}

/// The `gemm` crate's product; `T` is f32 or f64 (it panics at any other, which [`product`] never asks for).
///
/// # Safety
/// As [`product`], for elements of type `T`.
#[expect(
    clippy::too_many_arguments,
    reason = "a product is its three sizes and three matrices, and two constants"
)]
unsafe fn by_crate<T: 'static>(
    m: usize,
    n: usize,
    k: usize,
    dst: Target,
    lhs: Operand,
    rhs: Operand,
    zero: T,
    one: T,
) {
    // The crate computes `dst = zero * dst + one * lhs . rhs` and leaves the first term out when told not to read
    // dst, so a NaN in dst does not spread.
    // SAFETY: the caller promises all elements; `Parallelism::None` stays on this thread.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.ptr.cast::<T>(),
            dst.col_stride,
            dst.row_stride,
            false,
            lhs.ptr.cast::<T>(),
            lhs.col_stride,
            lhs.row_stride,
            rhs.ptr.cast::<T>(),
            rhs.col_stride,
            rhs.row_stride,
            zero,
            one,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// An integer that wraps.
trait Wrapping: Copy + Default {
    /// `self + a * b`, modulo two to the width.
    fn multiply_add(self, a: Self, b: Self) -> Self;
}

macro_rules! wrapping {
    ($($type:ty),*) => {
        $(impl Wrapping for $type {
            #[inline]
            fn multiply_add(self, a: Self, b: Self) -> Self {
                self.wrapping_add(a.wrapping_mul(b))
            }
        })*
    };
}
wrapping!(i8, i16, i32, i64, u8, u16, u32, u64);

/// The product as it is defined; the order of a wrapping sum does not matter.
///
/// # Safety
/// As [`product`], for elements of type `T`.
unsafe fn plain<T: Wrapping>(
    m: usize,
    n: usize,
    k: usize,
    dst: Target,
    lhs: Operand,
    rhs: Operand,
) {
    let at = |row_stride: isize, col_stride: isize, row: usize, col: usize| {
        row as isize * row_stride + col as isize * col_stride
    };
    for row in 0..m {
        for col in 0..n {
            let mut sum = T::default();
            for depth in 0..k {
                // SAFETY: (row, depth) and (depth, col) are inside [m, k] and [k, n], which the caller promises.
                let (a, b) = unsafe {
                    (
                        *lhs.ptr
                            .cast::<T>()
                            .offset(at(lhs.row_stride, lhs.col_stride, row, depth)),
                        *rhs.ptr
                            .cast::<T>()
                            .offset(at(rhs.row_stride, rhs.col_stride, depth, col)),
                    )
                };
                sum = sum.multiply_add(a, b);
            }
            // SAFETY: (row, col) is inside [m, n], which the caller promises for writing.
            unsafe {
                dst.ptr
                    .cast::<T>()
                    .offset(at(dst.row_stride, dst.col_stride, row, col))
                    .write(sum)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use kiln_ir::philox::Stream;
    use std::num::NonZeroUsize;

    const SIZES: [usize; 6] = [0, 1, 3, 17, 128, 129];

    /// How a matrix of `rows x cols` lies in memory: (elements needed, element (0, 0), row stride, column stride).
    type Layout = fn(usize, usize) -> (usize, usize, isize, isize);

    fn row_major(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
        (rows * cols, 0, cols as isize, 1)
    }
    fn column_major(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
        (rows * cols, 0, 1, rows as isize)
    }
    /// Rows with a gap between them, off any alignment wider than the element's.
    fn padded(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
        (rows * (cols + 3) + 1, 1, cols as isize + 3, 1)
    }
    /// Both axes backwards.
    fn reversed(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
        (
            rows * cols,
            (rows * cols).saturating_sub(1),
            -(cols as isize),
            -1,
        )
    }
    /// One row, repeated.
    fn repeated(_rows: usize, cols: usize) -> (usize, usize, isize, isize) {
        (cols, 0, 0, 1)
    }

    const READ: [Layout; 5] = [row_major, column_major, padded, reversed, repeated];
    const WRITTEN: [Layout; 3] = [row_major, column_major, padded];

    struct Matrix<T> {
        data: Vec<T>,
        start: usize,
        strides: (isize, isize),
    }

    impl<T: Copy> Matrix<T> {
        fn new(
            rows: usize,
            cols: usize,
            layout: Layout,
            mut element: impl FnMut(usize) -> T,
        ) -> Matrix<T> {
            let (len, start, row, col) = layout(rows, cols);
            Matrix {
                data: (0..len).map(&mut element).collect(),
                start,
                strides: (row, col),
            }
        }
        fn get(&self, row: usize, col: usize) -> T {
            let offset = row as isize * self.strides.0 + col as isize * self.strides.1;
            self.data[(self.start as isize + offset) as usize]
        }
        fn operand(&self) -> Operand {
            let ptr = self.data.as_ptr().wrapping_add(self.start).cast();
            Operand {
                ptr,
                row_stride: self.strides.0,
                col_stride: self.strides.1,
            }
        }
        fn target(&mut self) -> Target {
            let ptr = self.data.as_mut_ptr().wrapping_add(self.start).cast();
            Target {
                ptr,
                row_stride: self.strides.0,
                col_stride: self.strides.1,
            }
        }
    }

    /// Normal numbers, drawn once: to draw them for each case would take longer than the products.
    fn noise(path: &str) -> Vec<f64> {
        let stream = Stream::new(5, path, 0);
        (0..300_000).map(|index| stream.normal(index)).collect()
    }

    /// Every combination of sizes and layouts of the operands, the layouts of the result taking turns.
    fn table(mut check: impl FnMut([usize; 3], Layout, Layout, Layout)) {
        for m in SIZES {
            for n in SIZES {
                for k in SIZES {
                    for (index, lhs) in READ.into_iter().enumerate() {
                        for (other, rhs) in READ.into_iter().enumerate() {
                            check([m, n, k], WRITTEN[(index + other) % 3], lhs, rhs);
                        }
                    }
                }
            }
        }
    }

    /// Calls `product` for every panel.
    ///
    /// # Safety
    /// As `product` for the whole matrices.
    unsafe fn by_panels(
        dtype: ProductType,
        [m, n, k]: [usize; 3],
        dst: Target,
        lhs: Operand,
        rhs: Operand,
        pool: &mut Pool,
    ) {
        struct Shared(Target, Operand, Operand);
        // SAFETY: panels write disjoint rows and share only what is read.
        unsafe impl Sync for Shared {}
        impl Shared {
            fn panel(&self, size: usize, first: usize) -> (Target, Operand, Operand) {
                let bytes = |stride: isize| stride * (first * size) as isize;
                let mut panel = (self.0, self.1, self.2);
                panel.0.ptr = panel.0.ptr.wrapping_offset(bytes(panel.0.row_stride));
                panel.1.ptr = panel.1.ptr.wrapping_offset(bytes(panel.1.row_stride));
                panel
            }
        }
        let shared = Shared(dst, lhs, rhs);
        pool.run(panels(m), &|index, _| {
            let rows = panel_rows(m, index);
            let (dst, lhs, rhs) = shared.panel(dtype.size(), rows.start);
            // SAFETY: the rows lie inside the matrices that the caller promises.
            unsafe { product(dtype, rows.len(), n, k, dst, lhs, rhs) }
        });
    }

    macro_rules! close_to_naive {
        ($name:ident, $type:ty, $dtype:expr) => {
            /// |dst - exact| <= k eps sum |a b|, element by element, and nothing outside dst is written.
            #[test]
            fn $name() {
                let mut pool = Pool::new(NonZeroUsize::MIN).unwrap();
                let noise = noise(stringify!($name));
                table(|sizes, dst_layout, lhs_layout, rhs_layout| {
                    let [m, n, k] = sizes;
                    let lhs = Matrix::new(m, k, lhs_layout, |i| noise[i] as $type);
                    let rhs = Matrix::new(k, n, rhs_layout, |i| noise[20_000 + i] as $type);
                    let mut dst = Matrix::new(m, n, dst_layout, |_| <$type>::NAN);
                    // SAFETY: the matrices have the sizes named and are not shared.
                    unsafe {
                        by_panels(
                            $dtype,
                            sizes,
                            dst.target(),
                            lhs.operand(),
                            rhs.operand(),
                            &mut pool,
                        )
                    };
                    for row in 0..m {
                        for col in 0..n {
                            let (mut exact, mut scale) = (0.0, 0.0);
                            for depth in 0..k {
                                let term =
                                    f64::from(lhs.get(row, depth)) * f64::from(rhs.get(depth, col));
                                exact += term;
                                scale += term.abs();
                            }
                            let bound =
                                (k as f64 * f64::from(<$type>::EPSILON) * scale) * (1.0 + 1e-9);
                            let error = (f64::from(dst.get(row, col)) - exact).abs();
                            assert!(
                                error <= bound,
                                "{sizes:?} at {row}, {col}: {error} > {bound}"
                            );
                        }
                    }
                    let untouched = dst.data.iter().filter(|value| value.is_nan()).count();
                    assert_eq!(untouched, dst.data.len() - m * n, "{sizes:?}");
                });
            }
        };
    }
    close_to_naive!(f32_is_close_to_naive, f32, ProductType::F32);
    close_to_naive!(f64_is_close_to_naive, f64, ProductType::F64);

    macro_rules! equal_to_naive {
        ($($type:ident $dtype:ident),*) => {
            #[test]
            fn integers_wrap_exactly() {
                let stream = Stream::new(6, "integers", 0);
                let mut pool = Pool::new(NonZeroUsize::MIN).unwrap();
                $(for sizes @ [m, n, k] in [[0, 3, 3], [3, 0, 3], [3, 3, 0], [1, 1, 1], [129, 3, 17], [17, 5, 129]] {
                    for (lhs_layout, rhs_layout) in [(READ[0], READ[1]), (READ[2], READ[3]), (READ[1], READ[4])] {
                        let lhs = Matrix::new(m, k, lhs_layout, |i| stream.word(i as u64) as $type);
                        let rhs = Matrix::new(k, n, rhs_layout, |i| stream.word(9000 + i as u64) as $type);
                        let mut dst = Matrix::new(m, n, padded, |_| 77 as $type);
                        // SAFETY: the matrices have the sizes named and are not shared.
                        unsafe {
                            by_panels(ProductType::$dtype, sizes, dst.target(), lhs.operand(), rhs.operand(), &mut pool);
                        }
                        for row in 0..m {
                            for col in 0..n {
                                let exact: i128 = (0..k).map(|d| lhs.get(row, d) as i128 * rhs.get(d, col) as i128).sum();
                                assert_eq!(dst.get(row, col), exact as $type);
                            }
                        }
                        assert_eq!(std::mem::size_of::<$type>(), ProductType::$dtype.size());
                    }
                })*
            }
        };
    }
    equal_to_naive!(i8 I8, i16 I16, i32 I32, i64 I64, u8 U8, u16 U16, u32 U32, u64 U64);

    /// The bits of a product are those of its panels, whichever threads compute them.
    #[test]
    fn bits_do_not_depend_on_threads() {
        let noise = noise("bits");
        for sizes @ [m, n, k] in [
            [1, 10, 784],
            [127, 10, 33],
            [129, 17, 65],
            [400, 10, 512],
            [517, 70, 3],
            [640, 1, 300],
        ] {
            for (index, lhs_layout) in READ.into_iter().enumerate() {
                for rhs_layout in READ {
                    let lhs = Matrix::new(m, k, lhs_layout, |i| noise[i] as f32);
                    let rhs = Matrix::new(k, n, rhs_layout, |i| noise[250_000 + i] as f32);
                    let results = [1, 2, 4].map(|threads| {
                        let mut pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
                        let mut dst = Matrix::new(m, n, WRITTEN[index % 3], |_| 0.0_f32);
                        // SAFETY: the matrices have the sizes named and are not shared.
                        unsafe {
                            by_panels(
                                ProductType::F32,
                                sizes,
                                dst.target(),
                                lhs.operand(),
                                rhs.operand(),
                                &mut pool,
                            )
                        };
                        dst.data.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                    });
                    assert!(
                        results[0] == results[1] && results[0] == results[2],
                        "{sizes:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn panels_cover_the_rows() {
        for m in [0, 1, 127, 128, 129, 256, 1000] {
            let rows: Vec<usize> = (0..panels(m))
                .flat_map(|index| panel_rows(m, index))
                .collect();
            assert_eq!(rows, (0..m).collect::<Vec<_>>());
            assert!(
                (0..panels(m)).all(|index| (1..=PANEL_ROWS).contains(&panel_rows(m, index).len()))
            );
            assert!(panel_rows(m, panels(m)).is_empty());
        }
        assert!(panel_rows(5, usize::MAX).is_empty());
    }
}
