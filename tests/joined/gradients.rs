//! What loops keep for gradients.

use super::*;

/// A layer with gates from the parts of two scanned entries, and its gradients.
fn gated(units: i64, reverse: bool, dtype: DType) -> Graph {
    let g = Builder::new(&format!("gated {units} {reverse} {dtype}"));
    let (t, b) = (g.dim("t"), g.dim("b"));
    let wide = (t.clone(), b.clone(), 4 * units);
    let (x, y) = (g.input("x", dtype, wide.clone()), g.input("y", dtype, wide));
    let h = g.input("h", dtype, (b, units));
    let w = g.param_of("w", dtype, (units, 4 * units), Init::uniform(0.3));
    let options = ScanOptions {
        reverse,
        ..ScanOptions::default()
    };
    let done = g.scan(&options, &[h, h], &[x * 0.5, y + 0.5], |it| {
        let [c, h] = [it.carry(0), it.carry(1)];
        let z = it.entry(0) + h.dot(w);
        let (p, q) = (parts(z, 4), parts(it.entry(1), 4));
        let gates: Vec<_> = p
            .iter()
            .zip(&q)
            .map(|(p, q)| p.logistic() * q.tanh())
            .collect();
        let next = c * gates[0] + gates[1] * gates[2];
        let out = next.tanh() * gates[3];
        Yield::new(&[next, out], &[out])
    });
    let y_out = done.stacked[0].transpose(&[1, 0, 2]);
    let loss = (y_out * y_out.logistic()).mean() + done.carries[0].sum() * 0.1;
    for (name, gradient) in ["dx", "dy", "dh", "dw"]
        .iter()
        .zip(grad(loss, &[x, y, h, w]))
    {
        g.output(name, gradient);
    }
    g.output("loss", loss);
    g.finish().unwrap()
}

#[test]
fn gates_of_two_entries() {
    for (units, reverse, dtype) in [
        (1, false, DType::F32),
        (4, true, DType::F32),
        (17, false, DType::F64),
        (20, true, DType::F32),
        (32, false, DType::F32),
    ] {
        let graph = gated(units, reverse, dtype);
        check(
            &graph,
            &[
                &[("t", 1), ("b", 1)],
                &[("t", 5), ("b", 3)],
                &[("t", 4), ("b", 1)],
            ],
        );
    }
}

/// The gradients of a model on sequences.
fn gradients(layer: &dyn Layer, features: i64) -> Graph {
    let g = Builder::new(layer.kind());
    let (b, t) = (g.dim("b"), g.dim("t"));
    let x = g.input("x", DType::F32, (b, t, features));
    let y = Context::training(&g).layer("l", layer, x);
    let loss = (y * y.logistic()).mean();
    g.output("y", y);
    g.output("dx", grad(loss, &[x])[0]);
    let params = g.params();
    for (at, gradient) in grad(loss, &params).into_iter().enumerate() {
        g.output(&format!("dp{at}"), gradient);
    }
    g.finish().unwrap()
}

#[test]
fn layers_in_both_directions() {
    let sizes: &[&[(&str, i64)]] = &[
        &[("b", 1), ("t", 1)],
        &[("b", 1), ("t", 4)],
        &[("b", 5), ("t", 3)],
    ];
    check(&gradients(&Lstm::new(4).return_sequences(), 3), sizes);
    check(
        &gradients(&Lstm::new(20).go_backwards().return_sequences(), 3),
        sizes,
    );
    check(&gradients(&Gru::new(16).return_sequences(), 3), sizes);
    check(&gradients(&Gru::new(6).go_backwards(), 3), sizes);
    check(&gradients(&SimpleRnn::new(17).return_sequences(), 3), sizes);
    check(
        &gradients(&Bidirectional::new(Lstm::new(16).return_sequences()), 3),
        sizes,
    );
}

#[test]
fn layers_upon_layers() {
    let model = Sequential::new([6, 3])
        .layer(Lstm::new(16).return_sequences())
        .layer(Lstm::new(8).return_sequences())
        .layer(Gru::new(8).return_sequences())
        .dense(5);
    layer::check(&model, &[6, 3]);
}

/// What is optimized reads back, and has more to join: a scan is in one joint at a time.
#[test]
fn joined_once_more() {
    let mut graph = gated(16, false, DType::F32);
    // Two gradients are of the type of the entries too.
    for joined in [1 + 2, 2 + 2, 2 + 2] {
        let text = stage_text(&graph, Stage::Optimized, &Options::default()).expect("a graph");
        graph = Graph::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(
            text.matches(": f32[t, b, 64] = part").count(),
            joined,
            "{text}"
        );
        check(&graph, &[&[("t", 1), ("b", 1)], &[("t", 5), ("b", 3)]]);
    }
}
