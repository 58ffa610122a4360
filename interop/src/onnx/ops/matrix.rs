//! Determinants.

use super::super::call::{Call, Results, one};
use super::super::error::Reason;
use super::super::value::iota;
use super::reduce::sum;
use super::{Operator, op};
use kiln_ir::{DType, Dim, ScanOptions, Shape, Yield};

pub(super) const OPERATORS: &[Operator] = &[op("Det", 11, determinant)];

/// Of square matrices, `[.., n, n]` to `[..]`, by elimination with pivots: the product of the pivots, negated for each swap of rows. (Golub
/// and Van Loan, "Matrix computations", 3.4.)
fn determinant<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let ty = c.ty(0)?;
    let (outer, n) = match ty.shape.as_ref() {
        [outer @ .., rows, columns] if rows == columns && ty.dtype.is_float() => (outer, rows),
        _ => return Err(Reason::new(format!("of {ty}, which is no square matrix"))),
    };
    let outer = Shape::from(outer);
    let batch = outer.elements();
    let flat = c.tensor(0)?.reshape([batch.clone(), n.clone(), n.clone()]);
    let ones = c.builder.splat(ty.dtype, [batch.clone()], 1.0);
    let options = ScanOptions {
        trip: Some(n.clone()),
        ..ScanOptions::default()
    };
    let each = Shape::from([batch.clone(), n.clone()]);
    let row = Shape::from([batch.clone(), Dim::from(1), n.clone()]);
    let column = Shape::from([batch.clone(), n.clone(), Dim::from(1)]);
    let single = Shape::from([batch.clone(), Dim::from(1)]);
    let scanned = c.builder.scan(&options, &[flat, ones], &[], |it| {
        let (a, det, k) = (it.carry(0), it.carry(1), it.number());
        let number = iota(it.builder(), &each, 1);
        // Row k, and the row at or below it whose element of column k is the largest, become each other.
        let current = number.eq(k).convert(ty.dtype);
        let entries = sum(a.times(current.reshape(&row)), &[2]);
        let candidates = entries.abs().where_(number.ge(k), -1.0);
        let chosen = candidates.argmax(1).convert(DType::I64);
        let chosen = chosen.reshape(&single);
        let best = number.eq(chosen).convert(ty.dtype);
        let top = sum(a.times(best.reshape(&column)), &[1]);
        let displaced = sum(a.times(current.reshape(&column)), &[1]);
        let pivot = sum(entries.times(best), &[1]);
        let moved = chosen.ne(k).reshape([batch.clone()]);
        let sign = det.neg().where_(moved, det);
        let taken = number.eq(chosen).reshape(&column);
        let whole = a.ty().map(|ty| ty.shape).unwrap_or_default();
        let displaced = displaced.reshape(&row).broadcast_to(&whole);
        let swapped = displaced.where_(taken.broadcast_to(&whole), a);
        // What is below loses its element of column k. Without a pivot there is nothing below either.
        let divisor = pivot.where_(pivot.ne(0.0), 1.0).reshape(&single);
        let below = sum(swapped.times(current.reshape(&row)), &[2]);
        let factor = below.over(divisor).where_(number.gt(k), 0.0);
        let next = swapped.minus(factor.reshape(&column).times(top.reshape(&row)));
        Yield::new(&[next, sign.times(pivot)], &[])
    });
    one(scanned.carries[1].reshape(outer))
}
