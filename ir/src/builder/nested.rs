//! Builders within builders: the body of a control op is a graph of its own, whose builder knows the one around it.
//!
//! A tensor of an outer builder that is used in a body is *captured*: the body gets a source for it, once, and the control op an operand. So a
//! closure that builds a body may use whatever is in scope. A constant is repeated in the body instead, where it stays a literal.

use super::{Builder, Inner, ScopeGuard, Tensor};
use crate::diagnostic::{Kind, Refusal};
use crate::graph::{Role, Slot};
use crate::ids::NodeId;
use crate::ops::{Op, Source};
use std::cell::RefCell;
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
    pub(crate) fn nested(&self, name: &str) -> Builder {
        let inner = self.inner.borrow();
        let mut new = Inner::new(name);
        new.scopes.clone_from(&inner.scopes);
        new.location.clone_from(&inner.location);
        new.origin = inner.origin.clone();
        Builder {
            inner: Rc::new(RefCell::new(new)),
            outer: Some(Box::new(self.handle())),
        }
    }

    /// The builder of the whole graph: this one, unless it builds the body of a control op.
    pub fn outermost(&self) -> &Builder {
        self.outer.as_ref().map_or(self, |outer| outer.outermost())
    }

    /// How many builders are around this one.
    fn depth(&self) -> usize {
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
        let Some(outer) = &self.outer else {
            let refusal = Refusal::new(Kind::Signature, "an operand belongs to another builder");
            self.report(refusal, Vec::new());
            return self.poison();
        };
        let outside = outer.import(tensor);
        match outside.id {
            Some(outside) => self.capture(outer, outside),
            None => self.poison(),
        }
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
        let source = self.body_source(&wanted, Source { ty: node.ty });
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
