//! Recurrent layers, compiled: a training step of each gives the same bits in every variant and on every number of threads, and what the
//! interpreter gives within rounding.

mod common;

use common::jit::{VARIANTS, executable, session_at};
use common::layer::check;
use kiln_ir::{Bindings, Builder, DType, Dim, Tensor};
use kiln_nn::{Bidirectional, Context, Given, Gru, Layer, Lstm, Merge, Sequential, SimpleRnn};

#[test]
fn cells() {
    check(&SimpleRnn::new(5), &[6, 3]);
    check(&SimpleRnn::new(5).relu().go_backwards(), &[6, 3]);
    check(&Lstm::new(5).return_sequences().two_biases(), &[6, 3]);
    check(&Lstm::new(17).without_bias().checkpoint(3), &[6, 3]);
    check(&Gru::new(5).return_sequences().go_backwards(), &[6, 3]);
    check(&Gru::new(5).reset_before(), &[6, 3]);
}

#[test]
fn dropouts() {
    check(&Lstm::new(5).dropout(0.4).recurrent_dropout(0.3), &[6, 3]);
    let anew = Gru::new(5)
        .dropout(0.4)
        .recurrent_dropout(0.3)
        .dropout_each_step();
    check(&anew, &[6, 3]);
}

#[test]
fn stacks_in_both_directions() {
    let model = Sequential::new([6, 3])
        .layer(Lstm::new(4).return_sequences())
        .layer(Bidirectional::new(Gru::new(3).return_sequences()).merge(Merge::Product))
        .layer(Bidirectional::new(SimpleRnn::new(4)))
        .dense(2);
    check(&model, &[6, 3]);
}

/// Lengths that differ, from the numbers themselves: as many steps as the first feature of the sequence says.
struct Masked;

impl Layer for Masked {
    fn kind(&self) -> &str {
        "masked"
    }

    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let Some(ty) = x.ty() else { return x };
        let one = |axis: usize| {
            if axis == 0 {
                ty.shape[0].clone()
            } else {
                Dim::from(1)
            }
        };
        let limit: Vec<Dim> = (0..3).map(one).collect();
        let first = x.slice(&[0.into(), 0.into(), 0.into()], &limit, &[1, 1, 1]);
        let lengths = (first.abs() * 4.0).convert(kiln_ir::DType::I32);
        let given = Given {
            lengths: Some(lengths.reshape([ty.shape[0].clone()])),
            ..Given::default()
        };
        let sequence = Bidirectional::new(Lstm::new(4)).sequence(cx, x, &given);
        let states = x.builder().concat(&sequence.states, 1);
        sequence.outputs.reduce(kiln_ir::ReduceKind::Sum, &[1])
            + states.slice(
                &[0.into(), 0.into()],
                &[ty.shape[0].clone(), 8.into()],
                &[1, 1],
            )
    }
}

#[test]
fn sequences_of_different_lengths() {
    check(&Masked, &[6, 3]);
}

/// Large enough to be shared out among threads.
#[test]
fn recurrent_weights_start_with_orthonormal_rows_on_any_number_of_threads() {
    let g = Builder::new("lstm");
    let x = g.input("x", DType::F32, (g.dim("b"), 3, 4));
    g.output("y", Context::inference(&g).layer("lstm", &Lstm::new(96), x));
    let executable = executable(&g.finish().unwrap(), VARIANTS[0]).unwrap();
    let drawn = |threads| {
        let session = session_at(&executable, threads, Bindings::new());
        session.state("lstm/wh").unwrap().to_vec::<f32>().unwrap()
    };
    let weight = drawn(1);
    assert_eq!(weight.len(), 96 * 384);
    assert!(weight == drawn(2));
    for (i, a) in weight.chunks(384).enumerate() {
        for (j, b) in weight.chunks(384).enumerate() {
            let product: f64 = a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum();
            let wanted = if i == j { 1.0 } else { 0.0 };
            assert!((product - wanted).abs() < 1e-5, "{i} {j}: {product}");
        }
    }
}
