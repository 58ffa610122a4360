//! Custom calls: the method of [`Builder`] that builds one.

use super::{Builder, Tensor};
use crate::diagnostic::{Kind, Refusal};
use crate::ids::NodeId;
use crate::ops::{CallAttributes, CustomCall, custom_op};
use crate::types::TensorType;

impl Builder {
    /// The results of the custom op registered as `name`, with attributes that are part of the graph: names with texts. How many results there
    /// are, the pattern says that takes them: `let [y, mask] = g.custom_call("my_op", &[("limit", "0.5")], &[x]);`. [`CustomOp`] has an
    /// example.
    ///
    /// Mistakes are diagnostics: an op that is not registered, operands that it refuses, another number of results.
    ///
    /// [`CustomOp`]: crate::CustomOp
    #[track_caller]
    pub fn custom_call<'g, const N: usize>(
        &'g self,
        name: &str,
        attributes: &[(&str, &str)],
        operands: &[Tensor<'g>],
    ) -> [Tensor<'g>; N] {
        let home = self.innermost(operands);
        if !home.is(self) {
            return home.custom_call(name, attributes, operands);
        }
        let poisoned = [self.poison(); N];
        let operands = self.import_all(operands);
        let ids: Option<Vec<NodeId>> = operands.iter().map(|t| t.id).collect();
        let types: Option<Vec<TensorType>> = operands.iter().map(|t| t.ty()).collect();
        let (Some(ids), Some(types)) = (ids, types) else {
            return poisoned;
        };
        let attributes = CallAttributes::of(attributes);
        let types: Vec<&TensorType> = types.iter().collect();
        match inferred(name, &attributes, &types, N) {
            Ok(results) => {
                let call = CustomCall {
                    target: name.to_owned(),
                    attributes,
                    results,
                };
                let parts = self.push_compound(call, &operands);
                parts.try_into().unwrap_or(poisoned)
            }
            Err(refusal) => {
                self.report(refusal, self.describe(&ids));
                poisoned
            }
        }
    }
}

/// The types of so many results of a custom op.
fn inferred(
    name: &str,
    attributes: &CallAttributes,
    operands: &[&TensorType],
    count: usize,
) -> Result<Vec<TensorType>, Refusal> {
    let op = custom_op(name).map_err(|e| Refusal::new(Kind::Signature, e.to_string()))?;
    let results = op.infer(attributes, operands);
    let results =
        results.map_err(|why| Refusal::new(Kind::Shape, format!("custom op `{name}`: {why}")))?;
    if results.len() != count {
        let given = results.len();
        let message = format!("custom op `{name}` gives {given} results, not {count}");
        return Err(Refusal::new(Kind::Signature, message));
    }
    Ok(results)
}
