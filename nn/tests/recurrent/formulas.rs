//! The formulas of the documentation, step by step in f64, and masks.

use crate::common::{Loop, close, floats, ints};
use crate::{B, D, T, U, graph, numbers, with_params, xs};
use kiln_ir::{Array, Builder, DType, Values};
use kiln_nn::{Cell, Context, Given, Gru, Lstm, Mode, Recurrent, SimpleRnn};

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
