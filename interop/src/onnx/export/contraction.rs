//! Products: `MatMul` where the axes lie as it wants them, else `Einsum`.

use super::attribute;
use super::body::{Body, Out, Value};
use super::elementwise::round_to;
use kiln_ir::TensorType;
use kiln_ir::ops::Dot;

/// An `Einsum` names axes by small letters.
const LETTERS: usize = 26;

pub(super) fn dot(body: &mut Body<'_>, op: &Dot, x: &Value, y: &Value, ty: &TensorType) -> Out {
    let wide = op.accumulate.unwrap_or(x.dtype());
    let (lhs, rhs) = (body.cast(x, wide), body.cast(y, wide));
    let product = match matrices(body, op, &lhs, &rhs) {
        Some((lhs, rhs)) => body.typed("MatMul", &[&lhs, &rhs], &[], Vec::new(), &ty.shape),
        None => {
            let equation = equation(op, lhs.rank(), rhs.rank())?;
            let attributes = vec![attribute::text("equation", &equation)];
            body.typed("Einsum", &[&lhs, &rhs], &[], attributes, &ty.shape)
        }
    };
    Ok(round_to(body, &product, x.dtype()))
}

fn free(rank: usize, contract: &[usize], batch: &[usize]) -> Vec<usize> {
    let axes = 0..rank;
    axes.filter(|a| !contract.contains(a) && !batch.contains(a))
        .collect()
}

/// The sides with their axes as `MatMul` takes them: batch axes, one free axis, one contracted axis, and the last two the other way round on
/// the right. Without batch axes the left side may have any number of free ones. `None` where that is not what the product is.
fn matrices(body: &mut Body<'_>, op: &Dot, x: &Value, y: &Value) -> Option<(Value, Value)> {
    let ([l], [r]) = (op.contract.0.as_slice(), op.contract.1.as_slice()) else {
        return None;
    };
    let left = free(x.rank(), &op.contract.0, &op.batch.0);
    let right = free(y.rank(), &op.contract.1, &op.batch.1);
    let fits = match op.batch.0.len() {
        0 => right.len() == 1 || right.is_empty() && !left.is_empty(),
        _ => left.len() == 1 && right.len() == 1,
    };
    if !fits {
        return None;
    }
    let order = |batch: &[usize], rest: &[&[usize]]| -> Vec<usize> {
        batch
            .iter()
            .chain(rest.iter().copied().flatten())
            .copied()
            .collect()
    };
    let lhs = body.transpose(x, &order(&op.batch.0, &[&left, &[*l]]));
    let rhs = body.transpose(y, &order(&op.batch.1, &[&[*r], &right]));
    Some((lhs, rhs))
}

/// The product in Einstein's notation.
fn equation(op: &Dot, lhs: usize, rhs: usize) -> Out<String> {
    let letter = |i: usize| char::from(b'a' + i as u8);
    let mut right: Vec<Option<char>> = vec![None; rhs];
    let mut count = 0;
    let mut left: Vec<char> = Vec::with_capacity(lhs);
    if lhs + rhs > LETTERS {
        return Err(format!(
            "a product of {lhs} and {rhs} axes has more than {LETTERS}"
        ));
    }
    for axis in 0..lhs {
        let name = letter(count);
        count += 1;
        left.push(name);
        for (own, theirs) in [&op.contract, &op.batch] {
            if let Some(pair) = own.iter().position(|a| *a == axis) {
                right[theirs[pair]] = Some(name);
            }
        }
    }
    let right: Vec<char> = right
        .into_iter()
        .map(|name| {
            name.unwrap_or_else(|| {
                count += 1;
                letter(count - 1)
            })
        })
        .collect();
    let kept = op.batch.0.iter().map(|a| left[*a]);
    let left_free = free(lhs, &op.contract.0, &op.batch.0);
    let right_free = free(rhs, &op.contract.1, &op.batch.1);
    let result: String = kept
        .chain(left_free.iter().map(|a| left[*a]))
        .chain(right_free.iter().map(|a| right[*a]))
        .collect();
    let (left, right): (String, String) = (left.iter().collect(), right.iter().collect());
    Ok(format!("{left},{right}->{result}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_name_each_axis() {
        let dot = |contract: [&[usize]; 2], batch: [&[usize]; 2]| Dot {
            contract: (contract[0].to_vec(), contract[1].to_vec()),
            batch: (batch[0].to_vec(), batch[1].to_vec()),
            accumulate: None,
        };
        let two = dot([&[2, 0], &[0, 2]], [&[], &[]]);
        assert_eq!(equation(&two, 3, 3).as_deref(), Ok("abc,cda->bd"));
        let batch = dot([&[], &[]], [&[0, 1], &[1, 0]]);
        assert_eq!(equation(&batch, 2, 2).as_deref(), Ok("ab,ba->ab"));
        let outer = dot([&[], &[]], [&[], &[]]);
        assert_eq!(equation(&outer, 1, 2).as_deref(), Ok("a,bc->abc"));
    }
}
