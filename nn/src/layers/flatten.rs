//! Flattening of everything but the batch.

use crate::layer::{Context, Layer};
use kiln_ir::{Kind, Refusal, Shape, Tensor};

/// `[b, d1, d2, ..]` as `[b, d1 * d2 * ..]`, row-major.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flatten;

impl Layer for Flatten {
    fn kind(&self) -> &str {
        "flatten"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some(ty) = x.ty() else { return x };
        let Some((batch, rest)) = ty.shape.split_first() else {
            let refusal = Refusal::new(Kind::Shape, format!("`flatten` of {ty}"))
                .help("the first axis is the batch, and it stays");
            return cx.builder().refuse(refusal, &[x]);
        };
        let features = Shape::from(rest).elements();
        x.reshape([batch.clone(), features])
    }
}
