//! Element by element: `add`, `axpby`, `exp` and `gelu`.

use super::block::{Block, elementwise};
use super::math::{erf, exp};
use super::vector::{Vector, loops, map};
use super::{Case, F32, Failure};
use kiln::{Builder, DType, Graph, Tensor};
use std::f64::consts::FRAC_1_SQRT_2;

/// `x + y`.
pub(crate) fn add(footprint: usize) -> Result<Case, Failure> {
    let graph = zip("add", |x, y| x + y)?;
    Ok(Case::of(graph, footprint / (3 * F32), loops!(add_loop)))
}

/// `0.9 x + 0.1 y`: two products and a sum in Kiln, a product and a fused multiply-add in the loop.
pub(crate) fn axpby(footprint: usize) -> Result<Case, Failure> {
    let graph = zip("axpby", |x, y| x * 0.9 + y * 0.1)?;
    Ok(Case::of(graph, footprint / (3 * F32), loops!(axpby_loop)))
}

/// The exponential function.
pub(crate) fn exponential(footprint: usize) -> Result<Case, Failure> {
    let graph = map_of("exp", |x| x.exp())?;
    Ok(Case::of(graph, footprint / (2 * F32), loops!(exp_loop)))
}

/// The exact gelu, by the error function: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016).
pub(crate) fn gelu(footprint: usize) -> Result<Case, Failure> {
    let graph = map_of("gelu", |x| x * 0.5 * ((x * FRAC_1_SQRT_2).erf() + 1.0))?;
    Ok(Case::of(graph, footprint / (2 * F32), loops!(gelu_loop)))
}

fn map_of(name: &str, f: impl for<'g> Fn(Tensor<'g>) -> Tensor<'g>) -> Result<Graph, Failure> {
    let g = Builder::new(name);
    let x = g.input("x", DType::F32, (g.dim("n"),));
    g.output("y", f(x));
    Ok(g.finish()?)
}

fn zip(
    name: &str,
    f: impl for<'g> Fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
) -> Result<Graph, Failure> {
    let g = Builder::new(name);
    let x = g.input("x", DType::F32, (g.dim("n"),));
    let y = g.input("y", DType::F32, (g.dim("n"),));
    g.output("z", f(x, y));
    Ok(g.finish()?)
}

#[inline(always)]
unsafe fn add_loop<V: Vector>(inputs: &[Block], own: &mut [Block]) {
    let (n, [x, y], [z]) = elementwise(inputs, own);
    // SAFETY: all operands have `n` elements; the caller answers for the instruction set.
    map!(V, n, lanes, unsafe {
        lanes.store(z, V::add(lanes.load(x), lanes.load(y)));
    });
}

#[inline(always)]
unsafe fn axpby_loop<V: Vector>(inputs: &[Block], own: &mut [Block]) {
    let (n, [x, y], [z]) = elementwise(inputs, own);
    // SAFETY: as in `add_loop`.
    map!(V, n, lanes, unsafe {
        let scaled = V::mul(lanes.load(y), V::splat(0.1));
        lanes.store(z, V::fma(lanes.load(x), V::splat(0.9), scaled));
    });
}

#[inline(always)]
unsafe fn exp_loop<V: Vector>(inputs: &[Block], own: &mut [Block]) {
    let (n, [x], [y]) = elementwise(inputs, own);
    // SAFETY: as in `add_loop`.
    map!(V, n, lanes, unsafe {
        lanes.store(y, exp::<V>(lanes.load(x)));
    });
}

#[inline(always)]
unsafe fn gelu_loop<V: Vector>(inputs: &[Block], own: &mut [Block]) {
    let (n, [x], [y]) = elementwise(inputs, own);
    // SAFETY: as in `add_loop`.
    map!(V, n, lanes, unsafe {
        let v: V = lanes.load(x);
        let e = erf(V::mul(v, V::splat(std::f32::consts::FRAC_1_SQRT_2)));
        let half = V::mul(v, V::splat(0.5));
        lanes.store(y, V::mul(half, V::add(e, V::splat(1.0))));
    });
}
