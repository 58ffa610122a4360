//! What the code looks like: the instructions of simple loops, sharing among kernels, and that code is freed.

use crate::support::{map, targets};
use kiln_compiler::emit::{ALIGNMENT, Target, asm_text, clif_text};
use kiln_compiler::jit;
use kiln_compiler::kernel::{Expr, Kernel};
use kiln_ir::ops::{Binary, Unary};
use kiln_ir::program::Code;
use kiln_ir::{DType, KernelId};

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
    let target = Target::native().unwrap().without_wide();
    let asm = asm_text(&add(), &target).unwrap();
    let body: Vec<&str> = first_loop(&asm);
    let computing: Vec<&&str> = body.iter().take_while(|l| !l.contains("label")).collect();
    // Four groups of load, addition from memory and store; the counter, its comparison.
    assert_eq!(computing.len(), 14, "{asm}");
    let from_memory = |l: &&&&str| l.contains("addps") && l.contains('(');
    assert_eq!(computing.iter().filter(from_memory).count(), 4, "{asm}");
}

#[test]
fn dumps_show_the_function_and_its_instructions() {
    let [native, narrow] = targets();
    assert!(clif_text(&add(), &narrow).unwrap().contains("fadd"));
    assert!(asm_text(&add(), &narrow).unwrap().contains("addps"));
    // In full width, where the machine has it, the instructions are those of the function that is called.
    assert!(asm_text(&add(), &native).unwrap().contains("addps"));
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
    assert!(
        entry(0).unwrap().is_multiple_of(ALIGNMENT) && entry(1).unwrap().is_multiple_of(ALIGNMENT)
    );
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
