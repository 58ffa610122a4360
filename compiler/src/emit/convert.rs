//! Conversions between element types, with the meaning of the op `convert`, and bit patterns read as another type.

use super::emitter::Emitter;
use super::form::{Form, is_wide};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32X4, F64X2, I32, I32X4, I64, I64X2};
use cranelift_codegen::ir::{InstBuilder, Value};
use kiln_ir::{Class, DType};

impl Emitter<'_, '_> {
    pub(super) fn convert(&mut self, from: DType, to: DType, a: Form) -> Form {
        if from == to {
            return a;
        }
        match (from.class(), to.class()) {
            (_, Class::Bool) => Form::One(self.is_not_zero(from, a)),
            (Class::Float, Class::Float) => self.float_to_float(to, a),
            (Class::Float, Class::Signed | Class::Unsigned) => self.float_to_int(from, to, a),
            (Class::Bool, Class::Float) => {
                let one = if to == DType::F32 {
                    Form::One(self.splat32(F32X4, 1.0_f32.to_bits()))
                } else {
                    Form::Two([self.splat64(F64X2, 1.0_f64.to_bits()); 2])
                };
                let masks = self.masks_like(one, a.one());
                one.zip(masks, |one, mask| {
                    let ty = self.b.func.dfg.value_type(one);
                    let mask = self.bitcast(ty, mask);
                    self.b.ins().band(one, mask)
                })
            }
            (Class::Bool, Class::Signed | Class::Unsigned) => {
                let masks = if is_wide(to) {
                    Form::Two(self.widen_mask(a.one()))
                } else {
                    a
                };
                masks.map(|mask| self.b.ins().ineg(mask))
            }
            (Class::Signed | Class::Unsigned, Class::Float) => self.int_to_float(from, to, a),
            (Class::Signed | Class::Unsigned, Class::Signed | Class::Unsigned) => {
                self.int_to_int(from, to, a)
            }
        }
    }

    fn is_not_zero(&mut self, from: DType, a: Form) -> Value {
        let masks = a.map(|a| {
            let ty = self.b.func.dfg.value_type(a);
            let zero = self.constant(ty, 0);
            if from.is_float() {
                self.b.ins().fcmp(FloatCC::NotEqual, a, zero)
            } else {
                self.b.ins().icmp(IntCC::NotEqual, a, zero)
            }
        });
        self.narrow_mask(masks)
    }

    /// Lanes 2 and 3 in the place of 0 and 1.
    fn upper(&mut self, a: Value) -> Value {
        self.shuffle32(a, a, [2, 3, 2, 3])
    }

    fn float_to_float(&mut self, to: DType, a: Form) -> Form {
        if to == DType::F64 {
            let a = a.one();
            let low = self.b.ins().fvpromote_low(a);
            let upper = self.upper(a);
            return Form::Two([low, self.b.ins().fvpromote_low(upper)]);
        }
        Form::One(self.demote(a.two()))
    }

    fn demote(&mut self, registers: [Value; 2]) -> Value {
        let [low, high] = registers.map(|r| self.b.ins().fvdemote(r));
        self.shuffle32(low, high, [0, 1, 4, 5])
    }

    fn int_to_int(&mut self, from: DType, to: DType, a: Form) -> Form {
        match (is_wide(from), is_wide(to)) {
            (true, true) => a,
            (false, false) => self.wrapped(to, a),
            (false, true) => {
                let a = a.one();
                Form::Two(if from == DType::U32 {
                    [self.b.ins().uwiden_low(a), self.b.ins().uwiden_high(a)]
                } else {
                    [self.b.ins().swiden_low(a), self.b.ins().swiden_high(a)]
                })
            }
            (true, false) => {
                let [low, high] = a.two();
                let words = Form::One(self.low_words(low, high));
                self.wrapped(to, words)
            }
        }
    }

    /// Wide integers go through f64, as in the interpreter, so that an f32 is rounded twice.
    fn int_to_float(&mut self, from: DType, to: DType, a: Form) -> Form {
        if is_wide(from) {
            let doubles = a.two().map(|r| {
                if from == DType::U64 {
                    self.b.ins().fcvt_from_uint(F64X2, r)
                } else {
                    self.b.ins().fcvt_from_sint(F64X2, r)
                }
            });
            return if to == DType::F64 {
                Form::Two(doubles)
            } else {
                Form::One(self.demote(doubles))
            };
        }
        let a = a.one();
        if to == DType::F32 {
            return Form::One(if from == DType::U32 {
                self.b.ins().fcvt_from_uint(F32X4, a)
            } else {
                self.b.ins().fcvt_from_sint(F32X4, a)
            });
        }
        let upper = self.upper(a);
        Form::Two([a, upper].map(|r| {
            if from == DType::U32 {
                let wide = self.b.ins().uwiden_low(r);
                self.b.ins().fcvt_from_uint(F64X2, wide)
            } else {
                let wide = self.b.ins().swiden_low(r);
                self.b.ins().fcvt_from_sint(F64X2, wide)
            }
        }))
    }

    /// Toward zero, saturating, NaN to 0.
    fn float_to_int(&mut self, from: DType, to: DType, a: Form) -> Form {
        let unsigned = to.class() == Class::Unsigned;
        if from == DType::F32 && !is_wide(to) {
            let a = a.one();
            let whole = if to == DType::U32 {
                self.b.ins().fcvt_to_uint_sat(I32X4, a)
            } else {
                self.b.ins().fcvt_to_sint_sat(I32X4, a)
            };
            return Form::One(self.saturated(to, whole));
        }
        let form = self.lane_by_lane(to, a, a, |e, a, _| match (is_wide(to), unsigned) {
            (true, true) => e.b.ins().fcvt_to_uint_sat(I64, a),
            (true, false) => e.b.ins().fcvt_to_sint_sat(I64, a),
            (false, true) if to == DType::U32 => e.b.ins().fcvt_to_uint_sat(I32, a),
            (false, _) => e.b.ins().fcvt_to_sint_sat(I32, a),
        });
        match form {
            Form::One(register) => Form::One(self.saturated(to, register)),
            Form::Two(_) => form,
        }
    }

    /// 32-bit numbers brought to the nearest of a narrow type.
    fn saturated(&mut self, to: DType, register: Value) -> Value {
        let (least, largest) = match to {
            DType::I8 => (i32::from(i8::MIN), i32::from(i8::MAX)),
            DType::I16 => (i32::from(i16::MIN), i32::from(i16::MAX)),
            DType::U8 => (0, i32::from(u8::MAX)),
            DType::U16 => (0, i32::from(u16::MAX)),
            DType::I32 | DType::U32 | DType::I64 | DType::U64 | DType::Bool => return register,
            DType::F32 | DType::F64 | DType::BF16 | DType::F16 => return register,
        };
        let least = self.splat32(I32X4, least.cast_unsigned());
        let largest = self.splat32(I32X4, largest.cast_unsigned());
        let above = self.b.ins().smax(register, least);
        self.b.ins().smin(above, largest)
    }

    /// The bits of a lane as another type of the same width.
    pub(super) fn reinterpret(&mut self, from: DType, to: DType, a: Form) -> Form {
        if from == to {
            return a;
        }
        match (from.class(), to.class()) {
            (Class::Bool, _) | (_, Class::Bool) => self.convert(from, to, a),
            (Class::Float | Class::Signed | Class::Unsigned, _) => {
                let ty = match (is_wide(to), to.is_float()) {
                    (true, true) => F64X2,
                    (true, false) => I64X2,
                    (false, true) => F32X4,
                    (false, false) => I32X4,
                };
                let form = a.map(|r| self.bitcast(ty, r));
                self.wrapped(to, form)
            }
        }
    }
}
