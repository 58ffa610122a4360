//! Control ops as steps: the program of a region, spliced into the program around it.
//!
//! A region is planned as a program of its own, whose inputs and outputs are buffers like any others. Here each of them becomes a buffer of
//! the program around: a captured value its own, an entry of a scanned or stacked tensor a slice, and a carry a slice of a buffer with two
//! entries, of which an iteration reads one and writes the other, or as many as `stacks.rs` gave it.

use super::Planned;
use super::assemble::Assembler;
use super::stacks::{Carried, carried};
use crate::lower::CompoundShape;
use kiln_ir::ops::{Cond, Op, Scan, While};
use kiln_ir::program::{
    Branch, Buffer, Copy, Home, Launch, LiveRange, Loop, Part, Slice, Step, Stretch, root_of,
};
use kiln_ir::{BufferId, DType, Dim, Graph, KernelId, NodeId, TensorType};

/// From how many iterations on, where the number is known, threads share out the iterations of a loop without carries.
const LEAST_PARALLEL: i64 = 8;

/// The body of a scan, a node of a graph, as it is planned: without those of its stacked results that are carries.
pub(crate) fn without_carried(graph: &Graph, node: NodeId, scan: &Scan) -> Graph {
    let carried = carried(graph, node, scan);
    let mut body = Graph::empty(&scan.body.name);
    for (_, node) in scan.body.nodes() {
        body.push(node.clone());
    }
    for slot in scan.body.slots() {
        body.push_slot(slot.clone());
    }
    for (output, carried) in scan.body.outputs().iter().zip(carried) {
        if carried.is_none() {
            body.push_output(output.clone());
        }
    }
    body
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

/// Where a carry lies.
struct Carry {
    buffer: BufferId,
    dtype: DType,
    /// Of one value.
    elements: Dim,
    /// How many values the buffer holds.
    entries: Dim,
    /// The entry of the first value.
    first: Dim,
    /// From an entry to that of the next iteration.
    step: i64,
    /// The entry of the last value.
    last: Dim,
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

    /// A buffer that is an entry of another one.
    fn slice(&mut self, name: &str, dtype: DType, elements: Dim, slice: Slice) -> BufferId {
        self.homes
            .add(name.to_owned(), dtype, elements, Home::Slice(slice))
    }

    fn scan(&mut self, shape: &CompoundShape, scan: &Scan, body: &Planned) {
        let name = self.name(shape.node, "scan");
        let carried = carried(self.graph, shape.node, scan);
        let mut carries = Vec::new();
        for position in 0..scan.carries {
            let carry = self.carry(shape, scan, position, format!("{name} carry {position}"));
            let from = (self.at(shape.operands[position]), Dim::from(0));
            let to = (carry.buffer, carry.first.clone());
            self.copy(&name, carry.elements.clone(), from, to);
            carries.push(carry);
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
                entry(&scan.trip - &Dim::from(1), -1, of, scan.trip.clone())
            } else {
                entry(Dim::from(0), 1, of, scan.trip.clone())
            }
        };
        let mut inputs = Vec::new();
        let mut outputs = Vec::new();
        for (number, carry) in carries.iter().enumerate() {
            let next = &carry.first + &Dim::from(carry.step);
            for (first, all) in [(carry.first.clone(), &mut inputs), (next, &mut outputs)] {
                let slice = entry(first, carry.step, carry.buffer, carry.entries.clone());
                let label = format!("{name} carry {number}");
                all.push(self.slice(&label, carry.dtype, carry.elements.clone(), slice));
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
        for (position, carried) in carried.iter().enumerate().skip(scan.carries) {
            if carried.is_some() {
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
        for (position, of) in carried.into_iter().enumerate() {
            if let (Some(of), Some(result)) = (of, self.result(shape, position)) {
                self.unstack(&name, of, &carries[of.carry], result);
            }
        }
        for (position, carry) in carries.into_iter().enumerate() {
            if let Some(result) = self.result(shape, position) {
                let from = (carry.buffer, carry.last);
                self.copy(&name, carry.elements, from, (result, Dim::from(0)));
            }
        }
    }

    /// Where a carry lies: in the buffer that `stacks.rs` gave it, or in one of two entries, of which one is the next iteration's.
    fn carry(&mut self, shape: &CompoundShape, scan: &Scan, at: usize, name: String) -> Carry {
        let TensorType { dtype, shape: ty } = type_of(self.graph, Some(shape.operands[at]));
        let elements = ty.elements();
        let stack = self.homes.stacks.get(&(shape.node, at)).copied();
        let entries = match stack {
            Some(_) => &scan.trip + &Dim::from(1),
            None => Dim::from(2),
        };
        let fresh = || self.homes.add(name, dtype, &entries * &elements, arena());
        let buffer = stack.unwrap_or_else(fresh);
        let (first, step, last) = match stack {
            Some(_) if scan.reverse => (scan.trip.clone(), -1, Dim::from(0)),
            Some(_) => (Dim::from(0), 1, scan.trip.clone()),
            None => (Dim::from(0), 1, scan.trip.modulo(&entries)),
        };
        Carry {
            buffer,
            dtype,
            elements,
            entries,
            first,
            step,
            last,
        }
    }

    /// Copies what a carry was in each iteration to a result that is not where the carry is.
    fn unstack(&mut self, name: &str, of: Carried, carry: &Carry, result: BufferId) {
        if root_of(&self.homes.buffers, result) == carry.buffer {
            return;
        }
        let label = format!("{name} carry {}", of.carry);
        let (entry, homes) = (&carry.elements, &mut self.homes);
        let from = homes.add_stretch(carry.buffer, label, entry, of.skips);
        let all = homes.buffers[from.index()].elements.clone();
        let zero = || Dim::from(0);
        self.copy(name, all, (from, zero()), (result, zero()));
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
                Home::Stretch(stretch) => {
                    let of = map.get(stretch.of.index()).copied().flatten();
                    let of = of.unwrap_or(stretch.of);
                    let home = Home::Stretch(Stretch { of, ..stretch });
                    self.homes.add(name, dtype, elements, home)
                }
                // Slices are of loops within; what they are of comes before them, as what stretches are of does.
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
