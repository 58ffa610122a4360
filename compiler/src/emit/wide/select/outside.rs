//! What a function gets from its caller: pointers to elements, and values that are the same for all lanes.

use super::{Known, Selector, position};
use crate::emit::wide::tape::{Arg, At, Op};
use crate::kernel::{Index, ParamId, ValueId};
use kiln_ir::Dim;

/// Accesses that lie farther apart, in elements, have pointers of their own.
const FARTHEST: u64 = 1 << 24;

/// What has a pointer of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::emit) enum Source<'k> {
    /// Elements of a parameter, from this index on.
    Elements(ParamId, &'k Index),
    /// Random words in a row, which the caller draws.
    Words(ValueId),
}

/// An access to adjacent elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::emit) struct Stream<'k> {
    pub(in crate::emit) source: Source<'k>,
    /// Of the rows that are folded at once, the one that it is of.
    pub(in crate::emit) row: usize,
}

/// A value from outside of the lanes, and of which of the rows that are folded at once it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::emit) struct Uniform {
    pub(in crate::emit) value: ValueId,
    pub(in crate::emit) row: usize,
    /// Whether the value is an index that counts the lanes: what it is for the first one.
    pub(in crate::emit) first: bool,
}

impl<'k> Selector<'k, '_> {
    /// The pointer of an access to adjacent elements.
    pub(super) fn pointer(&mut self, param: ParamId, index: &'k Index) -> Option<At> {
        if !self.counts(index) {
            return None;
        }
        let behind = |other: &Stream<'k>| match other.source {
            Source::Elements(of, from) if of == param && other.row == self.row => {
                let distance = index.plus(&from.times(&Dim::from(-1)));
                let distance = distance.as_constant()?.constant()?;
                let near = distance.unsigned_abs() < FARTHEST;
                i32::try_from(distance).ok().filter(|_| near)
            }
            Source::Elements(..) | Source::Words(_) => None,
        };
        let mut others = self.streams.iter().enumerate().filter(|_| self.shares);
        if let Some((i, behind)) = others.find_map(|(i, other)| Some((i, behind(other)?))) {
            let pointer = (self.own + i) as u32;
            return Some(At { pointer, behind });
        }
        Some(self.stream(Source::Elements(param, index)).into())
    }

    /// Whether an index goes on by one from lane to lane.
    fn counts(&self, index: &Index) -> bool {
        let mut varies = false;
        index.visit_values(&mut |v| varies |= self.facts.varies(v));
        index.step(self.inner.id) == Some(1) && !varies
    }

    pub(super) fn stream(&mut self, source: Source<'k>) -> u32 {
        let row = self.row;
        (self.own + position(&mut self.streams, Stream { source, row })) as u32
    }

    pub(super) fn uniform(&mut self, value: ValueId) -> Arg {
        let is_local = self.local.as_ref().is_some_and(|l| l.contains(&value));
        let row = if is_local { self.row } else { 0 };
        self.handed_in(Uniform {
            value,
            row,
            first: false,
        })
    }

    fn handed_in(&mut self, uniform: Uniform) -> Arg {
        Arg::Uniform(position(&mut self.uniforms, uniform) as u32)
    }

    /// The low words of an index that counts the lanes.
    pub(super) fn counted(&mut self, value: ValueId) -> Option<Known> {
        let index = self.facts.index(value)?;
        if !self.is_loop || !self.counts(index) {
            return None;
        }
        let first = self.handed_in(Uniform {
            value,
            row: self.row,
            first: true,
        });
        let counts = self.tape.lanes(Op::Counts, &[]);
        Some(Known::Lanes(self.tape.lanes(Op::IntAdd, &[counts, first])))
    }
}
