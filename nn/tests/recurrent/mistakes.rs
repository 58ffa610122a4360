//! Mistakes, told where a layer is applied.

use kiln_ir::{Builder, DType};
use kiln_nn::{Bidirectional, Context, Given, Gru, Layer, Lstm, Recurrent};

#[test]
fn mistakes_are_told_at_the_line_of_the_application() {
    let message = |build: &dyn for<'a> Fn(&'a Builder, &Context<'a>)| {
        let g = Builder::new("m");
        build(&g, &Context::training(&g));
        let found = g.finish().expect_err("a mistake");
        assert_eq!(found.0.len(), 1, "{found}");
        assert_eq!(
            &*found.0[0].location.file, "nn/tests/recurrent/mistakes.rs",
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
