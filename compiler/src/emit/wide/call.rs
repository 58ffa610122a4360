//! How Cranelift's code calls a function of this folder.

use super::{Function, function, rows_function};
use crate::emit::EmitError;
use crate::emit::emitter::{Counters, Emitter, Lanes, Point, memory};
use crate::kernel::{Loop, LoopId, Stmt};
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{
    ExtFuncData, ExternalName, FuncRef, InstBuilder, StackSlot, StackSlotData, StackSlotKind,
    UserExternalName, Value,
};

/// A function in the kernel at hand: how it is called.
pub(in crate::emit) struct Callee<'k> {
    function: Function<'k>,
    reference: FuncRef,
    /// Its block.
    slot: StackSlot,
}

impl<'k> Emitter<'k, '_> {
    /// Emits a lanes loop of at least one iteration as a call, if it has a function in full width: the sixteen partial results of each
    /// accumulator, in four registers.
    pub(in crate::emit) fn full_width(
        &mut self,
        inner: &'k Loop,
        [from, to]: [Value; 2],
    ) -> Result<Option<Vec<Value>>, EmitError> {
        if !self.target.wide {
            return Ok(None);
        }
        let Some(function) = function(self.kernel, &self.facts, inner) else {
            return Ok(None);
        };
        let callee = self.callee(function);
        let mark = self.memo.mark();
        self.start_lanes(inner.id, from);
        self.put_row(&callee, 0, 0);
        self.lanes = None;
        self.memo.reset(mark);
        let count = self.b.ins().isub(to, from);
        let block = self.call_full_width(&callee, count);
        let layout = callee.function.layout;
        let mut partial = Vec::with_capacity(4 * inner.accumulators.len());
        for (i, accumulator) in inner.accumulators.iter().enumerate() {
            let dtype = self.dtype(accumulator.operand);
            let ty = self.register_type(dtype, || "reduce".into())?;
            for group in 0..4 {
                let at = (layout.partial(i) + 16 * group) as i32;
                partial.push(self.b.ins().load(ty, memory(), block, at));
            }
        }
        Ok(Some(partial))
    }

    /// The function that folds `count` rows of a column reduction, if there is one.
    pub(in crate::emit) fn rows_callee(
        &mut self,
        lanes: &'k Loop,
        before: &'k [Stmt],
        rows: &'k Loop,
        count: usize,
    ) -> Option<Callee<'k>> {
        if !self.target.wide {
            return None;
        }
        let function = rows_function(self.kernel, &self.facts, lanes, before, rows, count)?;
        Some(self.callee(function))
    }

    /// Folds `count` rows, the first of which is `row`, for columns from `first` up to `end`, onto the partial results at `planes`.
    pub(in crate::emit) fn fold_rows_in_full_width(
        &mut self,
        callee: &Callee<'k>,
        [lanes, rows]: [&'k Loop; 2],
        (row, count): (Value, usize),
        [first, end]: [Value; 2],
        planes: &[Value],
    ) -> Result<(), EmitError> {
        let layout = callee.function.layout;
        for (i, plane) in planes.iter().enumerate() {
            let at = layout.pointer(i) as i32;
            self.b.ins().stack_store(I64, *plane, callee.slot, at);
        }
        let mark = self.memo.mark();
        self.start_lanes(lanes.id, first);
        for r in 0..count {
            let counter = self.b.ins().iadd_imm_s(row, r as i64);
            self.counters.insert(rows.id, counter);
            self.depth += 1;
            let within = self.memo.mark();
            self.still(&rows.body)?;
            self.put_row(callee, planes.len(), r);
            self.memo.reset(within);
            self.depth -= 1;
        }
        self.lanes = None;
        self.memo.reset(mark);
        let columns = self.b.ins().isub(end, first);
        self.call_full_width(callee, columns);
        Ok(())
    }

    fn start_lanes(&mut self, id: LoopId, first: Value) {
        self.counters.insert(id, first);
        self.lanes = Some(Lanes {
            id,
            groups: 1,
            counters: Counters::Full { first },
        });
    }

    /// Declares a function, and makes room for its block.
    fn callee(&mut self, mut function: Function<'k>) -> Callee<'k> {
        let size = function.layout.size();
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, size, 4);
        let slot = self.b.create_sized_stack_slot(data);
        let name = UserExternalName {
            namespace: 0,
            index: self.functions.len() as u32,
        };
        self.functions.push((
            std::mem::take(&mut function.bytes),
            std::mem::take(&mut function.text),
        ));
        let name = self.b.func.declare_imported_user_function(name);
        let signature = self.helper_signature();
        let reference = self.b.import_function(ExtFuncData {
            name: ExternalName::user(name),
            signature,
            colocated: true,
            patchable: false,
        });
        Callee {
            function,
            reference,
            slot,
        }
    }

    /// Writes the pointers and values of a row into the block.
    fn put_row(&mut self, callee: &Callee<'k>, own: usize, row: usize) {
        let layout = callee.function.layout;
        for (i, stream) in callee.function.streams.iter().enumerate() {
            if stream.row == row {
                let pointer = self.walking(stream.param, stream.index, 0);
                let at = layout.pointer(own + i) as i32;
                self.b.ins().stack_store(I64, pointer, callee.slot, at);
            }
        }
        for (i, uniform) in callee.function.uniforms.iter().enumerate() {
            if uniform.row == row {
                let register = self.form(uniform.value, Point::Uniform).one();
                let at = layout.uniform(i) as i32;
                self.b.ins().stack_store(I64, register, callee.slot, at);
            }
        }
    }

    /// Calls a function whose block is filled but for the trip count, and returns the block's address.
    fn call_full_width(&mut self, callee: &Callee<'k>, count: Value) -> Value {
        self.b.ins().stack_store(I64, count, callee.slot, 0);
        let block = self.b.ins().stack_addr(I64, callee.slot, 0);
        self.b.ins().call(callee.reference, &[block]);
        block
    }
}
