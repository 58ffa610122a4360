//! The types of elements and sums that products have.

use kiln_ir::DType;

/// The types that have a product: all numbers that the JIT computes with.
///
/// Floating-point sums are accumulated in the type itself but for `F32InF64`; integers wrap.
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
