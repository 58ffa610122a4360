//! A convolution of a program under a binding: symbolic extents, offsets and strides as numbers.

use crate::convolution::{Axis, Form, ImageStrides, Method, ProductType, WindowStrides};
use kiln_ir::program::{Convolution, View, WindowAxis};
use kiln_ir::{BindError, Bindings, Dim};

/// A convolution as numbers.
pub(crate) struct Evaluated {
    pub(crate) form: Form,
    pub(crate) lhs: Placed,
    pub(crate) rhs: Placed,
    pub(crate) dst: Placed,
}

/// A view as numbers, in elements.
pub(crate) struct Placed {
    pub(crate) offset: isize,
    /// The extent and the stride of each axis.
    pub(crate) axes: Vec<(usize, isize)>,
}

/// The numbers of a convolution of a verified program.
///
/// # Errors
/// A symbol without a value, or a number out of range.
pub(crate) fn evaluate(
    convolution: &Convolution,
    dtype: ProductType,
    bindings: &Bindings,
) -> Result<Evaluated, BindError> {
    let c = convolution;
    let size = |dim: &Dim| dim.eval_size(bindings);
    let number = |dim: &Dim| {
        let value = dim.eval(bindings)?;
        isize::try_from(value).map_err(|_| BindError::OutOfRange { dim: dim.clone() })
    };
    let placed = |view: &View, extents: Vec<&Dim>| {
        let axes = extents.into_iter().zip(&view.strides);
        let axes = axes.map(|(extent, stride)| {
            let (extent, stride) = (size(extent)?, number(stride)?);
            // The stride of an axis of one element is never walked; 0 keeps it out of all arithmetic.
            Ok((extent, if extent == 1 { 0 } else { stride }))
        });
        Ok(Placed {
            offset: number(&view.offset)?,
            axes: axes.collect::<Result<_, BindError>>()?,
        })
    };
    let lhs = placed(&c.lhs, c.lhs_extents())?;
    let rhs = placed(&c.rhs, c.rhs_extents())?;
    let dst = placed(&c.dst, c.dst_extents())?;
    let axis = |axis: &WindowAxis| {
        Ok(Axis {
            input: size(&axis.input)?,
            window: size(&axis.window)?,
            output: size(&axis.output)?,
            stride: axis.stride,
            padding: number(&axis.padding)?,
            lhs_dilation: axis.lhs_dilation,
            rhs_dilation: axis.rhs_dilation,
        })
    };
    let mut axes = [Axis::ONE; 3];
    let missing = 3 - c.axes.len().min(3);
    for (to, from) in axes.iter_mut().skip(missing).zip(&c.axes) {
        *to = axis(from)?;
    }
    let image = |placed: &Placed| ImageStrides {
        batch: placed.stride(0),
        group: placed.stride(1),
        feature: placed.stride(2),
        spatial: placed.spatial(),
    };
    let form = Form {
        dtype,
        summation: c.summation,
        batch: size(&c.batch)?,
        groups: size(&c.groups)?,
        features_in: size(&c.features_in)?,
        features_out: size(&c.features_out)?,
        axes,
        lhs: image(&lhs),
        rhs: WindowStrides {
            group: rhs.stride(0),
            feature_in: rhs.stride(1),
            feature_out: rhs.stride(2),
            spatial: rhs.spatial(),
        },
        dst: image(&dst),
    };
    Ok(Evaluated {
        form,
        lhs,
        rhs,
        dst,
    })
}

impl Evaluated {
    /// How the convolution is computed; `None` where its numbers are too large for any memory.
    pub(crate) fn method(&self, threads: usize) -> Option<Method> {
        Method::new(self.form.clone(), threads)
    }
}

impl Placed {
    fn stride(&self, axis: usize) -> isize {
        self.axes.get(axis).map_or(0, |(_, stride)| *stride)
    }

    /// The strides of three spatial axes; those that are missing come first.
    fn spatial(&self) -> [isize; 3] {
        let mut strides = [0; 3];
        let own = self.axes.iter().skip(3);
        let missing = 3 - own.len().min(3);
        for (to, (_, from)) in strides.iter_mut().skip(missing).zip(own) {
            *to = *from;
        }
        strides
    }
}
