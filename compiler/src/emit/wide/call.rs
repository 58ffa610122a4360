//! How Cranelift's code calls a function of this folder.

use super::{Function, function};
use crate::emit::EmitError;
use crate::emit::emitter::{Counters, Emitter, Lanes, Point, memory};
use crate::kernel::Loop;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{
    ExtFuncData, ExternalName, InstBuilder, StackSlotData, StackSlotKind, UserExternalName, Value,
};

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
        let count = self.b.ins().isub(to, from);
        let mark = self.memo.mark();
        self.counters.insert(inner.id, from);
        self.lanes = Some(Lanes {
            id: inner.id,
            groups: 1,
            counters: Counters::Full { first: from },
        });
        let accesses = function.pointers.iter();
        let pointers: Vec<Value> = accesses
            .map(|(p, index)| self.walking(*p, index, 0))
            .collect();
        self.lanes = None;
        self.memo.reset(mark);
        let accumulators = inner.accumulators.len();
        let block = self.call_full_width(&function, accumulators, count, &pointers);
        let layout = function.layout(accumulators);
        let mut partial = Vec::with_capacity(4 * accumulators);
        for (i, accumulator) in inner.accumulators.iter().enumerate() {
            let dtype = self.dtype(accumulator.operand);
            let ty = self.register_type(dtype, || "reduce".into())?;
            for group in 0..4 {
                let at = (layout.partial(i) + 16 * group) as i32;
                partial.push(self.b.ins().load(ty, memory(), block, at));
            }
        }
        self.functions.push((function.bytes, function.text));
        Ok(Some(partial))
    }

    /// Fills a block, calls the function that is about to be the last one, and returns the block's address.
    fn call_full_width(
        &mut self,
        function: &Function<'k>,
        accumulators: usize,
        count: Value,
        pointers: &[Value],
    ) -> Value {
        let layout = function.layout(accumulators);
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, layout.size(), 4);
        let slot = self.b.create_sized_stack_slot(data);
        self.b.ins().stack_store(I64, count, slot, 0);
        for (i, pointer) in pointers.iter().enumerate() {
            let at = layout.pointer(i) as i32;
            self.b.ins().stack_store(I64, *pointer, slot, at);
        }
        for (i, value) in function.uniforms.iter().enumerate() {
            let register = self.form(*value, Point::Uniform).one();
            let at = layout.uniform(i) as i32;
            self.b.ins().stack_store(I64, register, slot, at);
        }
        let name = UserExternalName {
            namespace: 0,
            index: self.functions.len() as u32,
        };
        let name = self.b.func.declare_imported_user_function(name);
        let signature = self.helper_signature();
        let callee = self.b.import_function(ExtFuncData {
            name: ExternalName::user(name),
            signature,
            colocated: true,
            patchable: false,
        });
        let block = self.b.ins().stack_addr(I64, slot, 0);
        self.b.ins().call(callee, &[block]);
        block
    }
}
