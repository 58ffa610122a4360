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

/// What is stacked, and how many tails there are, forwards and in reverse. What is left is stacked by itself where nobody asks for what is found.
const STACKED: &[(&[Stacked], [usize; 2])] = &[
    (&[Found(0)], [0, 1]),
    (&[Left(0)], [0, 0]),
    (&[Found(0), Left(0)], [1, 1]),
    (&[Left(0), Found(0)], [1, 1]),
    (&[Left(0), Found(1)], [0, 1]),
    (&[Left(0), Found(0), Left(1), Found(1)], [2, 2]),
    (&[Found(0), Found(0), Left(0), Left(0)], [1, 1]),
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
    }
    g.output("sum", sum);
    g.output("h", done.carries[0]);
    g.output("c", done.carries[1]);
    g.finish().unwrap()
}

/// How many buffers are tails, and how many steps copy.
fn tails_and_copies(program: &Program) -> (usize, usize) {
    let is_tail = |b: &&kiln_ir::program::Buffer| matches!(b.home, Home::Tail(_));
    let is_copy = |s: &&Step| matches!(s, Step::Copy(_));
    (
        program.buffers.iter().filter(is_tail).count(),
        program.steps.iter().filter(is_copy).count(),
    )
}

#[test]
fn carries_that_are_results() {
    use Behind::{FirstOutput, Outputs, Scanned, Taken, TakenBackwards};
    for (stacked, tails) in STACKED {
        for (reverse, tails) in [(false, tails[0]), (true, tails[1])] {
            for behind in [Outputs, FirstOutput, Taken, TakenBackwards, Scanned] {
                let graph = states_of(stacked, reverse, behind);
                if matches!(behind, Taken | TakenBackwards) {
                    let program = program(&graph);
                    // Both carries go in and come out.
                    assert_eq!(tails_and_copies(&program), (tails, 4), "{program}");
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
}
