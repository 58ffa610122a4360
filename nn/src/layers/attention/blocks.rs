//! Attention in blocks of queries, one example and head after the other: the scores of a block go from product to product in one core's
//! cache, forward and backward.
//!
//! Two scans: over the examples and heads of keys, which are shared out among threads, and within one of these over the blocks of its
//! queries. Both keep nothing for the gradient but what they yield, so that it computes a block's scores again where it needs them; the
//! gradients of keys and values are summed from block to block.

use super::super::dropout::dropout;
use super::core::{AttentionOptions, Sizes, hidden_unless, unnormalised};
use kiln_ir::ops::{DimSize, Iota, Save};
use kiln_ir::{DType, Dim, ScanOptions, Tensor, TensorType, Yield};

/// Attention of `q`, `k` and `v` of these sizes, `rows` queries at a time; a mask is `[b, s]`.
#[track_caller]
pub(super) fn attention<'g>(
    sizes: &Sizes,
    rows: i64,
    q: Tensor<'g>,
    k: Tensor<'g>,
    v: Tensor<'g>,
    options: &AttentionOptions<'g>,
) -> Tensor<'g> {
    let Sizes { b, t, s, .. } = sizes;
    let (kv_heads, group) = (sizes.kv_heads, sizes.heads / sizes.kv_heads);
    let rows = t.constant().map_or(rows, |t| rows.min(t.max(1)));
    let blocks = (t.clone() + (rows - 1)).floor_div(&Dim::from(rows));
    let count = b.clone() * kv_heads;
    // [b, t, heads, width] -> [b kv_heads, blocks, rows, group, width], with queries of zeros at the end of the last block.
    let queries = q
        .reshape((b, t, kv_heads, group, sizes.width))
        .transpose(&[0, 2, 1, 3, 4]);
    let padded = blocks.clone() * rows;
    let missing = &padded - t;
    let none = || Dim::from(0);
    let low = [none(), none(), none(), none(), none()];
    let high = [none(), none(), missing, none(), none()];
    let queries = queries.pad(0.0, &low, &high, &[0; 5]);
    let queries = queries.reshape((&count, &blocks, rows, group, sizes.width));
    let keys = k.transpose(&[0, 2, 1, 3]).reshape((&count, s, sizes.width));
    let values = v
        .transpose(&[0, 2, 1, 3])
        .reshape((&count, s, sizes.values.clone()));
    let mut scanned = vec![queries, keys, values];
    scanned.extend(options.visible.map(|visible| {
        let each = visible.reshape((b, 1, s)).broadcast_to((b, kv_heads, s));
        each.reshape((&count, s))
    }));
    let over = |save, trip: &Dim| ScanOptions {
        save,
        trip: Some(trip.clone()),
        ..ScanOptions::default()
    };
    let spans = spans(sizes, rows, &blocks, options.causal);
    let heads = q
        .builder()
        .scan(&over(Save::Carries, &count), &[], &scanned, |head| {
            let span = |span: &Span| {
                let queries = head.entry(0).slice_axis(0, &span.first, &span.end);
                let of_keys = |entry: usize| head.entry(entry).slice_axis(0, 0, &span.keys);
                let [keys, values] = [1, 2].map(of_keys);
                let visible = options.visible.map(|_| of_keys(3));
                let count = &span.end - &span.first;
                let results =
                    head.builder()
                        .scan(&over(Save::Least, &count), &[], &[queries], |block| {
                            let q = block.entry(0).reshape((rows * group, sizes.width));
                            let number = block.number() + dim_size(q, &span.first);
                            let seen = seen(
                                sizes,
                                number * rows as f64,
                                rows,
                                &span.keys,
                                options.causal,
                                visible,
                            );
                            let scores = q.dot_general(keys, &[1], &[1], &[], &[]);
                            let scores = scores.reshape((rows, group, &span.keys));
                            let bias = seen.map(|seen| hidden_unless(seen, sizes.dtype));
                            let scale = 1.0 / (sizes.width as f64).sqrt();
                            let (weights, sums) = unnormalised(scores * scale, bias);
                            let weights = dropout(weights, options.dropout);
                            let y = weights.reshape((rows * group, &span.keys)).dot(values);
                            let shape = (rows * group, sizes.values.clone());
                            let sums = sums.reshape((rows * group, 1));
                            Yield::new(&[], &[y * sums.recip().broadcast_to(shape)])
                        });
                results.stacked.first().copied()
            };
            let parts: Vec<_> = spans.iter().filter_map(span).collect();
            Yield::new(&[], &[head.builder().concat(&parts, 0)])
        });
    let Some(y) = heads.stacked.first() else {
        return q.builder().poison();
    };
    let y = y.reshape((b, kv_heads, &padded, group, sizes.values.clone()));
    let y = y.slice_axis(2, 0, t).transpose(&[0, 2, 1, 3, 4]);
    y.reshape((b, t, sizes.heads, sizes.values.clone()))
}

/// Blocks of queries that are multiplied with the same keys.
struct Span {
    /// The first block.
    first: Dim,
    /// The first block behind.
    end: Dim,
    /// How many keys, from the first on.
    keys: Dim,
}

/// The most spans that the blocks are cut into: four leave out three eighths of the scores of a causal attention, of the half that nobody
/// may see, and each is one more loop to be compiled.
const SPANS: i64 = 4;

/// All blocks. Where later keys are not seen and the lengths are known, the earlier ones are multiplied with fewer keys.
fn spans(sizes: &Sizes, rows: i64, blocks: &Dim, causal: bool) -> Vec<Span> {
    let known = (blocks.constant(), sizes.t.constant(), sizes.s.constant());
    let (true, (Some(blocks), Some(t), Some(s))) = (causal, known) else {
        return vec![Span {
            first: Dim::from(0),
            end: blocks.clone(),
            keys: sizes.s.clone(),
        }];
    };
    let count = SPANS.min(blocks).max(1);
    let cut = |span: i64| blocks * span / count;
    let span = |span: i64| Span {
        first: cut(span).into(),
        end: cut(span + 1).into(),
        // Queries before the first key may see none, but still have one to look at.
        keys: (cut(span + 1) * rows + s - t).clamp(s.min(1), s).into(),
    };
    (0..count).map(span).collect()
}

/// `bool[rows, 1, keys]`: which of the first `keys` keys each of the queries from `first` on may see; none where all may see all. `visible`
/// is `[keys]`.
#[track_caller]
fn seen<'g>(
    sizes: &Sizes,
    first: Tensor<'g>,
    rows: i64,
    keys: &Dim,
    causal: bool,
    visible: Option<Tensor<'g>>,
) -> Option<Tensor<'g>> {
    let causal = causal.then(|| {
        let ty = TensorType::new(DType::I32, (rows, 1, keys));
        let index = |axis| {
            let ty = ty.clone();
            first.builder().push(Iota { ty, axis }, &[])
        };
        // The last query stands at the last key.
        let first = first + dim_size(first, &(&sizes.s - &sizes.t));
        (index(0) + first.convert(DType::I32)).ge(index(2))
    });
    let visible = visible.map(|visible| {
        let row = visible.reshape((1, 1, keys));
        row.broadcast_to((rows, 1, keys))
    });
    match (visible, causal) {
        (Some(visible), Some(causal)) => Some(visible.and(causal)),
        (visible, causal) => visible.or(causal),
    }
}

/// The number of a dim, `i64`, in the graph of `near`.
#[track_caller]
fn dim_size<'g>(near: Tensor<'g>, dim: &Dim) -> Tensor<'g> {
    near.builder().push(DimSize { dim: dim.clone() }, &[])
}
