//! Whether what a loop stacks may lie where what it scans lies.
//!
//! An iteration reads one entry of each scanned tensor and writes one of each stacked one, at the same place of both. Where nothing reads the
//! entry any more once the result is written, and the kernel that writes it may do so over what it reads, the stacked tensor can take the
//! memory of a scanned one that dies in the loop.

use super::Planned;
use super::alias::may_alias;
use super::stacks::Carried;
use crate::kernel::ParamId;
use kiln_ir::BufferId;
use kiln_ir::ops::Scan;
use kiln_ir::program::Step;

/// The operands of a scan that a result may take the memory of, as far as the body goes: positions of scanned tensors.
pub(super) fn replaced(
    scan: &Scan,
    carried: &[Option<Carried>],
    body: &Planned,
    result: usize,
) -> Vec<usize> {
    let is_carried = |at: usize| carried.get(at).is_some_and(Option::is_some);
    if result < scan.carries || is_carried(result) {
        return Vec::new();
    }
    let ty = |node| scan.body.node(node).map(|n| &n.ty);
    let own = scan.body.outputs().get(result).and_then(|o| ty(o.node));
    let others = (scan.carries..result).filter(|p| !is_carried(*p));
    let output = scan.carries + others.count();
    let fits = |position: &usize| {
        let entry = scan.source(*position).and_then(ty);
        let same = entry.zip(own).is_some_and(|(entry, own)| {
            entry.dtype == own.dtype && entry.shape.elements() == own.shape.elements()
        });
        same && body_allows(body, *position, output)
    };
    let entries = scan.carries..scan.carries + scan.scanned;
    entries.filter(fits).collect()
}

/// Whether an output of a body may have the memory of an input.
fn body_allows(body: &Planned, input: usize, output: usize) -> bool {
    let program = &body.program;
    let (Some(from), Some(to)) = (program.inputs.get(input), program.outputs.get(output)) else {
        return false;
    };
    let (from, to) = (from.buffer, to.buffer);
    let steps = &program.steps;
    let nested = (0..steps.len()).any(|at| !steps[at].bodies(at).all().is_empty());
    let mentions = |id: BufferId| move |step: &Step| step.buffers().contains(&id);
    let (last, first) = (
        steps.iter().rposition(mentions(from)),
        steps.iter().position(mentions(to)),
    );
    match (nested, last, first) {
        (true, _, _) | (_, _, None) => false,
        (false, None, Some(_)) => true,
        (false, Some(last), Some(first)) if last == first => over(body, &steps[first], from, to),
        (false, Some(last), Some(first)) => last < first,
    }
}

/// Whether the kernel of a step, which alone touches both buffers there, may write one over the other.
fn over(body: &Planned, step: &Step, from: BufferId, to: BufferId) -> bool {
    let [launch] = step.calls() else {
        return false;
    };
    let all = step.buffers();
    let param = |id: BufferId| {
        let at = launch.arguments.iter().position(|b| *b == id)?;
        let alone = all.iter().filter(|b| **b == id).count() == 1;
        alone.then_some(ParamId(at as u32))
    };
    let kernel = body.kernels.get(launch.kernel.index());
    match (kernel, param(from), param(to)) {
        (Some(kernel), Some(from), Some(to)) => may_alias(kernel, from, to),
        (_, _, _) => false,
    }
}
