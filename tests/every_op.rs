//! Every op in machine code against the interpreter, for every element type that it takes: a table walks the ops, so that an op without
//! a case here fails.
//!
//! Calls that cannot fail are outputs of one graph for each op and type, in the unfused and in the fused form; each call that can is a
//! graph of its own, which must be refused where the interpreter refuses.

mod common;

use common::Numbers;
use common::compare::{bits_differ, op_differs};
use common::data::{Fed, Kind, random};
use common::generate::{DTYPES, SIZES};
use common::jit::{VARIANTS, executable, session, step};
use common::ops::{COMPOUND, Case, cases};
use kiln_ir::ops::{Effect, Op};
use kiln_ir::{Array, Bindings, Builder, DType, EvalError, Graph, Tensor, TensorType};
use kiln_runtime::StepError;
use std::collections::BTreeSet;

#[test]
fn every_op_of_every_type_gives_what_the_interpreter_gives() {
    let mut failures = Vec::new();
    let mut covered = BTreeSet::new();
    for op in Op::representatives() {
        let name = called(&op);
        if COMPOUND.contains(&op.rules().name()) {
            continue;
        }
        for dtype in DTYPES {
            let accepted: Vec<Case> = cases(&op, dtype).into_iter().filter(accepts).collect();
            if accepted.is_empty() {
                continue;
            }
            covered.insert(name.clone());
            let pure = |case: &&Case| case.op.rules().effect() == Effect::Pure;
            let together: Vec<Case> = accepted.iter().filter(pure).cloned().collect();
            let alone = accepted.iter().filter(|case| !pure(case));
            let mut groups: Vec<Vec<Case>> = alone.map(|case| vec![case.clone()]).collect();
            if !together.is_empty() {
                groups.push(together);
            }
            for group in groups {
                if let Err(why) = run(&group, dtype) {
                    failures.push(format!("{name} of {dtype}: {why}"));
                }
            }
        }
        assert!(covered.contains(&name), "{name} has no case");
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// The name of an op with its kind.
fn called(op: &Op) -> String {
    format!("{}{}", op.rules().name(), kind(op))
}

fn kind(op: &Op) -> String {
    match op {
        Op::Reduce(reduce) => format!(" {:?}", reduce.kind),
        Op::Scatter(scatter) => format!(" {:?}", scatter.kind),
        Op::ReduceWindow(reduce) => format!(" {:?}", reduce.kind),
        Op::Cumulative(cumulative) => format!(" {:?}", cumulative.kind),
        _ => String::new(),
    }
}

fn accepts(case: &Case) -> bool {
    let types: Vec<&TensorType> = case.operands.iter().collect();
    case.op.rules().infer(&types).is_ok()
}

/// The cases as one graph, whose inputs are the operands of the cases in order.
fn graph(cases: &[Case], dtype: DType) -> Graph {
    let g = Builder::new("cases");
    // Binds the symbol also where no operand has it.
    let first = g.input("b", dtype, (g.dim("b"),));
    for (i, case) in cases.iter().enumerate() {
        let operands: Vec<Tensor<'_>> = case
            .operands
            .iter()
            .enumerate()
            .map(|(o, ty)| g.input(&format!("x{i}_{o}"), ty.dtype, &ty.shape))
            .collect();
        let made = match &case.op {
            Op::Source(_) => first,
            op => g.push(op.clone(), &operands),
        };
        g.output(&format!("y{i}"), made);
    }
    g.finish().expect("the cases fit")
}

fn run(cases: &[Case], dtype: DType) -> Result<(), String> {
    let graph = graph(cases, dtype);
    let mut sessions = Vec::new();
    for variant in &VARIANTS[..2] {
        let executable = executable(&graph, *variant).map_err(|e| format!("{cases:?}: {e}"))?;
        sessions.push(session(&executable, 2));
    }
    let mut numbers = Numbers::new(7);
    for (position, b) in SIZES.into_iter().enumerate() {
        let bindings = Bindings::from([("b", b)]);
        let kind = [Kind::Plain, Kind::Odd, Kind::Ties][position % 3];
        let mut given = |ty: &TensorType| {
            let sizes = ty.shape.iter().map(|d| d.eval_size(&bindings));
            let shape: Vec<usize> = sizes.collect::<Result<_, _>>().expect("sizes");
            random(&mut numbers, ty.dtype, &shape, kind)
        };
        let first = given(&TensorType::new(dtype, vec![kiln_ir::Dim::symbol("b")]));
        let operands: Vec<Vec<Array>> = cases
            .iter()
            .map(|case| case.operands.iter().map(&mut given).collect())
            .collect();
        let all: Vec<&Array> = [&first]
            .into_iter()
            .chain(operands.iter().flatten())
            .collect();
        let mut outputs: Vec<Vec<Array>> = Vec::new();
        for session in &mut sessions {
            let fed: Vec<Fed> = all.iter().map(|a| Fed::new(a, position % 2 == 1)).collect();
            match step(session, &fed) {
                Ok(results) => outputs.push(results.outputs),
                Err(error) => refused(cases, &operands, &bindings, &error)?,
            }
        }
        let [unfused, fused] = outputs.as_slice() else {
            if outputs.is_empty() {
                continue;
            }
            return Err(format!("b = {b}: one form only is refused: {cases:?}"));
        };
        for (i, case) in cases.iter().enumerate() {
            let at = |why: String| {
                format!(
                    "b = {b}, {kind:?}, {:?} of {:?}: {why}",
                    case.op, case.operands
                )
            };
            if let Some(why) = bits_differ(&unfused[i], &fused[i]) {
                return Err(at(format!("fused: {why}")));
            }
            let pairs: Vec<(&TensorType, &Array)> =
                case.operands.iter().zip(&operands[i]).collect();
            let types: Vec<&TensorType> = case.operands.iter().collect();
            let wrong = match &case.op {
                Op::Source(_) => bits_differ(&unfused[i], &first),
                op => {
                    let ty = op.rules().infer(&types).expect("an accepted case");
                    op_differs(op, &pairs, &ty, &bindings, &unfused[i])
                }
            };
            if let Some(why) = wrong {
                return Err(at(why));
            }
        }
    }
    Ok(())
}

/// A refused step must be refused by the interpreter too.
fn refused(
    cases: &[Case],
    operands: &[Vec<Array>],
    bindings: &Bindings,
    error: &StepError,
) -> Result<(), String> {
    if !matches!(error, StepError::Guard { .. }) {
        return Err(format!("{cases:?}: {error}"));
    }
    let refuses = cases.iter().zip(operands).any(|(case, arrays)| {
        let types: Vec<&TensorType> = case.operands.iter().collect();
        let ty = case.op.rules().infer(&types).expect("an accepted case");
        let pairs: Vec<(&TensorType, &Array)> = case.operands.iter().zip(arrays).collect();
        matches!(
            case.op.eval(&pairs, &ty, bindings),
            Err(EvalError::Required { .. } | EvalError::Index { .. })
        )
    });
    if refuses {
        Ok(())
    } else {
        Err(format!(
            "{bindings:?}, {cases:?}: only machine code refuses: {error}"
        ))
    }
}
