//! `scan`: a body repeated over the entries of stacked tensors, with values carried from one iteration to the next.

use super::stack::{entry, stack};
use super::{Region, adjoint};
use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::{Bindings, Dim};
use crate::eval;
use crate::graph::{Graph, Output, Role, Slot};
use crate::ids::NodeId;
use crate::ops::compound::{Compound, first, first_value};
use crate::ops::{Effect, EvalCx, Op, Rules, Vjp};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

/// What the forward pass keeps of each iteration for the gradient, besides the carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Save {
    /// The results of contractions, reductions, loops and transcendental functions of the body that the gradient needs; other element-wise
    /// ops are computed again.
    Results,
    /// Nothing: the gradient computes each iteration again from its carries. With a scan in the body of a scan, carries are kept of every
    /// n-th iteration only (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
    Carries,
    /// As `Carries`, and the gradient stacks nothing either that is summed over the iterations: sums are made in carries, iteration by
    /// iteration, where others are one product of stacked values behind the loop. For iterations whose values are larger than the sums.
    Least,
}

impl Save {
    /// Every choice.
    pub const ALL: [Save; 3] = [Save::Results, Save::Carries, Save::Least];

    /// The spelling in the text.
    pub fn name(self) -> &'static str {
        match self {
            Save::Results => "results",
            Save::Carries => "carries",
            Save::Least => "least",
        }
    }
}

/// `trip` iterations of a body. The operands are the first values of the carries, the scanned tensors and what the body captures; the body
/// takes, in this order, the carries, one entry (along axis 0) of each scanned tensor, and the captured values. It yields the carries of the
/// next iteration, of the same types, and then values that are stacked along a new axis 0. The results are the last carries and the stacked
/// values.
///
/// In reverse, the first iteration has the last entries, and its values are stacked last. Without iterations the carries pass through.
/// JAX's `lax.scan` is the same, but for captured values, which it finds by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// The body.
    pub body: Region,
    /// How many carries there are.
    pub carries: usize,
    /// How many scanned tensors there are.
    pub scanned: usize,
    /// The number of iterations, and the extent of axis 0 of what is scanned and stacked.
    pub trip: Dim,
    /// Whether iterations go from the last entry to the first.
    pub reverse: bool,
    /// What is kept for the gradient.
    pub save: Save,
}

impl Scan {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "scan").then(|| {
            let error = |name: &str, expected: &str| AttributeError {
                name: name.into(),
                expected: expected.into(),
            };
            let trip = attributes.dims("trip")?;
            let [trip] = trip.as_slice() else {
                return Err(error("trip", "a list of one dim"));
            };
            let word = attributes.optional_word("save")?;
            let save = match word.as_deref() {
                None => Save::Results,
                Some(word) => Save::ALL
                    .into_iter()
                    .find(|s| s.name() == word)
                    .ok_or_else(|| error("save", "results, carries or least"))?,
            };
            Ok(Self {
                trip: trip.clone(),
                carries: attributes.axis("carries")?,
                scanned: attributes.axis("scanned")?,
                reverse: attributes.flag("reverse")?,
                save,
                body: attributes.region("body")?,
            })
        })
    }

    /// A running sum over entries of two numbers.
    pub(in crate::ops) fn representatives() -> Vec<Self> {
        let ty = TensorType::new(crate::dtype::DType::F32, [2]);
        let mut body = Graph::empty("body");
        let sources: Vec<NodeId> = ["c", "x"]
            .into_iter()
            .map(|name| super::prune::push_source(&mut body, name, ty.clone()))
            .collect();
        let sum = body.push(crate::graph::Node {
            op: crate::ops::Binary::Add.into(),
            operands: sources,
            ty,
            provenance: super::prune::nowhere(),
        });
        for name in ["0", "1"] {
            let name = name.to_owned();
            body.push_output(Output { name, node: sum });
        }
        let body = Region::new(body);
        let scan = |reverse, save| Self {
            body: body.clone(),
            carries: 1,
            scanned: 1,
            trip: Dim::from(3),
            reverse,
            save,
        };
        vec![
            scan(false, Save::Results),
            scan(true, Save::Carries),
            scan(false, Save::Least),
        ]
    }

    /// How many values the body captures.
    pub fn captured(&self) -> usize {
        let own = self.carries + self.scanned;
        self.body.slots().len().saturating_sub(own)
    }

    /// How many values are stacked.
    pub fn stacked(&self) -> usize {
        self.body.outputs().len().saturating_sub(self.carries)
    }

    /// The type of a tensor whose entries have a type.
    pub fn whole(&self, entry: &TensorType) -> TensorType {
        let extents = std::iter::once(self.trip.clone()).chain(entry.shape.iter().cloned());
        TensorType::new(entry.dtype, extents.collect::<Shape>())
    }
}

/// The type of an entry, and how many there are.
fn split(ty: &TensorType) -> Option<(&Dim, TensorType)> {
    let (trip, rest) = ty.shape.split_first()?;
    Some((trip, TensorType::new(ty.dtype, rest)))
}

impl Compound for Scan {
    fn results(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, Refusal> {
        let refuse = |kind, message: String| Err(Refusal::new(kind, message));
        if self.trip.constant().is_some_and(|c| c < 0) {
            return refuse(
                Kind::Attribute,
                format!("`scan` of {} iterations", self.trip),
            );
        }
        let own = self.carries.saturating_add(self.scanned);
        if operands.len() < own {
            let message = format!(
                "`scan` of {} carries and {} scanned tensors takes more than {} operands",
                self.carries,
                self.scanned,
                operands.len()
            );
            return refuse(Kind::Signature, message);
        }
        let mut given = Vec::with_capacity(operands.len());
        for (position, ty) in operands.iter().enumerate() {
            if !(self.carries..own).contains(&position) {
                given.push((*ty).clone());
                continue;
            }
            match split(ty) {
                Some((trip, entry)) if *trip == self.trip => given.push(entry),
                Some(_) | None => {
                    return refuse(
                        Kind::Shape,
                        format!("`scan` over {} entries of a tensor {ty}", self.trip),
                    );
                }
            }
        }
        let yielded = self.body.yields("scan", &given)?;
        if yielded.len() < self.carries || yielded.is_empty() {
            return refuse(
                Kind::Signature,
                format!(
                    "the body of `scan` yields {} values for {} carries",
                    yielded.len(),
                    self.carries
                ),
            );
        }
        let mut results = Vec::with_capacity(yielded.len());
        for (position, ty) in yielded.iter().enumerate() {
            if position >= self.carries {
                results.push(self.whole(ty));
                continue;
            }
            if *ty != given[position] {
                return Err(Refusal::new(
                    Kind::Shape,
                    format!(
                        "carry {position} of `scan` begins as {}, but the body yields {ty}",
                        given[position]
                    ),
                )
                .help("a carry keeps its type; broadcast or convert its first value"));
            }
            results.push(ty.clone());
        }
        match results.iter().find_map(TensorType::trouble) {
            Some(why) => refuse(Kind::Shape, format!("a result of `scan`: {why}")),
            None => Ok(results),
        }
    }

    fn eval_all(&self, operands: &[&Array], bindings: &Bindings) -> Result<Vec<Array>, EvalError> {
        let trip = self.trip.eval_size(bindings)?;
        let mut carries: Vec<Array> = operands[..self.carries]
            .iter()
            .map(|a| (*a).clone())
            .collect();
        let (scanned, captured) = operands[self.carries..].split_at(self.scanned);
        let mut stacked: Vec<Vec<Array>> = vec![Vec::new(); self.stacked()];
        for iteration in 0..trip {
            let at = if self.reverse {
                trip - 1 - iteration
            } else {
                iteration
            };
            let mut inputs = std::mem::take(&mut carries);
            for whole in scanned {
                inputs.push(entry(whole, at)?);
            }
            inputs.extend(captured.iter().map(|a| (*a).clone()));
            let mut yielded = eval::run(&self.body, inputs, bindings)?.into_iter();
            carries = yielded.by_ref().take(self.carries).collect();
            for (entries, value) in stacked.iter_mut().zip(yielded) {
                entries.push(value);
            }
        }
        for (position, mut entries) in stacked.into_iter().enumerate() {
            if self.reverse {
                entries.reverse();
            }
            let output = self.body.outputs().get(self.carries + position);
            let ty = output
                .and_then(|o| self.body.node(o.node))
                .map(|n| &n.ty)
                .ok_or_else(|| EvalError::Invalid("a value that is stacked has no node".into()))?;
            carries.push(stack(ty, &entries, bindings)?);
        }
        Ok(carries)
    }

    fn regions(&self) -> Vec<&Region> {
        vec![&self.body]
    }

    fn with_regions(&self, regions: Vec<Region>) -> Op {
        let body = regions.into_iter().next();
        Op::Scan(Self {
            body: body.unwrap_or_else(|| self.body.clone()),
            ..self.clone()
        })
    }
}

impl Rules for Scan {
    fn name(&self) -> &'static str {
        "scan"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    /// The type of the first result.
    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        first(self.results(operands)?)
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        adjoint::scan(self, cx)
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        first_value(self.eval_all(operands, cx.bindings)?)
    }

    fn attributes(&self) -> Attributes {
        let attributes = Attributes::none()
            .with("trip", Value::Dims(vec![self.trip.clone()]))
            .with_axes("carries", &[self.carries])
            .with_axes("scanned", &[self.scanned])
            .with_flag("reverse", self.reverse);
        let attributes = match self.save {
            Save::Results => attributes,
            Save::Carries | Save::Least => {
                attributes.with("save", Value::Word(self.save.name().into()))
            }
        };
        attributes.with("body", Value::Region(self.body.clone()))
    }
}

/// The slots and outputs of a body that a scan of other counts may keep.
impl Scan {
    /// The source of a carry, a scanned entry or a captured value, by its position among the operands.
    pub fn source(&self, position: usize) -> Option<NodeId> {
        let slot: &Slot = self.body.slots().get(position)?;
        (slot.role == Role::Input).then_some(slot.node)
    }
}
