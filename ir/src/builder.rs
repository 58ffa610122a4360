//! The builder: what users write graphs with.
//!
//! A [`Tensor`] is `Copy` and borrows its [`Builder`]. A call that does not fit records one diagnostic and returns a poisoned tensor;
//! poison spreads in silence, and [`Builder::finish`] returns all diagnostics at once. Broadcasts are inserted here as explicit nodes;
//! element types are never converted here.

use crate::diagnostic::{Diagnostic, Diagnostics, Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::{Class, DType};
use crate::graph::{Graph, Node, Output, Role, Slot, Update};
use crate::ids::NodeId;
use crate::init::Init;
use crate::ops::{Constant, Op, Source};
use crate::provenance::{Location, Origin, Provenance};
use crate::types::{Shape, TensorType};
use crate::verify::{Violations, verify};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

mod control;
mod custom;
mod indexing;
mod nested;
mod operators;
mod placement;
mod structured;
mod tensor;
mod window;

use control::Surround;
pub use control::{Iteration, ScanOptions, Scanned, Yield};
pub(crate) use indexing::along_axis;
pub use placement::{LocationGuard, ScopeGuard};
pub use tensor::{Operand, Tensor};
pub use window::{ConvOptions, Layout, Padding, PoolOptions, UnknownLayout};

/// Builds one graph, or the body of a control op of an outer one.
pub struct Builder {
    inner: Rc<RefCell<Inner>>,
    /// The builder of the graph that this one's graph is a region of.
    outer: Option<Box<Builder>>,
}

struct Inner {
    graph: Graph,
    /// Which values of the outer graph this one captures: the outer node, and the source here.
    captures: Vec<(NodeId, NodeId)>,
    /// Nodes of builders around a branch that are repeated in it: by the owner's depth and the node there, the node here.
    sunk: BTreeMap<(usize, NodeId), NodeId>,
    surround: Surround,
    diagnostics: Vec<Diagnostic>,
    /// Results that stand for mistakes: for [`Builder::finish`], should it find none reported.
    lost: Vec<Diagnostic>,
    scopes: Vec<String>,
    /// How many things each scope has numbered.
    ordinals: BTreeMap<String, u64>,
    /// The line that nodes are charged to, where it is not the caller's.
    location: Option<Location>,
    origin: Origin,
}

impl Builder {
    /// An empty graph called `name`.
    pub fn new(name: &str) -> Self {
        Self {
            inner: Rc::new(RefCell::new(Inner::new(name))),
            outer: None,
        }
    }

    /// A builder that goes on with a finished graph: its sources, nodes, results and updates are there, each under the id that it has.
    /// [`find`](Self::find) and [`find_output`](Self::find_output) give its tensors.
    ///
    /// # Errors
    /// A graph that does not verify.
    ///
    /// ```
    /// use kiln_ir::{Builder, Graph, grad};
    ///
    /// let read: Graph = "kiln 1
    /// graph @square(%x: f32[]) {
    ///   %0: f32[] = mul %x, %x
    ///   return y: %0
    /// }".parse()?;
    /// let g = Builder::resume(read)?;
    /// let (x, y) = (g.find("x").ok_or("no x")?, g.find_output("y").ok_or("no y")?);
    /// g.output("dx", grad(y, &[x])[0]);
    /// assert_eq!(g.finish()?.outputs().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(graph: Graph) -> Result<Self, Violations> {
        verify(&graph)?;
        let builder = Self::new(&graph.name);
        builder.inner.borrow_mut().graph = graph;
        Ok(builder)
    }

    /// The symbolic extent `name`.
    pub fn dim(&self, name: &str) -> Dim {
        Dim::symbol(name)
    }

    /// A source that is fed at each step.
    #[track_caller]
    pub fn input(&self, name: &str, dtype: DType, shape: impl Into<Shape>) -> Tensor<'_> {
        self.slot(name, Role::Input, TensorType::new(dtype, shape))
    }

    /// A trainable f32 source.
    #[track_caller]
    pub fn param(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Tensor<'_> {
        self.param_of(name, DType::F32, shape, init)
    }

    /// A trainable source of any element type.
    #[track_caller]
    pub fn param_of(
        &self,
        name: &str,
        dtype: DType,
        shape: impl Into<Shape>,
        init: Init,
    ) -> Tensor<'_> {
        self.slot(name, Role::Param(init), TensorType::new(dtype, shape))
    }

    /// A source that is kept from step to step but not trained.
    #[track_caller]
    pub fn state(
        &self,
        name: &str,
        dtype: DType,
        shape: impl Into<Shape>,
        init: Init,
    ) -> Tensor<'_> {
        self.slot(name, Role::State(init), TensorType::new(dtype, shape))
    }

    /// A tensor whose every element is `value`, converted to the element type as [`Tensor::convert`] does: an integer saturates.
    #[track_caller]
    pub fn splat(&self, dtype: DType, shape: impl Into<Shape>, value: f64) -> Tensor<'_> {
        self.push(Constant::splat(TensorType::new(dtype, shape), value), &[])
    }

    /// Names a result.
    #[track_caller]
    pub fn output(&self, name: &str, value: Tensor<'_>) {
        if self.refuses_in_body("outputs; what a body computes it yields") {
            return;
        }
        let Some(node) = value.id else {
            return self.lose(&format!("the output `{name}`"));
        };
        let taken = self
            .inner
            .borrow()
            .graph
            .outputs()
            .iter()
            .any(|o| o.name == name);
        if taken {
            self.report(
                Refusal::new(
                    Kind::Signature,
                    format!("the output `{name}` is declared twice"),
                ),
                Vec::new(),
            );
            return;
        }
        self.inner.borrow_mut().graph.push_output(Output {
            name: name.to_owned(),
            node,
        });
    }

    /// `target := value` when the step ends. The target must be a param or state, updated once, and the types must be equal.
    #[track_caller]
    pub fn update(&self, target: Tensor<'_>, value: Tensor<'_>) {
        if self.refuses_in_body("updates; carry the value, and update behind the loop") {
            return;
        }
        let (Some(to), Some(from)) = (target.id, value.id) else {
            let name = target.id.and_then(|id| self.slot_name(id));
            let name = name.map_or(String::new(), |name| format!(" of `{name}`"));
            return self.lose(&format!("the update{name}"));
        };
        let refusal = {
            let inner = self.inner.borrow();
            let slot = inner.graph.slots().iter().find(|s| s.node == to);
            let (wanted, given) = (inner.ty(to), inner.ty(from));
            match slot.map(|s| (&s.role, &s.name)) {
                None | Some((Role::Input, _)) => Some(Refusal::new(
                    Kind::Signature,
                    "only a param or a state can be updated",
                )),
                Some((Role::Param(_) | Role::State(_), name)) => {
                    if inner.graph.updates().iter().any(|u| u.target == to) {
                        Some(Refusal::new(
                            Kind::Signature,
                            format!("`{name}` is updated twice"),
                        ))
                    } else if wanted != given {
                        Some(Refusal::new(
                            Kind::Shape,
                            format!(
                                "the update of `{name}` has type {given}, but `{name}` is {wanted}"
                            ),
                        ))
                    } else {
                        None
                    }
                }
            }
        };
        match refusal {
            Some(refusal) => self.report(refusal, Vec::new()),
            None => self.inner.borrow_mut().graph.push_update(Update {
                target: to,
                value: from,
            }),
        }
    }

    /// The trainable tensors of the whole graph, in the order of declaration.
    pub fn params(&self) -> Vec<Tensor<'_>> {
        if let Some(outer) = &self.outer {
            return outer.params();
        }
        let inner = self.inner.borrow();
        let params = inner
            .graph
            .slots()
            .iter()
            .filter(|s| matches!(s.role, Role::Param(_)));
        params
            .map(|s| Tensor {
                builder: self,
                id: Some(s.node),
            })
            .collect()
    }

    /// The finished graph, or every mistake that was made. A result that is poisoned though nobody said why is a mistake too.
    pub fn finish(self) -> Result<Graph, Diagnostics> {
        let name = self.inner.borrow().graph.name.clone();
        let inner = self.inner.replace(Inner::new(&name));
        // What is poisoned hangs on what was reported, if anything was.
        let reported = [inner.diagnostics, inner.lost];
        match reported.into_iter().find(|found| !found.is_empty()) {
            None => Ok(inner.graph),
            Some(found) => Err(Diagnostics(found)),
        }
    }

    /// A literal beside a tensor, which must be a number that the element type has: `counts * 0.5` would be zeros in silence.
    #[track_caller]
    fn literal(&self, dtype: DType, shape: Shape, value: f64) -> Tensor<'_> {
        if holds(dtype, value) {
            return self.splat(dtype, shape, value);
        }
        let refusal = Refusal::new(Kind::Type, format!("the literal {value:?} is no {dtype}"));
        let help = "convert the tensor first, or give a whole number in the range of the type";
        self.report(refusal.help(help), Vec::new());
        self.poison()
    }

    /// Appends a node, or records why it does not fit. Poisoned operands give a poisoned result without a further message.
    #[track_caller]
    pub fn push<'g>(&'g self, op: impl Into<Op>, operands: &[Tensor<'g>]) -> Tensor<'g> {
        let poisoned = Tensor {
            builder: self,
            id: None,
        };
        if operands.iter().any(|t| t.id.is_none()) {
            return poisoned;
        }
        let home = self.innermost(operands);
        if !home.is(self) {
            return home.push(op, operands);
        }
        let own = self.import_all(operands);
        let ids: Option<Vec<NodeId>> = own.iter().map(|t| t.id).collect();
        let Some(ids) = ids else { return poisoned };
        let op = op.into();
        let inferred = {
            let inner = self.inner.borrow();
            let types: Vec<TensorType> = ids.iter().map(|id| inner.ty(*id)).collect();
            let ty = op.rules().infer(&types.iter().collect::<Vec<_>>());
            ty.and_then(|ty| possible(op.rules().name(), ty))
        };
        match inferred {
            Ok(ty) => {
                let provenance = self.provenance();
                let node = self.inner.borrow_mut().graph.push(Node {
                    op,
                    operands: ids,
                    ty,
                    provenance,
                });
                Tensor {
                    builder: self,
                    id: Some(node),
                }
            }
            Err(refusal) => {
                let notes = self.describe(&ids);
                self.report(refusal, notes);
                poisoned
            }
        }
    }

    /// Runs `body` with every node it makes marked as coming from `origin`, on behalf of a node: it has that node's line and scopes.
    pub(crate) fn on_behalf<R>(
        &self,
        node: &Provenance,
        origin: Origin,
        body: impl FnOnce() -> R,
    ) -> R {
        let _line = self.charged_to(node.location.clone());
        let _scopes = self.root_scope();
        if !node.scope.is_empty() {
            self.inner.borrow_mut().scopes.push(node.scope.to_string());
        }
        let before = std::mem::replace(&mut self.inner.borrow_mut().origin, origin);
        let result = body();
        self.inner.borrow_mut().origin = before;
        result
    }

    /// The tensor of a node of this graph.
    pub(crate) fn tensor(&self, id: NodeId) -> Tensor<'_> {
        Tensor {
            builder: self,
            id: Some(id),
        }
    }

    /// The node behind a tensor, copied out.
    pub(crate) fn node(&self, id: NodeId) -> Option<Node> {
        self.inner.borrow().graph.node(id).cloned()
    }

    #[track_caller]
    pub(crate) fn provenance(&self) -> Provenance {
        let inner = self.inner.borrow();
        // A closure would lose the caller, hence the match.
        let location = match &inner.location {
            Some(location) => location.clone(),
            None => Location::caller(),
        };
        Provenance {
            location,
            scope: Arc::from(inner.scopes.join("/")),
            origin: inner.origin.clone(),
        }
    }

    #[track_caller]
    fn slot(&self, name: &str, role: Role, ty: TensorType) -> Tensor<'_> {
        if let Some(outer) = &self.outer {
            // A source belongs to the whole graph; the body captures it, and it is named by the scopes that are open here.
            let _scopes = outer.scopes_of(self);
            let _line = outer.charged_to(self.provenance().location);
            return self.import(outer.slot(name, role, ty));
        }
        let name = {
            let inner = self.inner.borrow();
            let mut path = inner.scopes.clone();
            path.push(name.to_owned());
            path.join("/")
        };
        let taken = self
            .inner
            .borrow()
            .graph
            .slots()
            .iter()
            .any(|s| s.name == name);
        if taken {
            let refusal = Refusal::new(
                Kind::Signature,
                format!("the name `{name}` is taken by another source"),
            )
            .help("open a scope around each layer");
            self.report(refusal, Vec::new());
            return self.poison();
        }
        if let Some(d) = ty
            .shape
            .iter()
            .find(|d| d.constant().is_some_and(|c| c < 0))
        {
            self.report(
                Refusal::new(Kind::Shape, format!("`{name}` has an axis of size {d}")),
                Vec::new(),
            );
            return self.poison();
        }
        let init = match &role {
            Role::Input => None,
            Role::Param(init) | Role::State(init) => init.trouble(&ty),
        };
        let refusal = match (possible(&name, ty.clone()), init) {
            (Err(refusal), _) => Some(refusal),
            (Ok(_), Some(why)) => Some(Refusal::new(Kind::Attribute, format!("`{name}`: {why}"))),
            (Ok(_), None) => None,
        };
        if let Some(refusal) = refusal {
            self.report(refusal, Vec::new());
            return self.poison();
        }
        let source = self.push(Source { ty }, &[]);
        if let Some(node) = source.id {
            self.inner
                .borrow_mut()
                .graph
                .push_slot(Slot { name, role, node });
        }
        source
    }

    fn describe(&self, operands: &[NodeId]) -> Vec<String> {
        let inner = self.inner.borrow();
        let label = |i: usize| match (operands.len(), i) {
            (1, _) => "operand".to_owned(),
            (2, 0) => "lhs".to_owned(),
            (2, _) => "rhs".to_owned(),
            (_, i) => format!("operand {i}"),
        };
        let describe = |(i, id): (usize, &NodeId)| {
            let node = inner.graph.node(*id)?;
            Some(format!(
                "{}: {} from {}",
                label(i),
                node.ty,
                node.provenance.location
            ))
        };
        operands.iter().enumerate().filter_map(describe).collect()
    }
}

/// The type, unless no tensor has it.
fn possible(what: &str, ty: TensorType) -> Result<TensorType, Refusal> {
    match ty.trouble() {
        None => Ok(ty),
        Some(why) => Err(Refusal::new(
            Kind::Shape,
            format!("`{what}` of type {ty}: {why}"),
        )),
    }
}

/// Whether an element type has a number: for integers it is whole and within their range.
fn holds(dtype: DType, value: f64) -> bool {
    let bits = 8 * dtype.size() as i32;
    let within = |low: f64, end: f64| value.fract() == 0.0 && (low..end).contains(&value);
    match dtype.class() {
        Class::Float => true,
        Class::Signed => within(-f64::from(2).powi(bits - 1), f64::from(2).powi(bits - 1)),
        Class::Unsigned => within(0.0, f64::from(2).powi(bits)),
        Class::Bool => within(0.0, 2.0),
    }
}

impl Inner {
    fn new(name: &str) -> Self {
        Self {
            graph: Graph::empty(name),
            captures: Vec::new(),
            sunk: BTreeMap::new(),
            surround: Surround::Graph,
            diagnostics: Vec::new(),
            lost: Vec::new(),
            scopes: Vec::new(),
            ordinals: BTreeMap::new(),
            location: None,
            origin: Origin::User,
        }
    }

    /// Ids come from this graph alone, so the lookup succeeds; a foreign id reads as a scalar and fails the shape rule.
    fn ty(&self, id: NodeId) -> TensorType {
        self.graph
            .node(id)
            .map_or_else(|| TensorType::new(DType::Bool, ()), |n| n.ty.clone())
    }
}
