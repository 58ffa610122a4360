//! What a graph will need of memory, and how good its plan is, before it is compiled to machine code.
//!
//! The compiler orders the steps, [`place`](kiln_ir::program::place) gives offsets, and the runtime adds what it needs itself; here the
//! three meet, and the order is compared with the plain one. Nothing runs and nothing is allocated for the graph.

use kiln_compiler::{Options, Order, program};
use kiln_ir::program::place;
use kiln_ir::{Bindings, Graph};
use kiln_runtime::{Bytes, MemoryReport};
use kiln_train::Error;
use std::fmt;
use std::num::NonZeroUsize;

/// The memory of one session under one binding, beside what no plan could save and what a plain one would cost.
///
/// Its `Display` is a table, a line for each purpose.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanReport {
    /// The name of the graph.
    pub graph: String,
    /// The binding.
    pub bindings: Bindings,
    /// What the session needs. [`arena`](MemoryReport::arena) is the plan's, and [`live_peak`](MemoryReport::live_peak) the bound: the
    /// largest sum of bytes that are alive at one step of the emitted schedule.
    pub memory: MemoryReport,
    /// The bytes of the arena if the same steps ran in the order in which the nodes were written.
    pub topological: usize,
}

impl PlanReport {
    /// The arena over its bound: 1 where the offsets waste nothing, and for a program without an arena.
    pub fn ratio(&self) -> f64 {
        self.over_bound(self.memory.arena)
    }

    fn over_bound(&self, bytes: usize) -> f64 {
        match self.memory.live_peak {
            0 => 1.0,
            bound => bytes as f64 / bound as f64,
        }
    }
}

/// What a session of the graph needs of memory, planned as [`compile`](crate::compile) would, to the byte.
///
/// # Errors
/// [`Error::Compile`] for a graph that cannot be compiled; [`Error::Size`] where a size has no value under the bindings or is out of
/// range.
///
/// ```
/// use kiln::{Bindings, Builder, DType, Init, Optimizer, Options, Sgd};
/// use std::num::NonZeroUsize;
///
/// let g = Builder::new("linear");
/// let (x, y) = (g.input("x", DType::F32, (g.dim("b"), 8)), g.input("y", DType::F32, (g.dim("b"), 4)));
/// let w = g.param("w", (8, 4), Init::uniform(0.1));
/// let loss = (x.dot(w) - y).square().mean();
/// Sgd::new(0.1).minimize(loss);
/// g.output("loss", loss);
/// let bindings = Bindings::from([("b", 32)]);
/// let report = kiln::memory_report(&g.finish()?, &Options::default(), &bindings, NonZeroUsize::MIN)?;
/// assert!(report.ratio() <= 1.05 && report.memory.params == 8 * 4 * 4);
/// println!("{report}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn memory_report(
    graph: &Graph,
    options: &Options,
    bindings: &Bindings,
    threads: NonZeroUsize,
) -> Result<PlanReport, Error> {
    let memory = MemoryReport::of(&program(graph, options)?, bindings, threads.get())?;
    // Dumps were asked for once, and of the plan that is used.
    let plain = Options {
        order: Order::Topological,
        dump: Vec::new(),
        ..options.clone()
    };
    let plain = program(graph, &plain)?;
    Ok(PlanReport {
        graph: graph.name.clone(),
        bindings: bindings.clone(),
        memory,
        topological: place(&plain.buffers, bindings)?.arena,
    })
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = &self.memory;
        write!(f, "memory of `{}`", self.graph)?;
        for (index, (symbol, size)) in self.bindings.iter().enumerate() {
            let word = if index == 0 { " with" } else { "," };
            write!(f, "{word} {} = {size}", symbol.name())?;
        }
        writeln!(f)?;
        let of_bound = |bytes| format!("{:.3} of the bound", self.over_bound(bytes));
        let threads = match memory.threads {
            1 => "1 thread".to_owned(),
            threads => format!("{threads} threads, for each"),
        };
        for (what, bytes, note) in [
            ("arena", memory.arena, of_bound(memory.arena)),
            (
                "live bound",
                memory.live_peak,
                "the most that is alive at one step".to_owned(),
            ),
            (
                "topological order",
                self.topological,
                of_bound(self.topological),
            ),
            ("params", memory.params, String::new()),
            ("state", memory.state, String::new()),
            ("constants", memory.constants, String::new()),
            ("outputs", memory.outputs, String::new()),
            ("scratch", memory.scratch, threads),
            (
                "session",
                memory.total(),
                "arena, params, state, constants, outputs, scratch".to_owned(),
            ),
            ("inputs", memory.inputs, "lent by the caller".to_owned()),
        ] {
            let readable = Bytes(bytes).to_string();
            let line = format!("  {what:<17} {bytes:>14} B {readable:>11}  {note}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_purpose() {
        let report = PlanReport {
            graph: "mlp".to_owned(),
            bindings: Bindings::from([("b", 128), ("t", 3)]),
            memory: MemoryReport {
                inputs: 64,
                params: 1 << 20,
                state: 2 << 20,
                constants: 0,
                outputs: 64,
                arena: 2048,
                live_peak: 2000,
                scratch: 4096,
                threads: 2,
            },
            topological: 3000,
        };
        let wanted = "\
memory of `mlp` with b = 128, t = 3
  arena                       2048 B     2.0 KiB  1.024 of the bound
  live bound                  2000 B     2.0 KiB  the most that is alive at one step
  topological order           3000 B     2.9 KiB  1.500 of the bound
  params                   1048576 B     1.0 MiB
  state                    2097152 B     2.0 MiB
  constants                      0 B         0 B
  outputs                       64 B        64 B
  scratch                     4096 B     4.0 KiB  2 threads, for each
  session                  3156032 B     3.0 MiB  arena, params, state, constants, outputs, scratch
  inputs                        64 B        64 B  lent by the caller
";
        assert_eq!(report.to_string(), wanted);
        let empty = PlanReport {
            memory: MemoryReport::default(),
            ..report
        };
        assert!((empty.ratio() - 1.0).abs() < f64::EPSILON);
    }
}
