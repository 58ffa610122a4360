//! Which axis of a convolution's tensors is what, in XLA's spelling: `b01f_01io->b01f`.
//!
//! `b` and `f` are batch and feature of operand and result, `i` and `o` input and output features of the kernel, and digits the spatial
//! axes, which belong together by number.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// No convolution has more spatial axes.
pub(super) const MAX_SPATIAL: usize = 3;

/// The axes of the operand or the result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DataAxes {
    /// Examples, which do not meet.
    pub batch: usize,
    /// Features: contracted in the operand, made by the kernel in the result.
    pub feature: usize,
    /// The axes along which the kernel slides.
    pub spatial: Vec<usize>,
}

/// The axes of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KernelAxes {
    /// Input features, which are contracted.
    pub input: usize,
    /// Output features.
    pub output: usize,
    /// The axes that slide along the operand's spatial axes, in their order.
    pub spatial: Vec<usize>,
}

/// Which axis of each tensor of a convolution is what. `Display` and `FromStr` spell it `b01f_01io->b01f`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConvAxes {
    /// Those of the operand, the left side.
    pub lhs: DataAxes,
    /// Those of the kernel, the right side.
    pub rhs: KernelAxes,
    /// Those of the result.
    pub out: DataAxes,
}

/// A text that does not name the axes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected the axes of operand, kernel and result, each label once and 1 to 3 spatial axes, such as b01f_01io->b01f"
)]
pub struct LabelError;

impl ConvAxes {
    /// Channels last: `b01f_01io->b01f` for two spatial axes, TensorFlow's NHWC and HWIO.
    pub fn channels_last(spatial: usize) -> Self {
        let data = DataAxes {
            batch: 0,
            feature: spatial + 1,
            spatial: (1..=spatial).collect(),
        };
        Self {
            lhs: data.clone(),
            rhs: KernelAxes {
                input: spatial,
                output: spatial + 1,
                spatial: (0..spatial).collect(),
            },
            out: data,
        }
    }

    /// Channels first: `bf01_oi01->bf01` for two spatial axes, PyTorch's NCHW and OIHW.
    pub fn channels_first(spatial: usize) -> Self {
        let data = DataAxes {
            batch: 0,
            feature: 1,
            spatial: (2..spatial + 2).collect(),
        };
        Self {
            lhs: data.clone(),
            rhs: KernelAxes {
                input: 1,
                output: 0,
                spatial: (2..spatial + 2).collect(),
            },
            out: data,
        }
    }

    /// Whether each tensor's axes are all of its axes, and the spatial ones as many in each: 1 to 3.
    pub(super) fn are_complete(&self) -> bool {
        let complete = |first: usize, second: usize, spatial: &[usize]| {
            if spatial.len() != self.lhs.spatial.len()
                || !(1..=MAX_SPATIAL).contains(&spatial.len())
            {
                return false;
            }
            let mut all: Vec<usize> = [first, second]
                .into_iter()
                .chain(spatial.iter().copied())
                .collect();
            all.sort_unstable();
            all.iter().enumerate().all(|(i, a)| i == *a)
        };
        complete(self.lhs.batch, self.lhs.feature, &self.lhs.spatial)
            && complete(self.rhs.input, self.rhs.output, &self.rhs.spatial)
            && complete(self.out.batch, self.out.feature, &self.out.spatial)
    }
}

impl fmt::Display for ConvAxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        labels(
            f,
            [('b', self.lhs.batch), ('f', self.lhs.feature)],
            &self.lhs.spatial,
        )?;
        f.write_str("_")?;
        labels(
            f,
            [('i', self.rhs.input), ('o', self.rhs.output)],
            &self.rhs.spatial,
        )?;
        f.write_str("->")?;
        labels(
            f,
            [('b', self.out.batch), ('f', self.out.feature)],
            &self.out.spatial,
        )
    }
}

/// The labels of one tensor in the order of its axes. Axes that make no tensor, which a shape rule refuses, show as `?`.
fn labels(
    f: &mut fmt::Formatter<'_>,
    letters: [(char, usize); 2],
    spatial: &[usize],
) -> fmt::Result {
    if spatial.len() > MAX_SPATIAL {
        return f.write_str("?");
    }
    for axis in 0..spatial.len() + 2 {
        let letter = letters.iter().find(|(_, at)| *at == axis);
        match (letter, spatial.iter().position(|at| *at == axis)) {
            (Some((letter, _)), _) => write!(f, "{letter}")?,
            (None, Some(number)) => write!(f, "{number}")?,
            (None, None) => f.write_str("?")?,
        }
    }
    Ok(())
}

impl FromStr for ConvAxes {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let read = || {
            let (operands, out) = text.split_once("->")?;
            let (lhs, rhs) = operands.split_once('_')?;
            let data = |text: &str| {
                let (batch, feature, spatial) = places(text, 'b', 'f')?;
                Some(DataAxes {
                    batch,
                    feature,
                    spatial,
                })
            };
            let (input, output, spatial) = places(rhs, 'i', 'o')?;
            Some(Self {
                lhs: data(lhs)?,
                rhs: KernelAxes {
                    input,
                    output,
                    spatial,
                },
                out: data(out)?,
            })
        };
        read().filter(ConvAxes::are_complete).ok_or(LabelError)
    }
}

/// Where the two letters and the digits from 0 stand. Whether they are all labels is for [`ConvAxes::are_complete`].
fn places(text: &str, first: char, second: char) -> Option<(usize, usize, Vec<usize>)> {
    let spatial = text.len().checked_sub(2).filter(|n| *n <= MAX_SPATIAL)?;
    let digits = ['0', '1', '2'].into_iter().take(spatial);
    let spatial: Option<Vec<usize>> = digits.map(|d| text.find(d)).collect();
    Some((text.find(first)?, text.find(second)?, spatial?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_round_trip() {
        for (axes, text) in [
            (ConvAxes::channels_last(1), "b0f_0io->b0f"),
            (ConvAxes::channels_last(2), "b01f_01io->b01f"),
            (ConvAxes::channels_last(3), "b012f_012io->b012f"),
            (ConvAxes::channels_first(1), "bf0_oi0->bf0"),
            (ConvAxes::channels_first(3), "bf012_oi012->bf012"),
        ] {
            assert_eq!(axes.to_string(), text);
            assert_eq!(text.parse(), Ok(axes));
        }
        let mixed: ConvAxes = "f10b_1o0i->0b1f".parse().unwrap();
        assert_eq!(mixed.to_string(), "f10b_1o0i->0b1f");
        assert_eq!(mixed.lhs.spatial, [2, 1]);
    }

    #[test]
    fn what_names_no_axes_is_refused() {
        for text in [
            "",
            "b01f",
            "b01f_01io",
            "bf_io->bf",
            "b01f_0io->b01f",
            "b01f_01io->b02f",
            "bb1f_01io->b01f",
            "b0123f_0123io->b0123f",
            "b01f_01ix->b01f",
            "b01f_01io->b01f ",
            "é01f_01io->b01f",
            "b01f__01io->b01f",
        ] {
            assert_eq!(text.parse::<ConvAxes>(), Err(LabelError), "{text}");
        }
    }

    #[test]
    fn axes_that_make_no_tensor_print_all_the_same() {
        let mut axes = ConvAxes::channels_last(1);
        axes.lhs.batch = usize::MAX;
        axes.rhs.spatial = vec![7; 100];
        assert_eq!(axes.to_string(), "?0f_?->b0f");
        assert!(!axes.are_complete());
    }
}
