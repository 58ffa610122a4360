//! `rng_bits` as the arithmetic that it is: ten rounds of Philox4x32 on the blocks of four words, in some 160 nodes.
//!
//! The operators of ONNX that draw random numbers give others in each runtime; these are the same words everywhere.

use super::attribute;
use super::body::{Body, Out, Value};
use kiln_ir::{DType, Dim, Shape, TensorType};

/// The multipliers and the steps of the key, of Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3".
const MULTIPLIERS: [i64; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [i64; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: i64 = 10;

pub(super) fn words(body: &mut Body<'_>, key: &Value, counter: &Value, ty: &TensorType) -> Out {
    let count = ty.shape.elements();
    let four = Dim::from(4);
    let blocks = (&count + &Dim::from(3)).floor_div(&four);
    let numbers = body.range(&blocks)?;
    let mut block = [
        // More blocks than 32 bits count would take more memory than ONNX's tensors have.
        body.cast(&numbers, DType::U32),
        body.integer(DType::U32, 0),
        entry(body, counter, 0),
        entry(body, counter, 1),
    ];
    let keys = [entry(body, key, 0), entry(body, key, 1)];
    for round in 0..ROUNDS {
        let steps = KEY_STEPS.map(|step| body.integer(DType::U32, step.wrapping_mul(round)));
        let [k0, k1] = [0, 1].map(|i| body.same("Add", &[&keys[i], &steps[i]]));
        let (high0, low0) = product(body, MULTIPLIERS[0], &block[0])?;
        let (high1, low1) = product(body, MULTIPLIERS[1], &block[2])?;
        let mut mixed = |high: &Value, other: &Value, key: &Value| {
            let once = body.same("BitwiseXor", &[high, other]);
            body.same("BitwiseXor", &[&once, key])
        };
        let (first, third) = (mixed(&high1, &block[1], &k0), mixed(&high0, &block[3], &k1));
        block = [first, low1, third, low0];
    }
    let column: Shape = [blocks.clone(), Dim::from(1)].into();
    let mut columns = Vec::with_capacity(block.len());
    for word in &block {
        let word = body.expand(word, &[blocks.clone()].into())?;
        columns.push(body.reshape(&word, &column)?);
    }
    let parts: Vec<&Value> = columns.iter().collect();
    let rows = TensorType::new(DType::U32, [blocks.clone(), four.clone()]);
    let rows = body.concat(&parts, 1, rows);
    let flat = body.reshape(&rows, &[&blocks * &four].into())?;
    let wanted = [count.clone()];
    let cut = body.slice(
        &flat,
        &[Dim::from(0)],
        &wanted,
        &[1],
        &wanted.clone().into(),
    )?;
    body.reshape(&cut, &ty.shape)
}

/// One of the two words of an operand, as a scalar.
fn entry(body: &mut Body<'_>, words: &Value, place: i64) -> Value {
    let place = body.integer(DType::I64, place);
    let axis = vec![attribute::int("axis", 0)];
    let ty = TensorType::new(DType::U32, ());
    body.one("Gather", &[words, &place], axis, ty)
}

/// The upper and the lower half of a product of 64 bits.
fn product(body: &mut Body<'_>, multiplier: i64, word: &Value) -> Out<(Value, Value)> {
    let wide = body.cast(word, DType::U64);
    let multiplier = body.integer(DType::U64, multiplier);
    let whole = body.same("Mul", &[&wide, &multiplier]);
    let half = body.integer(DType::U64, 32);
    let way = vec![attribute::text("direction", "RIGHT")];
    let high = body.same_with("BitShift", &[&whole, &half], way);
    Ok((body.cast(&high, DType::U32), body.cast(&whole, DType::U32)))
}
