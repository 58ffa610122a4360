//! Numbered iterations.

use super::*;

/// Numbers compared and computed with along rows: as they are, from an offset, turned around, padded, and folded.
fn numbered(dtype: DType, columns: Dim) -> Graph {
    let g = Builder::new(&format!("numbered {dtype} {columns}"));
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), columns.clone()));
    let y = g.input("y", dtype, (b.clone(), columns.clone()));
    let iota = |columns: &Dim, axis: usize| {
        let ty = TensorType::new(dtype, [b.clone(), columns.clone()]);
        g.push(Iota { ty, axis }, &[])
    };
    let plain = iota(&columns, 1);
    let behind = &columns + &Dim::from(1000);
    let offset = iota(&behind, 1).slice_axis(1, 1000, behind);
    let double = &columns + &columns;
    let symbolic = iota(&double, 1).slice_axis(1, columns.clone(), double);
    let backwards = plain.reverse(&[1]);
    let shifted = {
        let [none, three] = [Dim::from(0), Dim::from(3)];
        let padded = plain.pad(7.0, &[none.clone(), three], &[none.clone(), none], &[0, 0]);
        padded.slice_axis(1, 0, columns.clone())
    };
    let rows = iota(&columns, 0);
    let numbers = [
        plain,
        offset,
        symbolic,
        backwards,
        shifted,
        rows,
        plain * 3.0 + y,
    ];
    for (at, number) in numbers.into_iter().enumerate() {
        let chosen = x.where_(number.lt(20.0), -1.0);
        g.output(&format!("chosen{at}"), chosen);
        g.output(
            &format!("sum{at}"),
            x.where_(number.ge(y), 0.5).reduce(ReduceKind::Sum, &[1]),
        );
        g.output(&format!("number{at}"), number);
        g.output(
            &format!("sum of numbers{at}"),
            (number * 5.0 + y).reduce(ReduceKind::Sum, &[1]),
        );
        g.output(
            &format!("largest{at}"),
            number.eq(y).reduce(ReduceKind::Any, &[1]),
        );
    }
    g.output("floats", plain.convert(DType::F32) * x);
    g.output(
        "both",
        (plain * 2.0).maximum(rows).reduce(ReduceKind::Max, &[1]),
    );
    g.output("flat", iota(&columns, 1).reshape((&b * &columns,)).lt(9.0));
    g.finish().unwrap()
}

#[test]
fn numbers_along_rows() {
    for dtype in [DType::I32, DType::U32, DType::I64] {
        let graph = numbered(dtype, Dim::symbol("n"));
        let compiled = Compiled::new(&graph);
        let last = if dtype == DType::I32 { 40 } else { 18 };
        for n in (1..=last).chain([65, 1000, 4097, 5000]) {
            compiled.check(&[("b", 1 + n % 3), ("n", n)], Kind::Plain);
        }
    }
    for n in [1, 15, 17, 65, 4097] {
        let graph = numbered(DType::I32, Dim::from(n));
        check(&graph, &[&[("b", 2)], &[("b", 1)]]);
    }
}

/// Numbers beside random words, which are drawn for a strip of iterations at a time.
#[test]
fn numbers_beside_random_words() {
    let g = Builder::new("words");
    let (b, n) = (g.dim("b"), g.dim("n"));
    let shape = [b, n];
    let x = g.input("x", DType::F32, shape.clone());
    let key = g.input("key", DType::U32, (2,));
    let counter = g.input("counter", DType::U32, (2,));
    let drawn = g.rng_bits(key, counter, shape.clone()).unit_f32();
    let ty = TensorType::new(DType::I32, shape);
    let number = g.push(Iota { ty, axis: 1 }, &[]);
    g.output("map", (x * drawn).where_(number.lt(700.0), drawn));
    g.output(
        "sum",
        (x * drawn)
            .where_(number.lt(4000.0), 0.0)
            .reduce(ReduceKind::Sum, &[1]),
    );
    let graph = g.finish().unwrap();
    let compiled = Compiled::new(&graph);
    for n in [1, 17, 300, 1025, 5000] {
        compiled.check(&[("b", 2), ("n", n)], Kind::Plain);
    }
}
