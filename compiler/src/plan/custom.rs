//! Custom calls as steps.

use super::assemble::Assembler;
use super::control::arena;
use crate::lower::CompoundShape;
use kiln_ir::Node;
use kiln_ir::ops::CustomCall;
use kiln_ir::program::{Argument, Custom, Step};

impl Assembler<'_> {
    /// Appends the step of a custom call. A result that nobody reads has memory too, for the call writes it.
    pub(super) fn custom_call(&mut self, shape: &CompoundShape, node: &Node, call: &CustomCall) {
        let name = self.name(shape.node, "custom_call");
        let types = node.operands.iter().map(|o| self.graph.node(*o));
        let operands = types.zip(&shape.operands);
        let inputs = operands.filter_map(|(operand, memory)| {
            Some(Argument {
                buffer: self.at(*memory),
                ty: operand?.ty.clone(),
            })
        });
        let inputs = inputs.collect();
        let mut outputs = Vec::with_capacity(call.results.len());
        for (position, ty) in call.results.iter().enumerate() {
            outputs.push(self.result(shape, position).unwrap_or_else(|| {
                let label = format!("{name} result {position}");
                self.homes
                    .add(label, ty.dtype, ty.shape.elements(), arena())
            }));
        }
        self.steps.push(Step::Custom(Custom {
            name,
            call: call.clone(),
            inputs,
            outputs,
            location: node.provenance.place(),
        }));
    }
}
