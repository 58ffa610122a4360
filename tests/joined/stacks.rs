//! Loops whose stacked results are their carries, which lie in one buffer.

use super::*;
use kiln_ir::program::Step;

/// What a loop stacks: the state that an iteration finds, or the one that it leaves, of either carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stacked {
    Found(usize),
    Left(usize),
}

use Stacked::{Found, Left};

/// What is stacked, and how many buffers are stretches of those of the carries. What is left is stacked by itself where nobody asks for what is
/// found.
const STACKED: &[(&[Stacked], usize)] = &[
    (&[Found(0)], 1),
    (&[Left(0)], 0),
    (&[Found(0), Left(0)], 2),
    (&[Left(0), Found(0)], 2),
    (&[Left(0), Found(1)], 1),
    (&[Left(0), Found(0), Left(1), Found(1)], 4),
    (&[Found(0), Found(0), Left(0), Left(0)], 2),
];

/// What becomes of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// They are outputs.
    Outputs,
    /// The first one is.
    FirstOutput,
    /// Each dies in an op that could take its memory, one behind the other.
    Taken,
    /// The same, from the last one to the first.
    TakenBackwards,
    /// Another loop scans them, the other way, and stacks what could lie over them.
    Scanned,
    /// The same in one without carries, whose iterations run in parallel.
    Parallel,
    /// Another loop scans them in entries of half the size.
    Halved,
    /// A custom op takes them.
    Called,
}

/// A loop over two states of `[b, 20]`.
fn states_of(stacked: &[Stacked], reverse: bool, behind: Behind) -> Graph {
    let g = Builder::new(&format!("{stacked:?}, reversed {reverse}, {behind:?}"));
    let (t, b) = (g.dim("t"), g.dim("b"));
    let x = g.input("x", DType::F32, (t, b.clone(), 20));
    let h = g.input("h", DType::F32, (b.clone(), 20));
    let c = g.input("c", DType::F32, (b, 20));
    let options = ScanOptions {
        reverse,
        ..ScanOptions::default()
    };
    let done = g.scan(&options, &[h, c], &[x], |it| {
        let found = [it.carry(0), it.carry(1)];
        let next = (found[0] * 0.5 + it.entry(0)).tanh();
        let left = [next, found[1] * 0.25 + next];
        let value = |stacked: &Stacked| match stacked {
            Found(carry) => found[*carry],
            Left(carry) => left[*carry],
        };
        let all: Vec<Tensor<'_>> = stacked.iter().map(value).collect();
        Yield::new(&left, &all)
    });
    let w = g.splat(DType::F32, (20, 20), 0.1);
    let mut results: Vec<(usize, Tensor<'_>)> = done.stacked.iter().copied().enumerate().collect();
    if behind == Behind::TakenBackwards {
        results.reverse();
    }
    let mut sum = h.sum();
    match behind {
        Behind::Outputs | Behind::FirstOutput => {
            for (at, result) in results {
                if behind == Behind::Outputs || at == 0 {
                    g.output(&format!("result{at}"), result);
                }
                sum = sum + result.dot(w).sum();
            }
        }
        Behind::Taken | Behind::TakenBackwards => {
            for (at, result) in results {
                // What is multiplied lies in memory, and the next one waits for the sum.
                let operand = result * 2.0 + (sum * 0.01).broadcast_to(shape_of(result));
                let product = operand.dot(w);
                g.output(&format!("product{at}"), product);
                sum = product.sum();
            }
        }
        Behind::Scanned => {
            let all: Vec<Tensor<'_>> = results.into_iter().map(|(_, result)| result).collect();
            let back = ScanOptions {
                reverse: !reverse,
                ..ScanOptions::default()
            };
            let again = g.scan(&back, &[h], &all, |it| {
                let entries: Vec<_> = (0..all.len()).map(|at| it.entry(at)).collect();
                let next = entries.iter().fold(it.carry(0), |sum, e| (sum + *e).tanh());
                let over: Vec<_> = entries.iter().map(|e| *e * 2.0 + next).collect();
                Yield::new(&[next], &over)
            });
            for (at, over) in again.stacked.into_iter().enumerate() {
                g.output(&format!("over{at}"), over.dot(w));
            }
        }
        Behind::Parallel => {
            for (at, result) in results {
                let over = g.scan(&ScanOptions::default(), &[], &[result], |it| {
                    Yield::new(&[], &[it.entry(0).tanh()])
                });
                g.output(&format!("over{at}"), over.stacked[0].reverse(&[0]));
            }
        }
        Behind::Halved => {
            let half = h.slice_axis(1, 0, 10);
            for (at, result) in results {
                let mut shape = shape_of(result).to_vec();
                shape[0] = &shape[0] * &Dim::from(2);
                shape[2] = Dim::from(10);
                let halves = result.reshape(shape);
                let over = g.scan(&options, &[half], &[halves], |it| {
                    let next = it.carry(0) * 0.5 + it.entry(0);
                    Yield::new(&[next], &[next.tanh()])
                });
                g.output(&format!("over{at}"), over.stacked[0].reverse(&[0]));
            }
        }
        Behind::Called => {
            for (at, result) in results {
                let [scaled] = g.custom_call("tests/scale", &[], &[result, result]);
                g.output(&format!("scaled{at}"), scaled);
            }
        }
    }
    g.output("sum", sum);
    g.output("h", done.carries[0]);
    g.output("c", done.carries[1]);
    g.finish().unwrap()
}

/// How many buffers are stretches, and how many steps copy.
fn stretches_and_copies(program: &Program) -> (usize, usize) {
    let is_copy = |s: &&Step| matches!(s, Step::Copy(_));
    (
        program
            .buffers
            .iter()
            .filter_map(|b| b.home.stretch())
            .count(),
        program.steps.iter().filter(is_copy).count(),
    )
}

#[test]
fn carries_that_are_results() {
    use Behind::{Called, FirstOutput, Halved, Outputs, Parallel, Scanned, Taken, TakenBackwards};
    register_all();
    let all = [
        Outputs,
        FirstOutput,
        Taken,
        TakenBackwards,
        Scanned,
        Parallel,
        Halved,
        Called,
    ];
    for (stacked, stretches) in STACKED {
        for (reverse, behind) in [false, true].iter().flat_map(|r| all.map(|b| (*r, b))) {
            let graph = states_of(stacked, reverse, behind);
            let program = program(&graph);
            // Both carries go in and come out. What is an output is written there.
            let found = stretches_and_copies(&program);
            match behind {
                Taken | TakenBackwards | Called => assert_eq!(found, (*stretches, 4), "{program}"),
                Outputs => assert_eq!(found, (0, 4), "{program}"),
                FirstOutput | Scanned | Parallel | Halved => {}
            }
            let sizes: [&[(&str, i64)]; 3] = [
                &[("t", 1), ("b", 1)],
                &[("t", 7), ("b", 3)],
                &[("t", 0), ("b", 2)],
            ];
            check(&graph, &sizes);
        }
    }
}
