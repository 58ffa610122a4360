//! TfIdfVectorizer: how often n-grams of a pool stand in rows of integers.

use super::super::call::{Call, Results, one};
use super::super::elements::Elements;
use super::super::error::Reason;
use super::super::value::constant;
use super::reduce::sum;
use super::{Operator, op};
use kiln_ir::{DType, Dim, Tensor};

pub(super) const OPERATORS: &[Operator] = &[op("TfIdfVectorizer", 9, vectorize)];

/// No model looks for more n-grams times distances.
const MOST_SEARCHES: usize = 1 << 14;

/// An n-gram of the pool, and the column of the result where it is counted.
struct Gram {
    numbers: Vec<i64>,
    column: usize,
}

fn vectorize<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let (batch, count) = match own.as_ref() {
        [count] => (None, count),
        [batch, count] => (Some(batch.clone()), count),
        _ => {
            return Err(Reason::new(format!(
                "of {own}, which is no row and no rows"
            )));
        }
    };
    if c.attribute("pool_strings").is_some() || !c.ty(0)?.dtype.is_integer() {
        return Err(Reason::new("of strings, which Kiln does not have"));
    }
    let length = count.constant();
    let length =
        length.ok_or_else(|| Reason::new(format!("a symbolic number {count} of items")))?;
    let (grams, places) = pool(c)?;
    let columns = places.iter().max().map_or(0, |most| most + 1);
    let skips = usize::try_from(c.int_or("max_skip_count", 0)?).unwrap_or(usize::MAX);
    if grams.len().saturating_mul(skips.saturating_add(1)) > MOST_SEARCHES {
        return Err(Reason::new(format!(
            "{} n-grams at {skips} distances",
            grams.len()
        )));
    }
    let rows = batch.clone().unwrap_or(Dim::from(1));
    let x = c
        .tensor(0)?
        .convert(DType::I64)
        .reshape([rows.clone(), count.clone()]);
    let mut sums: Vec<Option<Tensor<'g>>> = vec![None; columns];
    for gram in &grams {
        // A single number has no distances.
        let steps = if gram.numbers.len() == 1 {
            1
        } else {
            skips + 1
        };
        for step in 1..=steps as i64 {
            let starts =
                length.saturating_sub((gram.numbers.len() as i64 - 1).saturating_mul(step));
            if starts < 1 {
                break;
            }
            let here = gram.numbers.iter().enumerate().map(|(i, number)| {
                let from = i as i64 * step;
                let wanted = Elements::of_i64(vec![], &[*number]);
                x.slice_axis(1, from, from + starts)
                    .eq(constant(c.builder, &wanted))
            });
            if let (Some(here), Some(total)) = (here.reduce(Tensor::and), sums.get_mut(gram.column))
            {
                let found = sum(here.convert(DType::F32), &[1]);
                *total = Some(total.map_or(found, |total| total.plus(found)));
            }
        }
    }
    let none = c.builder.splat(DType::F32, [rows.clone()], 0.0);
    let parts = sums
        .into_iter()
        .map(|s| s.unwrap_or(none).reshape([rows.clone(), Dim::from(1)]));
    let parts: Vec<Tensor<'g>> = parts.collect();
    let counts = c.builder.concat(&parts, 1);
    let weights = match c.float_list("weights")? {
        Some(given) => {
            let by_column = by_column(&given, &places, columns)?;
            let data = Elements::of_f32(vec![columns], &by_column);
            Some(constant(c.builder, &data))
        }
        None => None,
    };
    let weighted = |x: Tensor<'g>| weights.map_or(x, |w| x.times(w));
    let result = match c.text("mode", "")?.as_str() {
        "TF" => counts,
        "IDF" => weighted(counts.gt(0.0).convert(DType::F32)),
        "TFIDF" => weighted(counts),
        other => return Err(Reason::new(format!("mode = `{other}`"))),
    };
    let shape = batch.into_iter().chain([Dim::from(columns)]);
    one(result.reshape(shape.collect::<Vec<Dim>>()))
}

/// The weight of each column: `weights` has one for each n-gram of the pool, in its order.
fn by_column(weights: &[f64], places: &[usize], columns: usize) -> Result<Vec<f32>, Reason> {
    let mut all: Vec<Option<f32>> = vec![None; columns];
    let fits = weights.len() == places.len()
        && places.iter().zip(weights).all(|(place, weight)| {
            let free = all.get_mut(*place).filter(|w| w.is_none());
            free.is_some_and(|w| w.replace(*weight as f32).is_none())
        });
    if !fits {
        let what = format!(
            "{} weights of {} n-grams, or n-grams that share one",
            weights.len(),
            places.len()
        );
        return Err(Reason::new(what));
    }
    Ok(all.into_iter().map(|w| w.unwrap_or(0.0)).collect())
}

/// The n-grams of the lengths that are asked for, and the columns of all. `ngram_counts` says where in the pool those of each
/// length begin.
fn pool(c: &Call<'_, '_>) -> Result<(Vec<Gram>, Vec<usize>), Reason> {
    let list = |name: &'static str| c.int_list(name).map(Option::unwrap_or_default);
    let (numbers, begins, indexes) = (
        list("pool_int64s")?,
        list("ngram_counts")?,
        list("ngram_indexes")?,
    );
    let (least, most) = (
        c.int_or("min_gram_length", 1)?,
        c.int_or("max_gram_length", 1)?,
    );
    let wrong =
        || Reason::new("its pool, `ngram_counts` and `ngram_indexes` do not fit each other");
    let mut grams = Vec::new();
    let mut columns = indexes.iter();
    let mut places = Vec::with_capacity(indexes.len());
    for (i, begin) in begins.iter().enumerate() {
        let end = begins.get(i + 1).copied().unwrap_or(numbers.len() as i64);
        let range = usize::try_from(*begin).ok().zip(usize::try_from(end).ok());
        let part = range
            .and_then(|(from, to)| numbers.get(from..to))
            .ok_or_else(wrong)?;
        for gram in part.chunks(i + 1) {
            let column = columns.next().and_then(|n| usize::try_from(*n).ok());
            let column = column.filter(|n| *n < MOST_SEARCHES).ok_or_else(wrong)?;
            places.push(column);
            if (least..=most).contains(&(i as i64 + 1)) {
                grams.push(Gram {
                    numbers: gram.to_vec(),
                    column,
                });
            }
        }
    }
    if columns.next().is_some() || indexes.is_empty() {
        return Err(wrong());
    }
    Ok((grams, places))
}
