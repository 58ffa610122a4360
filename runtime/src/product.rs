//! Matrix products behind one function, a panel at a time.
//!
//! A product `[m, k] x [k, n]` is always cut into panels of [`PANEL_ROWS`] rows of the result (the last one may be
//! short), and a panel is always computed by one call of [`product`] on one thread. The sums of a panel are ordered
//! by the panel's own shape, so the bits of a result depend on the shapes and the class of instruction set alone:
//! not on how many threads share the panels, nor on what runs in between.
//!
//! f32 and f64 go to the `gemm` crate, which allocates packing space on each call and chooses its blocking itself;
//! both are why it sits behind this function, where Kiln's own blocking will replace it. Where it would choose by
//! strides, which fusion may change, Kiln's own loop takes its place. Integers, which no model
//! multiplies in bulk, and f32 with sums in f64 take a plain loop. This file starts no threads and knows nothing of batches, epilogues or
//! programs.

use gemm::Parallelism;
use kiln_ir::DType;
use std::ops::Range;

mod ordered;
mod plain;

use ordered::{is_ordered, ordered};
use plain::{F32InF64, plain};

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
/// Floating-point sums are accumulated in the type itself, with fused multiply-add where the machine has it, but
/// for `F32InF64`; integers wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProductType {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// 32-bit floating point with sums in 64 bits: the products are exact, added in ascending order of the
    /// contracted index, and the sum is rounded once.
    F32InF64,
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
    /// The product of `dtype` matrices with sums held in `accumulate`, if there is one. Since integers wrap, sums in
    /// a wider integer give the same result as sums in the type itself.
    pub fn of(dtype: DType, accumulate: DType) -> Option<ProductType> {
        let integers = dtype.is_integer() && accumulate.is_integer();
        let exact = accumulate == dtype || (integers && accumulate.size() >= dtype.size());
        match dtype {
            DType::F32 if accumulate == DType::F64 => Some(ProductType::F32InF64),
            DType::F32 if exact => Some(ProductType::F32),
            DType::F64 if exact => Some(ProductType::F64),
            DType::I8 if exact => Some(ProductType::I8),
            DType::I16 if exact => Some(ProductType::I16),
            DType::I32 if exact => Some(ProductType::I32),
            DType::I64 if exact => Some(ProductType::I64),
            DType::U8 if exact => Some(ProductType::U8),
            DType::U16 if exact => Some(ProductType::U16),
            DType::U32 if exact => Some(ProductType::U32),
            DType::U64 if exact => Some(ProductType::U64),
            _ => None,
        }
    }

    /// The size of an element in bytes.
    pub fn size(self) -> usize {
        match self {
            ProductType::I8 | ProductType::U8 => 1,
            ProductType::I16 | ProductType::U16 => 2,
            ProductType::F32 | ProductType::F32InF64 | ProductType::I32 | ProductType::U32 => 4,
            ProductType::F64 | ProductType::I64 | ProductType::U64 => 8,
        }
    }
}

/// A matrix that is read: where element (0, 0) lies, and how many elements lie between rows and between columns.
///
/// A transposed matrix is the same memory with its strides exchanged; a stride of 0 repeats a row or column, a
/// negative one walks backwards. Bits do not depend on strides, unless the right side's contracted axis is walked
/// backwards, whose sums may then be taken from the other end.
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
            ProductType::F32 if is_ordered(m, n) => ordered::<f32>(m, n, k, dst, lhs, rhs),
            ProductType::F64 if is_ordered(m, n) => ordered::<f64>(m, n, k, dst, lhs, rhs),
            ProductType::F32 => by_crate::<f32>(m, n, k, dst, lhs, rhs, 0.0, 1.0),
            ProductType::F64 => by_crate::<f64>(m, n, k, dst, lhs, rhs, 0.0, 1.0),
            ProductType::F32InF64 => plain::<F32InF64>(m, n, k, dst, lhs, rhs),
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

#[cfg(test)]
mod tests;
