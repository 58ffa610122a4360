//! The text of a program: its signature, every buffer with its home, and the steps in order.
//!
//! It is what the `Program` dump and snapshots show. It is not parsed back (serde is the form for files), so the bytes of constants are
//! counted and not printed.

use super::{
    Access, Guard, Home, Launch, Matrix, Part, Product, ProductSummation, Program, Requirement,
    Slice, Step, Stretch,
};
use crate::dim::{Dim, Symbol};
use crate::graph::Role;
use crate::ids::KernelId;
use std::collections::BTreeSet;
use std::fmt;

/// A step in so many bodies is indented like one in more.
const MOST_INDENTS: usize = 16;

impl Program {
    /// The symbols that occur in the program, each once, in order of name.
    pub fn symbols(&self) -> Vec<Symbol> {
        let mut found = BTreeSet::new();
        self.visit_dims(&mut |dim| found.extend(dim.symbols()));
        found.into_iter().collect()
    }

    fn visit_dims(&self, visit: &mut dyn FnMut(&Dim)) {
        let ports = self.inputs.iter().chain(&self.outputs).map(|p| &p.ty);
        for ty in ports.chain(self.residents.iter().map(|r| &r.ty)) {
            ty.shape.iter().for_each(&mut *visit);
        }
        for buffer in &self.buffers {
            visit(&buffer.elements);
            if let Some(slice) = buffer.home.slice() {
                visit(&slice.entries);
                visit(&slice.first);
            }
            if let Some(stretch) = buffer.home.stretch() {
                visit(&stretch.skip);
                visit(&stretch.rest);
            }
        }
        self.requirements.iter().for_each(|r| visit(&r.value));
        for step in &self.steps {
            match step {
                Step::Kernel(parts) => parts.iter().for_each(|l| l.visit_dims(visit)),
                Step::Product(product) => {
                    let extents = [&product.m, &product.n, &product.k];
                    product.batch.iter().chain(extents).for_each(&mut *visit);
                    for matrix in [&product.lhs, &product.rhs, &product.dst] {
                        let strides = [&matrix.offset, &matrix.row_stride, &matrix.column_stride];
                        matrix
                            .batch_strides
                            .iter()
                            .chain(strides)
                            .for_each(&mut *visit);
                    }
                    if let Some(epilogue) = &product.epilogue {
                        epilogue.visit_dims(visit);
                    }
                }
                Step::Convolution(convolution) => {
                    convolution.visit_dims(visit);
                    if let Some(epilogue) = &convolution.epilogue {
                        epilogue.visit_dims(visit);
                    }
                }
                Step::Loop(l) => visit(&l.trip),
                Step::Copy(copy) => {
                    [&copy.from.entry, &copy.to.entry, &copy.elements]
                        .into_iter()
                        .for_each(&mut *visit);
                }
                Step::Custom(custom) => custom.visit_dims(visit),
                Step::Guard(_) | Step::While(_) | Step::Branch(_) => {}
            }
        }
    }

    fn kernel_name(&self, kernel: KernelId) -> &str {
        self.kernels
            .get(kernel.index())
            .map_or("missing", String::as_str)
    }
}

impl Launch {
    fn visit_dims(&self, visit: &mut dyn FnMut(&Dim)) {
        let all = self.sizes.iter().chain([&self.total, &self.work]);
        all.for_each(visit);
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program @{}", self.name)?;
        let symbols = self.symbols();
        if !symbols.is_empty() {
            write!(f, "<{}>", list(&symbols))?;
        }
        f.write_str(" {\n")?;
        for port in &self.inputs {
            writeln!(f, "  input {}: {} in {}", port.name, port.ty, port.buffer)?;
        }
        for r in &self.residents {
            let (role, init) = match &r.role {
                Role::Input => ("input", None),
                Role::Param(init) => ("param", Some(init)),
                Role::State(init) => ("state", Some(init)),
            };
            write!(f, "  {role} {}: {}", r.name, r.ty)?;
            if let Some(init) = init {
                write!(f, " = {init}")?;
            }
            writeln!(f, " in {}", r.buffer)?;
        }
        for port in &self.outputs {
            writeln!(f, "  output {}: {} in {}", port.name, port.ty, port.buffer)?;
        }
        for requirement in &self.requirements {
            let Requirement { value, message } = requirement;
            writeln!(f, "  requires {value} >= 0, else {message:?}")?;
        }
        f.write_str("buffers:\n")?;
        for (id, buffer) in self.buffers.iter().enumerate() {
            write!(f, "  ${id}: {}[{}] ", buffer.dtype, buffer.elements)?;
            writeln!(f, "{} {:?}", buffer.home, buffer.name)?;
        }
        f.write_str("steps:\n")?;
        // The ends of the bodies that the next step lies in.
        let mut ends: Vec<usize> = Vec::new();
        for (position, step) in self.steps.iter().enumerate() {
            ends.retain(|end| *end > position);
            let text = Shown(self, step).to_string();
            let indent = 2 + 2 * ends.len().min(MOST_INDENTS);
            for (i, line) in text.lines().enumerate() {
                f.write_str(&" ".repeat(indent))?;
                if i == 0 {
                    write!(f, "{position}: ")?;
                }
                writeln!(f, "{line}")?;
            }
            ends.push(step.bodies(position).all().end);
        }
        f.write_str("}\n")
    }
}

/// A step without its position and indent, on lines of its own.
struct Shown<'p>(&'p Program, &'p Step);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(program, step) = self;
        match step {
            Step::Kernel(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    f.write_str(if i == 0 { "kernel " } else { "     with " })?;
                    program.write_launch(f, part)?;
                }
                if parts.is_empty() {
                    f.write_str("kernel\n")?;
                }
                Ok(())
            }
            Step::Product(product) => program.write_product(f, product),
            Step::Convolution(convolution) => {
                write!(f, "{convolution}")?;
                program.write_epilogue(f, convolution.epilogue.as_ref())
            }
            Step::Guard(guard) => write_guard(f, guard),
            Step::Loop(l) => {
                let kind = if l.parallel { "parallel loop" } else { "loop" };
                writeln!(f, "{kind} {:?} over {}: {} steps", l.name, l.trip, l.steps)
            }
            Step::While(w) => writeln!(
                f,
                "while {:?} {}: {} steps set it, then {} steps",
                w.name, w.condition, w.test, w.steps
            ),
            Step::Branch(b) => writeln!(
                f,
                "branch {:?} {}: {} steps, else {} steps",
                b.name, b.condition, b.then, b.otherwise
            ),
            Step::Copy(copy) => writeln!(
                f,
                "copy {:?} {} to {}, {} elements",
                copy.name, copy.from, copy.to, copy.elements
            ),
            Step::Custom(custom) => write!(f, "{custom}"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.buffer, self.entry)
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Slice {
            of,
            at,
            entries,
            first,
            step,
        } = self;
        let step = match step {
            1 => "+ i".to_owned(),
            -1 => "- i".to_owned(),
            other => format!("+ {other} * i"),
        };
        write!(
            f,
            "{of}[({first} {step}) mod {entries}] of the loop at step {at}"
        )
    }
}

impl Program {
    fn write_launch(&self, f: &mut fmt::Formatter<'_>, launch: &Launch) -> fmt::Result {
        write!(f, "{} {}(", launch.kernel, self.kernel_name(launch.kernel))?;
        for (i, buffer) in launch.arguments.iter().enumerate() {
            let separator = if i > 0 { ", " } else { "" };
            match launch.access.get(i) {
                Some(access) => write!(f, "{separator}{access} {buffer}")?,
                None => write!(f, "{separator}{buffer}")?,
            }
        }
        write!(f, ") over {}", launch.total)?;
        if launch.grain != 1 {
            write!(f, " by {}", launch.grain)?;
        }
        if !launch.sizes.is_empty() {
            write!(f, ", sizes [{}]", list(&launch.sizes))?;
        }
        writeln!(f, ", work {}", launch.work)
    }

    fn write_product(&self, f: &mut fmt::Formatter<'_>, product: &Product) -> fmt::Result {
        let Product {
            name,
            dtype,
            accumulate,
            summation,
            batch,
            m,
            n,
            k,
            lhs,
            rhs,
            dst,
            epilogue,
        } = product;
        let prefix: String = batch.iter().map(|b| format!("{b}, ")).collect();
        write!(
            f,
            "product {name:?} {dtype}[{prefix}{m}, {n}] = [{prefix}{m}, {k}] x [{prefix}{k}, {n}]"
        )?;
        if accumulate != dtype {
            write!(f, " summed in {accumulate}")?;
        }
        match summation {
            ProductSummation::Chain => {}
            ProductSummation::Lanes => f.write_str(" in partial sums")?,
            ProductSummation::Split => f.write_str(" in parts of bf16")?,
        }
        f.write_str("\n")?;
        for (role, matrix) in [("dst", dst), ("lhs", lhs), ("rhs", rhs)] {
            writeln!(f, "     {role} {matrix}")?;
        }
        self.write_epilogue(f, epilogue.as_ref())
    }

    fn write_epilogue(&self, f: &mut fmt::Formatter<'_>, epilogue: Option<&Launch>) -> fmt::Result {
        let Some(epilogue) = epilogue else {
            return Ok(());
        };
        f.write_str("     epilogue ")?;
        self.write_launch(f, epilogue)
    }
}

fn write_guard(f: &mut fmt::Formatter<'_>, guard: &Guard) -> fmt::Result {
    writeln!(
        f,
        "guard {} {:?} at {:?}",
        guard.condition, guard.message, guard.location
    )
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.buffer)?;
        if self.offset.constant() != Some(0) {
            write!(f, " at {}", self.offset)?;
        }
        let mut strides = self.batch_strides.clone();
        strides.extend([self.row_stride.clone(), self.column_stride.clone()]);
        write!(f, " strides [{}]", list(&strides))
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Home::Input => f.write_str("input"),
            Home::Resident => f.write_str("resident"),
            Home::Output => f.write_str("output"),
            Home::Constant(bytes) => write!(f, "constant of {} bytes", bytes.len()),
            Home::Arena(live) => write!(f, "arena, live {}..={}", live.first, live.last),
            Home::Scratch => f.write_str("scratch"),
            Home::Local(live) => write!(f, "local, live {}..={}", live.first, live.last),
            Home::Slice(slice) => write!(f, "slice {slice}"),
            Home::Stretch(Stretch { of, skip, rest }) => {
                write!(f, "stretch of {of} behind {skip} and before {rest}")
            }
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "update",
        })
    }
}

pub(super) fn list<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    items.join(", ")
}
