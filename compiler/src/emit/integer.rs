//! Integers: unary ops, wrapping of narrow types, and what has no vector instruction and goes lane by lane.

use super::emitter::Emitter;
use super::form::Form;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I32X4, I64, I64X2};
use cranelift_codegen::ir::{InstBuilder, Value};
use kiln_ir::ops::Unary;
use kiln_ir::{Class, DType};

impl Emitter<'_, '_> {
    /// The lanes of a narrow type brought back into its range.
    pub(super) fn wrapped(&mut self, dtype: DType, form: Form) -> Form {
        let extend = |e: &mut Self, form: Form, bits: i64| {
            form.map(|r| {
                let up = e.b.ins().ishl_imm_s(r, bits);
                e.b.ins().sshr_imm_s(up, bits)
            })
        };
        match dtype {
            DType::I8 => extend(self, form, 24),
            DType::I16 => extend(self, form, 16),
            DType::U8 | DType::U16 => {
                let kept = if dtype == DType::U8 { 0xff } else { 0xffff };
                let mask = self.splat32(I32X4, kept);
                form.map(|r| self.b.ins().band(r, mask))
            }
            DType::I32 | DType::I64 | DType::U32 | DType::U64 | DType::Bool => form,
            DType::F32 | DType::F64 | DType::BF16 | DType::F16 => form,
        }
    }

    pub(super) fn int_unary(&mut self, op: Unary, dtype: DType, a: Form) -> Form {
        let signed = dtype.class() == Class::Signed;
        let result = match op {
            Unary::Neg => a.map(|a| self.b.ins().ineg(a)),
            Unary::Abs if signed => a.map(|a| self.b.ins().iabs(a)),
            Unary::Sign => a.map(|a| {
                let zero = self.constant(
                    if super::form::is_wide(dtype) {
                        I64X2
                    } else {
                        I32X4
                    },
                    0,
                );
                if !signed {
                    let some = self.b.ins().icmp(IntCC::NotEqual, a, zero);
                    return self.b.ins().ineg(some);
                }
                // Masks are -1.
                let below = self.b.ins().icmp(IntCC::SignedLessThan, a, zero);
                let above = self.b.ins().icmp(IntCC::SignedGreaterThan, a, zero);
                self.b.ins().isub(below, above)
            }),
            Unary::Not => a.map(|a| self.b.ins().bnot(a)),
            // The absolute value of an unsigned number, and what the verifier keeps away from integers.
            _ => a,
        };
        self.wrapped(dtype, result)
    }

    /// Applies scalar code to each lane.
    pub(super) fn lane_by_lane(
        &mut self,
        dtype: DType,
        a: Form,
        b: Form,
        mut f: impl FnMut(&mut Self, Value, Value) -> Value,
    ) -> Form {
        let lanes = std::array::from_fn(|j| {
            let (a, b) = (self.lane(a, j), self.lane(b, j));
            f(self, a, b)
        });
        self.assemble(dtype, lanes)
    }

    /// The quotient toward zero, or the remainder. x / 0 is all ones, x rem 0 is x, MIN / -1 is MIN.
    pub(super) fn divide(&mut self, quotient: bool, dtype: DType, a: Form, b: Form) -> Form {
        let unsigned = dtype.class() == Class::Unsigned;
        let ty = if super::form::is_wide(dtype) {
            I64
        } else {
            I32
        };
        let result = self.lane_by_lane(dtype, a, b, |e, a, b| {
            let zero = e.b.ins().iconst(ty, 0);
            let one = e.b.ins().iconst(ty, 1);
            let by_zero = e.b.ins().icmp(IntCC::Equal, b, zero);
            if unsigned {
                let divisor = e.b.ins().select(by_zero, one, b);
                let q = e.b.ins().udiv(a, divisor);
                return if quotient {
                    let ones = e.b.ins().iconst(ty, mask_of(ty == I32));
                    e.b.ins().select(by_zero, ones, q)
                } else {
                    let p = e.b.ins().imul(q, divisor);
                    let r = e.b.ins().isub(a, p);
                    e.b.ins().select(by_zero, a, r)
                };
            }
            // Divided by 1 instead of 0 and -1, so that nothing traps.
            let ones = e.b.ins().iconst(ty, mask_of(ty == I32));
            let by_minus_one = e.b.ins().icmp(IntCC::Equal, b, ones);
            let special = e.b.ins().bor(by_zero, by_minus_one);
            let divisor = e.b.ins().select(special, one, b);
            let q = e.b.ins().sdiv(a, divisor);
            if quotient {
                let negated = e.b.ins().ineg(a);
                let q = e.b.ins().select(by_minus_one, negated, q);
                e.b.ins().select(by_zero, ones, q)
            } else {
                let p = e.b.ins().imul(q, divisor);
                let r = e.b.ins().isub(a, p);
                e.b.ins().select(by_zero, a, r)
            }
        });
        self.wrapped(dtype, result)
    }

    /// A shift by the amounts of a form, read as unsigned; by the width or more it gives 0, or the sign. There are no vector shifts by
    /// an amount for each lane, so only a `uniform` amount stays in registers.
    pub(super) fn shift(
        &mut self,
        left: bool,
        dtype: DType,
        a: Form,
        by: Form,
        uniform: bool,
    ) -> Form {
        if dtype == DType::Bool {
            // The number 0 or 1, and every amount is below the width of 8: 1 << 1 is 2, which counts as true.
            return if left {
                a
            } else {
                a.zip(by, |a, by| self.b.ins().band_not(a, by))
            };
        }
        let signed = dtype.class() == Class::Signed;
        let wide = super::form::is_wide(dtype);
        let width = 8 * dtype.size() as i64;
        let one = |e: &mut Self, a: Value, by: Value, vector: bool| {
            let inside = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, by, width);
            let ty = if wide { I64 } else { I32 };
            let most = e.b.ins().iconst(ty, if wide { 63 } else { 31 });
            // An arithmetic shift by all but one bit leaves the sign.
            let amount = if signed && !left {
                e.b.ins().select(inside, by, most)
            } else {
                by
            };
            let shifted = match (left, signed) {
                (true, _) => e.b.ins().ishl(a, amount),
                (false, true) => e.b.ins().sshr(a, amount),
                (false, false) => e.b.ins().ushr(a, amount),
            };
            if signed && !left {
                return shifted;
            }
            let zero = if vector {
                e.constant(if wide { I64X2 } else { I32X4 }, 0)
            } else {
                e.b.ins().iconst(ty, 0)
            };
            e.b.ins().select(inside, shifted, zero)
        };
        let result = if uniform {
            let by = self.lane(by, 0);
            a.map(|a| one(self, a, by, true))
        } else {
            self.lane_by_lane(dtype, a, by, |e, a, by| one(e, a, by, false))
        };
        self.wrapped(dtype, result)
    }
}

/// All ones as an immediate of 32 or 64 bits, which Cranelift wants zero-extended.
fn mask_of(narrow: bool) -> i64 {
    if narrow { i64::from(u32::MAX) } else { -1 }
}
