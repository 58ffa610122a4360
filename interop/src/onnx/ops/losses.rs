//! Losses over classes, which lie along axis 1.

use super::super::call::Call;
use super::super::error::Reason;
use super::super::value::Value;
use super::reduce::{log_softmax, sum};
use super::{Operator, op};
use kiln_ir::{DType, Dim, OutOfRange, Tensor};

pub(super) const OPERATORS: &[Operator] = &[
    op("NegativeLogLikelihoodLoss", 12, |c| {
        Ok(vec![likelihood(c, c.tensor(0)?)?.into()])
    }),
    op("SoftmaxCrossEntropyLoss", 12, |c| {
        let logs = log_softmax(c.tensor(0)?, &[1]);
        Ok(vec![likelihood(c, logs)?.into(), Value::Tensor(logs)])
    }),
];

/// `-w[t] x[n, t, ..]` for the class `t` of each place, reduced; places of the class `ignore_index` do not count.
fn likelihood<'g>(c: &Call<'_, 'g>, x: Tensor<'g>) -> Result<Tensor<'g>, Reason> {
    let ignored = c.int("ignore_index")?;
    let reduction = c.text("reduction", "mean")?;
    let mut classes = c.tensor(1)?.convert(DType::I64);
    let shape = c.shape(1)?;
    let dtype = c.ty(0)?.dtype;
    if shape.is_empty() || c.shape(0)?.len() != shape.len() + 1 {
        return Err(Reason::new(format!(
            "classes of shape {shape} for {}",
            c.ty(0)?
        )));
    }
    let counts = ignored.map(|i| classes.ne(i as f64));
    if let Some(counts) = counts {
        classes = classes.where_(counts, 0.0);
    }
    let mut narrow = shape.to_vec();
    narrow.insert(1, Dim::from(1));
    let picked = x
        .take_along_axis(1, classes.reshape(narrow))
        .reshape(&shape)
        .neg();
    let weights = c.optional(2)?;
    let mut weight = weights.map(|w| w.gather(0, classes, OutOfRange::Clamp));
    if let Some(counts) = counts {
        let weights = weight.unwrap_or_else(|| c.builder.splat(dtype, &shape, 1.0));
        weight = Some(weights.where_(counts, 0.0));
    }
    let loss = weight.map_or(picked, |w| picked.times(w));
    let all: Vec<usize> = (0..shape.len()).collect();
    match (reduction.as_str(), weight) {
        ("none", _) => Ok(loss),
        ("sum", _) => Ok(loss.sum()),
        ("mean", None) => Ok(loss.mean()),
        ("mean", Some(weight)) => Ok(sum(loss, &all).over(sum(weight, &all))),
        (other, _) => Err(Reason::new(format!("reduction = `{other}`"))),
    }
}
