//! What the shape rules say where operands do not fit: one message, with a way out.

use kiln_ir::{Builder, DType, Dim, OutOfRange, ScatterKind};

#[test]
fn messages_name_the_op_and_the_types() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2, 3]);
    let i = g.input("i", DType::I32, [4]);
    let s = g.input("s", DType::F64, ());
    let zero = [0_i64, 0].map(Dim::from);
    let _ = x.pad(s, &zero, &zero, &[0, 0]);
    let _ = x.pad(0.0, &[Dim::from(-1), Dim::from(0)], &zero, &[0, 0]);
    let _ = x.concat(g.input("y", DType::F32, [2, 4]), 0);
    let _ = g.concat(&[], 0);
    let _ = x.reverse(&[2]);
    let _ = x.argmax(2);
    let _ = x.gather(0, x, OutOfRange::Clamp);
    let _ = x.scatter(ScatterKind::Add, 1, i, x, OutOfRange::Clamp);
    let _ = x.fma(s, 1.0);
    let _ = x.bitcast(DType::F64);
    let _ = x.require(i, "no bool");
    let _ = g.rng_bits(i, i, [3]);
    let _ = x.eq(x).shl(x.eq(x));
    let messages: Vec<String> = g
        .finish()
        .unwrap_err()
        .0
        .into_iter()
        .map(|d| d.refusal.message)
        .collect();
    assert_eq!(
        messages,
        [
            "`pad` of f32[2, 3] with f64[]",
            "`pad` of f32[2, 3]: axis 0 gets -1 before, 0 behind and 0 between, and none may be negative",
            "`concat` along axis 0 of [2, 3] and, as operand 1, [2, 4]",
            "`concat` takes at least one operand",
            "`reverse` of f32[2, 3] along the axes [2]",
            "`argmax` along axis 2 of f32[2, 3]",
            "`gather` at indices of type f32[2, 3]",
            "`scatter` of f32[2, 3] into f32[2, 3] along axis 1",
            "`fma` of different element types: f32 and f64",
            "`bitcast` of f32, 4 bytes, to f64, 8 bytes",
            "`require` of a condition of type i32[4]",
            "`rng_bits` with a key of type i32[4], not u32[2]",
            "`shl` takes integers, not bool",
        ]
    );
}
