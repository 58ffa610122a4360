//! Every op on operands of every element type, and random graphs.

use super::common::Numbers;
use super::common::data::Kind;
use super::common::generate::{self, DTYPES};
use super::common::ops::{COMPOUND, Case, cases};
use super::trip::Trip;
use kiln_ir::ops::Op;
use kiln_ir::{Bindings, Builder, CumulativeKind, DType, Graph, Tensor, TensorType};
use std::collections::BTreeSet;

/// The sizes of the symbol, and what the elements are like.
const RUNS: [(i64, Kind); 4] = [
    (5, Kind::Plain),
    (4, Kind::Ties),
    (1, Kind::Plain),
    (17, Kind::Odd),
];

fn accepts(case: &Case) -> bool {
    let types: Vec<&TensorType> = case.operands.iter().collect();
    case.op.rules().infer(&types).is_ok()
}

/// One op as a graph, whose inputs are its operands.
fn alone(case: &Case) -> Graph {
    let g = Builder::new("one");
    // Binds the symbol also where no operand has it.
    let first = g.input("b", DType::F32, (g.dim("b"),));
    let operands = case.operands.iter().enumerate();
    let operands: Vec<Tensor<'_>> = operands
        .map(|(o, ty)| g.input(&format!("x{o}"), ty.dtype, &ty.shape))
        .collect();
    let made = match &case.op {
        Op::Source(_) => first,
        op => g.push(op.clone(), &operands),
    };
    g.output("y", made);
    g.finish().expect("the case fits")
}

/// Why ONNX cannot say it, for the few of which that is known.
fn is_refused(case: &Case) -> bool {
    let from = case.operands.first().map(|ty| ty.dtype);
    match &case.op {
        Op::Bitcast(op) => {
            from != Some(op.to) && (op.to.is_float() || from.is_some_and(DType::is_float))
        }
        Op::Conv(_) => !from.is_some_and(DType::is_float),
        _ => false,
    }
}

#[test]
fn every_op_of_every_type_comes_back() {
    let mut failures = Vec::new();
    let mut covered = BTreeSet::new();
    for (position, op) in Op::representatives().into_iter().enumerate() {
        if COMPOUND.contains(&op.rules().name()) {
            continue;
        }
        for dtype in DTYPES {
            for (number, case) in cases(&op, dtype).iter().filter(|c| accepts(c)).enumerate() {
                let name = format!("{}-{position}-{dtype}-{number}", case.op.rules().name());
                let mut numbers = Numbers::new(7);
                let trip = Trip::new(&name, alone(case), &mut numbers);
                let mut trip = match (trip, is_refused(case)) {
                    (Ok(trip), false) => trip,
                    (Err(_), true) => continue,
                    (Ok(_), true) => {
                        failures.push(format!("{name} is exported, of which nothing was known"));
                        continue;
                    }
                    (Err(why), false) => {
                        failures.push(format!("{name}: {:?}: {why}", case.op));
                        continue;
                    }
                };
                covered.insert(op.rules().name());
                for (b, kind) in RUNS {
                    // The interpreter multiplies in f64, where what overflows in f32 does not.
                    let running =
                        matches!(&case.op, Op::Cumulative(c) if c.kind == CumulativeKind::Prod);
                    if running && kind == Kind::Odd {
                        continue;
                    }
                    let run = trip.run(&Bindings::from([("b", b)]), &mut numbers, kind);
                    if let Err(why) = run {
                        failures.push(format!("{:?} of {:?}: {why}", case.op, case.operands));
                        break;
                    }
                }
            }
        }
        let name = op.rules().name();
        assert!(
            covered.contains(name) || !failures.is_empty(),
            "{name} has no case"
        );
    }
    let count = failures.len();
    failures.truncate(20);
    assert!(failures.is_empty(), "{count}\n{}", failures.join("\n"));
}

#[test]
fn random_graphs_come_back() {
    let mut failures = Vec::new();
    for seed in 0..48 {
        let graph = generate::graph(seed, 3 + seed as usize % 16);
        let mut numbers = Numbers::new(seed);
        let trip = Trip::new(&format!("random-{seed}"), graph, &mut numbers);
        let mut trip = match trip {
            Ok(trip) => trip,
            // What ONNX has not, the other test knows.
            Err(why)
                if why.contains("cannot read the bits") || why.contains("convolves floats") =>
            {
                continue;
            }
            Err(why) => {
                failures.push(format!("seed {seed}: {why}"));
                continue;
            }
        };
        for (b, t) in [(4, 3), (1, 5)] {
            let sizes = Bindings::from([("b", b), ("t", t)]);
            if let Err(why) = trip.run(&sizes, &mut numbers, Kind::Plain) {
                failures.push(format!("{why}\n{}", trip.graph));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
