//! From one element type to another: `convert` keeps the value, `bitcast` the bits.

use crate::array::{Array, EvalError, Values, wrap};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;
use crate::ops::{Effect, EvalCx, Rules, Vjp, arrays, exactly};
use crate::types::TensorType;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// Converts the element type. Float to int truncates, saturates, and turns NaN into 0; to `bool` is `x != 0`. What is rounded to bf16
/// or f16 is rounded to f32 on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convert {
    /// The element type of the result.
    pub to: DType,
}

impl Convert {
    pub(in crate::ops) fn parse(
        name: &str,
        _: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "convert").then_some(Ok(Convert { to: ty.dtype }))
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Convert { to: DType::F64 }]
    }
}

/// Float to int as the design defines it: toward zero, saturating, NaN to 0.
pub(crate) fn saturate(dtype: DType, x: f64) -> i64 {
    match dtype {
        DType::I8 => i64::from(x as i8),
        DType::I16 => i64::from(x as i16),
        DType::I32 => i64::from(x as i32),
        DType::I64 => x as i64,
        DType::U8 => i64::from(x as u8),
        DType::U16 => i64::from(x as u16),
        DType::U32 => i64::from(x as u32),
        DType::U64 => (x as u64).cast_signed(),
        DType::Bool => i64::from(x != 0.0),
        DType::F32 | DType::F64 | DType::BF16 | DType::F16 => 0,
    }
}

/// Int to float. To f32 it must be rounded once, and not through f64, which 64-bit integers do not fit either.
fn widen(from: DType, to: DType, x: i64) -> f64 {
    match (from == DType::U64, to == DType::F64) {
        (true, true) => x.cast_unsigned() as f64,
        (false, true) => x as f64,
        (true, false) => f64::from(x.cast_unsigned() as f32),
        (false, false) => f64::from(x as f32),
    }
}

impl Rules for Convert {
    fn name(&self) -> &'static str {
        "convert"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [from] = exactly("convert", operands)?;
        Ok(from.with_dtype(self.to))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let from = cx.operands.first().and_then(|x| x.ty());
        vec![
            from.filter(|ty| ty.dtype.is_float() && self.to.is_float())
                .map(|ty| cx.cotangent.convert(ty.dtype)),
        ]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [from] = arrays(operands)?;
        let values = match from.values() {
            Values::Float(v) if self.to.is_float() => Values::Float(v.clone()),
            Values::Float(v) => Values::Int(v.iter().map(|x| saturate(self.to, *x)).collect()),
            Values::Int(v) if self.to.is_float() => {
                let widen = |x: &i64| widen(from.dtype(), self.to, *x);
                Values::Float(v.iter().map(widen).collect())
            }
            Values::Int(v) => Values::Int(v.iter().map(|x| wrap(self.to, *x)).collect()),
        };
        Array::new(self.to, cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}

/// The same bits as another element type of the same size. To `bool` there is none, since a `bool` is 0 or 1. Which NaN a NaN is may
/// change on the way, and no gradient flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bitcast {
    /// The element type of the result.
    pub to: DType,
}

impl Bitcast {
    pub(in crate::ops) fn parse(
        name: &str,
        _: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "bitcast").then_some(Ok(Bitcast { to: ty.dtype }))
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Bitcast { to: DType::U32 }]
    }
}

/// The bits of a floating value, in the low bits of the result.
fn float_bits(dtype: DType, x: f64) -> i64 {
    match dtype {
        DType::F32 => i64::from((x as f32).to_bits()),
        DType::BF16 => i64::from(bf16::from_f32(x as f32).to_bits()),
        DType::F16 => i64::from(f16::from_f32(x as f32).to_bits()),
        DType::F64
        | DType::I8
        | DType::I16
        | DType::I32
        | DType::I64
        | DType::U8
        | DType::U16
        | DType::U32
        | DType::U64
        | DType::Bool => x.to_bits().cast_signed(),
    }
}

/// The floating value whose bits are the low ones of `bits`.
fn float_of_bits(dtype: DType, bits: i64) -> f64 {
    match dtype {
        DType::F32 => f64::from(f32::from_bits(bits as u32)),
        DType::BF16 => bf16::from_bits(bits as u16).to_f64(),
        DType::F16 => f16::from_bits(bits as u16).to_f64(),
        DType::F64
        | DType::I8
        | DType::I16
        | DType::I32
        | DType::I64
        | DType::U8
        | DType::U16
        | DType::U32
        | DType::U64
        | DType::Bool => f64::from_bits(bits.cast_unsigned()),
    }
}

impl Rules for Bitcast {
    fn name(&self) -> &'static str {
        "bitcast"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [from] = exactly("bitcast", operands)?;
        if from.dtype.size() != self.to.size() {
            return Err(Refusal::new(
                Kind::Type,
                format!(
                    "`bitcast` of {}, {} bytes, to {}, {} bytes",
                    from.dtype,
                    from.dtype.size(),
                    self.to,
                    self.to.size()
                ),
            ));
        }
        if self.to == DType::Bool && from.dtype != DType::Bool {
            return Err(
                Refusal::new(Kind::Type, format!("`bitcast` of {} to bool", from.dtype))
                    .help("a bool is 0 or 1; compare with 0 instead"),
            );
        }
        Ok(from.with_dtype(self.to))
    }

    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        vec![None]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [from] = arrays(operands)?;
        let bits: Vec<i64> = match from.values() {
            Values::Float(v) => v.iter().map(|x| float_bits(from.dtype(), *x)).collect(),
            Values::Int(v) => v.clone(),
        };
        let values = if self.to.is_float() {
            Values::Float(bits.iter().map(|b| float_of_bits(self.to, *b)).collect())
        } else {
            Values::Int(bits)
        };
        Array::new(self.to, cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}
