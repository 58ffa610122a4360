//! The Rust types of tensor elements.
//!
//! [`Element`]s may be read out of memory that kernels wrote: any bits are a value of them. [`Fed`] adds `bool`, which may be handed in
//! but not out, because a byte other than 0 and 1 is no `bool`. Both are closed: that a type stands for a dtype is part of what unsafe
//! code relies on.

use half::{bf16, f16};
use kiln_ir::DType;

/// A Rust type that may be seen through the bytes of a block: any bit pattern is a value of it, and it has no padding. `bool` is not
/// one of them: read it as `u8`.
pub trait Element: Fed + Send + Sync + 'static {}

/// A Rust type that tensors may be fed in.
pub trait Fed: sealed::Plain + Copy {
    /// The element type that it stands for.
    const DTYPE: DType;
}

mod sealed {
    /// Keeps the promises of [`super::Element`] and [`super::Fed`] in this file.
    pub trait Plain {}
}

macro_rules! fed {
    ($($type:ty => $dtype:ident),*) => {
        $(impl sealed::Plain for $type {}
        impl Fed for $type {
            const DTYPE: DType = DType::$dtype;
        })*
    };
}
fed!(
    f32 => F32, f64 => F64, bf16 => BF16, f16 => F16,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    bool => Bool
);

macro_rules! elements {
    ($($type:ty),*) => {
        $(impl Element for $type {})*
    };
}
elements!(f32, f64, bf16, f16, i8, i16, i32, i64, u8, u16, u32, u64);

/// The alignment in bytes that an element of `dtype` has in Rust, and that kernels count on.
pub(crate) fn alignment(dtype: DType) -> usize {
    match dtype {
        DType::F32 => align_of::<f32>(),
        DType::F64 => align_of::<f64>(),
        DType::BF16 => align_of::<bf16>(),
        DType::F16 => align_of::<f16>(),
        DType::I16 => align_of::<i16>(),
        DType::I32 => align_of::<i32>(),
        DType::I64 => align_of::<i64>(),
        DType::U16 => align_of::<u16>(),
        DType::U32 => align_of::<u32>(),
        DType::U64 => align_of::<u64>(),
        DType::I8 | DType::U8 | DType::Bool => 1,
    }
}
