//! Builders within builders: the body of a control op is a graph of its own, whose builder knows the one around it.
//!
//! A tensor of an outer builder that is used in a body is *captured*: the body gets a source for it, once, and the control op an operand. So a
//! closure that builds a body may use whatever is in scope. A constant is repeated in the body instead, where it stays a literal.

use super::control::Surround;
use super::{Builder, Inner, ScopeGuard, Tensor};
use crate::diagnostic::{Kind, Refusal};
use crate::graph::{Role, Slot};
use crate::ids::NodeId;
use crate::ops::{Op, Source};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

impl Builder {
    /// Whether both are the same builder.
    pub(crate) fn is(&self, other: &Builder) -> bool {
        Rc::ptr_eq(&self.inner, &other.inner)
    }

    /// Another handle of the same builder.
    fn handle(&self) -> Builder {
        Builder {
            inner: Rc::clone(&self.inner),
            outer: self.outer.as_ref().map(|outer| Box::new(outer.handle())),
        }
    }

    /// A builder of a body within this graph. Scopes, the line that is charged and the origin are those that hold here.
    pub(super) fn nested(&self, name: &str, surround: Surround) -> Builder {
        let inner = self.inner.borrow();
        let mut new = Inner::new(name);
        new.scopes.clone_from(&inner.scopes);
        new.location.clone_from(&inner.location);
        new.origin = inner.origin.clone();
        new.surround = surround;
        Builder {
            inner: Rc::new(RefCell::new(new)),
            outer: Some(Box::new(self.handle())),
        }
    }

    /// A builder of a region that differentiation writes, which has no iteration of its own.
    pub(crate) fn nested_adjoint(&self) -> Builder {
        self.nested("adjoint", Surround::Branch { begins: Vec::new() })
    }

    /// The builder of the whole graph: this one, unless it builds the body of a control op.
    pub fn outermost(&self) -> &Builder {
        self.outer.as_ref().map_or(self, |outer| outer.outermost())
    }

    /// How many builders are around this one.
    pub(super) fn depth(&self) -> usize {
        self.outer.as_ref().map_or(0, |outer| 1 + outer.depth())
    }

    /// The builder among this one and those of the tensors that is within all others.
    pub(crate) fn innermost<'g>(&'g self, tensors: &[Tensor<'g>]) -> &'g Builder {
        let builders = tensors.iter().map(|t| t.builder);
        builders.fold(
            self,
            |best, b| if b.depth() > best.depth() { b } else { best },
        )
    }

    /// The tensor as one of this builder: captured, where it belongs to one around it.
    #[track_caller]
    pub(crate) fn import<'g>(&'g self, tensor: Tensor<'_>) -> Tensor<'g> {
        let Some(id) = tensor.id else {
            return self.poison();
        };
        if tensor.builder.is(self) {
            return self.tensor(id);
        }
        if !self.is_within(tensor.builder) {
            let refusal = Refusal::new(Kind::Signature, "an operand belongs to another builder");
            self.report(refusal, Vec::new());
            return self.poison();
        }
        if let Some(begin) = self.begin_in(tensor.builder)
            && id.index() >= begin
        {
            return self.sink(tensor.builder, begin, id);
        }
        self.import_from_around(tensor.builder, id)
    }

    /// The tensors as those of this builder.
    #[track_caller]
    pub(super) fn import_all<'g>(&'g self, tensors: &[Tensor<'_>]) -> Vec<Tensor<'g>> {
        // A closure would lose the caller.
        let mut imported = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            imported.push(self.import(*tensor));
        }
        imported
    }

    #[track_caller]
    fn import_from_around<'g>(&'g self, owner: &Builder, id: NodeId) -> Tensor<'g> {
        // Only builders around this one are asked, so there is one.
        let Some(outer) = &self.outer else {
            return self.poison();
        };
        match outer.import(owner.tensor(id)).id {
            Some(outside) => self.capture(outer, outside),
            None => self.poison(),
        }
    }

    /// How many nodes each builder from the outermost to this one has.
    pub(super) fn lengths(&self) -> Vec<usize> {
        let mut lengths = self.outer.as_ref().map_or(Vec::new(), |o| o.lengths());
        lengths.push(self.inner.borrow().graph.len());
        lengths
    }

    /// Whether this builder builds a body within the graph of another one.
    fn is_within(&self, other: &Builder) -> bool {
        let outer = self.outer.as_deref();
        outer.is_some_and(|outer| outer.is(other) || outer.is_within(other))
    }

    /// Where this builder builds a branch: how many nodes a builder around it had before.
    fn begin_in(&self, owner: &Builder) -> Option<usize> {
        match &self.inner.borrow().surround {
            Surround::Branch { begins } => begins.get(owner.depth()).copied(),
            Surround::Graph | Surround::Repeat | Surround::Scan(_) => None,
        }
    }

    /// Repeats a node in this branch that its closure made of tensors from around the branch alone. Such a node stands outside, where it
    /// would be computed whichever branch is chosen, and where a gradient of 0 would meet its infinite slope.
    #[track_caller]
    fn sink(&self, owner: &Builder, begin: usize, id: NodeId) -> Tensor<'_> {
        let depth = owner.depth();
        let known = |id: NodeId| {
            let inner = self.inner.borrow();
            inner.sunk.get(&(depth, id)).copied()
        };
        let mut needed = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let operands = owner.node(id).map_or(Vec::new(), |n| n.operands);
            let inside = operands.into_iter().filter(|o| o.index() >= begin);
            open.extend(inside.filter(|o| needed.insert(*o)));
        }
        for id in needed {
            let Some(node) = owner.node(id).filter(|_| known(id).is_none()) else {
                continue;
            };
            let copy = if let Op::Source(_) = node.op {
                self.import_from_around(owner, id)
            } else {
                let operands = node.operands.iter().map(|o| match known(*o) {
                    Some(copy) => self.tensor(copy),
                    None => self.import_from_around(owner, *o),
                });
                let operands: Vec<Tensor<'_>> = operands.collect();
                self.on_behalf(&node.provenance, node.provenance.origin.clone(), || {
                    self.push(node.op.clone(), &operands)
                })
            };
            let Some(copy) = copy.id else {
                return self.poison();
            };
            self.inner.borrow_mut().sunk.insert((depth, id), copy);
        }
        known(id).map_or_else(|| self.poison(), |copy| self.tensor(copy))
    }

    #[track_caller]
    fn capture(&self, outer: &Builder, outside: NodeId) -> Tensor<'_> {
        let Some(node) = outer.node(outside) else {
            return self.poison();
        };
        if let Op::Constant(constant) = node.op {
            return self.push(constant, &[]);
        }
        let known = |(of, source): &(NodeId, NodeId)| (*of == outside).then_some(*source);
        let known = self.inner.borrow().captures.iter().find_map(known);
        if let Some(source) = known {
            return self.tensor(source);
        }
        let wanted = outer.slot_name(outside);
        let wanted = wanted.unwrap_or_else(|| "captured".to_owned());
        let line = self.charged_to(node.provenance.location);
        let source = self.body_source(&wanted, Source { ty: node.ty });
        drop(line);
        if let Some(id) = source.id {
            self.inner.borrow_mut().captures.push((outside, id));
        }
        source
    }

    /// A source of a body, under the name or one that begins with it.
    #[track_caller]
    pub(crate) fn body_source(&self, wanted: &str, source: Source) -> Tensor<'_> {
        let taken = |name: &str| {
            let inner = self.inner.borrow();
            inner.graph.slots().iter().any(|s| s.name == name)
        };
        let mut name = wanted.to_owned();
        let mut number = 0usize;
        while taken(&name) {
            number += 1;
            name = format!("{wanted}.{number}");
        }
        let source = self.push(source, &[]);
        if let Some(node) = source.id {
            let role = Role::Input;
            let slot = Slot { name, role, node };
            self.inner.borrow_mut().graph.push_slot(slot);
        }
        source
    }

    /// Takes over the scopes of a builder within this one, while the guard lives.
    pub(super) fn scopes_of(&self, within: &Builder) -> ScopeGuard<'_> {
        let guard = self.root_scope();
        let scopes = within.inner.borrow().scopes.clone();
        self.inner.borrow_mut().scopes = scopes;
        guard
    }

    /// Reports that a body has none of these, where this builder builds one.
    #[track_caller]
    pub(super) fn refuses_in_body(&self, what: &str) -> bool {
        let in_body = self.outer.is_some();
        if in_body {
            let message = format!("the body of a control op has no {what}");
            self.report(Refusal::new(Kind::Signature, message), Vec::new());
        }
        in_body
    }
}
