//! What the code looks like: the instructions of simple loops, sharing among kernels, and the time that compilation takes.

use crate::nests::{adam, dropout, softmax};
use crate::support::{Buffer, Build, bound, folding, i, map, n, nest, store};
use kiln_compiler::emit::{Effort, Target, asm_text, clif_text};
use kiln_compiler::jit;
use kiln_compiler::kernel::{Access, Accumulator, Expr, Fold, Index, Kernel, LoopKind};
use kiln_ir::ops::{Binary, ReduceKind, Unary};
use kiln_ir::program::Code;
use kiln_ir::{DType, Dim, KernelId};
use std::time::Instant;

pub(crate) fn add() -> Kernel {
    map(&[DType::F32, DType::F32], DType::F32, |b, body, v| {
        b.compute(body, DType::F32, Expr::Binary(Binary::Add, v[0], v[1]))
    })
}

fn unary(op: Unary, dtype: DType) -> Kernel {
    map(&[dtype], dtype, |b, body, v| {
        b.compute(body, dtype, Expr::Unary(op, v[0]))
    })
}

fn sum(kind: ReduceKind) -> Kernel {
    let f = DType::F32;
    let mut b = Build::new(&[(f, Access::Read), (f, Access::Write)]);
    let mut body = Vec::new();
    let x = b.load(&mut body, 0, i(0));
    let total = Accumulator {
        value: b.value(f),
        fold: Fold::Reduce(kind),
        operand: x,
    };
    let value = total.value;
    let body = vec![
        folding(LoopKind::Lanes, 0, n(), body, vec![total]),
        store(1, Index::constant(0), value),
    ];
    b.finish(body)
}

/// The instructions of the first loop: from a label that a later jump goes back to, to that jump.
fn first_loop(asm: &str) -> Vec<&str> {
    let lines: Vec<&str> = asm.lines().collect();
    let label = |l: &str| {
        l.strip_suffix(':')
            .and_then(|l| l.strip_prefix("block"))
            .map(str::to_owned)
    };
    for (start, line) in lines.iter().enumerate() {
        let Some(number) = label(line) else { continue };
        // A back edge goes through a block of its own, which only jumps.
        let mut back = lines.iter().enumerate().skip(start + 1);
        let target = format!("label{number}");
        if let Some((end, _)) =
            back.find(|(_, l)| l.trim_start().starts_with("jmp") && l.ends_with(&target))
        {
            return lines[start + 1..end].to_vec();
        }
    }
    panic!("no loop in\n{asm}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_main_loop_of_a_sum_is_tight() {
    let asm = asm_text(&add(), &Target::native().unwrap()).unwrap();
    let body: Vec<&str> = first_loop(&asm);
    let computing: Vec<&&str> = body.iter().take_while(|l| !l.contains("label")).collect();
    // Four groups of load, addition from memory and store; the counter, its comparison.
    assert_eq!(computing.len(), 14, "{asm}");
    let from_memory = |l: &&&&str| l.contains("addps") && l.contains('(');
    assert_eq!(computing.iter().filter(from_memory).count(), 4, "{asm}");
}

#[test]
fn dumps_show_the_function_and_its_instructions() {
    let target = Target::native().unwrap();
    assert!(clif_text(&add(), &target).unwrap().contains("fadd"));
    assert!(!asm_text(&add(), &target).unwrap().is_empty());
}

#[test]
fn equal_kernels_share_their_code() {
    let renamed = Kernel {
        name: "other".into(),
        ..add()
    };
    let code = jit::compile(&[add(), unary(Unary::Exp, DType::F32), renamed]).unwrap();
    assert_eq!(code.functions(), 2);
    let entry = |i: usize| code.entry(KernelId::new(i)).map(|f| f as usize);
    assert_eq!(entry(0), entry(2));
    assert_ne!(entry(0), entry(1));
    assert_eq!(entry(3), None);
    assert!(entry(0).unwrap().is_multiple_of(32) && entry(1).unwrap().is_multiple_of(32));
    assert_eq!(code.perf_map().lines().count(), 2);
    assert!(code.machine_code(KernelId::new(2)).is_some());
}

#[test]
fn no_kernels_are_code_too() {
    let code = jit::compile(&[]).unwrap();
    assert!(code.entry(KernelId::new(0)).is_none());
}

/// Machine code is made and freed many times over; were it leaked, a gigabyte would be mapped in the end.
#[test]
fn code_is_freed() {
    for _ in 0..200 {
        drop(jit::compile(&[add()]).unwrap());
    }
    #[cfg(target_os = "linux")]
    {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let executable = maps
            .lines()
            .filter(|l| l.contains("r-xp") && l.ends_with(" 0 "))
            .count();
        assert!(
            executable < 100,
            "{executable} executable mappings are left"
        );
    }
}

/// Rows of 28 out of rows of 32, flattened.
fn rows() -> Kernel {
    let (inner, outer) = (Dim::from(28), Dim::from(32));
    let mut b = Build::new(&[(DType::F32, Access::Read), (DType::F32, Access::Write)]);
    let mut body = Vec::new();
    let extent = |_| None;
    let index = i(0)
        .floor_div(&inner, &extent)
        .times(&outer)
        .plus(&i(0).modulo(&inner, &extent));
    let x = b.load(&mut body, 0, index);
    body.push(store(1, i(0), x));
    b.finish(vec![nest(LoopKind::Lanes, 0, n(), body)])
}

fn examples() -> Vec<Kernel> {
    let mut kernels = vec![
        add(),
        unary(Unary::Exp, DType::F32),
        unary(Unary::Tanh, DType::F32),
        unary(Unary::Logistic, DType::F32),
        unary(Unary::Sin, DType::F32),
        unary(Unary::Exp, DType::F64),
        unary(Unary::Sqrt, DType::F32),
        sum(ReduceKind::Sum),
        sum(ReduceKind::Max),
        softmax(DType::F32, Dim::from(10)),
        adam(),
        dropout(0),
        dropout(1),
        rows(),
    ];
    for (i, kernel) in kernels.iter_mut().enumerate() {
        kernel.name = format!("k{i}");
    }
    kernels
}

/// Prints what compilation costs; run it with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn compile_times() {
    let kernels = examples();
    let start = Instant::now();
    let code = jit::compile(&kernels).unwrap();
    println!(
        "cold, all {}: {:?}, {} functions",
        kernels.len(),
        start.elapsed(),
        code.functions()
    );
    for effort in [Effort::None, Effort::Speed] {
        let target = Target::with_effort(effort).unwrap();
        let start = Instant::now();
        jit::compile_for(&kernels, &target).unwrap();
        println!("{effort:?}, all: {:?}", start.elapsed());
        for (i, kernel) in kernels.iter().enumerate() {
            let mut best = std::time::Duration::MAX;
            for _ in 0..5 {
                let start = Instant::now();
                jit::compile_for(std::slice::from_ref(kernel), &target).unwrap();
                best = best.min(start.elapsed());
            }
            let bytes = code.machine_code(KernelId::new(i)).unwrap().bytes.len();
            let values = clif_text(kernel, &target).unwrap().lines().count();
            println!(
                "  {}: {best:?}, {bytes} bytes, {values} lines of Clif",
                kernel.name
            );
        }
    }
}

/// Prints what the code achieves in the first-level cache; run it with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn rates() {
    const N: usize = 2048;
    for effort in [Effort::None, Effort::Speed] {
        let target = Target::with_effort(effort).unwrap();
        for kernel in examples() {
            let code = jit::compile_for(std::slice::from_ref(&kernel), &target).unwrap();
            let entry = code.entry(KernelId::new(0)).unwrap();
            let mut buffers: Vec<Buffer> = kernel
                .params
                .iter()
                .map(|_| Buffer::of(&[0.25_f64; N]))
                .collect();
            let pointers: Vec<*mut u8> = buffers.iter_mut().map(Buffer::pointer).collect();
            let sizes: Vec<i64> = kernel
                .sizes()
                .iter()
                .map(|d| d.eval(&bound(N)).unwrap())
                .collect();
            let total = kernel
                .partition()
                .map_or(1, |l| l.extent.eval(&bound(N)).unwrap());
            let mut best = f64::INFINITY;
            for _ in 0..20 {
                let start = Instant::now();
                for _ in 0..50 {
                    // SAFETY: every buffer is large enough for the example that reaches farthest.
                    unsafe { entry(pointers.as_ptr(), sizes.as_ptr(), 0, total, code.helpers()) };
                }
                best = best.min(start.elapsed().as_secs_f64() / 50.0);
            }
            println!(
                "{effort:?} {}: {:.3} ns an element",
                kernel.name,
                best * 1e9 / N as f64
            );
        }
    }
}

/// Prints the instructions of the examples.
#[test]
#[ignore = "a dump"]
fn instructions() {
    let target = Target::native().unwrap();
    for kernel in examples() {
        println!("{kernel}\n{}", asm_text(&kernel, &target).unwrap());
    }
}
