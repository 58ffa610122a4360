//! `kiln diff`: where two executions, or two graphs, differ for the first time.
//!
//! Executions are npz files, compared tensor by tensor in the order of names. Graphs are compared as their texts without the user's
//! places, which say all that is computed; a line of such a text is a node.

use crate::failure::Failure;
use crate::listed::listed;
use crate::source::{self, Reading};
use kiln_interop::{TensorRef, Tensors, npz};
use kiln_ir::{Array, Class, DType, Values};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Says where two executions (npz files) or two graphs differ for the first time.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  kiln diff compiled.npz interpreted.npz --tolerance 1e-5
  kiln diff before.kir after.json

The exit code is 0 where nothing differs and 1 where something does. NaN equals NaN, and -0 equals 0.")]
pub(crate) struct Arguments {
    /// An npz file or a graph.
    a: PathBuf,
    /// Another one.
    b: PathBuf,
    /// How far elements x and y of npz files may be apart: T * max(1, |x|, |y|).
    #[arg(long, value_name = "T", value_parser = tolerance)]
    tolerance: Option<f64>,
}

fn tolerance(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok();
    let number = number.filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "expected a number that is not negative, as in 1e-5".to_owned())
}

pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let Arguments { a, b, tolerance } = arguments;
    let is_npz = |path: &Path| path.extension().is_some_and(|extension| extension == "npz");
    let same = match (is_npz(a), is_npz(b), tolerance) {
        (true, true, tolerance) => executions(a, b, tolerance.unwrap_or(0.0), out)?,
        (false, false, None) => graphs(a, b, out)?,
        (false, false, Some(_)) => {
            let message = "`--tolerance` is for the numbers of npz files; graphs are equal or not";
            return Err(Failure::Usage(message.to_owned()));
        }
        (true, false, _) | (false, true, _) => {
            let message = "one file is npz and the other is not; give two executions or two graphs";
            return Err(Failure::Usage(message.to_owned()));
        }
    };
    if same { Ok(()) } else { Err(Failure::Differ) }
}

/// Compares graphs by the lines of their texts.
fn graphs(a: &Path, b: &Path, out: &mut dyn Write) -> Result<bool, Failure> {
    let read = |path| source::graph(path, &Reading::default());
    let (graph_a, mut graph_b) = (read(a)?, read(b)?);
    // Another name alone is told last, so that it hides nothing.
    let name = std::mem::replace(&mut graph_b.name, graph_a.name.clone());
    let (text_a, text_b) = (graph_a.to_string(), graph_b.to_string());
    let end = "(the end)";
    let (mut lines_a, mut lines_b) = (text_a.lines(), text_b.lines());
    for number in 1.. {
        let (line_a, line_b) = match (lines_a.next(), lines_b.next()) {
            (None, None) => break,
            (line_a, line_b) if line_a == line_b => continue,
            (line_a, line_b) => (line_a.unwrap_or(end), line_b.unwrap_or(end)),
        };
        writeln!(
            out,
            "the graphs differ first in line {number} of their texts:"
        )?;
        writeln!(out, "< {}: {}", a.display(), line_a.trim())?;
        writeln!(out, "> {}: {}", b.display(), line_b.trim())?;
        return Ok(false);
    }
    if name != graph_a.name {
        writeln!(
            out,
            "the graphs are the same but for their names, @{} and @{name}",
            graph_a.name
        )?;
        return Ok(false);
    }
    Ok(true)
}

/// Compares npz files tensor by tensor.
fn executions(a: &Path, b: &Path, tolerance: f64, out: &mut dyn Write) -> Result<bool, Failure> {
    let open = |path: &Path| {
        let opened = npz::open(path).and_then(|tensors| tensors.verify().map(|()| tensors));
        opened.map_err(|error| Failure::Wrong(error.to_string()))
    };
    let (a, b) = (open(a)?, open(b)?);
    let mut same = true;
    for (one, other) in [(&a, &b), (&b, &a)] {
        let lonely: Vec<String> = one
            .iter()
            .filter(|tensor| other.get(tensor.name()).is_none())
            .map(|tensor| format!("`{}`", tensor.name()))
            .collect();
        if !lonely.is_empty() {
            same = false;
            writeln!(
                out,
                "only in {}: {}",
                one.file(),
                listed(lonely.into_iter())
            )?;
        }
    }
    same &= elements(&a, &b, tolerance, out)?;
    Ok(same)
}

/// Compares the tensors that both files have.
fn elements(
    a: &Tensors,
    b: &Tensors,
    tolerance: f64,
    out: &mut dyn Write,
) -> Result<bool, Failure> {
    let mut first_told = false;
    let mut largest: Option<(f64, String)> = None;
    let (mut compared, mut apart) = (0usize, 0usize);
    for one in a.iter() {
        let Some(other) = b.get(one.name()) else {
            continue;
        };
        let name = one.name();
        compared += 1;
        if (one.dtype(), one.shape()) != (other.dtype(), other.shape()) {
            apart += 1;
            if !std::mem::replace(&mut first_told, true) {
                writeln!(
                    out,
                    "`{name}` is {}{:?} in {} and {}{:?} in {}",
                    one.dtype(),
                    one.shape(),
                    a.file(),
                    other.dtype(),
                    other.shape(),
                    b.file()
                )?;
            }
            continue;
        }
        let found = compare(&array(one)?, &array(other)?, tolerance);
        if let Some(distance) = found.largest
            && largest.as_ref().is_none_or(|(most, _)| distance > *most)
        {
            largest = Some((distance, name.to_owned()));
        }
        let Some(first) = found.first else { continue };
        apart += 1;
        if !std::mem::replace(&mut first_told, true) {
            writeln!(
                out,
                "`{name}` differs first at {:?}: {} in {} and {} in {}; {} of its {} elements differ",
                first.index,
                first.values.0,
                a.file(),
                first.values.1,
                b.file(),
                found.count,
                found.of
            )?;
        }
    }
    if let Some((distance, name)) = largest {
        writeln!(out, "the largest difference is {distance:e}, in `{name}`")?;
    }
    if apart > 0 {
        writeln!(out, "{apart} of {compared} tensors differ")?;
    }
    Ok(apart == 0)
}

fn array(tensor: TensorRef<'_>) -> Result<Array, Failure> {
    let array = tensor.to_array();
    array.map_err(|error| Failure::at(tensor.name(), error))
}

/// How two arrays of one type and shape differ.
struct Found {
    first: Option<First>,
    /// The elements that are further apart than allowed.
    count: usize,
    of: usize,
    /// The largest distance of two numbers, where any is above 0.
    largest: Option<f64>,
}

struct First {
    index: Vec<usize>,
    values: (String, String),
}

fn compare(a: &Array, b: &Array, tolerance: f64) -> Found {
    let of = a.shape().iter().product();
    let mut found = Found {
        first: None,
        count: 0,
        of,
        largest: None,
    };
    for i in 0..of {
        let Some((distance, scale)) = apart(a, b, i) else {
            continue;
        };
        // A NaN beside a number has no distance, and is never allowed.
        if !distance.is_nan() && found.largest.is_none_or(|most| distance > most) {
            found.largest = Some(distance);
        }
        if distance <= tolerance * scale {
            continue;
        }
        found.count += 1;
        if found.first.is_none() {
            found.first = Some(First {
                index: Array::unravel(i, a.shape()),
                values: (told(a, i), told(b, i)),
            });
        }
    }
    found
}

/// How far two elements are apart, and what the tolerance is multiplied by; `None` where they are equal.
fn apart(a: &Array, b: &Array, i: usize) -> Option<(f64, f64)> {
    let (x, y) = (a.as_f64(i)?, b.as_f64(i)?);
    let distance = match (a.values(), b.values()) {
        (Values::Float(_), _) | (_, Values::Float(_)) => {
            if x == y || x.is_nan() && y.is_nan() {
                return None;
            }
            (x - y).abs()
        }
        // Large integers are told apart that are one number in f64.
        (Values::Int(_), Values::Int(_)) => {
            let distance = integer(a, i)?.abs_diff(integer(b, i)?);
            if distance == 0 {
                return None;
            }
            distance as f64
        }
    };
    // An infinity is near to nothing, and infinite scales would allow everything.
    let scale = x.abs().max(y.abs()).max(1.0);
    Some((distance, if scale.is_finite() { scale } else { 0.0 }))
}

/// An integer by its value.
fn integer(array: &Array, i: usize) -> Option<i128> {
    let value = *array.ints().ok()?.get(i)?;
    Some(match array.dtype().class() {
        Class::Unsigned => i128::from(value.cast_unsigned()),
        Class::Signed | Class::Bool | Class::Float => i128::from(value),
    })
}

/// An element as a message shows it.
fn told(array: &Array, i: usize) -> String {
    match (array.dtype(), integer(array, i), array.as_f64(i)) {
        (DType::Bool, Some(value), _) => (value != 0).to_string(),
        (_, Some(value), _) => value.to_string(),
        // As short as the type can tell it from its neighbours.
        (DType::F32, None, Some(value)) => (value as f32).to_string(),
        (_, None, value) => value.unwrap_or(f64::NAN).to_string(),
    }
}
