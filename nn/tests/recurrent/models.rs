//! Both directions, and layers in a stack.

use crate::common::{Loop, close};
use crate::xs;
use kiln_ir::{Builder, DType};
use kiln_nn::{Bidirectional, Context, Gru, Lstm, Merge, Sequential, SimpleRnn};

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
