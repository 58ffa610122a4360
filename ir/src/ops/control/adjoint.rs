//! The vjps of `scan` and `cond`: control ops whose bodies are the pullbacks of the bodies.
//!
//! The adjoint of a scan is a scan in the other direction. Its body computes the iteration again from what the forward pass has kept, and
//! pulls the cotangents of what the iteration yielded back to what it took. The cotangents of carries are its carries, those of entries are
//! stacked, and those of captured values are summed: behind the loop where a product of stacked values gives the sum ([`Sum`]), else in a
//! carry. So that the forward pass keeps what is needed, its scan stacks further results: the op of its node is replaced by one that has
//! them behind the old ones, which changes nothing for whoever reads those.

mod branch;

pub(super) use branch::cond;

use super::prune::{extract, reached};
use super::sink::Sum;
use super::{Region, Save, Scan};
use crate::autodiff::pullback;
use crate::builder::{Builder, Tensor};
use crate::graph::{Graph, Output};
use crate::ids::NodeId;
use crate::ops::{Cost, Op, Part, Source, Vjp};
use crate::provenance::Origin;
use crate::types::TensorType;
use std::collections::{BTreeMap, BTreeSet};

/// A body computed again within the body of an adjoint.
struct Replay<'b> {
    /// The sources, in order.
    sources: Vec<Tensor<'b>>,
    /// The yielded values, in order.
    yielded: Vec<Tensor<'b>>,
    /// The node of the old body that each node stands for.
    origin: BTreeMap<NodeId, NodeId>,
}

/// Appends the nodes of `region` to the graph of `builder`, with sources for its inputs.
fn replay<'b>(builder: &'b Builder, region: &Region) -> Replay<'b> {
    let mut map: Vec<Option<Tensor<'b>>> = vec![None; region.len()];
    let mut sources = Vec::new();
    for slot in region.slots() {
        let ty = region.node(slot.node).map(|n| n.ty.clone());
        let source = match ty {
            Some(ty) => builder.body_source(&slot.name, Source { ty }),
            None => builder.poison(),
        };
        if let Some(place) = map.get_mut(slot.node.index()) {
            *place = Some(source);
        }
        sources.push(source);
    }
    let mut origin = BTreeMap::new();
    for (id, node) in region.nodes() {
        if map[id.index()].is_some() {
            continue;
        }
        let operands: Vec<Tensor<'b>> = node
            .operands
            .iter()
            .map(|o| map[o.index()].unwrap_or_else(|| builder.poison()))
            .collect();
        let copy = builder.on_behalf(&node.provenance, Origin::User, || {
            builder.push(node.op.clone(), &operands)
        });
        if let Some(copy) = copy.id() {
            origin.insert(copy, id);
        }
        map[id.index()] = Some(copy);
    }
    let outputs = region.outputs().iter();
    let yielded = outputs.map(|o| map[o.node.index()].unwrap_or_else(|| builder.poison()));
    Replay {
        yielded: yielded.collect(),
        sources,
        origin,
    }
}

/// Whether it is cheaper to keep the value of a node than to compute it again.
fn is_costly(op: &Op) -> bool {
    match op {
        Op::Unary(op) => op.cost() == Cost::Long,
        Op::Binary(op) => op.cost() == Cost::Long,
        Op::Dot(_)
        | Op::Conv(_)
        | Op::Reduce(_)
        | Op::Arg(_)
        | Op::ReduceWindow(_)
        | Op::ArgWindow(_)
        | Op::Cumulative(_)
        | Op::Part(_)
        | Op::Scatter(_)
        | Op::ScatterWindow(_)
        | Op::Sort(_)
        | Op::Argsort(_) => true,
        Op::Compare(_)
        | Op::Select(_)
        | Op::Fma(_)
        | Op::Convert(_)
        | Op::Bitcast(_)
        | Op::Require(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::StopGradient(_)
        | Op::Constant(_)
        | Op::Iota(_)
        | Op::DimSize(_)
        | Op::Broadcast(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdateSlice(_)
        | Op::Source(_)
        | Op::Gather(_)
        | Op::GatherWindow(_)
        | Op::RngBits(_) => false,
        // What they give are parts, which are kept.
        Op::Scan(_) | Op::While(_) | Op::Cond(_) | Op::CustomCall(_) => false,
    }
}

/// The nodes that differ from one iteration to another: those that depend on a source which does.
fn varying(graph: &Graph, captured: &[NodeId]) -> Vec<bool> {
    let mut varies = vec![false; graph.len()];
    for (id, node) in graph.nodes() {
        varies[id.index()] = match node.op {
            Op::Source(_) => !captured.contains(&id),
            _ => node.operands.iter().any(|o| varies[o.index()]),
        };
    }
    varies
}

fn zeros<'g>(builder: &'g Builder, ty: &TensorType) -> Tensor<'g> {
    builder.splat(ty.dtype, &ty.shape, 0.0)
}

/// What the body of an adjoint scan takes and yields, by nodes of its graph under construction.
#[derive(Default)]
struct Frame<'g> {
    /// Carries: the source, the first value, and the next value.
    carries: Vec<(NodeId, Tensor<'g>, NodeId)>,
    /// Entries: the source, and the stacked tensor.
    entries: Vec<(NodeId, Tensor<'g>)>,
    /// Captured values: the source, and the value.
    captured: Vec<(NodeId, Tensor<'g>)>,
    /// What is stacked.
    stacked: Vec<NodeId>,
}

impl Frame<'_> {
    /// The position of a node among the results, as something that is stacked.
    fn stack(&mut self, id: NodeId) -> usize {
        let known = self.stacked.iter().position(|s| *s == id);
        known.unwrap_or_else(|| {
            self.stacked.push(id);
            self.stacked.len() - 1
        })
    }
}

/// How the cotangent of an operand comes out of the adjoint scan.
enum Flow {
    None,
    Carry(usize),
    Stacked(usize),
    Sum(Sum),
}

pub(super) fn scan<'g>(op: &Scan, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
    let builder = cx.result.builder();
    let none = vec![None; cx.operands.len()];
    let Some(node) = cx.result.id() else {
        return none;
    };
    let nested = builder.nested_adjoint();
    let again = replay(&nested, &op.body);
    let own = op.carries + op.scanned;
    let types: Option<Vec<TensorType>> = again.sources.iter().map(|s| s.ty()).collect();
    let Some(types) = types else {
        builder.adopt(&nested);
        return none;
    };
    let mut frame = Frame::default();
    // The cotangents of what the iteration yields.
    let mut seeds = Vec::new();
    let mut carried: Vec<Option<NodeId>> = vec![None; op.carries];
    for (position, value) in again.yielded.iter().enumerate() {
        let cotangent = cx.cotangents.get(position).copied().flatten();
        let ty = value.ty().filter(|ty| ty.dtype.is_float());
        let Some(ty) = ty else { continue };
        let source = |name: &str| nested.body_source(name, Source { ty: ty.clone() });
        if position < op.carries {
            let source = source("carry_cotangent");
            carried[position] = source.id();
            seeds.push((*value, source));
        } else if let Some(cotangent) = cotangent {
            let source = source("cotangent");
            seeds.push((*value, source));
            if let Some(id) = source.id() {
                frame.entries.push((id, cotangent));
            }
        }
    }
    let wanted = |position: usize| {
        let carry = position < op.carries;
        let asked = carry || cx.wanted.get(position).copied().unwrap_or(false);
        asked && types[position].dtype.is_float()
    };
    let wrt: Vec<usize> = (0..types.len()).filter(|p| wanted(*p)).collect();
    let targets: Vec<Tensor<'_>> = wrt.iter().map(|p| again.sources[*p]).collect();
    let mut pulled: Vec<Option<NodeId>> = vec![None; types.len()];
    for (position, flow) in wrt.iter().zip(pullback(&nested, &seeds, &targets)) {
        pulled[*position] = flow.and_then(Tensor::id);
    }
    // Carries first: their cotangents go from iteration to iteration.
    for (position, source) in carried.iter().enumerate() {
        let Some(source) = *source else { continue };
        let ty = &types[position];
        let next = pulled[position].or_else(|| zeros(&nested, ty).id());
        let first = cx.cotangents.get(position).copied().flatten();
        let first = first.unwrap_or_else(|| zeros(builder, ty));
        if let Some(next) = next {
            frame.carries.push((source, first, next));
        }
    }
    // What is appended from here on, no cotangent depends on.
    let pulled_back = nested.snapshot();
    let captured: Vec<NodeId> = again.sources[own..].iter().filter_map(|s| s.id()).collect();
    let varies = varying(&pulled_back, &captured);
    let mut flows: Vec<Flow> = Vec::new();
    let mut at = 0;
    for (position, id) in pulled.iter().enumerate() {
        let flow = if position < op.carries {
            at += usize::from(carried[position].is_some());
            match carried[position] {
                Some(_) => Flow::Carry(at - 1),
                None => Flow::None,
            }
        } else {
            match id {
                None => Flow::None,
                Some(id) if position < own => Flow::Stacked(frame.stack(*id)),
                Some(id) => {
                    let behind = match op.save {
                        Save::Results | Save::Carries => {
                            Sum::of(&pulled_back, *id, &|id| varies[id.index()])
                        }
                        Save::Least => None,
                    };
                    match behind {
                        Some(sum) => Flow::Sum(sum),
                        None => accumulated(&nested, *id, &types[position], builder, &mut frame),
                    }
                }
            }
        };
        flows.push(flow);
    }
    let body = nested.snapshot();
    let mut leaves = Vec::new();
    for flow in &flows {
        if let Flow::Sum(sum) = flow {
            sum.leaves(&mut leaves);
        }
    }
    let mut forward = Forward {
        op,
        builder,
        node,
        again: &again,
        own,
    };
    forward.keep(&body, &mut frame, &leaves, cx);
    let leaf_places: BTreeMap<NodeId, Leaf<'g>> = leaves
        .iter()
        .map(|leaf| {
            let outside = frame.entries.iter().find(|(id, _)| id == leaf);
            let place = match outside {
                Some((_, whole)) => Leaf::Whole(*whole),
                None => Leaf::Stacked(frame.stack(*leaf)),
            };
            (*leaf, place)
        })
        .collect();
    let parts = build(op, builder, &body, &frame);
    builder.adopt(&nested);
    let Some(parts) = parts else { return none };
    let stacked = |position: usize| parts[frame.carries.len() + position];
    let leaf = |id: NodeId| match leaf_places.get(&id) {
        Some(Leaf::Whole(whole)) => *whole,
        Some(Leaf::Stacked(position)) => stacked(*position),
        None => builder.poison(),
    };
    let flow = |flow: &Flow| match flow {
        Flow::None => None,
        Flow::Carry(position) => Some(parts[*position]),
        Flow::Stacked(position) => Some(stacked(*position)),
        Flow::Sum(sum) => Some(sum.build(builder, &body, &leaf)),
    };
    flows.iter().map(flow).collect()
}

/// Where a stacked value that is summed behind the loop comes from.
enum Leaf<'g> {
    /// It is there already.
    Whole(Tensor<'g>),
    /// The adjoint scan stacks it.
    Stacked(usize),
}

/// The sum of a cotangent of a captured value over the iterations, in a carry of its own.
fn accumulated<'g>(
    nested: &Builder,
    id: NodeId,
    ty: &TensorType,
    builder: &'g Builder,
    frame: &mut Frame<'g>,
) -> Flow {
    let source = nested.body_source("sum", Source { ty: ty.clone() });
    let next = source + nested.tensor(id);
    match (source.id(), next.id()) {
        (Some(source), Some(next)) => {
            frame.carries.push((source, zeros(builder, ty), next));
            Flow::Carry(frame.carries.len() - 1)
        }
        _ => Flow::None,
    }
}

/// The forward scan, and where it stands.
struct Forward<'a, 'g> {
    op: &'a Scan,
    builder: &'g Builder,
    node: NodeId,
    again: &'a Replay<'a>,
    own: usize,
}

impl<'g> Forward<'_, 'g> {
    /// Makes entries of what the adjoint's body needs of the forward pass: the scanned tensors, carries and results that the forward scan
    /// has to stack, and the captured values.
    fn keep(&mut self, body: &Graph, frame: &mut Frame<'g>, leaves: &[NodeId], cx: &Vjp<'g>) {
        let captured = self.again.sources[self.own..].iter();
        let captured: Vec<NodeId> = captured.filter_map(|s| s.id()).collect();
        let varies = varying(body, &captured);
        // What the forward scan stacks anyway costs nothing to keep.
        let stacks: BTreeSet<NodeId> = (self.again.yielded.iter().skip(self.op.carries))
            .filter_map(|t| t.id())
            .collect();
        let kept = |id: NodeId| {
            let worth = match self.op.save {
                Save::Results => body.node(id).is_some_and(|n| is_costly(&n.op)),
                Save::Carries | Save::Least => stacks.contains(&id),
            };
            worth && varies[id.index()] && self.again.origin.contains_key(&id)
        };
        let mut roots: Vec<NodeId> = frame.carries.iter().map(|(_, _, next)| *next).collect();
        roots.extend(frame.stacked.iter().chain(leaves));
        let live: BTreeSet<NodeId> = reached(body, &roots, &kept);
        let mut stacked: Vec<(NodeId, NodeId)> = Vec::new();
        for (position, source) in self.again.sources.iter().enumerate() {
            let Some(id) = source.id().filter(|id| live.contains(id)) else {
                continue;
            };
            if position < self.op.carries {
                stacked.extend(self.op.source(position).map(|of| (id, of)));
            } else if position < self.own {
                frame.entries.push((id, cx.operands[position]));
            } else {
                frame.captured.push((id, cx.operands[position]));
            }
        }
        for (id, of) in &self.again.origin {
            if live.contains(id) && kept(*id) {
                stacked.push((*id, *of));
            }
        }
        let wanted: Vec<NodeId> = stacked.iter().map(|(_, of)| *of).collect();
        for ((id, _), whole) in stacked.iter().zip(self.extend(&wanted)) {
            frame.entries.push((*id, whole));
        }
    }

    /// The stacked values of nodes of the forward body. The scan's node gets an op that stacks them, if it does not yet.
    fn extend(&self, nodes: &[NodeId]) -> Vec<Tensor<'g>> {
        // The node may have been extended before, by another gradient, so that its op is newer than the one that is differentiated.
        let node = self.builder.node(self.node);
        let Some(Op::Scan(current)) = node.map(|n| n.op) else {
            return nodes.iter().map(|_| self.builder.poison()).collect();
        };
        let mut body: Graph = (*current.body).clone();
        let mut indices = Vec::with_capacity(nodes.len());
        for id in nodes {
            let outputs = body.outputs();
            let stacked = outputs.iter().skip(current.carries);
            let known = stacked.clone().position(|o| o.node == *id);
            indices.push(current.carries + known.unwrap_or_else(|| stacked.count()));
            if known.is_none() {
                let name = unused(&body);
                body.push_output(Output { name, node: *id });
            }
        }
        let scan = Scan {
            body: Region::new(body),
            ..current
        };
        let whole = |id: &NodeId| scan.body.node(*id).map(|n| scan.whole(&n.ty));
        let types: Vec<Option<TensorType>> = nodes.iter().map(whole).collect();
        self.builder.replace_op(self.node, scan.into());
        let of = self.builder.tensor(self.node);
        let parts = indices.into_iter().zip(types).map(|(index, ty)| match ty {
            Some(ty) => self.builder.push_part(of, Part { index, ty }),
            None => self.builder.poison(),
        });
        parts.collect()
    }
}

/// A name that no output has.
fn unused(graph: &Graph) -> String {
    let taken = |name: &str| graph.outputs().iter().any(|o| o.name == name);
    let mut number = graph.outputs().len();
    while taken(&number.to_string()) {
        number += 1;
    }
    number.to_string()
}

/// The adjoint scan; its results in order, `None` where there is nothing to compute.
fn build<'g>(
    op: &Scan,
    builder: &'g Builder,
    body: &Graph,
    frame: &Frame<'g>,
) -> Option<Vec<Tensor<'g>>> {
    let name = |id: NodeId| {
        let slot = body.slots().iter().find(|s| s.node == id);
        (
            id,
            slot.map_or_else(|| "kept".to_owned(), |s| s.name.clone()),
        )
    };
    let carries = frame.carries.iter().map(|(id, _, _)| *id);
    let entries = frame.entries.iter().map(|(id, _)| *id);
    let captured = frame.captured.iter().map(|(id, _)| *id);
    let sources: Vec<(NodeId, String)> = carries.chain(entries).chain(captured).map(name).collect();
    let next = frame.carries.iter().map(|(_, _, next)| *next);
    let outputs: Vec<NodeId> = next.chain(frame.stacked.iter().copied()).collect();
    if outputs.is_empty() {
        return None;
    }
    let scan = Scan {
        body: Region::new(extract(body, "adjoint", &sources, &outputs)),
        carries: frame.carries.len(),
        scanned: frame.entries.len(),
        trip: op.trip.clone(),
        reverse: !op.reverse,
        save: op.save,
    };
    let first = frame.carries.iter().map(|(_, first, _)| *first);
    let entries = frame.entries.iter().map(|(_, whole)| *whole);
    let captured = frame.captured.iter().map(|(_, value)| *value);
    let operands: Vec<Tensor<'g>> = first.chain(entries).chain(captured).collect();
    Some(builder.push_compound(scan, &operands))
}
