//! Expressions: dispatch, selection, fused multiply-add, index values, and the mask tools that others build on.

use super::EmitError;
use super::emitter::{Counters, Emitter, Key, Point, memory};
use super::form::Form;
use super::helper::Helper;
use crate::kernel::{Expr, Index, ValueId};
use cranelift_codegen::ir::types::{F32X4, I32X4, I64, I64X2};
use cranelift_codegen::ir::{InstBuilder, Opcode, Value, ValueDef};
use kiln_ir::DType;
use kiln_ir::ops::{Binary, Rules, Unary};

impl Emitter<'_, '_> {
    /// The registers of an expression at a point.
    pub(super) fn expr(
        &mut self,
        value: ValueId,
        expr: &Expr,
        point: Point,
    ) -> Result<Form, EmitError> {
        let dtype = self.dtype(value);
        self.register_type(dtype, || super::op_name(expr))?;
        match expr {
            Expr::Load {
                param,
                index,
                predicate,
            } => self.load(*param, index, *predicate, point),
            Expr::Const(literal) => self.literal(dtype, *literal),
            Expr::Index(index) => Ok(self.index_value(index, point)),
            Expr::Unary(op, a) => {
                let operand = self.dtype(*a);
                self.register_type(operand, || op.name().into())?;
                let a = self.form(*a, point);
                Ok(self.unary(*op, operand, a))
            }
            Expr::Binary(op, a, b) => self.binary(*op, *a, *b, point),
            Expr::Compare(op, a, b) => {
                let operand = self.dtype(*a);
                self.register_type(operand, || op.name().into())?;
                let (a, b) = (self.form(*a, point), self.form(*b, point));
                Ok(Form::One(self.compare(*op, operand, a, b)))
            }
            Expr::Select(condition, yes, no) => {
                let mask = self.form(*condition, point).one();
                let (yes, no) = (self.form(*yes, point), self.form(*no, point));
                Ok(self.choose_form(mask, yes, no))
            }
            Expr::Fma(a, b, c) => {
                let [a, b, c] = [a, b, c].map(|v| self.form(*v, point));
                let (b, c) = (b.two(), c.two());
                let mut i = 0;
                Ok(a.map(|a| {
                    i += 1;
                    self.fused(a, b[i - 1], c[i - 1])
                }))
            }
            Expr::Convert(a) => {
                let from = self.dtype(*a);
                self.register_type(from, || "convert".into())?;
                let a = self.form(*a, point);
                Ok(self.convert(from, dtype, a))
            }
            Expr::Bitcast(a) => {
                let from = self.dtype(*a);
                self.register_type(from, || "bitcast".into())?;
                let a = self.form(*a, point);
                Ok(self.reinterpret(from, dtype, a))
            }
            Expr::Philox {
                key,
                counter,
                position,
            } => {
                if let Some(word) = self.shared_philox(value, *key, *counter, point)? {
                    return Ok(Form::One(word));
                }
                let key = key.map(|v| self.form(v, point).one());
                let counter = counter.map(|v| self.form(v, point).one());
                let position = self.form(*position, point).two();
                Ok(Form::One(self.philox(key, counter, position)))
            }
        }
    }

    /// Random words of a group from the blocks that the groups of an iteration share, if they do.
    fn shared_philox(
        &mut self,
        value: ValueId,
        key: [ValueId; 2],
        counter: [ValueId; 2],
        point: Point,
    ) -> Result<Option<Value>, EmitError> {
        let whole = self
            .lanes
            .is_some_and(|l| l.groups == 4 && matches!(l.counters, Counters::Full { .. }));
        let (Point::Group(group), Some(index), true) =
            (point, self.facts.in_a_row(value).cloned(), whole)
        else {
            return Ok(None);
        };
        let memo = Key::Words(value);
        let words = match self.memo.find(&memo) {
            Some(words) => words,
            None => {
                let [key, counter] =
                    [key, counter].map(|pair| pair.map(|v| self.form(v, point).one()));
                let first = self.lane_index(&index, 0);
                let words = self.philox_in_a_row(key, counter, first)?;
                self.memo.insert(memo, words);
                words
            }
        };
        Ok(Some(self.b.ins().load(
            I32X4,
            memory(),
            words,
            16 * group as i32,
        )))
    }

    fn binary(
        &mut self,
        op: Binary,
        left: ValueId,
        right: ValueId,
        point: Point,
    ) -> Result<Form, EmitError> {
        let dtype = self.dtype(left);
        self.register_type(dtype, || op.name().into())?;
        let (a, b) = (self.form(left, point), self.form(right, point));
        if dtype.is_float() {
            let (x, y) = (self.facts.literal(left), self.facts.literal(right));
            return Ok(self.float_binary(op, dtype, (a, x), (b, y)));
        }
        if matches!(op, Binary::Shl | Binary::Shr) {
            let uniform = point == Point::Uniform || !self.facts.varies(right);
            return Ok(self.shift(op == Binary::Shl, dtype, a, b, uniform));
        }
        Ok(self.simple(op, dtype, a, b))
    }

    /// An index as i64 lanes.
    fn index_value(&mut self, index: &Index, point: Point) -> Form {
        let Point::Group(group) = point else {
            let scalar = self.uniform(None, index);
            return self.splat(DType::I64, scalar);
        };
        if let Some((first, step)) = self.steps(index) {
            let base = self.b.ins().splat(I64X2, first);
            let lane = |j: usize| {
                let distance = step.wrapping_mul((4 * group + j) as i64);
                u128::from(distance.cast_unsigned())
            };
            let low = self.constant(I64X2, lane(0) | lane(1) << 64);
            let high = self.constant(I64X2, lane(2) | lane(3) << 64);
            return Form::Two([self.b.ins().iadd(base, low), self.b.ins().iadd(base, high)]);
        }
        let scalars = std::array::from_fn(|j| self.lane_index(index, 4 * group + j));
        self.assemble(DType::I64, scalars)
    }

    /// The first form in the lanes of a 32-bit mask, the second elsewhere.
    pub(super) fn choose_form(&mut self, mask: Value, yes: Form, no: Form) -> Form {
        let masks = self.masks_like(yes, mask).two();
        let mut i = 0;
        yes.zip(no, |yes, no| {
            i += 1;
            self.choose(masks[i - 1], yes, no)
        })
    }

    /// The first register in the lanes of a mask of its width, the second elsewhere.
    ///
    /// On x86-64 a float comparison stays visible to Cranelift, which makes minima and maxima of it; any other mask goes to the blend
    /// that looks at sign bits only, since Cranelift does not know that it is all ones or zeros.
    pub(super) fn choose(&mut self, mask: Value, yes: Value, no: Value) -> Value {
        let ty = self.b.func.dfg.value_type(yes);
        let compared = match self.b.func.dfg.value_def(mask) {
            ValueDef::Result(inst, _) => self.b.func.dfg.insts[inst].opcode() == Opcode::Fcmp,
            ValueDef::Param(..) | ValueDef::Union(..) => false,
        };
        if !self.target.x64 || (compared && ty.lane_type().is_float()) {
            let mask = self.bitcast(ty, mask);
            return self.b.ins().bitselect(mask, yes, no);
        }
        let whole = if ty.lane_bits() == 64 { I64X2 } else { I32X4 };
        let (yes, no) = (self.bitcast(whole, yes), self.bitcast(whole, no));
        let mask = self.bitcast(whole, mask);
        let chosen = self.b.ins().blendv(mask, yes, no);
        self.bitcast(ty, chosen)
    }

    /// `a * b + c`, rounded once.
    pub(super) fn fused(&mut self, a: Value, b: Value, c: Value) -> Value {
        if self.target.fma {
            return self.b.ins().fma(a, b, c);
        }
        let helper = if self.b.func.dfg.value_type(a) == F32X4 {
            Helper::Fma32
        } else {
            Helper::Fma64
        };
        self.call(helper, &[a, b, c])
    }

    /// Calls a helper with registers through the scratch block, where it leaves its result in place of the first.
    pub(super) fn call(&mut self, helper: Helper, operands: &[Value]) -> Value {
        let ty = self.b.func.dfg.value_type(operands[0]);
        let slot = self.scratch_slot();
        for (i, operand) in operands.iter().enumerate() {
            self.b.ins().stack_store(I64, *operand, slot, 16 * i as i32);
        }
        let block = self.scratch();
        let callee = self.helper(helper.position());
        let signature = self.helper_signature();
        self.b.ins().call_indirect(signature, callee, &[block]);
        self.b.ins().stack_load(I64, ty, slot, 0)
    }

    /// `usual`, but the result of a helper that is given `usual`, `x` and `mask` if any lane of the mask is set.
    pub(super) fn rarely(&mut self, helper: Helper, mask: Value, usual: Value, x: Value) -> Value {
        let ty = self.b.func.dfg.value_type(usual);
        let (slow, done) = (self.b.create_block(), self.b.create_block());
        let result = self.b.append_block_param(done, ty);
        let any = self.b.ins().vany_true(mask);
        self.b.ins().brif(any, slow, &[], done, &[usual.into()]);
        self.b.switch_to_block(slow);
        self.b.set_cold_block(slow);
        let exact = self.call(helper, &[usual, x, mask]);
        self.b.ins().jump(done, &[exact.into()]);
        self.b.switch_to_block(done);
        result
    }

    /// A unary op on registers.
    fn unary(&mut self, op: Unary, dtype: DType, a: Form) -> Form {
        if dtype.is_float() {
            self.float_unary(op, dtype, a)
        } else {
            self.int_unary(op, dtype, a)
        }
    }
}
