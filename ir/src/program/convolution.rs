//! A convolution as a step: what it computes, where its operands lie, and its text.
//!
//! It is one form for the forward pass and for both gradients. Each operand is a view with a stride for every axis, so that any layout,
//! a window that is read backwards (a negative stride) and operands whose axes play other roles are the same thing to whoever runs it:
//!
//! - the gradient of the input is the convolution of the result's gradient with the reversed window, `features_in` and `features_out`
//!   exchanged and the input dilated by what was the stride;
//! - the gradient of the window is a convolution whose *batch* are the input's features, whose *features_in* are the images of the batch
//!   and whose *window* is the result's gradient, dilated by what was the stride; it is summed by [`Summation::Lines`].
//!
//! This file does not say how a convolution is cut, packed or shared out: that is the runtime's.

use super::Launch;
use super::text::list;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ids::BufferId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A strided view of a buffer. All numbers count elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The buffer.
    pub buffer: BufferId,
    /// Where the element lies whose indices are all 0.
    pub offset: Dim,
    /// From an element to the next along each axis, in the order that the use names.
    pub strides: Vec<Dim>,
}

/// One spatial axis of a convolution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowAxis {
    /// The extent of the input.
    pub input: Dim,
    /// The extent of the window.
    pub window: Dim,
    /// The extent of the result. It need not be what the other numbers suggest: whatever lies beyond the input is 0.
    pub output: Dim,
    /// From a window to the next, in elements of the dilated input; above 0.
    pub stride: usize,
    /// How far the first window begins before the input; it may be negative.
    pub padding: Dim,
    /// From an element of the input to the next where windows count; above 0.
    pub lhs_dilation: usize,
    /// From an element of the window to the next; above 0.
    pub rhs_dilation: usize,
}

/// In which order the terms of an element are summed. The runtime defines both to the bit (`kiln_runtime::convolution`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Summation {
    /// Over the positions of the window and, at each, over the features: for windows that are smaller than the image.
    Window,
    /// Over the features and, for each, over the lines of the window, in blocks that may be shared out among threads: for windows that
    /// are images themselves, as in the gradient of a window.
    Lines,
}

/// `dst[n, g, o, y..] = sum over i, w.. of lhs[n, g, i, (y * stride + w * rhs_dilation - padding) / lhs_dilation..] * rhs[g, i, o, w..]`.
///
/// A term takes no part where the division leaves a remainder along any axis; elements beyond the input are 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Convolution {
    /// What is convolved, for people.
    pub name: String,
    /// The element type of operands and result.
    pub dtype: DType,
    /// The type in which sums are held.
    pub accumulate: DType,
    /// The order of the terms.
    pub summation: Summation,
    /// The number of images.
    pub batch: Dim,
    /// The number of groups of features, each with a window of its own.
    pub groups: Dim,
    /// The features of the input that belong to a group.
    pub features_in: Dim,
    /// The features of the result that belong to a group.
    pub features_out: Dim,
    /// The spatial axes, outermost first: one to three.
    pub axes: Vec<WindowAxis>,
    /// Axes `[batch, group, feature_in, input..]`.
    pub lhs: View,
    /// Axes `[group, feature_in, feature_out, window..]`.
    pub rhs: View,
    /// Axes `[batch, group, feature_out, output..]`, in any order in memory, but without gaps.
    pub dst: View,
    /// What runs on the rows of the result as they are finished. A row is all features of one image at one position, so these lie one
    /// element apart (groups outermost); rows are counted in the order in which they lie in memory. The `total` is their number.
    pub epilogue: Option<Launch>,
}

impl Convolution {
    /// The extents that the strides of `lhs` walk.
    pub fn lhs_extents(&self) -> Vec<&Dim> {
        let spatial = self.axes.iter().map(|axis| &axis.input);
        [&self.batch, &self.groups, &self.features_in]
            .into_iter()
            .chain(spatial)
            .collect()
    }

    /// The extents that the strides of `rhs` walk.
    pub fn rhs_extents(&self) -> Vec<&Dim> {
        let spatial = self.axes.iter().map(|axis| &axis.window);
        [&self.groups, &self.features_in, &self.features_out]
            .into_iter()
            .chain(spatial)
            .collect()
    }

    /// The extents that the strides of `dst` walk.
    pub fn dst_extents(&self) -> Vec<&Dim> {
        let spatial = self.axes.iter().map(|axis| &axis.output);
        [&self.batch, &self.groups, &self.features_out]
            .into_iter()
            .chain(spatial)
            .collect()
    }

    /// The number of rows that an epilogue counts.
    pub fn rows(&self) -> Dim {
        let outputs = self.axes.iter().map(|axis| &axis.output);
        outputs.fold(self.batch.clone(), |rows, extent| &rows * extent)
    }

    pub(super) fn visit_dims(&self, visit: &mut dyn FnMut(&Dim)) {
        let extents = [
            &self.batch,
            &self.groups,
            &self.features_in,
            &self.features_out,
        ];
        extents.into_iter().for_each(&mut *visit);
        for axis in &self.axes {
            [&axis.input, &axis.window, &axis.output, &axis.padding]
                .into_iter()
                .for_each(&mut *visit);
        }
        for view in [&self.lhs, &self.rhs, &self.dst] {
            visit(&view.offset);
            view.strides.iter().for_each(&mut *visit);
        }
    }
}

/// The extents, the summation, an axis and a view each on a line; the epilogue is printed by the program, which knows the kernels.
impl fmt::Display for Convolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Convolution {
            name,
            dtype,
            accumulate,
            summation,
            batch,
            groups,
            features_in,
            features_out,
            axes,
            lhs,
            rhs,
            dst,
            epilogue: _,
        } = self;
        write!(
            f,
            "convolution {name:?} {dtype} batch {batch}, groups {groups}, features {features_in} -> {features_out}, by {summation}"
        )?;
        if accumulate != dtype {
            write!(f, " summed in {accumulate}")?;
        }
        f.write_str("\n")?;
        for axis in axes {
            writeln!(f, "     axis {axis}")?;
        }
        for (role, view) in [("dst", dst), ("lhs", lhs), ("rhs", rhs)] {
            writeln!(f, "     {role} {view}")?;
        }
        Ok(())
    }
}

/// `28 * 3 -> 26`, and what differs from a stride and dilations of 1 without padding.
impl fmt::Display for WindowAxis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WindowAxis {
            input,
            window,
            output,
            stride,
            padding,
            lhs_dilation,
            rhs_dilation,
        } = self;
        write!(f, "{input} * {window} -> {output}")?;
        if *stride != 1 {
            write!(f, ", stride {stride}")?;
        }
        if padding.constant() != Some(0) {
            write!(f, ", padding {padding}")?;
        }
        if *lhs_dilation != 1 {
            write!(f, ", lhs dilation {lhs_dilation}")?;
        }
        if *rhs_dilation != 1 {
            write!(f, ", rhs dilation {rhs_dilation}")?;
        }
        Ok(())
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.buffer)?;
        if self.offset.constant() != Some(0) {
            write!(f, " at {}", self.offset)?;
        }
        write!(f, " strides [{}]", list(&self.strides))
    }
}

impl fmt::Display for Summation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Summation::Window => "window",
            Summation::Lines => "lines",
        })
    }
}
