//! The whole way from a graph to a program with its machine code.
//!
//! The phases follow one another here and nowhere else; each is timed, and each reports the stage that it has reached, so that it can be
//! dumped or be the last.

use crate::driver::{Context, optimize};
use crate::emit::{Target, asm_text, clif_text};
use crate::error::CompileError;
use crate::fusion::{Groups, Printed, form};
use crate::jit::{JitCode, compile_for};
use crate::kernel::Kernel;
use crate::lower::{Choices, MOST_ELEMENTS, Strips, lower};
use crate::math::wide::Width;
use crate::options::{FullWidth, Options};
use crate::passes::live_part;
use crate::plan::{Bodies, Planned, plan, requirements, separate_sinks, without_carried};
use crate::stage::Stage;
use kiln_ir::ops::Op;
use kiln_ir::program::{Program, Step};
use kiln_ir::{DType, Graph, Node, NodeId};
use std::time::{Duration, Instant};

/// What one phase took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// The phase, or the pass.
    pub name: &'static str,
    /// How long it ran.
    pub time: Duration,
}

/// A compiled graph: plain data and the code that it calls.
pub struct Compiled {
    /// The steps and buffers.
    pub program: Program,
    /// The machine code of its kernels.
    pub code: JitCode,
    /// What each phase took, in order.
    pub phases: Vec<Phase>,
}

impl Compiled {
    /// How long the compilation took in all.
    pub fn time(&self) -> Duration {
        self.phases.iter().map(|p| p.time).sum()
    }
}

/// Compiles a graph for this machine.
///
/// # Errors
/// A graph that breaks invariants, element types without machine code (f16 and bf16), a dump that cannot be written; [`CompileError`]
/// lists what else there is.
///
/// ```
/// use kiln_compiler::{Options, compile};
/// use kiln_ir::{Builder, DType};
///
/// let g = Builder::new("double");
/// let x = g.input("x", DType::F32, (g.dim("b"),));
/// g.output("y", x + x);
/// let compiled = compile(&g.finish().unwrap(), &Options::default()).unwrap();
/// assert_eq!(compiled.program.steps.len(), 1);
/// ```
pub fn compile(graph: &Graph, options: &Options) -> Result<Compiled, CompileError> {
    compile_in(graph, &mut Context::new(options))
}

/// As [`compile`], with a context that may hold a sink for dumps.
///
/// # Errors
/// As [`compile`].
pub fn compile_in(graph: &Graph, cx: &mut Context<'_>) -> Result<Compiled, CompileError> {
    let mut phases = Vec::new();
    let planned = planned(graph, cx, &mut phases)?;
    with_machine_code(graph, &planned)?;
    let Planned { program, kernels } = planned;
    let target = target(cx.options())?;
    let mut failed = None;
    for (stage, text) in [
        (Stage::Clif, clif_text as fn(&Kernel, &Target) -> _),
        (Stage::Asm, asm_text),
    ] {
        cx.reach(stage, &graph.name, || {
            joined(&kernels, |k| text(k, &target))
                .unwrap_or_else(|e| failed.get_or_insert(e).to_string())
        })?;
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    let mut clock = Clock::start(&mut phases);
    let code = compile_for(&kernels, &target)?;
    clock.phase("emit");
    Ok(Compiled {
        program,
        code,
        phases,
    })
}

/// The machine that code is made for.
pub(crate) fn target(options: &Options) -> Result<Target, CompileError> {
    let target = Target::native()?;
    Ok(match options.full_width {
        FullWidth::Always => target,
        FullWidth::Never | FullWidth::Strips => target.without_wide(),
    })
}

/// Refuses element types that kernels and products cannot compute, at the first node that has one.
pub(crate) fn with_machine_code(graph: &Graph, planned: &Planned) -> Result<(), CompileError> {
    match without_code(&planned.program, &planned.kernels) {
        Some(dtype) => Err(located(graph, dtype)),
        None => Ok(()),
    }
}

/// The first element type in a program that kernels and products cannot compute.
fn without_code(program: &Program, kernels: &[Kernel]) -> Option<DType> {
    let values = kernels.iter().flat_map(|k| {
        let params = k.params.iter().map(|p| p.dtype);
        params.chain(k.values.iter().copied())
    });
    let products = program.steps.iter().filter_map(|step| match step {
        Step::Product(product) => Some(product.dtype),
        Step::Convolution(convolution) => Some(convolution.dtype),
        Step::Kernel(_)
        | Step::Guard(_)
        | Step::Loop(_)
        | Step::While(_)
        | Step::Branch(_)
        | Step::Copy(_)
        | Step::Custom(_) => None,
    });
    values
        .chain(products)
        .find(|dtype| matches!(dtype, DType::F16 | DType::BF16))
}

/// The refusal of an element type, at the first node that computes with it.
fn located(graph: &Graph, dtype: DType) -> CompileError {
    let live = live_part(graph);
    let regions = live.nodes().filter_map(|(_, n)| n.op.as_compound());
    for region in regions.flat_map(|control| control.regions()) {
        if region.nodes().any(|(_, n)| n.ty.dtype == dtype) {
            return located(region, dtype);
        }
    }
    let touches = |node: &&Node| {
        let operands = node.operands.iter().filter_map(|o| live.node(*o));
        node.ty.dtype == dtype || operands.into_iter().any(|o| o.ty.dtype == dtype)
    };
    let nodes = || live.nodes().map(|(_, node)| node).filter(touches);
    let computes = nodes().find(|n| !matches!(n.op, Op::Source(_) | Op::Constant(_)));
    let (op, provenance) = match computes.or_else(|| nodes().next()) {
        Some(node) => (node.op.rules().name(), node.provenance.place()),
        None => ("a node", "an unknown place".into()),
    };
    CompileError::ElementType {
        op,
        dtype,
        provenance,
    }
}

/// Refuses what has no code, by name and line: windows that are too large to be unrolled.
fn with_code(graph: &Graph) -> Result<(), CompileError> {
    for (_, node) in graph.nodes() {
        for region in node.op.as_compound().iter().flat_map(|c| c.regions()) {
            with_code(region)?;
        }
        let windows = match &node.op {
            Op::ReduceWindow(op) => &op.windows,
            Op::ArgWindow(op) => &op.windows,
            Op::GatherWindow(op) => &op.windows,
            Op::ScatterWindow(op) => &op.windows,
            _ => continue,
        };
        let elements = windows.elements().unwrap_or(i64::MAX);
        if elements > MOST_ELEMENTS {
            return Err(CompileError::Window {
                op: node.op.rules().name(),
                elements,
                most: MOST_ELEMENTS,
                provenance: node.provenance.place(),
            });
        }
    }
    Ok(())
}

/// The program of a graph, without machine code: enough to know its steps and its memory.
///
/// # Errors
/// As [`compile`].
pub fn program(graph: &Graph, options: &Options) -> Result<Program, CompileError> {
    let planned = planned(graph, &mut Context::new(options), &mut Vec::new())?;
    Ok(planned.program)
}

/// The phases up to the program.
pub(crate) fn planned(
    graph: &Graph,
    cx: &mut Context<'_>,
    phases: &mut Vec<Phase>,
) -> Result<Planned, CompileError> {
    let name = &graph.name;
    let optimized = optimize(graph, cx)?;
    phases.extend(optimized.timings.iter().map(|t| Phase {
        name: t.pass,
        time: t.time,
    }));
    with_code(&optimized.graph)?;
    let mut clock = Clock::start(phases);
    let requirements = requirements(graph);
    let graph = separate_sinks(&optimized.graph);
    let bodies = bodies(&graph, cx.options())?;
    clock.phase("regions");
    let groups = form(&graph, cx.options().fuse);
    clock.phase("fuse");
    let fuse = cx.options().fuse;
    cx.reach(Stage::Fused, name, || fused_text(&graph, &groups, fuse))?;
    clock.restart();
    let lowered = lower(&graph, &groups, choices(cx.options()))?;
    clock.phase("lower");
    let options = cx.options();
    let Planned { program, kernels } = plan(&graph, &lowered, &bodies, requirements, options);
    clock.phase("plan");
    cx.reach(Stage::Kernels, name, || {
        joined(&kernels, |k| Ok::<_, CompileError>(k.to_string())).unwrap_or_default()
    })?;
    if cx.options().verify {
        program
            .verify()
            .map_err(|violations| CompileError::Program {
                graph: name.clone(),
                violations: violations.to_string(),
            })?;
    }
    cx.reach(Stage::Program, name, || program.to_string())?;
    Ok(Planned { program, kernels })
}

/// What the regions of all control ops become: programs of their own.
fn bodies(graph: &Graph, options: &Options) -> Result<Bodies, CompileError> {
    let mut bodies = Bodies::new();
    for (id, node) in graph.nodes() {
        let regions = planned_regions(graph, id, &node.op);
        if regions.is_empty() {
            continue;
        }
        let planned = regions.iter().map(|region| body(region, options));
        bodies.insert(id, planned.collect::<Result<_, _>>()?);
    }
    Ok(bodies)
}

/// The regions of an op, that of a node of a graph, as they are planned; none of an op that is no control op.
fn planned_regions(graph: &Graph, node: NodeId, op: &Op) -> Vec<Graph> {
    match (op, op.as_compound()) {
        (Op::Scan(scan), _) => vec![without_carried(graph, node, scan)],
        (_, Some(control)) => {
            let regions = control.regions().into_iter();
            regions.map(|region| (**region).clone()).collect()
        }
        (_, None) => Vec::new(),
    }
}

/// What one region becomes. Its passes have run with those of the graph around it.
fn body(region: &Graph, options: &Options) -> Result<Planned, CompileError> {
    let graph = separate_sinks(region);
    let bodies = bodies(&graph, options)?;
    let groups = form(&graph, options.fuse);
    let lowered = lower(&graph, &groups, choices(options))?;
    Ok(plan(&graph, &lowered, &bodies, Vec::new(), options))
}

/// The groups of a graph, and behind them those of its regions.
fn fused_text(graph: &Graph, groups: &Groups, fuse: bool) -> String {
    let mut text = Printed { groups, graph }.to_string();
    for (id, node) in graph.nodes() {
        for region in planned_regions(graph, id, &node.op) {
            let region = separate_sinks(&region);
            let groups = form(&region, fuse);
            text += &format!("region of {id}: {}", fused_text(&region, &groups, fuse));
        }
    }
    text
}

fn choices(options: &Options) -> Choices {
    Choices {
        strips: strips(options.full_width),
        split_products: options.split_products,
    }
}

/// Which lanes loops become strips on this machine.
fn strips(full_width: FullWidth) -> Strips {
    match (full_width, Width::native()) {
        (FullWidth::Never, _) | (_, Width::Portable) => Strips::None,
        (FullWidth::Always, Width::Avx512) => Strips::Rest,
        (FullWidth::Strips, Width::Avx2 | Width::Avx512) | (FullWidth::Always, Width::Avx2) => {
            Strips::All
        }
    }
}

/// The text of a graph at a stage. Up to the program it is the same on every machine with [`FullWidth::Never`].
///
/// # Errors
/// As [`compile`].
pub fn stage_text(graph: &Graph, stage: Stage, options: &Options) -> Result<String, CompileError> {
    let options = Options {
        dump: vec![stage],
        dump_dir: None,
        stop_after: Some(stage),
        ..options.clone()
    };
    let mut found = String::new();
    let mut sink = |_: Stage, text: &str| text.clone_into(&mut found);
    match compile_in(graph, &mut Context::with_sink(&options, &mut sink)) {
        Ok(_) | Err(CompileError::Stopped(_)) => Ok(found),
        Err(error) => Err(error),
    }
}

/// The texts of all kernels, one below the other.
fn joined<E>(kernels: &[Kernel], text: impl Fn(&Kernel) -> Result<String, E>) -> Result<String, E> {
    let texts: Vec<String> = kernels.iter().map(text).collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}

struct Clock<'p> {
    phases: &'p mut Vec<Phase>,
    since: Instant,
}

impl<'p> Clock<'p> {
    fn start(phases: &'p mut Vec<Phase>) -> Self {
        Self {
            phases,
            since: Instant::now(),
        }
    }

    fn restart(&mut self) {
        self.since = Instant::now();
    }

    fn phase(&mut self, name: &'static str) {
        let now = Instant::now();
        self.phases.push(Phase {
            name,
            time: now - self.since,
        });
        self.since = now;
    }
}
