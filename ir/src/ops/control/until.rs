//! `while`: a body repeated as long as a test of the carried values holds.

use super::{Region, prune};
use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Bindings;
use crate::dtype::DType;
use crate::eval;
use crate::graph::{Graph, Node, Output};
use crate::ops::compound::{Compound, first, first_value};
use crate::ops::{Compare, Constant, Effect, EvalCx, Op, Rules, Unary, Vjp};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// The carries after as many iterations of the body as the test holds before. The operands are the first values of the carries, what the
/// test captures and what the body captures; the test takes the carries and its captured values and yields one `bool`, the body takes the
/// carries and its captured values and yields the next carries, of the same types.
///
/// How many iterations there are is known only when it runs, so that a gradient would have nowhere to keep what it needs: it has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct While {
    /// Whether to go on.
    pub test: Region,
    /// One iteration.
    pub body: Region,
    /// How many carries there are.
    pub carries: usize,
}

impl While {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "while").then(|| {
            Ok(Self {
                carries: attributes.axis("carries")?,
                test: attributes.region("test")?,
                body: attributes.region("body")?,
            })
        })
    }

    /// A number whose magnitude is halved in effect by repeated square roots until it is at most 2.
    pub(in crate::ops) fn representatives() -> Vec<Self> {
        let ty = TensorType::new(DType::F32, ());
        let region = |test: bool| {
            let mut graph = Graph::empty("body");
            let x = prune::push_source(&mut graph, "x", ty.clone());
            let mut push = |op: Op, operands, ty| {
                graph.push(Node {
                    op,
                    operands,
                    ty,
                    provenance: prune::nowhere(),
                })
            };
            let node = if test {
                let two = Constant::splat(ty.clone(), 2.0);
                let two = push(two.into(), vec![], ty.clone());
                let ty = TensorType::new(DType::Bool, ());
                push(Compare::Gt.into(), vec![x, two], ty)
            } else {
                push(Unary::Sqrt.into(), vec![x], ty.clone())
            };
            let name = "0".to_owned();
            graph.push_output(Output { name, node });
            Region::new(graph)
        };
        vec![Self {
            test: region(true),
            body: region(false),
            carries: 1,
        }]
    }

    /// How many of the operands the test takes besides the carries.
    pub fn captured_by_test(&self) -> usize {
        self.test.slots().len().saturating_sub(self.carries)
    }

    /// What test and body take, among the operands or their values.
    fn taken<'o, T>(&self, operands: &[&'o T]) -> Option<[Vec<&'o T>; 2]> {
        let carries = operands.get(..self.carries)?;
        let captured = &operands[self.carries..];
        let (test, body) = captured.split_at_checked(self.captured_by_test())?;
        Some([test, body].map(|own| carries.iter().chain(own).copied().collect()))
    }
}

impl Compound for While {
    fn results(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, Refusal> {
        let refuse = |kind, message: String| Err(Refusal::new(kind, message));
        let Some([test, body]) = self.taken(operands) else {
            return refuse(
                Kind::Signature,
                format!(
                    "`while` of {} carries takes more than {} operands",
                    self.carries,
                    operands.len()
                ),
            );
        };
        let owned = |types: &[&TensorType]| -> Vec<TensorType> {
            types.iter().map(|ty| (*ty).clone()).collect()
        };
        let test = self.test.yields("while", &owned(&test))?;
        let one = TensorType::new(DType::Bool, ());
        if test != [one] {
            return refuse(
                Kind::Type,
                "the test of `while` yields something else than one bool".into(),
            );
        }
        let carries: Vec<TensorType> = owned(&operands[..self.carries]);
        let yielded = self.body.yields("while", &owned(&body))?;
        if yielded != carries || carries.is_empty() {
            return Err(Refusal::new(
                Kind::Shape,
                "the body of `while` yields other types than its carries begin with",
            )
            .help("a carry keeps its type, and there is at least one"));
        }
        Ok(carries)
    }

    fn eval_all(&self, operands: &[&Array], bindings: &Bindings) -> Result<Vec<Array>, EvalError> {
        let short = || EvalError::Invalid("`while` lacks operands".into());
        let [test, body] = self.taken(operands).ok_or_else(short)?;
        let owned = |arrays: &[&Array]| -> Vec<Array> {
            arrays.iter().map(|array| (*array).clone()).collect()
        };
        let mut carries = owned(&operands[..self.carries]);
        let inputs = |carries: &[Array], taken: &[&Array]| {
            let captured = owned(&taken[self.carries..]);
            carries.iter().cloned().chain(captured).collect()
        };
        loop {
            let holds = eval::run(&self.test, inputs(&carries, &test), bindings)?;
            let holds = holds.first().ok_or_else(short)?;
            if holds.ints()?.first() != Some(&1) {
                return Ok(carries);
            }
            carries = eval::run(&self.body, inputs(&carries, &body), bindings)?;
        }
    }

    fn regions(&self) -> Vec<&Region> {
        vec![&self.test, &self.body]
    }

    fn with_regions(&self, regions: Vec<Region>) -> Op {
        let mut regions = regions.into_iter();
        Op::While(Self {
            test: regions.next().unwrap_or_else(|| self.test.clone()),
            body: regions.next().unwrap_or_else(|| self.body.clone()),
            carries: self.carries,
        })
    }
}

impl Rules for While {
    fn name(&self) -> &'static str {
        "while"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    /// The type of the first result.
    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        first(self.results(operands)?)
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let refusal = Refusal::new(
            Kind::Gradient,
            "the gradient through `while`, whose number of iterations is not known beforehand",
        )
        .help("use `scan` over as many iterations as there may be, and keep the carry with `where_` once it is done");
        cx.result.builder().report(refusal, Vec::new());
        vec![None; cx.operands.len()]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        first_value(self.eval_all(operands, cx.bindings)?)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
            .with_axes("carries", &[self.carries])
            .with("test", Value::Region(self.test.clone()))
            .with("body", Value::Region(self.body.clone()))
    }
}
