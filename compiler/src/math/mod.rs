//! The transcendental functions of Kiln, each written once as a *recipe*.
//!
//! A recipe is a generic function over a [`Machine`]. The emitter's machine appends Cranelift
//! instructions, so the recipe becomes an inlined polynomial in a kernel; [`Host32`] and [`Host64`]
//! run it on one lane, for constant folding and for the exhaustive tests; the machines of [`wide`]
//! on the widest registers, over whole strips of memory. Every method of
//! [`Machine`] is exact or correctly rounded by IEEE 754, so all machines give the same bits.
//!
//! Rules that every recipe keeps:
//! - straight-line code: choices are selects, there are no tables and no data-dependent branches
//!   (the one exception is [`Machine::rare`], for arguments of sin, cos and tan that no training
//!   run ever sees but that must be right all the same);
//! - only operations that are one 128-bit instruction on x86-64 with AVX and FMA and on NEON: no
//!   float min or max, no float to integer conversion (the magic-number addition instead), no 64-bit
//!   integer product, no 64-bit arithmetic shift;
//! - f32 recipes need no f64 and the other way round, so one machine has lanes of one width;
//! - intermediate NaNs and infinities may occur in lanes whose result a select discards.
//!
//! "At most k ULP" means: at most k representable values away from the correctly rounded result, for
//! every input, subnormal numbers, infinities, NaN and the signs of zeros included. `--example ulp`
//! measures it over all f32 inputs; `tests/ulp.rs` and `tests/ulp64.rs` guard it.
//!
//! Polynomials are near-minimax fits (Lawson-weighted least squares on Chebyshev nodes in 200-bit
//! arithmetic; coefficients are rounded to the format one after the other, lowest degree first,
//! and the rest refitted). Each recipe states interval and maximal error of its fit.
//!
//! The modules refuse to know anything about graphs, kernels or Cranelift; [`apply`] knows the names of the scalar ops.

mod host;
mod huge;

pub mod apply;
pub mod erf;
pub mod erf64;
pub mod erfc;
pub mod exp;
pub mod exp64;
pub mod log;
pub mod log64;
pub mod pow;
pub mod pow64;
pub mod root;
pub mod trig;
pub mod trig64;
pub mod wide;

pub use host::{Host32, Host64};

/// A function whose huge arguments take the slow path of [`Machine::rare`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rare {
    /// The sine.
    Sin,
    /// The cosine.
    Cos,
    /// The tangent.
    Tan,
}

/// Something that executes or emits lane-wise arithmetic of one width.
///
/// `F`, `I` and `M` are opaque handles of float lanes, integer lanes of the same width and mask
/// lanes. Methods take `&mut self` so that an emitter can append instructions. Constants are
/// requested again at each use: an emitter is expected to deduplicate and hoist them.
pub trait Machine {
    /// The float type of one lane: `f32` or `f64`.
    type Scalar: Copy;
    /// The signed integer type of one lane: `i32` or `i64`.
    type Word: Copy;
    /// Float lanes.
    type F: Copy;
    /// Signed integer lanes as wide as the float lanes.
    type I: Copy;
    /// Mask lanes: the outcome of a comparison.
    type M: Copy;

    /// The same float in every lane.
    fn float(&mut self, value: Self::Scalar) -> Self::F;
    /// The same integer in every lane.
    fn int(&mut self, value: Self::Word) -> Self::I;

    /// `a + b`.
    fn add(&mut self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(&mut self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn mul(&mut self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(&mut self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(&mut self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The square root.
    fn sqrt(&mut self, a: Self::F) -> Self::F;
    /// `a` with its sign bit flipped, NaN included.
    fn neg(&mut self, a: Self::F) -> Self::F;
    /// `a` with its sign bit cleared, NaN included.
    fn abs(&mut self, a: Self::F) -> Self::F;

    /// What computes `a * 2^n`, rounded once, for an integer `n`, on a machine that has it as an instruction.
    fn scaler(&self) -> Option<Scaler<Self>> {
        None
    }

    /// The bits of `a`.
    fn bits(&mut self, a: Self::F) -> Self::I;
    /// The float whose bits are `a`.
    fn with_bits(&mut self, a: Self::I) -> Self::F;
    /// The integer `a` as a float. `|a|` is at most 2^31 for 32-bit lanes (rounded to nearest even)
    /// and below 2^51 for 64-bit lanes, where adding a magic number does it.
    fn int_to_float(&mut self, a: Self::I) -> Self::F;

    /// `a + b`, wrapping.
    fn iadd(&mut self, a: Self::I, b: Self::I) -> Self::I;
    /// `a - b`, wrapping.
    fn isub(&mut self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise and.
    fn iand(&mut self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise or.
    fn ior(&mut self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise exclusive or.
    fn ixor(&mut self, a: Self::I, b: Self::I) -> Self::I;
    /// `a` shifted left by an immediate below the width.
    fn shl(&mut self, a: Self::I, by: u32) -> Self::I;
    /// `a` shifted right by an immediate below the width, zeros coming in.
    fn shr(&mut self, a: Self::I, by: u32) -> Self::I;

    /// `a == b` on integers.
    fn ieq(&mut self, a: Self::I, b: Self::I) -> Self::M;
    /// `a > b` on signed integers.
    fn igt(&mut self, a: Self::I, b: Self::I) -> Self::M;
    /// `a < b`; false if either is NaN.
    fn lt(&mut self, a: Self::F, b: Self::F) -> Self::M;
    /// `a <= b`; false if either is NaN.
    fn le(&mut self, a: Self::F, b: Self::F) -> Self::M;
    /// `a == b`; false if either is NaN.
    fn eq(&mut self, a: Self::F, b: Self::F) -> Self::M;

    /// Both masks.
    fn and(&mut self, a: Self::M, b: Self::M) -> Self::M;
    /// Either mask.
    fn or(&mut self, a: Self::M, b: Self::M) -> Self::M;
    /// The opposite mask.
    fn not(&mut self, a: Self::M) -> Self::M;
    /// `a` where the mask is set, `b` elsewhere. `select(lt(a, b), a, b)` is one minimum
    /// instruction on x86-64, and `select(lt(b, a), a, b)` one maximum.
    fn select(&mut self, mask: Self::M, a: Self::F, b: Self::F) -> Self::F;

    /// `usual`, except in the lanes of `mask`, where it is the `function` of `x` computed one lane
    /// at a time by [`Rare::f32`] or [`Rare::f64`]. Machines that emit code branch around the slow
    /// path, since `mask` is all clear in practice.
    fn rare(&mut self, mask: Self::M, usual: Self::F, x: Self::F, function: Rare) -> Self::F;
}

/// An op of a machine on two floats.
pub type Scaler<M> = fn(&mut M, <M as Machine>::F, <M as Machine>::F) -> <M as Machine>::F;

/// A [`Machine`] with 32-bit lanes.
pub trait Machine32: Machine<Scalar = f32, Word = i32> {}
impl<T: Machine<Scalar = f32, Word = i32>> Machine32 for T {}

/// A [`Machine`] with 64-bit lanes.
pub trait Machine64: Machine<Scalar = f64, Word = i64> {}
impl<T: Machine<Scalar = f64, Word = i64>> Machine64 for T {}

/// The polynomial in `x` by Horner's rule; coefficients from the highest degree down to degree 0.
#[inline(always)]
pub(crate) fn horner<M: Machine>(m: &mut M, x: M::F, coefficients: &[M::Scalar]) -> M::F {
    let (first, rest) = coefficients
        .split_first()
        .expect("a polynomial has a coefficient");
    let mut sum = m.float(*first);
    for &c in rest {
        let c = m.float(c);
        sum = m.fma(sum, x, c);
    }
    sum
}

/// The smaller of `x` and the constant `bound`; NaN stays NaN.
#[inline(always)]
pub(crate) fn at_most<M: Machine>(m: &mut M, x: M::F, bound: M::Scalar) -> M::F {
    let bound = m.float(bound);
    let over = m.lt(bound, x);
    m.select(over, bound, x)
}

/// The larger of `x` and the constant `bound`; NaN stays NaN.
#[inline(always)]
pub(crate) fn at_least<M: Machine>(m: &mut M, x: M::F, bound: M::Scalar) -> M::F {
    let bound = m.float(bound);
    let under = m.lt(x, bound);
    m.select(under, bound, x)
}

/// `magnitude` (whose sign bit must be clear, or agree) with the sign bit of `sign`; `mask` is the
/// word with only the sign bit set.
#[inline(always)]
pub(crate) fn with_sign<M: Machine>(m: &mut M, magnitude: M::F, sign: M::F, mask: M::Word) -> M::F {
    let mask = m.int(mask);
    let sign = m.bits(sign);
    let sign = m.iand(sign, mask);
    let bits = m.bits(magnitude);
    let bits = m.ior(bits, sign);
    m.with_bits(bits)
}
