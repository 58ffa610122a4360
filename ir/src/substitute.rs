//! A tensor computed once more, from others.

use crate::autodiff::depends_on;
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::ids::NodeId;
use crate::provenance::Origin;
use std::collections::BTreeMap;

/// `value` computed again, with the second tensor of each pair in the place of the first. Both have one type.
///
/// Only what depends on the first ones is computed twice. Everything else is shared, random numbers too; updates that go with `value`, such as
/// those of running averages, are not repeated, and guards are.
///
/// ```
/// use kiln_ir::{Array, Builder, DType, Values, eval, substitute};
///
/// let g = Builder::new("twice");
/// let x = g.input("x", DType::F32, ());
/// let square = x.square();
/// g.output("square", square);
/// g.output("next", substitute(square, &[(x, x + 1.0)]));
/// let three = Array::new(DType::F32, vec![], Values::Float(vec![3.0]))?;
/// let found = eval(&g.finish()?, |_| Some(three.clone()))?;
/// assert_eq!(found.outputs[1].floats()?, [16.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn substitute<'g>(value: Tensor<'g>, pairs: &[(Tensor<'g>, Tensor<'g>)]) -> Tensor<'g> {
    let builder = value.builder();
    // The calls below sit in closures, which do not know the caller.
    let _line = builder.charged_to(builder.provenance().location);
    let Some(root) = value.id() else {
        return builder.poison();
    };
    let mut replaced: BTreeMap<NodeId, Tensor<'g>> = BTreeMap::new();
    for (from, to) in pairs {
        let (from, to) = (builder.import(*from), builder.import(*to));
        let (Some(id), Some(before), Some(after)) = (from.id(), from.ty(), to.ty()) else {
            return builder.poison();
        };
        if before != after {
            let message = format!("{after} in the place of {before}");
            let refusal =
                Refusal::new(Kind::Type, message).help("only tensors of one type are exchanged");
            return builder.refuse(refusal, &[from, to]);
        }
        replaced.insert(id, to);
    }
    let sources: Vec<NodeId> = replaced.keys().copied().collect();
    let depends = depends_on(builder, root, &sources);
    for (index, depends) in depends.into_iter().enumerate() {
        let id = NodeId::new(index);
        let (Some(node), true) = (builder.node(id), depends) else {
            continue;
        };
        if replaced.contains_key(&id) {
            continue;
        }
        let now = |operand: &NodeId| replaced.get(operand).copied();
        let operands = node.operands.iter();
        let operands = operands.map(|o| now(o).unwrap_or_else(|| builder.tensor(*o)));
        let operands: Vec<Tensor<'g>> = operands.collect();
        let again = builder.on_behalf(&node.provenance, Origin::User, || {
            builder.push(node.op.clone(), &operands)
        });
        replaced.insert(id, again);
    }
    replaced.get(&root).copied().unwrap_or(value)
}
