//! From lowered groups to a [`Program`]: the order of steps, the memory of every value, and the launches.
//!
//! Questions are answered one after the other. Which updates are written in place (`schedule.rs`), in which order do the groups run, and
//! which of them share a launch (`order.rs`)? Which buffer does each value live in (`buffers.rs`)? What are the steps (`assemble.rs`), and
//! which kernels differ only in how many elements they walk (`extents.rs`)? Offsets within the arena are not decided here: they depend on
//! the binding and come from `kiln_ir::program::place`.

use crate::kernel::Kernel;
use crate::lower::LoweredGroup;
use crate::options::Options;
use kiln_ir::program::{Program, Requirement};
use kiln_ir::{Graph, NodeId};
use std::collections::BTreeMap;

mod alias;
mod assemble;
mod buffers;
mod control;
mod custom;
mod entries;
mod extents;
mod live;
mod needs;
mod order;
mod requirements;
mod schedule;
mod sinks;
mod stacks;

pub(crate) use control::without_carried;
pub(crate) use requirements::requirements;
pub(crate) use sinks::separate_sinks;

/// A program with the kernels that it calls; a kernel id is a position in both lists.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) program: Program,
    pub(crate) kernels: Vec<Kernel>,
}

/// What the regions of control ops have become, by the node of the op.
pub(crate) type Bodies = BTreeMap<NodeId, Vec<Planned>>;

/// Plans the groups of a graph whose sinks are separate (see [`separate_sinks`]). What sizes must meet comes from the graph as the user
/// gave it (see [`requirements()`]), so that no pass can lose it.
///
/// `bodies` holds what the regions of each control op have become, by its node: programs of their own, of the regions as [`without_carried()`]
/// leaves them. Their steps become steps of this program.
pub(crate) fn plan(
    graph: &Graph,
    groups: &[LoweredGroup],
    bodies: &Bodies,
    requirements: Vec<Requirement>,
    options: &Options,
) -> Planned {
    let needs = needs::Needs::new(graph, groups);
    let schedule = schedule::schedule(graph, groups, &needs, options);
    let homes = buffers::assign(graph, groups, bodies, &needs, &schedule);
    assemble::assemble(graph, groups, bodies, &schedule, homes, requirements)
}
