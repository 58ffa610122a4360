//! What each group reads and writes, and who depends on whom.

use crate::lower::{LoweredGroup, ParamSource};
use kiln_ir::{Graph, NodeId};

/// A group's memory traffic: nodes, each once.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    /// Read by the kernel.
    pub(super) loads: Vec<NodeId>,
    /// Read by the product.
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
}

impl Needs {
    pub(super) fn new(graph: &Graph, groups: &[LoweredGroup]) -> Self {
        let mut needs = Needs {
            traffic: groups.iter().map(traffic).collect(),
            writer: vec![None; graph.len()],
            readers: vec![Vec::new(); graph.len()],
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

fn traffic(group: &LoweredGroup) -> Traffic {
    let mut traffic = Traffic::default();
    if let Some(product) = &group.product {
        traffic.operands = product.operands().to_vec();
        traffic.operands.dedup();
        traffic.writes.push(product.node());
    }
    if let Some(lowered) = &group.kernel {
        for (param, source) in lowered.kernel.params.iter().zip(&lowered.params) {
            let ParamSource::Node(node) = source else {
                continue;
            };
            match param.access {
                crate::kernel::Access::Read => traffic.loads.push(*node),
                crate::kernel::Access::Write | crate::kernel::Access::ReadWrite => {
                    traffic.writes.push(*node);
                }
            }
        }
    }
    traffic
}
