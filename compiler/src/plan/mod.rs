//! From lowered groups to a [`Program`]: the order of steps, the memory of every value, and the launches.
//!
//! Three questions are answered one after the other. Which updates are written in place, and in which order do the groups run
//! (`schedule.rs`)? Which buffer does each value live in (`buffers.rs`)? What are the steps (`assemble.rs`)? Offsets within the arena are
//! not decided here: they depend on the binding and come from `kiln_ir::program::place`.

use crate::kernel::Kernel;
use crate::lower::LoweredGroup;
use crate::options::Order;
use kiln_ir::Graph;
use kiln_ir::program::{Program, Requirement};

mod alias;
mod assemble;
mod buffers;
mod needs;
mod requirements;
mod schedule;
mod sinks;

pub(crate) use requirements::requirements;
pub(crate) use sinks::separate_sinks;

/// A program with the kernels that it calls; a kernel id is a position in both lists.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) program: Program,
    pub(crate) kernels: Vec<Kernel>,
}

/// Plans the groups of a graph whose sinks are separate (see [`separate_sinks`]). What sizes must meet comes from the graph as the user
/// gave it (see [`requirements()`]), so that no pass can lose it.
pub(crate) fn plan(
    graph: &Graph,
    groups: &[LoweredGroup],
    requirements: Vec<Requirement>,
    order: Order,
) -> Planned {
    let needs = needs::Needs::new(graph, groups);
    let schedule = schedule::schedule(graph, groups, &needs, order);
    let homes = buffers::assign(graph, groups, &needs, &schedule);
    assemble::assemble(graph, groups, &schedule, homes, requirements)
}
