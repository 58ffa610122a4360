//! The driver: timings, dumps, stops, and what it says of a pass that fails.

use kiln_compiler::driver::{self, Context, run_pipeline};
use kiln_compiler::passes::{Numerics, Pass, PassCx, PassError, Pipeline};
use kiln_compiler::{CompileError, Options, PassFault, Stage};
use kiln_ir::{Builder, DType, Graph, Init, NodeId, Slot, grad};
use std::path::PathBuf;

fn linear() -> Graph {
    let g = Builder::new("linear");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), 1));
    let y = g.input("y", DType::F32, (b, 1));
    let w = g.param("w", (1, 1), Init::uniform(0.5));
    let loss = (x.dot(w) - y).square().mean();
    g.update(w, w - grad(loss, &[w])[0] * 0.1);
    g.output("loss", loss);
    g.finish().unwrap()
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("kiln-passes-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

/// A pass that breaks a graph in the way that it is told to.
struct Broken(fn(&Graph) -> Result<Graph, PassError>);

impl Pass for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn numerics(&self) -> Numerics {
        Numerics::Exact
    }

    fn run(&self, graph: &Graph, _: &PassCx<'_>) -> Result<Graph, PassError> {
        (self.0)(graph)
    }
}

fn pipeline(break_it: fn(&Graph) -> Result<Graph, PassError>) -> Pipeline {
    let mut pipeline = Pipeline::standard();
    pipeline.exact.push(Box::new(Broken(break_it)));
    pipeline
}

/// What the pass failure says, its fault, and the text of the file that it names.
fn failure(
    name: &str,
    break_it: fn(&Graph) -> Result<Graph, PassError>,
) -> (String, PassFault, String) {
    let options = Options {
        dump_dir: Some(folder(name)),
        ..Options::default()
    };
    let error =
        run_pipeline(&linear(), &pipeline(break_it), &mut Context::new(&options)).unwrap_err();
    let message = error.to_string();
    let CompileError::Pass(failure) = error else {
        panic!("{message}");
    };
    assert_eq!(
        (failure.pass.as_str(), failure.graph.as_str()),
        ("broken", "linear")
    );
    let path = failure.input.unwrap();
    assert!(message.contains(&path.display().to_string()), "{message}");
    assert!(message.contains("run_pass(\"broken\", ..)"), "{message}");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_dir_all(options.dump_dir.unwrap()).unwrap();
    (message, failure.cause, text)
}

/// What the pass at the end of the pipeline is given.
fn input_of_last() -> String {
    let options = Options::default();
    let optimized = driver::optimize(&linear(), &mut Context::new(&options)).unwrap();
    optimized.graph.to_string()
}

#[test]
fn every_pass_is_timed_in_order() {
    let options = Options::default();
    let optimized = driver::optimize(&linear(), &mut Context::new(&options)).unwrap();
    let names: Vec<&str> = optimized.timings.iter().map(|t| t.pass).collect();
    assert_eq!(names, kiln_compiler::passes::names());
    assert_eq!(optimized.timings[0].before, linear().len());
    assert_eq!(
        optimized.timings.last().unwrap().after,
        optimized.graph.len()
    );
    let options = Options {
        optimize: false,
        ..Options::default()
    };
    let plain = driver::optimize(&linear(), &mut Context::new(&options)).unwrap();
    let mandatory = Pipeline::standard().mandatory.len();
    assert_eq!(plain.timings.len(), mandatory);
    assert!(plain.graph.len() > optimized.graph.len());
}

#[test]
fn a_pass_that_gives_up_is_named_and_its_input_is_kept() {
    let (message, fault, text) = failure("gives-up", |_| {
        Err(PassError {
            node: NodeId::new(3),
            rule: Some("some-rule"),
            message: "a tensor of type f32[] has become f64[]".into(),
        })
    });
    assert!(
        message.starts_with(
            "the pass `broken` failed on the graph `linear`: at %3, in the rule `some-rule`: a tensor of type f32[] has become f64[]\n"
        ),
        "{message}"
    );
    assert!(matches!(fault, PassFault::Pass(_)));
    assert_eq!(text, input_of_last());
}

#[test]
fn a_result_that_is_not_valid_is_caught() {
    let (message, fault, text) = failure("invalid", |graph| {
        let mut broken = Graph::empty(&graph.name);
        for (_, node) in graph.nodes() {
            let mut node = node.clone();
            // The update and the output lose nothing of their types, but operands go missing.
            if node.op.rules().name() == "dot" {
                node.operands.pop();
            }
            broken.push(node);
        }
        graph
            .slots()
            .iter()
            .for_each(|s| broken.push_slot(s.clone()));
        graph
            .outputs()
            .iter()
            .for_each(|o| broken.push_output(o.clone()));
        graph.updates().iter().for_each(|u| broken.push_update(*u));
        Ok(broken)
    });
    assert!(matches!(fault, PassFault::Invalid(_)), "{message}");
    assert!(
        message.contains("`dot` takes 2 operands, not 1"),
        "{message}"
    );
    assert_eq!(text, input_of_last());
}

#[test]
fn a_changed_signature_is_caught() {
    fn rebuilt(graph: &Graph, slot: impl Fn(&Slot) -> Slot, updates: bool) -> Graph {
        let mut broken = Graph::empty(&graph.name);
        graph.nodes().for_each(|(_, n)| {
            broken.push(n.clone());
        });
        graph.slots().iter().for_each(|s| broken.push_slot(slot(s)));
        graph
            .outputs()
            .iter()
            .for_each(|o| broken.push_output(o.clone()));
        graph
            .updates()
            .iter()
            .filter(|_| updates)
            .for_each(|u| broken.push_update(*u));
        broken
    }
    let (message, fault, _) = failure("updates", |g| Ok(rebuilt(g, Slot::clone, false)));
    assert!(matches!(fault, PassFault::Signature(_)));
    assert!(
        message.contains("there were 1 updates and are 0"),
        "{message}"
    );
    let (message, fault, _) = failure("slots", |g| {
        let renamed = |s: &Slot| Slot {
            name: s.name.to_uppercase(),
            ..s.clone()
        };
        Ok(rebuilt(g, renamed, true))
    });
    assert!(matches!(fault, PassFault::Signature(_)));
    assert!(
        message.contains("among the slots, `x: f32[b, 1] Input` has become `X: f32[b, 1] Input`"),
        "{message}"
    );
}

#[test]
fn a_pass_that_reorders_may_not_stand_behind_the_equality_point() {
    let mut pipeline = Pipeline::standard();
    pipeline.exact.extend(Pipeline::standard().mandatory);
    let options = Options::default();
    let error = run_pipeline(&linear(), &pipeline, &mut Context::new(&options)).unwrap_err();
    assert!(
        matches!(&error, CompileError::Pipeline { pass } if pass == "legalize"),
        "{error}"
    );
}

#[test]
fn dumps_go_to_the_sink_and_the_compilation_stops_where_it_is_asked_to() {
    let options = Options {
        dump: vec![
            Stage::Traced,
            Stage::Differentiated,
            Stage::Optimized,
            Stage::Asm,
        ],
        stop_after: Some(Stage::Optimized),
        ..Options::default()
    };
    let mut dumps = Vec::new();
    let mut sink = |stage: Stage, text: &str| dumps.push((stage, text.to_owned()));
    let error =
        driver::optimize(&linear(), &mut Context::with_sink(&options, &mut sink)).unwrap_err();
    assert!(matches!(error, CompileError::Stopped(Stage::Optimized)));
    let stages: Vec<Stage> = dumps.iter().map(|(s, _)| *s).collect();
    assert_eq!(
        stages,
        [Stage::Traced, Stage::Differentiated, Stage::Optimized]
    );
    assert_eq!(dumps[1].1, linear().to_string());
    // The forward part has the product of the prediction, but no gradient and no update.
    assert_eq!(dumps[0].1.matches("= dot ").count(), 1, "{}", dumps[0].1);
    assert_eq!(dumps[1].1.matches("= dot ").count(), 3);
    assert!(!dumps[0].1.contains("update") && dumps[1].1.contains("update"));
}

#[test]
fn dumps_go_to_the_folder() {
    let dir = folder("dumps");
    let options = Options {
        dump: vec![Stage::Optimized],
        dump_dir: Some(dir.clone()),
        ..Options::default()
    };
    let mut graph = linear();
    // A name may come from a file; it must not lead out of the folder.
    graph.name = "../evil/name".into();
    let optimized = driver::optimize(&graph, &mut Context::new(&options)).unwrap();
    let text = std::fs::read_to_string(dir.join("---evil-name.optimized.kir")).unwrap();
    assert_eq!(text, optimized.graph.to_string());
    std::fs::remove_dir_all(&dir).unwrap();
    // A folder that cannot be made is an error with its name.
    std::fs::write(&dir, "a file").unwrap();
    let error = driver::optimize(&graph, &mut Context::new(&options)).unwrap_err();
    assert!(
        matches!(
            &error,
            CompileError::Dump {
                stage: Stage::Optimized,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("optimized.kir"), "{error}");
    std::fs::remove_file(&dir).unwrap();
}

#[test]
fn unknown_passes_and_invalid_graphs_are_refused() {
    let options = Options::default();
    let error = driver::run_pass("inline", &linear(), &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no pass `inline`; the passes are legalize, hoist, reduce_strength, layout, absorb_transposes, order_matrices, canonicalize, fold, cse, join_kept, dce"
    );
    let mut graph = linear();
    let mut node = graph.node(NodeId::new(3)).unwrap().clone();
    node.operands = vec![NodeId::new(1000)];
    graph.push(node);
    let error = driver::optimize(&graph, &mut Context::new(&options)).unwrap_err();
    assert!(matches!(&error, CompileError::Invalid { .. }), "{error}");
}
