//! Where nodes belong: scopes, the lines they are charged to, and the sources that are already there.
//!
//! Layers, losses and optimizers are written with these, in `kiln-nn` and by users alike: they find sources by name, number what they
//! make in a scope, charge their nodes to the user's line where `#[track_caller]` cannot reach (through `dyn` and closures), and refuse
//! in the builder's own words.

use super::{Builder, Tensor};
use crate::diagnostic::{Diagnostic, Refusal};
use crate::ids::NodeId;
use crate::provenance::{Location, Provenance};

/// Closes its scope when it is dropped.
pub struct ScopeGuard<'g> {
    builder: &'g Builder,
    /// The scopes that are open again afterwards.
    outer: Vec<String>,
}

impl Drop for ScopeGuard<'_> {
    fn drop(&mut self) {
        self.builder.inner.borrow_mut().scopes = std::mem::take(&mut self.outer);
    }
}

/// Ends the charge to a line when it is dropped.
pub struct LocationGuard<'g> {
    builder: &'g Builder,
    outer: Option<Location>,
}

impl Drop for LocationGuard<'_> {
    fn drop(&mut self) {
        self.builder.inner.borrow_mut().location = self.outer.take();
    }
}

impl Builder {
    /// Opens a scope: nodes made while the guard lives carry `name` in their provenance, and slots get it before their names.
    pub fn scope(&self, name: &str) -> ScopeGuard<'_> {
        let mut inner = self.inner.borrow_mut();
        let outer = inner.scopes.clone();
        inner.scopes.push(name.to_owned());
        ScopeGuard {
            builder: self,
            outer,
        }
    }

    /// Leaves all open scopes while the guard lives: for sources that belong to the whole graph, whoever asks for them first.
    pub fn root_scope(&self) -> ScopeGuard<'_> {
        let outer = std::mem::take(&mut self.inner.borrow_mut().scopes);
        ScopeGuard {
            builder: self,
            outer,
        }
    }

    /// The open scopes joined by `/`, empty at the top.
    pub fn scope_path(&self) -> String {
        self.inner.borrow().scopes.join("/")
    }

    /// The number of earlier calls in the open scope: 0, 1, 2, ... It does not depend on what happens in other scopes. A body counts on
    /// where the graph around it stands.
    pub fn next_ordinal(&self) -> u64 {
        let path = self.scope_path();
        let mut inner = self.outermost().inner.borrow_mut();
        let next = inner.ordinals.entry(path).or_insert(0);
        *next += 1;
        *next - 1
    }

    /// Charges nodes and mistakes to `location` while the guard lives, instead of to the calling line. The innermost guard counts.
    pub fn charged_to(&self, location: Location) -> LocationGuard<'_> {
        let outer = self.inner.borrow_mut().location.replace(location);
        LocationGuard {
            builder: self,
            outer,
        }
    }

    /// The input, param or state with the full name `name`, scopes included.
    pub fn find(&self, name: &str) -> Option<Tensor<'_>> {
        if let Some(outer) = &self.outer {
            return outer.find(name).map(|found| self.import(found));
        }
        let inner = self.inner.borrow();
        let slot = inner.graph.slots().iter().find(|s| s.name == name)?;
        Some(Tensor {
            builder: self,
            id: Some(slot.node),
        })
    }

    /// The result called `name`.
    pub fn find_output(&self, name: &str) -> Option<Tensor<'_>> {
        if let Some(outer) = &self.outer {
            return outer.find_output(name).map(|found| self.import(found));
        }
        let inner = self.inner.borrow();
        let output = inner.graph.outputs().iter().find(|o| o.name == name)?;
        Some(self.tensor(output.node))
    }

    /// The full name of the slot whose source is `id`.
    pub fn slot_name(&self, id: NodeId) -> Option<String> {
        let inner = self.inner.borrow();
        let slot = inner.graph.slots().iter().find(|s| s.node == id)?;
        Some(slot.name.clone())
    }

    /// Records a mistake at the caller's line and returns the tensor that stands for it. `operands` are described below the message.
    #[track_caller]
    pub fn refuse<'g>(&'g self, refusal: Refusal, operands: &[Tensor<'g>]) -> Tensor<'g> {
        let own = operands.iter().filter(|t| t.builder.is(self));
        let ids: Vec<NodeId> = own.filter_map(|t| t.id).collect();
        let notes = self.describe(&ids);
        self.report(refusal, notes);
        self.poison()
    }

    /// A tensor that stands for a mistake already reported.
    pub fn poison(&self) -> Tensor<'_> {
        Tensor {
            builder: self,
            id: None,
        }
    }

    /// Records a mistake at the caller's line.
    #[track_caller]
    pub(crate) fn report(&self, refusal: Refusal, notes: Vec<String>) {
        let Provenance {
            location, scope, ..
        } = self.provenance();
        self.inner.borrow_mut().diagnostics.push(Diagnostic {
            refusal,
            location,
            scope,
            notes,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Kind;
    use crate::dtype::DType;
    use crate::init::Init;

    #[test]
    fn guards_restore_what_was_before() {
        let g = Builder::new("m");
        let _outer = g.scope("encoder");
        {
            let _root = g.root_scope();
            assert_eq!(g.scope_path(), "");
            let _inner = g.scope("rng");
            g.state("key", DType::U32, [2], Init::zeros());
        }
        assert_eq!(g.scope_path(), "encoder");
        let w = g.param("w", [1], Init::zeros());
        assert_eq!(g.find("encoder/w").and_then(Tensor::id), w.id());
        assert!(g.find("rng/key").is_some() && g.find("w").is_none());
        assert_eq!(
            w.id().and_then(|id| g.slot_name(id)).as_deref(),
            Some("encoder/w")
        );
    }

    #[test]
    fn ordinals_count_in_each_scope_alone() {
        let g = Builder::new("m");
        assert_eq!((g.next_ordinal(), g.next_ordinal()), (0, 1));
        let inner = g.scope("a");
        assert_eq!(g.next_ordinal(), 0);
        drop(inner);
        assert_eq!(g.next_ordinal(), 2);
    }

    #[test]
    fn the_innermost_charge_counts_and_ends() {
        let g = Builder::new("m");
        let at = |line| Location {
            file: "model.rs".into(),
            line,
            column: 1,
        };
        let wrong = || Refusal::new(Kind::Shape, "wrong");
        let outer = g.charged_to(at(1));
        let inner = g.charged_to(at(2));
        assert!(g.refuse(wrong(), &[]).id().is_none());
        drop(inner);
        g.refuse(wrong(), &[]);
        drop(outer);
        g.refuse(wrong(), &[]);
        let found = g.finish().unwrap_err().0;
        let lines: Vec<&Location> = found.iter().map(|d| &d.location).collect();
        assert_eq!(lines[..2], [&at(2), &at(1)]);
        assert_eq!(&*lines[2].file, file!());
    }
}
