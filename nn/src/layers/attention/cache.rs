//! Attention of a step that goes on with a sequence: keys and values of earlier tokens are states.
//!
//! A step writes the rows of its own tokens into the states, in place, and attends to all rows; what lies behind a token, which no step of
//! this sequence has written yet, is hidden by the mask. So a token costs one row of each product instead of all, and the caches are read
//! once.

use super::super::activation::softmax;
use super::core::hidden_unless;
use crate::continuation::Continuation;
use crate::layer::Context;
use kiln_ir::ops::Iota;
use kiln_ir::{DType, Dim, Init, Kind, Refusal, Tensor, TensorType};

/// Causal attention of `q: [b, t, heads, width]` to the tokens before it and to itself, whose keys and values are `k` and `v: [b, t, kv_heads,
/// width]`; gives `[b, t, heads, width]`.
///
/// States, of the element type of `k`: `keys` and `values`, `[b, kv_heads, context, width]`, zeros, in the open scope.
#[track_caller]
pub(super) fn attend<'g>(
    cx: &Context<'g>,
    [q, k, v]: [Tensor<'g>; 3],
    from: &Continuation<'g>,
) -> Tensor<'g> {
    let builder = cx.builder();
    let (Some(asked), Some(kept)) = (q.ty(), k.ty()) else {
        return builder.poison();
    };
    let sizes = (sizes(&asked), sizes(&kept));
    let (Some([b, t, heads, width]), Some([_, _, kv_heads, _])) = sizes else {
        let message = format!(
            "an attention goes on with sequences of shape {}",
            asked.shape
        );
        let refusal = Refusal::new(Kind::Shape, message)
            .help("states have fixed sizes, so the batch and the tokens of a step are numbers");
        return builder.refuse(refusal, &[q]);
    };
    if t != from.tokens() {
        let message = format!("an attention is given {t} tokens");
        let refusal = Refusal::new(Kind::Shape, message)
            .help(format!("a step of this continuation has {}", from.tokens()));
        return builder.refuse(refusal, &[q]);
    }
    if cx.is_sharing() {
        let refusal = Refusal::new(Kind::Signature, "an attention goes on with two sequences")
            .help("its keys and values are those of one; give the second one another name");
        return builder.refuse(refusal, &[q]);
    }
    let starts = from.window(2, 4);
    let all = |name: &str, rows: Tensor<'g>| {
        let shape = (b, kv_heads, from.context(), width);
        let before = cx.state(name, kept.dtype, shape, Init::zeros());
        let now = before.dynamic_update_slice(rows.transpose(&[0, 2, 1, 3]), &starts);
        builder.update(before, now);
        now
    };
    let (keys, values) = (all("keys", k), all("values", v));
    // The heads of a group, one behind the other, are one left side for the keys that they share.
    let grouped = |last: i64| (b, kv_heads, heads / kv_heads * t, last);
    let rows = q.transpose(&[0, 2, 1, 3]).reshape(grouped(width));
    let scores = rows.dot_general(keys, &[3], &[3], &[0, 1], &[0, 1]);
    let scores = scores.reshape((b, heads, t, from.context())) * (1.0 / (width as f64).sqrt());
    let weights = softmax(scores + hidden(from, &asked));
    let weights = weights.reshape(grouped(from.context()));
    let y = weights.dot_general(values, &[3], &[2], &[0, 1], &[0, 1]);
    y.reshape((b, heads, t, width)).transpose(&[0, 2, 1, 3])
}

/// What is added to scores, `[1, 1, tokens, context]`: 0 where the token may be seen, minus infinity where it lies ahead.
#[track_caller]
fn hidden<'g>(from: &Continuation<'g>, asked: &TensorType) -> Tensor<'g> {
    let (tokens, context) = (from.tokens(), from.context());
    let positions = from.positions();
    let builder = positions.builder();
    let ty = TensorType::new(DType::I32, (tokens, context));
    let keys = builder.push(
        Iota {
            ty: ty.clone(),
            axis: 1,
        },
        &[],
    );
    let seen = keys.le(positions.reshape((tokens, 1)));
    hidden_unless(seen, asked.dtype).reshape((1, 1, tokens, context))
}

/// The four fixed sizes of a tensor that has them.
fn sizes(ty: &TensorType) -> Option<[i64; 4]> {
    let sizes: Option<Vec<i64>> = ty.shape.iter().map(Dim::constant).collect();
    sizes?.try_into().ok()
}
