//! Control ops as steps: the program of a region, spliced into the program around it.
//!
//! A region is planned as a program of its own, whose inputs and outputs are buffers like any others. Here each of them becomes a buffer of
//! the program around: a captured value its own, an entry of a scanned or stacked tensor a slice, and a carry a slice of a buffer with two
//! entries, of which an iteration reads one and writes the other. Where the gradient keeps a carry of every iteration, the buffer has an
//! entry for each, so that nothing is copied, and the kept tensor is the buffer without its last entry.

use super::Planned;
use super::assemble::Assembler;
use crate::lower::CompoundShape;
use kiln_ir::ops::{Cond, Op, Scan, While};
use kiln_ir::program::{Branch, Buffer, Copy, Home, Launch, LiveRange, Loop, Part, Slice, Step};
use kiln_ir::{BufferId, DType, Dim, Graph, KernelId, NodeId, TensorType};

/// From how many iterations on, where the number is known, threads share out the iterations of a loop without carries.
const LEAST_PARALLEL: i64 = 8;

/// The body of a scan as it is planned: without those of its stacked results that are carries as an iteration finds them.
pub(crate) fn without_kept(scan: &Scan) -> Graph {
    let mut body = Graph::empty(&scan.body.name);
    for (_, node) in scan.body.nodes() {
        body.push(node.clone());
    }
    for slot in scan.body.slots() {
        body.push_slot(slot.clone());
    }
    for (position, output) in scan.body.outputs().iter().enumerate() {
        if kept(scan, position).is_none() {
            body.push_output(output.clone());
        }
    }
    body
}

/// The carry whose value at the beginning of each iteration the result at a position stacks, if that is what it is.
pub(super) fn kept(scan: &Scan, position: usize) -> Option<usize> {
    if position < scan.carries || scan.reverse {
        return None;
    }
    let node = scan.body.outputs().get(position)?.node;
    (0..scan.carries).find(|carry| scan.source(*carry) == Some(node))
}

/// The type of a node. Every node that a verified control op names exists.
fn type_of(graph: &Graph, node: Option<NodeId>) -> TensorType {
    let node = node.and_then(|id| graph.node(id));
    node.map_or_else(|| TensorType::new(DType::Bool, ()), |n| n.ty.clone())
}

/// The home of a buffer whose live range is set when all steps are there.
pub(super) fn arena() -> Home {
    Home::Arena(LiveRange { first: 0, last: 0 })
}

impl Assembler<'_> {
    /// Appends the steps of a control op.
    pub(super) fn control(&mut self, shape: &CompoundShape, op: &Op) {
        let Some(bodies) = self.bodies.get(&shape.node) else {
            return;
        };
        match (op, bodies.as_slice()) {
            (Op::Scan(scan), [body]) => self.scan(shape, scan, body),
            (Op::While(repeat), [test, body]) => self.while_loop(shape, repeat, test, body),
            (Op::Cond(cond), [then, otherwise]) => self.cond(shape, cond, then, otherwise),
            (_, _) => {}
        }
    }

    /// The buffer of a result, if it is read.
    pub(super) fn result(&self, shape: &CompoundShape, position: usize) -> Option<BufferId> {
        let part = shape.parts.iter().find(|(index, _)| *index == position);
        part.map(|(_, node)| self.at(*node))
    }

    /// A buffer that is an entry of another one. Where that one has an entry more than the tensor in it, as kept carries have, the slice
    /// knows it.
    fn slice(&mut self, name: &str, dtype: DType, elements: Dim, mut slice: Slice) -> BufferId {
        let more = &slice.entries + &Dim::from(1);
        let of = self.homes.buffers.get(slice.of.index());
        if of.is_some_and(|of| of.elements == &more * &elements) {
            slice.entries = more;
        }
        self.homes
            .add(name.to_owned(), dtype, elements, Home::Slice(slice))
    }

    fn scan(&mut self, shape: &CompoundShape, scan: &Scan, body: &Planned) {
        let name = self.name(shape.node, "scan");
        let one = Dim::from(1);
        // The carries: where they lie, and how many entries that has.
        let mut carries = Vec::new();
        for carry in 0..scan.carries {
            let ty = type_of(self.graph, Some(shape.operands[carry]));
            let elements = ty.shape.elements();
            let outputs = scan.carries..scan.body.outputs().len();
            let kept_by = outputs
                .clone()
                .find(|p| kept(scan, *p) == Some(carry))
                .and_then(|position| self.result(shape, position));
            let (buffer, entries) = match kept_by {
                Some(result) => {
                    let entries = &scan.trip + &one;
                    (self.grown(result, &entries * &elements), entries)
                }
                None => {
                    let entries = Dim::from(2);
                    let name = format!("{name} carry {carry}");
                    let all = &entries * &elements;
                    (self.homes.add(name, ty.dtype, all, arena()), entries)
                }
            };
            self.copy(
                &name,
                elements.clone(),
                (self.at(shape.operands[carry]), Dim::from(0)),
                (buffer, Dim::from(0)),
            );
            carries.push((buffer, entries, ty.dtype, elements));
        }
        let at = self.steps.len();
        let entry = |first: Dim, step: i64, of: BufferId, entries: Dim| Slice {
            of,
            at,
            entries,
            first,
            step,
        };
        let stacked = |of: BufferId| {
            if scan.reverse {
                entry(&scan.trip - &one, -1, of, scan.trip.clone())
            } else {
                entry(Dim::from(0), 1, of, scan.trip.clone())
            }
        };
        let mut inputs = Vec::new();
        let mut outputs = Vec::new();
        for (carry, (buffer, entries, dtype, elements)) in carries.iter().enumerate() {
            for (first, all) in [(0, &mut inputs), (1, &mut outputs)] {
                let slice = entry(Dim::from(first), 1, *buffer, entries.clone());
                let label = format!("{name} carry {carry}");
                all.push(self.slice(&label, *dtype, elements.clone(), slice));
            }
        }
        for operand in scan.carries..scan.carries + scan.scanned {
            let node = shape.operands[operand];
            let ty = type_of(&scan.body, scan.source(operand));
            let of = self.at(node);
            let label = format!("{name} entry of {node}");
            inputs.push(self.slice(&label, ty.dtype, ty.shape.elements(), stacked(of)));
        }
        for node in &shape.operands[scan.carries + scan.scanned..] {
            inputs.push(self.at(*node));
        }
        for position in scan.carries..scan.body.outputs().len() {
            if kept(scan, position).is_some() {
                continue;
            }
            let ty = type_of(
                &scan.body,
                scan.body.outputs().get(position).map(|o| o.node),
            );
            let elements = ty.shape.elements();
            let of = self.result(shape, position).unwrap_or_else(|| {
                let all = &scan.trip * &elements;
                let name = format!("{name} result {position}");
                self.homes.add(name, ty.dtype, all, arena())
            });
            // What takes the memory of a scanned tensor has its entries too.
            let entry = |id: &BufferId| {
                let home = self.homes.buffers.get(id.index()).map(|b| &b.home);
                matches!(home, Some(Home::Slice(slice)) if slice.of == of)
            };
            let scanned = scan.carries..scan.carries + scan.scanned;
            if let Some(entry) = inputs[scanned].iter().copied().find(entry) {
                outputs.push(entry);
                continue;
            }
            let label = format!("{name} entry of result {position}");
            outputs.push(self.slice(&label, ty.dtype, elements, stacked(of)));
        }
        let apart = body.program.steps.iter().all(runs_on_one_thread);
        let many = scan.trip.constant().is_none_or(|t| t >= LEAST_PARALLEL);
        let parallel = scan.carries == 0 && apart && many;
        self.steps.push(Step::Loop(Loop {
            name: name.clone(),
            trip: scan.trip.clone(),
            steps: body.program.steps.len(),
            parallel,
        }));
        self.splice(body, &inputs, &outputs, parallel);
        for position in scan.carries..scan.body.outputs().len() {
            let carry = kept(scan, position).and_then(|carry| carries.get(carry));
            let result = self.result(shape, position);
            // A result that is no buffer of the arena could not be given another entry.
            if let (Some((buffer, _, _, elements)), Some(result)) = (carry, result)
                && *buffer != result
            {
                let all = &scan.trip * elements;
                let from = (*buffer, Dim::from(0));
                self.copy(&name, all, from, (result, Dim::from(0)));
            }
        }
        for (carry, (buffer, entries, _, elements)) in carries.into_iter().enumerate() {
            if let Some(result) = self.result(shape, carry) {
                let last = scan.trip.modulo(&entries);
                self.copy(&name, elements, (buffer, last), (result, Dim::from(0)));
            }
        }
    }

    /// The buffer with room for more elements, where it lies in the arena; else another one.
    fn grown(&mut self, buffer: BufferId, elements: Dim) -> BufferId {
        match self.homes.buffers.get_mut(buffer.index()) {
            Some(found) if matches!(found.home, Home::Arena(_)) => {
                found.elements = elements;
                buffer
            }
            Some(found) => {
                let (name, dtype) = (found.name.clone(), found.dtype);
                self.homes.add(name, dtype, elements, arena())
            }
            None => buffer,
        }
    }

    fn copy(
        &mut self,
        name: &str,
        elements: Dim,
        (from, from_entry): (BufferId, Dim),
        (to, to_entry): (BufferId, Dim),
    ) {
        self.steps.push(Step::Copy(Copy {
            name: name.to_owned(),
            from: Part {
                buffer: from,
                entry: from_entry,
            },
            to: Part {
                buffer: to,
                entry: to_entry,
            },
            elements,
        }));
    }

    fn while_loop(
        &mut self,
        shape: &CompoundShape,
        repeat: &While,
        test: &Planned,
        body: &Planned,
    ) {
        let name = self.name(shape.node, "while");
        let zero = || Dim::from(0);
        let mut carries = Vec::new();
        for carry in 0..repeat.carries {
            let ty = type_of(self.graph, Some(shape.operands[carry]));
            let elements = ty.shape.elements();
            let fresh = |assembler: &mut Self| {
                let label = format!("{name} carry {carry}");
                assembler
                    .homes
                    .add(label, ty.dtype, elements.clone(), arena())
            };
            let buffer = self.result(shape, carry);
            let buffer = buffer.unwrap_or_else(|| fresh(self));
            let next = fresh(self);
            let from = (self.at(shape.operands[carry]), zero());
            self.copy(&name, elements.clone(), from, (buffer, zero()));
            carries.push((buffer, next, elements));
        }
        let condition = self.homes.add(
            format!("{name} condition"),
            DType::Bool,
            Dim::from(1),
            arena(),
        );
        let own: Vec<BufferId> = carries.iter().map(|(buffer, ..)| *buffer).collect();
        let captured: Vec<BufferId> = shape.operands[repeat.carries..]
            .iter()
            .map(|n| self.at(*n))
            .collect();
        let split = repeat.captured_by_test().min(captured.len());
        let (by_test, by_body) = captured.split_at(split);
        self.steps.push(Step::While(kiln_ir::program::While {
            name: name.clone(),
            condition,
            test: test.program.steps.len(),
            steps: body.program.steps.len() + carries.len(),
        }));
        self.splice(test, &[&own, by_test].concat(), &[condition], false);
        let next: Vec<BufferId> = carries.iter().map(|(_, next, _)| *next).collect();
        self.splice(body, &[&own, by_body].concat(), &next, false);
        for (buffer, next, elements) in carries {
            self.copy(&name, elements, (next, zero()), (buffer, zero()));
        }
    }

    fn cond(&mut self, shape: &CompoundShape, cond: &Cond, then: &Planned, otherwise: &Planned) {
        let name = self.name(shape.node, "cond");
        let (condition, taken) = match shape.operands.split_first() {
            Some((condition, taken)) => (self.at(*condition), taken),
            None => return,
        };
        let mut results = Vec::new();
        for (position, output) in cond.then.outputs().iter().enumerate() {
            let ty = type_of(&cond.then, Some(output.node));
            let result = self.result(shape, position).unwrap_or_else(|| {
                let label = format!("{name} result {position}");
                self.homes
                    .add(label, ty.dtype, ty.shape.elements(), arena())
            });
            results.push(result);
        }
        let taken: Vec<BufferId> = taken.iter().map(|n| self.at(*n)).collect();
        let split = cond.then.slots().len().min(taken.len());
        let (first, second) = taken.split_at(split);
        self.steps.push(Step::Branch(Branch {
            name,
            condition,
            then: then.program.steps.len(),
            otherwise: otherwise.program.steps.len(),
        }));
        self.splice(then, first, &results, false);
        self.splice(otherwise, second, &results, false);
    }

    /// Appends the steps of a body, whose inputs and outputs are these buffers. With `whole`, each iteration runs on one thread, and what
    /// the body keeps for itself is local to that.
    fn splice(&mut self, body: &Planned, inputs: &[BufferId], outputs: &[BufferId], whole: bool) {
        let start = self.steps.len();
        let first_kernel = self.kernels.len();
        self.kernels.extend(body.kernels.iter().cloned());
        let program = &body.program;
        let mut map: Vec<Option<BufferId>> = vec![None; program.buffers.len()];
        let ports = program.inputs.iter().zip(inputs);
        for (port, buffer) in ports.chain(program.outputs.iter().zip(outputs)) {
            map[port.buffer.index()] = Some(*buffer);
        }
        let mut rows = 0;
        for (position, buffer) in program.buffers.iter().enumerate() {
            if map[position].is_some() {
                continue;
            }
            let Buffer {
                name,
                dtype,
                elements,
                home,
            } = buffer.clone();
            map[position] = Some(match home {
                Home::Scratch => {
                    rows += 1;
                    self.scratch_row(dtype, &elements, rows - 1)
                }
                Home::Arena(live) | Home::Local(live) if whole => {
                    self.homes.add(name, dtype, elements, Home::Local(live))
                }
                Home::Local(live) => self.homes.add(name, dtype, elements, Home::Local(live)),
                Home::Arena(_) => self.homes.add(name, dtype, elements, arena()),
                // Slices are of loops within; what they are of comes before them.
                Home::Slice(slice) => {
                    let of = map.get(slice.of.index()).copied().flatten();
                    let slice = Slice {
                        of: of.unwrap_or(slice.of),
                        at: slice.at + start,
                        ..slice
                    };
                    self.slice(&name, dtype, elements, slice)
                }
                Home::Input | Home::Output | Home::Resident | Home::Constant(_) => {
                    self.homes.add(name, dtype, elements, home)
                }
            });
        }
        let moved = |id: BufferId| map.get(id.index()).copied().flatten().unwrap_or(id);
        for step in &program.steps {
            let mut step = step.clone();
            rename(&mut step, &moved);
            if let Step::Loop(l) = &mut step {
                l.parallel &= !whole;
            }
            for launch in step.calls_mut() {
                launch.kernel = KernelId::new(launch.kernel.index() + first_kernel);
            }
            self.steps.push(step);
        }
    }
}

/// Whether a step may stand in an iteration that one thread has for itself, with buffers of its own. A condition is read by whoever runs
/// the steps, and a refusal is theirs too; and a custom op is never called twice at the same time.
fn runs_on_one_thread(step: &Step) -> bool {
    match step {
        Step::Kernel(_)
        | Step::Product(_)
        | Step::Convolution(_)
        | Step::Copy(_)
        | Step::Loop(_) => true,
        Step::Guard(_) | Step::While(_) | Step::Branch(_) | Step::Custom(_) => false,
    }
}

/// The step over other buffers.
fn rename(step: &mut Step, moved: &dyn Fn(BufferId) -> BufferId) {
    let launch = |launch: &mut Launch| {
        for argument in &mut launch.arguments {
            *argument = moved(*argument);
        }
    };
    match step {
        Step::Kernel(parts) => parts.iter_mut().for_each(launch),
        Step::Product(product) => {
            for matrix in [&mut product.lhs, &mut product.rhs, &mut product.dst] {
                matrix.buffer = moved(matrix.buffer);
            }
            product.epilogue.iter_mut().for_each(launch);
        }
        Step::Convolution(convolution) => {
            for view in [
                &mut convolution.lhs,
                &mut convolution.rhs,
                &mut convolution.dst,
            ] {
                view.buffer = moved(view.buffer);
            }
            convolution.epilogue.iter_mut().for_each(launch);
        }
        Step::Guard(guard) => guard.condition = moved(guard.condition),
        Step::Loop(_) => {}
        Step::While(repeat) => repeat.condition = moved(repeat.condition),
        Step::Branch(branch) => branch.condition = moved(branch.condition),
        Step::Copy(copy) => {
            copy.from.buffer = moved(copy.from.buffer);
            copy.to.buffer = moved(copy.to.buffer);
        }
        Step::Custom(custom) => {
            let inputs = custom.inputs.iter_mut().map(|input| &mut input.buffer);
            for buffer in inputs.chain(&mut custom.outputs) {
                *buffer = moved(*buffer);
            }
        }
    }
}
