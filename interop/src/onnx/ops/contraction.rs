//! Products of matrices and tensors.

use super::super::call::{Call, Results, one};
use super::super::error::Reason;
use super::super::value::iota;
use super::elementwise::joined;
use super::reduce::sum;
use super::{Operator, op};
use kiln_ir::{DType, Dim, Shape, Tensor};

pub(super) const OPERATORS: &[Operator] = &[
    op("Einsum", 12, einsum),
    op("Gemm", 7, gemm),
    op("MatMul", 7, |c| one(matmul(c.tensor(0)?, c.tensor(1)?)?)),
    op("MatMulInteger", 10, matmul_integer),
];

/// NumPy's `matmul`: leading axes broadcast, and a vector is a row on the left and a column on the right.
pub(super) fn matmul<'g>(a: Tensor<'g>, b: Tensor<'g>) -> Result<Tensor<'g>, Reason> {
    let (Some(at), Some(bt)) = (a.ty(), b.ty()) else {
        return Ok(a.builder().poison());
    };
    let (ra, rb) = (at.rank(), bt.rank());
    if ra == 0 || rb == 0 {
        return Err(Reason::new(format!("of {at} and {bt}")));
    }
    if rb <= 2 {
        return Ok(a.dot(b));
    }
    if ra == 1 {
        // The row goes through as a matrix of one row.
        let row = a.reshape([Dim::from(1), at.shape[0].clone()]);
        let wide = matmul(row, b)?;
        let mut shape = bt.shape.to_vec();
        shape.remove(rb - 2);
        return Ok(wide.reshape(shape));
    }
    let (outer_a, inner_a) = at.shape.split_at(ra - 2);
    let (outer_b, inner_b) = bt.shape.split_at(rb - 2);
    let outer = joined(&outer_a.into(), &outer_b.into());
    let outer = outer.ok_or_else(|| Reason::new(format!("of {at} and {bt}")))?;
    let n = outer.len();
    let whole = |inner: &[Dim]| Shape::from([&outer[..], inner].concat());
    let (a, b) = (
        a.broadcast_to(whole(inner_a)),
        b.broadcast_to(whole(inner_b)),
    );
    let batch: Vec<usize> = (0..n).collect();
    Ok(a.dot_general(b, &[n + 1], &[n], &batch, &batch))
}

fn gemm<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (alpha, beta) = (c.float_or("alpha", 1.0)?, c.float_or("beta", 1.0)?);
    let contract = |turned: bool, plain: usize| vec![if turned { 1 - plain } else { plain }];
    let (a, b) = (c.tensor(0)?, c.tensor(1)?);
    let left = contract(c.flag("transA")?, 1);
    let right = contract(c.flag("transB")?, 0);
    let mut product = a.dot_general(b, &left, &right, &[], &[]);
    if alpha != 1.0 {
        product = product.times(alpha);
    }
    if let Some(bias) = c.optional(2)? {
        let bias = if beta == 1.0 { bias } else { bias.times(beta) };
        product = product.plus(bias);
    }
    one(product)
}

/// Integers of 8 bits, less their zero points, multiplied in i32. A zero point of the left side belongs to its rows.
fn matmul_integer<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let mut a = c.tensor(0)?.convert(DType::I32);
    let mut b = c.tensor(1)?.convert(DType::I32);
    if let Some(zero) = c.optional(2)? {
        let zero = zero.convert(DType::I32);
        let rows = c.shape(2)?;
        a = a.minus(match rows.as_ref() {
            [rows] => zero.reshape([rows.clone(), Dim::from(1)]),
            [] | [_, ..] => zero,
        });
    }
    if let Some(zero) = c.optional(3)? {
        b = b.minus(zero.convert(DType::I32));
    }
    one(matmul(a, b)?)
}

/// An operand with a label for each axis.
struct Labelled<'g> {
    tensor: Tensor<'g>,
    labels: Vec<char>,
}

/// Einstein's sums, operand after operand. An ellipsis stands for the same axes everywhere; a label twice in one operand takes a
/// diagonal.
fn einsum<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let equation: String = c.text("equation", "")?;
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_owned(), Some(right.to_owned())),
        None => (equation.clone(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    let tensors = c.tensors()?;
    if terms.len() != tensors.len() {
        return Err(Reason::new(format!(
            "`{equation}` for {} inputs",
            tensors.len()
        )));
    }
    let refuse = |what: &str| Reason::new(format!("`{equation}` {what}"));
    let mut operands = Vec::new();
    let mut ellipsis = 0;
    for (term, tensor) in terms.iter().zip(tensors) {
        let rank = tensor.ty().map_or(0, |ty| ty.rank());
        let named = term.replace("...", "").chars().count();
        let hidden = rank
            .checked_sub(named)
            .ok_or_else(|| refuse("has too many labels"))?;
        if !term.contains("...") && hidden > 0 {
            return Err(refuse("has too few labels"));
        }
        if term.contains("...") {
            if ellipsis != 0 && hidden != ellipsis {
                return Err(refuse("broadcasts over axes of an ellipsis"));
            }
            ellipsis = hidden;
        }
        let labels = spelled(term, hidden);
        operands.push(diagonal(Labelled { tensor, labels }).map_err(|what| refuse(&what))?);
    }
    let output = match right {
        Some(right) => spelled(&right, ellipsis),
        None => {
            let all: Vec<char> = operands.iter().flat_map(|o| o.labels.clone()).collect();
            let mut once: Vec<char> = all
                .iter()
                .copied()
                .filter(|l| l.is_ascii_alphabetic())
                .collect();
            once.retain(|l| all.iter().filter(|a| *a == l).count() == 1);
            once.sort_unstable();
            [spelled("...", ellipsis), once].concat()
        }
    };
    let mut rest = operands.into_iter();
    let mut acc = rest.next().ok_or_else(|| refuse("has no operands"))?;
    let mut rest: std::collections::VecDeque<Labelled<'g>> = rest.collect();
    while let Some(next) = rest.pop_front() {
        let later = |l: &char| output.contains(l) || rest.iter().any(|o| o.labels.contains(l));
        acc = pair(
            summed(acc, |l| later(l) || next.labels.contains(l)),
            next,
            later,
        );
    }
    acc = summed(acc, |l| output.contains(l));
    let order: Option<Vec<usize>> = output
        .iter()
        .map(|l| acc.labels.iter().position(|a| a == l))
        .collect();
    let order = order.filter(|o| o.len() == acc.labels.len());
    let order = order.ok_or_else(|| refuse("has an output label that no operand has, or twice"))?;
    one(acc.tensor.transpose(&order))
}

/// The diagonal over axes that share a label: the sum over the later one, of what lies off the diagonal replaced by 0.
fn diagonal(mut operand: Labelled<'_>) -> Result<Labelled<'_>, String> {
    let twice = |labels: &[char]| {
        let repeated = |(j, l): (usize, &char)| Some((labels[..j].iter().position(|m| m == l)?, j));
        labels.iter().enumerate().find_map(repeated)
    };
    while let Some((i, j)) = twice(&operand.labels) {
        let x = operand.tensor;
        let shape = x.ty().map(|ty| ty.shape).unwrap_or_default();
        if shape.get(i) != shape.get(j) {
            return Err(format!("takes a diagonal of {shape}"));
        }
        let on = iota(x.builder(), &shape, i).eq(iota(x.builder(), &shape, j));
        operand.tensor = sum(x.where_(on, 0.0), &[j]);
        operand.labels.remove(j);
    }
    Ok(operand)
}

/// The labels of a term; the axes of an ellipsis are digits of the private use area.
fn spelled(term: &str, hidden: usize) -> Vec<char> {
    let dots = (0..hidden as u32).filter_map(|i| char::from_u32(0xE000 + i));
    let dots: String = dots.collect();
    term.replacen("...", &dots, 1).chars().collect()
}

/// The operand, summed over labels that nobody needs.
fn summed<'g>(operand: Labelled<'g>, needed: impl Fn(&char) -> bool) -> Labelled<'g> {
    let numbered = operand.labels.iter().enumerate();
    let gone: Vec<usize> = numbered
        .filter(|(_, l)| !needed(l))
        .map(|(i, _)| i)
        .collect();
    if gone.is_empty() {
        return operand;
    }
    let labels = operand
        .labels
        .iter()
        .copied()
        .filter(|l| needed(l))
        .collect();
    Labelled {
        tensor: sum(operand.tensor, &gone),
        labels,
    }
}

/// The product of two operands: labels of both are batch axes where they are needed later, and contracted where not.
fn pair<'g>(a: Labelled<'g>, b: Labelled<'g>, later: impl Fn(&char) -> bool) -> Labelled<'g> {
    let b = {
        let needed = |l: &char| later(l) || a.labels.contains(l);
        summed(b, needed)
    };
    let both = |keep: bool| -> (Vec<usize>, Vec<usize>) {
        let numbered = a.labels.iter().enumerate();
        let pairs = numbered.filter_map(|(i, l)| {
            let j = b.labels.iter().position(|m| m == l)?;
            (later(l) == keep).then_some((i, j))
        });
        pairs.unzip()
    };
    let (batch, contract) = (both(true), both(false));
    let tensor = (a.tensor).dot_general(b.tensor, &contract.0, &contract.1, &batch.0, &batch.1);
    let mut labels: Vec<char> = batch.0.iter().map(|i| a.labels[*i]).collect();
    labels.extend(a.labels.iter().filter(|l| !b.labels.contains(l)));
    labels.extend(b.labels.iter().filter(|l| !a.labels.contains(l)));
    Labelled { tensor, labels }
}
