//! Loops, `while`s, branches and copies: what they compute at any length and number of threads, and what a binding refuses.

#[path = "../common/mod.rs"]
mod common;
mod refusals;
mod stretches;

use common::control::*;
use common::*;
use kiln_ir::program::{Guard, Home, Program, Step};
use kiln_ir::{BufferId, DType, Init, Role, TensorType};
use kiln_runtime::{Feed, PlanError, Session, StepError};

const F32: DType = DType::F32;

fn open(program: Program, threads: usize) -> Session {
    let executable = load(program, &CONTROL).unwrap();
    executable.session_with(&options(1, threads)).unwrap()
}

/// Sums of the rows of `x: f32[t, w]` up to each one, with a carry of two entries or of `t + 1`, forwards or backwards.
fn sums(w: usize, keep: bool, backwards: bool) -> Program {
    let t = dim("t");
    let entries = if keep {
        t.clone() + 1
    } else {
        kiln_ir::Dim::from(2)
    };
    let walk = |of| {
        if backwards {
            reversed(of, 1, t.clone())
        } else {
            slice(of, 1, t.clone(), 0)
        }
    };
    let history = TensorType::new(F32, (entries.clone(), w));
    let last = if keep {
        t.clone()
    } else {
        t.modulo(&kiln_ir::Dim::from(2))
    };
    program(
        vec![port("x", TensorType::new(F32, (t.clone(), w)), 0)],
        vec![
            port("y", TensorType::new(F32, (t.clone(), w)), 1),
            port("carry", history, 2),
            port("last", TensorType::new(F32, (w,)), 8),
        ],
        vec![
            buffer("x", F32, t.clone() * w, Home::Input),
            buffer("y", F32, t.clone() * w, Home::Output),
            buffer("carry", F32, entries.clone() * w, Home::Output),
            buffer("zero", F32, w, zeros(w)),
            buffer("x[i]", F32, w, walk(0)),
            buffer("y[i]", F32, w, walk(1)),
            buffer("c[i]", F32, w, slice(2, 1, entries.clone(), 0)),
            buffer("c[i + 1]", F32, w, slice(2, 1, entries, 1)),
            buffer("last", F32, w, Home::Output),
        ],
        vec![
            copy((3, 0), (2, 0), w),
            repeat(t, 2, false),
            call(ADD, &[(4, READ), (6, READ), (7, WRITE)], w),
            call(DOUBLE, &[(7, READ), (5, WRITE)], w),
            copy((2, last), (8, 0), w),
        ],
    )
}

fn expected_sums(x: &[f32], w: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut sum, mut history, mut doubled) = (vec![0.0; w], vec![0.0; w], Vec::new());
    for row in x.chunks(w) {
        for (sum, x) in sum.iter_mut().zip(row) {
            *sum += x;
        }
        history.extend(&sum);
        doubled.extend(sum.iter().map(|v| 2.0 * v));
    }
    (history, doubled)
}

fn rows_backwards(x: &[f32], w: usize) -> Vec<f32> {
    x.chunks(w).rev().flatten().copied().collect()
}

#[test]
fn carries_of_two_entries_and_kept_ones_run_at_every_length_in_both_directions() {
    let w = 5;
    for (keep, backwards) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut session = open(sums(w, keep, backwards), 2);
        for t in [3, 1, 0, 8, 2, 3, 0] {
            let x = noise(t * w, "x");
            let walked = if backwards {
                rows_backwards(&x, w)
            } else {
                x.clone()
            };
            let (history, doubled) = expected_sums(&walked, w);
            let outputs = session.step(&[Feed::new(&x, &[t, w])]).unwrap();
            let y = outputs.as_slice::<f32>("y").unwrap();
            let y = if backwards {
                rows_backwards(y, w)
            } else {
                y.to_vec()
            };
            assert_eq!(y, doubled, "{t} {keep} {backwards}");
            let last = outputs.as_slice::<f32>("last").unwrap();
            assert_eq!(last, &history[t * w..]);
            if keep {
                assert_eq!(outputs.as_slice::<f32>("carry").unwrap(), history);
            }
        }
    }
}

/// Each of `x: f32[t, s, w]`'s blocks is summed up on its own: a loop in a loop, over slices of slices.
fn nested(w: usize) -> Program {
    let (t, s) = (dim("t"), dim("s"));
    let block = s.clone() * w;
    let stacked = TensorType::new(F32, (t.clone(), s.clone(), w));
    program(
        vec![port("x", stacked.clone(), 0)],
        vec![port("y", stacked, 1)],
        vec![
            buffer("x", F32, t.clone() * block.clone(), Home::Input),
            buffer("y", F32, t.clone() * block.clone(), Home::Output),
            buffer("zero", F32, w, zeros(w)),
            buffer("x[i]", F32, block.clone(), reversed(0, 0, t.clone())),
            buffer("y[i]", F32, block.clone(), reversed(1, 0, t.clone())),
            buffer("carry", F32, 2 * w, arena(1, 4)),
            buffer("x[i][j]", F32, w, slice(3, 2, s.clone(), 0)),
            buffer("y[i][j]", F32, w, slice(4, 2, s.clone(), 0)),
            buffer("c[j]", F32, w, slice(5, 2, 2, 0)),
            buffer("c[j + 1]", F32, w, slice(5, 2, 2, 1)),
        ],
        vec![
            repeat(t, 4, false),
            copy((2, 0), (5, 0), w),
            repeat(s, 2, false),
            call(ADD, &[(6, READ), (8, READ), (9, WRITE)], w),
            call(ADD, &[(9, READ), (2, READ), (7, WRITE)], w),
        ],
    )
}

#[test]
fn a_slice_may_be_of_a_slice() {
    let w = 3;
    let mut session = open(nested(w), 1);
    for (t, s) in [(4, 3), (1, 7), (0, 2), (3, 0), (4, 3), (2, 2)] {
        let x = noise(t * s * w, "x");
        let outputs = session.step(&[Feed::new(&x, &[t, s, w])]).unwrap();
        let blocks = x.chunks((s * w).max(1));
        let expected: Vec<f32> = blocks
            .flat_map(|block| expected_sums(block, w).0[w..].to_vec())
            .collect();
        assert_eq!(outputs.as_slice::<f32>("y").unwrap(), expected, "{t} {s}");
    }
}

/// `h . w + x` by the definition of a product's bits for `k <= 512`.
fn next_state(h: &[f32], w: &[f32], x: &[f32], k: usize) -> Vec<f32> {
    let element = |at: usize| {
        let (row, col) = (at / k, at % k);
        let chain = (0..k).fold(0.0f32, |sum, d| h[row * k + d].mul_add(w[d * k + col], sum));
        chain + x[at]
    };
    (0..h.len()).map(element).collect()
}

#[test]
fn products_of_slices_are_those_of_the_entries_on_any_number_of_threads() {
    for (m, k) in [(1, 3), (4, 16), (32, 96)] {
        let w: Vec<f32> = noise(k * k, "w").iter().map(|v| v * 0.2).collect();
        for threads in [1, 2, 4] {
            let mut session = open(recurrent(m, k), threads);
            // With the largest of them the product asks for entries of other steps.
            for t in [5, 2, 9, 0, 5, 50] {
                let x = noise(t * m * k, "x");
                let (mut h, mut expected) = (vec![0.0; m * k], Vec::<f32>::new());
                for x in x.chunks(m * k) {
                    h = next_state(&h, &w, x, k);
                    expected.extend(&h);
                }
                let (of_x, of_other) = ([t, m, k], [k, k]);
                let feeds = [Feed::new(&x, &of_x), Feed::new(&w, &of_other)];
                let outputs = session.step(&feeds).unwrap();
                let y = outputs.as_slice::<f32>("y").unwrap();
                assert!(y == expected, "{m} {k} {threads} {t}");
            }
        }
    }
}

#[test]
fn a_parallel_loop_gives_the_same_bits_on_any_number_of_threads() {
    for (t, s, k) in [(1, 2, 3), (3, 4, 8), (33, 16, 32), (7, 40, 64), (0, 2, 2)] {
        let (x, w) = (noise(t * s * k, "x"), noise(k * k, "w"));
        let mut expected = Vec::new();
        for x in x.chunks(s * k).rev() {
            let zero = vec![0.0; x.len()];
            let product = next_state(x, &w, &zero, k);
            // Both doublings are exact.
            expected.push((x.to_vec(), product));
        }
        // The results lie in the order opposite to that of the operands.
        let expected: Vec<f32> = expected
            .into_iter()
            .flat_map(|(x, product)| {
                let both = x.into_iter().zip(product);
                both.map(|(x, p)| 2.0 * p + 2.0 * x).collect::<Vec<_>>()
            })
            .collect();
        for threads in [1, 2, 3, 4] {
            let mut session = open(parallel(s, k), threads);
            for _ in 0..2 {
                let (of_x, of_other) = ([t, s, k], [k, k]);
                let feeds = [Feed::new(&x, &of_x), Feed::new(&w, &of_other)];
                let outputs = session.step(&feeds).unwrap();
                let y = outputs.as_slice::<f32>("y").unwrap();
                assert!(y == expected, "{t} {s} {k} on {threads} threads");
            }
        }
    }
}

/// What is multiplied by changes from an iteration to the next, so that it may not be packed before the first: each of two ways.
#[test]
fn a_right_side_that_the_loop_changes_is_read_anew() {
    let (m, k, t) = (32, 96, 4);
    let (x, w) = (noise(t * m * k, "x"), noise(k * k, "w"));
    let (of_x, of_w) = ([t, m, k], [k, k]);
    let feeds = [Feed::new(&x, &of_x), Feed::new(&w, &of_w)];
    // The weights double in every iteration.
    let mut program = recurrent(m, k);
    program.buffers.push(buffer("v", F32, k * k, arena(0, 6)));
    program.buffers[4].home = arena(0, 6);
    program.buffers[8].home = arena(3, 4);
    for at in [5, 6, 7, 9] {
        if let Home::Slice(slice) = &mut program.buffers[at].home {
            slice.at = 2;
        }
    }
    if let Step::Product(product) = &mut program.steps[2] {
        product.rhs.buffer = BufferId::new(10);
    }
    program.steps[1] = repeat(dim("t"), 4, false);
    program.steps.insert(0, copy((1, 0), (10, 0), k * k));
    let double = call(DOUBLE, &[(10, READ), (10, WRITE)], k * k);
    program.steps.push(double);
    let (mut h, mut v, mut expected) = (vec![0.0; m * k], w.clone(), Vec::<f32>::new());
    for x in x.chunks(m * k) {
        h = next_state(&h, &v, x, k);
        v.iter_mut().for_each(|v| *v *= 2.0);
        expected.extend(&h);
    }
    for threads in [1, 2] {
        let mut session = open(program.clone(), threads);
        let outputs = session.step(&feeds).unwrap();
        assert!(outputs.as_slice::<f32>("y").unwrap() == expected);
    }
    // The right side is a slice: `h = h . x[i] + x[i]`.
    let mut program = recurrent(k, k);
    if let Step::Product(product) = &mut program.steps[2] {
        product.rhs.buffer = BufferId::new(5);
    }
    let x = noise(t * k * k, "squares");
    let of_x = [t, k, k];
    let feeds = [Feed::new(&x, &of_x), Feed::new(&w, &of_w)];
    let (mut h, mut expected) = (vec![0.0; k * k], Vec::<f32>::new());
    for x in x.chunks(k * k) {
        h = next_state(&h, x, x, k);
        expected.extend(&h);
    }
    let mut session = open(program, 2);
    let outputs = session.step(&feeds).unwrap();
    assert!(outputs.as_slice::<f32>("y").unwrap() == expected);
}

/// The packed weights have a place behind the arena, and do not meet the carry: every binding gives the same.
#[test]
fn weights_that_no_iteration_changes_are_packed_once() {
    let (m, k) = (32, 96);
    let executable = load(recurrent(m, k), &CONTROL).unwrap();
    let memory = |t: i64| {
        let bindings = kiln_ir::Bindings::from([("t", t)]);
        executable.memory_with(&bindings, 1).unwrap().arena
    };
    // One iteration packs for itself.
    assert_eq!(memory(1), memory(0));
    assert!(memory(2) >= memory(1) + 4 * k * k);
    assert_eq!(memory(2), memory(90));
}

/// A parallel loop in a loop: `y[i][j] = 2 x[i][j] + bias[i]`, where the bias is doubled before.
fn parallel_inside(w: usize) -> Program {
    let (t, s) = (dim("t"), dim("s"));
    let block = s.clone() * w;
    let stacked = TensorType::new(F32, (t.clone(), s.clone(), w));
    program(
        vec![
            port("x", stacked.clone(), 0),
            port("bias", TensorType::new(F32, (t.clone(), w)), 1),
        ],
        vec![port("y", stacked, 2)],
        vec![
            buffer("x", F32, t.clone() * block.clone(), Home::Input),
            buffer("bias", F32, t.clone() * w, Home::Input),
            buffer("y", F32, t.clone() * block.clone(), Home::Output),
            buffer("x[i]", F32, block.clone(), slice(0, 0, t.clone(), 0)),
            buffer("y[i]", F32, block.clone(), slice(2, 0, t.clone(), 0)),
            buffer("bias[i]", F32, w, slice(1, 0, t.clone(), 0)),
            buffer("x[i][j]", F32, w, slice(3, 1, s.clone(), 0)),
            buffer("y[i][j]", F32, w, slice(4, 1, s.clone(), 0)),
            buffer("row", F32, w, local(2, 3)),
        ],
        vec![
            repeat(t, 3, false),
            repeat(s, 2, true),
            call(DOUBLE, &[(6, READ), (8, WRITE)], w),
            // The outer loop's slice is read in the inner one.
            call(ADD, &[(8, READ), (5, READ), (7, WRITE)], w),
        ],
    )
}

#[test]
fn threads_of_a_parallel_loop_see_the_slices_of_the_loop_around_it() {
    let (t, s, w) = (6, 50, 900);
    let (x, bias) = (noise(t * s * w, "x"), noise(t * w, "bias"));
    let value = |at: usize| 2.0 * x[at] + bias[at / (s * w) * w + at % w];
    let expected: Vec<f32> = (0..x.len()).map(value).collect();
    for threads in [1, 2, 4] {
        let mut session = open(parallel_inside(w), threads);
        let (of_x, of_other) = ([t, s, w], [t, w]);
        let feeds = [Feed::new(&x, &of_x), Feed::new(&bias, &of_other)];
        let outputs = session.step(&feeds).unwrap();
        assert!(outputs.as_slice::<f32>("y").unwrap() == expected);
    }
}

/// Counts from 0 to `n`, and gives `x` doubled where `up` holds, else `x` added to itself twice.
fn counter() -> Program {
    let scalar = |dtype| TensorType::new(dtype, ());
    let (i64, bool) = (DType::I64, DType::Bool);
    program(
        vec![
            port("n", scalar(i64), 0),
            port("up", scalar(bool), 1),
            port("x", scalar(F32), 2),
        ],
        vec![port("count", scalar(i64), 3), port("way", scalar(F32), 4)],
        vec![
            buffer("n", i64, 1, Home::Input),
            buffer("up", bool, 1, Home::Input),
            buffer("x", F32, 1, Home::Input),
            buffer("count", i64, 1, Home::Output),
            buffer("way", F32, 1, Home::Output),
            buffer("zero", i64, 1, Home::Constant([0; 8].into())),
            buffer("more", bool, 1, arena(1, 3)),
            buffer("twice", F32, 1, arena(6, 7)),
        ],
        vec![
            copy((5, 0), (3, 0), 1),
            repeat_while(6, 1, 1),
            call(LESS, &[(3, READ), (0, READ), (6, WRITE)], 1),
            call(NEXT, &[(3, UPDATE)], 1),
            branch(1, 1, 2),
            call(DOUBLE, &[(2, READ), (4, WRITE)], 1),
            call(ADD, &[(2, READ), (2, READ), (7, WRITE)], 1),
            call(ADD, &[(7, READ), (2, READ), (4, WRITE)], 1),
        ],
    )
}

#[test]
fn whiles_end_when_their_condition_does_and_branches_go_both_ways() {
    let mut session = open(counter(), 2);
    for (n, up) in [
        (5_i64, true),
        (0, false),
        (-3, true),
        (1, false),
        (70, true),
    ] {
        let (n_fed, up_fed) = ([n], [up]);
        let feeds = [
            Feed::new(&n_fed, &[]),
            Feed::new(&up_fed, &[]),
            Feed::new(&[1.5_f32], &[]),
        ];
        let outputs = session.step(&feeds).unwrap();
        assert_eq!(outputs.scalar("count"), Ok(n.max(0) as f64));
        let way = if up { 3.0 } else { 4.5 };
        assert_eq!(outputs.scalar("way"), Ok(way));
    }
}

#[test]
fn copies_move_parts_of_a_buffer_within_it() {
    let mut program = sums(2, true, false);
    program.steps.push(copy((2, 0), (2, 1), 2));
    let mut session = open(program, 1);
    let outputs = session
        .step(&[Feed::new(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2])])
        .unwrap();
    let carry = outputs.as_slice::<f32>("carry").unwrap();
    assert_eq!(carry, [0.0, 0.0, 0.0, 0.0, 4.0, 6.0]);
}

#[test]
fn a_profile_counts_a_launch_for_each_iteration() {
    let (m, k, t) = (4, 16, 6);
    let (x, w) = (noise(t * m * k, "x"), noise(k * k, "w"));
    let (of_x, of_other) = ([t, m, k], [k, k]);
    let feeds = [Feed::new(&x, &of_x), Feed::new(&w, &of_other)];
    let mut session = open(recurrent(m, k), 1);
    session.record(true);
    session.step(&feeds).unwrap();
    session.step(&feeds).unwrap();
    let profile = session.profile();
    let calls: Vec<u64> = profile.entries().iter().map(|e| e.calls).collect();
    assert_eq!(calls, [2, 12, 12, 12]);
    let flops: u64 = profile.entries().iter().map(|e| e.flops).sum();
    assert_eq!(flops, (2 * t * 2 * m * k * k) as u64);
    let trace: serde_json::Value = serde_json::from_str(&profile.chrome_trace()).unwrap();
    assert_eq!(trace["traceEvents"].as_array().unwrap().len(), 38);
    // A parallel loop is one launch with all that it does.
    let mut session = open(parallel(m, k), 2);
    session.record(true);
    session.step(&feeds).unwrap();
    let profile = session.profile();
    let [entry] = profile.entries() else {
        panic!("one launch")
    };
    assert_eq!((entry.name.as_str(), entry.calls), ("repeat [t times]", 1));
    assert_eq!(entry.flops, (t * 2 * m * k * k) as u64);
}
