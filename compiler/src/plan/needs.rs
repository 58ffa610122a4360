//! What each group reads and writes, and who depends on whom.

use crate::kernel::Access;
use crate::lower::{LoweredGroup, ParamSource};
use kiln_ir::{Graph, NodeId};
use std::collections::BTreeMap;

/// A group's memory traffic: nodes, each once.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    /// Read by the kernel.
    pub(super) loads: Vec<NodeId>,
    /// Read by the product, or taken by the compound op.
    pub(super) operands: Vec<NodeId>,
    /// Written, the product's result included.
    pub(super) writes: Vec<NodeId>,
}

impl Traffic {
    /// What the group reads, by its kernel or its product, each once.
    pub(super) fn reads(&self) -> Vec<NodeId> {
        let mut reads = [&self.loads[..], &self.operands].concat();
        reads.sort_unstable();
        reads.dedup();
        reads
    }
}

/// Reads and writes of all groups.
#[derive(Clone, Debug)]
pub(super) struct Needs {
    /// By group.
    pub(super) traffic: Vec<Traffic>,
    /// For each node, the group that writes it.
    pub(super) writer: Vec<Option<usize>>,
    /// For each node, the groups that read it from memory; the group that also writes it is not among them.
    pub(super) readers: Vec<Vec<usize>>,
    /// Groups that fold blocks on the side, each with one that finishes what it has begun.
    pub(super) finishes: Vec<(usize, usize)>,
}

impl Needs {
    pub(super) fn new(graph: &Graph, groups: &[LoweredGroup]) -> Self {
        let mut needs = Needs {
            traffic: groups.iter().map(traffic).collect(),
            writer: vec![None; graph.len()],
            readers: vec![Vec::new(); graph.len()],
            finishes: finishes(groups),
        };
        for (group, traffic) in needs.traffic.iter().enumerate() {
            for node in &traffic.writes {
                needs.writer[node.index()] = Some(group);
            }
        }
        for (group, traffic) in needs.traffic.iter().enumerate() {
            for node in traffic.reads() {
                if needs.writer[node.index()] != Some(group) {
                    needs.readers[node.index()].push(group);
                }
            }
        }
        needs
    }
}

/// The groups that share blocks: first the one that writes them, then the one that reads them.
fn finishes(groups: &[LoweredGroup]) -> Vec<(usize, usize)> {
    let mut shared: BTreeMap<NodeId, [Option<usize>; 2]> = BTreeMap::new();
    for (group, lowered) in groups.iter().enumerate() {
        if let Some(kernel) = &lowered.kernel {
            for (param, source) in kernel.kernel.params.iter().zip(&kernel.params) {
                if let ParamSource::Blocks(node, ..) = source {
                    let reads = usize::from(param.access == Access::Read);
                    shared.entry(*node).or_default()[reads] = Some(group);
                }
            }
        }
    }
    let both = shared.into_values().filter_map(|[a, b]| Some((a?, b?)));
    both.collect()
}

fn traffic(group: &LoweredGroup) -> Traffic {
    let mut traffic = Traffic::default();
    if let Some(product) = &group.product {
        traffic.operands = product.operands().to_vec();
        traffic.operands.dedup();
        traffic.writes.push(product.node());
    }
    if let Some(compound) = &group.compound {
        traffic.operands.clone_from(&compound.operands);
        traffic.operands.sort_unstable();
        traffic.operands.dedup();
        traffic
            .writes
            .extend(compound.parts.iter().map(|(_, id)| *id));
    }
    if let Some(lowered) = &group.kernel {
        for (param, source) in lowered.kernel.params.iter().zip(&lowered.params) {
            let ParamSource::Node(node) = source else {
                continue;
            };
            match param.access {
                Access::Read => traffic.loads.push(*node),
                Access::Write | Access::ReadWrite => {
                    traffic.writes.push(*node);
                }
            }
        }
    }
    traffic
}
