//! Pad, concat, reverse and the strided slice.

use crate::{evaluate, f32s, ints, own_shapes, result};
use kiln_ir::{BindError, DType, Dim, EvalError};

fn dims<const N: usize>(list: [i64; N]) -> [Dim; N] {
    list.map(Dim::from)
}

#[test]
fn pad_places_edges_and_interior() {
    let x = f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let y = result(&[x], |_, t| {
        t[0].pad(9.0, &dims([1, 0]), &dims([0, 1]), &[1, 0])
    });
    let rows = [
        [9.0, 9.0, 9.0],
        [1.0, 2.0, 9.0],
        [9.0, 9.0, 9.0],
        [3.0, 4.0, 9.0],
    ];
    assert_eq!(y, f32s(&[4, 3], &rows.concat()));
    let flags = ints(DType::Bool, &[1], &[0]);
    let y = result(&[flags], |_, t| t[0].pad(1.0, &dims([1]), &dims([1]), &[5]));
    assert_eq!(y, ints(DType::Bool, &[3], &[1, 0, 1]));
}

#[test]
fn an_empty_axis_has_no_interior() {
    let y = result(&[f32s(&[0, 2], &[])], |_, t| {
        t[0].pad(7.0, &dims([1, 0]), &dims([0, 0]), &[4, 0])
    });
    assert_eq!(y, f32s(&[1, 2], &[7.0, 7.0]));
}

#[test]
fn pad_with_a_negative_edge_under_a_binding_is_an_error() {
    let inputs = [f32s(&[2], &[1.0, 2.0])];
    let shape = [vec![Dim::symbol("b")].into()];
    let low = Dim::symbol("b") - 3;
    let error = evaluate(&inputs, &shape, move |_, t| {
        t[0].pad(0.0, std::slice::from_ref(&low), &dims([5]), &[0])
    })
    .unwrap_err();
    assert!(
        matches!(error.cause(), EvalError::Bind(BindError::OutOfRange { .. })),
        "{error}"
    );
}

#[test]
fn concat_joins_along_any_axis() {
    let (x, y) = (
        f32s(&[2, 1], &[1.0, 2.0]),
        f32s(&[2, 2], &[3.0, 4.0, 5.0, 6.0]),
    );
    let empty = f32s(&[2, 0], &[]);
    let joined = result(&[x.clone(), empty, y], |g, t| g.concat(t, 1));
    assert_eq!(joined, f32s(&[2, 3], &[1.0, 3.0, 4.0, 2.0, 5.0, 6.0]));
    assert_eq!(result(std::slice::from_ref(&x), |g, t| g.concat(t, 0)), x);
    let twice = result(&[ints(DType::I8, &[2], &[1, -2])], |_, t| {
        t[0].concat(t[0], 0)
    });
    assert_eq!(twice, ints(DType::I8, &[4], &[1, -2, 1, -2]));
}

#[test]
fn reverse_reads_from_the_end() {
    let x = f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let both = result(std::slice::from_ref(&x), |_, t| t[0].reverse(&[1, 0]));
    assert_eq!(both, f32s(&[2, 3], &[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]));
    let last = result(std::slice::from_ref(&x), |_, t| t[0].reverse(&[1]));
    assert_eq!(last, f32s(&[2, 3], &[3.0, 2.0, 1.0, 6.0, 5.0, 4.0]));
    assert_eq!(
        result(&[f32s(&[0, 3], &[])], |_, t| t[0].reverse(&[0])).shape(),
        [0, 3]
    );
}

#[test]
fn slices_of_symbolic_windows() {
    let inputs = [f32s(&[5], &[0.0, 1.0, 2.0, 3.0, 4.0])];
    let b = || Dim::symbol("b");
    let y = evaluate(&inputs, &[vec![b()].into()], |_, t| {
        t[0].slice(&dims([1]), &[b()], &[2])
    });
    assert_eq!(y.unwrap(), f32s(&[2], &[1.0, 3.0]));
    let behind = evaluate(&inputs, &[vec![b()].into()], |_, t| {
        t[0].slice(&dims([1]), &[b() + 1], &[2])
    });
    assert!(matches!(behind.unwrap_err().cause(), EvalError::Invalid(_)));
    let empty = evaluate(&inputs, &own_shapes(&inputs), |_, t| {
        t[0].slice(&dims([5]), &dims([5]), &[3])
    });
    assert_eq!(empty.unwrap().shape(), [0]);
}
