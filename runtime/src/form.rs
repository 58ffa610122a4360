//! A product of a program under a binding: symbolic extents, offsets and strides as numbers.
//!
//! The layout asks for it to know how much scratch a product needs, the plan to check and resolve it. Nothing is checked here but that
//! numbers have values; whether matrices stay inside their buffers is the plan's business.

pub(crate) mod convolution;

use crate::product::{Form, Method, ProductSummation, ProductType, Strides};
use kiln_ir::program::{Matrix, Product};
use kiln_ir::{BindError, Bindings, Dim};

/// A product as numbers.
pub(crate) struct Evaluated {
    /// The extents of the batch axes, outermost first.
    pub(crate) batch: Vec<usize>,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) summation: ProductSummation,
    pub(crate) lhs: View,
    pub(crate) rhs: View,
    pub(crate) dst: View,
}

/// A batch of matrices in a buffer, in elements.
pub(crate) struct View {
    pub(crate) offset: isize,
    /// Batch axes, rows, columns.
    pub(crate) strides: Vec<isize>,
}

/// The numbers of a product.
///
/// # Errors
/// A symbol without a value, or a number out of range.
pub(crate) fn evaluate(product: &Product, bindings: &Bindings) -> Result<Evaluated, BindError> {
    let size = |dim: &Dim| dim.eval_size(bindings);
    let batch: Vec<usize> = product.batch.iter().map(size).collect::<Result<_, _>>()?;
    let (m, n, k) = (size(&product.m)?, size(&product.n)?, size(&product.k)?);
    let matrix = |matrix: &Matrix, rows, cols| {
        let extents = batch.iter().copied().chain([rows, cols]);
        view(matrix, extents, bindings)
    };
    Ok(Evaluated {
        m,
        n,
        k,
        lhs: matrix(&product.lhs, m, k)?,
        rhs: matrix(&product.rhs, k, n)?,
        dst: matrix(&product.dst, m, n)?,
        batch,
        summation: product.summation,
    })
}

/// The offset and strides of a matrix of these extents.
fn view(
    matrix: &Matrix,
    extents: impl Iterator<Item = usize>,
    bindings: &Bindings,
) -> Result<View, BindError> {
    let number = |dim: &Dim| {
        let value = dim.eval(bindings)?;
        isize::try_from(value).map_err(|_| BindError::OutOfRange { dim: dim.clone() })
    };
    let strides = matrix
        .batch_strides
        .iter()
        .chain([&matrix.row_stride, &matrix.column_stride]);
    // The stride of an axis of one element is never walked; 0 keeps it out of all arithmetic.
    let walked = strides.zip(extents).map(|(stride, extent)| {
        let stride = number(stride)?;
        Ok(if extent == 1 { 0 } else { stride })
    });
    Ok(View {
        offset: number(&matrix.offset)?,
        strides: walked.collect::<Result<_, BindError>>()?,
    })
}

impl Evaluated {
    /// The number of matrices; `None` where it is too large to count.
    pub(crate) fn matrices(&self) -> Option<usize> {
        let mut extents = self.batch.iter();
        extents.try_fold(1usize, |n, extent| n.checked_mul(*extent))
    }

    /// How the product is computed; `None` where its numbers are too large for any memory.
    pub(crate) fn method(&self, dtype: ProductType, threads: usize) -> Option<Method> {
        let form = Form {
            dtype,
            summation: self.summation,
            m: self.m,
            n: self.n,
            k: self.k,
            dst: self.dst.matrix(),
            lhs: self.lhs.matrix(),
            rhs: self.rhs.matrix(),
        };
        Method::new(form, self.matrices()?, threads)
    }
}

impl View {
    /// The strides within a matrix.
    fn matrix(&self) -> Strides {
        match *self.strides {
            [.., row, col] => Strides { row, col },
            // A view is made with both.
            [] | [_] => Strides { row: 0, col: 0 },
        }
    }
}
