//! What the sizes of a graph must meet, as far as the shape rules could not decide it.
//!
//! A window `0..3` of an axis of extent `b` is a window only where `b` is 3 or more, and an extent `b - 3` is one only there. The
//! interpreter finds out when it runs; machine code must not, since it would read outside of a buffer. So these conditions travel with
//! the program and are checked once for each binding. Gathers and scatters check their indices themselves.

use kiln_ir::ops::{Argsort, Op, Sort};
use kiln_ir::program::Requirement;
use kiln_ir::{Dim, Graph, Node};

/// The conditions of every node, each number once.
pub(crate) fn requirements(graph: &Graph) -> Vec<Requirement> {
    let mut found: Vec<Requirement> = Vec::new();
    collect(graph, &mut found);
    found
}

/// Those of the graph's own nodes, and of the regions within.
fn collect(graph: &Graph, found: &mut Vec<Requirement>) {
    for (_, node) in graph.nodes() {
        let regions = node.op.as_compound().map(|control| control.regions());
        for region in regions.into_iter().flatten() {
            collect(region, found);
        }
    }
    let mut require = |node: &Node, value: Dim, what: String| {
        if value.is_sum_of_sizes() || found.iter().any(|r| r.value == value) {
            return;
        }
        let at = &node.provenance.location;
        let message = format!("`{}` at {at}: {what}", node.op.rules().name());
        found.push(Requirement { value, message });
    };
    for (_, node) in graph.nodes() {
        let from = node.operands.first().and_then(|o| graph.node(*o));
        match (&node.op, from.map(|n| &n.ty.shape)) {
            (Op::Slice(slice), Some(from)) => {
                for (axis, extent) in from.iter().enumerate() {
                    let (start, limit) = (&slice.start[axis], &slice.limit[axis]);
                    let window = format!("the window {start}..{limit} of axis {axis}");
                    require(
                        node,
                        start.clone(),
                        format!("{window} begins before the axis"),
                    );
                    require(
                        node,
                        limit - start,
                        format!("{window} ends before it begins"),
                    );
                    let behind = format!("{window} ends behind its size {extent}");
                    require(node, extent - limit, behind);
                }
            }
            (Op::Pad(pad), _) => {
                for width in pad.low.iter().chain(&pad.high) {
                    require(
                        node,
                        width.clone(),
                        format!("the padding {width} is negative"),
                    );
                }
            }
            (Op::DynamicSlice(_), Some(from)) => {
                for (extent, size) in from.iter().zip(node.ty.shape.iter()) {
                    let what = format!("a window of {size} is larger than its axis of {extent}");
                    require(node, extent - size, what);
                }
            }
            (Op::DynamicUpdateSlice(_), Some(from)) => {
                let update = node.operands.get(1).and_then(|o| graph.node(*o));
                for (extent, size) in from
                    .iter()
                    .zip(update.iter().flat_map(|n| n.ty.shape.iter()))
                {
                    let what = format!("a window of {size} is larger than its axis of {extent}");
                    require(node, extent - size, what);
                }
            }
            (Op::Sort(Sort { axis, .. }) | Op::Argsort(Argsort { axis, .. }), Some(from)) => {
                let (extent, count) = (&from[*axis], &node.ty.shape[*axis]);
                let what = format!("axis {axis} of size {extent} has no {count} elements");
                require(node, extent - count, what);
                // A position and a key of 32 bits share a word.
                let most = Dim::from(i64::from(u32::MAX));
                let what = format!("axis {axis} of size {extent} has more than {most} elements");
                require(node, &most - extent, what);
            }
            (_, _) => {}
        }
        for (axis, extent) in node.ty.shape.iter().enumerate() {
            let what = format!("the extent {extent} of axis {axis} is negative");
            require(node, extent.clone(), what);
        }
        if let Op::Scan(scan) = &node.op {
            let what = format!("{} iterations are not a number of them", scan.trip);
            require(node, scan.trip.clone(), what);
        }
    }
}
