//! A recurrent layer over sequences: params, the product before the loop, the loop, and what to do at padding.

use super::{Biases, Cell, Recurrent, RecurrentBias, Step};
use crate::layer::{Context, Mode};
use crate::layers::dropout::{dropout, keep};
use kiln_ir::ops::Iota;
use kiln_ir::{DType, Dim, Kind, Refusal, ScanOptions, Shape, Tensor, TensorType, Yield};

/// What a recurrent layer may be told besides its input.
#[derive(Clone, Default)]
pub struct Given<'g> {
    /// The states before the first step, `[b, units]` each, as many as the cell has: `h`, and for an LSTM then `c`. Zeros unless given.
    pub initial: Option<Vec<Tensor<'g>>>,
    /// How many steps each sequence has: integers `[b]`, from 0 to `t`. The others are padding.
    pub lengths: Option<Tensor<'g>>,
    /// Which steps are no padding: `bool[b, t]`. Both may be given.
    pub mask: Option<Tensor<'g>>,
}

/// What a recurrent layer gives.
#[derive(Clone)]
pub struct Sequence<'g> {
    /// The outputs of all steps, `[b, t, units]`, zeros at padding.
    pub outputs: Tensor<'g>,
    /// The states behind the last step, `[b, units]` each. Padding leaves them as they are.
    pub states: Vec<Tensor<'g>>,
}

/// The sizes and params of one application.
struct Parts<'g> {
    ty: TensorType,
    /// `x wx + b` of all steps, time first.
    entries: Tensor<'g>,
    weight: Tensor<'g>,
    bias: Option<Tensor<'g>>,
}

impl<C: Cell> Recurrent<C> {
    /// All outputs of the layer for `x: [b, t, features]`, and its states behind the last step.
    ///
    /// Params are declared in the open scope, as in [`Context::layer`] and [`Context::within`].
    ///
    /// ```
    /// use kiln_ir::{Builder, DType};
    /// use kiln_nn::{Context, Given, Gru};
    ///
    /// let g = Builder::new("names");
    /// let (b, t) = (g.dim("b"), g.dim("t"));
    /// let x = g.input("x", DType::F32, (b.clone(), t, 8));
    /// let lengths = Some(g.input("lengths", DType::I64, [b]));
    /// let last = Context::training(&g).within("encoder", "gru", |cx| {
    ///     let given = Given { lengths, ..Given::default() };
    ///     Gru::new(16).sequence(cx, x, &given).states[0]
    /// });
    /// assert_eq!(last.ty().unwrap().to_string(), "f32[b, 16]");
    /// ```
    #[track_caller]
    pub fn sequence<'g>(&self, cx: &Context<'g>, x: Tensor<'g>, given: &Given<'g>) -> Sequence<'g> {
        let (outputs, states) = self.run(cx, x, given, true);
        Sequence { outputs, states }
    }

    /// What the layer gives as a layer: all outputs, or the last one.
    #[track_caller]
    pub(super) fn result<'g>(
        &self,
        cx: &Context<'g>,
        x: Tensor<'g>,
        given: &Given<'g>,
    ) -> Tensor<'g> {
        let (outputs, states) = self.run(cx, x, given, self.sequences);
        match states.first() {
            Some(last) if !self.sequences => *last,
            Some(_) | None => outputs,
        }
    }

    /// The stacked outputs, poisoned where they are not wanted, and the last states.
    #[track_caller]
    fn run<'g>(
        &self,
        cx: &Context<'g>,
        x: Tensor<'g>,
        given: &Given<'g>,
        stacked: bool,
    ) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let _at = cx.at_application();
        let builder = cx.builder();
        let poisoned = || {
            let states = vec![builder.poison(); self.cell.states()];
            (builder.poison(), states)
        };
        let Some(parts) = self.parts(cx, x) else {
            return poisoned();
        };
        let batch = parts.ty.shape[0].clone();
        let state = TensorType::new(parts.ty.dtype, (batch.clone(), self.units));
        let Some(initial) = self.initial(cx, &state, given) else {
            return poisoned();
        };
        let mask = match self.mask(cx, &parts.ty, given) {
            Ok(mask) => mask,
            Err(()) => return poisoned(),
        };
        let training = cx.mode() == Mode::Training;
        let rate = if training {
            self.recurrent_dropout
        } else {
            0.0
        };
        let one_mask =
            (rate != 0.0 && !self.anew).then(|| keep(builder, rate, state.dtype, &state.shape));
        let options = ScanOptions {
            reverse: self.backwards,
            checkpoint: self.checkpoint,
            ..ScanOptions::default()
        };
        let mut scanned = vec![parts.entries];
        scanned.extend(mask);
        let location = cx.location();
        let results = builder.scan(&options, &initial, &scanned, |it| {
            // The body's own nodes belong to the line that applied the layer, too.
            let _at = location.map(|l| it.builder().charged_to(l));
            let states = it.carries().to_vec();
            let previous = match (states.first(), one_mask) {
                (Some(h), Some(mask)) => *h * mask,
                (Some(h), None) => dropout(*h, rate),
                (None, _) => it.builder().poison(),
            };
            let step = Step {
                units: self.units,
                input: it.entry(0),
                states,
                previous,
                weight: parts.weight,
                bias: parts.bias,
            };
            let mut next = self.cell.step(&step);
            let mut output = next.first().copied();
            if mask.is_some() {
                let real = it.entry(1).reshape((batch.clone(), 1));
                let kept = next.iter().zip(&step.states);
                next = kept
                    .map(|(next, before)| next.where_(real, *before))
                    .collect();
                output = output.map(|output| output.where_(real, 0.0));
            }
            Yield::new(&next, output.filter(|_| stacked).as_slice())
        });
        let outputs = results.stacked.first();
        let outputs = outputs.map_or_else(|| builder.poison(), |all| all.transpose(&[1, 0, 2]));
        (outputs, results.carries)
    }

    /// The params and the product with the input; `None` after a mistake.
    #[track_caller]
    fn parts<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Option<Parts<'g>> {
        let kind = self.cell.kind();
        let ty = x.ty()?;
        let features = match &ty.shape[..] {
            [_, _, features] if ty.dtype.is_float() => features.constant(),
            _ => None,
        };
        let Some(features) = features else {
            let message = format!("`{kind}` of {ty}");
            let refusal = Refusal::new(Kind::Shape, message)
                .help("it takes floating sequences [batch, steps, features] with a fixed number of features");
            cx.builder().refuse(refusal, &[x]);
            return None;
        };
        let x = match cx.mode() {
            Mode::Training if self.anew => dropout(x, self.dropout),
            Mode::Training => self.dropout_of_sequences(x, &ty),
            Mode::Inference => x,
        };
        let columns = self.cell.gates() * self.units;
        let wx = cx.param("wx", ty.dtype, (features, columns), &*self.weight);
        // Before the params that would be wrong in the same way.
        let product = x.transpose(&[1, 0, 2]).dot(wx);
        product.id()?;
        let shape = (self.units, columns);
        let weight = cx.param("wh", ty.dtype, shape, &*self.recurrent_weight);
        let bias = |name: &str| cx.param(name, ty.dtype, [columns], &*self.bias);
        let (first, second) = match (self.biases, self.cell.recurrent_bias()) {
            (Biases::None, _) => (None, None),
            (Biases::One, _) => (Some(bias("b")), None),
            (Biases::Two, RecurrentBias::BesideOther) => (Some(bias("b") + bias("bh")), None),
            (Biases::Two, RecurrentBias::InProduct) => (Some(bias("b")), Some(bias("bh"))),
        };
        Some(Parts {
            entries: first.map_or(product, |bias| product + bias),
            weight,
            bias: second,
            ty,
        })
    }

    /// The input with one mask for all steps of a sequence.
    #[track_caller]
    fn dropout_of_sequences<'g>(&self, x: Tensor<'g>, ty: &TensorType) -> Tensor<'g> {
        if self.dropout == 0.0 {
            return x;
        }
        let shape = Shape::from([ty.shape[0].clone(), Dim::from(1), ty.shape[2].clone()]);
        x * keep(x.builder(), self.dropout, ty.dtype, &shape)
    }

    /// The states before the first step.
    #[track_caller]
    fn initial<'g>(
        &self,
        cx: &Context<'g>,
        state: &TensorType,
        given: &Given<'g>,
    ) -> Option<Vec<Tensor<'g>>> {
        let count = self.cell.states();
        let Some(initial) = &given.initial else {
            if cx.continuation().is_some() {
                let message = format!(
                    "`{}` goes on with a sequence from nothing",
                    self.cell.kind()
                );
                let refusal = Refusal::new(Kind::Signature, message)
                    .help("`Recurrent::sequence` takes the states that an earlier step has left, and gives the next ones");
                cx.builder().refuse(refusal, &[]);
                return None;
            }
            let zeros = cx.builder().splat(state.dtype, &state.shape, 0.0);
            return Some(vec![zeros; count]);
        };
        if initial.iter().any(|t| t.id().is_none()) {
            return None;
        }
        let fits = initial.iter().all(|t| t.ty().as_ref() == Some(state));
        if initial.len() == count && fits {
            return Some(initial.clone());
        }
        let found: Vec<String> = initial
            .iter()
            .filter_map(|t| Some(t.ty()?.to_string()))
            .collect();
        let message = format!(
            "`{}` begins with {count} states of type {state}, not with ({})",
            self.cell.kind(),
            found.join(", ")
        );
        let refusal = Refusal::new(Kind::Shape, message);
        cx.builder().refuse(refusal, initial);
        None
    }

    /// Which steps are real, time first.
    #[track_caller]
    fn mask<'g>(
        &self,
        cx: &Context<'g>,
        ty: &TensorType,
        given: &Given<'g>,
    ) -> Result<Option<Tensor<'g>>, ()> {
        let kind = self.cell.kind();
        let builder = cx.builder();
        let (batch, steps) = (ty.shape[0].clone(), ty.shape[1].clone());
        let mut mask = None;
        if let Some(lengths) = given.lengths {
            let found = lengths.ty().ok_or(())?;
            let integer = !found.dtype.is_float() && found.dtype != DType::Bool;
            if !integer || *found.shape != [batch.clone()] {
                let message = format!("the lengths of `{kind}` of {ty} are {found}");
                let help = format!("they are integers [{batch}], one for each sequence");
                builder.refuse(Refusal::new(Kind::Shape, message).help(help), &[lengths]);
                return Err(());
            }
            let index = TensorType::new(DType::I64, (steps.clone(), batch.clone()));
            let index = builder.push(Iota { ty: index, axis: 0 }, &[]);
            mask = Some(index.lt(lengths.convert(DType::I64)));
        }
        if let Some(given) = given.mask {
            let found = given.ty().ok_or(())?;
            let wanted = TensorType::new(DType::Bool, (batch, steps));
            if found != wanted {
                let message = format!("the mask of `{kind}` of {ty} is {found}, not {wanted}");
                builder.refuse(Refusal::new(Kind::Shape, message), &[given]);
                return Err(());
            }
            let given = given.transpose(&[1, 0]);
            mask = Some(mask.map_or(given, |mask: Tensor<'g>| mask.and(given)));
        }
        Ok(mask)
    }
}
