//! `custom_call`: a function of the user's own, called by name.
//!
//! The node keeps a name, attributes and the types of its results, and nothing else, so a graph with custom calls prints, parses, verifies and
//! compiles wherever it is read. The function itself, a [`CustomOp`], is looked up among those that the program has registered: when a call is
//! built, differentiated, interpreted, and when a compiled program is loaded.
//!
//! A call is pure by contract: equal operands and attributes give equal results, and nothing else changes. So equal calls are made once, and a
//! call whose results nobody reads is not made at all. It may fail; then the step fails and leaves params and state as they were.

use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::{Bindings, Dim};
use crate::dtype::DType;
use crate::ops::compound::{Compound, first, first_value};
use crate::ops::{Dense, Effect, EvalCx, Op, Part, Region, Rules, Vjp};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

mod attributes;
mod call;
mod registry;

pub use attributes::CallAttributes;
pub use call::{Call, CallTensor};
pub(crate) use registry::find;
pub use registry::{CallError, CallVjp, CustomOp, RegisterError, register};

/// The results of the custom op `target` on the operands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomCall {
    /// The name of the op.
    pub target: String,
    /// What is not a tensor.
    pub attributes: CallAttributes,
    /// The types of the results, at least one. They are the op's own answer for the operands; who reads a graph without the op believes them.
    pub results: Vec<TensorType>,
}

impl CustomCall {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "custom_call").then(|| {
            Ok(Self {
                target: attributes.text("target")?,
                results: attributes.types("results")?,
                attributes: CallAttributes::new(attributes.texts()?),
            })
        })
    }

    /// Calls of ops that nobody registers.
    pub(in crate::ops) fn representatives() -> Vec<Self> {
        let limits = [("low", "-1"), ("high", "a \"quoted\"\nline")];
        let ty = TensorType::new(DType::F32, [2]);
        vec![
            Self {
                target: "negate".into(),
                attributes: CallAttributes::default(),
                results: vec![ty.clone()],
            },
            Self {
                target: "my crate/split".into(),
                attributes: CallAttributes::of(&limits),
                results: vec![ty, TensorType::new(DType::I64, ())],
            },
        ]
    }

    /// The op, if it is registered and gives these results for operands of these types.
    ///
    /// # Errors
    /// [`CallError`]: no such op, one that refuses the operands, one that gives other results.
    pub fn resolve(&self, operands: &[&TensorType]) -> Result<Arc<dyn CustomOp>, CallError> {
        self.resolve_as(operands, &self.results)
    }

    fn resolve_as(
        &self,
        operands: &[&TensorType],
        declared: &[TensorType],
    ) -> Result<Arc<dyn CustomOp>, CallError> {
        let op = find(&self.target)?;
        let inferred = op.infer(&self.attributes, operands);
        let inferred = inferred.map_err(|message| CallError::Refused {
            name: self.target.clone(),
            message,
        })?;
        if inferred != declared {
            return Err(CallError::Results {
                name: self.target.clone(),
                declared: listed(declared),
                inferred: listed(&inferred),
            });
        }
        Ok(op)
    }

    /// What a vjp gave, where it is as it should be. Cotangents of operands that are not floating are dropped.
    fn checked<'g>(
        &self,
        given: Option<Vec<Option<Tensor<'g>>>>,
        operands: &[Tensor<'g>],
    ) -> Result<Vec<Option<Tensor<'g>>>, Refusal> {
        let name = &self.target;
        let refuse = |message: String| {
            let help = "a vjp gives one cotangent for each operand, of its type, or `None` where none flows";
            Err(Refusal::new(Kind::Gradient, message).help(help))
        };
        let Some(given) = given else {
            let message = format!("the gradient through custom op `{name}`, which has none");
            return Err(Refusal::new(Kind::Gradient, message)
                .help("give it a `CustomOp::vjp`, or put `stop_gradient` before it"));
        };
        if given.len() != operands.len() {
            let (found, wanted) = (given.len(), operands.len());
            return refuse(format!(
                "the vjp of custom op `{name}` gives {found} cotangents for {wanted} operands"
            ));
        }
        for (position, (cotangent, operand)) in given.iter().zip(operands).enumerate() {
            let found = cotangent.as_ref().and_then(|cotangent| cotangent.ty());
            if let (Some(found), Some(wanted)) = (found, operand.ty())
                && found != wanted
            {
                return refuse(format!(
                    "the vjp of custom op `{name}` gives a cotangent {found} for operand {position}, which is {wanted}"
                ));
            }
        }
        let flowing = given.into_iter().zip(operands);
        Ok(flowing
            .map(|(cotangent, operand)| cotangent.filter(|_| is_float(operand)))
            .collect())
    }
}

fn is_float(tensor: &Tensor<'_>) -> bool {
    tensor.ty().is_some_and(|ty| ty.dtype.is_float())
}

fn listed(types: &[TensorType]) -> String {
    Value::Types(types.to_vec()).to_string()
}

/// The type of tensors of just these extents.
fn concrete(dtype: DType, shape: &[usize]) -> TensorType {
    let shape: Shape = shape.iter().map(|size| Dim::from(*size)).collect();
    TensorType::new(dtype, shape)
}

impl Compound for CustomCall {
    /// The operands are the business of the op, which need not be there.
    fn results(&self, _: &[&TensorType]) -> Result<Vec<TensorType>, Refusal> {
        let refuse = |kind, message: String| Err(Refusal::new(kind, message));
        if self.target.is_empty() {
            return refuse(
                Kind::Attribute,
                "`custom_call` of an op without a name".into(),
            );
        }
        if let Some(why) = self.attributes.trouble() {
            return refuse(
                Kind::Attribute,
                format!("`custom_call` of `{}`: {why}", self.target),
            );
        }
        let trouble = self.results.iter().find_map(TensorType::trouble);
        if let Some(why) = trouble {
            return refuse(
                Kind::Shape,
                format!("a result of custom op `{}`: {why}", self.target),
            );
        }
        if self.results.is_empty() {
            return refuse(
                Kind::Signature,
                format!("`custom_call` of `{}`, which has no result", self.target),
            );
        }
        Ok(self.results.clone())
    }

    fn eval_all(&self, operands: &[&Array], bindings: &Bindings) -> Result<Vec<Array>, EvalError> {
        let taken: Vec<TensorType> = operands
            .iter()
            .map(|a| concrete(a.dtype(), a.shape()))
            .collect();
        let mut outputs = Vec::with_capacity(self.results.len());
        for ty in &self.results {
            let shape = ty.shape.iter().map(|d| d.eval_size(bindings));
            outputs.push(CallTensor {
                dtype: ty.dtype,
                shape: shape.collect::<Result<_, _>>()?,
            });
        }
        let given: Vec<TensorType> = outputs
            .iter()
            .map(|t| concrete(t.dtype, &t.shape))
            .collect();
        let op = self
            .resolve_as(&taken.iter().collect::<Vec<_>>(), &given)
            .map_err(|error| EvalError::Invalid(error.to_string()))?;
        let inputs: Vec<CallTensor> = operands
            .iter()
            .map(|a| CallTensor {
                dtype: a.dtype(),
                shape: a.shape().to_vec(),
            })
            .collect();
        let read: Vec<call::Aligned> = operands.iter().map(|a| call::Aligned::of(a)).collect();
        let mut written = Vec::with_capacity(outputs.len());
        for output in &outputs {
            let count = Array::room(output.dtype, &output.shape)?;
            written.push(call::Aligned::zeroed(count * output.dtype.size()));
        }
        let mut left: Vec<Option<&mut [u8]>> =
            written.iter_mut().map(|w| Some(w.bytes_mut())).collect();
        let called = Call::new(
            &self.attributes,
            &inputs,
            &outputs,
            &|position| read.get(position).map(call::Aligned::bytes),
            &mut |position| left.get_mut(position)?.take(),
        )
        .run(&*op);
        called.map_err(|message| EvalError::Call {
            name: self.target.clone(),
            message,
        })?;
        let array = |(tensor, written): (CallTensor, call::Aligned)| {
            let values: Values =
                Dense::from_bytes(written.into_little_endian(tensor.dtype)).values(tensor.dtype);
            Array::new(tensor.dtype, tensor.shape, values)
        };
        outputs.into_iter().zip(written).map(array).collect()
    }

    fn regions(&self) -> Vec<&Region> {
        Vec::new()
    }

    fn with_regions(&self, _: Vec<Region>) -> Op {
        Op::CustomCall(self.clone())
    }
}

impl Rules for CustomCall {
    fn name(&self) -> &'static str {
        "custom_call"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    /// The type of the first result.
    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        first(self.results(operands)?)
    }

    /// What the op's own [`CustomOp::vjp`] gives. To lack one is a diagnostic.
    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let builder = cx.result.builder();
        let none = vec![None; cx.operands.len()];
        let mut asked = cx.operands.iter().zip(&cx.wanted);
        if !asked.any(|(operand, wanted)| *wanted && is_float(operand)) {
            return none;
        }
        let refuse = |refusal: Refusal| {
            builder.report(refusal, Vec::new());
            // Said once: what is not there would be missed again where the gradient is asked for.
            vec![Some(builder.poison()); cx.operands.len()]
        };
        let op = match find(&self.target) {
            Ok(op) => op,
            Err(error) => {
                return refuse(Refusal::new(Kind::Gradient, format!("a gradient: {error}")));
            }
        };
        let part = |(index, ty): (usize, &TensorType)| {
            let ty = ty.clone();
            builder.push_part(cx.result, Part { index, ty })
        };
        let mut cotangents = cx.cotangents.clone();
        cotangents.resize(self.results.len(), None);
        let given = op.vjp(&CallVjp {
            attributes: self.attributes.clone(),
            operands: cx.operands.clone(),
            results: self.results.iter().enumerate().map(part).collect(),
            cotangents,
            wanted: cx.wanted.clone(),
            builder,
        });
        match self.checked(given, &cx.operands) {
            Ok(given) => given,
            Err(refusal) => refuse(refusal),
        }
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        first_value(self.eval_all(operands, cx.bindings)?)
    }

    fn attributes(&self) -> Attributes {
        let named = Attributes::none().with("target", Value::Text(self.target.clone()));
        let own = self.attributes.iter();
        own.fold(named, |all, (key, value)| {
            all.with(key, Value::Text(value.to_owned()))
        })
        .with("results", Value::Types(self.results.clone()))
    }
}
