//! Operators for training: gradients and optimizers, of the domain `ai.onnx.preview.training`.

use super::super::call::{Call, Results};
use super::super::error::Reason;
use super::super::value::Value;
use super::{Operator, TRAINING};
use kiln_ir::Tensor;

pub(super) const OPERATORS: &[Operator] = &[
    training("Adagrad", |c| optimizer(c, 2, adagrad)),
    training("Adam", |c| optimizer(c, 3, adam)),
    training("Gradient", gradient),
    training("Momentum", |c| optimizer(c, 2, momentum)),
];

const fn training(name: &'static str, import: super::Import) -> Operator {
    Operator {
        domain: TRAINING,
        name,
        since: 1,
        import,
    }
}

/// What one tensor's step sees: the rate, how many steps there were, the tensor, its gradient, and what is kept of it.
struct Step<'g> {
    rate: Tensor<'g>,
    count: Tensor<'g>,
    x: Tensor<'g>,
    gradient: Tensor<'g>,
    kept: Vec<Tensor<'g>>,
}

/// All tensors, then all gradients, then each group of what is kept; outputs are in the same order without the gradients.
fn optimizer<'g>(
    c: &Call<'_, 'g>,
    groups: usize,
    step: impl Fn(&Call<'_, 'g>, Step<'g>) -> Result<Vec<Tensor<'g>>, Reason>,
) -> Results<'g> {
    let all = c.tensors()?;
    let count = all.len().saturating_sub(2) / (groups + 1);
    if all.len() != 2 + count * (groups + 1) || count == 0 {
        return Err(Reason::new(format!("{} inputs", all.len())));
    }
    let (rate, steps) = (all[0].reshape(()), all[1].reshape(()));
    let mut results: Vec<Vec<Value<'g>>> = vec![Vec::new(); groups];
    for i in 0..count {
        let at = |group: usize| all[2 + group * count + i];
        let kept = (2..=groups).map(at).collect();
        let made = step(
            c,
            Step {
                rate,
                count: steps,
                x: at(0),
                gradient: at(1),
                kept,
            },
        )?;
        for (group, value) in results.iter_mut().zip(made) {
            group.push(value.into());
        }
    }
    Ok(results.concat())
}

fn regularised<'g>(c: &Call<'_, 'g>, s: &Step<'g>) -> Result<Tensor<'g>, Reason> {
    Ok(s.gradient
        .plus(s.x.times(c.float_or("norm_coefficient", 0.0)?)))
}

fn adagrad<'g>(c: &Call<'_, 'g>, s: Step<'g>) -> Result<Vec<Tensor<'g>>, Reason> {
    let gradient = regularised(c, &s)?;
    let dtype = s.x.ty().map(|t| t.dtype).unwrap_or(kiln_ir::DType::F32);
    let decay = s
        .count
        .convert(dtype)
        .times(c.float_or("decay_factor", 0.0)?);
    let rate = s.rate.convert(dtype).over(decay.plus(1.0));
    let squares = s.kept[0].plus(gradient.square());
    let root = squares.sqrt().plus(c.float_or("epsilon", 1e-6)?);
    Ok(vec![s.x.minus(gradient.over(root).times(rate)), squares])
}

fn adam<'g>(c: &Call<'_, 'g>, s: Step<'g>) -> Result<Vec<Tensor<'g>>, Reason> {
    let (alpha, beta) = (c.float_or("alpha", 0.9)?, c.float_or("beta", 0.999)?);
    let gradient = regularised(c, &s)?;
    let dtype = s.x.ty().map(|t| t.dtype).unwrap_or(kiln_ir::DType::F32);
    let first = s.kept[0].times(alpha).plus(gradient.times(1.0 - alpha));
    let second = s.kept[1]
        .times(beta)
        .plus(gradient.square().times(1.0 - beta));
    let steps = s.count.convert(dtype);
    let power = |base: f64| c.builder.splat(dtype, (), base).pow(steps);
    let corrected = s
        .rate
        .convert(dtype)
        .times((1.0 - power(beta)).sqrt())
        .over(1.0 - power(alpha));
    let rate = corrected.where_(s.count.gt(0.0), s.rate.convert(dtype));
    let root = second.sqrt().plus(c.float_or("epsilon", 1e-6)?);
    let mut x = s.x.minus(first.times(rate).over(root));
    let after = c.float_or("norm_coefficient_post", 0.0)?;
    if after != 0.0 {
        x = x.times(1.0 - after);
    }
    Ok(vec![x, first, second])
}

fn momentum<'g>(c: &Call<'_, 'g>, s: Step<'g>) -> Result<Vec<Tensor<'g>>, Reason> {
    let alpha = c.float_or("alpha", 0.0)?;
    let gradient = regularised(c, &s)?;
    let dtype = s.x.ty().map(|t| t.dtype).unwrap_or(kiln_ir::DType::F32);
    let beta = c.float_or("beta", 0.0)?;
    let ones = c.builder.splat(dtype, (), 1.0);
    let beta = c
        .builder
        .splat(dtype, (), beta)
        .where_(s.count.gt(0.0), ones);
    let velocity = s.kept[0].times(alpha).plus(gradient.times(beta));
    let way = match c.text("mode", "standard")?.as_str() {
        "standard" => velocity,
        "nesterov" => gradient.plus(velocity.times(alpha)),
        other => return Err(Reason::new(format!("mode = `{other}`"))),
    };
    Ok(vec![s.x.minus(way.times(s.rate.convert(dtype))), velocity])
}

/// The gradient of the sum of `y` by each of `xs`, which the attributes name; the inputs must be those tensors.
fn gradient<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let xs = c.texts("xs")?.unwrap_or_default();
    let others = c.texts("zs")?.unwrap_or_default();
    let names = [xs.as_slice(), others.as_slice()].concat();
    if names != c.node.input {
        return Err(Reason::new(
            "it is taken at other values than those that were computed with",
        ));
    }
    let y = c.text("y", "")?;
    let y = c.scope.get(&y).and_then(|v| v.tensor(c.builder));
    let y = y.ok_or_else(|| Reason::new("nothing before it makes its `y`"))?;
    let wrt = c.tensors()?;
    let gradients = kiln_ir::grad(y.sum(), &wrt[..xs.len()]);
    Ok(gradients.into_iter().map(Value::Tensor).collect())
}
