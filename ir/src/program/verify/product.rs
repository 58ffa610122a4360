//! The rules of products: [`Rule::Product`], and [`Rule::Epilogue`] of theirs.

use super::super::{Matrix, Product, ProductSummation, Program};
use super::{Errors, Rule, launch, missing};
use crate::dim::Dim;
use crate::dtype::DType;

pub(super) fn product(program: &Program, product: &Product, place: &str, errors: &mut Errors) {
    let matrices = [
        ("lhs", &product.lhs),
        ("rhs", &product.rhs),
        ("dst", &product.dst),
    ];
    for (role, matrix) in matrices {
        let Some(buffer) = program.buffer(matrix.buffer) else {
            missing(matrix.buffer, place, errors);
            continue;
        };
        if buffer.dtype != product.dtype {
            let message = format!(
                "{role} {} is {}, but the product is {}",
                matrix.buffer, buffer.dtype, product.dtype
            );
            errors.add(Rule::Product, place, message);
        }
        if matrix.batch_strides.len() != product.batch.len() {
            let message = format!(
                "{role} has {} batch strides for {} batch axes",
                matrix.batch_strides.len(),
                product.batch.len()
            );
            errors.add(Rule::Product, place, message);
        }
    }
    let operands = [product.lhs.buffer, product.rhs.buffer];
    if operands.contains(&product.dst.buffer) {
        let message = format!("dst {} is an operand too", product.dst.buffer);
        errors.add(Rule::Product, place, message);
    }
    if !is_row_major(&product.dst, product) {
        let message = format!("dst {} is not row-major without gaps", product.dst);
        errors.add(Rule::Product, place, message);
    }
    let in_itself =
        product.accumulate == product.dtype && matches!(product.dtype, DType::F32 | DType::F64);
    let vector = [&product.m, &product.n]
        .iter()
        .any(|extent| extent.constant() == Some(1));
    if product.summation == ProductSummation::Lanes && !(in_itself && vector) {
        let message = format!(
            "partial sums are for f32 or f64, summed in itself, with one row or one column, but it is {}[{}, {}] summed in {}",
            product.dtype, product.m, product.n, product.accumulate
        );
        errors.add(Rule::Product, place, message);
    }
    let single = product.dtype == DType::F32 && product.accumulate == DType::F32;
    if product.summation == ProductSummation::Split && !single {
        let message = format!(
            "products of parts are for f32, summed in itself, but it is {} summed in {}",
            product.dtype, product.accumulate
        );
        errors.add(Rule::Product, place, message);
    }
    let Some(epilogue) = &product.epilogue else {
        return;
    };
    let place = format!("epilogue of {place}");
    launch(program, epilogue, &place, errors);
    let rows = product.batch.iter().fold(product.m.clone(), |n, d| &n * d);
    if epilogue.total != rows {
        let message = format!("it counts {} of {rows} rows", epilogue.total);
        errors.add(Rule::Epilogue, &place, message);
    }
    if epilogue.grain > 1 {
        let message = format!(
            "its grain is {}, but panels begin at any row",
            epilogue.grain
        );
        errors.add(Rule::Epilogue, &place, message);
    }
    for (id, access) in epilogue.accesses() {
        if access.writes() && operands.contains(&id) {
            let message = format!("it writes {}, an operand", program.describe(id));
            errors.add(Rule::Epilogue, &place, message);
        }
    }
}

/// Whether the strides of a result are those of `[batch.., m, n]`; the stride of an axis of extent 1 does not matter.
fn is_row_major(dst: &Matrix, product: &Product) -> bool {
    let extents = product.batch.iter().chain([&product.m, &product.n]);
    let strides = dst
        .batch_strides
        .iter()
        .chain([&dst.row_stride, &dst.column_stride]);
    let axes: Vec<(&Dim, &Dim)> = extents.zip(strides).collect();
    let mut expected = Dim::from(1);
    for (extent, stride) in axes.into_iter().rev() {
        if extent.constant() != Some(1) && *stride != expected {
            return false;
        }
        expected = &expected * extent;
    }
    true
}
