//! Recurrent layers beside the formulas of their documentation, step by step in f64; masks, directions, dropout, gradients and mistakes.

mod common;

use common::{Loop, close, floats, ints};
use kiln_ir::{Array, Builder, DType, Graph, Op, Tensor, Values, grad};
use kiln_nn::{
    Bidirectional, Cell, Context, Given, Gru, Layer, Lstm, Merge, Mode, Recurrent, Sequence,
    Sequential, SimpleRnn,
};

const B: usize = 2;
const T: usize = 5;
const D: usize = 3;
const U: usize = 2;

/// Numbers between -1 and 1, without pattern.
fn numbers(count: usize, seed: f64) -> Vec<f64> {
    (0..count)
        .map(|i| ((i as f64 + 1.0) * 12.9898 + seed * 78.233).sin())
        .collect()
}

fn xs() -> Array {
    floats(DType::F64, &[B, T, D], &numbers(B * T * D, 1.0))
}

/// A graph of a layer under the name `layer`, with all its outputs and last states.
fn graph<C: Cell>(layer: &Recurrent<C>, mode: Mode, lengths: bool, initial: bool) -> Graph {
    let g = Builder::new("m");
    let (b, t) = (g.dim("b"), g.dim("t"));
    let x = g.input("x", DType::F64, (b.clone(), t, D as i64));
    let given = Given {
        lengths: lengths.then(|| g.input("lengths", DType::I32, [b.clone()])),
        initial: initial.then(|| {
            (0..layer.cell().states())
                .map(|i| g.input(&format!("s{i}"), DType::F64, (b.clone(), U as i64)))
                .collect()
        }),
        mask: None,
    };
    let outputs = Context::new(&g, mode).within("layer", "layer", |cx| {
        let Sequence { outputs, states } = layer.sequence(cx, x, &given);
        for (i, state) in states.iter().enumerate() {
            g.output(&format!("state{i}"), *state);
        }
        outputs
    });
    g.output("outputs", outputs);
    let graph = g.finish().unwrap_or_else(|e| panic!("{e}"));
    kiln_ir::verify(&graph).unwrap();
    graph
}

/// The params of a layer, all different from 0.
fn with_params(graph: Graph) -> Loop {
    let mut run = Loop::new(graph, 7);
    let names: Vec<String> = run.names().iter().map(|n| (*n).to_owned()).collect();
    for (i, name) in names.iter().filter(|n| n.starts_with("layer/")).enumerate() {
        let shape = run.array(name).shape().to_vec();
        let values = numbers(shape.iter().product(), i as f64 + 3.0);
        run.set(name, floats(DType::F64, &shape, &values));
    }
    run
}

/// Params by name, for formulas.
struct Weights {
    wx: Vec<f64>,
    wh: Vec<f64>,
    b: Vec<f64>,
    bh: Vec<f64>,
    gates: usize,
}

impl Weights {
    fn of(run: &Loop, gates: usize) -> Self {
        let get = |name: &str| {
            let name = format!("layer/{name}");
            let there = run.names().contains(&name.as_str());
            there
                .then(|| run.floats(&name))
                .unwrap_or(vec![0.0; gates * U])
        };
        Self {
            wx: get("wx"),
            wh: get("wh"),
            b: get("b"),
            bh: get("bh"),
            gates,
        }
    }

    fn column(&self, gate: usize, unit: usize) -> usize {
        gate * U + unit
    }

    /// `x wx + b` of a gate.
    fn input(&self, x: &[f64], gate: usize, unit: usize) -> f64 {
        let column = self.column(gate, unit);
        let product = (0..D).map(|d| x[d] * self.wx[d * self.gates * U + column]);
        product.sum::<f64>() + self.b[column]
    }

    /// `h wh + bh` of a gate.
    fn recurrent(&self, h: &[f64], gate: usize, unit: usize) -> f64 {
        let column = self.column(gate, unit);
        let product = (0..U).map(|u| h[u] * self.wh[u * self.gates * U + column]);
        product.sum::<f64>() + self.bh[column]
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

type Formula = fn(&Weights, &[f64], &[Vec<f64>]) -> Vec<Vec<f64>>;

fn each(f: impl Fn(usize) -> f64) -> Vec<f64> {
    (0..U).map(f).collect()
}

fn elman(w: &Weights, x: &[f64], s: &[Vec<f64>]) -> Vec<Vec<f64>> {
    vec![each(|u| {
        (w.input(x, 0, u) + w.recurrent(&s[0], 0, u)).tanh()
    })]
}

fn rectified(w: &Weights, x: &[f64], s: &[Vec<f64>]) -> Vec<Vec<f64>> {
    vec![each(|u| {
        (w.input(x, 0, u) + w.recurrent(&s[0], 0, u)).max(0.0)
    })]
}

fn lstm_with(forget: f64, w: &Weights, x: &[f64], s: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let sum = |gate: usize, u: usize| w.input(x, gate, u) + w.recurrent(&s[0], gate, u);
    let c =
        each(|u| logistic(sum(1, u) + forget) * s[1][u] + logistic(sum(0, u)) * sum(2, u).tanh());
    vec![each(|u| logistic(sum(3, u)) * c[u].tanh()), c]
}

fn lstm(w: &Weights, x: &[f64], s: &[Vec<f64>]) -> Vec<Vec<f64>> {
    lstm_with(1.0, w, x, s)
}

fn torch_lstm(w: &Weights, x: &[f64], s: &[Vec<f64>]) -> Vec<Vec<f64>> {
    lstm_with(0.0, w, x, s)
}

fn gru(w: &Weights, x: &[f64], s: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let h = &s[0];
    vec![each(|u| {
        let r = logistic(w.input(x, 0, u) + w.recurrent(h, 0, u));
        let z = logistic(w.input(x, 1, u) + w.recurrent(h, 1, u));
        let n = (w.input(x, 2, u) + r * w.recurrent(h, 2, u)).tanh();
        (1.0 - z) * n + z * h[u]
    })]
}

fn gru_before(w: &Weights, x: &[f64], s: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let h = &s[0];
    let reset = each(|u| logistic(w.input(x, 0, u) + w.recurrent(h, 0, u)) * h[u]);
    vec![each(|u| {
        let z = logistic(w.input(x, 1, u) + w.recurrent(h, 1, u));
        let n = (w.input(x, 2, u) + w.recurrent(&reset, 2, u)).tanh();
        (1.0 - z) * n + z * h[u]
    })]
}

/// Outputs `[b, t, u]` and last states `[b, u]`, by a formula, step by step; zeros and kept states at padding.
fn by_hand(
    w: &Weights,
    formula: Formula,
    states: usize,
    lengths: [usize; B],
    first: &[f64],
    backwards: bool,
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let x = numbers(B * T * D, 1.0);
    let mut outputs = vec![0.0; B * T * U];
    let mut last = vec![Vec::new(); states];
    for b in 0..B {
        let mut s: Vec<Vec<f64>> = (0..states)
            .map(|i| first[(i * B + b) * U..(i * B + b + 1) * U].to_vec())
            .collect();
        let mut steps: Vec<usize> = (0..lengths[b]).collect();
        if backwards {
            steps.reverse();
        }
        for t in steps {
            let at = (b * T + t) * D;
            s = formula(w, &x[at..at + D], &s);
            let at = (b * T + t) * U;
            outputs[at..at + U].copy_from_slice(&s[0]);
        }
        for (all, one) in last.iter_mut().zip(s) {
            all.extend(one);
        }
    }
    (outputs, last)
}

fn check<C: Cell + Clone>(layer: Recurrent<C>, formula: Formula) {
    let (gates, states) = (layer.cell().gates() as usize, layer.cell().states());
    for backwards in [false, true] {
        let layer = if backwards {
            layer.clone().go_backwards()
        } else {
            layer.clone()
        };
        for (lengths, initial) in [(false, false), (true, false), (true, true)] {
            let mut run = with_params(graph(&layer, Mode::Training, lengths, initial));
            let w = Weights::of(&run, gates);
            let sizes = if lengths { [3, 0] } else { [T, T] };
            let first = if initial {
                numbers(states * B * U, 20.0)
            } else {
                vec![0.0; states * B * U]
            };
            let mut feeds = vec![("x", xs())];
            if lengths {
                let sizes: Vec<i64> = sizes.iter().map(|s| *s as i64).collect();
                feeds.push(("lengths", ints(DType::I32, &sizes)));
            }
            let names = ["s0", "s1"];
            if initial {
                for (i, name) in names.iter().enumerate().take(states) {
                    let part = &first[i * B * U..(i + 1) * B * U];
                    feeds.push((name, floats(DType::F64, &[B, U], part)));
                }
            }
            let found = run.step(&feeds);
            let (outputs, last) = by_hand(&w, formula, states, sizes, &first, backwards);
            close(found["outputs"].floats().unwrap(), &outputs, 1e-12);
            assert_eq!(found["outputs"].shape(), [B, T, U]);
            for (i, state) in last.iter().enumerate() {
                let found = found[&format!("state{i}")].floats().unwrap();
                close(found, state, 1e-12);
            }
        }
    }
}

#[test]
fn elmans_net_computes_its_formula() {
    check(SimpleRnn::new(2), elman);
    check(SimpleRnn::new(2).two_biases(), elman);
    check(SimpleRnn::new(2).without_bias().relu(), rectified);
}

#[test]
fn an_lstm_computes_its_formula() {
    check(Lstm::new(2), lstm);
    check(Lstm::new(2).without_bias(), lstm);
    check(Lstm::new(2).two_biases().forget_bias(0.0), torch_lstm);
    // With a symbolic number of steps only segments of one step divide it.
    check(Lstm::new(2).checkpoint(1), lstm);
}

#[test]
fn a_gru_computes_its_formula_in_both_forms() {
    check(Gru::new(2), gru);
    check(Gru::new(2).without_bias(), gru);
    check(Gru::new(2).reset_before(), gru_before);
    check(Gru::new(2).reset_before().without_bias(), gru_before);
}

#[test]
fn a_mask_is_the_lengths_it_spells() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F64, (2, 5, 3));
    let mask = g.input("mask", DType::Bool, (2, 5));
    let lengths = g.input("lengths", DType::U8, [2]);
    let cx = Context::training(&g);
    let layer = Lstm::new(2);
    let by_mask = cx.within("layer", "lstm", |cx| {
        let given = Given {
            mask: Some(mask),
            ..Given::default()
        };
        layer.sequence(cx, x, &given).outputs
    });
    let by_length = cx.sharing().within("layer", "lstm", |cx| {
        let given = Given {
            lengths: Some(lengths),
            ..Given::default()
        };
        layer.sequence(cx, x, &given).outputs
    });
    let by_both = cx.sharing().within("layer", "lstm", |cx| {
        let given = Given {
            lengths: Some(lengths),
            mask: Some(mask),
            initial: None,
        };
        layer.sequence(cx, x, &given).outputs
    });
    g.output("mask", by_mask);
    g.output("length", by_length);
    g.output("both", by_both);
    let mut run = Loop::new(g.finish().unwrap(), 3);
    let ones = [1, 1, 0, 0, 0, 1, 1, 1, 1, 0];
    let mask = Array::new(DType::Bool, vec![2, 5], Values::Int(ones.to_vec())).unwrap();
    let found = run.step(&[
        ("x", xs()),
        ("mask", mask),
        ("lengths", ints(DType::U8, &[2, 4])),
    ]);
    assert_eq!(found["mask"], found["length"]);
    assert_eq!(found["mask"], found["both"]);
}

/// The gradient of every param and of the input, against central differences, through masks and both directions.
#[test]
fn gradients_are_central_differences() {
    fn losses<'g, L>(layer: &L, g: &'g Builder) -> Tensor<'g>
    where
        L: for<'a> Fn(&Context<'a>, Tensor<'a>, &Given<'a>) -> Tensor<'a>,
    {
        let x = g.param_of("x", DType::F64, (2, 5, 3), kiln_ir::Init::zeros());
        let lengths = Some(g.input("lengths", DType::I64, [2]));
        let given = Given {
            lengths,
            ..Given::default()
        };
        let y = Context::training(g).within("layer", "layer", |cx| layer(cx, x, &given));
        (y * (y + 0.3)).sum()
    }
    type Apply = Box<dyn for<'a> Fn(&Context<'a>, Tensor<'a>, &Given<'a>) -> Tensor<'a>>;
    fn all<C: Cell + Clone + 'static>(layer: Recurrent<C>) -> Apply {
        let layer = Bidirectional::new(layer).merge(Merge::Product);
        Box::new(move |cx, x, given| {
            let sequence = layer.sequence(cx, x, given);
            sequence.outputs + sequence.states[0].reshape((2, 1, 2))
        })
    }
    let layers: Vec<Apply> = vec![
        all(SimpleRnn::new(2)),
        all(Lstm::new(2).two_biases()),
        all(Gru::new(2)),
        all(Gru::new(2).reset_before()),
    ];
    for layer in layers {
        let g = Builder::new("m");
        let loss = losses(&layer, &g);
        let params = g.params();
        g.output("loss", loss);
        let names: Vec<String> = params
            .iter()
            .map(|p| g.slot_name(p.id().unwrap()).unwrap())
            .collect();
        for (name, gradient) in names.iter().zip(grad(loss, &params)) {
            g.output(name, gradient);
        }
        let graph = g.finish().unwrap_or_else(|e| panic!("{e}"));
        let mut run = Loop::new(graph, 1);
        for (i, name) in names.iter().enumerate() {
            let shape = run.array(name).shape().to_vec();
            let values = numbers(shape.iter().product(), i as f64);
            run.set(name, floats(DType::F64, &shape, &values));
        }
        let feeds = [("lengths", ints(DType::I64, &[5, 3]))];
        let exact = run.step(&feeds);
        for name in &names {
            let start = run.floats(name);
            let shape = run.array(name).shape().to_vec();
            for i in (0..start.len()).step_by(3) {
                let mut at = |delta: f64| {
                    let mut moved = start.clone();
                    moved[i] += delta;
                    run.set(name, floats(DType::F64, &shape, &moved));
                    run.step(&feeds)["loss"].floats().unwrap()[0]
                };
                let central = (at(1e-5) - at(-1e-5)) / 2e-5;
                let found = exact[name].floats().unwrap()[i];
                assert!(
                    (found - central).abs() < 1e-7 * (1.0 + central.abs()),
                    "{name}[{i}]: {found} but {central}"
                );
            }
            run.set(name, floats(DType::F64, &shape, &start));
        }
    }
}

/// The bodies of a training step: forward one product with the recurrent weight, backward one with its transpose. The weights' gradients are
/// products behind the loop.
#[test]
fn loops_hold_one_product_each() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, (g.dim("b"), g.dim("t"), 3));
    let layer = Lstm::new(4).return_sequences();
    let loss = Context::training(&g)
        .layer("lstm", &layer, x)
        .square()
        .sum();
    for gradient in grad(loss, &g.params()) {
        g.output(&format!("{}", g.next_ordinal()), gradient);
    }
    let graph = g.finish().unwrap();
    let dots = |graph: &Graph| {
        let nodes = graph.nodes();
        nodes.filter(|(_, n)| matches!(n.op, Op::Dot(_))).count()
    };
    let scans = graph.nodes().filter_map(|(_, n)| match &n.op {
        Op::Scan(scan) => Some(dots(&scan.body)),
        _ => None,
    });
    assert_eq!(scans.collect::<Vec<_>>(), [1, 1]);
    // Of the input, the gradients of both weights, and that of the input, which nothing reads.
    assert_eq!(dots(&graph), 4);
}

#[test]
fn directions_are_merged() {
    let merged = |merge: Merge, sequences: bool| {
        let layer = if sequences {
            Gru::new(2).return_sequences()
        } else {
            Gru::new(2)
        };
        let g = Builder::new("m");
        let x = g.input("x", DType::F64, (2, 5, 3));
        let layer = Bidirectional::new(layer).merge(merge);
        g.output("y", Context::inference(&g).layer("both", &layer, x));
        let mut run = Loop::new(g.finish().unwrap(), 5);
        let params = ["b", "bh", "wh", "wx"];
        let names: Vec<String> = ["backward", "forward"]
            .iter()
            .flat_map(|d| params.iter().map(move |p| format!("both/{d}/{p}")))
            .collect();
        assert_eq!(run.names(), names);
        run.step(&[("x", xs())])["y"].floats().unwrap().to_vec()
    };
    for sequences in [false, true] {
        let both = merged(Merge::Concat, sequences);
        let halves = || both.chunks(4).map(|c| (c[0], c[2], c[1], c[3]));
        let expected = |f: fn(f64, f64) -> f64| -> Vec<f64> {
            halves()
                .flat_map(|(a, b, c, d)| [f(a, b), f(c, d)])
                .collect()
        };
        close(
            &merged(Merge::Sum, sequences),
            &expected(|a, b| a + b),
            1e-12,
        );
        close(
            &merged(Merge::Mean, sequences),
            &expected(|a, b| (a + b) / 2.0),
            1e-12,
        );
        close(
            &merged(Merge::Product, sequences),
            &expected(|a, b| a * b),
            1e-12,
        );
    }
}

#[test]
fn layers_are_stacked_in_a_model() {
    let model = Sequential::new((kiln_ir::Dim::symbol("t"), 3))
        .layer(Lstm::new(4).return_sequences())
        .layer(Bidirectional::new(Gru::new(2).return_sequences()))
        .layer(SimpleRnn::new(3))
        .dense(1);
    let summary = model.summary().unwrap();
    let shapes: Vec<String> = summary.rows.iter().map(|r| r.output.to_string()).collect();
    let expected = [
        "f32[b, t, 4]",
        "f32[b, t, 4]",
        "f32[b, t, 2]",
        "f32[b, t, 2]",
        "f32[b, 3]",
        "f32[b, 1]",
    ];
    assert_eq!(shapes, expected);
    let kinds: Vec<&str> = summary.rows.iter().map(|r| r.kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["lstm", "bidirectional", "gru", "gru", "simple_rnn", "dense"]
    );
    let lstm = (3 + 4 + 1) * 16;
    let gru = 2 * (4 + 2 + 2) * 6;
    let rnn = (4 + 3 + 1) * 3;
    assert_eq!(summary.parameters.constant(), Some(lstm + gru + rnn + 4));
}

/// The graph of one layer with dropout, its params and key fixed; what one step gives.
fn dropped(layer: &Recurrent<kiln_nn::Elman>, mode: Mode, steps: usize) -> Vec<Vec<f64>> {
    let mut run = with_params(graph(layer, mode, false, false));
    let outputs = (0..steps).map(|_| run.step(&[("x", xs())])["outputs"].clone());
    outputs.map(|o| o.floats().unwrap().to_vec()).collect()
}

#[test]
fn dropout_drops_in_training_alone_and_anew_in_each_step() {
    let plain = dropped(&SimpleRnn::new(2), Mode::Training, 1);
    for layer in [
        SimpleRnn::new(2).dropout(0.5),
        SimpleRnn::new(2).recurrent_dropout(0.5),
        SimpleRnn::new(2).recurrent_dropout(0.5).dropout_each_step(),
        SimpleRnn::new(2).dropout(0.5).dropout_each_step(),
    ] {
        assert_eq!(dropped(&layer, Mode::Inference, 1), plain);
        let steps = dropped(&layer, Mode::Training, 3);
        assert_ne!(steps[0], plain[0]);
        assert!(steps[0] != steps[1] && steps[1] != steps[2]);
        // The same seed draws the same.
        assert_eq!(dropped(&layer, Mode::Training, 3), steps);
    }
}

/// With weights of one on the diagonal and a rectifier, a state that is not dropped stays, one that is dropped begins again, and the
/// outputs tell in which steps that was.
#[test]
fn masks_hold_for_a_sequence_or_for_a_step() {
    let resets = |layer: Recurrent<kiln_nn::Elman>| {
        let g = Builder::new("m");
        let x = g.input("x", DType::F64, (1, 40, 1));
        let layer = layer.relu().without_bias().return_sequences();
        g.output("y", Context::training(&g).layer("layer", &layer, x));
        let mut run = Loop::new(g.finish().unwrap(), 11);
        let mut eye = vec![0.0; 64];
        (0..8).for_each(|i| eye[i * 9] = 1.0);
        run.set("layer/wh", floats(DType::F64, &[8, 8], &eye));
        run.set("layer/wx", floats(DType::F64, &[1, 8], &[1.0; 8]));
        let ones = floats(DType::F64, &[1, 40, 1], &[1.0; 40]);
        let y = run.step(&[("x", ones)])["y"].floats().unwrap().to_vec();
        // Of each unit, in how many steps it began again at 1.
        let began = |unit: usize| (1..40).filter(|t| y[t * 8 + unit] == 1.0).count();
        (0..8).map(began).collect::<Vec<_>>()
    };
    let once = resets(SimpleRnn::new(8).recurrent_dropout(0.5));
    assert!(once.iter().all(|n| [0, 39].contains(n)), "{once:?}");
    assert!(once.contains(&0) && once.contains(&39), "{once:?}");
    let anew = resets(SimpleRnn::new(8).recurrent_dropout(0.5).dropout_each_step());
    assert!(anew.iter().all(|n| (6..34).contains(n)), "{anew:?}");
}

#[test]
fn mistakes_are_told_at_the_line_of_the_application() {
    let message = |build: &dyn for<'a> Fn(&'a Builder, &Context<'a>)| {
        let g = Builder::new("m");
        build(&g, &Context::training(&g));
        let found = g.finish().expect_err("a mistake");
        assert_eq!(found.0.len(), 1, "{found}");
        assert_eq!(
            &*found.0[0].location.file, "nn/tests/recurrent.rs",
            "{found}"
        );
        found.0[0].refusal.message.clone()
    };
    let told = |given: &'static str| {
        message(&move |g, cx| {
            let x = g.input("x", DType::F32, (2, 5, 3));
            let wrong = match given {
                "lengths" => Given {
                    lengths: Some(g.input("lengths", DType::F32, [2])),
                    ..Given::default()
                },
                "mask" => Given {
                    mask: Some(g.input("mask", DType::Bool, (5, 2))),
                    ..Given::default()
                },
                _ => Given {
                    initial: Some(vec![g.input("h", DType::F32, (2, 4))]),
                    ..Given::default()
                },
            };
            let y = cx.within("layer", "lstm", |cx| {
                let sequence = Lstm::new(4).sequence(cx, x, &wrong);
                sequence.states[1] + sequence.states[0] + sequence.outputs.sum()
            });
            g.output("y", y);
        })
    };
    assert_eq!(
        told("lengths"),
        "the lengths of `lstm` of f32[2, 5, 3] are f32[2]"
    );
    assert_eq!(
        told("mask"),
        "the mask of `lstm` of f32[2, 5, 3] is bool[5, 2], not bool[2, 5]"
    );
    assert_eq!(
        told("initial"),
        "`lstm` begins with 2 states of type f32[2, 4], not with (f32[2, 4])"
    );
    let of = |shape: &'static [&'static str], dtype: DType| {
        message(&move |g, cx| {
            let shape: kiln_ir::Shape = shape.iter().map(|d| d.parse().unwrap()).collect();
            let x = g.input("x", dtype, shape);
            g.output("y", cx.layer("layer", &Gru::new(4), x));
        })
    };
    assert_eq!(of(&["2", "5"], DType::F32), "`gru` of f32[2, 5]");
    assert_eq!(of(&["2", "5", "d"], DType::F32), "`gru` of f32[2, 5, d]");
    assert_eq!(of(&["2", "5", "3"], DType::I32), "`gru` of i32[2, 5, 3]");
    let built = |layer: Recurrent<kiln_nn::LongShortTerm>| {
        message(&move |g, cx| {
            let x = g.input("x", DType::F32, (2, 5, 3));
            g.output("y", cx.layer("layer", &layer.clone().return_sequences(), x));
        })
    };
    assert_eq!(built(Lstm::new(-1)), "`layer/wx` has an axis of size -4");
    assert_eq!(built(Lstm::new(4).dropout(1.0)), "`dropout` at a rate of 1");
    assert_eq!(
        built(Lstm::new(4).recurrent_dropout(-0.5)),
        "`dropout` at a rate of -0.5"
    );
    assert_eq!(
        built(Lstm::new(4).recurrent_dropout(2.0).dropout_each_step()),
        "`dropout` at a rate of 2"
    );
    assert_eq!(
        built(Lstm::new(4).checkpoint(2)),
        "segments of 2 iterations do not divide a scan of 5"
    );
}

#[test]
fn a_poisoned_input_adds_no_message() {
    let g = Builder::new("m");
    let wrong = g.input("x", DType::F32, (2, 5, 3)) + g.input("y", DType::F32, [7]);
    let cx = Context::training(&g);
    let layer = Bidirectional::new(Lstm::new(4));
    assert!(layer.apply(&cx, wrong).id().is_none());
    let sequence = layer.sequence(&cx, wrong, &Given::default());
    assert_eq!(sequence.states.len(), 4);
    assert_eq!(g.finish().unwrap_err().0.len(), 1);
}
