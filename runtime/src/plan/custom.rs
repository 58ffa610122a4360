//! Custom calls under a binding.

use super::{Context, Plan, Resolved};
use kiln_ir::BindError;
use kiln_ir::CustomOp;
use kiln_ir::ops::{CallAttributes, CallTensor};
use kiln_ir::program::{Access, Custom};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A custom call, but for the addresses of its tensors.
pub(crate) struct CustomStep {
    /// The code.
    pub(crate) op: Arc<dyn CustomOp>,
    pub(crate) attributes: CallAttributes,
    pub(crate) inputs: Vec<CallTensor>,
    pub(crate) outputs: Vec<CallTensor>,
    /// The bytes of each operand, then of each result. Their addresses lie one behind the other in the plan's.
    pub(crate) bytes: Vec<usize>,
    /// Where those begin.
    pub(crate) addresses: usize,
    /// Which results have been handed out in this call. Only the thread that calls touches them.
    pub(crate) taken: Vec<AtomicBool>,
    /// The position in the program.
    pub(crate) step: usize,
}

impl Context<'_> {
    pub(super) fn custom(
        &self,
        plan: &mut Plan,
        custom: &Custom,
        step: usize,
    ) -> Result<Option<Resolved>, BindError> {
        let Some(op) = self.loaded.customs.get(step).and_then(Option::as_ref) else {
            return Ok(None);
        };
        let addresses = plan.spots.len();
        let (mut inputs, mut outputs, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for (buffer, ty, access) in custom.tensors() {
            self.spot(plan, buffer, 0);
            bytes.push(self.layout.bytes[buffer.index()]);
            let shape = ty.shape.iter().map(|d| d.eval_size(self.bindings));
            let tensor = CallTensor {
                dtype: ty.dtype,
                shape: shape.collect::<Result<_, _>>()?,
            };
            match access {
                Access::Read => inputs.push(tensor),
                Access::Write | Access::ReadWrite => outputs.push(tensor),
            }
        }
        let taken = outputs.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Some(Resolved::Custom(Box::new(CustomStep {
            op: Arc::clone(op),
            attributes: custom.call.attributes.clone(),
            inputs,
            outputs,
            bytes,
            addresses,
            taken,
            step,
        }))))
    }
}
