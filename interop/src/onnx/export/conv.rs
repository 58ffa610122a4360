//! Convolutions: `Conv`, and `ConvTranspose` where the operand is dilated.
//!
//! ONNX wants examples and features first, and groups in the features of the operand and in the output features of the kernel. Other orders
//! are transposed to that one, and groups that lie elsewhere, as those of gradients do, are moved there.

use super::attribute;
use super::body::{Body, Out, Value};
use super::elementwise::round_to;
use kiln_ir::ops::{Conv, DataRole, KernelRole};
use kiln_ir::{Dim, Shape, TensorType};

pub(super) fn conv(body: &mut Body<'_>, op: &Conv, x: &Value, y: &Value, ty: &TensorType) -> Out {
    if !x.dtype().is_float() {
        return Err(format!("ONNX convolves floats, not {}", x.dtype()));
    }
    let wide = op.accumulate.unwrap_or(x.dtype());
    let (lhs, rhs) = (body.cast(x, wide), body.cast(y, wide));
    let count = op.groups.count;
    let (l, r, out) = (&op.axes.lhs, &op.axes.rhs, &op.axes.out);
    let order = |first: usize, second: usize, spatial: &[usize]| -> Vec<usize> {
        [first, second].iter().chain(spatial).copied().collect()
    };
    let mut lhs = body.transpose(&lhs, &order(l.batch, l.feature, &l.spatial));
    let mut rhs = body.transpose(&rhs, &order(r.output, r.input, &r.spatial));
    if count > 1 {
        if op.groups.lhs == DataRole::Batch {
            lhs = moved(body, &lhs, count, (0, 1))?;
        }
        if op.groups.rhs == KernelRole::Input {
            rhs = moved(body, &rhs, count, (1, 0))?;
        }
    }
    let batch = lhs.shape()[0].clone();
    let features = rhs.shape()[0].clone();
    let positions = out.spatial.iter().map(|a| ty.shape[*a].clone());
    let shape: Shape = [batch, features].into_iter().chain(positions).collect();
    let mut result = match transposed(body, op, &lhs, &rhs, &shape)? {
        Some(result) => result,
        None => plain(body, op, &lhs, &rhs, &shape)?,
    };
    if count > 1 && op.groups.out == DataRole::Batch {
        result = moved(body, &result, count, (1, 0))?;
    }
    let places = (0..ty.rank()).map(|axis| match axis {
        axis if axis == out.batch => 0,
        axis if axis == out.feature => 1,
        axis => 2 + out.spatial.iter().position(|a| *a == axis).unwrap_or(0),
    });
    let places: Vec<usize> = places.collect();
    let result = body.transpose(&result, &places);
    Ok(round_to(body, &result, x.dtype()))
}

/// Groups moved from one of the first two axes to the other: the slower part of the one becomes that of the other.
fn moved(body: &mut Body<'_>, x: &Value, count: i64, (from, to): (usize, usize)) -> Out {
    let groups = Dim::from(count);
    let part = x.shape()[from].exact_div(&groups);
    let part = part.ok_or_else(|| format!("{} is no multiple of {count}", x.shape()[from]))?;
    let mut apart = x.shape().to_vec();
    apart[from] = part.clone();
    apart.insert(from, groups.clone());
    let split = body.reshape(x, &apart.into())?;
    // The axes are now G, a, b or a, G, b; either becomes the other.
    let mut order: Vec<usize> = (0..split.rank()).collect();
    order.swap(0, 1);
    let turned = body.transpose(&split, &order);
    let mut together = x.shape().to_vec();
    together[from] = part;
    together[to] = &together[to] * &groups;
    body.reshape(&turned, &together.into())
}

fn spatial_axes(op: &Conv) -> Vec<usize> {
    (2..2 + op.window.len()).collect()
}

/// `Conv` on the operand, dilated and padded before where its attributes cannot say it.
fn plain(body: &mut Body<'_>, op: &Conv, lhs: &Value, rhs: &Value, shape: &Shape) -> Out {
    let rhs = match op.reverse {
        true => body.reverse(rhs, &spatial_axes(op))?,
        false => rhs.clone(),
    };
    let mut lhs = lhs.clone();
    let zero = body.number(lhs.dtype(), 0.0);
    let around = |spatial: &mut dyn Iterator<Item = Dim>, front: Dim| -> Vec<Dim> {
        [front.clone(), front].into_iter().chain(spatial).collect()
    };
    let holes: Vec<i64> = [0, 0]
        .into_iter()
        .chain(op.window.iter().map(|a| a.base_dilation - 1))
        .collect();
    if holes.iter().any(|h| *h > 0) {
        let one = Dim::from(1);
        let spans = lhs
            .shape()
            .iter()
            .zip(&holes)
            .map(|(dim, hole)| match hole {
                0 => dim.clone(),
                hole => &(&(dim - &one) * &Dim::from(hole + 1)) + &one,
            });
        let spans: Shape = spans.collect();
        lhs = body.dilate(&lhs, &holes, &zero, &spans)?;
    }
    let edges = op.window.iter().map(|a| &a.low);
    let edges = edges.chain(op.window.iter().map(|a| &a.high));
    let numbers = edges.map(|d| d.constant().filter(|n| *n >= 0));
    let numbers: Option<Vec<i64>> = numbers.collect();
    let pads = match numbers {
        Some(numbers) => numbers,
        None => {
            let low = around(&mut op.window.iter().map(|a| a.low.clone()), Dim::from(0));
            let high = around(&mut op.window.iter().map(|a| a.high.clone()), Dim::from(0));
            let padded = lhs.shape().iter().zip(low.iter().zip(&high));
            let padded: Shape = padded
                .map(|(dim, (low, high))| &(low + dim) + high)
                .collect();
            lhs = body.pad(&lhs, &low, &high, &zero, &padded)?;
            vec![0; 2 * op.window.len()]
        }
    };
    let list = |f: fn(&kiln_ir::ops::WindowAxis) -> i64| op.window.iter().map(f).collect();
    let attributes = vec![
        attribute::ints("strides", list(|a| a.stride)),
        attribute::ints("dilations", list(|a| a.window_dilation)),
        attribute::ints("pads", pads),
        attribute::int("group", op.groups.count),
    ];
    Ok(body.typed("Conv", &[&lhs, &rhs], &[], attributes, shape))
}

/// `ConvTranspose`, where the operand is dilated, the window takes single steps and all edges are numbers; else `None`.
///
/// It scatters element `p` of the operand to `p * stride + k * dilation - pad`, which is the equation of the window solved for the position,
/// with `k` counted from the end of the kernel: so `pad` is `(size - 1) * dilation - low`.
fn transposed(
    body: &mut Body<'_>,
    op: &Conv,
    lhs: &Value,
    rhs: &Value,
    shape: &Shape,
) -> Out<Option<Value>> {
    let dilated = op.window.iter().any(|a| a.base_dilation > 1);
    if !dilated || op.window.iter().any(|a| a.stride != 1) {
        return Ok(None);
    }
    let (mut begin, mut end, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for (axis, size) in op.window.iter().zip(&rhs.shape()[2..]) {
        let (Some(size), Some(low), Some(high)) =
            (size.constant(), axis.low.constant(), axis.high.constant())
        else {
            return Ok(None);
        };
        let reach = (size - 1) * axis.window_dilation;
        let (first, last) = (reach - low, reach - high);
        if first < 0 || last <= -axis.base_dilation {
            return Ok(None);
        }
        begin.push(first);
        end.push(last.max(0));
        more.push((-last).max(0));
    }
    let count = op.groups.count;
    let groups = Dim::from(count);
    let Some(outputs) = rhs.shape()[0].exact_div(&groups) else {
        return Ok(None);
    };
    let rhs = match op.reverse {
        true => rhs.clone(),
        false => body.reverse(rhs, &spatial_axes(op))?,
    };
    // From [group * output, input, ..] to [group * input, output, ..].
    let (inputs, rest) = (rhs.shape()[1].clone(), rhs.shape()[2..].to_vec());
    let with = |front: Vec<Dim>| -> Shape { front.into_iter().chain(rest.clone()).collect() };
    let apart = with(vec![groups.clone(), outputs.clone(), inputs.clone()]);
    let apart = body.reshape(&rhs, &apart)?;
    let mut order: Vec<usize> = (0..apart.rank()).collect();
    order.swap(1, 2);
    let turned = body.transpose(&apart, &order);
    let kernel = body.reshape(&turned, &with(vec![&groups * &inputs, outputs]))?;
    let list = |f: fn(&kiln_ir::ops::WindowAxis) -> i64| op.window.iter().map(f).collect();
    let attributes = vec![
        attribute::ints("strides", list(|a| a.base_dilation)),
        attribute::ints("dilations", list(|a| a.window_dilation)),
        attribute::ints("pads", begin.into_iter().chain(end).collect()),
        attribute::ints("output_padding", more),
        attribute::int("group", count),
    ];
    let result = body.typed("ConvTranspose", &[lhs, &kernel], &[], attributes, shape);
    Ok(Some(result))
}
