//! What the code looks like: the text of kernels, the instructions of a simple loop, sharing, and the time it takes to compile.

use crate::support::{Buffer, Compiled, LENGTHS, map};
use kiln_compiler::emit::{Target, asm_text, clif_text};
use kiln_compiler::kernel::{Expr, Kernel};
use kiln_ir::DType;
use kiln_ir::ops::Binary;

fn add() -> Kernel {
    map(&[DType::F32, DType::F32], DType::F32, |b, body, v| {
        b.compute(body, DType::F32, Expr::Binary(Binary::Add, v[0], v[1]))
    })
}

#[test]
fn a_sum_of_two_streams_is_computed_at_every_length() {
    let compiled = Compiled::new(add());
    for n in LENGTHS {
        let a: Vec<f32> = (0..n).map(|i| i as f32 * 0.5).collect();
        let b: Vec<f32> = (0..n).map(|i| 3.0 - i as f32).collect();
        let mut out = Buffer::of(&vec![0.0_f32; n]);
        compiled.run(n, &mut [&mut Buffer::of(&a), &mut Buffer::of(&b), &mut out]);
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        assert_eq!(out.to_vec::<f32>(), expected);
    }
}

#[test]
fn the_main_loop_of_a_sum_is_tight() {
    let target = Target::native().unwrap();
    println!("{}", add());
    println!("{}", clif_text(&add(), &target).unwrap());
    println!("{}", asm_text(&add(), &target).unwrap());
}
