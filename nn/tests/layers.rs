//! Names, shapes, modes, sharing, summaries and dropout.

mod common;

use common::{Loop, floats};
use kiln_ir::philox::{Stream, philox4x32};
use kiln_ir::{Builder, DType, Init, Location};
use kiln_nn::{Context, Dense, Layer, Mode, Sequential, Summary};

#[test]
fn summary_shows_layers_with_a_symbolic_batch() {
    let inner = Sequential::new([196]).dense(512).relu();
    let model = Sequential::new([14, 14])
        .flatten()
        .layer(inner)
        .named("encoder")
        .dropout(0.5)
        .dense(10)
        .named("head");
    let summary = model.summary().unwrap();
    assert_eq!(
        summary.to_string(),
        "\
layer              kind        output          parameters
---------------------------------------------------------
x                  input       f32[b, 14, 14]
flatten_1          flatten     f32[b, 196]              0
encoder            sequential  f32[b, 512]        100 864
  encoder/dense_1  dense       f32[b, 512]        100 864
  encoder/relu_1   relu        f32[b, 512]              0
dropout_1          dropout     f32[b, 512]              0
head               dense       f32[b, 10]           5 130
---------------------------------------------------------
total                                             105 994
"
    );
}

#[test]
fn summary_returns_the_mistakes_of_the_model() {
    let model = Sequential::new([4]).dense(-2);
    let found = Summary::of(&model, &model.input_type(DType::F32)).unwrap_err();
    assert_eq!(found.0.len(), 1, "{found}");
    assert!(
        found
            .to_string()
            .contains("`dense_1/w` has an axis of size -2"),
        "{found}"
    );
}

/// One model value gives training and prediction graphs whose params meet by name.
#[test]
fn params_have_the_same_names_in_both_modes() {
    let model = Sequential::new([3])
        .dense(4)
        .relu()
        .dropout(0.5)
        .dense(2)
        .named("head");
    let names = |mode: Mode| {
        let g = Builder::new("m");
        let x = g.input("x", DType::F32, (g.dim("b"), 3));
        g.output("y", model.apply(&Context::new(&g, mode), x));
        Loop::new(g.finish().unwrap(), 0)
            .names()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let params = ["dense_1/b", "dense_1/w", "head/b", "head/w"];
    assert_eq!(names(Mode::Inference), params);
    let random = ["rng/counter", "rng/key/dropout_1/0"];
    assert_eq!(names(Mode::Training), [params.as_slice(), &random].concat());
}

#[test]
fn a_shared_layer_has_its_params_once() {
    let g = Builder::new("siamese");
    let (left, right) = (
        g.input("l", DType::F64, (1, 2)),
        g.input("r", DType::F64, (1, 2)),
    );
    let tower = Dense::new(3).bias(Init::ones()).weight(Init::normal(1.0));
    let cx = Context::training(&g);
    g.output("l", cx.layer("tower", &tower, left));
    g.output("r", cx.sharing().layer("tower", &tower, right));
    let mut run = Loop::new(g.finish().unwrap(), 5);
    assert_eq!(run.names(), ["tower/b", "tower/w"]);
    let x = floats(DType::F64, &[1, 2], &[0.3, -2.0]);
    let outputs = run.step(&[("l", x.clone()), ("r", x)]);
    assert_eq!(outputs["l"], outputs["r"]);
}

/// Charged lines: what a layer makes belongs to the line that added it.
#[test]
fn nodes_of_a_layer_carry_its_line_and_scope() {
    let here = Location::caller();
    let model = Sequential::new([3]).dense(4);
    let model = model.relu();
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, (g.dim("b"), 3));
    g.output("y", model.apply(&Context::training(&g), x));
    let graph = g.finish().unwrap();
    for (_, node) in graph.nodes().skip(1) {
        let at = &node.provenance.location;
        assert_eq!(at.file, here.file);
        let line = match &*node.provenance.scope {
            "dense_1" => here.line + 1,
            "relu_1" => here.line + 2,
            other => panic!("scope {other}"),
        };
        assert_eq!(at.line, line);
    }
}

fn dropped(seed: u64) -> Loop {
    let model = Sequential::new([50]).dropout(0.3).dropout(0.3);
    let g = Builder::new("dropout");
    let x = g.input("x", DType::F32, (g.dim("b"), 50));
    let cx = Context::training(&g);
    g.output("twice", model.apply(&cx, x));
    let once = Sequential::new([50]).dropout(0.3).named("once");
    g.output("once", once.apply(&cx, x));
    g.output("plain", once.apply(&Context::inference(&g), x));
    Loop::new(g.finish().unwrap(), seed)
}

#[test]
fn dropout_drops_its_share_and_scales_the_rest() {
    let ones = floats(DType::F32, &[200, 50], &[1.0; 10_000]);
    let mut run = dropped(1);
    let first = run.step(&[("x", ones.clone())]);
    let kept = |name: &str, scale: f64| {
        let all = first[name].floats().unwrap();
        let kept = all.iter().filter(|x| **x != 0.0).count();
        assert!(all.iter().all(|x| *x == 0.0 || (x - scale).abs() < 1e-6));
        kept as f64 / 10_000.0
    };
    // Five standard deviations of a share of 10,000 draws; two independent masks keep 0.49, equal ones would keep 0.7.
    let tolerance = 5.0 * (0.21_f64 / 10_000.0).sqrt();
    assert!((kept("once", 1.0 / 0.7) - 0.7).abs() < tolerance);
    assert!((kept("twice", 1.0 / 0.49) - 0.49).abs() < 1.1 * tolerance);
    assert_eq!(kept("plain", 1.0), 1.0);
    let second = run.step(&[("x", ones.clone())]);
    assert_ne!(first["once"], second["once"], "each step draws anew");
    assert_eq!(
        first,
        dropped(1).step(&[("x", ones.clone())]),
        "a seed repeats"
    );
    assert_ne!(
        first,
        dropped(2).step(&[("x", ones)]),
        "another seed differs"
    );
}

/// The definition of a mask is a promise to saved runs: key from seed and name, counter from the step, word from the element.
#[test]
fn a_mask_is_its_documented_definition() {
    let mut run = dropped(11);
    let ones = floats(DType::F32, &[2, 50], &[1.0; 100]);
    run.step(&[("x", ones.clone())]);
    run.step(&[("x", ones.clone())]);
    let third = run.step(&[("x", ones)]);
    let block = Stream::new(11, "rng/key/once/0", 0).block(0);
    let key = [block[1], block[3]];
    for (i, value) in third["once"].floats().unwrap().iter().enumerate() {
        let word = philox4x32([i as u32 / 4, 0, 2, 0], key)[i % 4];
        let stays = f64::from(word) >= (0.3_f64 * 4_294_967_296.0).round();
        assert_eq!(*value != 0.0, stays, "element {i}");
    }
    assert_eq!(run.ints("rng/counter"), [3, 0]);
}

#[test]
fn dropout_lets_the_gradient_of_kept_elements_through() {
    let g = Builder::new("gradient");
    let x = g.param_of("x", DType::F64, [64], Init::ones());
    let y = kiln_nn::dropout(x, 0.5);
    g.output("y", y);
    g.output("dx", kiln_ir::grad(y.sum(), &[x])[0]);
    let outputs = Loop::new(g.finish().unwrap(), 4).step(&[]);
    assert_eq!(
        outputs["y"], outputs["dx"],
        "y is linear in x, and x is one"
    );
}
