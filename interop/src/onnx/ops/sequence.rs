//! Recurrent layers: RNN, GRU and LSTM, as scans over time.

use super::super::call::{Call, Results};
use super::super::error::Reason;
use super::super::value::Value;
use super::elementwise::{below_zero, hard, softplus};
use super::{Operator, op};
use kiln_ir::{DType, Dim, ScanOptions, Tensor, Yield};

pub(super) const OPERATORS: &[Operator] = &[
    op("GRU", 7, |c| recurrent(c, Cell::Gru)),
    op("LSTM", 7, |c| recurrent(c, Cell::Lstm)),
    op("RNN", 7, |c| recurrent(c, Cell::Rnn)),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Rnn,
    Gru,
    Lstm,
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru => 3,
            Cell::Lstm => 4,
        }
    }

    fn activations(self) -> &'static [&'static str] {
        match self {
            Cell::Rnn => &["Tanh"],
            Cell::Gru => &["Sigmoid", "Tanh"],
            Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// What all directions share.
struct Layer<'g> {
    cell: Cell,
    /// `[time, batch, input]`.
    x: Tensor<'g>,
    /// `[batch, 1]`, i64.
    lengths: Option<Tensor<'g>>,
    batch: Dim,
    hidden: Dim,
    dtype: DType,
    clip: Option<f64>,
    linear_before_reset: bool,
    input_forget: bool,
}

/// The tensors of one direction.
struct Direction<'g> {
    reverse: bool,
    activations: Vec<Activation>,
    weight: Tensor<'g>,
    recurrence: Tensor<'g>,
    /// Of the input and of the recurrence, `[gates * hidden]` each.
    bias: Option<(Tensor<'g>, Tensor<'g>)>,
    hidden: Tensor<'g>,
    cell: Tensor<'g>,
    /// Weights of the cell in the gates: input, output, forget.
    peepholes: Option<[Tensor<'g>; 3]>,
}

fn recurrent<'g>(c: &Call<'_, 'g>, cell: Cell) -> Results<'g> {
    let batch_first = c.flag("layout")?;
    let direction = c.text("direction", "forward")?;
    let reversed: &[bool] = match direction.as_str() {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => return Err(Reason::new(format!("direction = `{other}`"))),
    };
    let recurrence = c.shape(2)?;
    let [directions, gates, hidden] = recurrence.as_ref() else {
        return Err(Reason::new(format!("a recurrence of shape {recurrence}")));
    };
    let fits = directions.constant() == Some(reversed.len() as i64)
        && *gates == hidden * &Dim::from(cell.gates());
    if !fits || c.ty(0)?.rank() != 3 {
        return Err(Reason::new(format!(
            "{} with a recurrence of shape {recurrence}",
            c.ty(0)?
        )));
    }
    c.attribute("hidden_size");
    let swap = |x: Tensor<'g>| {
        if batch_first {
            x.transpose(&[1, 0, 2])
        } else {
            x
        }
    };
    let x = swap(c.tensor(0)?);
    let shape = x.ty().map(|ty| ty.shape).unwrap_or_default();
    let batch = shape.get(1).cloned().unwrap_or(Dim::from(1));
    let lengths = c
        .optional(4)?
        .map(|l| l.convert(DType::I64).reshape([batch.clone(), Dim::from(1)]));
    let layer = Layer {
        cell,
        x,
        lengths,
        batch: batch.clone(),
        hidden: hidden.clone(),
        dtype: c.ty(0)?.dtype,
        clip: c.float("clip")?,
        linear_before_reset: c.flag("linear_before_reset")?,
        input_forget: c.flag("input_forget")?,
    };
    let names = c.texts("activations")?;
    let defaults = cell.activations();
    let names = names.unwrap_or_else(|| {
        let all = reversed.iter().flat_map(|_| defaults.iter());
        all.map(|a| (*a).to_owned()).collect()
    });
    if names.len() != reversed.len() * defaults.len() {
        return Err(Reason::new(format!("the activations {names:?}")));
    }
    let activations = activations(c, &names)?;
    let (mut all, mut last, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    for (number, reverse) in reversed.iter().copied().enumerate() {
        let activations = activations[number * defaults.len()..][..defaults.len()].to_vec();
        let one = read(c, &layer, number, reverse, activations, batch_first)?;
        let (ys, h, s) = run(c, &layer, &one);
        // With an axis for the direction.
        let mut dims = ys.ty().map(|ty| ty.shape.to_vec()).unwrap_or_default();
        dims.insert(1.min(dims.len()), Dim::from(1));
        all.push(ys.reshape(dims));
        let single = [Dim::from(1), batch.clone(), hidden.clone()];
        last.push(h.reshape(single.clone()));
        cells.push(s.reshape(single));
    }
    let ys = c.builder.concat(&all, 1);
    let ys = if batch_first {
        ys.transpose(&[2, 0, 1, 3])
    } else {
        ys
    };
    let join = |parts: &[Tensor<'g>]| Value::Tensor(swap(c.builder.concat(parts, 0)));
    Ok(match cell {
        Cell::Rnn | Cell::Gru => vec![ys.into(), join(&last)],
        Cell::Lstm => vec![ys.into(), join(&last), join(&cells)],
    })
}

/// The tensors of direction `number`.
fn read<'g>(
    c: &Call<'_, 'g>,
    layer: &Layer<'g>,
    number: usize,
    reverse: bool,
    activations: Vec<Activation>,
    batch_first: bool,
) -> Result<Direction<'g>, Reason> {
    let of = |x: Tensor<'g>, axis: usize| {
        let part = x.slice_axis(axis, number, number + 1);
        let mut dims = part.ty().map(|ty| ty.shape.to_vec()).unwrap_or_default();
        if axis < dims.len() {
            dims.remove(axis);
        }
        part.reshape(dims)
    };
    let part = |position: usize| Ok::<_, Reason>(c.optional(position)?.map(|x| of(x, 0)));
    let missing = || Reason::new("it has no weights");
    let gates = &layer.hidden * &Dim::from(layer.cell.gates());
    let zero = Dim::from(0);
    let bias = part(3)?.map(|b| {
        let twice = &gates + &gates;
        (
            b.slice_axis(0, &zero, &gates),
            b.slice_axis(0, &gates, &twice),
        )
    });
    let start = |position: usize| {
        let zeros = || {
            let shape = [layer.batch.clone(), layer.hidden.clone()];
            c.builder.splat(layer.dtype, shape, 0.0)
        };
        let axis = usize::from(batch_first);
        Ok::<_, Reason>(c.optional(position)?.map_or_else(zeros, |x| of(x, axis)))
    };
    let lstm = layer.cell == Cell::Lstm;
    let peepholes = if lstm { part(7)? } else { None };
    let third = |x: Tensor<'g>, i: usize| {
        let at = |i: usize| &layer.hidden * &Dim::from(i);
        x.slice_axis(0, at(i), at(i + 1))
    };
    Ok(Direction {
        reverse,
        activations,
        weight: part(1)?.ok_or_else(missing)?,
        recurrence: part(2)?.ok_or_else(missing)?,
        bias,
        hidden: start(5)?,
        cell: if lstm { start(6)? } else { start(usize::MAX)? },
        peepholes: peepholes.map(|p| [third(p, 0), third(p, 1), third(p, 2)]),
    })
}

/// A function of a gate, with its parameters.
#[derive(Clone, Copy)]
enum Activation {
    /// `alpha x + beta`.
    Affine(f64, f64),
    /// `x`, and `alpha (e^x - 1)` below 0.
    Elu(f64),
    /// `alpha x + beta`, cut to 0 to 1.
    HardSigmoid(f64, f64),
    /// `x`, and `alpha x` below 0.
    LeakyRelu(f64),
    Relu,
    /// `alpha tanh(beta x)`.
    ScaledTanh(f64, f64),
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    /// `x` above `alpha`, else 0.
    ThresholdedRelu(f64),
}

/// The functions of these names. Each takes the next of the numbers in `activation_alpha` and `activation_beta` if it has such a parameter,
/// and its default behind their end.
fn activations(c: &Call<'_, '_>, names: &[String]) -> Result<Vec<Activation>, Reason> {
    let list = |name: &'static str| c.float_list(name).map(Option::unwrap_or_default);
    let mut alphas = list("activation_alpha")?.into_iter();
    let mut betas = list("activation_beta")?.into_iter();
    let mut alpha = |default: f64| alphas.next().unwrap_or(default);
    let mut beta = |default: f64| betas.next().unwrap_or(default);
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        all.push(match name.to_ascii_lowercase().as_str() {
            "affine" => Activation::Affine(alpha(1.0), beta(0.0)),
            "elu" => Activation::Elu(alpha(1.0)),
            "hardsigmoid" => Activation::HardSigmoid(alpha(0.2), beta(0.5)),
            "leakyrelu" => Activation::LeakyRelu(alpha(0.01)),
            "relu" => Activation::Relu,
            "scaledtanh" => Activation::ScaledTanh(alpha(1.0), beta(1.0)),
            "sigmoid" => Activation::Sigmoid,
            "softplus" => Activation::Softplus,
            "softsign" => Activation::Softsign,
            "tanh" => Activation::Tanh,
            "thresholdedrelu" => Activation::ThresholdedRelu(alpha(1.0)),
            _ => return Err(Reason::new(format!("the activation {name}"))),
        });
    }
    Ok(all)
}

impl Activation {
    fn of(self, x: Tensor<'_>) -> Tensor<'_> {
        match self {
            Activation::Affine(alpha, beta) => x.times(alpha).plus(beta),
            Activation::Elu(alpha) => below_zero(x, |n| n.expm1().times(alpha)),
            Activation::HardSigmoid(alpha, beta) => hard(x, alpha, beta),
            Activation::LeakyRelu(alpha) => below_zero(x, |n| n.times(alpha)),
            Activation::Relu => x.maximum(0.0),
            Activation::ScaledTanh(alpha, beta) => x.times(beta).tanh().times(alpha),
            Activation::Sigmoid => x.logistic(),
            Activation::Softplus => softplus(x),
            Activation::Softsign => x.over(x.abs().plus(1.0)),
            Activation::Tanh => x.tanh(),
            Activation::ThresholdedRelu(alpha) => x.where_(x.gt(alpha), 0.0),
        }
    }
}

/// All outputs `[time, batch, hidden]`, and the last hidden and cell state.
fn run<'g>(
    c: &Call<'_, 'g>,
    layer: &Layer<'g>,
    d: &Direction<'g>,
) -> (Tensor<'g>, Tensor<'g>, Tensor<'g>) {
    // What does not depend on the state is one product for all times.
    let mut given = layer.x.dot(d.weight.transpose(&[1, 0]));
    if let Some((input, _)) = d.bias {
        given = given.plus(input);
    }
    let options = ScanOptions {
        reverse: d.reverse,
        ..ScanOptions::default()
    };
    let scanned = c
        .builder
        .scan(&options, &[d.hidden, d.cell], &[given], |it| {
            let (h, s, given) = (it.carry(0), it.carry(1), it.entry(0));
            let (mut next, mut cell) = match layer.cell {
                Cell::Rnn => (rnn(layer, d, given, h), s),
                Cell::Gru => (gru(layer, d, given, h), s),
                Cell::Lstm => lstm(layer, d, given, h, s),
            };
            let mut seen = next;
            if let Some(lengths) = layer.lengths {
                // Behind the end of a sequence its state stays, and its outputs are 0.
                let runs = lengths.gt(it.number());
                let shape = [layer.batch.clone(), layer.hidden.clone()];
                let runs = runs.broadcast_to(shape);
                seen = next.where_(runs, 0.0);
                next = next.where_(runs, h);
                cell = cell.where_(runs, s);
            }
            Yield::new(&[next, cell], &[seen])
        });
    (scanned.stacked[0], scanned.carries[0], scanned.carries[1])
}

/// Gate `i` of all gates side by side.
fn gate<'b>(layer: &Layer<'_>, all: Tensor<'b>, i: usize) -> Tensor<'b> {
    let axis = all.ty().map_or(0, |ty| ty.rank().saturating_sub(1));
    let at = |i: usize| &layer.hidden * &Dim::from(i);
    all.slice_axis(axis, at(i), at(i + 1))
}

/// An activation of what `clip` bounds.
fn act<'b>(layer: &Layer<'_>, d: &Direction<'_>, which: usize, x: Tensor<'b>) -> Tensor<'b> {
    let x = match layer.clip {
        Some(bound) => x.maximum(-bound).minimum(bound),
        None => x,
    };
    d.activations[which].of(x)
}

/// `h r^T + b`, of the recurrence.
fn recur<'b>(d: &Direction<'b>, h: Tensor<'b>) -> Tensor<'b> {
    // Contracted where it lies: transposed it would be a matrix of its own, made before the loop.
    let product = h.dot_general(d.recurrence, &[1], &[1], &[], &[]);
    match d.bias {
        Some((_, bias)) => product.plus(bias),
        None => product,
    }
}

fn rnn<'b>(layer: &Layer<'b>, d: &Direction<'b>, given: Tensor<'b>, h: Tensor<'b>) -> Tensor<'b> {
    act(layer, d, 0, given.plus(recur(d, h)))
}

/// Gates z, r, h.
fn gru<'b>(layer: &Layer<'b>, d: &Direction<'b>, given: Tensor<'b>, h: Tensor<'b>) -> Tensor<'b> {
    let all = recur(d, h);
    let sum = |i: usize| gate(layer, given, i).plus(gate(layer, all, i));
    let update = act(layer, d, 0, sum(0));
    let reset = act(layer, d, 0, sum(1));
    let inner = if layer.linear_before_reset {
        reset.times(gate(layer, all, 2))
    } else {
        gate(layer, recur(d, reset.times(h)), 2)
    };
    let new = act(layer, d, 1, gate(layer, given, 2).plus(inner));
    blend(update, new, h)
}

/// `(1 - z) new + z old`.
fn blend<'b>(z: Tensor<'b>, new: Tensor<'b>, old: Tensor<'b>) -> Tensor<'b> {
    (1.0 - z).times(new).plus(z.times(old))
}

/// Gates i, o, f, c.
fn lstm<'b>(
    layer: &Layer<'b>,
    d: &Direction<'b>,
    given: Tensor<'b>,
    h: Tensor<'b>,
    s: Tensor<'b>,
) -> (Tensor<'b>, Tensor<'b>) {
    let all = given.plus(recur(d, h));
    let peep = |i: usize, gate: Tensor<'b>, s: Tensor<'b>| match d.peepholes {
        Some(p) => gate.plus(s.times(p[i])),
        None => gate,
    };
    let input = act(layer, d, 0, peep(0, gate(layer, all, 0), s));
    let forget = if layer.input_forget {
        1.0 - input
    } else {
        act(layer, d, 0, peep(2, gate(layer, all, 2), s))
    };
    let new = act(layer, d, 1, gate(layer, all, 3));
    let cell = forget.times(s).plus(input.times(new));
    let output = act(layer, d, 0, peep(1, gate(layer, all, 1), cell));
    // `clip` bounds the gates, not the cell: so onnxruntime has it.
    (output.times(d.activations[2].of(cell)), cell)
}
