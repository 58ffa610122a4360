//! Attention beside plain loops: masks, groups, positions, gradients; and the layer around it.

mod common;

use common::{Loop, close, differences, floats};
use kiln_ir::philox::Stream;
use kiln_ir::{Array, Builder, DType, Init, Tensor, Values, grad};
use kiln_nn::{
    AttentionOptions, AttentionSchedule, Context, Memory, Mode, MultiHeadAttention, attention,
    rotary,
};

fn normal(name: &str, shape: &[usize]) -> Array {
    let stream = Stream::new(3, name, 0);
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count as u64).map(|i| stream.normal(i)).collect();
    floats(DType::F64, shape, &values)
}

fn bools(shape: &[usize], values: &[bool]) -> Array {
    let values = values.iter().map(|v| i64::from(*v)).collect();
    Array::new(DType::Bool, shape.to_vec(), Values::Int(values)).unwrap()
}

/// `a[indices]` in row-major order.
fn at(a: &Array, indices: &[usize]) -> f64 {
    let flat = indices.iter().zip(a.shape()).fold(0, |f, (i, n)| f * n + i);
    a.floats().unwrap()[flat]
}

/// Equation 1 of the paper, one query after the other; `sees(b, h, i, j)` is the mask.
fn plain(
    q: &Array,
    k: &Array,
    v: &Array,
    sees: impl Fn(usize, usize, usize, usize) -> bool,
) -> Vec<f64> {
    let [b, t, heads, width] = *q.shape() else {
        panic!("queries")
    };
    let [_, s, kv_heads, _] = *k.shape() else {
        panic!("keys")
    };
    let values = v.shape()[3];
    let mut y = Vec::new();
    for e in 0..b {
        for i in 0..t {
            for h in 0..heads {
                let shared = h / (heads / kv_heads);
                let weight = |j: usize| {
                    let score: f64 = (0..width)
                        .map(|d| at(q, &[e, i, h, d]) * at(k, &[e, j, shared, d]))
                        .sum();
                    if sees(e, h, i, j) {
                        (score / (width as f64).sqrt()).exp()
                    } else {
                        0.0
                    }
                };
                let weights: Vec<f64> = (0..s).map(weight).collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..values {
                    let row = weights.iter().enumerate();
                    let row: f64 = row.map(|(j, w)| w * at(v, &[e, j, shared, d])).sum();
                    y.push(if sum == 0.0 { 0.0 } else { row / sum });
                }
            }
        }
    }
    y
}

/// Operands of attention: 2 examples, 3 queries of 4 heads of 5 features, 6 keys, values of 2 features.
fn operands(kv_heads: usize) -> [(&'static str, Array); 3] {
    [
        ("q", normal("q", &[2, 3, 4, 5])),
        ("k", normal("k", &[2, 6, kv_heads, 5])),
        ("v", normal("v", &[2, 6, kv_heads, 2])),
    ]
}

fn declared<'g>(g: &'g Builder, feeds: &[(&str, Array)]) -> Vec<Tensor<'g>> {
    let of = |(name, array): &(&str, Array)| {
        let shape: Vec<i64> = array.shape().iter().map(|d| *d as i64).collect();
        g.input(name, array.dtype(), &shape[..])
    };
    feeds.iter().map(of).collect()
}

/// All at once, and blocks that are cut at the last query, hold all or hold one.
const SCHEDULES: [AttentionSchedule; 4] = [
    AttentionSchedule::Whole,
    AttentionSchedule::Blocks(2),
    AttentionSchedule::Blocks(100),
    AttentionSchedule::Blocks(1),
];

#[test]
fn attention_is_equation_1_under_every_mask() {
    let padding = [
        true, true, true, true, false, false, true, false, true, true, true, true,
    ];
    // The second query of the first example sees nothing.
    let by_query: Vec<bool> = (0..36).map(|i| i / 6 != 1 && (i * 7 % 5 < 3)).collect();
    let by_head: Vec<bool> = (0..144).map(|i| i * 5 % 7 < 4).collect();
    let masks = [
        None,
        Some(bools(&[2, 6], &padding)),
        Some(bools(&[2, 3, 6], &by_query)),
        Some(bools(&[2, 4, 3, 6], &by_head)),
    ];
    let cases = [4, 2, 1]
        .iter()
        .flat_map(|kv_heads| SCHEDULES.iter().map(move |schedule| (*kv_heads, *schedule)));
    for (kv_heads, schedule) in cases {
        for causal in [false, true] {
            for mask in &masks {
                let mut feeds = operands(kv_heads).to_vec();
                feeds.extend(mask.clone().map(|mask| ("mask", mask)));
                let g = Builder::new("m");
                let x = declared(&g, &feeds);
                let options = AttentionOptions {
                    causal,
                    visible: x.get(3).copied(),
                    dropout: 0.0,
                    schedule,
                };
                g.output("y", attention(x[0], x[1], x[2], &options));
                let y = Loop::new(g.finish().unwrap(), 0)
                    .step(&feeds)
                    .remove("y")
                    .unwrap();
                assert_eq!(y.shape(), [2, 3, 4, 2]);
                let sees = |e: usize, h: usize, i: usize, j: usize| {
                    let shown = match mask.as_ref().map(|mask| mask.shape().len()) {
                        None => true,
                        Some(2) => padding[e * 6 + j],
                        Some(3) => by_query[(e * 3 + i) * 6 + j],
                        Some(_) => by_head[((e * 4 + h) * 3 + i) * 6 + j],
                    };
                    // The last of 3 queries stands at the last of 6 keys.
                    shown && (!causal || j <= i + 3)
                };
                let [q, k, v] = [&feeds[0].1, &feeds[1].1, &feeds[2].1];
                close(y.floats().unwrap(), &plain(q, k, v, sees), 1e-12);
            }
        }
    }
}

#[test]
fn gradients_of_attention_are_those_of_differences_even_where_nothing_is_seen() {
    let cases = [(4, true), (2, false)].iter();
    let cases = cases.flat_map(|case| SCHEDULES.iter().map(move |schedule| (*case, *schedule)));
    for ((kv_heads, causal), schedule) in cases {
        let g = Builder::new("m");
        let of =
            |name: &str, shape: [i64; 4]| g.param_of(name, DType::F64, shape, Init::normal(1.0));
        let q = of("q", [2, 2, 4, 3]);
        let (k, v) = (of("k", [2, 3, kv_heads, 3]), of("v", [2, 3, kv_heads, 2]));
        // The first example sees nothing at all.
        let visible = g.input("visible", DType::Bool, [2, 3]);
        let options = AttentionOptions {
            causal,
            visible: Some(visible),
            dropout: 0.0,
            schedule,
        };
        let y = attention(q, k, v, &options);
        let weights = g.input("weights", DType::F64, [2, 2, 4, 2]);
        let first = (y.square() * weights + y * weights).sum();
        let gradients = grad(first, &[q, k, v]);
        let second = (gradients[0].square().sum() + gradients[1].square().sum()) * 0.5;
        g.output("first", first);
        g.output("second", second);
        for (name, gradient) in ["q", "k", "v"].iter().zip(&gradients) {
            g.output(&format!("first by {name}"), *gradient);
        }
        g.output("second by k", grad(second, &[k])[0]);
        let mut run = Loop::new(g.finish().unwrap(), 8);
        let seen: Vec<bool> = (0..6).map(|i| i >= 3 && i != 4).collect();
        let feeds = [
            ("visible", bools(&[2, 3], &seen)),
            ("weights", normal("weights", &[2, 2, 4, 2])),
        ];
        for (value, slot) in [
            ("first", "q"),
            ("first", "k"),
            ("first", "v"),
            ("second", "k"),
        ] {
            differences(
                &run,
                &feeds,
                value,
                slot,
                &format!("{value} by {slot}"),
                1e-6,
            );
        }
        let dq = run.step(&feeds).remove("first by q").unwrap();
        assert!(
            dq.floats().unwrap()[..24].iter().all(|d| *d == 0.0),
            "nothing seen"
        );
    }
}

#[test]
fn probabilities_are_dropped_in_training_only() {
    // Values that are unit vectors show the probabilities themselves, a quarter each.
    let layer = |mode: Mode| {
        let g = Builder::new("m");
        let same = |name| g.param_of(name, DType::F64, [50, 4, 2, 4], Init::zeros());
        let (q, k) = (same("q"), same("k"));
        let v = g.input("v", DType::F64, [50, 4, 2, 4]);
        let dropout = if mode == Mode::Training { 0.5 } else { 0.0 };
        let options = AttentionOptions {
            dropout,
            ..Default::default()
        };
        g.output("y", attention(q, k, v, &options));
        let unit = |i: usize| if i / 8 % 4 == i % 4 { 1.0 } else { 0.0 };
        let unit: Vec<f64> = (0..1600).map(unit).collect();
        let v = floats(DType::F64, &[50, 4, 2, 4], &unit);
        let y = Loop::new(g.finish().unwrap(), 5)
            .step(&[("v", v)])
            .remove("y")
            .unwrap();
        y.floats().unwrap().to_vec()
    };
    assert!(layer(Mode::Inference).iter().all(|p| *p == 0.25));
    let dropped = layer(Mode::Training);
    assert!(dropped.iter().all(|p| *p == 0.0 || *p == 0.5));
    let kept = dropped.iter().filter(|p| **p != 0.0).count() as f64 / 1600.0;
    assert!(
        (kept - 0.5).abs() < 5.0 * (0.25_f64 / 1600.0).sqrt(),
        "{kept}"
    );
}

/// Equation 34 of the paper with pairs a half apart.
fn turned(x: &Array, position: impl Fn(usize, usize) -> f64, base: f64) -> Vec<f64> {
    let [b, t, heads, width] = *x.shape() else {
        panic!("heads")
    };
    let half = width / 2;
    let mut y = Vec::new();
    for (e, i) in (0..b).flat_map(|e| (0..t).map(move |i| (e, i))) {
        for (h, d) in (0..heads).flat_map(|h| (0..width).map(move |d| (h, d))) {
            let pair = d % half;
            let angle = position(e, i) * base.powf(-2.0 * pair as f64 / width as f64);
            let (first, second) = (at(x, &[e, i, h, pair]), at(x, &[e, i, h, pair + half]));
            y.push(if d < half {
                first * angle.cos() - second * angle.sin()
            } else {
                second * angle.cos() + first * angle.sin()
            });
        }
    }
    y
}

#[test]
fn rotary_positions_turn_pairs_by_their_angles() {
    let x = normal("x", &[2, 3, 2, 6]);
    for (shape, positions) in [
        (vec![3], vec![0, 5, 100_000]),
        (vec![2, 3], vec![4, 5, 6, 0, 1, 2]),
    ] {
        let positions = Array::new(DType::I64, shape, Values::Int(positions)).unwrap();
        let feeds = [("x", x.clone()), ("positions", positions.clone())];
        let g = Builder::new("m");
        let inputs = declared(&g, &feeds);
        g.output("y", rotary(inputs[0], inputs[1], 500.0));
        let y = Loop::new(g.finish().unwrap(), 0)
            .step(&feeds)
            .remove("y")
            .unwrap();
        let ints = positions.ints().unwrap();
        let position = |e: usize, i: usize| ints[(e * 3 + i) % ints.len()] as f64;
        close(y.floats().unwrap(), &turned(&x, position, 500.0), 1e-9);
    }
}

/// What rotary positions are for: the score of a query and a key depends on their distance alone.
#[test]
fn turned_products_depend_on_the_distance() {
    let g = Builder::new("m");
    let of = |name: &str| g.input(name, DType::F64, [1, 1, 1, 8]);
    let (q, k) = (of("q"), of("k"));
    let near = g.input("near", DType::I32, [1]);
    let turned = |x, by: f64| rotary(x, near + by, 10_000.0);
    g.output("here", (turned(q, 7.0) * turned(k, 3.0)).sum());
    g.output("there", (turned(q, 1004.0) * turned(k, 1000.0)).sum());
    g.output("other", (turned(q, 7.0) * turned(k, 4.0)).sum());
    let near = Array::new(DType::I32, vec![1], Values::Int(vec![0])).unwrap();
    let feeds = [
        ("q", normal("q", &[1, 1, 1, 8])),
        ("k", normal("k", &[1, 1, 1, 8])),
        ("near", near),
    ];
    let found = Loop::new(g.finish().unwrap(), 0).step(&feeds);
    let value = |name: &str| found[name].floats().unwrap()[0];
    close(&[value("here")], &[value("there")], 1e-12);
    assert!((value("here") - value("other")).abs() > 1e-3);
}

/// `x w + b` with the params of `NAME`, of the features from `from` on, as heads.
fn projected(run: &Loop, name: &str, x: &Array, from: usize, heads: usize, width: usize) -> Array {
    let (w, b) = (
        run.array(&format!("{name}/w")),
        run.array(&format!("{name}/b")),
    );
    let [batch, t, features] = *x.shape() else {
        panic!("a sequence")
    };
    let mut y = Vec::new();
    for (e, i) in (0..batch).flat_map(|e| (0..t).map(move |i| (e, i))) {
        for o in from..from + heads * width {
            let products = (0..features).map(|f| at(x, &[e, i, f]) * at(w, &[f, o]));
            y.push(products.sum::<f64>() + at(b, &[o]));
        }
    }
    floats(DType::F64, &[batch, t, heads, width], &y)
}

/// The layer's params with biases that are not zero.
fn with_biases(run: &mut Loop) {
    let names: Vec<String> = run.names().iter().map(|name| (*name).to_owned()).collect();
    for name in names.iter().filter(|name| name.ends_with("/b")) {
        let shape = run.array(name).shape().to_vec();
        run.set(name, normal(name, &shape));
    }
}

#[test]
fn the_layer_is_its_projections_around_attention() {
    let x = normal("x", &[2, 3, 8]);
    let layer = MultiHeadAttention::new(4).kv_heads(2).causal().rotary();
    let g = Builder::new("m");
    let input = g.input("x", DType::F64, [2, 3, 8]);
    g.output("y", Context::training(&g).layer("l", &layer, input));
    let mut run = Loop::new(g.finish().unwrap(), 9);
    assert_eq!(run.names(), ["l/out/b", "l/out/w", "l/qkv/b", "l/qkv/w"]);
    assert_eq!(run.array("l/qkv/w").shape(), [8, 16]);
    with_biases(&mut run);
    let y = run.step(&[("x", x.clone())]).remove("y").unwrap();
    let turned = |x: Array| {
        let values = turned(&x, |_, i| i as f64, 10_000.0);
        floats(DType::F64, x.shape(), &values)
    };
    let q = turned(projected(&run, "l/qkv", &x, 0, 4, 2));
    let k = turned(projected(&run, "l/qkv", &x, 8, 2, 2));
    let v = projected(&run, "l/qkv", &x, 12, 2, 2);
    let mixed = plain(&q, &k, &v, |_, _, i, j| j <= i);
    let mixed = floats(DType::F64, &[2, 3, 8], &mixed);
    let expected = projected(&run, "l/out", &mixed, 0, 1, 8);
    close(y.floats().unwrap(), expected.floats().unwrap(), 1e-12);
}

#[test]
fn across_a_memory_keys_and_values_are_its_own() {
    let (x, memory) = (normal("x", &[2, 3, 6]), normal("memory", &[2, 5, 4]));
    let seen = [
        true, false, true, true, true, true, true, true, false, false,
    ];
    let layer = MultiHeadAttention::new(2).head_width(5);
    let g = Builder::new("m");
    let input = g.input("x", DType::F64, [2, 3, 6]);
    let inputs = Memory {
        memory: Some(g.input("memory", DType::F64, [2, 5, 4])),
        visible: Some(g.input("seen", DType::Bool, [2, 5])),
    };
    let cx = Context::training(&g);
    g.output(
        "y",
        cx.within("l", "attention", |cx| layer.attend(cx, input, &inputs)),
    );
    let mut run = Loop::new(g.finish().unwrap(), 9);
    assert_eq!(
        run.names(),
        ["l/kv/b", "l/kv/w", "l/out/b", "l/out/w", "l/q/b", "l/q/w"]
    );
    with_biases(&mut run);
    let feeds = [
        ("x", x.clone()),
        ("memory", memory.clone()),
        ("seen", bools(&[2, 5], &seen)),
    ];
    let y = run.step(&feeds).remove("y").unwrap();
    let q = projected(&run, "l/q", &x, 0, 2, 5);
    let k = projected(&run, "l/kv", &memory, 0, 2, 5);
    let v = projected(&run, "l/kv", &memory, 10, 2, 5);
    let mixed = plain(&q, &k, &v, |e, _, _, j| seen[e * 5 + j]);
    let mixed = floats(DType::F64, &[2, 3, 10], &mixed);
    let expected = projected(&run, "l/out", &mixed, 0, 1, 6);
    close(y.floats().unwrap(), expected.floats().unwrap(), 1e-12);
}

#[test]
fn sizes_may_be_symbolic_and_biases_left_out() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, (g.dim("b"), g.dim("t"), 12));
    let layer = MultiHeadAttention::new(3).without_bias().causal().rotary();
    let y = Context::training(&g).layer("l", &layer, x);
    assert_eq!(y.ty().unwrap().to_string(), "f32[b, t, 12]");
    g.output("y", y);
    let graph = g.finish().unwrap();
    let names: Vec<&str> = graph.slots().iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["x", "l/qkv/w", "l/out/w"]);
}
