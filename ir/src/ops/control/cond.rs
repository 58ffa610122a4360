//! `cond`: one of two regions, chosen when the step runs.

use super::{Region, adjoint, prune};
use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Bindings;
use crate::dtype::DType;
use crate::eval;
use crate::graph::{Graph, Output};
use crate::ops::compound::{Compound, first, first_value};
use crate::ops::{Effect, EvalCx, Op, Rules, Vjp};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// What the first region yields where the scalar `bool` that is the first operand holds, else what the second one yields. Further operands
/// are what the first region takes, and then what the second one takes. Both yield values of the same types. Only the chosen one is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cond {
    /// Where the condition holds.
    pub then: Region,
    /// Where it does not.
    pub otherwise: Region,
}

impl Cond {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "cond").then(|| {
            Ok(Self {
                then: attributes.region("then")?,
                otherwise: attributes.region("otherwise")?,
            })
        })
    }

    /// The operand, or its negation.
    pub(in crate::ops) fn representatives() -> Vec<Self> {
        let ty = TensorType::new(DType::F32, [2]);
        let region = |negate: bool| {
            let mut graph = Graph::empty("body");
            let mut node = prune::push_source(&mut graph, "x", ty.clone());
            if negate {
                node = graph.push(crate::graph::Node {
                    op: crate::ops::Unary::Neg.into(),
                    operands: vec![node],
                    ty: ty.clone(),
                    provenance: prune::nowhere(),
                });
            }
            let name = "0".to_owned();
            graph.push_output(Output { name, node });
            Region::new(graph)
        };
        vec![Self {
            then: region(false),
            otherwise: region(true),
        }]
    }
}

impl Compound for Cond {
    fn results(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, Refusal> {
        let Some((condition, rest)) = operands.split_first() else {
            return Err(Refusal::new(
                Kind::Signature,
                "`cond` takes a condition first",
            ));
        };
        if condition.dtype != DType::Bool || condition.rank() != 0 {
            return Err(Refusal::new(
                Kind::Type,
                format!("the condition of `cond` is {condition}, not one bool"),
            )
            .help("use `where_` to choose element by element"));
        }
        let taken = self.then.slots().len().min(rest.len());
        let owned = |types: &[&TensorType]| -> Vec<TensorType> {
            types.iter().map(|ty| (*ty).clone()).collect()
        };
        let then = self.then.yields("cond", &owned(&rest[..taken]))?;
        let otherwise = self.otherwise.yields("cond", &owned(&rest[taken..]))?;
        if then != otherwise || then.is_empty() {
            let list = |types: &[TensorType]| {
                let words: Vec<String> = types.iter().map(ToString::to_string).collect();
                format!("({})", words.join(", "))
            };
            return Err(Refusal::new(
                Kind::Shape,
                format!(
                    "the regions of `cond` yield {} and {}",
                    list(&then),
                    list(&otherwise)
                ),
            )
            .help("both yield values of the same types, at least one"));
        }
        Ok(then)
    }

    fn eval_all(&self, operands: &[&Array], bindings: &Bindings) -> Result<Vec<Array>, EvalError> {
        let Some((condition, rest)) = operands.split_first() else {
            return Err(EvalError::Invalid("`cond` without a condition".into()));
        };
        let holds = condition.ints()?.first() == Some(&1);
        let (then, otherwise) = rest.split_at(self.then.slots().len().min(rest.len()));
        let (region, taken) = if holds {
            (&self.then, then)
        } else {
            (&self.otherwise, otherwise)
        };
        let inputs = taken.iter().map(|a| (*a).clone()).collect();
        eval::run(region, inputs, bindings)
    }

    fn regions(&self) -> Vec<&Region> {
        vec![&self.then, &self.otherwise]
    }

    fn with_regions(&self, regions: Vec<Region>) -> Op {
        let mut regions = regions.into_iter();
        Op::Cond(Self {
            then: regions.next().unwrap_or_else(|| self.then.clone()),
            otherwise: regions.next().unwrap_or_else(|| self.otherwise.clone()),
        })
    }
}

impl Rules for Cond {
    fn name(&self) -> &'static str {
        "cond"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    /// The type of the first result.
    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        first(self.results(operands)?)
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        adjoint::cond(self, cx)
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        first_value(self.eval_all(operands, cx.bindings)?)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
            .with("then", Value::Region(self.then.clone()))
            .with("otherwise", Value::Region(self.otherwise.clone()))
    }
}
