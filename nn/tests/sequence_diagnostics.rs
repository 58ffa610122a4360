//! Mistakes with embeddings, attention and transformers: one message each, at the user's own line, with a way out.

use kiln_ir::{Builder, DType, Diagnostic, Tensor};
use kiln_nn::{
    AdamW, AttentionOptions, BlockInputs, ClipByGlobalNorm, Context, Embedding, FeedForward, Layer,
    LayerNorm, LearnedPositions, Memory, MultiHeadAttention, Optimizer, RmsNorm, Sgd, SwiGlu,
    TransformerBlock, attention, rotary,
};

/// The mistakes of a graph that has the input `x: f32[b, 7, 12]`.
fn mistakes(build: impl for<'g> Fn(&'g Builder, Tensor<'g>)) -> Vec<Diagnostic> {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, (g.dim("b"), 7, 12));
    build(&g, x);
    g.finish().expect_err("the graph has a mistake").0
}

/// The text of the only mistake, which is at a line of this file.
#[track_caller]
fn only(build: impl for<'g> Fn(&'g Builder, Tensor<'g>)) -> String {
    let found = mistakes(build);
    assert_eq!(found.len(), 1, "{found:?}");
    let file = &*found[0].location.file;
    assert_eq!(file, "nn/tests/sequence_diagnostics.rs", "{}", found[0]);
    found[0].to_string()
}

#[track_caller]
fn refuses(layer: &dyn Layer, message: &str, help: &str) {
    let text = only(|g, x| {
        let y = Context::training(g).layer("l", layer, x);
        g.output("y", y.exp());
    });
    assert!(text.contains(message), "{text}");
    assert!(text.contains(help), "{text}");
}

#[test]
fn layers_say_what_does_not_fit() {
    let heads = MultiHeadAttention::new;
    refuses(&heads(5), "5 heads of 12 features", "or `head_width` says");
    refuses(&heads(6).kv_heads(4), "6 heads and 4 of keys", "a multiple");
    refuses(&heads(0), "0 heads", "1 or more");
    refuses(
        &heads(2).head_width(0),
        "heads of width 0",
        "one feature or more",
    );
    refuses(
        &heads(4).rotary(),
        "`rotary` of f32[b, 7, 4, 3]",
        "a fixed, even width",
    );
    refuses(&heads(2).rotary_base(-1.0), "a base of -1", "above 0");
    refuses(
        &heads(2).dropout(1.0),
        "`dropout` at a rate of 1",
        "less than 1",
    );
    refuses(
        &LearnedPositions::new(6),
        "of 6 vectors for f32[b, 7, 12]",
        "each position",
    );
    refuses(
        &Embedding::new(5, 3),
        "`embedding` of f32[b, 7, 12]",
        "integers of any width",
    );
    refuses(
        &LayerNorm::new().epsilon(-1.0),
        "`layer_norm` with an epsilon of -1",
        "at 0 or above",
    );
    refuses(
        &RmsNorm::new().epsilon(f64::NAN),
        "`rms_norm` with an epsilon of NaN",
        "at 0 or above",
    );
}

#[test]
fn inputs_of_other_ranks_and_types() {
    type Case = (&'static str, &'static dyn Fn() -> Box<dyn Layer>);
    let cases: [Case; 6] = [
        ("`attention` of", &|| Box::new(MultiHeadAttention::new(1))),
        ("`learned_positions` of", &|| {
            Box::new(LearnedPositions::new(9))
        }),
        ("`feed_forward` needs a fixed", &|| {
            Box::new(FeedForward::new(3))
        }),
        ("`swiglu` needs a fixed", &|| Box::new(SwiGlu::new(3))),
        ("`layer_norm` of", &|| Box::new(LayerNorm::new())),
        ("`rms_norm` of", &|| Box::new(RmsNorm::new())),
    ];
    for (message, layer) in cases {
        let text = only(|g, _| {
            let z = g.input("z", DType::F32, ());
            Context::training(g).layer("l", &*layer(), z);
        });
        assert!(text.contains(message), "{text}");
    }
    let text = only(|g, _| {
        let z = g.input("z", DType::I32, (2, 3));
        let table = Embedding::new(5, 3).dtype(DType::I32);
        Context::training(g).layer("l", &table, z);
    });
    assert!(text.contains("a table of i32"), "{text}");
}

#[test]
fn operands_of_attention_that_do_not_agree() {
    type Case = ([i64; 4], [i64; 4], [i64; 4], &'static str);
    let shapes: [Case; 5] = [
        (
            [2, 3, 4, 5],
            [1, 6, 4, 5],
            [1, 6, 4, 5],
            "keys and values of 2 examples",
        ),
        ([2, 3, 4, 5], [2, 6, 4, 5], [2, 7, 4, 5], "equally long"),
        (
            [2, 3, 4, 5],
            [2, 6, 4, 6],
            [2, 6, 4, 5],
            "keys of width 5 fit",
        ),
        (
            [2, 3, 4, 5],
            [2, 6, 3, 5],
            [2, 6, 3, 5],
            "a multiple of those of keys",
        ),
        (
            [2, 3, 4, 0],
            [2, 6, 4, 0],
            [2, 6, 4, 5],
            "one feature or more",
        ),
    ];
    for (q, k, v, help) in shapes {
        let text = only(|g, _| {
            let [q, k, v] = [("q", q), ("k", k), ("v", v)].map(|(n, s)| g.input(n, DType::F32, s));
            attention(q, k, v, &AttentionOptions::default());
        });
        assert!(text.contains(help), "{text}");
    }
    let text = only(|g, _| {
        let of = |name, dtype| g.input(name, dtype, [2, 3, 4, 5]);
        let (q, k, v) = (
            of("q", DType::F32),
            of("k", DType::F32),
            of("v", DType::F64),
        );
        attention(q, k, v, &AttentionOptions::default());
    });
    assert!(text.contains("of one floating type"), "{text}");
    let text = only(|_, x| {
        attention(x, x, x, &AttentionOptions::default());
    });
    assert!(
        text.contains("the axes batch, time, heads, width"),
        "{text}"
    );
}

#[test]
fn masks_of_another_shape_or_type() {
    for (dtype, shape) in [
        (DType::Bool, vec![2, 7]),
        (DType::F32, vec![2, 6]),
        (DType::Bool, vec![6]),
    ] {
        let text = only(|g, _| {
            let of = |name, s| g.input(name, DType::F32, [2, s, 4, 5]);
            let visible = Some(g.input("visible", dtype, &shape[..]));
            let options = AttentionOptions {
                visible,
                ..Default::default()
            };
            attention(of("q", 3), of("k", 6), of("v", 6), &options);
        });
        assert!(
            text.contains("bool[2, 6] fits, or bool[2, 3, 6], or bool[2, 4, 3, 6]"),
            "{text}"
        );
    }
}

#[test]
fn positions_of_another_shape() {
    let text = only(|g, _| {
        let x = g.input("heads", DType::F32, (g.dim("b"), g.dim("t"), 2, 4));
        rotary(x, g.input("at", DType::I32, (g.dim("b"),)), 1e4);
    });
    assert!(
        text.contains("integers of shape [t] fit, or [b, t]"),
        "{text}"
    );
}

#[test]
fn a_head_that_is_not_as_wide_as_its_table() {
    let table = Embedding::new(5, 3);
    let text = only(|g, x| {
        let cx = Context::training(g);
        cx.layer("tokens", &table, g.input("tokens", DType::I32, (2, 2)));
        cx.sharing()
            .within("tokens", "head", |cx| table.logits(cx, x));
    });
    assert!(text.contains("vectors of type f32[3]"), "{text}");
    assert!(text.contains("in \"tokens\""), "{text}");
    let text = only(|g, _| {
        let x = g.input("h", DType::F32, (2, 3));
        let cx = Context::training(g).sharing();
        cx.within("tokens", "head", |cx| table.logits(cx, x));
    });
    assert!(text.contains("there is no `tokens/w` to share"), "{text}");
}

#[test]
fn a_memory_that_is_missing_or_too_much() {
    let block = TransformerBlock::new(MultiHeadAttention::new(2), FeedForward::new(8));
    let decoder = block.clone().cross(MultiHeadAttention::new(2));
    let text = only(|g, x| {
        Context::training(g).layer("decoder", &decoder, x);
    });
    assert!(text.contains("is given no memory"), "{text}");
    let text = only(|g, x| {
        let memory = Memory {
            memory: Some(x),
            visible: None,
        };
        let inputs = BlockInputs {
            memory,
            visible: None,
        };
        Context::training(g).within("l", "block", |cx| block.transform(cx, x, &inputs));
    });
    assert!(
        text.contains("`TransformerBlock::cross` adds the attention"),
        "{text}"
    );
}

#[test]
fn settings_of_optimizers_out_of_range() {
    let found = mistakes(|_, x| {
        let w = x.builder().param("w", [3], kiln_ir::Init::zeros());
        AdamW::new(-1.0).weight_decay(-0.1).minimize(w.sum());
        ClipByGlobalNorm::new(0.0, Sgd::new(0.1)).minimize(w.sum());
    });
    let messages: Vec<&str> = found.iter().map(|d| d.refusal.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the learning rate of the optimizer is -1",
            "the weight decay of the optimizer is -0.1",
            "the limit of the norm of the optimizer is 0",
        ]
    );
}
