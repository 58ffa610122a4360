//! Embeddings, positions, feed-forward layers and blocks beside plain formulas; tied weights and their gradient.

mod common;

use common::{Loop, close, differences, floats, ints};
use kiln_ir::philox::Stream;
use kiln_ir::{Array, Builder, DType, Init, Role, Tensor, Values, eval, grad};
use kiln_nn::{
    Activation, BlockInputs, Context, Dense, Embedding, FeedForward, Layer, LayerNorm,
    LearnedPositions, Memory, Mode, MultiHeadAttention, OutOfRange, RmsNorm, Sequential, SwiGlu,
    TransformerBlock, gelu, gelu_tanh, silu,
};

fn normal(name: &str, shape: &[usize]) -> Array {
    let stream = Stream::new(3, name, 0);
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count as u64).map(|i| stream.normal(i)).collect();
    floats(DType::F64, shape, &values)
}

#[test]
fn activations_are_their_formulas() {
    // The standard normal distribution and the tanh approximation at these points, from the definition to 12 digits.
    let points = [-3.0, -1.0, 0.0, 0.5, 2.0];
    let exact = [
        -0.004_049_694_094_63,
        -0.158_655_253_931,
        0.0,
        0.345_731_230_637,
        1.954_499_736_1,
    ];
    let g = Builder::new("m");
    let x = g.input("x", DType::F64, [5]);
    g.output("exact", gelu(x));
    g.output("tanh", gelu_tanh(x));
    g.output("silu", silu(x));
    let found = Loop::new(g.finish().unwrap(), 0).step(&[("x", floats(DType::F64, &[5], &points))]);
    close(found["exact"].floats().unwrap(), &exact, 1e-11);
    let tanh = |x: f64| {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
    };
    close(found["tanh"].floats().unwrap(), &points.map(tanh), 1e-12);
    close(found["tanh"].floats().unwrap(), &exact, 5e-4);
    let swish = points.map(|x: f64| x / (1.0 + (-x).exp()));
    close(found["silu"].floats().unwrap(), &swish, 1e-12);
}

#[test]
fn an_embedding_gives_the_rows_and_says_what_lies_outside() {
    let table = normal("table", &[4, 3]);
    let rows = |out_of_range, tokens: &[i64], dtype| {
        let g = Builder::new("m");
        let x = g.input("x", dtype, [tokens.len() as i64]);
        let layer = Embedding::new(4, 3)
            .dtype(DType::F64)
            .out_of_range(out_of_range);
        g.output("y", Context::training(&g).layer("l", &layer, x));
        let graph = g.finish().unwrap();
        let tokens = ints(dtype, tokens);
        let step = eval(&graph, |slot| match slot.role {
            Role::Input => Some(tokens.clone()),
            Role::Param(_) | Role::State(_) => Some(table.clone()),
        });
        step.map(|step| step.outputs[0].floats().unwrap().to_vec())
    };
    let row = |i: usize| &table.floats().unwrap()[3 * i..3 * i + 3];
    for dtype in [DType::I32, DType::I64, DType::U8] {
        let found = rows(OutOfRange::Fail, &[2, 0, 2], dtype).unwrap();
        assert_eq!(found, [row(2), row(0), row(2)].concat());
    }
    let found = rows(OutOfRange::Clamp, &[-1, 9], DType::I32).unwrap();
    assert_eq!(found, [row(0), row(3)].concat());
    let found = rows(OutOfRange::Skip, &[-1, 3], DType::I32).unwrap();
    assert_eq!(found, [&[0.0; 3], row(3)].concat());
    let error = rows(OutOfRange::Fail, &[1, 4], DType::I64).unwrap_err();
    assert!(error.to_string().contains('4'), "{error}");
}

#[test]
fn tied_weights_learn_from_both_ends() {
    let g = Builder::new("tied");
    let embedding = Embedding::new(5, 3)
        .dtype(DType::F64)
        .weight(Init::normal(1.0));
    let x = g.input("x", DType::I32, [4]);
    let cx = Context::training(&g);
    let vectors = cx.layer("tokens", &embedding, x);
    let logits = cx
        .sharing()
        .within("tokens", "head", |cx| embedding.logits(cx, vectors.tanh()));
    assert_eq!(logits.ty().unwrap().to_string(), "f64[4, 5]");
    let loss = (logits.square() + logits).sum();
    let w = g.find("tokens/w").unwrap();
    g.output("loss", loss);
    g.output("logits", logits);
    g.output("dw", grad(loss, &[w])[0]);
    let mut run = Loop::new(g.finish().unwrap(), 2);
    assert_eq!(run.names(), ["tokens/w"]);
    // A token that is met twice gets two gradients.
    let feeds = [("x", ints(DType::I32, &[1, 4, 1, 0]))];
    differences(&run, &feeds, "loss", "tokens/w", "dw", 1e-6);
    let w = run.floats("tokens/w");
    let expected: Vec<f64> = [1, 4, 1, 0]
        .iter()
        .flat_map(|token| (0..5).map(move |class| (*token, class)))
        .map(|(token, class)| {
            (0..3)
                .map(|f| w[3 * token + f].tanh() * w[3 * class + f])
                .sum()
        })
        .collect();
    close(
        run.step(&feeds)["logits"].floats().unwrap(),
        &expected,
        1e-12,
    );
}

#[test]
fn learned_positions_are_added_from_the_first_on() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F64, [2, 3, 2]);
    let layer = LearnedPositions::new(5).weight(Init::normal(1.0));
    let y = Context::training(&g).layer("l", &layer, x);
    let loss = (y.square()).sum();
    g.output("y", y);
    g.output("loss", loss);
    g.output("dw", grad(loss, &g.params())[0]);
    let mut run = Loop::new(g.finish().unwrap(), 2);
    let x = normal("x", &[2, 3, 2]);
    let feeds = [("x", x.clone())];
    let found = run.step(&feeds);
    let w = run.floats("l/w");
    let sum = x.floats().unwrap().iter().enumerate();
    let sum: Vec<f64> = sum.map(|(i, x)| x + w[i % 6]).collect();
    close(found["y"].floats().unwrap(), &sum, 1e-12);
    differences(&run, &feeds, "loss", "l/w", "dw", 1e-6);
    assert_eq!(&found["dw"].floats().unwrap()[6..], [0.0; 4], "not met");
    // The length may be known only when it is fed.
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, (g.dim("b"), g.dim("t"), 2));
    let y = Context::training(&g).layer("l", &layer, x);
    assert_eq!(y.ty().unwrap().to_string(), "f32[b, t, 2]");
}

fn product(x: &[f64], w: &Array) -> Vec<f64> {
    let (inputs, outputs) = (w.shape()[0], w.shape()[1]);
    let w = w.floats().unwrap();
    x.chunks(inputs)
        .flat_map(|row| {
            (0..outputs).map(move |o| (0..inputs).map(|i| row[i] * w[i * outputs + o]).sum())
        })
        .collect()
}

#[test]
fn feed_forward_layers_are_their_formulas() {
    let x = normal("x", &[2, 3, 4]);
    let run = |layer: &dyn Layer| {
        let g = Builder::new("m");
        let input = g.input("x", DType::F64, [2, 3, 4]);
        g.output("y", Context::training(&g).layer("l", layer, input));
        let mut run = Loop::new(g.finish().unwrap(), 4);
        let y = run.step(&[("x", x.clone())]).remove("y").unwrap();
        (y.floats().unwrap().to_vec(), run)
    };
    let (y, params) = run(&SwiGlu::new(6));
    assert_eq!(params.names(), ["l/down/w", "l/gate/w", "l/up/w"]);
    let gate = product(x.floats().unwrap(), params.array("l/gate/w"));
    let up = product(x.floats().unwrap(), params.array("l/up/w"));
    let hidden = gate
        .iter()
        .zip(&up)
        .map(|(g, u)| g / (1.0 + (-g).exp()) * u);
    let hidden: Vec<f64> = hidden.collect();
    close(&y, &product(&hidden, params.array("l/down/w")), 1e-12);

    let (y, params) = run(&FeedForward::new(6).activation(Activation::relu()));
    assert_eq!(params.names(), ["l/down/b", "l/down/w", "l/up/b", "l/up/w"]);
    let hidden = product(x.floats().unwrap(), params.array("l/up/w"));
    let hidden: Vec<f64> = hidden.iter().map(|h| h.max(0.0)).collect();
    close(&y, &product(&hidden, params.array("l/down/w")), 1e-12);
    let (_, params) = run(&FeedForward::new(6).without_bias());
    assert_eq!(params.names(), ["l/down/w", "l/up/w"]);
}

/// `x` scaled by 2: a layer whose place in a block can be seen in numbers.
struct Twice;

impl Layer for Twice {
    fn kind(&self) -> &str {
        "twice"
    }

    fn apply<'g>(&self, _: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        x * 2.0
    }
}

/// A block is what its sentence says, with the same params applied by hand.
#[test]
fn blocks_normalise_before_or_behind() {
    let attention = || MultiHeadAttention::new(2).causal();
    for behind in [false, true] {
        let block = TransformerBlock::new(attention(), Twice)
            .norm(RmsNorm::new())
            .cross(MultiHeadAttention::new(2));
        let block = if behind { block.norm_behind() } else { block };
        let g = Builder::new("m");
        let x = g.input("x", DType::F64, [2, 3, 4]);
        let memory = Memory {
            memory: Some(g.input("memory", DType::F64, [2, 5, 4])),
            visible: Some(g.input("words", DType::Bool, [2, 5])),
        };
        let inputs = BlockInputs {
            visible: None,
            memory,
        };
        let cx = Context::training(&g);
        let y = cx.within("l", "block", |cx| block.transform(cx, x, &inputs));
        g.output("block", y);
        let cx = cx.sharing();
        let scope = g.scope("l");
        let norm = |name: &str, x| cx.layer(name, &RmsNorm::new(), x);
        let own = |x| cx.layer("attention", &attention(), x);
        let cross = |x| {
            cx.within("cross", "attention", |cx| {
                MultiHeadAttention::new(2).attend(cx, x, &memory)
            })
        };
        let by_hand = if behind {
            let x = norm("attention_norm", x + own(x));
            let x = norm("cross_norm", x + cross(x));
            norm("feed_forward_norm", x + x * 2.0)
        } else {
            let x = x + own(norm("attention_norm", x));
            let x = x + cross(norm("cross_norm", x));
            x + norm("feed_forward_norm", x) * 2.0
        };
        drop(scope);
        g.output("by hand", by_hand);
        let words = [
            true, true, true, false, false, true, true, true, true, false,
        ];
        let words = words.iter().map(|w| i64::from(*w)).collect();
        let feeds = [
            ("x", normal("x", &[2, 3, 4])),
            ("memory", normal("memory", &[2, 5, 4])),
            (
                "words",
                Array::new(DType::Bool, vec![2, 5], Values::Int(words)).unwrap(),
            ),
        ];
        let found = Loop::new(g.finish().unwrap(), 6).step(&feeds);
        assert_eq!(found["block"], found["by hand"]);
    }
}

#[test]
fn gradients_reach_every_param_of_a_block() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F64, [2, 3, 4]);
    let block = TransformerBlock::new(
        MultiHeadAttention::new(2).kv_heads(1).causal().rotary(),
        SwiGlu::new(6),
    );
    let y = Context::training(&g).layer("l", &block, x);
    let loss = (y.square() * 0.5 + y).sum();
    g.output("loss", loss);
    let params = g.params();
    let names: Vec<String> = params
        .iter()
        .map(|p| g.slot_name(p.id().unwrap()).unwrap())
        .collect();
    for (name, gradient) in names.iter().zip(grad(loss, &params)) {
        g.output(name, gradient);
    }
    assert_eq!(names.len(), 11);
    let run = Loop::new(g.finish().unwrap(), 3);
    for name in &names {
        differences(
            &run,
            &[("x", normal("x", &[2, 3, 4]))],
            "loss",
            name,
            name,
            1e-6,
        );
    }
}

#[test]
fn a_stack_of_blocks_has_a_summary_and_no_dropout_in_inference() {
    let block = || {
        TransformerBlock::new(
            MultiHeadAttention::new(2).dropout(0.5).causal(),
            FeedForward::new(16).dropout(0.5),
        )
        .dropout(0.5)
    };
    let model = Sequential::new([6, 8])
        .layer(block())
        .layer(LayerNorm::new())
        .dense(3);
    let summary = model.summary().unwrap();
    let of = |path: &str| summary.rows.iter().find(|row| row.path == path).unwrap();
    let attention = 4 * 8 * 8 + 4 * 8;
    let feed_forward = 2 * 8 * 16 + 16 + 8;
    let block = &of("transformer_block_1").parameters;
    assert_eq!(block.constant(), Some(attention + feed_forward + 4 * 8));
    let row = of("transformer_block_1/attention/qkv");
    assert_eq!(
        (row.depth, row.output.to_string().as_str()),
        (2, "f32[b, 6, 24]")
    );
    let random = |mode: Mode| {
        let g = Builder::new("m");
        let x = g.input("x", DType::F32, (g.dim("b"), 6, 8));
        g.output("y", model.apply(&Context::new(&g, mode), x));
        let graph = g.finish().unwrap();
        let keys = graph
            .slots()
            .iter()
            .filter(|s| s.name.starts_with("rng/key/"));
        keys.count()
    };
    assert_eq!(random(Mode::Inference), 0);
    assert_eq!(
        random(Mode::Training),
        4,
        "probabilities, hidden features, two residuals"
    );
}

/// The same layer in two places of one graph, with its params shared.
#[test]
fn blocks_can_be_shared() {
    let block = TransformerBlock::new(MultiHeadAttention::new(2), FeedForward::new(8));
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, (g.dim("b"), 6, 8));
    let cx = Context::training(&g);
    let once = cx.layer("l", &block, x);
    let twice = cx.sharing().layer("l", &block, once);
    g.output("y", cx.layer("head", &Dense::new(1), twice));
    assert!(g.finish().is_ok());
}
