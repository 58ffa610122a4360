//! Numbers of few bits: `q = round(x / scale) + zero point`, saturated.

use super::super::call::{Call, Results, axis, one};
use super::super::error::Reason;
use super::contraction::matmul;
use super::conv::{biased, convolution, per_output};
use super::{Operator, op};
use kiln_ir::{DType, Dim, Tensor};

pub(super) const OPERATORS: &[Operator] = &[
    op("DequantizeLinear", 10, dequantize),
    op("DynamicQuantizeLinear", 11, dynamic),
    op("QLinearConv", 10, convolve),
    op("QLinearMatMul", 10, multiply),
    op("QuantizeLinear", 10, quantize),
];

/// A scale or zero point as it meets input 0: a number, one for each entry of an axis, or one for each block along it.
fn spread<'g>(c: &Call<'_, 'g>, position: usize) -> Result<Option<Tensor<'g>>, Reason> {
    let (own, given) = (c.shape(0)?, c.int_or("axis", 1)?);
    let block = c.int_or("block_size", 0)?;
    let Some(x) = c.optional(position)? else {
        return Ok(None);
    };
    let shape = c.shape(position)?;
    if shape.elements().constant() == Some(1) && shape.len() < 2 {
        return Ok(Some(x.reshape(())));
    }
    let along = axis(given, own.len())?;
    if block > 0 {
        if shape.len() != own.len() {
            return Err(Reason::new(format!(
                "blocks of {block} with scales of shape {shape} of {own}"
            )));
        }
        let mut dims = shape.to_vec();
        dims.insert(along + 1, Dim::from(1));
        let narrow = x.reshape(dims.clone());
        dims[along + 1] = Dim::from(block);
        let mut joined = shape.to_vec();
        joined[along] = &joined[along] * &Dim::from(block);
        return Ok(Some(narrow.broadcast_to(dims).reshape(joined)));
    }
    let mut dims = vec![Dim::from(1); own.len()];
    dims[along] = own[along].clone();
    Ok(Some(x.reshape(dims)))
}

/// Halves to even, then cut to the range of the type, which conversion does. All in `within`.
fn rounded<'g>(x: Tensor<'g>, zero: Option<Tensor<'g>>, dtype: DType) -> Tensor<'g> {
    let rounded = x.round();
    let within = x.ty().map_or(DType::F32, |ty| ty.dtype);
    let moved = zero.map_or(rounded, |zero| rounded.plus(zero.convert(within)));
    moved.convert(dtype)
}

fn quantize<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let scale = spread(c, 1)?.ok_or_else(|| Reason::new("it has no scale"))?;
    let zero = spread(c, 2)?;
    c.attribute("saturate");
    c.attribute("precision");
    let dtype = match (
        c.dtype("output_dtype")?,
        c.optional(2)?.and_then(|z| z.ty()),
    ) {
        (_, Some(ty)) => ty.dtype,
        (Some(dtype), None) => dtype,
        (None, None) => DType::U8,
    };
    let x = c.tensor(0)?;
    let within = if c.ty(0)?.dtype.is_float() {
        c.ty(0)?.dtype
    } else {
        DType::F32
    };
    one(rounded(
        x.convert(within).over(scale.convert(within)),
        zero,
        dtype,
    ))
}

fn dequantize<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let scale = spread(c, 1)?.ok_or_else(|| Reason::new("it has no scale"))?;
    let dtype = c.dtype("output_dtype")?.unwrap_or(c.ty(1)?.dtype);
    let within = DType::F32;
    let mut x = c.tensor(0)?.convert(within);
    if let Some(zero) = spread(c, 2)? {
        x = x.minus(zero.convert(within));
    }
    one(x.times(scale.convert(within)).convert(dtype))
}

/// To u8, with a range that has 0.
fn dynamic<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let x = c.tensor(0)?;
    let all: Vec<usize> = (0..c.ty(0)?.rank()).collect();
    let most = x.reduce(kiln_ir::ReduceKind::Max, &all).maximum(0.0);
    let least = x.reduce(kiln_ir::ReduceKind::Min, &all).minimum(0.0);
    let scale = most.minus(least).over(255.0);
    let zero = least.neg().over(scale).round().convert(DType::U8);
    let result = rounded(x.over(scale), Some(zero), DType::U8);
    Ok(vec![result.into(), scale.into(), zero.into()])
}

fn required<'g>(c: &Call<'_, 'g>, position: usize, rank: usize) -> Result<Tensor<'g>, Reason> {
    Ok(per_output(c.tensor(position)?, rank))
}

/// The product of i32 sums, requantised in f32.
fn requantised<'g>(
    sums: Tensor<'g>,
    scale: Tensor<'g>,
    zero: Tensor<'g>,
) -> Result<Tensor<'g>, Reason> {
    let dtype = zero.ty().map_or(DType::U8, |ty| ty.dtype);
    Ok(rounded(
        sums.convert(DType::F32).times(scale),
        Some(zero),
        dtype,
    ))
}

/// Inputs: a, its scale and zero point, b, its scale and zero point, the result's scale and zero point.
fn multiply<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let single = |i: usize| -> Result<Tensor<'g>, Reason> {
        match c.shape(i)?.elements().constant() {
            Some(1) => Ok(c.tensor(i)?.reshape(())),
            Some(_) | None => Err(Reason::new("scales of rows or columns")),
        }
    };
    let less = |i: usize, zero: usize| -> Result<Tensor<'g>, Reason> {
        Ok(c.tensor(i)?
            .convert(DType::I32)
            .minus(single(zero)?.convert(DType::I32)))
    };
    let sums = matmul(less(0, 2)?, less(3, 5)?)?;
    let scale = |i: usize| Ok::<_, Reason>(single(i)?.convert(DType::F32));
    let scale = scale(1)?.times(scale(4)?).over(scale(6)?);
    one(requantised(sums, scale, single(7)?)?)
}

/// As [`multiply`], with a bias in i32 behind; scales and zero points of the kernel may be one for each output feature.
fn convolve<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let rank = c.ty(0)?.rank();
    let less = |i: usize, zero: usize| -> Result<Tensor<'g>, Reason> {
        let zero = required(c, zero, rank)?.convert(DType::I32);
        Ok(c.tensor(i)?.convert(DType::I32).minus(zero))
    };
    let sums = convolution(c, less(0, 2)?, less(3, 5)?)?;
    let sums = biased(sums, c.optional(8)?);
    let scale = |i: usize| Ok::<_, Reason>(c.tensor(i)?.convert(DType::F32));
    let mut kernel = scale(4)?;
    kernel = match c.shape(4)?.elements().constant() {
        Some(1) => kernel.reshape(()),
        Some(_) | None => {
            let mut dims = vec![Dim::from(1); rank];
            dims[1] = c.shape(4)?.elements();
            kernel.reshape(dims)
        }
    };
    let scale = scale(1)?
        .reshape(())
        .times(kernel)
        .over(scale(6)?.reshape(()));
    one(requantised(sums, scale, c.tensor(7)?.reshape(()))?)
}
