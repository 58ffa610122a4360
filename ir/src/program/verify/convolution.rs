//! The rules of convolutions: [`Rule::Convolution`], and [`Rule::Epilogue`] of theirs.

use super::super::{Convolution, Program};
use super::{Errors, Rule, launch, missing};
use crate::dim::Dim;

pub(super) fn convolution(program: &Program, c: &Convolution, place: &str, errors: &mut Errors) {
    let rank = c.axes.len();
    if !(1..=3).contains(&rank) {
        let message = format!("{rank} spatial axes, and not one to three");
        errors.add(Rule::Convolution, place, message);
    }
    for (index, axis) in c.axes.iter().enumerate() {
        let steps = [
            ("stride", axis.stride),
            ("lhs dilation", axis.lhs_dilation),
            ("rhs dilation", axis.rhs_dilation),
        ];
        for (name, step) in steps {
            if step == 0 {
                let message = format!("the {name} of axis {index} is 0");
                errors.add(Rule::Convolution, place, message);
            }
        }
    }
    for (role, view) in [("lhs", &c.lhs), ("rhs", &c.rhs), ("dst", &c.dst)] {
        let Some(buffer) = program.buffer(view.buffer) else {
            missing(view.buffer, place, errors);
            continue;
        };
        if buffer.dtype != c.dtype {
            let message = format!(
                "{role} {} is {}, but the convolution is {}",
                view.buffer, buffer.dtype, c.dtype
            );
            errors.add(Rule::Convolution, place, message);
        }
        if view.strides.len() != rank + 3 {
            let message = format!(
                "{role} has {} strides for {} axes",
                view.strides.len(),
                rank + 3
            );
            errors.add(Rule::Convolution, place, message);
        }
    }
    let operands = [c.lhs.buffer, c.rhs.buffer];
    if operands.contains(&c.dst.buffer) {
        let message = format!("dst {} is an operand too", c.dst.buffer);
        errors.add(Rule::Convolution, place, message);
    }
    let extents = c.dst_extents();
    if extents.len() != c.dst.strides.len() {
        // Said above.
        return;
    }
    let axes: Vec<(&Dim, &Dim)> = extents.into_iter().zip(&c.dst.strides).collect();
    if !is_dense(&axes, &Dim::from(1)) {
        let message = format!("dst {} has gaps, or elements that overlap", c.dst);
        errors.add(Rule::Convolution, place, message);
    }
    let Some(epilogue) = &c.epilogue else {
        return;
    };
    let place = format!("epilogue of {place}");
    launch(program, epilogue, &place, errors);
    let rows = c.rows();
    if epilogue.total != rows {
        let message = format!("it counts {} of {rows} rows", epilogue.total);
        errors.add(Rule::Epilogue, &place, message);
    }
    if epilogue.grain > 1 {
        let message = format!("its grain is {}, but rows end anywhere", epilogue.grain);
        errors.add(Rule::Epilogue, &place, message);
    }
    // What lies between the rows, and that they are in one of two orders.
    let row = &c.groups * &c.features_out;
    let inside = [axes[2], axes[1]];
    let spatial = &axes[3..];
    let image = spatial
        .iter()
        .fold(Dim::from(1), |n, (extent, _)| &n * extent);
    let images_outside = row_major(spatial, &row) && row_major(&axes[..1], &(&row * &image));
    let images_inside = row_major(&axes[..1], &row) && row_major(spatial, &(&row * &c.batch));
    let (features, groups) = (&inside[..1], &inside[1..]);
    let whole = row_major(features, &Dim::from(1)) && row_major(groups, &c.features_out);
    if !whole || !(images_outside || images_inside) {
        let message = format!(
            "its rows are not all features of a position, in the order [batch, output..] or [output.., batch]: dst {}",
            c.dst
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

/// Whether axes `(extent, stride)` fill memory from steps of `unit` on without gaps, in whichever order.
fn is_dense(axes: &[(&Dim, &Dim)], unit: &Dim) -> bool {
    let counts = |(extent, _): &(&Dim, &Dim)| extent.constant() != Some(1);
    let mut left: Vec<(&Dim, &Dim)> = axes.iter().copied().filter(counts).collect();
    let mut expected = unit.clone();
    while !left.is_empty() {
        let Some(next) = left.iter().position(|(_, stride)| **stride == expected) else {
            return false;
        };
        let (extent, _) = left.remove(next);
        expected = &expected * extent;
    }
    true
}

/// Whether axes `(extent, stride)` are row-major from steps of `unit` on; the stride of an axis of extent 1 does not matter.
fn row_major(axes: &[(&Dim, &Dim)], unit: &Dim) -> bool {
    let mut expected = unit.clone();
    for (extent, stride) in axes.iter().rev() {
        if extent.constant() != Some(1) && **stride != expected {
            return false;
        }
        expected = &expected * *extent;
    }
    true
}
