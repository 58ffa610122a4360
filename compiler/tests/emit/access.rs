//! Every way in which an element is found: strides, broadcasts, quotients, gathered positions and predicates, in lanes and outside.

use crate::elements::{TYPES, numbers};
use crate::support::{Build, agrees, agrees_over, float_param, i, map, n, nest, store, store_if};
use kiln_compiler::kernel::{Access, Atom, Expr, Index, Kernel, LoopId, LoopKind, Stmt, ValueId};
use kiln_ir::ops::{Binary, Compare};
use kiln_ir::{Array, DType, Dim, Values};

/// `out[i] = in[index]` in lanes, for every type.
fn copies(index: &Index, elements: impl Fn(usize) -> usize) {
    for dtype in TYPES {
        let mut b = Build::new(&[(dtype, Access::Read), (dtype, Access::Write)]);
        let mut body = Vec::new();
        let v = b.load(&mut body, 0, index.clone());
        body.push(store(1, i(0), v));
        let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, n(), body)]);
        agrees(&kernel, |n| {
            vec![numbers(dtype, elements(n), 11), numbers(dtype, n, 12)]
        });
    }
}

#[test]
fn adjacent_elements_with_an_offset() {
    copies(&i(0).offset(&Dim::from(3)), |n| n + 3);
    copies(&i(0).offset(&n()), |n| 2 * n);
}

#[test]
fn strided_elements() {
    copies(&i(0).times(&Dim::from(3)), |n| 3 * n);
    copies(&i(0).times(&Dim::from(2)).offset(&Dim::from(1)), |n| 2 * n);
}

#[test]
fn strides_that_are_symbolic() {
    copies(&i(0).times(&n()), |n| n * n);
}

#[test]
fn strides_too_long_for_an_immediate_are_added() {
    // The stride in bytes does not fit an instruction, and only the first element is read.
    let kernel = {
        let mut b = Build::new(&[(DType::F32, Access::Read), (DType::F32, Access::Write)]);
        let mut body = Vec::new();
        let v = b.load(&mut body, 0, i(0).times(&Dim::from(1_i64 << 40)));
        body.push(store(1, i(0), v));
        b.finish(vec![nest(LoopKind::Lanes, 0, Dim::from(1), body)])
    };
    agrees_over(&kernel, &[1], |_| vec![float_param(1), float_param(1)]);
}

#[test]
fn reversed_elements() {
    let last = i(0).times(&Dim::from(-1)).offset(&(&n() - &Dim::from(1)));
    copies(&last, |n| n);
}

#[test]
fn one_element_for_all_lanes() {
    copies(&Index::constant(2), |_| 3);
}

#[test]
fn quotients_and_remainders() {
    let extent = |_: LoopId| None;
    for divisor in [
        Dim::from(2),
        Dim::from(3),
        Dim::from(7),
        Dim::from(28),
        Dim::from(1000),
        n(),
    ] {
        let quotient = i(0).floor_div(&divisor, &extent);
        let remainder = i(0).modulo(&divisor, &extent);
        copies(&quotient, |n| n);
        copies(&remainder, |n| n);
        // A row of seven within a row of nine, backwards.
        let mixed = remainder
            .times(&Dim::from(9))
            .plus(&quotient)
            .offset(&Dim::from(1));
        copies(&mixed, |n| 10 * n + 10);
    }
}

#[test]
fn quotients_round_down_below_zero() {
    // (i - 5) div 3 runs from -2.
    for divisor in [Dim::from(3), Dim::from(4), n()] {
        let shifted = i(0).offset(&Dim::from(-5)).floor_div(&divisor, &|_| None);
        copies(&shifted.offset(&Dim::from(5)), |n| n + 5);
        let rest = i(0).offset(&Dim::from(-5)).modulo(&divisor, &|_| None);
        copies(&rest, |n| n + 4);
    }
}

#[test]
fn index_values() {
    for index in [
        i(0),
        i(0).times(&Dim::from(-3)).offset(&Dim::from(1_i64 << 40)),
        i(0).times(&n()),
        i(0).floor_div(&Dim::from(3), &|_| None),
        Index::constant(n()),
    ] {
        let kernel = map(&[], DType::I64, |b, body, _| {
            b.compute(body, DType::I64, Expr::Index(index))
        });
        agrees(&kernel, |n| vec![numbers(DType::I64, n, 1)]);
    }
}

/// Positions within `0..n`, without pattern.
fn positions(n: usize) -> Array {
    let values = (0..n).map(|i| (i * 7919 % n.max(1)) as i64).collect();
    Array::new(DType::I64, vec![n], Values::Int(values)).unwrap()
}

#[test]
fn gathered_and_scattered_elements() {
    for dtype in TYPES {
        let mut b = Build::new(&[
            (dtype, Access::Read),
            (DType::I64, Access::Read),
            (dtype, Access::Write),
        ]);
        let mut body = Vec::new();
        let at = b.load(&mut body, 1, i(0));
        let v = b.load(&mut body, 0, Index::atom(Atom::Value(at)));
        body.push(store(2, i(0), v));
        let gather = b.finish(vec![nest(LoopKind::Lanes, 0, n(), body)]);
        agrees(&gather, |n| {
            vec![numbers(dtype, n, 1), positions(n), numbers(dtype, n, 2)]
        });

        let mut b = Build::new(&[
            (dtype, Access::Read),
            (DType::I64, Access::Read),
            (dtype, Access::Write),
        ]);
        let mut body = Vec::new();
        let at = b.load(&mut body, 1, i(0));
        let v = b.load(&mut body, 0, i(0));
        body.push(store(2, Index::atom(Atom::Value(at)), v));
        let scatter = b.finish(vec![nest(LoopKind::Lanes, 0, n(), body)]);
        // 7919 is prime, so that no two elements meet at these lengths; where they do, the last one stays.
        agrees(&scatter, |n| {
            vec![numbers(dtype, n, 1), positions(n), numbers(dtype, n, 2)]
        });
    }
}

#[test]
fn of_two_writes_to_one_element_the_last_stays() {
    let mut b = Build::new(&[(DType::F32, Access::Read), (DType::F32, Access::Write)]);
    let mut body = Vec::new();
    let v = b.load(&mut body, 0, i(0));
    body.push(store(1, i(0).floor_div(&Dim::from(3), &|_| None), v));
    let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, n(), body)]);
    agrees(&kernel, |n| vec![float_param(n), float_param(n)]);
    let mut b = Build::new(&[(DType::F32, Access::Read), (DType::F32, Access::Write)]);
    let mut body = Vec::new();
    let v = b.load(&mut body, 0, i(0));
    body.push(store(1, Index::constant(0), v));
    let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, n(), body)]);
    agrees(&kernel, |n| vec![float_param(n), float_param(1)]);
}

/// Every third element from `begin`, or all of them, as a predicate.
fn third(b: &mut Build, body: &mut Vec<Stmt>, begin: i64, step: i64) -> ValueId {
    let remainder = i(0)
        .offset(&Dim::from(begin))
        .modulo(&Dim::from(step), &|_| None);
    let r = b.compute(body, DType::I64, Expr::Index(remainder));
    let zero = b.int(body, DType::I64, 0);
    b.compute(body, DType::Bool, Expr::Compare(Compare::Eq, r, zero))
}

#[test]
fn loads_under_a_predicate_read_nothing_where_it_is_false() {
    for dtype in TYPES {
        for (begin, step) in [(0, 1), (1, 3), (0, 100)] {
            let indices = [i(0), i(0).times(&Dim::from(2)), Index::constant(0)];
            for (index, reach) in indices.into_iter().zip([1, 2, 1]) {
                let mut b = Build::new(&[(dtype, Access::Read), (dtype, Access::Write)]);
                let mut body = Vec::new();
                let p = third(&mut b, &mut body, begin, step);
                let v = b.load_if(&mut body, 0, index, Some(p));
                body.push(store(1, i(0), v));
                let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, n(), body)]);
                agrees(&kernel, |n| {
                    vec![numbers(dtype, reach * n + 1, 1), numbers(dtype, n, 2)]
                });
            }
        }
    }
}

/// An address that is far outside of the buffer, and on no page, where the predicate is false.
#[test]
fn false_lanes_do_not_touch_their_address() {
    let far = Dim::from(1_i64 << 44);
    let mut b = Build::new(&[(DType::F32, Access::Read), (DType::F32, Access::Write)]);
    let mut body = Vec::new();
    let p = third(&mut b, &mut body, 0, 4);
    // i mod 4 is 0 where the predicate holds.
    let index = i(0)
        .modulo(&Dim::from(4), &|_| None)
        .times(&far)
        .plus(&i(0));
    let v = b.load_if(&mut body, 0, index.clone(), Some(p));
    body.push(store_if(1, index, v, Some(p)));
    let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, n(), body)]);
    agrees(&kernel, |n| vec![float_param(n), float_param(n)]);
}

#[test]
fn stores_under_a_predicate_write_nothing_where_it_is_false() {
    for dtype in TYPES {
        for (begin, step) in [(0, 1), (1, 3), (0, 100)] {
            for (index, reach) in [(i(0), 1), (i(0).times(&Dim::from(2)), 2)] {
                let mut b = Build::new(&[(dtype, Access::Read), (dtype, Access::Write)]);
                let mut body = Vec::new();
                let p = third(&mut b, &mut body, begin, step);
                let v = b.load(&mut body, 0, i(0));
                body.push(store_if(1, index, v, Some(p)));
                let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, n(), body)]);
                agrees(&kernel, |n| {
                    vec![numbers(dtype, n, 1), numbers(dtype, reach * n, 2)]
                });
            }
        }
    }
}

/// Everything outside of the lanes: uniform loads, predicates, arithmetic and stores, in a grid and a serial loop.
#[test]
fn scalars() {
    for dtype in TYPES {
        let mut b = Build::new(&[(dtype, Access::Read), (dtype, Access::Write)]);
        let mut body = Vec::new();
        let row = b.compute(&mut body, DType::I64, Expr::Index(i(0)));
        let five = b.int(&mut body, DType::I64, 5);
        let p = b.compute(
            &mut body,
            DType::Bool,
            Expr::Compare(Compare::Lt, row, five),
        );
        let v = b.load_if(&mut body, 0, i(0).times(&Dim::from(2)).plus(&i(1)), Some(p));
        let w = b.compute(&mut body, dtype, Expr::Select(p, v, v));
        let q = b.compute(
            &mut body,
            DType::Bool,
            Expr::Compare(Compare::Ge, row, five),
        );
        body.push(store_if(
            1,
            Index::atom(Atom::Value(row)).plus(&i(1)),
            w,
            Some(p),
        ));
        body.push(store_if(1, i(0).plus(&i(1)).offset(&n()), w, Some(q)));
        let inner = nest(LoopKind::Serial, 1, Dim::from(2), body);
        let kernel = b.finish(vec![nest(LoopKind::Grid, 0, n(), vec![inner])]);
        agrees(&kernel, |n| {
            vec![numbers(dtype, 2 * n, 1), numbers(dtype, 2 * n + 1, 2)]
        });
    }
}

#[test]
fn a_parameter_is_updated_in_place() {
    let mut b = Build::new(&[(DType::F32, Access::ReadWrite), (DType::F32, Access::Read)]);
    let mut body = Vec::new();
    let x = b.load(&mut body, 0, i(0));
    let g = b.load(&mut body, 1, i(0));
    let y = b.compute(&mut body, DType::F32, Expr::Binary(Binary::Sub, x, g));
    body.push(store(0, i(0), y));
    // Read again behind the store.
    let z = b.load(&mut body, 0, i(0));
    let w = b.compute(&mut body, DType::F32, Expr::Binary(Binary::Mul, z, g));
    body.push(store(0, i(0), w));
    let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, n(), body)]);
    agrees(&kernel, |n| vec![float_param(n), float_param(n)]);
}

/// `out[i, j] = in[j, i] + row[j]`, with the lanes along j.
fn transposed() -> Kernel {
    let m = Dim::from(5);
    let mut b = Build::new(&[
        (DType::F32, Access::Read),
        (DType::F32, Access::Read),
        (DType::F32, Access::Write),
    ]);
    let mut body = Vec::new();
    let x = b.load(&mut body, 0, i(1).times(&m).plus(&i(0)));
    let y = b.load(&mut body, 1, i(1));
    let z = b.compute(&mut body, DType::F32, Expr::Binary(Binary::Add, x, y));
    body.push(store(2, i(0).times(&n()).plus(&i(1)), z));
    let lanes = nest(LoopKind::Lanes, 1, n(), body);
    b.finish(vec![nest(LoopKind::Grid, 0, m, vec![lanes])])
}

#[test]
fn a_transposition() {
    agrees(&transposed(), |n| {
        vec![float_param(5 * n), float_param(n), float_param(5 * n)]
    });
}

#[test]
fn ranges_of_the_partition_leave_the_rest_alone() {
    use crate::support::agrees_in_ranges;
    agrees_in_ranges(&transposed(), 33, &[0..2, 3..4, 4..4], |n| {
        vec![float_param(5 * n), float_param(n), float_param(5 * n)]
    });
    let square = map(&[DType::F32], DType::F32, |b, body, v| {
        b.compute(body, DType::F32, Expr::Binary(Binary::Mul, v[0], v[0]))
    });
    agrees_in_ranges(&square, 100, &[0..1, 5..9, 9..41, 41..41, 83..100], |n| {
        vec![float_param(n), float_param(n)]
    });
}
