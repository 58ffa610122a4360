//! `adam`: the update of a whole model in 60 tensors, from gradients that are fed.
//!
//! The tensors are those of five transformer blocks of a width, without the embedding: four weights and eight vectors a block. At a width
//! of 408 they are 10 million parameters; for the caches the width is what fits.

use super::block::Block;
use super::vector::{Vector, loops, map};
use super::{Case, F32, Failure};
use kiln::{Adam, Bindings, Builder, DType, Init, Optimizer, Tensor};

const BLOCKS: usize = 5;
/// What makes 10 million parameters.
const WIDEST: i64 = 408;
const RATE: f64 = 1e-3;

/// The tensors of a block, as multiples of the width: rows (none for a vector) and columns.
const BLOCK: [(&str, Option<i64>, i64); 12] = [
    ("norm1/gamma", None, 1),
    ("norm1/beta", None, 1),
    ("qkv/w", Some(1), 3),
    ("qkv/b", None, 3),
    ("projection/w", Some(1), 1),
    ("projection/b", None, 1),
    ("norm2/gamma", None, 1),
    ("norm2/beta", None, 1),
    ("up/w", Some(1), 4),
    ("up/b", None, 4),
    ("down/w", Some(4), 1),
    ("down/b", None, 1),
];
const TENSORS: usize = BLOCKS * BLOCK.len();

/// Adam as users call it, with its bias correction. The loop goes over the tensors one by one, computes the correction once, and
/// contracts multiply-adds; root and division are exact in both.
pub(crate) fn adam(footprint: usize) -> Result<Case, Failure> {
    let fits = |width: &i64| parameters(*width) * 4 * F32 <= footprint;
    let width = (1..=WIDEST).rev().find(fits).unwrap_or(1);
    let g = Builder::new("adam");
    let mut pairs: Vec<(Tensor<'_>, Tensor<'_>)> = Vec::new();
    for block in 0..BLOCKS {
        for (name, rows, columns) in BLOCK {
            let name = format!("{block}/{name}");
            let shape: Vec<i64> = rows
                .into_iter()
                .chain([columns])
                .map(|e| e * width)
                .collect();
            let param = g.param(&name, &shape[..], Init::uniform(0.1));
            let gradient = g.input(&format!("d/{name}"), DType::F32, &shape[..]);
            pairs.push((param, gradient));
        }
    }
    Adam::new(RATE).step(&g, &pairs);
    Ok(Case {
        graph: g.finish()?,
        bindings: Bindings::new(),
        rivals: loops!(adam_loop),
    })
}

fn parameters(width: i64) -> usize {
    let block = BLOCK.iter().map(|(_, rows, columns)| {
        let rows = rows.map_or(1, |rows| rows * width);
        rows * columns * width
    });
    BLOCKS * block.sum::<i64>() as usize
}

/// `own` is in the order of the graph: params, learning rate, step, and both moments of each param.
#[inline(always)]
unsafe fn adam_loop<V: Vector>(inputs: &[Block], own: &mut [Block]) {
    let (params, rest) = own.split_at_mut(TENSORS);
    let (scalars, moments) = rest.split_at_mut(2);
    assert_eq!((inputs.len(), moments.len()), (TENSORS, 2 * TENSORS));
    let step = scalars[1].count_mut();
    *step += 1;
    let time = *step as f64;
    let rate = (f64::from(scalars[0].floats()[0]) / (1.0 - 0.9_f64.powf(time))) as f32;
    let scale = (1.0 - 0.999_f64.powf(time)).sqrt().recip() as f32;
    for ((gradient, param), moments) in inputs.iter().zip(params).zip(moments.chunks_exact_mut(2)) {
        let [first, second] = moments else {
            unreachable!("two moments")
        };
        let (d, p) = (gradient.floats(), param.floats_mut());
        let (m, v) = (first.floats_mut(), second.floats_mut());
        let n = d.len();
        assert_eq!((p.len(), m.len(), v.len()), (n, n, n));
        let (d, p, m, v) = (d.as_ptr(), p.as_mut_ptr(), m.as_mut_ptr(), v.as_mut_ptr());
        // SAFETY: all operands have `n` elements; the caller answers for the instruction set.
        map!(V, n, lanes, unsafe {
            let g: V = lanes.load(d);
            let first = V::fma(g, V::splat(0.1), V::mul(lanes.load(m), V::splat(0.9)));
            let square = V::mul(V::mul(g, g), V::splat(0.001));
            let second = V::fma(lanes.load(v), V::splat(0.999), square);
            lanes.store(m, first);
            lanes.store(v, second);
            let root = V::fma(V::sqrt(second), V::splat(scale), V::splat(1e-8));
            let change = V::div(V::mul(first, V::splat(rate)), root);
            lanes.store(p, V::sub(lanes.load(p), change));
        });
    }
}
