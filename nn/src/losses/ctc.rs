//! Connectionist temporal classification: the loss of a sequence of labels whose places in time nobody knows.
//!
//! Probabilities are kept as logarithms, and what is impossible has one of `LEAST` instead of minus infinity: differences of infinities
//! would be NaN in the gradient.

use super::Loss;
use crate::last_axis::LastAxis;
use kiln_ir::ops::ReduceKind;
use kiln_ir::{DType, Dim, Kind, Refusal, ScanOptions, Shape, Tensor, Yield};

/// The logarithm of an impossible probability; any sum of possible ones is far above it.
const LEAST: f64 = -1e30;

/// [`ctc`] in which each example has all its frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ctc;

impl Loss for Ctc {
    #[track_caller]
    fn per_example<'g>(&self, logits: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
        ctc(logits, labels, None)
    }
}

/// Minus the logarithm of the probability that frames spell a sequence of labels, `[b]`: Graves, Fernández, Gomez and Schmidhuber,
/// "Connectionist temporal classification" (ICML 2006), equations 6 to 8.
///
/// `logits` are `[b, frames, n]`, of which class 0 is the blank; repeated classes without a blank between count once. `labels` are
/// `[b, length]` of any integer type, from 1 to `n - 1`, filled up with 0 behind the last; another one fails the step. `frames`, `[b]` of
/// integers, says how many frames of an example count, else all do. Labels that do not fit into the frames have an infinite loss and no
/// gradient, as with PyTorch's `zero_infinity` in the gradient alone.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Ctc, Loss};
///
/// let g = Builder::new("speech");
/// let b = g.dim("b");
/// let logits = g.input("logits", DType::F32, (b.clone(), g.dim("t"), 28));
/// let text = g.input("text", DType::U8, (b, 12));
/// g.output("loss", Ctc.mean(logits, text));
/// assert!(g.finish().is_ok());
/// ```
#[track_caller]
pub fn ctc<'g>(logits: Tensor<'g>, labels: Tensor<'g>, frames: Option<Tensor<'g>>) -> Tensor<'g> {
    let builder = logits.builder();
    let Some(rows) = LastAxis::of("ctc", logits) else {
        return builder.poison();
    };
    let Some(label_ty) = labels.ty() else {
        return builder.poison();
    };
    let shape = rows.ty().shape.to_vec();
    let [batch, _, classes] = shape.as_slice() else {
        return refuse(logits, labels, "logits of shape [b, frames, classes]");
    };
    let lengths = match &*label_ty.shape {
        [examples, length] if examples == batch && label_ty.dtype.is_integer() => length,
        _ => return refuse(logits, labels, "integer labels of shape [b, length]"),
    };
    let frames_fit = frames.is_none_or(|frames| {
        let ty = frames.ty();
        ty.is_some_and(|ty| ty.dtype.is_integer() && *ty.shape == [batch.clone()])
    });
    if !frames_fit {
        return refuse(logits, labels, "integer counts of frames of shape [b]");
    }
    // A blank before, between and behind the labels: [b, states].
    let labels = labels.convert(DType::I64);
    let (none, one): (Dim, Dim) = (0.into(), 1.into());
    let edge = [none.clone(), one.clone()];
    let states = labels.pad(0.0, &edge, &edge, &[0, 1]);
    let count = &(lengths + lengths) + &one;
    let apart = states.ne(shifted(states, 2, 0.0, &count));
    let skips = states.ne(0.0).and(apart);

    // The logarithm of each state's probability in each frame: [frames, b, states].
    let centred = rows.centred(logits);
    let log = centred - rows.spread(rows.sum(centred.exp()).log());
    let wanted = Shape::from([batch.clone(), shape[1].clone(), count.clone()]);
    let places = states.reshape([batch.clone(), one.clone(), count.clone()]);
    let emitted = log.take_along_axis(2, places.broadcast_to(wanted));
    let emitted = emitted.transpose(&[1, 0, 2]);

    // Before the first frame all paths stand on the first blank, from which the first label may be skipped to as well.
    let index = kiln_ir::ops::Iota {
        ty: kiln_ir::TensorType::new(DType::I64, [batch.clone(), count.clone()]),
        axis: 1,
    };
    let index = builder.push(index, &[]);
    let dtype = rows.ty().dtype;
    let least = builder.splat(dtype, [batch.clone(), count.clone()], LEAST);
    let start = (least * 0.0).where_(index.eq(0.0), least);
    let frames = frames.map(|frames| frames.convert(DType::I64));
    let column = |x: Tensor<'g>| x.reshape([batch.clone(), one.clone()]);
    let frames = frames.map(column);
    let scanned = builder.scan(&ScanOptions::default(), &[start], &[emitted], |it| {
        let before = it.carry(0);
        let next = shifted(before, 1, LEAST, &count);
        let second = shifted(before, 2, LEAST, &count);
        let skipped = it
            .builder()
            .splat(dtype, [batch.clone(), count.clone()], LEAST);
        let second = second.where_(skips, skipped);
        let largest = before.maximum(next).maximum(second).stop_gradient();
        let sum = (before - largest).exp() + (next - largest).exp() + (second - largest).exp();
        let after = largest + sum.log() + it.entry(0);
        let after = match frames {
            Some(frames) => after.where_(it.number().lt(frames), before),
            None => after,
        };
        Yield::new(&[after], &[])
    });
    let Some(last) = scanned.carries.first() else {
        return builder.poison();
    };
    // Paths end on the last label or on the blank behind it.
    let length = labels
        .ne(0.0)
        .convert(DType::I64)
        .reduce(ReduceKind::Sum, &[1]);
    let end = column(length * 2.0);
    let ends = index.eq(end).or(index.eq(end - 1.0));
    let last = last.where_(ends, LEAST);
    let largest = last.reduce(ReduceKind::Max, &[1]).stop_gradient();
    let sum = (last - column(largest)).exp().reduce(ReduceKind::Sum, &[1]);
    let loss = (largest + sum.log()).neg();
    let infinite = builder.splat(dtype, [batch.clone()], f64::INFINITY);
    let loss = infinite.where_(largest.lt(LEAST / 2.0), loss);
    let known = labels
        .ge(0.0)
        .and(labels.lt(crate::weights::size(labels, classes.clone())));
    let known = known
        .convert(DType::I64)
        .reduce(ReduceKind::Min, &[1])
        .ne(0.0);
    loss.require(known, "a label is outside the classes of the logits")
}

/// `x: [b, states]`, moved `by` states up, with `value` in front.
#[track_caller]
fn shifted<'g>(x: Tensor<'g>, by: i64, value: f64, states: &Dim) -> Tensor<'g> {
    let none = || Dim::from(0);
    let whole = x.pad(value, &[none(), by.into()], &[none(), none()], &[0, 0]);
    whole.slice_axis(1, 0, states)
}

#[track_caller]
fn refuse<'g>(logits: Tensor<'g>, labels: Tensor<'g>, help: &str) -> Tensor<'g> {
    let types = (logits.ty(), labels.ty());
    let (Some(logits_ty), Some(label_ty)) = types else {
        return logits.builder().poison();
    };
    let message = format!("`ctc` of logits {logits_ty} and labels {label_ty}");
    let refusal = Refusal::new(Kind::Shape, message).help(format!("it takes {help}"));
    logits.builder().refuse(refusal, &[logits, labels])
}
