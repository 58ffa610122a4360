//! The number of an iteration, and random bits that are new in each.

use crate::{f64s, run};
use kiln_ir::{
    Array, Builder, DType, Graph, Init, ScanOptions, Tensor, Values, Yield, grad, verify,
};

fn words(values: &[i64]) -> Array {
    Array::new(DType::U32, vec![values.len()], Values::Int(values.to_vec())).unwrap()
}

fn over(trip: i64) -> ScanOptions {
    ScanOptions {
        trip: Some(trip.into()),
        ..ScanOptions::default()
    }
}

#[test]
fn entries_are_numbered_by_position_in_either_direction_and_in_segments() {
    for reverse in [false, true] {
        for checkpoint in [None, Some(2), Some(3)] {
            let g = Builder::new("numbers");
            let zero = g.splat(DType::I64, (), 0.0);
            let outside = g.input("outside", DType::F64, ());
            let options = ScanOptions {
                reverse,
                checkpoint,
                ..over(6)
            };
            let scanned = g.scan(&options, &[zero], &[], |it| {
                // A captured value before the number, and the number twice.
                let used = outside * 2.0;
                let number = it.number();
                let carry = it.carry(0) * 10.0 + it.number();
                let counted = it.builder().iteration().unwrap();
                Yield::new(&[carry], &[number, counted, used.convert(DType::I64)])
            });
            for (i, stacked) in scanned.stacked.iter().enumerate() {
                g.output(&format!("{i}"), *stacked);
            }
            g.output("carry", scanned.carries[0]);
            let graph = g.finish().unwrap();
            verify(&graph).unwrap();
            let found = run(&graph, &[("outside", f64s(&[], &[2.5]))]);
            assert_eq!(found[0].ints().unwrap(), [0, 1, 2, 3, 4, 5]);
            assert_eq!(found[1].ints().unwrap(), [0, 1, 2, 3, 4, 5]);
            assert_eq!(found[2].ints().unwrap(), [5; 6]);
            let order = if reverse { 543_210 } else { 12_345 };
            assert_eq!(found[3].ints().unwrap(), [order]);
        }
    }
}

#[test]
fn who_does_not_ask_pays_nothing() {
    let g = Builder::new("plain");
    let zero = g.splat(DType::F64, (), 0.0);
    let scanned = g.scan(&over(3), &[zero], &[], |it| {
        Yield::new(&[it.carry(0) + 1.0], &[])
    });
    g.output("y", scanned.carries[0]);
    assert!(!g.finish().unwrap().to_string().contains("iota"));
}

#[test]
fn iterations_of_nested_loops_count_through() {
    let g = Builder::new("nested");
    let zero = g.splat(DType::I64, (), 0.0);
    let scanned = g.scan(&over(2), &[], &[], |outer| {
        let inner = outer.builder().scan(&over(3), &[], &[], |inner| {
            let chosen = inner.builder().cond(
                inner.number().ge(zero),
                |branch| {
                    let number = branch.builder().iteration().unwrap();
                    vec![number, branch.number()]
                },
                |_| vec![zero, zero],
            );
            Yield::new(&[], &chosen)
        });
        Yield::new(&[], &inner.stacked)
    });
    g.output("all", scanned.stacked[0]);
    g.output("own", scanned.stacked[1]);
    assert!(g.iteration().is_none());
    let found = run(&g.finish().unwrap(), &[]);
    assert_eq!(found[0].ints().unwrap(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(found[1].ints().unwrap(), [0, 1, 2, 0, 1, 2]);
}

/// Masks drawn in each iteration: the masks, and the gradient through them.
fn dropped(options: &ScanOptions) -> Graph {
    let g = Builder::new("dropped");
    let xs = g.param_of("xs", DType::F64, (6, 8), Init::zeros());
    let key = g.state("key", DType::U32, [2], Init::zeros());
    let zero = g.splat(DType::F64, [8], 0.0);
    let scanned = g.scan(options, &[zero], &[xs], |it| {
        let body = it.builder();
        let word = body.iteration().unwrap().convert(DType::U32);
        let words = [word.reshape([1]), body.splat(DType::U32, [1], 7.0)];
        let counter = body.concat(&words, 0);
        let stays = body.rng_bits(key, counter, [8]).ge(2_147_483_648.0);
        let kept = it.entry(0).where_(stays, 0.0);
        let mask = body.splat(DType::F64, [8], 1.0).where_(stays, 0.0);
        Yield::new(&[it.carry(0) + kept], &[mask])
    });
    let loss: Tensor<'_> = scanned.carries[0].sum();
    g.output("masks", scanned.stacked[0]);
    g.output("dxs", grad(loss, &[xs])[0]);
    let graph = g.finish().unwrap();
    verify(&graph).unwrap();
    graph
}

#[test]
fn the_adjoint_draws_the_same_bits_and_each_iteration_its_own() {
    let feeds = [("xs", f64s(&[6, 8], &[1.0; 48])), ("key", words(&[3, 4]))];
    let expected = run(&dropped(&ScanOptions::default()), &feeds)[0].clone();
    let rows: Vec<&[f64]> = expected.floats().unwrap().chunks(8).collect();
    for (i, row) in rows.iter().enumerate() {
        assert!(rows[..i].iter().all(|other| other != row), "row {i}");
    }
    for reverse in [false, true] {
        for checkpoint in [None, Some(2)] {
            let options = ScanOptions {
                reverse,
                checkpoint,
                ..ScanOptions::default()
            };
            let found = run(&dropped(&options), &feeds);
            assert_eq!(found[0], expected);
            assert_eq!(found[1], expected);
        }
    }
}
