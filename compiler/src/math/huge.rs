//! sin, cos and tan of huge arguments, one lane at a time on the host.
//!
//! The reduction is Payne and Hanek's (1983): the bits of 2/pi that decide x * 2/pi modulo 4, 192 of
//! them, times the integer significand. Only integers and fused f64 arithmetic take part, so that
//! the result is the same on every host. No speed is claimed: kernels branch here for |x| above
//! [`super::trig::BOUND`] or [`super::trig64::BOUND`] only.

use super::trig64::{kernel, tan_kernel};
use super::{Host64, Rare};

/// The fraction bits of 2/pi, most significant first.
const TWO_OVER_PI: [u64; 20] = [
    0xa2f9_836e_4e44_1529,
    0xfc27_57d1_f534_ddc0,
    0xdb62_9599_3c43_9041,
    0xfe51_63ab_debb_c561,
    0xb724_6e3a_424d_d2e0,
    0x0649_2eea_09d1_921c,
    0xfe1d_eb1c_b129_a73e,
    0xe882_35f5_2ebb_4484,
    0xe99c_7026_b45f_7e41,
    0x3991_d639_8353_39f4,
    0x9c84_5f8b_bdf9_283b,
    0x1ff8_97ff_de05_980f,
    0xef2f_118b_5a0a_6d1f,
    0x6d36_7ecf_27cb_09b7,
    0x4f46_3f66_9e5f_ea2d,
    0x7527_bac7_ebe5_f17b,
    0x3d07_39f7_8a52_92ea,
    0x6bfb_5fb1_1f8d_5d08,
    0x5603_3046_fc7b_6bab,
    0xf0cf_bc20_9af4_361d,
];

impl Rare {
    /// The function of any f64 `x`, within 2 ULP; NaN for infinities and NaN.
    pub fn f64(self, x: f64) -> f64 {
        if !x.is_finite() {
            return f64::NAN;
        }
        let (quadrant, r, tail) = reduce(x.abs());
        let (sin, cos) = kernel(&mut Host64, r, tail);
        let (sin, cos) = match quadrant {
            0 => (sin, cos),
            1 => (cos, -sin),
            2 => (-sin, -cos),
            _ => (-cos, sin),
        };
        match self {
            Rare::Sin => {
                if x < 0.0 {
                    -sin
                } else {
                    sin
                }
            }
            Rare::Cos => cos,
            Rare::Tan => {
                let tan = tan_kernel(&mut Host64, r, tail);
                let tan = if quadrant & 1 == 1 { -1.0 / tan } else { tan };
                if x < 0.0 { -tan } else { tan }
            }
        }
    }

    /// The function of any f32 `x`, within 1 ULP; NaN for infinities and NaN.
    pub fn f32(self, x: f32) -> f32 {
        self.f64(f64::from(x)) as f32
    }
}

/// Sixty-four bits of 2/pi from bit `position` on, where bit 0 has the weight 1/2.
fn window(position: i32) -> u64 {
    let bit = |p: i32| -> u64 {
        let word = usize::try_from(p.div_euclid(64)).ok();
        word.and_then(|w| TWO_OVER_PI.get(w)).copied().unwrap_or(0)
    };
    let shift = position.rem_euclid(64);
    let high = bit(position);
    if shift == 0 {
        high
    } else {
        high << shift | bit(position + 64) >> (64 - shift)
    }
}

/// x = quadrant pi/2 + r + tail modulo 2 pi, for finite x >= 0, with |r| at most pi/4.
fn reduce(x: f64) -> (u64, f64, f64) {
    let bits = x.to_bits();
    let field = (bits >> 52) as i32;
    let fraction = bits & ((1 << 52) - 1);
    // x = significand * 2^exponent.
    let (significand, exponent) = if field == 0 {
        (fraction, -1074)
    } else {
        (fraction | 1 << 52, field - 1075)
    };

    // 2^exponent * 2/pi modulo 4 in units of 2^-190, then times the significand modulo 4.
    let words = [exponent - 2, exponent + 62, exponent + 126].map(window);
    let mut product = [0_u64; 3];
    let mut carry = 0_u128;
    for index in (0..3).rev() {
        let partial = u128::from(words[index]) * u128::from(significand) + carry;
        product[index] = partial as u64;
        carry = partial >> 64;
    }

    // To the nearest quadrant: above a half the fraction becomes negative.
    let negative = product[0] >> 61 & 1 == 1;
    let quadrant = ((product[0] >> 62) + u64::from(negative)) & 3;
    let mut high = u128::from(product[0]) << 64 | u128::from(product[1]);
    let mut low = product[2];
    high <<= 2;
    high |= u128::from(low >> 62);
    low <<= 2;
    if negative {
        high = !high;
        low = !low;
    }
    // The fraction is now (high, low) * 2^-192, at most a half; normalise and split it.
    let zeros = high.leading_zeros();
    if zeros > 0 && zeros < 64 {
        high = high << zeros | u128::from(low >> (64 - zeros));
    } else if zeros >= 64 {
        high = high << 64 | u128::from(low);
        high <<= zeros - 64;
    }
    let scale = f64::from_bits(((1023 - u64::from(zeros)) << 52).max(1 << 52));
    let first = (high >> 75) as f64 * 2.0_f64.powi(-53) * scale;
    let rest = ((high >> 22) as u64 & ((1 << 53) - 1)) as f64 * 2.0_f64.powi(-106) * scale;

    let half_pi = std::f64::consts::FRAC_PI_2;
    let product = first * half_pi;
    let error = first.mul_add(half_pi, -product);
    let error = first.mul_add(6.123_233_995_736_766e-17, error);
    let error = rest.mul_add(half_pi, error);
    let r = product + error;
    let tail = error - (r - product);
    if negative {
        (quadrant, -r, -tail)
    } else {
        (quadrant, r, tail)
    }
}
