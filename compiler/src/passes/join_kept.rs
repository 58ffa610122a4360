//! What a loop keeps for the gradient of each part of an entry becomes one tensor, of the type of the entry.
//!
//! A recurrent layer computes its gates from the parts of one entry, and its gradient wants each of them. Kept one by one they are tensors
//! of their own beside the entries, which are read for the last time in the same iteration. Joined in the order of the parts they are as
//! large as the entry that they come from, so that the plan can write them over it, and over them the gradient of the entry.

use super::rewrite::{Fate, Rewriter, live_uses, rewrite};
use super::{Numerics, Pass, PassCx, PassError};
use crate::access::{MOST_PARTS, is_element_wise};
use kiln_ir::ops::{Concat, Op, Part, Region, Scan, Slice, Source};
use kiln_ir::{Dim, Graph, Node, NodeId, Output, Shape, TensorType};
use std::collections::{BTreeMap, BTreeSet};

/// Joins what scans keep. Behind it, dead-code elimination drops the single results.
#[derive(Clone, Copy, Debug)]
pub struct JoinKept;

impl Pass for JoinKept {
    fn name(&self) -> &'static str {
        "join_kept"
    }

    fn numerics(&self) -> Numerics {
        Numerics::Exact
    }

    fn run(&self, graph: &Graph, _: &PassCx<'_>) -> Result<Graph, PassError> {
        let joints = joints(graph);
        if joints.is_empty() {
            return Ok(graph.clone());
        }
        rewrite(graph, self.name(), |rewriter, id, node| {
            let Op::Scan(scan) = &node.op else {
                return Fate::Copy;
            };
            let writer = joints.iter().find(|joint| joint.writer == id);
            let reader = joints.iter().find(|joint| joint.reader == id);
            let new = match (writer, reader) {
                (Some(joint), _) => joint.written(rewriter, scan, node),
                (None, Some(joint)) => joint.read(rewriter, scan, node),
                (None, None) => None,
            };
            new.map_or(Fate::Copy, Fate::Replace)
        })
    }
}

/// A stacked result of one scan that another one alone reads, entry by entry.
#[derive(Clone, Copy)]
struct Kept {
    /// The position among the results of the writer.
    result: usize,
    /// The position among the operands of the reader.
    operand: usize,
}

/// What is joined.
struct Joint {
    writer: NodeId,
    reader: NodeId,
    /// In the order in which they are joined.
    parts: Vec<Kept>,
    /// The entry of the joined tensor.
    entry: TensorType,
    /// The axis of the entry along which the parts lie.
    axis: usize,
}

/// The joints of a graph. A scan is in one of them at most.
fn joints(graph: &Graph) -> Vec<Joint> {
    let mut found: Vec<Joint> = Vec::new();
    for ((writer, reader), kept) in handed_over(graph) {
        let taken = |id: NodeId| found.iter().any(|j| j.writer == id || j.reader == id);
        if taken(writer) || taken(reader) {
            continue;
        }
        if let Some(Op::Scan(scan)) = graph.node(writer).map(|n| &n.op) {
            let mut entries = scan.carries..scan.carries + scan.scanned;
            found.extend(entries.find_map(|entry| {
                let (parts, axis) = matched(scan, entry, &kept)?;
                let entry = scan.body.node(scan.source(entry)?)?.ty.clone();
                Some(Joint {
                    writer,
                    reader,
                    parts,
                    entry,
                    axis,
                })
            }));
        }
    }
    found
}

/// For each two scans, the stacked results of the first that only the second reads, each as one scanned tensor.
fn handed_over(graph: &Graph) -> BTreeMap<(NodeId, NodeId), Vec<Kept>> {
    let uses = live_uses(graph);
    let mut found: BTreeMap<(NodeId, NodeId), Vec<Kept>> = BTreeMap::new();
    for (reader, node) in graph.nodes() {
        let Op::Scan(scan) = &node.op else {
            continue;
        };
        for operand in scan.carries..scan.carries + scan.scanned {
            let id = node.operands[operand];
            let kept = stacked_result(graph, id).filter(|_| uses[id.index()] == 1);
            if let Some((writer, result)) = kept {
                let pair = found.entry((writer, reader)).or_default();
                pair.push(Kept { result, operand });
            }
        }
    }
    found
}

/// The scan that a node is a stacked result of, and its position among the results.
fn stacked_result(graph: &Graph, id: NodeId) -> Option<(NodeId, usize)> {
    let node = graph.node(id)?;
    let Op::Part(part) = &node.op else {
        return None;
    };
    let writer = *node.operands.first()?;
    match &graph.node(writer)?.op {
        Op::Scan(scan) if part.index >= scan.carries => Some((writer, part.index)),
        _ => None,
    }
}

/// The results among `kept`, one for each part of an entry, that are computed from the parts element by element, and the axis along which
/// the entry is cut.
fn matched(scan: &Scan, entry: usize, kept: &[Kept]) -> Option<(Vec<Kept>, usize)> {
    let source = scan.source(entry)?;
    let whole = &scan.body.node(source)?.ty;
    let value = |kept: &Kept| {
        let id = scan.body.outputs().get(kept.result)?.node;
        let ty = &scan.body.node(id)?.ty;
        (ty.dtype == whole.dtype).then_some((id, &ty.shape))
    };
    let mut shapes = kept.iter().filter_map(|k| Some(value(k)?.1));
    let shape = shapes.find(|shape| cut(&whole.shape, shape).is_some())?;
    let (axis, count) = cut(&whole.shape, shape)?;
    let from = parts_read(&scan.body, source, axis, &shape[axis]);
    let mut left: Vec<Kept> = kept.to_vec();
    let mut parts = Vec::new();
    for part in 0..count {
        let computed =
            |(id, own): (NodeId, &Shape)| own == shape && from[id.index()].contains(&part);
        let at = left.iter().position(|k| value(k).is_some_and(computed))?;
        parts.push(left.remove(at));
    }
    Some((parts, axis))
}

/// The axis along which some number of parts make up a whole.
fn cut(whole: &Shape, part: &Shape) -> Option<(usize, i64)> {
    if whole.len() != part.len() {
        return None;
    }
    let mut differ = (0..whole.len()).filter(|a| whole[*a] != part[*a]);
    let axis = differ.next()?;
    let (all, one) = (whole[axis].constant()?, part[axis].constant()?);
    let count = all.checked_div(one)?;
    let fits = (2..=MOST_PARTS as i64).contains(&count) && count * one == all;
    (fits && differ.next().is_none()).then_some((axis, count))
}

/// For each node, the parts of an entry that it is computed from, each element from those at its own place within the part.
fn parts_read(body: &Graph, entry: NodeId, axis: usize, size: &Dim) -> Vec<BTreeSet<i64>> {
    let mut from: Vec<BTreeSet<i64>> = vec![BTreeSet::new(); body.len()];
    let mut whole = vec![false; body.len()];
    whole[entry.index()] = true;
    for (id, node) in body.nodes() {
        let below = node.operands.iter().map(|o| o.index());
        match (&node.op, node.operands.as_slice()) {
            (op, _) if is_element_wise(op) => {
                whole[id.index()] = below.clone().any(|o| whole[o]);
                from[id.index()] = below.flat_map(|o| from[o].iter().copied()).collect();
            }
            (Op::Slice(slice), [operand]) if whole[operand.index()] => {
                let shape = body.node(*operand).map(|n| &n.ty.shape);
                let part = shape.and_then(|shape| part_of(slice, shape, axis, size));
                from[id.index()].extend(part);
            }
            _ => {}
        }
    }
    from
}

/// Which part a slice takes, if it takes one.
fn part_of(slice: &Slice, shape: &Shape, axis: usize, size: &Dim) -> Option<i64> {
    let start = slice.start[axis].constant()?;
    let others = (0..shape.len()).filter(|a| *a != axis);
    let mut rest =
        others.map(|a| slice.start[a].constant() == Some(0) && slice.limit[a] == shape[a]);
    let one =
        slice.limit[axis] == &slice.start[axis] + size && slice.stride.iter().all(|s| *s == 1);
    let part = start.checked_div(size.constant()?)?;
    (one && rest.all(|r| r) && part * size.constant()? == start).then_some(part)
}

impl Joint {
    /// The writer with the joined tensor as its last result.
    fn written(&self, rewriter: &mut Rewriter<'_>, scan: &Scan, node: &Node) -> Option<NodeId> {
        let mut body: Graph = (*scan.body).clone();
        let outputs = body.outputs();
        let part = |kept: &Kept| Some(outputs.get(kept.result)?.node);
        let parts: Vec<NodeId> = self.parts.iter().map(part).collect::<Option<_>>()?;
        let name = outputs.len().to_string();
        let provenance = body.node(*parts.first()?)?.provenance.clone();
        let joined = body.push(Node {
            op: Concat { axis: self.axis }.into(),
            operands: parts,
            ty: self.entry.clone(),
            provenance,
        });
        body.push_output(Output { name, node: joined });
        let body = Region::new(body);
        rewriter.make(
            Scan {
                body,
                ..scan.clone()
            },
            &node.operands,
        )
    }

    /// The reader with the joined tensor in the place of its parts.
    fn read(&self, rewriter: &mut Rewriter<'_>, scan: &Scan, node: &Node) -> Option<NodeId> {
        let writer = rewriter.new_id(self.writer)?;
        let part = match &rewriter.node(writer)?.op {
            Op::Scan(from) => Part {
                index: from.body.outputs().len() - 1,
                ty: from.whole(&self.entry),
            },
            _ => return None,
        };
        let joined = rewriter.make(part, &[writer])?;
        let own = scan.carries + scan.scanned;
        let left = |position: &usize| self.parts.iter().all(|part| part.operand != *position);
        let all = |range: std::ops::Range<usize>| range.filter(left);
        let mut operands: Vec<NodeId> = all(0..own).map(|p| node.operands[p]).collect();
        let scanned = operands.len() + 1 - scan.carries;
        operands.push(joined);
        operands.extend(&node.operands[own..]);

        let (open, entry) = self.sliced(scan)?;
        let named = |position: usize| {
            let slot = &open.slots()[position];
            (slot.node, slot.name.clone())
        };
        let mut sources: Vec<(NodeId, String)> = all(0..own).map(named).collect();
        sources.push((entry, "kept".into()));
        sources.extend((own..open.slots().len()).map(named));
        let outputs: Vec<NodeId> = open.outputs().iter().map(|o| o.node).collect();
        let scan = Scan {
            body: Region::new(open).cut(&sources, &outputs),
            scanned,
            ..scan.clone()
        };
        rewriter.make(scan, &operands)
    }

    /// The body of the reader with slices of one source, which is no slot yet, in the place of the parts' sources, and that source.
    fn sliced(&self, scan: &Scan) -> Option<(Graph, NodeId)> {
        let parts = self.parts.iter();
        let sources: Vec<NodeId> = parts.filter_map(|p| scan.source(p.operand)).collect();
        let mut entry = None;
        let graph = rewrite(&scan.body, JoinKept.name(), |rewriter, id, node| {
            let Some(part) = sources.iter().position(|source| *source == id) else {
                return Fate::Copy;
            };
            let whole = entry.or_else(|| {
                let ty = self.entry.clone();
                rewriter.make(Source { ty }, &[])
            });
            entry = whole;
            let slice = self.slice(part, &node.ty.shape);
            let new = whole.and_then(|whole| rewriter.make(slice, &[whole]));
            new.map_or(Fate::Copy, Fate::Replace)
        });
        Some((graph.ok()?, entry?))
    }

    fn slice(&self, part: usize, shape: &Shape) -> Slice {
        let mut start = vec![Dim::from(0); shape.len()];
        let mut limit: Vec<Dim> = shape.to_vec();
        let size = &shape[self.axis];
        start[self.axis] = &Dim::from(part as i64) * size;
        limit[self.axis] = &start[self.axis] + size;
        Slice {
            start,
            limit,
            stride: vec![1; shape.len()],
        }
    }
}
