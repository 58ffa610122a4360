//! The unary table.

use super::{Accepts, arrays, exactly};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::Refusal;
use crate::dtype::DType;
use crate::ops::{Effect, EvalCx, Rules, Vjp};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// What a unary op computes, as one row of the table.
struct Row {
    name: &'static str,
    accepts: Accepts,
    float: fn(f64) -> f64,
    /// On integers and `bool`; never called where `accepts` excludes them.
    int: fn(DType, i64) -> i64,
    /// From operand `x`, result `y` and cotangent `g`.
    vjp: for<'g> fn(Tensor<'g>, Tensor<'g>, Tensor<'g>) -> Option<Tensor<'g>>,
}

fn floats_only(_: DType, x: i64) -> i64 {
    x
}

fn no_gradient<'g>(_: Tensor<'g>, _: Tensor<'g>, _: Tensor<'g>) -> Option<Tensor<'g>> {
    None
}

macro_rules! unary_table {
    ($($op:ident $name:literal $accepts:ident, $float:expr, $int:expr, $vjp:expr;)+) => {
        /// An element-wise op of one operand.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[allow(missing_docs)]
        pub enum Unary { $($op),+ }

        impl Unary {
            /// Every unary op, in the order of the table.
            pub const ALL: &'static [Unary] = &[$(Unary::$op),+];

            fn row(self) -> Row {
                match self {
                    $(Unary::$op => Row {
                        name: $name,
                        accepts: Accepts::$accepts,
                        float: $float,
                        int: $int,
                        vjp: $vjp,
                    }),+
                }
            }
        }
    };
}

/// 2 / sqrt(pi), the slope of erf at 0.
const ERF_SLOPE: f64 = std::f64::consts::FRAC_2_SQRT_PI;

unary_table! {
    Neg "neg" Numbers, |x| -x, |_, x| x.wrapping_neg(), |_, _, g| Some(-g);
    Abs "abs" Numbers, f64::abs, |d, x| if d == DType::U64 { x } else { x.wrapping_abs() }, |x, _, g| Some(g * x.sign());
    Sign "sign" Numbers, |x| if x == 0.0 || x.is_nan() { x } else { x.signum() },
        |d, x| if d == DType::U64 { i64::from(x != 0) } else { x.signum() }, no_gradient;
    Exp "exp" Floats, f64::exp, floats_only, |_, y, g| Some(g * y);
    Expm1 "expm1" Floats, f64::exp_m1, floats_only, |_, y, g| Some(g * (y + 1.0));
    Log "log" Floats, f64::ln, floats_only, |x, _, g| Some(g / x);
    Log1p "log1p" Floats, f64::ln_1p, floats_only, |x, _, g| Some(g / (x + 1.0));
    Sqrt "sqrt" Floats, f64::sqrt, floats_only, |_, y, g| Some(g / (y * 2.0));
    Rsqrt "rsqrt" Floats, |x| 1.0 / x.sqrt(), floats_only, |x, y, g| Some(g * y / x * -0.5);
    Recip "recip" Floats, |x| 1.0 / x, floats_only, |_, y, g| Some(-(g * y * y));
    Sin "sin" Floats, f64::sin, floats_only, |x, _, g| Some(g * x.cos());
    Cos "cos" Floats, f64::cos, floats_only, |x, _, g| Some(-(g * x.sin()));
    Tan "tan" Floats, f64::tan, floats_only, |_, y, g| Some(g * (y * y + 1.0));
    Tanh "tanh" Floats, f64::tanh, floats_only, |_, y, g| Some(g * (1.0 - y * y));
    Logistic "logistic" Floats, |x| 1.0 / (1.0 + (-x).exp()), floats_only, |_, y, g| Some(g * y * (1.0 - y));
    Erf "erf" Floats, libm::erf, floats_only, |x, _, g| Some(g * (-(x * x)).exp() * ERF_SLOPE);
    Erfc "erfc" Floats, libm::erfc, floats_only, |x, _, g| Some(g * (-(x * x)).exp() * -ERF_SLOPE);
    Floor "floor" Floats, f64::floor, floats_only, no_gradient;
    Ceil "ceil" Floats, f64::ceil, floats_only, no_gradient;
    Round "round" Floats, f64::round_ties_even, floats_only, no_gradient;
    Not "not" Bits, |x| x, |d, x| if d == DType::Bool { i64::from(x == 0) } else { !x }, no_gradient;
    IsFinite "is_finite" Floats, |x| f64::from(x.is_finite()), floats_only, no_gradient;
}

impl Unary {
    pub(in crate::ops) fn representatives() -> Vec<Self> {
        Unary::ALL.to_vec()
    }

    pub(in crate::ops) fn parse(
        name: &str,
        _: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        Unary::ALL
            .iter()
            .find(|op| op.row().name == name)
            .map(|op| Ok(*op))
    }
}

impl Rules for Unary {
    fn name(&self) -> &'static str {
        self.row().name
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let row = self.row();
        let [x] = exactly(row.name, operands)?;
        row.accepts.check(row.name, x.dtype)?;
        Ok(if *self == Unary::IsFinite {
            x.with_dtype(DType::Bool)
        } else {
            x.clone()
        })
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        cx.operands
            .iter()
            .map(|x| (self.row().vjp)(*x, cx.result, cx.cotangent))
            .collect()
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let row = self.row();
        let [x] = arrays(operands)?;
        let values = match x.values() {
            Values::Float(v) if *self == Unary::IsFinite => {
                Values::Int(v.iter().map(|x| i64::from(x.is_finite())).collect())
            }
            Values::Float(v) => Values::Float(v.iter().map(|x| (row.float)(*x)).collect()),
            Values::Int(v) => Values::Int(v.iter().map(|i| (row.int)(x.dtype(), *i)).collect()),
        };
        Array::new(cx.ty.dtype, cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}
