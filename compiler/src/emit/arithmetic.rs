//! Arithmetic of floats, and what integers share with it: comparison, and the ops that need no scalar code.

use super::emitter::Emitter;
use super::form::Form;
use super::helper::Helper;
use super::machine::{Lanes32, Lanes64};
use super::recipes::{binary32, binary64, unary32, unary64};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32X4, F64X2, I64, I64X2};
use cranelift_codegen::ir::{AbiParam, InstBuilder, SigRef, Signature, Type, Value};
use cranelift_codegen::isa::CallConv;
use kiln_ir::ops::{Binary, Compare, Literal, Unary};
use kiln_ir::{Class, DType};

impl Emitter<'_, '_> {
    pub(super) fn helper_signature(&mut self) -> SigRef {
        let mut signature = Signature::new(CallConv::triple_default(self.target.isa.triple()));
        signature.params.push(AbiParam::new(I64));
        self.b.import_signature(signature)
    }

    /// The signature of a full-width function.
    pub(super) fn wide_signature(&mut self) -> SigRef {
        let mut signature = Signature::new(CallConv::triple_default(self.target.isa.triple()));
        signature.params.extend([AbiParam::new(I64); 7]);
        self.b.import_signature(signature)
    }

    fn type_of(&self, value: Value) -> Type {
        self.b.func.dfg.value_type(value)
    }

    /// The same float in all lanes.
    fn float(&mut self, ty: Type, value: f64) -> Value {
        if ty == F32X4 {
            self.splat32(ty, (value as f32).to_bits())
        } else {
            self.splat64(ty, value.to_bits())
        }
    }

    /// The sign bit of each lane.
    fn sign_mask(&mut self, ty: Type) -> Value {
        self.float(ty, -0.0)
    }

    /// With the sign bit flipped, NaN included.
    pub(super) fn negated(&mut self, a: Value) -> Value {
        let mask = self.sign_mask(self.type_of(a));
        self.b.ins().bxor(a, mask)
    }

    /// With the sign bit cleared, NaN included.
    pub(super) fn magnitude(&mut self, a: Value) -> Value {
        let ty = self.type_of(a);
        let mask = if ty == F32X4 {
            self.splat32(ty, 0x7fff_ffff)
        } else {
            self.splat64(ty, 0x7fff_ffff_ffff_ffff)
        };
        self.b.ins().band(a, mask)
    }

    /// An integer of a lane's width as a float: 32-bit lanes rounded to nearest even, 64-bit lanes below 2^51 in magnitude.
    pub(super) fn small_int_to_float(&mut self, a: Value) -> Value {
        if self.type_of(a) != I64X2 {
            return self.b.ins().fcvt_from_sint(F32X4, a);
        }
        // 1.5 * 2^52 has its last bit at 1, so that adding an integer to its bits adds the integer to the number.
        let magic = self.float(F64X2, 6_755_399_441_055_744.0);
        let bits = self.bitcast(I64X2, magic);
        let sum = self.b.ins().iadd(a, bits);
        let sum = self.bitcast(F64X2, sum);
        self.b.ins().fsub(sum, magic)
    }

    pub(super) fn float_unary(&mut self, op: Unary, dtype: DType, a: Form) -> Form {
        if op == Unary::IsFinite {
            let masks = a.map(|a| {
                let infinity = self.float(self.type_of(a), f64::INFINITY);
                let a = self.magnitude(a);
                self.b.ins().fcmp(FloatCC::LessThan, a, infinity)
            });
            return Form::One(self.narrow_mask(masks));
        }
        a.map(|a| match op {
            Unary::Neg => self.negated(a),
            Unary::Abs => self.magnitude(a),
            Unary::Sign => self.float_sign(a),
            Unary::Sqrt => self.b.ins().sqrt(a),
            Unary::Floor => self.b.ins().floor(a),
            Unary::Ceil => self.b.ins().ceil(a),
            Unary::Round => self.b.ins().nearest(a),
            _ if dtype == DType::F32 => unary32(&mut Lanes32(self), op, a).unwrap_or(a),
            _ => unary64(&mut Lanes64(self), op, a).unwrap_or(a),
        })
    }

    /// 1 with the sign of the operand, but the operand itself where it is a zero or NaN.
    fn float_sign(&mut self, a: Value) -> Value {
        let ty = self.type_of(a);
        let (mask, one, zero) = (self.sign_mask(ty), self.float(ty, 1.0), self.float(ty, 0.0));
        let magnitude = self.magnitude(a);
        let counts = self.b.ins().fcmp(FloatCC::GreaterThan, magnitude, zero);
        let sign = self.b.ins().band(a, mask);
        let unit = self.b.ins().bor(sign, one);
        self.choose(counts, unit, a)
    }

    /// A binary op of floats; with an operand goes the literal that it is, if it is one.
    pub(super) fn float_binary(
        &mut self,
        op: Binary,
        dtype: DType,
        (a, x): (Form, Option<Literal>),
        (b, y): (Form, Option<Literal>),
    ) -> Form {
        a.zip(b, |a, b| match op {
            Binary::Add => self.b.ins().fadd(a, b),
            Binary::Sub => self.b.ins().fsub(a, b),
            Binary::Mul => self.b.ins().fmul(a, b),
            Binary::Div => self.b.ins().fdiv(a, b),
            Binary::Rem if dtype == DType::F32 => self.call(Helper::Rem32, &[a, b]),
            Binary::Rem => self.call(Helper::Rem64, &[a, b]),
            Binary::Max | Binary::Min => match (plain(x), plain(y)) {
                (_, true) => self.extremum_of_plain(op == Binary::Max, a, b),
                (true, _) => self.extremum_of_plain(op == Binary::Max, b, a),
                (false, false) => self.extremum(op == Binary::Max, a, b),
            },
            _ if dtype == DType::F32 => binary32(&mut Lanes32(self), op, a, b).unwrap_or(a),
            _ => binary64(&mut Lanes64(self), op, a, b).unwrap_or(a),
        })
    }

    /// One maximum or minimum instruction: the second operand if they are equal or either is NaN.
    fn raw_extremum(&mut self, largest: bool, a: Value, b: Value) -> Value {
        let wins = if largest {
            self.b.ins().fcmp(FloatCC::LessThan, b, a)
        } else {
            self.b.ins().fcmp(FloatCC::LessThan, a, b)
        };
        self.choose(wins, a, b)
    }

    /// The maximum or minimum with a number that is neither zero nor NaN: the operand is kept if it is NaN.
    fn extremum_of_plain(&mut self, largest: bool, a: Value, number: Value) -> Value {
        self.raw_extremum(largest, number, a)
    }

    /// The maximum or minimum; NaN if either is NaN, and +0 is above -0.
    fn extremum(&mut self, largest: bool, a: Value, b: Value) -> Value {
        if !self.target.x64 {
            return if largest {
                self.b.ins().fmax(a, b)
            } else {
                self.b.ins().fmin(a, b)
            };
        }
        // Asked both ways round, the two answers differ for zeros of two signs and for one NaN only.
        let one = self.raw_extremum(largest, a, b);
        let other = self.raw_extremum(largest, b, a);
        let ordered = if largest {
            self.b.ins().band(one, other)
        } else {
            self.b.ins().bor(one, other)
        };
        // A mask of all ones is a NaN.
        let unordered = self.b.ins().fcmp(FloatCC::Unordered, a, b);
        let unordered = self.bitcast(self.type_of(a), unordered);
        self.b.ins().bor(ordered, unordered)
    }

    pub(super) fn compare(&mut self, op: Compare, dtype: DType, a: Form, b: Form) -> Value {
        let float = match op {
            Compare::Eq => FloatCC::Equal,
            Compare::Ne => FloatCC::NotEqual,
            Compare::Lt => FloatCC::LessThan,
            Compare::Le => FloatCC::LessThanOrEqual,
            Compare::Gt => FloatCC::GreaterThan,
            Compare::Ge => FloatCC::GreaterThanOrEqual,
        };
        let int = match op {
            Compare::Eq => IntCC::Equal,
            Compare::Ne => IntCC::NotEqual,
            Compare::Lt => IntCC::SignedLessThan,
            Compare::Le => IntCC::SignedLessThanOrEqual,
            Compare::Gt => IntCC::SignedGreaterThan,
            Compare::Ge => IntCC::SignedGreaterThanOrEqual,
        };
        let masks = a.zip(b, |a, b| {
            if dtype.is_float() {
                self.b.ins().fcmp(float, a, b)
            } else {
                self.int_compare(int, dtype, a, b)
            }
        });
        self.narrow_mask(masks)
    }

    /// A signed comparison, read as that of the type: of unsigned numbers, and of masks, where true is above false.
    pub(super) fn int_compare(&mut self, cc: IntCC, dtype: DType, a: Value, b: Value) -> Value {
        match dtype.class() {
            Class::Bool => self.b.ins().icmp(cc, b, a),
            Class::Unsigned if cc != IntCC::Equal && cc != IntCC::NotEqual => {
                let ty = self.type_of(a);
                // 8- and 16-bit numbers are not negative in their lanes.
                let sign = match dtype.size() {
                    8 => self.splat64(ty, 1 << 63),
                    4 => self.splat32(ty, 1 << 31),
                    _ => return self.b.ins().icmp(cc, a, b),
                };
                let (a, b) = (self.b.ins().bxor(a, sign), self.b.ins().bxor(b, sign));
                self.b.ins().icmp(cc, a, b)
            }
            Class::Unsigned | Class::Signed | Class::Float => self.b.ins().icmp(cc, a, b),
        }
    }

    /// A binary op of any type, without knowledge of its operands. Shifts take the amount from each lane.
    pub(super) fn simple(&mut self, op: Binary, dtype: DType, a: Form, b: Form) -> Form {
        if dtype.is_float() {
            return self.float_binary(op, dtype, (a, None), (b, None));
        }
        let boolean = dtype == DType::Bool;
        let unsigned = dtype.class() == Class::Unsigned;
        match op {
            Binary::Add => {
                let sum = a.zip(b, |a, b| self.b.ins().iadd(a, b));
                self.wrapped(dtype, sum)
            }
            Binary::Sub => {
                let difference = a.zip(b, |a, b| self.b.ins().isub(a, b));
                self.wrapped(dtype, difference)
            }
            Binary::Mul => {
                let product = a.zip(b, |a, b| self.b.ins().imul(a, b));
                self.wrapped(dtype, product)
            }
            // Masks: the maximum of bools is their disjunction.
            Binary::Max if boolean => a.zip(b, |a, b| self.b.ins().bor(a, b)),
            Binary::Min if boolean => a.zip(b, |a, b| self.b.ins().band(a, b)),
            Binary::Max if unsigned => a.zip(b, |a, b| self.b.ins().umax(a, b)),
            Binary::Min if unsigned => a.zip(b, |a, b| self.b.ins().umin(a, b)),
            Binary::Max => a.zip(b, |a, b| self.b.ins().smax(a, b)),
            Binary::Min => a.zip(b, |a, b| self.b.ins().smin(a, b)),
            Binary::And => a.zip(b, |a, b| self.b.ins().band(a, b)),
            Binary::Or => a.zip(b, |a, b| self.b.ins().bor(a, b)),
            Binary::Xor => a.zip(b, |a, b| self.b.ins().bxor(a, b)),
            Binary::Div | Binary::Rem => self.divide(op == Binary::Div, dtype, a, b),
            Binary::Shl | Binary::Shr => self.shift(op == Binary::Shl, dtype, a, b, false),
            // Not of integers, as the verifier has seen to.
            Binary::Pow | Binary::Atan2 => a,
        }
    }
}

/// Whether a literal is a number other than zero.
pub(super) fn plain(literal: Option<Literal>) -> bool {
    match literal {
        Some(Literal::Float(bits)) => {
            let value = f64::from_bits(bits);
            // What rounds to zero in f32 is zero there.
            !value.is_nan() && value as f32 != 0.0
        }
        Some(Literal::Int(_)) | None => false,
    }
}
