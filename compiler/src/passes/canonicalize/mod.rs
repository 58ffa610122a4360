//! Canonical forms, so that later phases meet one spelling of each thing, and the algebra that is exact bit for bit.
//!
//! The rules are named and stand in families, one a file. Each makes its node simpler by one measure (fewer nodes, constants further
//! right, transposes on smaller tensors), so they cannot undo each other. What is missing here is missing on purpose: `x * 0`, `x - x`
//! and `x + 0.0` of floats are not exact for NaN, infinities or -0.0.

use super::rewrite::{Rule, apply_rules};
use super::{Numerics, Pass, PassCx, PassError};
use kiln_ir::Graph;

mod algebra;
mod axes;
mod choice;
mod movement;

pub(super) use movement::MOVEMENT;

/// The families, in the order in which their rules are tried.
pub(super) const FAMILIES: [&[Rule]; 3] = [MOVEMENT, choice::CHOICE, algebra::ALGEBRA];

/// Brings nodes to their canonical form.
#[derive(Clone, Copy, Debug)]
pub struct Canonicalize;

impl Pass for Canonicalize {
    fn name(&self) -> &'static str {
        "canonicalize"
    }

    fn numerics(&self) -> Numerics {
        Numerics::Exact
    }

    fn run(&self, graph: &Graph, _: &PassCx<'_>) -> Result<Graph, PassError> {
        apply_rules(graph, self.name(), &FAMILIES)
    }
}
