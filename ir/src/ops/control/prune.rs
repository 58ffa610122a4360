//! Regions cut out of graphs, and scans without what nobody reads.

use super::{Region, Scan};
use crate::graph::{Graph, Node, Output, Role, Slot};
use crate::ids::NodeId;
use crate::ops::Source;
use crate::provenance::{Location, Origin, Provenance};
use crate::types::TensorType;
use std::collections::BTreeSet;

/// The provenance of what no line of a user made.
pub(super) fn nowhere() -> Provenance {
    Provenance {
        location: Location {
            file: "kiln".into(),
            line: 1,
            column: 1,
        },
        scope: "".into(),
        origin: Origin::User,
    }
}

/// Appends a source with its slot, an input.
pub(super) fn push_source(graph: &mut Graph, name: &str, ty: TensorType) -> NodeId {
    source(graph, name, ty, nowhere())
}

fn source(graph: &mut Graph, wanted: &str, ty: TensorType, provenance: Provenance) -> NodeId {
    let mut name = wanted.to_owned();
    let mut number = 0usize;
    while graph.slots().iter().any(|slot| slot.name == name) {
        number += 1;
        name = format!("{wanted}.{number}");
    }
    let node = graph.push(Node {
        op: Source { ty: ty.clone() }.into(),
        operands: Vec::new(),
        ty,
        provenance,
    });
    let role = Role::Input;
    graph.push_slot(Slot { name, role, node });
    node
}

/// The nodes from which `outputs` are computed, themselves included, where what `given` says is not looked behind.
pub(super) fn reached(
    graph: &Graph,
    outputs: &[NodeId],
    given: &dyn Fn(NodeId) -> bool,
) -> BTreeSet<NodeId> {
    let mut found: BTreeSet<NodeId> = outputs.iter().copied().collect();
    for (id, node) in graph.nodes().rev() {
        if found.contains(&id) && !given(id) {
            found.extend(node.operands.iter().copied());
        }
    }
    found
}

impl Region {
    /// A region of this one: the function of `sources` that computes `outputs`, whatever nodes the sources are here. They are its inputs, in
    /// order, under these names or ones that begin with them. Everything that the outputs are computed from must be behind a source.
    pub fn cut(&self, sources: &[(NodeId, String)], outputs: &[NodeId]) -> Region {
        Region::new(extract(self, &self.name, sources, outputs))
    }
}

/// As [`Region::cut`], of any graph.
pub(super) fn extract(
    graph: &Graph,
    name: &str,
    sources: &[(NodeId, String)],
    outputs: &[NodeId],
) -> Graph {
    let given = |id: NodeId| sources.iter().any(|(source, _)| *source == id);
    let live = reached(graph, outputs, &given);
    let mut new = Graph::empty(name);
    let mut map: Vec<Option<NodeId>> = vec![None; graph.len()];
    for (id, name) in sources {
        if let Some(node) = graph.node(*id) {
            let place = node.provenance.clone();
            map[id.index()] = Some(source(&mut new, name, node.ty.clone(), place));
        }
    }
    for (id, node) in graph.nodes() {
        if !live.contains(&id) || map[id.index()].is_some() {
            continue;
        }
        let operands = node.operands.iter().filter_map(|o| map[o.index()]);
        let mut provenance = node.provenance.clone();
        if let Origin::Vjp(of) = provenance.origin {
            let of = map.get(of.index()).copied().flatten();
            provenance.origin = of.map_or(Origin::User, Origin::Vjp);
        }
        map[id.index()] = Some(new.push(Node {
            op: node.op.clone(),
            operands: operands.collect(),
            ty: node.ty.clone(),
            provenance,
        }));
    }
    for (position, id) in outputs.iter().enumerate() {
        if let Some(node) = map[id.index()] {
            let name = position.to_string();
            new.push_output(Output { name, node });
        }
    }
    new
}

/// A scan without what nobody reads, and which operands and results of the old one it keeps, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruned {
    /// The smaller scan.
    pub scan: Scan,
    /// The positions of the operands that it keeps.
    pub operands: Vec<usize>,
    /// The positions of the results that it keeps.
    pub results: Vec<usize>,
}

impl Scan {
    /// The scan that computes only the results for which `read` holds, and the carries that these need. `None` where nothing can go, or
    /// nothing is read.
    pub fn pruned(&self, read: &dyn Fn(usize) -> bool) -> Option<Pruned> {
        let outputs: Vec<NodeId> = self.body.outputs().iter().map(|o| o.node).collect();
        let sources: Vec<NodeId> = self.body.inputs().collect();
        let mut kept: BTreeSet<usize> = (0..outputs.len()).filter(|r| read(*r)).collect();
        // A carry that a kept value reads is needed itself, and what it is computed from.
        let live = loop {
            let roots: Vec<NodeId> = kept.iter().map(|r| outputs[*r]).collect();
            let live = reached(&self.body, &roots, &|_| false);
            let carried = (0..self.carries).filter(|c| live.contains(&sources[*c]));
            let before = kept.len();
            kept.extend(carried);
            if kept.len() == before {
                break live;
            }
        };
        let operands: Vec<usize> = (0..sources.len())
            .filter(|position| {
                kept.contains(position) && *position < self.carries
                    || *position >= self.carries && live.contains(&sources[*position])
            })
            .collect();
        let results: Vec<usize> = kept.into_iter().collect();
        let whole = operands.len() == sources.len() && results.len() == outputs.len();
        if whole && live.len() == self.body.len() || results.is_empty() {
            return None;
        }
        let named: Vec<(NodeId, String)> = operands
            .iter()
            .map(|p| (sources[*p], self.body.slots()[*p].name.clone()))
            .collect();
        let roots: Vec<NodeId> = results.iter().map(|r| outputs[*r]).collect();
        let body = self.body.cut(&named, &roots);
        let among = |range: std::ops::Range<usize>| {
            let inside = |p: &&usize| range.contains(*p);
            operands.iter().filter(inside).count()
        };
        let scan = Scan {
            body,
            carries: among(0..self.carries),
            scanned: among(self.carries..self.carries + self.scanned),
            trip: self.trip.clone(),
            reverse: self.reverse,
            save: self.save,
        };
        Some(Pruned {
            scan,
            operands,
            results,
        })
    }
}
