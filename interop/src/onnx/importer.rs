//! From a model to a graph: names to values, node after node, in the order of the file, which ONNX wants to be an order of evaluation.
//!
//! A node whose inputs are all known is computed here, by the interpreter on a graph of its own, so that shape arithmetic leaves no trace;
//! arithmetic on symbolic extents is [`super::fold`]'s. A node that cannot be imported is noted with its reason and the rest goes on, so
//! that one error lists them all. Work is bounded: functions that call each other without end and graphs that unfold to millions of nodes
//! are refused.

use super::call::Call;
use super::elements::Elements;
use super::error::{ImportErrors, Reason, Unsupported};
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};
use super::proto::{OperatorSetIdProto, ValueInfoProto};
use super::value::{Known, Value};
use super::{Import, ImportOptions, elements, fold, ops};
use kiln_ir::{Builder, Dim, Location, Shape};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// No model unfolds to more nodes.
const MOST_NODES: usize = 1 << 18;
/// No function calls functions deeper.
const DEEPEST_CALL: usize = 24;

/// What the whole import shares.
pub(crate) struct Context<'a> {
    model: &'a ModelProto,
    pub(crate) folder: Option<&'a Path>,
    file: Arc<str>,
    problems: RefCell<Vec<Unsupported>>,
    /// The nodes in the order in which they were met; their diagnostics are charged to the line of that number, from 1.
    nodes: RefCell<Vec<Unsupported>>,
    budget: Cell<usize>,
}

/// What names stand for within one graph.
#[derive(Clone)]
pub(crate) struct Scope<'g> {
    values: BTreeMap<String, Value<'g>>,
    opsets: Rc<BTreeMap<String, i64>>,
    depth: usize,
}

impl<'g> Scope<'g> {
    /// A scope without names, at the same place.
    pub(crate) fn empty<'s>(&self) -> Scope<'s> {
        Scope {
            values: BTreeMap::new(),
            opsets: self.opsets.clone(),
            depth: self.depth,
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
        budget: Cell::new(MOST_NODES),
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
    };
    let params = context.initializers(graph, &mut scope, true);
    for input in &graph.input {
        if scope.values.contains_key(&input.name) {
            continue;
        }
        let value = match options.fixed.get(&input.name) {
            Some(data) => Known::Data(data.clone()).into(),
            None => context.declare(&builder, input, options),
        };
        scope.values.insert(input.name.clone(), value);
    }
    context.run(&builder, &graph.node, &mut scope);
    for output in &graph.output {
        let value = scope.values.get(&output.name);
        match value.and_then(|v| v.tensor(&builder)) {
            Some(tensor) => builder.output(&output.name, tensor),
            None if matches!(value, Some(Value::Failed)) => {}
            None => context.problem(&output.name, "the output is no tensor, or nothing makes it"),
        }
    }
    let used: BTreeSet<String> = (builder.params().iter())
        .filter_map(|p| builder.slot_name(p.id()?))
        .collect();
    let finished = builder.finish();
    let mut problems = context.problems.take();
    match finished {
        Ok(graph) if problems.is_empty() => Ok(Import {
            graph,
            params: params
                .into_iter()
                .filter(|(name, _)| used.contains(name))
                .collect(),
        }),
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
    fn problem(&self, name: &str, reason: &str) {
        self.problems.borrow_mut().push(unnamed(name, reason));
    }

    /// Initializers as values; those of floating types are params at the top, and their data is given back.
    fn initializers(
        &self,
        graph: &GraphProto,
        scope: &mut Scope<'_>,
        top: bool,
    ) -> Vec<(String, Elements)> {
        let mut params = Vec::new();
        if !graph.sparse_initializer.is_empty() {
            self.problem("sparse_initializer", "Kiln has no sparse tensors");
        }
        for tensor in &graph.initializer {
            let value = match Elements::read(&self.file, self.folder, tensor) {
                Ok(data) if data.dtype().is_float() && top => {
                    params.push((tensor.name.clone(), data.clone()));
                    Value::Param(tensor.name.clone(), data)
                }
                Ok(data) => Known::Data(data).into(),
                Err(error) => {
                    self.problem(&tensor.name, &error.to_string());
                    Value::Failed
                }
            };
            scope.values.insert(tensor.name.clone(), value);
        }
        params
    }

    /// An input of the model as one of the graph.
    fn declare<'g>(
        &self,
        builder: &'g Builder,
        input: &ValueInfoProto,
        options: &ImportOptions,
    ) -> Value<'g> {
        let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let Some(tensor) = tensor else {
            self.problem(
                &input.name,
                "the input is no tensor, but a sequence, an optional or a map",
            );
            return Value::Failed;
        };
        let Some(dtype) = elements::dtype(tensor.elem_type) else {
            let what = format!("the input has {}", elements::unknown_type(tensor.elem_type));
            self.problem(&input.name, &what);
            return Value::Failed;
        };
        let Some(shape) = &tensor.shape else {
            self.problem(
                &input.name,
                "the input has no shape, and so no known number of axes",
            );
            return Value::Failed;
        };
        let extent = |(axis, dim): (usize, &super::proto::DimensionProto)| match dim {
            super::proto::DimensionProto {
                dim_value: Some(n), ..
            } if *n >= 0 => Dim::from(*n),
            super::proto::DimensionProto {
                dim_param: Some(name),
                ..
            } if name.chars().any(char::is_alphanumeric) => symbol(name),
            super::proto::DimensionProto { .. } => symbol(&format!("{}_{axis}", input.name)),
        };
        let given = |dim: Dim| {
            let given = dim.as_symbol().and_then(|s| options.dims.get(s.name()));
            given.cloned().unwrap_or(dim)
        };
        let extents = shape.dim.iter().enumerate().map(extent);
        let shape: Shape = extents.map(given).collect();
        builder.input(&input.name, dtype, shape).into()
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
            Ok(results) => results,
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
            return Ok(Some(vec![known.into()]));
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
        self.initializers(graph, &mut inner, false);
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

/// The symbol of an extent that a model names: letters, digits and `_`, which is what the text form reads. A name that is spelled as the text
/// form spells an extent, such as `2*b + 1`, is that extent: exporters name extents so that follow from others.
fn symbol(name: &str) -> Dim {
    if let Ok(dim) = name.parse::<Dim>()
        && dim.constant().is_none()
        && dim.to_string() == name
    {
        return dim;
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut plain: String = name.chars().map(plain).take(60).collect();
    let begins = plain.chars().next().is_some_and(|c| c.is_ascii_digit());
    if begins || ["floordiv", "mod", "min", "max"].contains(&plain.as_str()) {
        plain.insert(0, '_');
    }
    Dim::symbol(&plain)
}
