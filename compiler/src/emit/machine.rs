//! The emitter as a [`Machine`], on which recipes become instructions: [`Lanes32`] for one register of f32, [`Lanes64`] for one of f64.

use super::emitter::Emitter;
use super::helper::Helper;
use crate::math::{Machine, Rare};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32X4, F64X2, I32X4, I64X2};
use cranelift_codegen::ir::{InstBuilder, Value};

/// The emitter as a machine with 32-bit lanes.
pub(super) struct Lanes32<'e, 'k, 'f>(pub(super) &'e mut Emitter<'k, 'f>);

/// The emitter as a machine with 64-bit lanes.
pub(super) struct Lanes64<'e, 'k, 'f>(pub(super) &'e mut Emitter<'k, 'f>);

macro_rules! machine {
    ($machine:ident, $scalar:ty, $word:ty, $floats:expr, $ints:expr, $splat:ident, $rare:ident) => {
        impl Machine for $machine<'_, '_, '_> {
            type Scalar = $scalar;
            type Word = $word;
            type F = Value;
            type I = Value;
            type M = Value;

            fn float(&mut self, value: $scalar) -> Value {
                self.0.$splat($floats, value.to_bits())
            }
            fn int(&mut self, value: $word) -> Value {
                self.0.$splat($ints, value.cast_unsigned())
            }
            fn add(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().fadd(a, b)
            }
            fn sub(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().fsub(a, b)
            }
            fn mul(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().fmul(a, b)
            }
            fn div(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().fdiv(a, b)
            }
            fn fma(&mut self, a: Value, b: Value, c: Value) -> Value {
                self.0.fused(a, b, c)
            }
            fn sqrt(&mut self, a: Value) -> Value {
                self.0.b.ins().sqrt(a)
            }
            fn neg(&mut self, a: Value) -> Value {
                self.0.negated(a)
            }
            fn abs(&mut self, a: Value) -> Value {
                self.0.magnitude(a)
            }
            fn bits(&mut self, a: Value) -> Value {
                self.0.bitcast($ints, a)
            }
            fn with_bits(&mut self, a: Value) -> Value {
                self.0.bitcast($floats, a)
            }
            fn int_to_float(&mut self, a: Value) -> Value {
                self.0.small_int_to_float(a)
            }
            fn iadd(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().iadd(a, b)
            }
            fn isub(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().isub(a, b)
            }
            fn iand(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().band(a, b)
            }
            fn ior(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().bor(a, b)
            }
            fn ixor(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().bxor(a, b)
            }
            fn shl(&mut self, a: Value, by: u32) -> Value {
                self.0.b.ins().ishl_imm_s(a, i64::from(by))
            }
            fn shr(&mut self, a: Value, by: u32) -> Value {
                self.0.b.ins().ushr_imm_s(a, i64::from(by))
            }
            fn ieq(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().icmp(IntCC::Equal, a, b)
            }
            fn igt(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().icmp(IntCC::SignedGreaterThan, a, b)
            }
            fn lt(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().fcmp(FloatCC::LessThan, a, b)
            }
            fn le(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().fcmp(FloatCC::LessThanOrEqual, a, b)
            }
            fn eq(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().fcmp(FloatCC::Equal, a, b)
            }
            fn and(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().band(a, b)
            }
            fn or(&mut self, a: Value, b: Value) -> Value {
                self.0.b.ins().bor(a, b)
            }
            fn not(&mut self, a: Value) -> Value {
                self.0.b.ins().bnot(a)
            }
            fn select(&mut self, mask: Value, a: Value, b: Value) -> Value {
                self.0.choose(mask, a, b)
            }
            fn rare(&mut self, mask: Value, usual: Value, x: Value, function: Rare) -> Value {
                self.0.rarely(Helper::$rare(function), mask, usual, x)
            }
        }
    };
}

machine!(Lanes32, f32, i32, F32X4, I32X4, splat32, rare32);
machine!(Lanes64, f64, i64, F64X2, I64X2, splat64, rare64);
