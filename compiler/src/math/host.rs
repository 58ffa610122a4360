//! The machines that run recipes on the host, one lane at a time.
//!
//! They serve constant folding, the slow paths and the tests, and are the definition of what every
//! other machine computes. They favour clarity over speed: without the target feature `fma`, the
//! standard library's `mul_add` is a (correctly rounded) call.

use super::{Machine, Rare};

/// The host as a machine with one 32-bit lane.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host32;

impl Machine for Host32 {
    type Scalar = f32;
    type Word = i32;
    type F = f32;
    type I = i32;
    type M = bool;

    #[inline(always)]
    fn float(&mut self, value: f32) -> f32 {
        value
    }
    #[inline(always)]
    fn int(&mut self, value: i32) -> i32 {
        value
    }
    #[inline(always)]
    fn add(&mut self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(&mut self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(&mut self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn div(&mut self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn fma(&mut self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn sqrt(&mut self, a: f32) -> f32 {
        a.sqrt()
    }
    #[inline(always)]
    fn neg(&mut self, a: f32) -> f32 {
        -a
    }
    #[inline(always)]
    fn abs(&mut self, a: f32) -> f32 {
        a.abs()
    }
    #[inline(always)]
    fn bits(&mut self, a: f32) -> i32 {
        a.to_bits().cast_signed()
    }
    #[inline(always)]
    fn with_bits(&mut self, a: i32) -> f32 {
        f32::from_bits(a.cast_unsigned())
    }
    #[inline(always)]
    fn int_to_float(&mut self, a: i32) -> f32 {
        a as f32
    }
    #[inline(always)]
    fn iadd(&mut self, a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn isub(&mut self, a: i32, b: i32) -> i32 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    fn iand(&mut self, a: i32, b: i32) -> i32 {
        a & b
    }
    #[inline(always)]
    fn ior(&mut self, a: i32, b: i32) -> i32 {
        a | b
    }
    #[inline(always)]
    fn ixor(&mut self, a: i32, b: i32) -> i32 {
        a ^ b
    }
    #[inline(always)]
    fn shl(&mut self, a: i32, by: u32) -> i32 {
        a << by
    }
    #[inline(always)]
    fn shr(&mut self, a: i32, by: u32) -> i32 {
        (a.cast_unsigned() >> by).cast_signed()
    }
    #[inline(always)]
    fn ieq(&mut self, a: i32, b: i32) -> bool {
        a == b
    }
    #[inline(always)]
    fn igt(&mut self, a: i32, b: i32) -> bool {
        a > b
    }
    #[inline(always)]
    fn lt(&mut self, a: f32, b: f32) -> bool {
        a < b
    }
    #[inline(always)]
    fn le(&mut self, a: f32, b: f32) -> bool {
        a <= b
    }
    #[inline(always)]
    fn eq(&mut self, a: f32, b: f32) -> bool {
        a == b
    }
    #[inline(always)]
    fn and(&mut self, a: bool, b: bool) -> bool {
        a & b
    }
    #[inline(always)]
    fn or(&mut self, a: bool, b: bool) -> bool {
        a | b
    }
    #[inline(always)]
    fn not(&mut self, a: bool) -> bool {
        !a
    }
    #[inline(always)]
    fn select(&mut self, mask: bool, a: f32, b: f32) -> f32 {
        if mask { a } else { b }
    }
    #[inline(always)]
    fn rare(&mut self, mask: bool, usual: f32, x: f32, function: Rare) -> f32 {
        if mask { function.f32(x) } else { usual }
    }
}

/// The host as a machine with one 64-bit lane.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host64;

impl Machine for Host64 {
    type Scalar = f64;
    type Word = i64;
    type F = f64;
    type I = i64;
    type M = bool;

    #[inline(always)]
    fn float(&mut self, value: f64) -> f64 {
        value
    }
    #[inline(always)]
    fn int(&mut self, value: i64) -> i64 {
        value
    }
    #[inline(always)]
    fn add(&mut self, a: f64, b: f64) -> f64 {
        a + b
    }
    #[inline(always)]
    fn sub(&mut self, a: f64, b: f64) -> f64 {
        a - b
    }
    #[inline(always)]
    fn mul(&mut self, a: f64, b: f64) -> f64 {
        a * b
    }
    #[inline(always)]
    fn div(&mut self, a: f64, b: f64) -> f64 {
        a / b
    }
    #[inline(always)]
    fn fma(&mut self, a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn sqrt(&mut self, a: f64) -> f64 {
        a.sqrt()
    }
    #[inline(always)]
    fn neg(&mut self, a: f64) -> f64 {
        -a
    }
    #[inline(always)]
    fn abs(&mut self, a: f64) -> f64 {
        a.abs()
    }
    #[inline(always)]
    fn bits(&mut self, a: f64) -> i64 {
        a.to_bits().cast_signed()
    }
    #[inline(always)]
    fn with_bits(&mut self, a: i64) -> f64 {
        f64::from_bits(a.cast_unsigned())
    }
    #[inline(always)]
    fn int_to_float(&mut self, a: i64) -> f64 {
        a as f64
    }
    #[inline(always)]
    fn iadd(&mut self, a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn isub(&mut self, a: i64, b: i64) -> i64 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    fn iand(&mut self, a: i64, b: i64) -> i64 {
        a & b
    }
    #[inline(always)]
    fn ior(&mut self, a: i64, b: i64) -> i64 {
        a | b
    }
    #[inline(always)]
    fn ixor(&mut self, a: i64, b: i64) -> i64 {
        a ^ b
    }
    #[inline(always)]
    fn shl(&mut self, a: i64, by: u32) -> i64 {
        a << by
    }
    #[inline(always)]
    fn shr(&mut self, a: i64, by: u32) -> i64 {
        (a.cast_unsigned() >> by).cast_signed()
    }
    #[inline(always)]
    fn ieq(&mut self, a: i64, b: i64) -> bool {
        a == b
    }
    #[inline(always)]
    fn igt(&mut self, a: i64, b: i64) -> bool {
        a > b
    }
    #[inline(always)]
    fn lt(&mut self, a: f64, b: f64) -> bool {
        a < b
    }
    #[inline(always)]
    fn le(&mut self, a: f64, b: f64) -> bool {
        a <= b
    }
    #[inline(always)]
    fn eq(&mut self, a: f64, b: f64) -> bool {
        a == b
    }
    #[inline(always)]
    fn and(&mut self, a: bool, b: bool) -> bool {
        a & b
    }
    #[inline(always)]
    fn or(&mut self, a: bool, b: bool) -> bool {
        a | b
    }
    #[inline(always)]
    fn not(&mut self, a: bool) -> bool {
        !a
    }
    #[inline(always)]
    fn select(&mut self, mask: bool, a: f64, b: f64) -> f64 {
        if mask { a } else { b }
    }
    #[inline(always)]
    fn rare(&mut self, mask: bool, usual: f64, x: f64, function: Rare) -> f64 {
        if mask { function.f64(x) } else { usual }
    }
}
