//! Attention itself, without params: scores, mask, softmax and values in one function, all scores at once or, where these are many, in
//! [blocks](super::blocks).

use super::super::dropout::dropout;
use super::blocks;
use kiln_ir::ops::{Broadcast, DimSize, Iota, ReduceKind};
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
    /// How many scores are there at a time. It changes no result beyond rounding.
    pub schedule: AttentionSchedule,
}

/// In which order an attention is computed, and so how much memory it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttentionSchedule {
    /// Blocks where a head has more than [`AttentionSchedule::MOST_SCORES`] scores or a symbolic number, and no mask has as many; else all.
    #[default]
    Chosen,
    /// All scores at once: each of the four steps is one large op, and scores are kept for the gradient.
    Whole,
    /// The scores of so many queries of one example and one head of keys (of its whole group of query heads) at a time, from product to
    /// product on one core. The gradient computes them again, so memory is linear in the lengths: Dao et al., "FlashAttention" (NeurIPS
    /// 2022). The mask, if there is one, is `[b, s]`; attention with a larger one ignores the wish for blocks.
    Blocks(i64),
}

impl AttentionSchedule {
    /// The most scores of one head that are computed at once if nobody says otherwise: 256 queries of 256 keys, 256 KiB of f32.
    pub const MOST_SCORES: i64 = 256 * 256;
    /// The queries of a block if nobody says otherwise.
    pub const ROWS: i64 = 128;
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
    if let Some(rows) = sizes.block(options) {
        return blocks::attention(&sizes, rows, q, k, v, options);
    }
    let Some(bias) = bias(&sizes, options, q) else {
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
    let (weights, sums) = unnormalised(scores * scale, bias);
    let weights = dropout(weights, options.dropout);
    let y = if wide {
        let rows = (&sizes.b, sizes.kv_heads, sizes.t.clone() * group, &sizes.s);
        let y = (weights.reshape(rows)).dot_general(v, &[3], &[1], &[0, 1], &[0, 2]);
        y.reshape((&sizes.b, sizes.heads, &sizes.t, sizes.values.clone()))
    } else {
        weights.dot_general(v, &[3], &[1], &[0, 1], &[0, 2])
    };
    // Dividing here instead of before the product divides rows of `values` numbers instead of `s`, and gives the backward step its sum
    // over the keys from the result: Dao, "FlashAttention-2" (2023), section 3.1.
    let Some(ty) = y.ty() else { return y };
    let sums = sums.reshape((&sizes.b, sizes.heads, &sizes.t, 1));
    (y * sums.recip().broadcast_to(&ty.shape)).transpose(&[0, 2, 1, 3])
}

/// The exponentials of a softmax along the last axis of `x`, and what they are to be divided by. `bias` is added first; where a row has
/// minus infinity throughout the exponentials are 0, and the divisor is 1.
#[track_caller]
pub(super) fn unnormalised<'g>(
    x: Tensor<'g>,
    bias: Option<Tensor<'g>>,
) -> (Tensor<'g>, Tensor<'g>) {
    let x = match bias {
        Some(bias) => x + bias,
        None => x,
    };
    let Some(ty) = x.ty() else { return (x, x) };
    let row = ty.rank() - 1;
    let maximum = x.reduce(ReduceKind::Max, &[row]).stop_gradient();
    let splat = |value| {
        x.builder()
            .splat(ty.dtype, Shape::from(&ty.shape[..row]), value)
    };
    // A row without anything to see has no maximum; any finite number makes its exponentials 0.
    let maximum = splat(0.0).where_(maximum.eq(f64::NEG_INFINITY), maximum);
    let along = Broadcast {
        shape: ty.shape.clone(),
        axes: (0..row).collect(),
    };
    let weights = (x - x.builder().push(along, &[maximum])).exp();
    let sums = weights.reduce(ReduceKind::Sum, &[row]);
    // Only the sum of such a row is 0: elsewhere the maximum itself adds 1.
    (weights, splat(1.0).where_(sums.eq(0.0), sums))
}

/// What is added to scores `[b, heads, t, s]`, of their shape: 0, and minus infinity where a key may not be seen; none where all may. A
/// mistake is reported and gives `None` outside.
///
/// It is added, not selected, for then the way back has no mask: where the weight is 0, so is its gradient.
#[track_caller]
fn bias<'g>(
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
            Some(visible.reshape(spread))
        }
    };
    let causal = options.causal.then(|| causal(sizes, q));
    let seen = match (given, causal) {
        (Some(given), Some(causal)) => given.and(causal),
        (Some(given), None) => given,
        (None, Some(causal)) => causal,
        (None, None) => return Some(None),
    };
    Some(Some(hidden_unless(seen, sizes.dtype)))
}

/// What is added to scores of element type `dtype`: 0 where `seen` is true, and minus infinity elsewhere.
#[track_caller]
pub(super) fn hidden_unless(seen: Tensor<'_>, dtype: DType) -> Tensor<'_> {
    let Some(ty) = seen.ty() else { return seen };
    let zero = seen.builder().splat(dtype, &ty.shape, 0.0);
    zero.where_(seen, f64::NEG_INFINITY)
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
pub(super) struct Sizes {
    pub(super) dtype: DType,
    pub(super) b: Dim,
    pub(super) t: Dim,
    pub(super) s: Dim,
    pub(super) heads: i64,
    pub(super) kv_heads: i64,
    pub(super) width: i64,
    pub(super) values: Dim,
}

impl Sizes {
    /// The sizes, or none where an operand is poisoned or they do not agree, which is reported.
    #[track_caller]
    fn of(q: Tensor<'_>, k: Tensor<'_>, v: Tensor<'_>) -> Option<Self> {
        let types = [q.ty()?, k.ty()?, v.ty()?];
        match Self::agreed(&types) {
            Ok(sizes) => Some(sizes),
            Err((kind, help)) => {
                let [qt, kt, vt] = &types;
                let message = format!("`attention` of queries {qt}, keys {kt} and values {vt}");
                let refusal = Refusal::new(kind, message).help(help);
                q.builder().refuse(refusal, &[q, k, v]);
                None
            }
        }
    }

    /// The sizes, or what would be right.
    fn agreed([qt, kt, vt]: &[TensorType; 3]) -> Result<Self, (Kind, String)> {
        let shape = |help: &str| Err((Kind::Shape, help.to_owned()));
        let ([b, t, h, d], [kb, s, kh, kd], [vb, vs, vh, values]) =
            (&*qt.shape, &*kt.shape, &*vt.shape)
        else {
            return shape("each has the axes batch, time, heads, width");
        };
        if !qt.dtype.is_float() || qt.dtype != kt.dtype || qt.dtype != vt.dtype {
            return Err((Kind::Type, "all three are of one floating type".into()));
        }
        if b != kb || b != vb || s != vs || kh != vh || d != kd {
            return shape(&format!(
                "keys and values of {b} examples, equally long, with equally many heads, and keys of width {d} fit"
            ));
        }
        let (Some(heads), Some(kv_heads), Some(width)) =
            (h.constant(), kh.constant(), d.constant())
        else {
            return shape("heads and width are fixed; batch and time may be symbolic");
        };
        if kv_heads < 1 || heads % kv_heads != 0 {
            return shape("the heads of queries are a multiple of those of keys");
        }
        if width < 1 {
            return shape("queries and keys have one feature or more");
        }
        Ok(Self {
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

    /// The queries of a block; none where all scores are computed at once.
    fn block(&self, options: &AttentionOptions<'_>) -> Option<i64> {
        let fits = match options.visible.and_then(|visible| visible.ty()) {
            None => options.visible.is_none(),
            Some(ty) => ty.dtype == DType::Bool && ty.shape == Shape::from((&self.b, &self.s)),
        };
        match options.schedule {
            AttentionSchedule::Whole => None,
            AttentionSchedule::Blocks(rows) => (fits && rows > 0).then_some(rows),
            AttentionSchedule::Chosen => {
                let scores = (&self.t * &self.s).constant();
                let few = scores.is_some_and(|scores| scores <= AttentionSchedule::MOST_SCORES);
                (fits && !few).then_some(AttentionSchedule::ROWS)
            }
        }
    }

    /// The type of the scores.
    fn scores(&self) -> TensorType {
        TensorType::new(self.dtype, (&self.b, self.heads, &self.t, &self.s))
    }
}
