//! Custom calls as steps.

use super::Access;
use crate::dim::Dim;
use crate::ids::BufferId;
use crate::ops::CustomCall;
use crate::types::TensorType;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Calls a custom op on whole tensors, on the thread that runs the steps. The op is looked up when the program is loaded. The step is
/// refused where it fails, so all custom calls come before the first write to a resident, as guards do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Custom {
    /// What is called, for people.
    pub name: String,
    /// The op, its attributes and the types of its results.
    pub call: CustomCall,
    /// The operands.
    pub inputs: Vec<Argument>,
    /// Where the results go: one buffer for each, and none is another one or an operand.
    pub outputs: Vec<BufferId>,
    /// The user's line and scope.
    pub location: String,
}

/// A tensor that a custom call reads: all elements of a buffer, row-major.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Argument {
    /// The buffer.
    pub buffer: BufferId,
    /// Its type and extents.
    pub ty: TensorType,
}

impl Custom {
    /// The types of the operands.
    pub fn operands(&self) -> Vec<&TensorType> {
        self.inputs.iter().map(|input| &input.ty).collect()
    }

    /// Every tensor, each with its buffer and what the call does with it: operands, then results.
    pub fn tensors(&self) -> impl Iterator<Item = (BufferId, &TensorType, Access)> {
        let read = self.inputs.iter().map(|i| (i.buffer, &i.ty, Access::Read));
        let results = self.outputs.iter().zip(&self.call.results);
        read.chain(results.map(|(buffer, ty)| (*buffer, ty, Access::Write)))
    }

    pub(super) fn visit_dims(&self, visit: &mut dyn FnMut(&Dim)) {
        let types = self.tensors().map(|(_, ty, _)| ty);
        types.flat_map(|ty| ty.shape.iter()).for_each(visit);
    }
}

impl fmt::Display for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "custom call {:?} of {:?}", self.name, self.call.target)?;
        for (name, value) in self.call.attributes.iter() {
            write!(f, " {name}={value:?}")?;
        }
        for (buffer, ty, access) in self.tensors() {
            let word = if access.writes() { "writes" } else { "reads" };
            write!(f, "\n     {word} {buffer}: {ty}")?;
        }
        writeln!(f)
    }
}
