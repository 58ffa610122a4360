//! Spatial axes: what convolutions, pools, paddings and upsamplings have in common.
//!
//! A tensor with `N` spatial axes has `N + 2` axes, a batch and features being the others. Which of them are spatial is the layout's to
//! say; that there are as many as a layer is for, and that features are counted, is checked here, before a param is declared.

use kiln_ir::ops::Broadcast;
use kiln_ir::{Kind, Layout, Refusal, Tensor, TensorType};

/// One number for each of `N` spatial axes: given as one number for all of them, or as an array.
///
/// ```
/// use kiln_nn::{Conv2d, PerAxis};
///
/// let (square, wide) = (Conv2d::new(8, 3), Conv2d::new(8, [1, 7]));
/// assert_eq!(PerAxis::<2>::from(3), PerAxis::from([3, 3]));
/// # let _ = (square, wide);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerAxis<const N: usize>(pub [i64; N]);

impl<const N: usize> From<i64> for PerAxis<N> {
    fn from(all: i64) -> Self {
        Self([all; N])
    }
}

impl<const N: usize> From<[i64; N]> for PerAxis<N> {
    fn from(each: [i64; N]) -> Self {
        Self(each)
    }
}

/// The name of a layer for `spatial` axes, of its three names.
pub(super) fn name_of(names: [&'static str; 3], spatial: usize) -> &'static str {
    names[spatial.clamp(1, names.len()) - 1]
}

/// A tensor with spatial axes, and where its axes are.
pub(super) struct Spatial {
    pub(super) ty: TensorType,
    /// The axis of features.
    pub(super) feature: usize,
    /// The spatial axes, in order.
    pub(super) axes: Vec<usize>,
}

impl Spatial {
    /// The axes of `x`, which is to have `spatial` of them, or any number from 1 to 3 where that is not said. None where `x` is poisoned
    /// or does not; a mistake is reported in the name of `what`.
    #[track_caller]
    pub(super) fn of(
        what: &str,
        x: Tensor<'_>,
        spatial: Option<usize>,
        layout: Layout,
    ) -> Option<Self> {
        let ty = x.ty()?;
        let fits = match spatial {
            Some(spatial) => ty.rank() == spatial + 2,
            None => (3..=5).contains(&ty.rank()),
        };
        if !fits {
            let refusal = Refusal::new(Kind::Shape, format!("`{what}` of {ty}"));
            let help = format!(
                "it takes tensors of shape {}",
                shape_of(spatial.unwrap_or(2), layout)
            );
            x.builder().refuse(refusal.help(help), &[x]);
            return None;
        }
        let axes = layout.axes(ty.rank() - 2).lhs;
        Some(Self {
            ty,
            feature: axes.feature,
            axes: axes.spatial,
        })
    }

    /// The number of features; none where it is symbolic, which is reported in the name of `what`.
    #[track_caller]
    pub(super) fn features(&self, what: &str, x: Tensor<'_>) -> Option<i64> {
        let features = self.ty.shape[self.feature].constant();
        if features.is_none() {
            let refusal = Refusal::new(
                Kind::Shape,
                format!(
                    "`{what}` needs a fixed number of features on axis {} of {}",
                    self.feature, self.ty
                ),
            )
            .help("only batch and spatial axes may be symbolic");
            x.builder().refuse(refusal, &[x]);
        }
        features
    }
}

/// The shape that a message shows.
fn shape_of(spatial: usize, layout: Layout) -> String {
    let names = ["depth", "height", "width"];
    let spatial = match spatial {
        1 => "length".to_owned(),
        n => names[names.len().saturating_sub(n)..].join(", "),
    };
    match layout {
        Layout::ChannelsLast => format!("[b, {spatial}, features]"),
        Layout::ChannelsFirst => format!("[b, features, {spatial}]"),
    }
}

/// `vector: [features]` repeated to the type of a tensor with the features on axis `feature`.
#[track_caller]
pub(super) fn along_features<'g>(
    vector: Tensor<'g>,
    ty: &TensorType,
    feature: usize,
) -> Tensor<'g> {
    let broadcast = Broadcast {
        shape: ty.shape.clone(),
        axes: vec![feature],
    };
    vector.builder().push(broadcast, &[vector])
}
