//! Control ops: ops whose attributes are graphs. `scan` repeats, `while` repeats as long as a test holds, `cond` chooses.
//!
//! The graph of a [`Region`] is a function: all of its slots are inputs, and its outputs are what it yields. It sees nothing else, so what it
//! uses from around it is an operand of the control op, which is a [`Compound`](super::Compound) op.

use super::Effect;
use crate::diagnostic::{Kind, Refusal};
use crate::graph::{Graph, Role};
use crate::ids::NodeId;
use crate::types::TensorType;
use crate::verify::verify_region;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

mod adjoint;
mod cond;
mod prune;
mod scan;
mod sink;
mod stack;
mod until;

pub use cond::Cond;
pub use prune::Pruned;
pub use scan::{Save, Scan};
pub use until::While;

/// Regions within regions, at most. Deeper ones come from hostile files.
pub(crate) const DEEPEST: usize = 16;

/// The graph of a control op. Cloning shares it.
#[derive(Clone)]
pub struct Region(Arc<Graph>);

impl Region {
    /// A region around a graph.
    pub fn new(graph: Graph) -> Self {
        Self(Arc::new(graph))
    }

    /// The nodes of the inputs, in order.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = NodeId> + '_ {
        self.0.slots().iter().map(|slot| slot.node)
    }

    /// The types of what it yields, once it takes operands of these types: why it does not, otherwise.
    fn yields(&self, op: &str, operands: &[TensorType]) -> Result<Vec<TensorType>, Refusal> {
        let refuse = |kind, message: String| Err(Refusal::new(kind, message));
        if let Err(violations) = verify_region(self) {
            return refuse(
                Kind::Signature,
                format!("the body of `{op}` does not verify: {violations}"),
            );
        }
        let slots = self.0.slots();
        if slots.len() != operands.len() {
            return refuse(
                Kind::Signature,
                format!(
                    "the body of `{op}` takes {} values, but gets {}",
                    slots.len(),
                    operands.len()
                ),
            );
        }
        let named = |id: NodeId| self.0.node(id).map(|n| &n.ty);
        for (slot, given) in slots.iter().zip(operands) {
            if let Some(ty) = named(slot.node).filter(|ty| *ty != given) {
                return refuse(
                    Kind::Shape,
                    format!(
                        "`{}` in the body of `{op}` is {ty}, but gets {given}",
                        slot.name
                    ),
                );
            }
        }
        if slots.iter().any(|s| s.role != Role::Input) || !self.0.updates().is_empty() {
            return refuse(
                Kind::Signature,
                format!("the body of `{op}` has params, state or updates of its own"),
            );
        }
        for (_, node) in self.0.nodes() {
            match node.op.rules().effect() {
                Effect::Pure => {}
                Effect::Fallible | Effect::Host => {
                    let name = node.op.rules().name();
                    let message = format!("`{name}`, which may fail, in the body of `{op}`");
                    let help = "yield the condition, and `require` it behind the loop; let an index clamp or skip";
                    return Err(Refusal::new(Kind::Signature, message).help(help));
                }
            }
        }
        let outputs = self.0.outputs().iter().filter_map(|o| named(o.node));
        Ok(outputs.cloned().collect())
    }
}

impl Deref for Region {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        &self.0
    }
}

impl PartialEq for Region {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

thread_local! {
    /// How many regions are being read around the one at hand. Formats hand no context down, and a hostile file must not exhaust the stack.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Deeper;
        impl Drop for Deeper {
            fn drop(&mut self) {
                DEPTH.set(DEPTH.get() - 1);
            }
        }
        DEPTH.set(DEPTH.get() + 1);
        let _deeper = Deeper;
        if DEPTH.get() > DEEPEST {
            let message = format!("regions within regions, more than {DEEPEST} deep");
            return Err(serde::de::Error::custom(message));
        }
        Graph::deserialize(deserializer).map(Region::new)
    }
}
