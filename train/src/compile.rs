//! From a graph to an executable: where compiler and runtime, which never import each other, meet.
//!
//! Compiling prints nothing by itself. What a user asks to see by [`Options`], timings and dumps without a folder, is written to standard
//! error here and nowhere else.

use kiln_compiler::driver::Context;
use kiln_compiler::{
    CompileError, Compiled, FullWidth, Options, Phase, Stage, compile_in, stage_text,
};
use kiln_ir::{BindError, Graph};
use kiln_runtime::{Executable, LoadError};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// Why a graph did not become an executable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The compiler gave no program.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The runtime refuses the compiled program: a product of types that it does not multiply, or constants too large for the machine.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A size of the graph has no value under the bindings, or is out of range.
    #[error(transparent)]
    Size(#[from] BindError),
    /// The perf map that the options ask for could not be written.
    #[error("cannot write the perf map {}: {source}", path.display())]
    PerfMap {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Compiles a graph for this machine, ready to be opened as sessions.
///
/// With [`Options::time`], a table of the phases goes to standard error; dumps go to [`Options::dump_dir`], else to standard error too.
/// With [`Options::perf_map`], the kernels are added to `/tmp/perf-PID.map`, so that `perf report` names them.
///
/// # Errors
/// [`Error::Compile`] for a graph that cannot be compiled, or where the options ask to stop early; [`Error::Load`] for types that the
/// runtime cannot multiply.
///
/// ```
/// use kiln_compiler::Options;
/// use kiln_ir::{Builder, DType};
///
/// let g = Builder::new("double");
/// let x = g.input("x", DType::F32, (g.dim("n"),));
/// g.output("y", x + x);
/// let mut session = kiln_train::compile(&g.finish()?, &Options::default())?.session(0)?;
/// let outputs = session.step(&[vec![1.0_f32, 2.0, 3.0]])?;
/// assert_eq!(outputs.as_slice::<f32>("y")?, [2.0, 4.0, 6.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn compile(graph: &Graph, options: &Options) -> Result<Executable, Error> {
    let mut to_stderr = |stage: Stage, text: &str| show(&format!("; {stage}\n{text}\n"));
    let options = &Options {
        split_products: options.split_products && kiln_runtime::product::has_tiles(),
        ..options.clone()
    };
    let compiled = compile_in(graph, &mut Context::with_sink(options, &mut to_stderr))?;
    if options.time {
        show(&phase_table(&graph.name, &compiled.phases));
    }
    let Compiled { program, code, .. } = compiled;
    if options.perf_map {
        append_perf_map(&code.perf_map())?;
    }
    // SAFETY: the compiler made this code for this program, and nothing has changed either since.
    let executable = unsafe { Executable::new(program, Box::new(code)) }?;
    Ok(executable)
}

/// The text of a graph at a stage, compiled with the default options: what the facade's `assert_ir_snapshot!` compares.
/// The user's files and lines are left out.
///
/// # Errors
/// [`CompileError`] for a graph that cannot be compiled up to the stage.
///
/// ```
/// use kiln_compiler::Stage;
/// use kiln_ir::{Builder, DType};
///
/// let g = Builder::new("double");
/// let x = g.input("x", DType::F32, (g.dim("n"),));
/// g.output("y", x + x);
/// let text = kiln_train::ir_text(&g.finish()?, Stage::Optimized)?;
/// assert!(text.starts_with("kiln 1\ngraph @double<n>(%x: f32[n]) {\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn ir_text(graph: &Graph, stage: Stage) -> Result<String, CompileError> {
    // Strips are for machines with wide registers only; a snapshot is for all.
    let options = Options {
        full_width: if stage >= Stage::Clif {
            FullWidth::Always
        } else {
            FullWidth::Never
        },
        ..Options::default()
    };
    stage_text(graph, stage, &options)
}

/// Adds kernels to the file that `perf` reads for this process. Where it looks for it is fixed.
fn append_perf_map(lines: &str) -> Result<(), Error> {
    let path = PathBuf::from(format!("/tmp/perf-{}.map", std::process::id()));
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path);
    file.and_then(|mut file| file.write_all(lines.as_bytes()))
        .map_err(|source| Error::PerfMap { path, source })
}

/// Writes to standard error. Where that is closed, nobody wanted to read.
fn show(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// The phases in order, each with its time and its share, and their sum.
fn phase_table(graph: &str, phases: &[Phase]) -> String {
    let total: Duration = phases.iter().map(|phase| phase.time).sum();
    let longest = phases.iter().map(|phase| phase.name.len()).max();
    let width = longest.unwrap_or(0).max("total".len());
    let mut text = format!("compiled `{graph}`\n");
    let mut line = |name: &str, time: Duration| {
        let share = 100.0 * time.as_secs_f64() / total.as_secs_f64().max(f64::MIN_POSITIVE);
        let milliseconds = 1e3 * time.as_secs_f64();
        // Writing to a `String` does not fail.
        let _ = writeln!(
            text,
            "  {name:<width$} {milliseconds:>9.3} ms {share:>5.1} %"
        );
    };
    for phase in phases {
        line(phase.name, phase.time);
    }
    line("total", total);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_each_phase_with_its_share() {
        let phase = |name, microseconds| Phase {
            name,
            time: Duration::from_micros(microseconds),
        };
        let table = phase_table("mlp", &[phase("fold", 250), phase("canonicalize", 12_250)]);
        let wanted = "compiled `mlp`
  fold             0.250 ms   2.0 %
  canonicalize    12.250 ms  98.0 %
  total           12.500 ms 100.0 %
";
        assert_eq!(table, wanted);
        assert!(phase_table("empty", &[]).ends_with("0.000 ms   0.0 %\n"));
    }
}
