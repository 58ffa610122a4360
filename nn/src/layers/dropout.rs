//! Dropout: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout" (JMLR 2014), in the inverted form.

use crate::layer::{Context, Layer, Mode};
use crate::random::random_bits;
use kiln_ir::{Builder, DType, Kind, Refusal, Shape, Tensor};

/// Sets each element to 0 with probability `rate` and divides the others by `1 - rate`, so that the expectation stays. In inference,
/// and at rate 0, the identity. See [`dropout`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    rate: f64,
}

impl Dropout {
    /// Drops the share `rate`, from 0 to less than 1; another number is a mistake that the application reports.
    pub fn new(rate: f64) -> Self {
        Self { rate }
    }
}

impl Layer for Dropout {
    fn kind(&self) -> &str {
        "dropout"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        match cx.mode() {
            Mode::Training => dropout(x, self.rate),
            Mode::Inference => x,
        }
    }
}

/// `x` with the share `rate` of its elements dropped and the rest divided by `1 - rate`.
///
/// An element stays where its random word is at least `rate * 2^32`, an integer comparison, so the probability is exact to 2^-32. The
/// words are those of [`random_bits`] in the open scope.
#[track_caller]
pub fn dropout(x: Tensor<'_>, rate: f64) -> Tensor<'_> {
    let Some(ty) = x.ty() else { return x };
    if rate == 0.0 {
        return x;
    }
    match stays(x.builder(), rate, &ty.shape) {
        Some(stays) => (x * (1.0 / (1.0 - rate))).where_(stays, 0.0),
        None => x.builder().poison(),
    }
}

/// What a tensor is multiplied with to drop the share `rate`: `1 / (1 - rate)` where an element stays, else 0. For a mask that several
/// tensors share.
#[track_caller]
pub(crate) fn keep<'g>(builder: &'g Builder, rate: f64, dtype: DType, shape: &Shape) -> Tensor<'g> {
    match stays(builder, rate, shape) {
        Some(stays) => {
            let kept = builder.splat(dtype, shape, 1.0 / (1.0 - rate));
            kept.where_(stays, 0.0)
        }
        None => builder.poison(),
    }
}

/// Which elements stay; `None` at a rate that is no share.
#[track_caller]
fn stays<'g>(builder: &'g Builder, rate: f64, shape: &Shape) -> Option<Tensor<'g>> {
    if !(0.0..1.0).contains(&rate) {
        let refusal = Refusal::new(Kind::Attribute, format!("`dropout` at a rate of {rate}"))
            .help("the rate is the share that is dropped, from 0 to less than 1");
        builder.refuse(refusal, &[]);
        return None;
    }
    // A rate so near to 1 that the product rounds to 2^32 would wrap to 0 and keep everything.
    let threshold = (rate * 4_294_967_296.0).round().min(f64::from(u32::MAX));
    Some(random_bits(builder, shape).ge(threshold))
}
