//! From a model to a graph: names to values, node after node, in the order of the file, which ONNX wants to be an order of evaluation.
//!
//! A node whose inputs are all known is computed here, by the interpreter on a graph of its own, so that shape arithmetic leaves no trace;
//! arithmetic on symbolic extents is [`super::fold`]'s. A node that cannot be imported is noted with its reason and the rest goes on, so
//! that one error lists them all. Work is bounded: functions that call each other without end and graphs that unfold to millions of nodes
//! are refused.

use super::call::Call;
use super::elements::Elements;
use super::error::{ImportErrors, Reason, Unsupported};
use super::limits::{large_extent, most_nodes};
use super::live::live;
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};
use super::proto::{CONSTANTS, OperatorSetIdProto};
use super::signature::Symbols;
use super::value::{Known, Value};
use super::{Import, ImportOptions, fold, interface, ops};
use kiln_ir::{Builder, Location};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// No function calls functions deeper.
const DEEPEST_CALL: usize = 24;

/// What the whole import shares.
pub(crate) struct Context<'a> {
    model: &'a ModelProto,
    pub(crate) folder: Option<&'a Path>,
    pub(super) file: Arc<str>,
    problems: RefCell<Vec<Unsupported>>,
    /// The nodes in the order in which they were met; their diagnostics are charged to the line of that number, from 1.
    nodes: RefCell<Vec<Unsupported>>,
    /// Floating weights by name; those that are used become params.
    pub(super) weights: RefCell<BTreeMap<String, Elements>>,
    /// Those that do not learn.
    pub(super) states: BTreeSet<String>,
    /// Whether all weights are constants.
    pub(super) frozen: bool,
    /// What Kiln wrote as constants.
    pub(super) constants: BTreeSet<String>,
    /// How many nodes may still be imported.
    budget: Cell<usize>,
    /// How much may still be computed while the graph is built.
    work: Cell<usize>,
    /// The symbols of extents.
    pub(super) symbols: Symbols,
}

/// What names stand for within one graph.
#[derive(Clone)]
pub(crate) struct Scope<'g> {
    pub(super) values: BTreeMap<String, Value<'g>>,
    opsets: Rc<BTreeMap<String, i64>>,
    depth: usize,
    /// Whether its nodes run once in each step, under names that no other has: those of the model's graph, and of branches that are known
    /// to be taken.
    pub(super) top: bool,
}

impl<'g> Scope<'g> {
    /// A scope without names, at the same place.
    pub(crate) fn empty<'s>(&self) -> Scope<'s> {
        Scope {
            values: BTreeMap::new(),
            opsets: self.opsets.clone(),
            depth: self.depth,
            top: false,
        }
    }

    /// What a name stands for.
    pub(crate) fn get(&self, name: &str) -> Option<&Value<'g>> {
        self.values.get(name)
    }
}

/// Imports the whole model.
pub(crate) fn import(
    model: &ModelProto,
    file: &str,
    folder: Option<&Path>,
    options: &ImportOptions,
) -> Result<Import, ImportErrors> {
    let context = Context {
        model,
        folder,
        file: file.into(),
        problems: RefCell::default(),
        nodes: RefCell::default(),
        weights: RefCell::default(),
        states: interface::states(model),
        frozen: options.frozen,
        constants: interface::listed(model, CONSTANTS).collect(),
        budget: Cell::new(most_nodes(model)),
        work: Cell::new(fold::MOST_WORK_IN_ALL),
        symbols: Symbols::default(),
    };
    let empty = GraphProto::default();
    let graph = model.graph.as_ref().unwrap_or(&empty);
    if model.graph.is_none() {
        context.problem("model", "it has no graph");
    }
    let name = if graph.name.is_empty() {
        "model"
    } else {
        &graph.name
    };
    let builder = Builder::new(name);
    let mut scope = Scope {
        values: BTreeMap::new(),
        opsets: Rc::new(opsets(&model.opset_import)),
        depth: 0,
        top: true,
    };
    context.initializers(graph, &mut scope);
    for input in &graph.input {
        if scope.values.contains_key(&input.name) {
            continue;
        }
        let value = context.declare(&builder, input, options);
        scope.values.insert(input.name.clone(), value);
    }
    context.run(&builder, &graph.node, &mut scope);
    let outputs = graph.output.iter();
    let sequences = outputs.filter_map(|o| context.output(&builder, &o.name, scope.get(&o.name)));
    let sequences = sequences.collect();
    let finished = builder.finish();
    let mut problems = context.problems.take();
    match finished {
        Ok(graph) if problems.is_empty() => {
            let graph = live(&graph);
            let read: BTreeSet<&str> = graph.slots().iter().map(|s| s.name.as_str()).collect();
            let params = context.weights.take().into_iter();
            let params = params.filter(|(name, _)| read.contains(name.as_str()));
            Ok(Import {
                params: params.collect(),
                sequences,
                graph,
            })
        }
        Ok(_) => Err(ImportErrors(problems)),
        Err(diagnostics) => {
            let nodes = context.nodes.take();
            for diagnostic in diagnostics.0 {
                let line = diagnostic.location.line as usize;
                let reason = diagnostic.refusal.message.clone();
                let node = line.checked_sub(1).and_then(|i| nodes.get(i)).cloned();
                let found = match node {
                    Some(node) => Unsupported { reason, ..node },
                    None => unnamed(name, &reason),
                };
                // What is wrong within a body makes its node wrong too.
                let same =
                    |p: &Unsupported| (&p.node, &p.operator) == (&found.node, &found.operator);
                if !problems.iter().any(same) {
                    problems.push(found);
                }
            }
            Err(ImportErrors(problems))
        }
    }
}

impl Context<'_> {
    /// Counts work that is about to be done. `None` where too much is done already.
    pub(crate) fn take_work(&self, work: usize) -> Option<()> {
        self.work.set(self.work.get().checked_sub(work)?);
        Some(())
    }

    /// How many problems there are.
    pub(crate) fn problems(&self) -> usize {
        self.problems.borrow().len()
    }

    /// Whether one of the problems behind the first `before` is that something decides a shape. These problems are forgotten then.
    pub(crate) fn decides_shape(&self, before: usize) -> bool {
        let mut problems = self.problems.borrow_mut();
        let new = problems.get(before..).unwrap_or_default();
        let decides = new.iter().any(|p| p.unknown.is_some());
        if decides {
            problems.truncate(before);
        }
        decides
    }

    pub(super) fn problem(&self, name: &str, reason: &str) {
        self.problems.borrow_mut().push(unnamed(name, reason));
    }

    /// Imports nodes one after the other.
    fn run<'g>(&self, builder: &'g Builder, nodes: &[NodeProto], scope: &mut Scope<'g>) {
        for node in nodes {
            let results = self.node(builder, node, scope);
            let results = results.unwrap_or_else(|| vec![Value::Failed; node.output.len()]);
            let given = results.into_iter().chain(std::iter::repeat(Value::Absent));
            for (name, value) in node.output.iter().zip(given) {
                if !name.is_empty() {
                    scope.values.insert(name.clone(), value);
                }
            }
        }
    }

    /// The results of one node; `None` where it is reported.
    fn node<'g>(
        &self,
        builder: &'g Builder,
        node: &NodeProto,
        scope: &Scope<'g>,
    ) -> Option<Vec<Value<'g>>> {
        let domain = ops::domain(&node.domain);
        let mut record = Unsupported {
            node: node_name(node).to_owned(),
            operator: node.op_type.clone(),
            domain: domain.to_owned(),
            reason: String::new(),
            unknown: None,
        };
        let line = {
            let mut nodes = self.nodes.borrow_mut();
            nodes.push(record.clone());
            u32::try_from(nodes.len()).unwrap_or(u32::MAX)
        };
        let _line = builder.charged_to(Location {
            file: self.file.clone(),
            line,
            column: 1,
        });
        match self.results(builder, node, scope) {
            Ok(results) => results.map(|results| self.constants(node, scope, results)),
            Err(reason) => {
                record.reason = match reason {
                    Reason::Unsupported(what) => what,
                    Reason::Unknown(position, what) => {
                        record.unknown = node.input.get(position).cloned();
                        what
                    }
                };
                self.problems.borrow_mut().push(record);
                None
            }
        }
    }

    /// The results of a node, where those of a `Constant` with several floating elements are weights: older exporters write them so.
    fn constants<'g>(
        &self,
        node: &NodeProto,
        scope: &Scope<'g>,
        mut results: Vec<Value<'g>>,
    ) -> Vec<Value<'g>> {
        let name = node.output.first();
        if let (Some(name), "Constant", [Value::Known(Known::Data(data))]) =
            (name, node.op_type.as_str(), results.as_slice())
            && data.count() > 1
        {
            results = vec![self.weight(name, data.clone(), scope.top)];
        }
        results
    }

    fn results<'g>(
        &self,
        builder: &'g Builder,
        node: &NodeProto,
        scope: &Scope<'g>,
    ) -> Result<Option<Vec<Value<'g>>>, Reason> {
        let left = self.budget.get().checked_sub(1);
        let left = left.ok_or_else(|| Reason::new("the model unfolds to too many nodes"))?;
        self.budget.set(left);
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(match scope.values.get(name) {
                _ if name.is_empty() => Value::Absent,
                Some(value) => value.clone(),
                None => {
                    return Err(Reason::new(format!(
                        "nothing before it makes its input `{name}`"
                    )));
                }
            });
        }
        let failed = inputs.iter().any(|v| matches!(v, Value::Failed));
        let domain = ops::domain(&node.domain);
        let functions = self.model.functions.iter();
        let function = functions.into_iter().find(|f| {
            ops::domain(&f.domain) == domain
                && f.name == node.op_type
                && f.overload == node.overload
        });
        if let Some(function) = function {
            if failed {
                return Ok(None);
            }
            return self.function(builder, function, node, inputs, scope);
        }
        let version = scope.opsets.get(domain).copied();
        let version = version.ok_or_else(|| {
            Reason::new(format!(
                "the model does not import the operators of `{domain}`"
            ))
        })?;
        let import = ops::find(domain, &node.op_type, version)?;
        if failed {
            return Ok(None);
        }
        let call = |builder: &'g Builder| Call {
            context: self,
            scope,
            node,
            version,
            inputs: inputs.clone(),
            builder,
            asked: RefCell::default(),
        };
        let call = call(builder);
        if let Some(known) = fold::constant(&call, import) {
            return Ok(Some(known));
        }
        if let Some(known) = fold::symbolic(&call)? {
            let known = known.into();
            return match large_extent(&known) {
                Some(large) => Err(Reason::new(large)),
                None => Ok(Some(vec![known])),
            };
        }
        let results = import(&call)?;
        let asked = call.asked.borrow();
        let ignored = node
            .attribute
            .iter()
            .find(|a| !asked.contains(a.name.as_str()));
        if let Some(ignored) = ignored {
            return Err(Reason::new(format!(
                "it has the attribute `{}`, which the importer does not know",
                ignored.name
            )));
        }
        if let Some(large) = results.iter().find_map(large_extent) {
            return Err(Reason::new(large));
        }
        // A mistake has its diagnostic, charged to this node's line.
        let wrong = |v: &Value<'g>| matches!(v, Value::Tensor(t) if t.id().is_none());
        Ok((!results.iter().any(wrong)).then_some(results))
    }

    /// A function's body in the place of a node.
    fn function<'g>(
        &self,
        builder: &'g Builder,
        function: &FunctionProto,
        node: &NodeProto,
        inputs: Vec<Value<'g>>,
        scope: &Scope<'g>,
    ) -> Result<Option<Vec<Value<'g>>>, Reason> {
        if scope.depth >= DEEPEST_CALL {
            return Err(Reason::new(
                "functions call each other too deep, or without end",
            ));
        }
        let mut attributes: BTreeMap<&str, &AttributeProto> = BTreeMap::new();
        attributes.extend(
            function
                .attribute_proto
                .iter()
                .map(|a| (a.name.as_str(), a)),
        );
        attributes.extend(node.attribute.iter().map(|a| (a.name.as_str(), a)));
        let given = inputs.into_iter().chain(std::iter::repeat(Value::Absent));
        let mut inner = Scope {
            values: function.input.iter().cloned().zip(given).collect(),
            opsets: Rc::new(opsets(&function.opset_import)),
            depth: scope.depth + 1,
            top: false,
        };
        let body: Vec<NodeProto> = function
            .node
            .iter()
            .map(|n| bound(n, &attributes))
            .collect();
        self.run(builder, &body, &mut inner);
        let mut results = Vec::with_capacity(function.output.len());
        for name in &function.output {
            results.push(inner.values.get(name).cloned().ok_or_else(|| {
                Reason::new(format!("nothing in the function makes its output `{name}`"))
            })?);
        }
        Ok(Some(results))
    }

    /// A graph within a node, over the values of the graph around it; `inputs` are its own. `None` where something in it is reported.
    pub(crate) fn region<'b>(
        &self,
        builder: &'b Builder,
        graph: &GraphProto,
        scope: &Scope<'b>,
        inputs: Vec<Value<'b>>,
    ) -> Option<Vec<Value<'b>>> {
        let mut inner = scope.clone();
        inner.top = false;
        self.within(builder, graph, inner, inputs)
    }

    /// A branch that is known to be taken, in the place of its node; as [`Self::region`].
    pub(crate) fn branch<'b>(
        &self,
        builder: &'b Builder,
        graph: &GraphProto,
        scope: &Scope<'b>,
    ) -> Option<Vec<Value<'b>>> {
        self.within(builder, graph, scope.clone(), Vec::new())
    }

    fn within<'b>(
        &self,
        builder: &'b Builder,
        graph: &GraphProto,
        mut inner: Scope<'b>,
        inputs: Vec<Value<'b>>,
    ) -> Option<Vec<Value<'b>>> {
        self.initializers(graph, &mut inner);
        let names = graph.input.iter().map(|i| i.name.clone());
        inner.values.extend(names.zip(inputs));
        self.run(builder, &graph.node, &mut inner);
        let outputs = graph.output.iter().map(|output| {
            let value = inner.values.get(&output.name);
            if value.is_none() {
                self.problem(&output.name, "nothing in the body makes this output");
            }
            value.filter(|v| !matches!(v, Value::Failed)).cloned()
        });
        outputs.collect()
    }
}

/// Attributes that name one of the function's are replaced by it, or left out where it has no value.
fn bound(node: &NodeProto, attributes: &BTreeMap<&str, &AttributeProto>) -> NodeProto {
    let mut node = node.clone();
    let bind = |a: &AttributeProto| -> Option<AttributeProto> {
        if !a.ref_attr_name.is_empty() {
            let given = attributes.get(a.ref_attr_name.as_str())?;
            return Some(AttributeProto {
                name: a.name.clone(),
                ..(*given).clone()
            });
        }
        let mut a = a.clone();
        if let Some(graph) = &mut a.g {
            graph.node = graph.node.iter().map(|n| bound(n, attributes)).collect();
        }
        Some(a)
    };
    node.attribute = node.attribute.iter().filter_map(bind).collect();
    node
}

fn opsets(imports: &[OperatorSetIdProto]) -> BTreeMap<String, i64> {
    let imports = imports.iter();
    imports
        .map(|o| (ops::domain(&o.domain).to_owned(), o.version))
        .collect()
}

fn node_name(node: &NodeProto) -> &str {
    if node.name.is_empty() {
        node.output.first().map_or("", String::as_str)
    } else {
        &node.name
    }
}

fn unnamed(name: &str, reason: &str) -> Unsupported {
    Unsupported {
        node: name.to_owned(),
        operator: String::new(),
        domain: String::new(),
        reason: reason.to_owned(),
        unknown: None,
    }
}
