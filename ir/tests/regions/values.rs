//! What control ops compute, against the same loops written by hand.

use crate::{close, f64s, run};
use kiln_ir::ops::Save;
use kiln_ir::{Builder, DType, Graph, Init, ScanOptions, Tensor, Yield, grad, verify};

/// `h' = 0.5 h + x w`, all `h` and the last one, over any number of entries of any number of elements.
fn decay(options: &ScanOptions) -> Graph {
    let g = Builder::new("decay");
    let (t, b) = (g.dim("t"), g.dim("b"));
    let xs = g.input("xs", DType::F64, (t, b.clone()));
    let h = g.input("h", DType::F64, [b]);
    let w = g.input("w", DType::F64, ());
    let scanned = g.scan(options, &[h], &[xs], |it| {
        let next = it.carry(0) * 0.5 + it.entry(0) * w;
        Yield::new(&[next], &[next, it.carry(0)])
    });
    g.output("last", scanned.carries[0]);
    g.output("all", scanned.stacked[0]);
    g.output("before", scanned.stacked[1]);
    let graph = g.finish().unwrap();
    verify(&graph).unwrap();
    graph
}

/// The same by hand: the last `h`, all, and those before.
fn decay_by_hand(xs: &[[f64; 2]], h: [f64; 2], w: f64, reverse: bool) -> [Vec<f64>; 3] {
    let mut h = h;
    let mut rows = vec![([0.0; 2], [0.0; 2]); xs.len()];
    let order: Vec<usize> = if reverse {
        (0..xs.len()).rev().collect()
    } else {
        (0..xs.len()).collect()
    };
    for at in order {
        let before = h;
        h = [0, 1].map(|j| h[j] * 0.5 + xs[at][j] * w);
        rows[at] = (h, before);
    }
    let all = rows.iter().flat_map(|(h, _)| *h).collect();
    let before = rows.iter().flat_map(|(_, b)| *b).collect();
    [h.to_vec(), all, before]
}

#[test]
fn a_scan_runs_forward_and_in_reverse_over_any_number_of_entries() {
    let entries = [[1.0, -2.0], [0.25, 3.0], [-1.5, 0.5]];
    for reverse in [false, true] {
        let graph = decay(&ScanOptions {
            reverse,
            ..ScanOptions::default()
        });
        for t in [0, 1, 3] {
            let xs = &entries[..t];
            let feeds = [
                ("xs", f64s(&[t, 2], &xs.concat())),
                ("h", f64s(&[2], &[4.0, -8.0])),
                ("w", f64s(&[], &[3.0])),
            ];
            let found = run(&graph, &feeds);
            let expected = decay_by_hand(xs, [4.0, -8.0], 3.0, reverse);
            for (found, expected) in found.iter().zip(&expected) {
                close(found, expected);
            }
            assert_eq!(found[1].shape(), [t, 2]);
        }
    }
}

#[test]
fn a_carry_may_be_handed_over_to_another_one() {
    let g = Builder::new("fibonacci");
    let (a, b) = (g.splat(DType::I64, (), 0.0), g.splat(DType::I64, (), 1.0));
    let options = ScanOptions {
        trip: Some(10.into()),
        ..ScanOptions::default()
    };
    let scanned = g.scan(&options, &[a, b], &[], |it| {
        let (a, b) = (it.carry(0), it.carry(1));
        Yield::new(&[b, a + b], &[a])
    });
    g.output("all", scanned.stacked[0]);
    g.output("last", scanned.carries[0]);
    let found = run(&g.finish().unwrap(), &[]);
    assert_eq!(found[0].ints().unwrap(), [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]);
    assert_eq!(found[1].ints().unwrap(), [55]);
}

#[test]
fn a_body_uses_what_is_around_it_and_around_that() {
    let g = Builder::new("nested");
    let xs = g.input("xs", DType::F64, (2, 3));
    let far = g.input("far", DType::F64, ());
    let zero = g.splat(DType::F64, (), 0.0);
    let scanned = g.scan(&ScanOptions::default(), &[zero], &[xs], |it| {
        let near = it.carry(0) + 1.0;
        let inner = it.builder().scan(
            &ScanOptions::default(),
            &[it.carry(0)],
            &[it.entry(0)],
            |inner| {
                let next = inner.carry(0) + inner.entry(0) * far * near;
                Yield::new(&[next], &[])
            },
        );
        Yield::new(&[inner.carries[0]], &[near])
    });
    g.output("last", scanned.carries[0]);
    g.output("near", scanned.stacked[0]);
    let graph = g.finish().unwrap();
    let feeds = [
        ("xs", f64s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        ("far", f64s(&[], &[0.5])),
    ];
    let found = run(&graph, &feeds);
    // 0 + 6 * 0.5 * 1 = 3, then 3 + 15 * 0.5 * 4 = 33.
    close(&found[0], &[33.0]);
    close(&found[1], &[1.0, 4.0]);
}

/// An LSTM's worth of nonlinearity: the loss of a recurrent net and its gradients, in a graph of one of the ways to run a scan.
fn loss_and_gradients(options: &ScanOptions) -> Graph {
    let g = Builder::new("net");
    let p = |name: &str, shape: &[i64]| g.param_of(name, DType::F64, shape, Init::zeros());
    let (xs, h, w, u) = (
        p("xs", &[6, 2, 3]),
        p("h", &[2, 4]),
        p("w", &[3, 4]),
        p("u", &[4, 4]),
    );
    let scanned = g.scan(options, &[h], &[xs], |it| {
        let next = (it.entry(0).dot(w) + it.carry(0).dot(u)).tanh();
        Yield::new(&[next], &[next.square()])
    });
    let loss = scanned.carries[0].sum() + scanned.stacked[0].sum();
    g.output("loss", loss);
    for (i, gradient) in grad(loss, &[xs, h, w, u]).into_iter().enumerate() {
        g.output(&format!("d{i}"), gradient);
    }
    let graph = g.finish().unwrap();
    verify(&graph).unwrap();
    graph
}

#[test]
fn what_is_kept_for_the_gradient_changes_neither_values_nor_gradients() {
    let sized = |shape: &[usize], step: f64| {
        let count: usize = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|i| (i as f64 * step).sin() * 0.8).collect();
        f64s(shape, &values)
    };
    let feeds = [
        ("xs", sized(&[6, 2, 3], 0.7)),
        ("h", sized(&[2, 4], 1.3)),
        ("w", sized(&[3, 4], 2.1)),
        ("u", sized(&[4, 4], 0.9)),
    ];
    for reverse in [false, true] {
        let plain = ScanOptions {
            reverse,
            ..ScanOptions::default()
        };
        let expected = run(&loss_and_gradients(&plain), &feeds);
        for save in Save::ALL {
            for checkpoint in [None, Some(1), Some(2), Some(3), Some(6)] {
                let options = ScanOptions {
                    save,
                    checkpoint,
                    ..plain.clone()
                };
                let found = run(&loss_and_gradients(&options), &feeds);
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(found.shape(), expected.shape());
                    close(found, expected.floats().unwrap());
                }
            }
        }
    }
}

#[test]
fn transcendental_values_are_kept_and_not_computed_again() {
    let tanhs = |save: Save| {
        let options = ScanOptions {
            save,
            ..ScanOptions::default()
        };
        let text = loss_and_gradients(&options).to_string();
        text.matches(" = tanh ").count()
    };
    assert_eq!(tanhs(Save::Results), 1);
    assert_eq!(tanhs(Save::Carries), 2);
}

#[test]
fn a_symbolic_number_of_iterations_is_cut_where_it_is_a_multiple() {
    let g = Builder::new("segments");
    let t = g.dim("n") * 4;
    let xs = g.input("xs", DType::F64, [t]);
    let options = ScanOptions {
        checkpoint: Some(4),
        ..ScanOptions::default()
    };
    let zero = g.splat(DType::F64, (), 0.0);
    let scanned = g.scan(&options, &[zero], &[xs], |it| {
        let next = it.carry(0) * 2.0 + it.entry(0);
        Yield::new(&[next], &[next])
    });
    assert_eq!(scanned.stacked[0].ty().unwrap().to_string(), "f64[4*n]");
    g.output("last", scanned.carries[0]);
    let graph = g.finish().unwrap();
    let eight = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    close(&run(&graph, &[("xs", f64s(&[8], &eight))])[0], &[177.0]);
    close(&run(&graph, &[("xs", f64s(&[0], &[]))])[0], &[0.0]);
}

#[test]
fn a_while_repeats_as_long_as_its_test_holds() {
    let g = Builder::new("collatz");
    let n = g.input("n", DType::I64, ());
    let one = g.input("one", DType::I64, ());
    let zero = g.splat(DType::I64, (), 0.0);
    let results = g.while_loop(
        &[n, zero],
        |it| it.carry(0).ne(one),
        |it| {
            let n = it.carry(0);
            let odd = n.rem(2.0).eq(1.0);
            let next = (n * 3.0 + one).where_(odd, n / 2.0);
            vec![next, it.carry(1) + 1.0]
        },
    );
    g.output("n", results[0]);
    g.output("steps", results[1]);
    let graph = g.finish().unwrap();
    verify(&graph).unwrap();
    let int =
        |x: i64| kiln_ir::Array::new(DType::I64, vec![], kiln_ir::Values::Int(vec![x])).unwrap();
    for (n, steps) in [(1, 0), (6, 8), (27, 111)] {
        let found = run(&graph, &[("n", int(n)), ("one", int(1))]);
        assert_eq!(found[0].ints().unwrap(), [1]);
        assert_eq!(found[1].ints().unwrap(), [steps]);
    }
}

/// `x log x`, and 0 at 0 and below, with its derivative; the branch that is not chosen would give NaN.
fn entropy_term<'g>(x: Tensor<'g>) -> Tensor<'g> {
    let g = x.builder();
    g.cond(
        x.gt(0.0),
        |_| vec![x * x.log()],
        |it| vec![it.builder().splat(DType::F64, (), 0.0)],
    )[0]
}

#[test]
fn a_cond_computes_the_chosen_branch_alone() {
    let g = Builder::new("entropy");
    let x = g.param_of("x", DType::F64, (), Init::zeros());
    let y = entropy_term(x);
    g.output("y", y);
    g.output("dx", grad(y, &[x])[0]);
    let graph = g.finish().unwrap();
    verify(&graph).unwrap();
    let at = |x: f64| {
        let found = run(&graph, &[("x", f64s(&[], &[x]))]);
        [0, 1].map(|i| found[i].floats().unwrap()[0])
    };
    assert_eq!(at(0.0), [0.0, 0.0]);
    assert_eq!(at(-1.0), [0.0, 0.0]);
    let [y, dx] = at(2.0);
    assert!((y - 2.0 * 2f64.ln()).abs() < 1e-12 && (dx - 2f64.ln() - 1.0).abs() < 1e-12);
}

#[test]
fn a_gradient_may_be_taken_within_a_body() {
    // Three steps of gradient descent on (w - x)^2, differentiated by x: w3 = x + (w - x) 0.8^3.
    let g = Builder::new("descent");
    let x = g.param_of("x", DType::F64, (), Init::zeros());
    let w = g.input("w", DType::F64, ());
    let options = ScanOptions {
        trip: Some(3.into()),
        ..ScanOptions::default()
    };
    let scanned = g.scan(&options, &[w], &[], |it| {
        let w = it.carry(0);
        let slope = grad((w - x).square(), &[w])[0];
        Yield::new(&[w - slope * 0.1], &[])
    });
    g.output("w", scanned.carries[0]);
    g.output("dx", grad(scanned.carries[0], &[x])[0]);
    let found = run(
        &g.finish().unwrap(),
        &[("x", f64s(&[], &[5.0])), ("w", f64s(&[], &[1.0]))],
    );
    close(&found[0], &[5.0 - 4.0 * 0.512]);
    close(&found[1], &[1.0 - 0.512]);
}

#[test]
fn params_of_a_body_belong_to_the_whole_graph() {
    let g = Builder::new("layers");
    let xs = g.input("xs", DType::F64, (4, 2));
    let scope = g.scope("encoder");
    let zero = g.splat(DType::F64, [2], 0.0);
    let scanned = g.scan(&ScanOptions::default(), &[zero], &[xs], |it| {
        let body = it.builder();
        let _scope = body.scope("cell");
        let w = body.param_of("w", DType::F64, [2, 2], Init::uniform(0.1));
        assert_eq!(body.find("encoder/cell/w").and_then(Tensor::id), w.id());
        let next = (it.entry(0) + it.carry(0).dot(w)).tanh();
        Yield::new(&[next], &[])
    });
    drop(scope);
    let params = g.params();
    assert_eq!(params.len(), 1);
    let name = params[0].id().and_then(|id| g.slot_name(id));
    assert_eq!(name.as_deref(), Some("encoder/cell/w"));
    let loss = scanned.carries[0].sum();
    let gradient = grad(loss, &params)[0];
    g.update(params[0], params[0] - gradient);
    g.output("loss", loss);
    let graph = g.finish().unwrap();
    verify(&graph).unwrap();
    assert_eq!(graph.updates().len(), 1);
}
