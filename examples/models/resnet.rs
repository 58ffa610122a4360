//! ResNet-20, a residual network for small pictures: He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (CVPR 2016),
//! section 4.2.
//!
//! A residual block is a plain struct that implements `Layer`: nothing in Kiln knows of residuals. Where a block changes size, its shortcut
//! is a convolution of 1 x 1 with batch normalisation, option B of the paper.

use kiln::nn::{BatchNorm, Conv2d, Padding, initialisers::HeNormal, relu};
use kiln::{Context, Layer, Sequential, Tensor};

/// The paper's numbers: three stages of three blocks of two convolutions.
const STAGES: [i64; 3] = [16, 32, 64];
const BLOCKS: usize = 3;

/// The model for pictures of shape `[height, width, channels]`.
pub(crate) fn resnet20(picture: [i64; 3], classes: i64) -> Sequential {
    let mut model = Sequential::new(picture)
        .layer(convolution(STAGES[0], 3, 1))
        .batch_norm()
        .relu();
    for (stage, filters) in STAGES.into_iter().enumerate() {
        for block in 0..BLOCKS {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            model = model.layer(Residual { filters, stride });
        }
    }
    model.global_avg_pool().dense(classes)
}

/// A convolution as these networks have it: half a window of padding, and no bias, since a normalisation follows.
fn convolution(filters: i64, window: i64, stride: i64) -> Conv2d {
    Conv2d::new(filters, window)
        .stride(stride)
        .padding(Padding::both(window / 2))
        .weight(HeNormal)
        .without_bias()
}

/// `relu(f(x) + x)`, with two convolutions in `f`.
struct Residual {
    filters: i64,
    stride: i64,
}

impl Layer for Residual {
    fn kind(&self) -> &str {
        "residual"
    }

    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let Some(ty) = x.ty() else { return x };
        let unit = |name: &str, window: i64, stride: i64, x: Tensor<'g>| {
            let y = cx.layer(name, &convolution(self.filters, window, stride), x);
            cx.layer(&format!("{name}_norm"), &BatchNorm::new(), y)
        };
        let first = relu(unit("first", 3, self.stride, x));
        let second = unit("second", 3, 1, first);
        let keeps_size = self.stride == 1 && ty.shape.last() == Some(&self.filters.into());
        let shortcut = if keeps_size {
            x
        } else {
            unit("shortcut", 1, self.stride, x)
        };
        relu(second + shortcut)
    }
}
