//! The ops that users write, and where a program keeps them.
//!
//! A graph names its custom ops as a program names the functions of a shared library: they belong to the process and not to a graph, which may
//! come from a file. So there is one table of them, the only global of Kiln; it only grows, so that a name never changes its meaning.

use super::{Call, CallAttributes};
use crate::builder::{Builder, Tensor};
use crate::types::TensorType;
use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// An op that a user writes in Rust: it is registered under its name with [`register`] and used through
/// [`Builder::custom_call`](crate::Builder::custom_call).
///
/// Its code runs as a step of its own on the thread that runs the session, never twice at the same time in one
/// session, and on whole tensors: nothing is fused into it. It must be pure, since equal calls are made once and calls that nobody reads are
/// not made; it should not keep the results of a computation from one call to the next.
///
/// ```
/// use kiln_ir::{Array, Builder, Call, CallAttributes, CallVjp, CustomOp, DType, Tensor, TensorType, Values};
/// use kiln_ir::{eval, grad, register};
///
/// /// `x / (1 + |x|)`, which is differentiable, with the slope `1 / (1 + |x|)^2`.
/// struct SoftSign;
///
/// impl CustomOp for SoftSign {
///     fn name(&self) -> &str {
///         "softsign"
///     }
///
///     fn infer(&self, _: &CallAttributes, operands: &[&TensorType]) -> Result<Vec<TensorType>, String> {
///         match operands {
///             [x] if x.dtype == DType::F32 => Ok(vec![(*x).clone()]),
///             _ => Err("it takes one f32 tensor".into()),
///         }
///     }
///
///     fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String> {
///         let x = call.input::<f32>(0)?;
///         let y = call.output::<f32>(0)?;
///         for (y, x) in y.iter_mut().zip(x) {
///             *y = x / (1.0 + x.abs());
///         }
///         Ok(())
///     }
///
///     fn vjp<'g>(&self, cx: &CallVjp<'g>) -> Option<Vec<Option<Tensor<'g>>>> {
///         let slope = (cx.operands[0].abs() + 1.0).square().recip();
///         Some(vec![Some(cx.cotangent(0) * slope)])
///     }
/// }
///
/// register(SoftSign)?;
/// let g = Builder::new("custom");
/// let x = g.input("x", DType::F32, (g.dim("n"),));
/// let [y] = g.custom_call("softsign", &[], &[x]);
/// g.output("y", y);
/// g.output("dx", grad(y.sum(), &[x])[0]);
/// let graph = g.finish()?;
/// assert!(graph.to_string().contains(r#"custom_call %x {target = "softsign", results = (f32[n])}"#));
///
/// let fed = Array::new(DType::F32, vec![2], Values::Float(vec![1.0, -3.0]))?;
/// let step = eval(&graph, |_| Some(fed.clone()))?;
/// assert_eq!(step.outputs[0].floats()?, [0.5, -0.75]);
/// assert_eq!(step.outputs[1].floats()?, [0.25, 0.0625]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CustomOp: Send + Sync + 'static {
    /// The name that graphs call it by, unique in the program: best with the crate's in it.
    fn name(&self) -> &str;

    /// The types of the results, at least one. Extents of operands may be symbolic, and those of results are made of them: `x.shape[0].clone() * 2`.
    /// It is also asked about the same operands once all extents are numbers, and must then give the same results.
    ///
    /// # Errors
    /// Why the operands or attributes do not fit, for people; it becomes a diagnostic with the user's line.
    fn infer(
        &self,
        attributes: &CallAttributes,
        operands: &[&TensorType],
    ) -> Result<Vec<TensorType>, String>;

    /// Computes the results. Their elements are zero before; what is not written stays zero.
    ///
    /// # Errors
    /// What is wrong, for people. The step fails then, as it does where this panics, and no param or state has changed.
    fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String>;

    /// The cotangent of each operand, in order, `None` where none flows. It is written in the builder, so that it can be differentiated
    /// again; it may use other custom ops.
    ///
    /// `None` for all is an op without a gradient, which is a mistake where one is asked for.
    fn vjp<'g>(&self, cx: &CallVjp<'g>) -> Option<Vec<Option<Tensor<'g>>>> {
        let _ = cx;
        None
    }
}

/// What the vjp of a custom op sees.
pub struct CallVjp<'g> {
    /// The attributes of the call.
    pub attributes: CallAttributes,
    /// The operands.
    pub operands: Vec<Tensor<'g>>,
    /// The results.
    pub results: Vec<Tensor<'g>>,
    /// The cotangent of each result, of the result's type; `None` where none flows.
    pub cotangents: Vec<Option<Tensor<'g>>>,
    /// Which operands' cotangents are asked for; those of the others may be left out.
    pub wanted: Vec<bool>,
    pub(super) builder: &'g Builder,
}

impl<'g> CallVjp<'g> {
    /// The cotangent of a result, zeros where none flows. A position without a result gives a poisoned tensor.
    pub fn cotangent(&self, result: usize) -> Tensor<'g> {
        let given = self.cotangents.get(result).copied().flatten();
        let of = self.results.get(result).and_then(|t| t.ty());
        match (given, of) {
            (Some(cotangent), _) => cotangent,
            (None, Some(ty)) => self.builder.splat(ty.dtype, ty.shape, 0.0),
            (None, None) => self.builder.poison(),
        }
    }

    /// The builder that the vjp is written in.
    pub fn builder(&self) -> &'g Builder {
        self.builder
    }
}

/// Why an op was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// It has no name.
    #[error("a custom op without a name cannot be called")]
    Nameless,
    /// Another op has the name.
    #[error(
        "another custom op is registered as `{0}`; a name stands for one op as long as the program runs"
    )]
    Taken(String),
}

/// Why the code of a custom call is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody registered the op.
    #[error("custom op `{name}` is not registered in this program; a graph has only its name, so hand the op to `kiln_ir::register` before{}", registered(.known))]
    Unregistered {
        /// The op.
        name: String,
        /// Those that are registered.
        known: Vec<String>,
    },
    /// The op does not take the operands.
    #[error("custom op `{name}`: {message}")]
    Refused {
        /// The op.
        name: String,
        /// Its own words.
        message: String,
    },
    /// The op gives other results than the graph says: it is another op than the one that the graph was built with.
    #[error("custom op `{name}` gives {inferred}, but the graph says {declared}")]
    Results {
        /// The op.
        name: String,
        /// What the graph says.
        declared: String,
        /// What the op says.
        inferred: String,
    },
}

fn registered(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!(" (registered are {})", names.join(", ")),
    }
}

type Table = BTreeMap<String, (TypeId, Arc<dyn CustomOp>)>;

static TABLE: RwLock<Table> = RwLock::new(BTreeMap::new());

/// Makes an op known to the program under its name, for as long as it runs. To register a type without fields again does nothing.
///
/// # Errors
/// [`RegisterError`]: no name, or one that another op has.
pub fn register<C: CustomOp>(op: C) -> Result<(), RegisterError> {
    let name = op.name().to_owned();
    if name.is_empty() {
        return Err(RegisterError::Nameless);
    }
    // Nothing panics while it is held, so it is never poisoned.
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    let of = TypeId::of::<C>();
    match table.get(&name) {
        None => {
            table.insert(name, (of, Arc::new(op)));
            Ok(())
        }
        // Without fields two values of a type are one op.
        Some((known, _)) if *known == of && size_of::<C>() == 0 => Ok(()),
        Some(_) => Err(RegisterError::Taken(name)),
    }
}

/// The op of a name.
pub(crate) fn find(name: &str) -> Result<Arc<dyn CustomOp>, CallError> {
    let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
    match table.get(name) {
        Some((_, op)) => Ok(Arc::clone(op)),
        None => Err(CallError::Unregistered {
            name: name.to_owned(),
            known: table.keys().cloned().collect(),
        }),
    }
}
