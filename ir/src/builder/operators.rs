//! `+ - * /` and unary `-` on tensors, and with literals of the tensor's element type on either side.

use super::tensor::Tensor;
use std::ops::{Add, Div, Mul, Neg, Sub};

macro_rules! operators {
    ($($op:ident :: $method:ident => $name:ident),+) => {$(
        impl<'g> $op for Tensor<'g> {
            type Output = Tensor<'g>;

            #[track_caller]
            fn $method(self, other: Tensor<'g>) -> Tensor<'g> {
                self.$name(other)
            }
        }

        impl<'g> $op<f64> for Tensor<'g> {
            type Output = Tensor<'g>;

            #[track_caller]
            fn $method(self, other: f64) -> Tensor<'g> {
                self.$name(other)
            }
        }

        impl<'g> $op<Tensor<'g>> for f64 {
            type Output = Tensor<'g>;

            #[track_caller]
            fn $method(self, other: Tensor<'g>) -> Tensor<'g> {
                match other.ty() {
                    Some(ty) => other.builder().splat(ty.dtype, ty.shape, self).$name(other),
                    None => other,
                }
            }
        }
    )+};
}
operators!(Add::add => plus, Sub::sub => minus, Mul::mul => times, Div::div => over);

impl<'g> Neg for Tensor<'g> {
    type Output = Tensor<'g>;

    #[track_caller]
    fn neg(self) -> Tensor<'g> {
        Tensor::neg(self)
    }
}
