//! A compilation laid open: the graph behind the passes with its groups, the program, and each kernel in every form it has.

use crate::compile::{planned, target, with_machine_code};
use crate::driver::{Context, optimize};
use crate::emit::{asm_text, clif_text};
use crate::error::CompileError;
use crate::fusion::{Groups, form};
use crate::options::Options;
use crate::plan::separate_sinks;
use kiln_ir::Graph;
use kiln_ir::program::Program;

/// What became of a graph.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The graph that was grouped: behind the passes, with a node of its own for each result and update.
    pub graph: Graph,
    /// What is computed together.
    pub groups: Groups,
    /// Steps and buffers.
    pub program: Program,
    /// The kernels of the program and of the regions in it, in the order of its kernel ids.
    pub kernels: Vec<KernelTexts>,
}

/// A kernel in every form, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelTexts {
    /// The name in steps and profiles.
    pub name: String,
    /// Loops, loads and stores.
    pub loops: String,
    /// Cranelift's IR.
    pub clif: String,
    /// Machine code.
    pub asm: String,
}

/// Compiles a graph and keeps what is in between. No code is made that could run.
///
/// # Errors
/// As [`compile`](crate::compile).
///
/// ```
/// use kiln_compiler::{Options, inspect};
/// use kiln_ir::{Builder, DType};
///
/// let g = Builder::new("double");
/// let x = g.input("x", DType::F32, (g.dim("b"),));
/// g.output("y", x + x);
/// let inspection = inspect(&g.finish().unwrap(), &Options::default())?;
/// assert_eq!(inspection.groups.groups.len(), 1);
/// assert!(inspection.kernels[0].asm.contains("ret"));
/// # Ok::<(), kiln_compiler::CompileError>(())
/// ```
pub fn inspect(graph: &Graph, options: &Options) -> Result<Inspection, CompileError> {
    let cx = &mut Context::new(options);
    let planned = planned(graph, cx, &mut Vec::new())?;
    with_machine_code(graph, &planned)?;
    let target = target(options)?;
    let texts = planned.kernels.iter().map(|kernel| {
        Ok(KernelTexts {
            name: kernel.name.clone(),
            loops: kernel.to_string(),
            clif: clif_text(kernel, &target)?,
            asm: asm_text(kernel, &target)?,
        })
    });
    let kernels = texts.collect::<Result<_, CompileError>>()?;
    let grouped = separate_sinks(&optimize(graph, cx)?.graph);
    Ok(Inspection {
        groups: form(&grouped, options.fuse),
        graph: grouped,
        program: planned.program,
        kernels,
    })
}
