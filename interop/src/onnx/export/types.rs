//! In which element type an operator is computed.
//!
//! ONNX allows more types than onnxruntime has kernels for on a CPU. An operator without a kernel is computed in a wider type, between two
//! casts, so that the low bits are the same: integers wrap in either. f16 and bf16 are computed in f32 and rounded after each operator, which
//! is what Kiln means by them. f64 has no wider type: operators that only have f32 kernels are written in f64, which ONNX allows and another
//! runtime may have.

use kiln_ir::DType;

const FLOATS: &[DType] = &[DType::F32, DType::F64];
const NUMBERS: &[DType] = &[DType::F32, DType::F64, DType::I32, DType::I64];
const EXTREMES: &[DType] = &[
    DType::F32,
    DType::F64,
    DType::I32,
    DType::I64,
    DType::U32,
    DType::U64,
];
const ORDERED: &[DType] = &[DType::F32, DType::F64, DType::I32, DType::I64, DType::U64];
const EQUAL: &[DType] = &[DType::F32, DType::F64, DType::I32, DType::I64, DType::Bool];
const CHOSEN: &[DType] = &[DType::F32, DType::F64, DType::I32, DType::I64, DType::U8];
const PADDED: &[DType] = &[
    DType::F32,
    DType::F64,
    DType::I32,
    DType::I64,
    DType::U32,
    DType::U64,
];
const SHIFTED: &[DType] = &[DType::U8, DType::U32, DType::U64];

/// The types that every onnxruntime from 1.17 on has for an operator; `None` for operators that only move elements, which have all.
fn kernels(operator: &str) -> Option<&'static [DType]> {
    Some(match operator {
        "Exp" | "Log" | "Sqrt" | "Reciprocal" | "Sin" | "Cos" | "Tan" | "Tanh" | "Sigmoid"
        | "Erf" | "Floor" | "Ceil" | "Round" | "Atan" | "IsNaN" | "IsInf" | "Pow" | "Mod"
        | "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool" => FLOATS,
        "Add" | "Sub" | "Mul" | "Neg" | "Abs" | "Sign" | "MatMul" | "Einsum" | "CumSum"
        | "ReduceSum" | "ReduceProd" | "ReduceMax" | "ReduceMin" | "ArgMax" | "ArgMin" | "TopK" => {
            NUMBERS
        }
        "Max" | "Min" => EXTREMES,
        "Div" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" => ORDERED,
        "Equal" => EQUAL,
        "Where" => CHOSEN,
        "Pad" => PADDED,
        "BitShift" => SHIFTED,
        "Expand" => return Some(ALL_BUT_BF16),
        _ => return None,
    })
}

const ALL_BUT_BF16: &[DType] = &[
    DType::F32,
    DType::F64,
    DType::F16,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
];

/// The type in which `operator` is computed on elements of `dtype`.
pub(super) fn computed_in(operator: &str, dtype: DType) -> DType {
    let Some(kernels) = kernels(operator) else {
        return dtype;
    };
    let wider: &[DType] = match dtype {
        DType::F16 | DType::BF16 => &[DType::F32],
        DType::Bool => &[DType::U8, DType::I32],
        DType::I8 | DType::I16 | DType::U8 => &[DType::I32, DType::U32],
        DType::U16 => &[DType::I32, DType::U32],
        DType::U32 | DType::U64 => &[DType::I64],
        DType::F32 | DType::F64 | DType::I32 | DType::I64 => &[],
    };
    let mut candidates = [dtype].into_iter().chain(wider.iter().copied());
    candidates
        .find(|candidate| kernels.contains(candidate))
        .unwrap_or(dtype)
}

/// The number of `TensorProto.DataType`.
pub(super) fn number(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_that_are_read() {
        for value in 0..32 {
            if let Some(dtype) = super::super::super::elements::dtype(value) {
                assert_eq!(number(dtype), value);
            }
        }
    }

    #[test]
    fn narrow_types_are_computed_in_wide_ones() {
        for (operator, dtype, wanted) in [
            ("Add", DType::U8, DType::I32),
            ("Add", DType::U64, DType::I64),
            ("Div", DType::U64, DType::U64),
            ("Less", DType::U64, DType::U64),
            ("BitShift", DType::U16, DType::U32),
            ("Where", DType::Bool, DType::U8),
            ("Exp", DType::BF16, DType::F32),
            ("Conv", DType::F64, DType::F64),
            ("Gather", DType::BF16, DType::BF16),
        ] {
            assert_eq!(
                computed_in(operator, dtype),
                wanted,
                "{operator} of {dtype}"
            );
        }
    }
}
