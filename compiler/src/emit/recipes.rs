//! Which recipe of [`crate::math`] an op is, in both widths. Constant folding uses the same table, so that folding changes no bit.

use crate::math::{
    Machine32, Machine64, erf, erf64, erfc, exp, exp64, log, log64, pow, pow64, root, trig, trig64,
};
use kiln_ir::ops::{Binary, Unary};

/// A unary op on 32-bit lanes; `None` for the ops that are instructions and no recipe.
pub fn unary32<M: Machine32>(m: &mut M, op: Unary, x: M::F) -> Option<M::F> {
    Some(match op {
        Unary::Exp => exp::exp_f32(m, x),
        Unary::Expm1 => exp::expm1_f32(m, x),
        Unary::Log => log::log_f32(m, x),
        Unary::Log1p => log::log1p_f32(m, x),
        Unary::Rsqrt => root::rsqrt_f32(m, x),
        Unary::Recip => root::recip_f32(m, x),
        Unary::Sin => trig::sin_f32(m, x),
        Unary::Cos => trig::cos_f32(m, x),
        Unary::Tan => trig::tan_f32(m, x),
        Unary::Tanh => exp::tanh_f32(m, x),
        Unary::Logistic => exp::logistic_f32(m, x),
        Unary::Erf => erf::erf_f32(m, x),
        Unary::Erfc => erfc::erfc_f32(m, x),
        Unary::Neg | Unary::Abs | Unary::Sign | Unary::Sqrt => return None,
        Unary::Floor | Unary::Ceil | Unary::Round => return None,
        Unary::Not | Unary::IsFinite => return None,
    })
}

/// A unary op on 64-bit lanes; `None` for the ops that are instructions and no recipe.
pub fn unary64<M: Machine64>(m: &mut M, op: Unary, x: M::F) -> Option<M::F> {
    Some(match op {
        Unary::Exp => exp64::exp_f64(m, x),
        Unary::Expm1 => exp64::expm1_f64(m, x),
        Unary::Log => log64::log_f64(m, x),
        Unary::Log1p => log64::log1p_f64(m, x),
        Unary::Rsqrt => root::rsqrt_f64(m, x),
        Unary::Recip => root::recip_f64(m, x),
        Unary::Sin => trig64::sin_f64(m, x),
        Unary::Cos => trig64::cos_f64(m, x),
        Unary::Tan => trig64::tan_f64(m, x),
        Unary::Tanh => exp64::tanh_f64(m, x),
        Unary::Logistic => exp64::logistic_f64(m, x),
        Unary::Erf => erf64::erf_f64(m, x),
        Unary::Erfc => erf64::erfc_f64(m, x),
        Unary::Neg | Unary::Abs | Unary::Sign | Unary::Sqrt => return None,
        Unary::Floor | Unary::Ceil | Unary::Round => return None,
        Unary::Not | Unary::IsFinite => return None,
    })
}

/// A binary op on 32-bit lanes; `None` for the ops that are no recipe.
pub fn binary32<M: Machine32>(m: &mut M, op: Binary, x: M::F, y: M::F) -> Option<M::F> {
    match op {
        Binary::Pow => Some(pow::pow_f32(m, x, y)),
        Binary::Atan2 => Some(root::atan2_f32(m, x, y)),
        Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Rem => None,
        Binary::Max | Binary::Min | Binary::And | Binary::Or | Binary::Xor => None,
        Binary::Shl | Binary::Shr => None,
    }
}

/// A binary op on 64-bit lanes; `None` for the ops that are no recipe.
pub fn binary64<M: Machine64>(m: &mut M, op: Binary, x: M::F, y: M::F) -> Option<M::F> {
    match op {
        Binary::Pow => Some(pow64::pow_f64(m, x, y)),
        Binary::Atan2 => Some(root::atan2_f64(m, x, y)),
        Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Rem => None,
        Binary::Max | Binary::Min | Binary::And | Binary::Or | Binary::Xor => None,
        Binary::Shl | Binary::Shr => None,
    }
}
