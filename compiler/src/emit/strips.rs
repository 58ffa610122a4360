//! Strips: phases and calls of full-width functions, one strip after the other.

use super::EmitError;
use super::emitter::{Emitter, Point, Trips};
use crate::kernel::{AHEAD, Apply, Index, Loop, LoopId, Operand, STRIP, Stmt};
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{InstBuilder, Value};

impl<'k> Emitter<'k, '_> {
    /// The strips of a block; carries the sixteen partial results of each accumulator through the last phases.
    pub(super) fn strips(
        &mut self,
        inner: &'k Loop,
        range: [Value; 2],
        trips: Trips,
        partial: Vec<Value>,
    ) -> Result<Vec<Value>, EmitError> {
        let accumulators = &inner.accumulators;
        let last = inner.body.iter().rposition(|s| matches!(s, Stmt::Loop(_)));
        let (strips, within) = match trips {
            Trips::Exactly(n) if n <= STRIP => (Trips::Exactly(n.min(1)), trips),
            Trips::Exactly(n) => {
                let whole = n % STRIP == 0;
                let within = if whole {
                    Trips::Exactly(STRIP)
                } else {
                    Trips::AtLeastOne
                };
                (Trips::Exactly((n + STRIP - 1) / STRIP), within)
            }
            Trips::Unknown | Trips::AtLeastOne => (trips, Trips::AtLeastOne),
        };
        self.counted(range, STRIP, strips, partial, &mut |e, first, partial| {
            let end = e.block_end(first, range[1], STRIP, strips);
            let mut partial = partial.to_vec();
            e.counters.insert(inner.id, first);
            for (position, stmt) in inner.body.iter().enumerate() {
                match stmt {
                    Stmt::Apply(apply) => {
                        let count = e.b.ins().isub(end, first);
                        e.apply(apply, inner.id, count)?;
                    }
                    Stmt::Loop(phase) => {
                        e.hoist(phase);
                        e.depth += 1;
                        e.once(phase)?;
                        if Some(position) == last {
                            partial =
                                e.sweep(phase, accumulators, [first, end], within, partial)?;
                        } else {
                            e.sweep(phase, &[], [first, end], within, Vec::new())?;
                        }
                        e.depth -= 1;
                    }
                    // Not directly in strips, as the verifier has seen to.
                    Stmt::Let { .. } | Stmt::Store { .. } | Stmt::Sort(_) => {}
                }
            }
            Ok(partial)
        })
    }

    /// The call of a full-width function over the strip that begins at the counter of `strips`.
    fn apply(&mut self, apply: &'k Apply, strips: LoopId, count: Value) -> Result<(), EmitError> {
        let first = |id| Index::counter(if id == apply.id { strips } else { id });
        let dtype = self.kernel.params[apply.target.param.index()].dtype;
        let Some(position) = super::helper::wide_position(apply.function, dtype) else {
            return Err(EmitError::Unsupported {
                dtype,
                op: apply.function.to_string(),
            });
        };
        let target = &apply.target;
        let at = target.index.substitute(&first, &|_| None);
        let target = self.uniform(Some(target.param), &at);
        // A function of one operand does not look at the second.
        let mut operands = [target; 2];
        let mut walking = 0;
        for (i, operand) in apply.operands.iter().enumerate().take(2) {
            operands[i] = match operand {
                Operand::Element(element) => {
                    walking |= 1 << i;
                    let at = element.index.substitute(&first, &|_| None);
                    self.uniform(Some(element.param), &at)
                }
                Operand::Value(value) => {
                    let register = self.form(*value, Point::Uniform).one();
                    let (slot, offset) = (self.scratch_slot(), 16 * i as i32);
                    self.b.ins().stack_store(I64, register, slot, offset);
                    self.b.ins().stack_addr(I64, slot, offset)
                }
            };
        }
        let mut ahead = [self.int(0); AHEAD];
        for (pointer, element) in ahead.iter_mut().zip(&apply.ahead) {
            let next = element.index.substitute(&first, &|_| None);
            let next = self.uniform(Some(element.param), &next);
            let size = self.kernel.params[element.param.index()].dtype.size() as i64;
            *pointer = self.b.ins().iadd_imm_s(next, STRIP * size);
        }
        let walking = self.int(walking);
        let callee = self.helper(position);
        let signature = self.wide_signature();
        let [next, other] = ahead;
        let arguments = [
            target,
            operands[0],
            operands[1],
            count,
            walking,
            next,
            other,
        ];
        self.b.ins().call_indirect(signature, callee, &arguments);
        Ok(())
    }
}
