//! Windows that move, sorted rows, and what is taken along an axis.

use crate::{evaluate, f32s, floats, ints, result};
use kiln_ir::{Array, Builder, DType, Graph};

fn at(value: i64) -> Array {
    ints(DType::I64, &[], &[value])
}

#[test]
fn windows_are_clamped_whole() {
    let x = f32s(&[2, 4], &[0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]);
    let window = |row: i64, column: i64| {
        result(&[x.clone(), at(row), at(column)], |_, t| {
            t[0].dynamic_slice(&[t[1], t[2]], [1, 3])
        })
    };
    assert_eq!(window(0, 1), f32s(&[1, 3], &[1.0, 2.0, 3.0]));
    assert_eq!(window(1, 0), f32s(&[1, 3], &[10.0, 11.0, 12.0]));
    assert_eq!(window(i64::MAX, i64::MIN), window(1, 0));
    assert_eq!(window(-1, 2), window(0, 1));
    // A u64 is large, not negative.
    let inputs = [f32s(&[3], &[1.0, 2.0, 3.0]), ints(DType::U64, &[], &[-1])];
    let last = result(&inputs, |_, t| t[0].dynamic_slice(&[t[1]], [1]));
    assert_eq!(last, f32s(&[1], &[3.0]));
    let none = result(&inputs, |_, t| t[0].dynamic_slice(&[t[1]], [0]));
    assert_eq!(none, f32s(&[0], &[]));
    let scalar = result(&[f32s(&[], &[4.0])], |_, t| t[0].dynamic_slice(&[], ()));
    assert_eq!(scalar, f32s(&[], &[4.0]));
}

#[test]
fn updates_are_written_over_a_window() {
    let x = ints(DType::U8, &[2, 3], &[1, 2, 3, 4, 5, 6]);
    let update = ints(DType::U8, &[2, 1], &[70, 80]);
    let with = |row: i64, column: i64| {
        let inputs = [x.clone(), update.clone(), at(row), at(column)];
        result(&inputs, |_, t| {
            t[0].dynamic_update_slice(t[1], &[t[2], t[3]])
        })
    };
    assert_eq!(with(0, 1), ints(DType::U8, &[2, 3], &[1, 70, 3, 4, 80, 6]));
    assert_eq!(with(5, 9), ints(DType::U8, &[2, 3], &[1, 2, 70, 4, 5, 80]));
}

#[test]
fn a_window_larger_than_the_axis_is_found_when_sizes_are_bound() {
    let inputs = [f32s(&[2], &[1.0, 2.0]), at(0)];
    let wide = |g: &Builder| kiln_ir::Dim::from(3) * g.dim("n2");
    let found = evaluate(
        &inputs,
        &[vec![kiln_ir::Dim::symbol("n2")].into(), ().into()],
        |g, t| t[0].dynamic_slice(&[t[1]], vec![wide(g)]),
    );
    let said = found.unwrap_err().to_string();
    assert!(
        said.contains("the window of 6 of axis 0 is larger than its size 2"),
        "{said}"
    );
}

#[test]
fn rows_are_sorted_stably_with_nan_last() {
    let nan = f64::NAN;
    let x = f32s(&[2, 4], &[3.0, nan, -1.0, 0.0, 2.0, 7.0, 2.0, -0.0]);
    let text = |a: &Array| match a.dtype() {
        DType::I64 => format!("{:?}", a.ints().unwrap()),
        _ => format!("{:?}", a.floats().unwrap()),
    };
    let along = |axis: usize, descending: bool| {
        let inputs = std::slice::from_ref(&x);
        let sorted = result(inputs, |_, t| t[0].sort(axis, descending));
        let from = result(inputs, |_, t| t[0].argsort(axis, descending));
        (text(&sorted), text(&from))
    };
    let both = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        along(1, false),
        both(
            "[-1.0, 0.0, 3.0, NaN, -0.0, 2.0, 2.0, 7.0]",
            "[2, 3, 0, 1, 3, 0, 2, 1]"
        )
    );
    assert_eq!(
        along(1, true),
        both(
            "[3.0, 0.0, -1.0, NaN, 7.0, 2.0, 2.0, -0.0]",
            "[0, 3, 2, 1, 1, 0, 2, 3]"
        )
    );
    // Zeros are equal whatever their signs.
    assert_eq!(
        along(0, false),
        both(
            "[2.0, 7.0, -1.0, 0.0, 3.0, NaN, 2.0, -0.0]",
            "[1, 1, 0, 0, 0, 0, 1, 1]"
        )
    );
    let unsigned = ints(DType::U64, &[3], &[-1, 5, 0]);
    let sorted = result(&[unsigned], |_, t| t[0].sort(0, true));
    assert_eq!(sorted, ints(DType::U64, &[3], &[-1, 5, 0]));
    let truths = ints(DType::Bool, &[3], &[1, 0, 1]);
    let from = result(std::slice::from_ref(&truths), |_, t| t[0].argsort(0, false));
    assert_eq!(from, ints(DType::I64, &[3], &[1, 0, 2]));
    assert_eq!(
        result(&[truths], |_, t| t[0].sort(0, false)),
        ints(DType::Bool, &[3], &[0, 1, 1])
    );
    for shape in [[0, 2], [2, 0]] {
        let nothing = floats(DType::F64, &shape, &[]);
        let found = result(std::slice::from_ref(&nothing), |_, t| t[0].sort(1, false));
        assert_eq!(found, nothing);
        let found = result(&[nothing], |_, t| t[0].argsort(0, false));
        assert_eq!(found, ints(DType::I64, &shape, &[]));
    }
}

#[test]
fn the_largest_come_first_and_say_where_they_were() {
    let x = f32s(&[2, 4], &[1.0, 5.0, f64::NAN, 5.0, -1.0, -2.0, -3.0, 0.5]);
    let inputs = std::slice::from_ref(&x);
    let values = result(inputs, |_, t| t[0].top_k(2, 1).0);
    assert_eq!(values, f32s(&[2, 2], &[5.0, 5.0, 0.5, -1.0]));
    let places = result(inputs, |_, t| t[0].top_k(2, 1).1);
    assert_eq!(places, ints(DType::I64, &[2, 2], &[1, 3, 3, 0]));
    let column = result(inputs, |_, t| t[0].top_k(1, 0).1);
    assert_eq!(column, ints(DType::I64, &[1, 4], &[0, 0, 1, 0]));
}

#[test]
fn what_is_taken_along_an_axis_stays_in_its_row() {
    let x = f32s(
        &[2, 3, 2],
        &[0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11.],
    );
    let indices = ints(DType::I32, &[2, 1, 2], &[2, 0, -4, 9]);
    let found = result(&[x, indices], |_, t| t[0].take_along_axis(1, t[1]));
    assert_eq!(found, f32s(&[2, 1, 2], &[4.0, 1.0, 6.0, 11.0]));
}

#[test]
fn windows_and_orders_read_back_from_the_text() {
    let text = "kiln 1\ngraph @s<b>(%x: f32[b, 3], %i: i64[]) {\n  %0: f32[2, 3] = dynamic_slice %x, %i, %i\n  \
                %1: f32[b, 3] = dynamic_update_slice %x, %0, %i, %i\n  %2: f32[b, 3] = sort %1 {axis = [0]}\n  \
                %3: i64[b, 2] = argsort %2 {axis = [1], descending = true}\n  return %3\n}\n";
    assert_eq!(Graph::parse(text).unwrap().to_string(), text);
    let wrong = text.replace("%2 {axis = [1]", "%2 {axis = [4]");
    let said = Graph::parse(&wrong).unwrap_err().to_string();
    assert_eq!(
        said,
        "6:31: `argsort`: attribute `axis`: expected an axis of i64[b, 2]"
    );
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let g = Builder::new("wrong");
    let x = g.input("x", DType::F32, [2, 3]);
    let (i, f) = (g.input("i", DType::I64, ()), g.input("f", DType::F32, ()));
    let _ = x.dynamic_slice(&[i, i], [2, 4]);
    let _ = x.dynamic_slice(&[i], [2, 3]);
    let _ = x.dynamic_slice(&[i, f], [2, 3]);
    let _ = x.dynamic_slice(&[i, i], [2]);
    let _ = x.dynamic_update_slice(x.convert(DType::F64), &[i, i]);
    let _ = x.sort(2, false);
    let _ = x.argsort(2, false);
    let _ = x.top_k(4, 1);
    let _ = x.take_along_axis(1, i);
    let found = g.finish().unwrap_err().0;
    let said: Vec<&str> = found.iter().map(|d| &*d.refusal.message).collect();
    assert_eq!(
        said,
        [
            "`dynamic_slice` of f32[2, 3]: no window of 4 fits axis 1 of size 3",
            "`dynamic_slice` of f32[2, 3] with 1 starts",
            "`dynamic_slice` of f32[2, 3] at a start of type f32[]",
            "`dynamic_slice` of f32[2, 3] with a window of rank 1",
            "`dynamic_update_slice` of f32[2, 3] with an update f64[2, 3]",
            "`sort` along axis 2 of f32[2, 3]",
            "`argsort` along axis 2 of f32[2, 3]",
            "`argsort` of f32[2, 3]: axis 1 has no 4 elements",
            "`take_along_axis` of f32[2, 3] along axis 1 at indices of type i64[]",
        ]
    );
}
