//! `rng_bits` against the streams that it must agree with.

use crate::{evaluate, f32s, ints, own_shapes};
use kiln_ir::philox::{Stream, unit_f32};
use kiln_ir::{Array, DType, Dim};

/// Key and counter of a stream whose words have their highest bits set somewhere, and the stream.
fn inputs() -> (Vec<Array>, Stream) {
    let stream = Stream::new(u64::MAX - 6, "encoder/dropout", 3);
    let (step, iteration) = (u32::MAX, 0x8000_0001);
    let words = |w: [u32; 2]| ints(DType::U32, &[2], &w.map(i64::from));
    (
        vec![words(stream.key()), words([step, iteration])],
        stream.at(step, iteration),
    )
}

#[test]
fn every_element_is_a_word_of_the_stream() {
    let (inputs, stream) = inputs();
    let found = evaluate(&inputs, &own_shapes(&inputs), |g, t| {
        g.rng_bits(t[0], t[1], [3, 5])
    })
    .unwrap();
    let words: Vec<i64> = (0..15).map(|i| i64::from(stream.word(i))).collect();
    assert_eq!(found, ints(DType::U32, &[3, 5], &words));
}

#[test]
fn a_shape_that_grows_keeps_the_words_before() {
    let (mut inputs, stream) = inputs();
    for size in [0_usize, 1, 4, 5] {
        inputs.push(f32s(&[size], &vec![0.0; size]));
        let mut shapes = own_shapes(&inputs);
        shapes[2] = vec![Dim::symbol("b")].into();
        let found = evaluate(&inputs, &shapes, |g, t| {
            g.rng_bits(t[0], t[1], vec![Dim::symbol("b")])
        })
        .unwrap();
        let words: Vec<i64> = (0..size as u64)
            .map(|i| i64::from(stream.word(i)))
            .collect();
        assert_eq!(found.ints().unwrap(), words);
        inputs.pop();
    }
}

#[test]
fn uniform_numbers_are_those_of_philox() {
    let (inputs, stream) = inputs();
    let found = evaluate(&inputs, &own_shapes(&inputs), |g, t| {
        g.rng_bits(t[0], t[1], [9]).unit_f32()
    })
    .unwrap();
    let expected: Vec<f64> = (0..9).map(|i| f64::from(stream.uniform_f32(i))).collect();
    assert_eq!(found, f32s(&[9], &expected));
    let edges = [ints(DType::U32, &[3], &[0, 255, i64::from(u32::MAX)])];
    let found = evaluate(&edges, &own_shapes(&edges), |_, t| t[0].unit_f32()).unwrap();
    let expected = [0, 255, u32::MAX].map(|w| f64::from(unit_f32(w)));
    assert_eq!(found, f32s(&[3], &expected));
}
