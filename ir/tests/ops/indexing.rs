//! Gather and scatter at indices in and out of range.

use crate::{evaluate, f32s, ints, own_shapes, result};
use kiln_ir::{Array, DType, EvalError, OutOfRange, ScatterKind};

fn indices(values: &[i64]) -> Array {
    ints(DType::I32, &[values.len()], values)
}

#[test]
fn gather_picks_slices() {
    let x = f32s(&[3, 2], &[0.0, 1.0, 10.0, 11.0, 20.0, 21.0]);
    let rows = result(
        &[x.clone(), ints(DType::U8, &[2, 2], &[2, 0, 0, 1])],
        |_, t| t[0].gather(0, t[1], OutOfRange::Fail),
    );
    let expected = [20.0, 21.0, 0.0, 1.0, 0.0, 1.0, 10.0, 11.0];
    assert_eq!(rows, f32s(&[2, 2, 2], &expected));
    let column = result(&[x.clone(), ints(DType::I64, &[], &[1])], |_, t| {
        t[0].gather(1, t[1], OutOfRange::Fail)
    });
    assert_eq!(column, f32s(&[3], &[1.0, 11.0, 21.0]));
    let nothing = result(&[x, indices(&[])], |_, t| {
        t[0].gather(1, t[1], OutOfRange::Fail)
    });
    assert_eq!(nothing.shape(), [3, 0]);
}

#[test]
fn gather_out_of_range() {
    let x = f32s(&[3], &[1.0, 2.0, 3.0]);
    let at = indices(&[-1, 0, 2, 3, i64::from(i32::MIN), i64::from(i32::MAX)]);
    let inputs = [x.clone(), at];
    let clamped = result(&inputs, |_, t| t[0].gather(0, t[1], OutOfRange::Clamp));
    assert_eq!(clamped, f32s(&[6], &[1.0, 1.0, 3.0, 3.0, 1.0, 3.0]));
    let skipped = result(&inputs, |_, t| t[0].gather(0, t[1], OutOfRange::Skip));
    assert_eq!(skipped, f32s(&[6], &[0.0, 1.0, 3.0, 0.0, 0.0, 0.0]));
    let failed = evaluate(&inputs, &own_shapes(&inputs), |_, t| {
        t[0].gather(0, t[1], OutOfRange::Fail)
    });
    let expected = EvalError::Index {
        op: "gather",
        index: -1,
        extent: 3,
    };
    assert_eq!(failed.unwrap_err().cause(), &expected);
    // A u64 is large, not negative.
    let huge = result(&[x, ints(DType::U64, &[1], &[-1])], |_, t| {
        t[0].gather(0, t[1], OutOfRange::Clamp)
    });
    assert_eq!(huge, f32s(&[1], &[3.0]));
}

#[test]
fn an_axis_without_elements_has_nothing_to_clamp_to() {
    let inputs = [f32s(&[0, 2], &[]), indices(&[0, 5])];
    let found = result(&inputs, |_, t| t[0].gather(0, t[1], OutOfRange::Clamp));
    assert_eq!(found, f32s(&[2, 2], &[0.0; 4]));
    let inputs = [
        f32s(&[0, 2], &[]),
        indices(&[0, 5]),
        f32s(&[2, 2], &[1.0; 4]),
    ];
    for kind in ScatterKind::ALL {
        let found = result(&inputs, |_, t| {
            t[0].scatter(kind, 0, t[1], t[2], OutOfRange::Clamp)
        });
        assert_eq!(found.shape(), [0, 2]);
    }
}

#[test]
fn scatter_joins_in_row_major_order() {
    let base = f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let updates = f32s(&[2, 3], &[10.0, 20.0, 30.0, -1.0, -2.0, -3.0]);
    let inputs = [base, indices(&[2, 0, 2]), updates];
    let found = |kind| {
        result(&inputs, move |_, t| {
            t[0].scatter(kind, 1, t[1], t[2], OutOfRange::Fail)
        })
    };
    assert_eq!(
        found(ScatterKind::Set),
        f32s(&[2, 3], &[20.0, 2.0, 30.0, -2.0, 5.0, -3.0])
    );
    assert_eq!(
        found(ScatterKind::Add),
        f32s(&[2, 3], &[21.0, 2.0, 43.0, 2.0, 5.0, 2.0])
    );
    assert_eq!(
        found(ScatterKind::Max),
        f32s(&[2, 3], &[20.0, 2.0, 30.0, 4.0, 5.0, 6.0])
    );
}

#[test]
fn scatter_out_of_range() {
    let updates = [1, 2, 4, 8];
    let inputs = [
        ints(DType::U8, &[3], &[0, 0, 250]),
        indices(&[-1, 1, 2, 3]),
        ints(DType::U8, &[4], &updates),
    ];
    let add = |mode| {
        evaluate(&inputs, &own_shapes(&inputs), move |_, t| {
            t[0].scatter(ScatterKind::Add, 0, t[1], t[2], mode)
        })
    };
    assert_eq!(
        add(OutOfRange::Clamp).unwrap(),
        ints(DType::U8, &[3], &[1, 2, 6])
    );
    assert_eq!(
        add(OutOfRange::Skip).unwrap(),
        ints(DType::U8, &[3], &[0, 2, 254])
    );
    let failed = add(OutOfRange::Fail).unwrap_err();
    assert!(
        matches!(failed.cause(), EvalError::Index { index: -1, .. }),
        "{failed}"
    );
}

#[test]
fn scatter_max_follows_max() {
    let inputs = [
        f32s(&[3], &[-0.0, f64::NAN, 1.0]),
        indices(&[0, 1, 2]),
        f32s(&[3], &[0.0, 5.0, f64::NAN]),
    ];
    let found = result(&inputs, |_, t| {
        t[0].scatter(ScatterKind::Max, 0, t[1], t[2], OutOfRange::Skip)
    });
    assert_eq!(format!("{:?}", found.floats().unwrap()), "[0.0, NaN, NaN]");
    let flags = [
        ints(DType::Bool, &[2], &[0, 0]),
        indices(&[1]),
        ints(DType::Bool, &[1], &[1]),
    ];
    let set = result(&flags, |_, t| {
        t[0].scatter(ScatterKind::Set, 0, t[1], t[2], OutOfRange::Skip)
    });
    assert_eq!(set, ints(DType::Bool, &[2], &[0, 1]));
}
