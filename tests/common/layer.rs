//! A training step of a layer: the same bits in every variant and on every number of threads, and what the interpreter gives within rounding.

use super::Numbers;
use super::compare::bits_differ;
use super::data::{Fed, Kind, random};
use super::jit::{VARIANTS, executable, inputs as fed_slots, residents, session_at, states, step};
use kiln_ir::{Array, Bindings, Builder, DType, Graph, Init, Role, eval, grad};
use kiln_nn::{Context, Layer, Optimizer, Sgd};

const BATCH: usize = 5;

/// A step of `layer` on `x: [b, features..]`: the result, and the gradient by the input.
fn graph(layer: &dyn Layer, features: &[i64]) -> Graph {
    let g = Builder::new("layer");
    let shape: Vec<_> = [g.dim("b")]
        .into_iter()
        .chain(features.iter().map(|f| (*f).into()))
        .collect();
    let x = g.input("x", DType::F32, &shape[..]);
    let y = Context::training(&g).layer("l", layer, x);
    // A square would not do: its sum hardly changes where `y` is normalised.
    let loss = (y * y.logistic()).mean();
    g.output("y", y);
    g.output("dx", grad(loss, &[x])[0]);
    // Some layers have nothing to learn.
    let scale = g.param("scale", (), Init::ones());
    Sgd::new(0.1).minimize(loss * scale);
    g.finish()
        .unwrap_or_else(|e| panic!("{}: {e}", layer.kind()))
}

/// The norm of the difference is small beside the norm.
fn agrees(what: &str, found: &Array, expected: &Array) {
    let (Ok(f), Ok(e)) = (found.floats(), expected.floats()) else {
        return;
    };
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut f.iter().zip(e).map(|(f, e)| f - e));
    let size = norm(&mut e.iter().copied());
    assert!(
        difference <= 2e-5 * size + 1e-7,
        "{what}: {difference} of {size}"
    );
}

/// Compares a training step of `layer` on `x: [5, features..]` with itself in every variant and on two threads, and with the interpreter.
pub fn check(layer: &dyn Layer, features: &[i64]) {
    let graph = graph(layer, features);
    let shape: Vec<usize> = [BATCH]
        .into_iter()
        .chain(features.iter().map(|f| *f as usize))
        .collect();
    let x = random(&mut Numbers::new(7), DType::F32, &shape, Kind::Plain);
    check_steps(layer.kind(), &graph, &[x], 1);
}

/// The same for `steps` steps of any graph on `inputs`, in the order of its own, of which all variants give the same bits: the outputs of
/// the last step and what is left behind.
pub fn check_steps(what: &str, graph: &Graph, inputs: &[Array], steps: usize) {
    let feeds: Vec<Fed> = inputs.iter().map(|array| Fed::new(array, false)).collect();
    let mut first = None;
    for variant in VARIANTS {
        let executable = executable(graph, variant).unwrap_or_else(|e| panic!("{what}: {e}"));
        for threads in [1, 2] {
            let mut session = session_at(&executable, threads, Bindings::new());
            let before = states(&session);
            let mut one = || step(&mut session, &feeds).unwrap_or_else(|e| panic!("{what}: {e}"));
            let mut results = one();
            for _ in 1..steps {
                results = one();
            }
            let (expected, _) = first.get_or_insert_with(|| (results.clone(), before));
            let pairs = results.outputs.iter().zip(&expected.outputs);
            for (a, b) in pairs.chain(results.states.iter().zip(&expected.states)) {
                assert_eq!(bits_differ(a, b), None, "{what} {variant:?} {threads}");
            }
        }
    }
    let Some((found, mut kept)) = first else {
        return;
    };
    let slots: Vec<&str> = residents(graph).map(|s| s.name.as_str()).collect();
    let fed: Vec<&str> = fed_slots(graph).map(|s| s.name.as_str()).collect();
    let mut outputs = Vec::new();
    for _ in 0..steps {
        let plain = eval(graph, |slot| match &slot.role {
            Role::Input => {
                let place = fed.iter().position(|name| *name == slot.name)?;
                inputs.get(place).cloned()
            }
            Role::Param(_) | Role::State(_) => {
                let place = slots.iter().position(|name| *name == slot.name)?;
                kept.get(place).cloned()
            }
        })
        .unwrap_or_else(|e| panic!("{what}: {e}"));
        outputs = plain.outputs;
        for (target, value) in plain.updates {
            let place = residents(graph).position(|slot| slot.node == target);
            kept[place.expect("an update has a slot")] = value;
        }
    }
    let names = graph.outputs().iter().map(|output| output.name.as_str());
    for ((name, found), expected) in names.zip(&found.outputs).zip(&outputs) {
        agrees(&format!("{what}: {name}"), found, expected);
    }
    for ((name, found), expected) in slots.iter().zip(&found.states).zip(&kept) {
        agrees(&format!("{what}: {name}"), found, expected);
    }
}
