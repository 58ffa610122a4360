//! What the tests of convolutions vary: sizes, and tensors that lie in any order.

use crate::convolution::{Axis, ImageStrides, Summation, WindowStrides};
use kiln_ir::philox::Stream;

/// A tensor that lies in some order of its axes, with room around it that must stay as it is.
pub(super) struct Tensor<T> {
    pub(super) data: Vec<T>,
    pub(super) start: usize,
    pub(super) extents: [usize; 6],
    strides: [isize; 6],
}

const ROOM: usize = 5;

/// Orders of six axes, outermost first: for images `[batch, group, feature, z, y, x]`, for windows `[group, in, out, z, y, x]`.
pub(super) const CHANNELS_LAST: [usize; 6] = [0, 3, 4, 5, 1, 2];
const CHANNELS_FIRST: [usize; 6] = [0, 1, 2, 3, 4, 5];
/// The layout of a window's gradient, as a result: `[output.., batch, feature]`.
const BATCH_INSIDE: [usize; 6] = [3, 4, 5, 0, 1, 2];
const WINDOW: [usize; 6] = [3, 4, 5, 1, 0, 2];
const WINDOW_TRANSPOSED: [usize; 6] = [3, 4, 5, 2, 0, 1];
pub(super) const ORDERS: [[usize; 6]; 6] = [
    CHANNELS_LAST,
    CHANNELS_FIRST,
    BATCH_INSIDE,
    WINDOW,
    WINDOW_TRANSPOSED,
    [5, 0, 2, 4, 1, 3],
];

impl<T: Copy> Tensor<T> {
    /// `reversed` axes are read from their end.
    pub(super) fn new(
        extents: [usize; 6],
        order: [usize; 6],
        reversed: [bool; 6],
        element: impl Fn(usize) -> T,
    ) -> Self {
        let mut strides = [0; 6];
        let mut next = 1;
        for axis in order.into_iter().rev() {
            strides[axis] = next as isize;
            next *= extents[axis];
        }
        let mut start = ROOM;
        for axis in 0..6 {
            if reversed[axis] && extents[axis] > 0 {
                start += (extents[axis] - 1) * strides[axis] as usize;
                strides[axis] = -strides[axis];
            }
        }
        Tensor {
            data: (0..next + 2 * ROOM).map(element).collect(),
            start,
            extents,
            strides,
        }
    }

    pub(super) fn at(&self, index: [usize; 6]) -> usize {
        let steps = index.iter().zip(&self.strides);
        let offset: isize = steps.map(|(i, s)| *i as isize * s).sum();
        for (index, extent) in index.iter().zip(&self.extents) {
            assert!(index < extent);
        }
        (self.start as isize + offset) as usize
    }

    pub(super) fn image(&self) -> ImageStrides {
        let [batch, group, feature, z, y, x] = self.strides;
        ImageStrides {
            batch,
            group,
            feature,
            spatial: [z, y, x],
        }
    }

    pub(super) fn window(&self) -> WindowStrides {
        let [group, feature_in, feature_out, z, y, x] = self.strides;
        WindowStrides {
            group,
            feature_in,
            feature_out,
            spatial: [z, y, x],
        }
    }
}

/// What a test varies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) summation: Summation,
    pub(super) batch: usize,
    pub(super) groups: usize,
    pub(super) features_in: usize,
    pub(super) features_out: usize,
    pub(super) axes: [Axis; 3],
    /// Positions in `ORDERS`.
    pub(super) orders: [usize; 3],
    pub(super) reversed: bool,
}

pub(super) fn axis(input: usize, window: usize, output: usize) -> Axis {
    Axis {
        input,
        window,
        output,
        ..Axis::ONE
    }
}

/// A square image with features last.
pub(super) fn square(batch: usize, [features_in, features_out]: [usize; 2], each: Axis) -> Case {
    Case {
        summation: Summation::Window,
        batch,
        groups: 1,
        features_in,
        features_out,
        axes: [Axis::ONE, each, each],
        orders: [0, 3, 0],
        reversed: false,
    }
}

/// The gradient of the window of `square`, for a result of `output` and a window of `window` positions along each axis.
pub(super) fn gradient(images: usize, [features_in, features_out]: [usize; 2], each: Axis) -> Case {
    let each = Axis {
        window: each.output,
        output: each.window,
        stride: each.rhs_dilation,
        rhs_dilation: each.stride,
        ..each
    };
    Case {
        summation: Summation::Lines,
        batch: features_in,
        groups: 1,
        features_in: images,
        features_out,
        axes: [Axis::ONE, each, each],
        // The input's batch is its features axis here, and the features are its batch.
        orders: [4, 2, 2],
        reversed: false,
    }
}

pub(super) fn noise(count: u64) -> Vec<f64> {
    let stream = Stream::new(7, "convolutions", 0);
    (0..count).map(|index| stream.normal(index)).collect()
}
