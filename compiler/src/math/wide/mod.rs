//! Recipes over memory at the full width of the machine: what kernels call for a strip of elements in L1.
//!
//! Cranelift emits 128-bit vectors only. A recipe that costs dozens of instructions an element is bound by that width, so kernels hand
//! strips of operands to a [`WideFn`], which runs the very recipe on registers of 512 or 256 bits: lane by lane the same operations, hence
//! the same bits as the inlined polynomial. The portable form runs it on one lane; it is there so that a kernel with strips is right on
//! any machine, but not a reason to make one ([`Width::is_full`]).
//!
//! The functions of one width are in the order of [`ROWS`]. They read and write nothing but the elements they are given.

use super::Machine;
use crate::kernel::Function;
use kiln_ir::DType;
use kiln_ir::ops::{Binary, Unary};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

/// `target[i] = f(first[i], second[i])` for `count` elements of the function's type; a function of one operand ignores `second`. Bit 0 of
/// `walking` says whether the first operand has an element for each, or one for all; bit 1 the same of the second. Where `next` and `other`
/// are not null, as much memory from there on is fetched into the cache meanwhile, if it exists.
///
/// # Safety
/// The pointers are of `count` elements, or one, aligned to their size. The target may be one of the operands, but not overlap it otherwise.
/// The machine has the instructions of the function's [`Width`].
pub type WideFn = unsafe extern "C" fn(
    target: *mut u8,
    first: *const u8,
    second: *const u8,
    count: usize,
    walking: usize,
    next: *const u8,
    other: *const u8,
);

/// A set of instructions that strips are computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One lane, on any machine.
    Portable,
    /// 256 bits: AVX2 and FMA.
    Avx2,
    /// 512 bits: AVX-512 F, DQ, BW and VL.
    Avx512,
}

impl Width {
    /// The widest that this machine has.
    pub fn native() -> Width {
        #[cfg(target_arch = "x86_64")]
        {
            let all = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl");
            if all {
                return Width::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Width::Avx2;
            }
        }
        Width::Portable
    }

    /// Those that this machine can run, narrowest first.
    pub fn available() -> Vec<Width> {
        let all = [Width::Portable, Width::Avx2, Width::Avx512];
        let native = all.iter().position(|w| *w == Width::native());
        all[..=native.unwrap_or(0)].to_vec()
    }

    /// Whether it is wider than what kernels do in line.
    pub fn is_full(self) -> bool {
        match self {
            Width::Portable => false,
            Width::Avx2 | Width::Avx512 => true,
        }
    }

    /// The functions, in the order of [`ROWS`].
    pub const fn functions(self) -> &'static [WideFn; COUNT] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Width::Avx512 => &avx512::FUNCTIONS,
            #[cfg(target_arch = "x86_64")]
            Width::Avx2 => &avx2::FUNCTIONS,
            #[cfg(not(target_arch = "x86_64"))]
            Width::Avx512 | Width::Avx2 => &portable::FUNCTIONS,
            Width::Portable => &portable::FUNCTIONS,
        }
    }
}

/// The place of a function in [`ROWS`]; `None` for what has no full-width form.
pub fn position(function: Function, dtype: DType) -> Option<usize> {
    ROWS.iter().position(|row| *row == (function, dtype))
}

/// Hands the rows to a macro: name, op, element type, operands, machine, recipe. A row's place is part of the format of compiled code.
macro_rules! rows {
    ($callback:ident! $($argument:tt)*) => {
        $callback! { $($argument)*
            exp_32 = Unary Exp F32 unary Narrow exp::exp_f32;
            expm1_32 = Unary Expm1 F32 unary Narrow exp::expm1_f32;
            log_32 = Unary Log F32 unary Narrow log::log_f32;
            log1p_32 = Unary Log1p F32 unary Narrow log::log1p_f32;
            sin_32 = Unary Sin F32 unary Narrow trig::sin_f32;
            cos_32 = Unary Cos F32 unary Narrow trig::cos_f32;
            tan_32 = Unary Tan F32 unary Narrow trig::tan_f32;
            tanh_32 = Unary Tanh F32 unary Narrow exp::tanh_f32;
            logistic_32 = Unary Logistic F32 unary Narrow exp::logistic_f32;
            erf_32 = Unary Erf F32 unary Narrow erf::erf_f32;
            erfc_32 = Unary Erfc F32 unary Narrow erfc::erfc_f32;
            pow_32 = Binary Pow F32 binary Narrow pow::pow_f32;
            atan2_32 = Binary Atan2 F32 binary Narrow root::atan2_f32;
            sqrt_32 = Unary Sqrt F32 unary Narrow Machine::sqrt;
            rsqrt_32 = Unary Rsqrt F32 unary Narrow root::rsqrt_f32;
            recip_32 = Unary Recip F32 unary Narrow root::recip_f32;
            add_32 = Binary Add F32 binary Narrow Machine::add;
            sub_32 = Binary Sub F32 binary Narrow Machine::sub;
            mul_32 = Binary Mul F32 binary Narrow Machine::mul;
            div_32 = Binary Div F32 binary Narrow Machine::div;
            exp_64 = Unary Exp F64 unary Wide exp64::exp_f64;
            expm1_64 = Unary Expm1 F64 unary Wide exp64::expm1_f64;
            log_64 = Unary Log F64 unary Wide log64::log_f64;
            log1p_64 = Unary Log1p F64 unary Wide log64::log1p_f64;
            sin_64 = Unary Sin F64 unary Wide trig64::sin_f64;
            cos_64 = Unary Cos F64 unary Wide trig64::cos_f64;
            tan_64 = Unary Tan F64 unary Wide trig64::tan_f64;
            tanh_64 = Unary Tanh F64 unary Wide exp64::tanh_f64;
            logistic_64 = Unary Logistic F64 unary Wide exp64::logistic_f64;
            erf_64 = Unary Erf F64 unary Wide erf64::erf_f64;
            erfc_64 = Unary Erfc F64 unary Wide erf64::erfc_f64;
            pow_64 = Binary Pow F64 binary Wide pow64::pow_f64;
            atan2_64 = Binary Atan2 F64 binary Wide root::atan2_f64;
            sqrt_64 = Unary Sqrt F64 unary Wide Machine::sqrt;
            rsqrt_64 = Unary Rsqrt F64 unary Wide root::rsqrt_f64;
            recip_64 = Unary Recip F64 unary Wide root::recip_f64;
            add_64 = Binary Add F64 binary Wide Machine::add;
            sub_64 = Binary Sub F64 binary Wide Machine::sub;
            mul_64 = Binary Mul F64 binary Wide Machine::mul;
            div_64 = Binary Div F64 binary Wide Machine::div;
        }
    };
}

macro_rules! row_table {
    ($($name:ident = $kind:ident $op:ident $dtype:ident $arity:ident $machine:ident $recipe:path;)+) => {
        /// The number of functions.
        pub const COUNT: usize = [$(DType::$dtype),+].len();

        /// The functions and their element types.
        pub static ROWS: [(Function, DType); COUNT] =
            [$((Function::$kind($kind::$op), DType::$dtype)),+];
    };
}
rows!(row_table!);

/// The functions of a width, each compiled with an attribute; `Narrow` and `Wide` are its machines for f32 and f64.
///
/// The loop is a macro rather than a function that is given the recipe, since a closure in between would be compiled on its own, for the
/// instructions that every machine has. The elements behind the last whole registers go through blocks of their own, so that no lane is
/// outside of the caller's memory; for these the function calls itself, so that there is one copy of the recipe.
macro_rules! functions {
    ($attribute:meta; $($name:ident = $kind:ident $op:ident $dtype:ident $arity:ident $machine:ident $recipe:path;)+) => {
        $(
            #[$attribute]
            unsafe extern "C" fn $name(
                target: *mut u8,
                first: *const u8,
                second: *const u8,
                count: usize,
                walking: usize,
                next: *const u8,
                other: *const u8,
            ) {
                type Scalar = <$machine as Machine>::Scalar;
                const LANES: usize = <$machine as Vector>::LANES;
                let machine = &mut <$machine>::default();
                // What is the same for all elements is read from a block of its own, again and again.
                let mut same = [[Scalar::default(); LANES]; 2];
                let mut operands = [first, second].map(|p| p.cast::<Scalar>());
                let steps = [walking & 1, walking >> 1 & 1];
                for i in 0..functions!(@count $arity) {
                    if steps[i] == 0 {
                        // SAFETY: the operand is one element.
                        same[i] = [unsafe { operands[i].read() }; LANES];
                        operands[i] = same[i].as_ptr();
                    }
                }
                let ([first, second], [stride, pitch]) = (operands, steps);
                let target = target.cast::<Scalar>();
                let mut at = 0;
                while count - at >= LANES {
                    // SAFETY: all lanes from `at` on are the caller's.
                    unsafe {
                        let (x, y) = (first.add(at * stride), second.wrapping_add(at * pitch));
                        let result = functions!(@call $arity $recipe, machine, x, y);
                        machine.store(target.add(at), result);
                    }
                    for stream in [next, other] {
                        if !stream.is_null() {
                            let bytes = LANES * size_of::<Scalar>();
                            for line in (0..bytes).step_by(64) {
                                machine.fetch(stream.wrapping_add(at * size_of::<Scalar>() + line));
                            }
                        }
                    }
                    at += LANES;
                }
                let left = count - at;
                if left > 0 {
                    // SAFETY: `left` elements from `at` on are the caller's, and a block has room for all lanes.
                    unsafe {
                        let mut blocks = [[Scalar::default(); LANES]; 2];
                        staged(first.add(at * stride), &mut blocks[0], left);
                        functions!(@stage $arity second.add(at * pitch), &mut blocks[1], left);
                        let [x, y] = [0, 1].map(|i| blocks[i].as_ptr().cast());
                        let to = blocks[0].as_mut_ptr().cast();
                        $name(to, x, y, LANES, 3, std::ptr::null(), std::ptr::null());
                        std::ptr::copy_nonoverlapping(blocks[0].as_ptr(), target.add(at), left);
                    }
                }
            }
        )+

        pub(super) static FUNCTIONS: [WideFn; COUNT] = [$($name),+];
    };
    (@count unary) => {
        1
    };
    (@count binary) => {
        2
    };
    (@stage unary $second:expr, $block:expr, $left:ident) => {
        let _ = $second;
    };
    (@stage binary $second:expr, $block:expr, $left:ident) => {
        staged($second, $block, $left)
    };
    (@call unary $recipe:path, $machine:ident, $x:ident, $y:ident) => {{
        let _ = $y;
        let x = $machine.load($x);
        $recipe($machine, x)
    }};
    (@call binary $recipe:path, $machine:ident, $x:ident, $y:ident) => {{
        let (x, y) = ($machine.load($x), $machine.load($y));
        $recipe($machine, x, y)
    }};
}

use {functions, rows};

/// A machine whose lanes are loaded from memory and stored there.
trait Vector: Machine<Scalar: Default> + Default {
    /// The number of lanes, 64 at most.
    const LANES: usize;

    /// # Safety
    /// `from` points to as many elements as there are lanes.
    unsafe fn load(&mut self, from: *const Self::Scalar) -> Self::F;

    /// # Safety
    /// `to` points to as many elements as there are lanes.
    unsafe fn store(&mut self, to: *mut Self::Scalar, lanes: Self::F);

    /// Asks for a cache line, which need not exist.
    fn fetch(&mut self, line: *const u8);
}

/// Copies elements to the start of a block.
///
/// # Safety
/// `from` points to `count` elements, `N` at most.
#[inline(always)]
unsafe fn staged<T: Copy, const N: usize>(from: *const T, block: &mut [T; N], count: usize) {
    // SAFETY: as the caller promises; the block is on the stack.
    unsafe { std::ptr::copy_nonoverlapping(from, block.as_mut_ptr(), count) };
}

/// The masks of several registers as one, that of the first in the lowest bits.
#[cfg(target_arch = "x86_64")]
fn joined<const N: usize>(masks: [u64; N], lanes: usize) -> u64 {
    let shifted = masks.iter().enumerate().map(|(i, m)| m << (i * lanes));
    shifted.fold(0, |all, mask| all | mask)
}

/// The exact results of a function in the lanes of a mask, bit `i` for lane `i`.
#[cfg(target_arch = "x86_64")]
#[cold]
#[inline(never)]
fn exact<T: Copy, const N: usize>(
    mask: u64,
    results: &mut [T; N],
    operands: &[T; N],
    function: impl Fn(T) -> T,
) {
    for (lane, (result, x)) in results.iter_mut().zip(operands).enumerate() {
        if mask >> lane & 1 != 0 {
            *result = function(*x);
        }
    }
}
