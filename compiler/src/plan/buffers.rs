//! The buffer of every value.
//!
//! Sources have their own; so has the value of an output, and an update written in place has that of its target. Everything else lives in
//! the arena, and takes over the buffer of an operand that dies in the same kernel where the kernel may write over it.

use super::Bodies;
use super::alias::may_alias;
use super::entries::replaced;
use super::needs::Needs;
use super::schedule::{Item, Schedule};
use super::stacks::{carried, place_stacks};
use crate::kernel::ParamId;
use crate::lower::{CompoundShape, LoweredGroup, ParamSource};
use kiln_ir::ops::{ConstantValue, Op};
use kiln_ir::program::{Buffer, Home, LiveRange, root_of};
use kiln_ir::{BufferId, DType, Dim, Graph, NodeId, Role};
use std::collections::{BTreeMap, BTreeSet};

/// The buffers of a program.
pub(super) struct Homes {
    pub(super) buffers: Vec<Buffer>,
    /// For each node with memory, its buffer.
    pub(super) of: Vec<Option<BufferId>>,
    /// The buffers of carries that are stacked results, by the scan's node and the carry.
    pub(super) stacks: BTreeMap<(NodeId, usize), BufferId>,
    /// Those that several results lie in, and which stay as they are when one of these dies.
    pub(super) shared: BTreeSet<BufferId>,
}

impl Homes {
    pub(super) fn add(
        &mut self,
        name: String,
        dtype: DType,
        elements: Dim,
        home: Home,
    ) -> BufferId {
        self.buffers.push(Buffer {
            name,
            dtype,
            elements,
            home,
        });
        BufferId::new(self.buffers.len() - 1)
    }

    /// Whether a value may take the memory of another one that dies.
    fn is_free(&self, id: BufferId) -> bool {
        let root = root_of(&self.buffers, id);
        let memory = self.buffers.get(root.index());
        memory.is_some_and(|b| matches!(b.home, Home::Arena(_))) && !self.shared.contains(&root)
    }
}

pub(super) fn assign(
    graph: &Graph,
    groups: &[LoweredGroup],
    bodies: &Bodies,
    needs: &Needs,
    schedule: &Schedule,
) -> Homes {
    let mut homes = Homes {
        buffers: Vec::new(),
        of: vec![None; graph.len()],
        stacks: BTreeMap::new(),
        shared: BTreeSet::new(),
    };
    for slot in graph.slots() {
        let Some(node) = graph.node(slot.node) else {
            continue;
        };
        let home = match slot.role {
            Role::Input => Home::Input,
            Role::Param(_) | Role::State(_) => Home::Resident,
        };
        let buffer = homes.add(
            slot.name.clone(),
            node.ty.dtype,
            node.ty.shape.elements(),
            home,
        );
        homes.of[slot.node.index()] = Some(buffer);
    }
    for output in graph.outputs() {
        if let Some(node) = graph.node(output.node) {
            let elements = node.ty.shape.elements();
            let buffer = homes.add(output.name.clone(), node.ty.dtype, elements, Home::Output);
            homes.of[output.node.index()] = Some(buffer);
        }
    }
    for (id, node) in graph.nodes() {
        if let Op::Constant(constant) = &node.op
            && let ConstantValue::Dense(data) = &constant.value
        {
            let home = Home::Constant(data.bytes().into());
            let elements = node.ty.shape.elements();
            homes.of[id.index()] = Some(homes.add(id.to_string(), node.ty.dtype, elements, home));
        }
    }
    for (value, target) in schedule.in_place.iter().enumerate() {
        if let Some(target) = target {
            homes.of[value] = homes.of[target.index()];
        }
    }
    write_bases_to_outputs(graph, groups, needs, &mut homes);
    let last = last_uses(graph, needs, schedule);
    for (position, item) in schedule.items.iter().enumerate() {
        if let Item::Groups(together) = item {
            for group in together {
                let dies = |node: NodeId| {
                    let last = &last[node.index()];
                    last.position == position && last.group == Some(*group)
                };
                let operands = &needs.traffic[*group].operands;
                if let Some(compound) = &groups[*group].compound {
                    place_results(graph, compound, bodies, &dies, &mut homes);
                }
                place_group(graph, &groups[*group], operands, &dies, &mut homes);
            }
        }
    }
    homes
}

/// A tensor that is computed only for an output's parts to be written over it is computed where the output is.
fn write_bases_to_outputs(
    graph: &Graph,
    groups: &[LoweredGroup],
    needs: &Needs,
    homes: &mut Homes,
) {
    for (number, group) in groups.iter().enumerate() {
        let Some(over) = group.kernel.as_ref().and_then(|k| k.over.as_deref()) else {
            continue;
        };
        let Some(buffer) = homes.of[over.target.index()] else {
            continue;
        };
        let is_output = matches!(homes.buffers[buffer.index()].home, Home::Output);
        let only_reader = needs.readers[over.base.index()] == [number];
        let computed = needs.writer[over.base.index()].is_some();
        let free = homes.of[over.base.index()].is_none();
        if is_output
            && only_reader
            && computed
            && free
            && fits(graph, group, over.base, over.target)
        {
            homes.of[over.base.index()] = Some(buffer);
        }
    }
}

/// Who reads or writes a node last.
#[derive(Clone, Copy, Default)]
struct LastUse {
    /// The position of the item.
    position: usize,
    /// The group, if it is the only one there.
    group: Option<usize>,
}

/// For each node, its last use.
fn last_uses(graph: &Graph, needs: &Needs, schedule: &Schedule) -> Vec<LastUse> {
    let mut last = vec![LastUse::default(); graph.len()];
    let mut touched = vec![None; graph.len()];
    for (position, item) in schedule.items.iter().enumerate() {
        let mut touch = |node: NodeId, group: Option<usize>| {
            let (use_, seen) = (&mut last[node.index()], &mut touched[node.index()]);
            let alone = *seen != Some(position) || use_.group == group;
            *use_ = LastUse {
                position,
                group: group.filter(|_| alone),
            };
            *seen = Some(position);
        };
        match item {
            Item::Groups(together) => {
                for group in together {
                    let traffic = &needs.traffic[*group];
                    let all = [&traffic.loads[..], &traffic.operands, &traffic.writes];
                    for node in all.into_iter().flatten() {
                        touch(*node, Some(*group));
                    }
                }
            }
            Item::Guard(condition, _) => touch(*condition, None),
            Item::Writes(updates) => updates.iter().for_each(|u| touch(u.value, None)),
        }
    }
    last
}

fn place_group(
    graph: &Graph,
    group: &LoweredGroup,
    operands: &[NodeId],
    dies: &dyn Fn(NodeId) -> bool,
    homes: &mut Homes,
) {
    let written: Vec<NodeId> = group
        .kernel
        .iter()
        .flat_map(|k| k.kernel.params.iter().zip(&k.params))
        .filter(|(param, _)| param.access != crate::kernel::Access::Read)
        .filter_map(|(_, source)| match source {
            ParamSource::Node(node) => Some(*node),
            ParamSource::Scratch(..) | ParamSource::Blocks(..) => None,
        })
        .collect();
    // The product's result first: an output may be computed where it ends up, over the product.
    if let Some(product) = &group.product
        && homes.of[product.node().index()].is_none()
    {
        let product_dies = dies(product.node());
        let over = written.iter().copied().find(|root| {
            let buffer = homes.of[root.index()];
            let is_output =
                buffer.is_some_and(|b| matches!(homes.buffers[b.index()].home, Home::Output));
            product_dies && is_output && fits(graph, group, product.node(), *root)
        });
        homes.of[product.node().index()] = match over {
            Some(root) => homes.of[root.index()],
            None => Some(fresh(graph, product.node(), homes)),
        };
    }
    let mut taken: Vec<BufferId> = Vec::new();
    for root in written {
        if homes.of[root.index()].is_some() {
            continue;
        }
        let sources = group.kernel.iter().flat_map(|k| &k.params);
        let dying = sources.filter_map(|source| match source {
            ParamSource::Node(node) => Some((*node, homes.of[node.index()]?)),
            ParamSource::Scratch(..) | ParamSource::Blocks(..) => None,
        });
        let reused = dying
            .filter(|(node, buffer)| {
                dies(*node)
                    && *node != root
                    && homes.is_free(*buffer)
                    && !taken.contains(buffer)
                    && !shares(homes, operands, *buffer)
                    && fits(graph, group, *node, root)
            })
            .map(|(_, buffer)| buffer)
            .next();
        let buffer = match reused {
            Some(buffer) => buffer,
            None => fresh(graph, root, homes),
        };
        taken.push(buffer);
        homes.of[root.index()] = Some(buffer);
    }
}

/// Gives the results of a compound op memory: that of a scanned tensor that dies there, where the body may write over its entries.
fn place_results(
    graph: &Graph,
    compound: &CompoundShape,
    bodies: &Bodies,
    dies: &dyn Fn(NodeId) -> bool,
    homes: &mut Homes,
) {
    let op = graph.node(compound.node).map(|n| &n.op);
    let body = bodies.get(&compound.node).map(Vec::as_slice);
    let mut carries = Vec::new();
    if let Some(Op::Scan(scan)) = op {
        carries = carried(graph, compound.node, scan);
        place_stacks(graph, compound, scan, &carries, homes);
    }
    let mut taken: Vec<BufferId> = Vec::new();
    for (position, part) in &compound.parts {
        if homes.of[part.index()].is_some() {
            continue;
        }
        let entries = match (op, body) {
            (Some(Op::Scan(scan)), Some([body])) => replaced(scan, &carries, body, *position),
            (_, _) => Vec::new(),
        };
        let reused = entries.into_iter().find_map(|entry| {
            let node = compound.operands[entry];
            let buffer = homes.of[node.index()]?;
            let there = |o: &&NodeId| homes.of[o.index()] == Some(buffer);
            let alone = compound.operands.iter().filter(there).count() == 1;
            let free = dies(node) && homes.is_free(buffer) && alone && !taken.contains(&buffer);
            free.then_some(buffer)
        });
        let buffer = reused.unwrap_or_else(|| fresh(graph, *part, homes));
        taken.push(buffer);
        homes.of[part.index()] = Some(buffer);
    }
}

/// Whether one of the nodes lives in the buffer.
fn shares(homes: &Homes, nodes: &[NodeId], buffer: BufferId) -> bool {
    nodes.iter().any(|n| homes.of[n.index()] == Some(buffer))
}

/// Whether the group's kernel may write `to` over `from`.
fn fits(graph: &Graph, group: &LoweredGroup, from: NodeId, to: NodeId) -> bool {
    let (Some(a), Some(b)) = (graph.node(from), graph.node(to)) else {
        return false;
    };
    let same = a.ty.dtype == b.ty.dtype && a.ty.shape.elements() == b.ty.shape.elements();
    let Some(lowered) = &group.kernel else {
        return false;
    };
    let param = |node: NodeId| {
        let at = lowered
            .params
            .iter()
            .position(|s| *s == ParamSource::Node(node))?;
        Some(ParamId(at as u32))
    };
    match (param(from), param(to)) {
        (Some(a), Some(b)) => {
            let over = lowered.over.as_ref();
            let meant = over.is_some_and(|o| (o.base, o.target) == (from, to));
            same && (meant || may_alias(&lowered.kernel, a, b))
        }
        (_, _) => false,
    }
}

fn fresh(graph: &Graph, node: NodeId, homes: &mut Homes) -> BufferId {
    let (dtype, elements) = match graph.node(node) {
        Some(n) => (n.ty.dtype, n.ty.shape.elements()),
        None => (DType::Bool, Dim::from(0)),
    };
    let live = LiveRange { first: 0, last: 0 };
    homes.add(node.to_string(), dtype, elements, Home::Arena(live))
}
