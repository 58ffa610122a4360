//! The binary table, and the comparisons.

use super::{Accepts, arrays, exactly, same_types};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::Refusal;
use crate::dtype::{Class, DType};
use crate::ops::{Effect, EvalCx, Rules, Vjp};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// Operands, result and cotangent of a binary op, for its vjp.
struct Pair<'g> {
    x: Tensor<'g>,
    y: Tensor<'g>,
    result: Tensor<'g>,
    g: Tensor<'g>,
}

type Cotangents<'g> = (Option<Tensor<'g>>, Option<Tensor<'g>>);

/// What a binary op computes, as one row of the table.
struct Row {
    name: &'static str,
    accepts: Accepts,
    float: fn(f64, f64) -> f64,
    /// On integers and `bool`; never called where `accepts` excludes them.
    int: fn(DType, i64, i64) -> i64,
    vjp: for<'g> fn(Pair<'g>) -> Cotangents<'g>,
}

fn floats_only(_: DType, x: i64, _: i64) -> i64 {
    x
}

fn bits_only(x: f64, _: f64) -> f64 {
    x
}

fn no_gradient<'g>(_: Pair<'g>) -> Cotangents<'g> {
    (None, None)
}

macro_rules! binary_table {
    ($($op:ident $name:literal $accepts:ident, $float:expr, $int:expr, $vjp:expr;)+) => {
        /// An element-wise op of two operands of one type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[allow(missing_docs)]
        pub enum Binary { $($op),+ }

        impl Binary {
            /// Every binary op, in the order of the table.
            pub const ALL: &'static [Binary] = &[$(Binary::$op),+];

            fn row(self) -> Row {
                match self {
                    $(Binary::$op => Row {
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

binary_table! {
    Add "add" Numbers, |x, y| x + y, |_, x, y| x.wrapping_add(y), |p| (Some(p.g), Some(p.g));
    Sub "sub" Numbers, |x, y| x - y, |_, x, y| x.wrapping_sub(y), |p| (Some(p.g), Some(-p.g));
    Mul "mul" Numbers, |x, y| x * y, |_, x, y| x.wrapping_mul(y), |p| (Some(p.g * p.y), Some(p.g * p.x));
    Div "div" Numbers, |x, y| x / y, divide, |p| {
        let dx = p.g / p.y;
        (Some(dx), Some(-(dx * p.result)))
    };
    // x rem y = x - y trunc(x / y), and the truncated quotient is constant between its jumps.
    Rem "rem" Numbers, |x, y| x % y, remainder, |p| (Some(p.g), Some(-(p.g * ((p.x - p.result) / p.y).round())));
    Pow "pow" Floats, f64::powf, floats_only, |p| {
        // At the exponent 0 the power is constant, and 0 * 0^-1 would be NaN: any other exponent than -1 makes it 0.
        let exponent = (p.y - 1.0).where_(p.y.ne(0.0), 1.0);
        let dx = p.g * p.y * p.x.pow(exponent);
        // The logarithm is taken of 1 where the base is not positive, so that no NaN leaks through the mask.
        let positive = p.x.gt(0.0);
        let log = p.x.where_(positive, 1.0).log();
        (Some(dx), Some((p.g * p.result * log).where_(positive, 0.0)))
    };
    Atan2 "atan2" Floats, f64::atan2, floats_only, |p| {
        let scale = p.g / (p.x * p.x + p.y * p.y);
        (Some(scale * p.y), Some(-(scale * p.x)))
    };
    Max "max" Numbers, maximum, |d, x, y| if less(d, x, y) { y } else { x }, |p| {
        let (x, y) = (p.x.gt(p.y), p.y.gt(p.x));
        winners(p, x, y)
    };
    Min "min" Numbers, |x, y| -maximum(-x, -y), |d, x, y| if less(d, x, y) { x } else { y }, |p| {
        let (x, y) = (p.x.lt(p.y), p.y.lt(p.x));
        winners(p, x, y)
    };
    And "and" Bits, bits_only, |_, x, y| x & y, no_gradient;
    Or "or" Bits, bits_only, |_, x, y| x | y, no_gradient;
    Xor "xor" Bits, bits_only, |_, x, y| x ^ y, no_gradient;
    Shl "shl" Integers, bits_only, shift_left, no_gradient;
    Shr "shr" Integers, bits_only, shift_right, no_gradient;
}

/// The winner takes the cotangent; at a tie each side takes half.
fn winners<'g>(p: Pair<'g>, x_wins: Tensor<'g>, y_wins: Tensor<'g>) -> Cotangents<'g> {
    let half = p.g * 0.5;
    let no_x = half.where_(y_wins.not(), 0.0);
    let no_y = half.where_(x_wins.not(), 0.0);
    (
        Some(p.g.where_(x_wins, no_x)),
        Some(p.g.where_(y_wins, no_y)),
    )
}

/// NaN wins, and +0 is above -0.
pub(in crate::ops) fn maximum(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() {
        f64::NAN
    } else if x == y {
        if x.is_sign_negative() { y } else { x }
    } else if x > y {
        x
    } else {
        y
    }
}

/// `x < y`, where u64 values are held as bit patterns.
pub(in crate::ops) fn less(dtype: DType, x: i64, y: i64) -> bool {
    if dtype == DType::U64 {
        x.cast_unsigned() < y.cast_unsigned()
    } else {
        x < y
    }
}

/// x / 0 is all ones, MIN / -1 is MIN.
fn divide(dtype: DType, x: i64, y: i64) -> i64 {
    match (y, dtype) {
        (0, _) => -1,
        (_, DType::U64) => (x.cast_unsigned() / y.cast_unsigned()).cast_signed(),
        (_, _) => x.wrapping_div(y),
    }
}

/// x rem 0 is x.
fn remainder(dtype: DType, x: i64, y: i64) -> i64 {
    match (y, dtype) {
        (0, _) => x,
        (_, DType::U64) => (x.cast_unsigned() % y.cast_unsigned()).cast_signed(),
        (_, _) => x.wrapping_rem(y),
    }
}

/// The amount of a shift, or `None` where it is the width or more. The amount is read as unsigned, so negative ones are large.
fn amount(dtype: DType, y: i64) -> Option<u32> {
    u32::try_from(y)
        .ok()
        .filter(|y| (*y as usize) < 8 * dtype.size())
}

fn shift_left(dtype: DType, x: i64, y: i64) -> i64 {
    amount(dtype, y).map_or(0, |y| x << y)
}

fn shift_right(dtype: DType, x: i64, y: i64) -> i64 {
    match (amount(dtype, y), dtype) {
        (Some(y), DType::U64) => (x.cast_unsigned() >> y).cast_signed(),
        (Some(y), _) => x >> y,
        (None, DType::U64) => 0,
        (None, _) => x >> 63,
    }
}

impl Binary {
    pub(in crate::ops) fn representatives() -> Vec<Self> {
        Binary::ALL.to_vec()
    }

    pub(in crate::ops) fn parse(
        name: &str,
        _: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        Binary::ALL
            .iter()
            .find(|op| op.row().name == name)
            .map(|op| Ok(*op))
    }
}

impl Rules for Binary {
    fn name(&self) -> &'static str {
        self.row().name
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let row = self.row();
        let [x, y] = exactly(row.name, operands)?;
        same_types(row.name, x, y)?;
        row.accepts.check(row.name, x.dtype)?;
        Ok(x.clone())
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let [x, y] = cx.operands.as_slice() else {
            return Vec::new();
        };
        let (dx, dy) = (self.row().vjp)(Pair {
            x: *x,
            y: *y,
            result: cx.result,
            g: cx.cotangent,
        });
        vec![dx, dy]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let row = self.row();
        let [x, y] = arrays(operands)?;
        let dtype = x.dtype();
        let values = match (x.values(), y.values()) {
            (Values::Float(x), Values::Float(y)) => {
                Values::Float(x.iter().zip(y).map(|(x, y)| (row.float)(*x, *y)).collect())
            }
            (Values::Int(x), Values::Int(y)) => Values::Int(
                x.iter()
                    .zip(y)
                    .map(|(x, y)| (row.int)(dtype, *x, *y))
                    .collect(),
            ),
            (Values::Float(_) | Values::Int(_), _) => {
                return Err(EvalError::Invalid(format!("{} of two families", row.name)));
            }
        };
        Array::new(dtype, cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}

/// A comparison of two operands of one type; the result is `bool`. Comparisons with NaN are false, but `ne` is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Compare {
    /// Every comparison.
    pub const ALL: [Compare; 6] = [
        Compare::Eq,
        Compare::Ne,
        Compare::Lt,
        Compare::Le,
        Compare::Gt,
        Compare::Ge,
    ];

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        Compare::ALL.to_vec()
    }

    pub(in crate::ops) fn parse(
        name: &str,
        _: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        Compare::ALL
            .iter()
            .find(|op| op.name() == name)
            .map(|op| Ok(*op))
    }

    fn holds<T: PartialOrd>(self, x: T, y: T) -> bool {
        match self {
            Compare::Eq => x == y,
            Compare::Ne => x != y,
            Compare::Lt => x < y,
            Compare::Le => x <= y,
            Compare::Gt => x > y,
            Compare::Ge => x >= y,
        }
    }
}

impl Rules for Compare {
    fn name(&self) -> &'static str {
        match self {
            Compare::Eq => "eq",
            Compare::Ne => "ne",
            Compare::Lt => "lt",
            Compare::Le => "le",
            Compare::Gt => "gt",
            Compare::Ge => "ge",
        }
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [x, y] = exactly(self.name(), operands)?;
        same_types(self.name(), x, y)?;
        Accepts::Any.check(self.name(), x.dtype)?;
        Ok(x.with_dtype(DType::Bool))
    }

    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        vec![None, None]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [x, y] = arrays(operands)?;
        let class = x.dtype().class();
        let bits: Vec<i64> = match (x.values(), y.values()) {
            (Values::Float(x), Values::Float(y)) => x
                .iter()
                .zip(y)
                .map(|(x, y)| i64::from(self.holds(*x, *y)))
                .collect(),
            (Values::Int(x), Values::Int(y)) if class == Class::Unsigned => x
                .iter()
                .zip(y)
                .map(|(x, y)| i64::from(self.holds(x.cast_unsigned(), y.cast_unsigned())))
                .collect(),
            (Values::Int(x), Values::Int(y)) => x
                .iter()
                .zip(y)
                .map(|(x, y)| i64::from(self.holds(*x, *y)))
                .collect(),
            (Values::Float(_) | Values::Int(_), _) => {
                return Err(EvalError::Invalid("comparison of two families".into()));
            }
        };
        Array::new(DType::Bool, cx.shape.to_vec(), Values::Int(bits))
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}
