//! In which element type sums and products are accumulated: what `reduce` and `dot` share.
//!
//! Only a floating type narrower than f64 has a choice. Integers wrap, so the low bits of their sums are the same in any wider type.

use crate::attributes::{AttributeError, Attributes, Value};
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;

/// What `dtype` is accumulated in unless the op says otherwise: f32 for bf16 and f16, every other type in itself.
pub fn accumulator(dtype: DType) -> DType {
    match dtype {
        DType::F32 | DType::BF16 | DType::F16 => DType::F32,
        DType::F64
        | DType::I8
        | DType::I16
        | DType::I32
        | DType::I64
        | DType::U8
        | DType::U16
        | DType::U32
        | DType::U64
        | DType::Bool => dtype,
    }
}

/// The field of an op that accumulates `dtype` in `wanted`: `None` where that is the default, so that one meaning has one form.
pub(crate) fn field(dtype: DType, wanted: DType) -> Option<DType> {
    (wanted != accumulator(dtype)).then_some(wanted)
}

/// Takes out `accumulate`, where the op has it; `dtype` is the element type of the result.
pub(super) fn parse(
    attributes: &mut Attributes,
    dtype: DType,
) -> Result<Option<DType>, AttributeError> {
    let Some(word) = attributes.optional_word("accumulate")? else {
        return Ok(None);
    };
    let wanted = word.parse().map_err(|_| AttributeError {
        name: "accumulate".into(),
        expected: "an element type".into(),
    })?;
    Ok(field(dtype, wanted))
}

/// The attributes with `accumulate`, where it is not the default.
pub(super) fn print(attributes: Attributes, accumulate: Option<DType>) -> Attributes {
    match accumulate {
        Some(dtype) => attributes.with("accumulate", Value::Word(dtype.name().into())),
        None => attributes,
    }
}

/// Whether `op` can accumulate elements of `dtype` as it says.
pub(super) fn check(op: &str, dtype: DType, accumulate: Option<DType>) -> Result<(), Refusal> {
    match accumulate {
        None => Ok(()),
        Some(DType::F64) if accumulator(dtype) == DType::F32 => Ok(()),
        Some(other) => Err(Refusal::new(
            Kind::Type,
            format!("`{op}` of {dtype} that accumulates in {other}"),
        )
        .help(format!(
            "{dtype} accumulates in {}, which is the default{}",
            accumulator(dtype),
            if accumulator(dtype) == DType::F32 {
                ", or in f64"
            } else {
                ""
            }
        ))),
    }
}
