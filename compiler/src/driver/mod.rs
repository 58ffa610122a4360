//! The pass driver: it alone times passes, verifies what they return, guards the signature, and dumps.
//!
//! Passes know nothing of this. A pass that fails is named, its input is written to a file, and [`run_pass`] on that file's graph shows
//! the failure again. The driver prints nothing: timings are plain data, and dumps go to files or to the caller's sink.

use crate::error::{CompileError, PassFailure, PassFault};
use crate::options::Options;
use crate::passes::{self, Numerics, Pass, PassCx, PassError, Pipeline};
use crate::stage::Stage;
use kiln_ir::Graph;
use std::time::{Duration, Instant};

mod context;
mod signature;
mod traced;

pub use context::{Context, Sink};
pub use traced::traced;

/// What one pass took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The pass.
    pub pass: &'static str,
    /// How long it ran, checks not counted.
    pub time: Duration,
    /// The nodes that it was given.
    pub before: usize,
    /// The nodes that it returned.
    pub after: usize,
}

/// A graph behind the passes.
#[derive(Clone, Debug)]
pub struct Optimized {
    /// The graph, of the same signature as the one given.
    pub graph: Graph,
    /// What each pass took, in the order in which they ran.
    pub timings: Vec<Timing>,
}

/// Runs the standard pipeline: what must run, and behind the equality point, with [`Options::optimize`], what makes it faster.
///
/// # Errors
/// [`CompileError::Invalid`] for a graph that breaks invariants, [`CompileError::Pass`] for a defect of a pass,
/// [`CompileError::Dump`] for a dump that cannot be written and [`CompileError::Stopped`] where the options ask to end here.
pub fn optimize(graph: &Graph, cx: &mut Context<'_>) -> Result<Optimized, CompileError> {
    run_pipeline(graph, &Pipeline::standard(), cx)
}

/// As [`optimize`], with the passes of `pipeline`.
pub fn run_pipeline(
    graph: &Graph,
    pipeline: &Pipeline,
    cx: &mut Context<'_>,
) -> Result<Optimized, CompileError> {
    if let Some(pass) = pipeline
        .exact
        .iter()
        .find(|p| p.numerics() == Numerics::Reorders)
    {
        return Err(CompileError::Pipeline {
            pass: pass.name().to_owned(),
        });
    }
    // Passes index by what the graph says, so it is checked even where their results are not.
    check_input(graph)?;
    cx.reach(Stage::Traced, &graph.name, || traced(graph).to_string())?;
    cx.reach(Stage::Differentiated, &graph.name, || graph.to_string())?;
    let mut optimized = Optimized {
        graph: graph.clone(),
        timings: Vec::new(),
    };
    let chosen = cx.options().optimize.then_some(&pipeline.exact);
    for pass in pipeline
        .mandatory
        .iter()
        .chain(chosen.into_iter().flatten())
    {
        let (graph, timing) = run_checked(pass.as_ref(), &optimized.graph, cx.options())?;
        optimized.graph = graph;
        optimized.timings.push(timing);
    }
    let result = &optimized.graph;
    cx.reach(Stage::Optimized, &result.name, || result.to_string())?;
    Ok(optimized)
}

/// Runs the pass called `name` alone, with the driver's checks: how a failure is replayed and how a pass is tested.
///
/// # Errors
/// [`CompileError::UnknownPass`], [`CompileError::Invalid`] and [`CompileError::Pass`].
pub fn run_pass(name: &str, graph: &Graph, options: &Options) -> Result<Graph, CompileError> {
    let pass = passes::by_name(name).ok_or_else(|| CompileError::UnknownPass {
        name: name.to_owned(),
        known: passes::names().join(", "),
    })?;
    check_input(graph)?;
    Ok(run_checked(pass.as_ref(), graph, options)?.0)
}

fn check_input(graph: &Graph) -> Result<(), CompileError> {
    kiln_ir::verify(graph).map_err(|violations| CompileError::Invalid {
        graph: graph.name.clone(),
        violations: violations.to_string(),
    })
}

/// Runs a pass on a graph, and on the regions of what it returns.
fn run_deep(pass: &dyn Pass, graph: &Graph, cx: &PassCx<'_>) -> Result<Graph, PassError> {
    let after = pass.run(graph, cx)?;
    if after
        .nodes()
        .all(|(_, node)| node.op.as_compound().is_none())
    {
        return Ok(after);
    }
    passes::map_regions(&after, &mut |region| run_deep(pass, region, cx))
}

fn run_checked(
    pass: &dyn Pass,
    graph: &Graph,
    options: &Options,
) -> Result<(Graph, Timing), CompileError> {
    let start = Instant::now();
    let result = run_deep(pass, graph, &PassCx { options });
    let time = start.elapsed();
    let checked = result.map_err(PassFault::from).and_then(|after| {
        signature::unchanged(graph, &after).map_err(PassFault::Signature)?;
        if options.verify {
            kiln_ir::verify(&after).map_err(|v| PassFault::Invalid(v.to_string()))?;
        }
        Ok(after)
    });
    match checked {
        Ok(after) => {
            let timing = Timing {
                pass: pass.name(),
                time,
                before: graph.len(),
                after: after.len(),
            };
            Ok((after, timing))
        }
        Err(cause) => Err(Box::new(PassFailure {
            pass: pass.name().to_owned(),
            graph: graph.name.clone(),
            cause,
            input: context::write_failing_input(options, pass.name(), graph),
        })
        .into()),
    }
}
