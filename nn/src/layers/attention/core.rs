//! Attention itself, without params: scores, mask, softmax and values in one function, so that another schedule of the four replaces this
//! file and no layer.

use super::super::dropout::dropout;
use kiln_ir::ops::{DimSize, Iota, ReduceKind};
use kiln_ir::{DType, Dim, Kind, Refusal, Shape, Tensor, TensorType};

/// What an attention leaves out.
#[derive(Clone, Copy, Default)]
pub struct AttentionOptions<'g> {
    /// Whether a query sees only the keys up to its own position. The last query stands at the last key: query `i` of `t` sees the keys
    /// `j <= i + s - t`, so a step with a cache of earlier keys may ask for its newest queries alone.
    pub causal: bool,
    /// `bool`, true where a key may be seen: `[b, s]` for all queries, as of padding; `[b, t, s]` for all heads; or `[b, heads, t, s]`.
    pub visible: Option<Tensor<'g>>,
    /// The share of the probabilities that is dropped, 0 for none.
    pub dropout: f64,
}

/// Scaled dot-product attention of several heads: Vaswani et al., "Attention is all you need" (NeurIPS 2017), equation 1.
///
/// ```text
/// softmax(q k^T / sqrt(width)) v      for each example and head
/// ```
///
/// `q: [b, t, heads, width]`, `k: [b, s, kv_heads, width]` and `v: [b, s, kv_heads, values]` give `[b, t, heads, values]`. With fewer heads of
/// keys than of queries each serves `heads / kv_heads` neighbouring heads of queries: Ainslie et al., "GQA" (EMNLP 2023).
///
/// A query that may see no key at all gets zeros and gives no gradient: a sum over nothing, never NaN.
///
/// Refused: other ranks, element types that differ or are not floating, batches, lengths and widths that do not agree, heads that are
/// symbolic or not a multiple of the keys' heads, and masks of another shape.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{AttentionOptions, attention};
///
/// let g = Builder::new("attention");
/// let heads = |name, count| g.input(name, DType::F32, (g.dim("b"), g.dim("t"), count, 16));
/// let (q, k, v) = (heads("q", 8), heads("k", 2), heads("v", 2));
/// let y = attention(q, k, v, &AttentionOptions { causal: true, ..Default::default() });
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, t, 8, 16]");
/// ```
#[track_caller]
pub fn attention<'g>(
    q: Tensor<'g>,
    k: Tensor<'g>,
    v: Tensor<'g>,
    options: &AttentionOptions<'g>,
) -> Tensor<'g> {
    let builder = q.builder();
    let Some(sizes) = Sizes::of(q, k, v) else {
        return builder.poison();
    };
    let Some(mask) = mask(&sizes, options, q) else {
        return builder.poison();
    };
    let scale = 1.0 / (sizes.width as f64).sqrt();
    // Heads stay where they lie, next to their features: they are batches of the products, not axes to be moved.
    let (group, wide) = (sizes.heads / sizes.kv_heads, sizes.heads != sizes.kv_heads);
    let scores = if wide {
        // The heads of a group, one behind the other, are one left side for the keys that they share.
        let rows = (
            &sizes.b,
            sizes.kv_heads,
            sizes.t.clone() * group,
            sizes.width,
        );
        let rows = q.transpose(&[0, 2, 1, 3]).reshape(rows);
        let scores = rows.dot_general(k, &[3], &[3], &[0, 1], &[0, 2]);
        scores.reshape(&sizes.scores().shape)
    } else {
        q.dot_general(k, &[3], &[3], &[0, 2], &[0, 2])
    };
    let p = dropout(masked_softmax(scores * scale, mask), options.dropout);
    if wide {
        let rows = p.reshape((&sizes.b, sizes.kv_heads, sizes.t.clone() * group, &sizes.s));
        let y = rows.dot_general(v, &[3], &[1], &[0, 1], &[0, 2]);
        let split = (&sizes.b, sizes.heads, &sizes.t, sizes.values.clone());
        y.reshape(split).transpose(&[0, 2, 1, 3])
    } else {
        let y = p.dot_general(v, &[3], &[1], &[0, 1], &[0, 2]);
        y.transpose(&[0, 2, 1, 3])
    }
}

/// The softmax along the last axis over the elements that `mask` lets through; the others are 0, and so is a row without any. `None` lets
/// all through.
#[track_caller]
fn masked_softmax<'g>(x: Tensor<'g>, mask: Option<Tensor<'g>>) -> Tensor<'g> {
    let (Some(mask), Some(ty)) = (mask, x.ty()) else {
        return super::super::softmax(x);
    };
    let row = ty.rank() - 1;
    let along = |value: Tensor<'g>| {
        let broadcast = kiln_ir::ops::Broadcast {
            shape: ty.shape.clone(),
            axes: (0..row).collect(),
        };
        value.builder().push(broadcast, &[value])
    };
    // Minus infinity goes through `exp` to an exact 0 with a slope of 0, so no masked score, not even an infinite one, is seen again.
    let seen = x.where_(mask, f64::NEG_INFINITY);
    let maximum = seen.reduce(ReduceKind::Max, &[row]).stop_gradient();
    let Some(row_ty) = maximum.ty() else {
        return maximum;
    };
    let splat = |value| x.builder().splat(row_ty.dtype, &row_ty.shape, value);
    // A row without anything to see has no maximum; any finite number makes its exponentials 0.
    let maximum = splat(0.0).where_(maximum.eq(f64::NEG_INFINITY), maximum);
    let exponentials = (seen - along(maximum)).exp();
    let sum = exponentials.reduce(ReduceKind::Sum, &[row]);
    // Only the sum of such a row is 0: elsewhere the maximum itself adds 1.
    exponentials / along(splat(1.0).where_(sum.eq(0.0), sum))
}

/// The mask for scores `[b, heads, t, s]`, of their shape; none where all is visible. A mistake is reported and gives `None` outside.
#[track_caller]
fn mask<'g>(
    sizes: &Sizes,
    options: &AttentionOptions<'g>,
    q: Tensor<'g>,
) -> Option<Option<Tensor<'g>>> {
    let shape = sizes.scores().shape;
    let given = match options.visible {
        None => None,
        Some(visible) => {
            let ty = visible.ty()?;
            let one = || Dim::from(1);
            let [b, h, t, s] = [&shape[0], &shape[1], &shape[2], &shape[3]].map(Clone::clone);
            let spread = match ty.rank() {
                2 => [b, one(), one(), s],
                3 => [b, one(), t, s],
                _ => [b, h, t, s],
            };
            let wanted: Vec<Dim> = match ty.rank() {
                2 => vec![spread[0].clone(), spread[3].clone()],
                3 => vec![spread[0].clone(), spread[2].clone(), spread[3].clone()],
                _ => spread.to_vec(),
            };
            let wanted = Shape::from(wanted);
            if ty.dtype != DType::Bool || ty.shape != wanted {
                let (b, t, s) = (&shape[0], &shape[2], &shape[3]);
                let message = format!("`attention` with visible keys of type {ty}");
                let refusal = Refusal::new(Kind::Shape, message).help(format!(
                    "bool[{b}, {s}] fits, or bool[{b}, {t}, {s}], or bool{shape}"
                ));
                q.builder().refuse(refusal, &[q, visible]);
                return None;
            }
            Some(visible.reshape(spread).broadcast_to(&shape))
        }
    };
    let causal = options
        .causal
        .then(|| causal(sizes, q).broadcast_to(&shape));
    Some(match (given, causal) {
        (Some(given), Some(causal)) => Some(given.and(causal)),
        (given, causal) => given.or(causal),
    })
}

/// `bool[t, s]`: whether the query may see the key.
#[track_caller]
fn causal<'g>(sizes: &Sizes, q: Tensor<'g>) -> Tensor<'g> {
    let builder = q.builder();
    let ty = TensorType::new(DType::I32, (&sizes.t, &sizes.s));
    let index = |axis| {
        builder.push(
            Iota {
                ty: ty.clone(),
                axis,
            },
            &[],
        )
    };
    let dim = &sizes.s - &sizes.t;
    let last = match dim.constant() {
        Some(0) => index(0),
        _ => index(0) + builder.push(DimSize { dim }, &[]).convert(DType::I32),
    };
    last.ge(index(1))
}

/// What the three operands agree on.
struct Sizes {
    dtype: DType,
    b: Dim,
    t: Dim,
    s: Dim,
    heads: i64,
    kv_heads: i64,
    width: i64,
    values: Dim,
}

impl Sizes {
    /// The sizes, or none where an operand is poisoned or they do not agree, which is reported.
    #[track_caller]
    fn of(q: Tensor<'_>, k: Tensor<'_>, v: Tensor<'_>) -> Option<Self> {
        let (qt, kt, vt) = (q.ty()?, k.ty()?, v.ty()?);
        let refuse = |kind: Kind, help: String| {
            let message = format!("`attention` of queries {qt}, keys {kt} and values {vt}");
            let refusal = Refusal::new(kind, message).help(help);
            q.builder().refuse(refusal, &[q, k, v]);
            None
        };
        let ([b, t, h, d], [kb, s, kh, kd], [vb, vs, vh, values]) =
            (&*qt.shape, &*kt.shape, &*vt.shape)
        else {
            let help = "each has the axes batch, time, heads, width";
            return refuse(Kind::Shape, help.into());
        };
        if !qt.dtype.is_float() || qt.dtype != kt.dtype || qt.dtype != vt.dtype {
            let help = "all three are of one floating type";
            return refuse(Kind::Type, help.into());
        }
        if b != kb || b != vb || s != vs || kh != vh || d != kd {
            let help = format!(
                "keys and values of {b} examples, equally long, with equally many heads, and keys of width {d} fit"
            );
            return refuse(Kind::Shape, help);
        }
        let (Some(heads), Some(kv_heads), Some(width)) =
            (h.constant(), kh.constant(), d.constant())
        else {
            let help = "heads and width are fixed; batch and time may be symbolic";
            return refuse(Kind::Shape, help.into());
        };
        if kv_heads < 1 || heads % kv_heads != 0 || width < 1 {
            let help = "the heads of queries are a multiple of those of keys";
            return refuse(Kind::Shape, help.into());
        }
        Some(Self {
            dtype: qt.dtype,
            b: b.clone(),
            t: t.clone(),
            s: s.clone(),
            heads,
            kv_heads,
            width,
            values: values.clone(),
        })
    }

    /// The type of the scores.
    fn scores(&self) -> TensorType {
        TensorType::new(self.dtype, (&self.b, self.heads, &self.t, &self.s))
    }
}
