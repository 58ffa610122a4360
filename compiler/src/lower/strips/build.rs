//! The loop of phases, once it is decided what each of them does.

use super::Cutter;
use super::phases::{Phases, Place};
use crate::kernel::{
    AHEAD, Apply, Element, Expr, Index, Loop, LoopId, LoopKind, Operand, ParamId, Stmt, ValueId,
};
use crate::lower::ParamSource;
use kiln_ir::Dim;
use kiln_ir::ops::Cost;
use std::collections::BTreeMap;

impl Phases<'_> {
    /// The memory of every value that is kept.
    fn places(&self, cutter: &mut Cutter<'_>) -> BTreeMap<ValueId, Place> {
        let mut places: BTreeMap<ValueId, Place> = BTreeMap::new();
        let mut used = Vec::new();
        for (value, (param, index)) in &self.direct {
            places.insert(*value, Place::Element(*param, index.clone()));
        }
        for function in &self.applied {
            let operands = self.operands_of(*function);
            // An operand that nothing else reads from memory shares the place of the result.
            let alone = |v: &ValueId| {
                let readers = self.applied.iter().flat_map(|f| self.operands_of(*f));
                self.kept.contains(v)
                    && !self.reloaded.iter().flatten().any(|r| r == v)
                    && readers.filter(|r| r == v).count() == 1
            };
            let single = operands.iter().copied().find(alone);
            let inherited = single.and_then(|v| places.get(&v));
            let place = match (places.get(function), inherited) {
                (Some(place), _) | (None, Some(place @ Place::Strip(_))) => place.clone(),
                (None, Some(Place::Element(..)) | None) => {
                    Place::Strip(cutter.strip(cutter.dtype(*function), &mut used))
                }
            };
            for operand in operands {
                if !self.kept.contains(&operand) || places.contains_key(&operand) {
                    continue;
                }
                let shares = Some(operand) == single && self.is_scratch(cutter, &place);
                let own = if shares {
                    place.clone()
                } else {
                    Place::Strip(cutter.strip(cutter.dtype(operand), &mut used))
                };
                places.insert(operand, own);
            }
            places.insert(*function, place);
        }
        for value in &self.kept {
            if !places.contains_key(value) {
                let strip = cutter.strip(cutter.dtype(*value), &mut used);
                places.insert(*value, Place::Strip(strip));
            }
        }
        places
    }

    fn is_scratch(&self, cutter: &Cutter<'_>, place: &Place) -> bool {
        let (Place::Strip(param) | Place::Element(param, _)) = place;
        matches!(
            cutter.lowered.params[param.index()],
            ParamSource::Scratch(..)
        )
    }

    /// The strips with their phases and applications.
    pub(super) fn build(&self, cutter: &mut Cutter<'_>) -> Loop {
        let places = self.places(cutter);
        let strips = cutter.fresh_loop();
        let mut body = Vec::new();
        let mut streams = self.streams(cutter);
        for phase in 0..=self.last {
            let functions = self.applied.iter().filter(|v| self.known[v].level == phase);
            for value in functions {
                body.extend(self.apply(cutter, *value, strips, &places, &mut streams));
            }
            body.extend(self.phase(cutter, phase, strips, &places));
        }
        Loop {
            id: strips,
            extent: self.inner.extent.clone(),
            kind: LoopKind::Strips,
            accumulators: self.inner.accumulators.clone(),
            body,
        }
    }

    /// What the loop reads from and writes to memory, element by element, other than where a long function does it itself.
    fn streams(&self, cutter: &Cutter<'_>) -> Vec<(ParamId, Index)> {
        let mut all: Vec<(ParamId, Index)> = Vec::new();
        let mut covered = Vec::new();
        let long = |v: &ValueId| {
            let function = self.known.get(v).and_then(|k| k.function);
            function.is_some_and(|f| f.cost() == Cost::Long)
        };
        for function in self.applied.iter().filter(|v| long(v)) {
            let read = self.operands_of(*function).into_iter();
            covered.extend(read.filter_map(|v| self.loaded(v)).map(|(p, _)| p));
            covered.extend(self.direct.get(function).map(|(p, _)| *p));
        }
        for stmt in &self.inner.body {
            let access = match stmt {
                Stmt::Let { value, .. } => self.loaded(*value),
                Stmt::Store { param, index, .. } if self.is_adjacent(index) => {
                    Some((*param, index.clone()))
                }
                Stmt::Store { .. } | Stmt::Loop(_) | Stmt::Apply(_) | Stmt::Sort(_) => None,
            };
            let fresh = access.filter(|(param, _)| {
                let scratch = matches!(
                    cutter.lowered.params[param.index()],
                    ParamSource::Scratch(..)
                );
                !scratch && !covered.contains(param)
            });
            if let Some((param, index)) = fresh {
                covered.push(param);
                all.push((param, index));
            }
        }
        all
    }

    fn apply(
        &self,
        cutter: &mut Cutter<'_>,
        value: ValueId,
        strips: LoopId,
        places: &BTreeMap<ValueId, Place>,
        streams: &mut Vec<(ParamId, Index)>,
    ) -> Option<Stmt> {
        let id = cutter.fresh_loop();
        let function = self.known.get(&value)?.function?;
        // A function that computes for long while memory has nothing to do.
        let asked = match function.cost() {
            Cost::Long => streams.len().min(AHEAD),
            Cost::Slow | Cost::Short => 0,
        };
        let ahead = streams.drain(..asked);
        let ahead =
            ahead.map(|(param, index)| self.element(&Place::Element(param, index), id, strips));
        let ahead = ahead.collect();
        let operands = self.operands_of(value).into_iter().map(|operand| {
            if !self.known.contains_key(&operand) {
                return Some(Operand::Value(operand));
            }
            let place = match (places.get(&operand), self.loaded(operand)) {
                (Some(place), _) => place.clone(),
                (None, loaded) => {
                    let (param, index) = loaded?;
                    Place::Element(param, index)
                }
            };
            Some(Operand::Element(self.element(&place, id, strips)))
        });
        Some(Stmt::Apply(Apply {
            id,
            function,
            ahead,
            operands: operands.collect::<Option<_>>()?,
            target: self.element(places.get(&value)?, id, strips),
        }))
    }

    /// The element of a place, for a counter of the strip.
    fn element(&self, place: &Place, id: LoopId, strips: LoopId) -> Element {
        match place {
            Place::Strip(param) => {
                let start = Index::counter(strips).times(&Dim::from(-1));
                Element {
                    param: *param,
                    index: Index::counter(id).plus(&start),
                }
            }
            Place::Element(param, index) => Element {
                param: *param,
                index: self.recounted(index, id),
            },
        }
    }

    /// An index of the loop with another counter.
    fn recounted(&self, index: &Index, id: LoopId) -> Index {
        let own = self.inner.id;
        index.substitute(&|l| Index::counter(if l == own { id } else { l }), &|_| {
            None
        })
    }

    /// The loop of a phase; nothing if it does nothing. The last phase keeps the names of values, which the accumulators mention.
    fn phase(
        &self,
        cutter: &mut Cutter<'_>,
        phase: usize,
        strips: LoopId,
        places: &BTreeMap<ValueId, Place>,
    ) -> Option<Stmt> {
        let id = cutter.fresh_loop();
        let is_last = phase == self.last;
        let mut names: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        let mut body = Vec::new();
        let keeps = |value: ValueId| {
            let level = self.known.get(&value).map_or(0, |k| k.level);
            let is_function = self.known.get(&value).is_some_and(|k| k.function.is_some());
            self.kept.contains(&value) && level == phase && !is_function
        };
        let keep = |value: ValueId, name: ValueId, body: &mut Vec<Stmt>| {
            if let (true, Some(place)) = (keeps(value), places.get(&value)) {
                let Element { param, index } = self.element(place, id, strips);
                body.push(Stmt::Store {
                    param,
                    index,
                    value: name,
                    predicate: None,
                });
            }
        };
        for stmt in &self.inner.body {
            match stmt {
                Stmt::Let { value, expr } => {
                    let computed = self.computed[phase].contains(value);
                    let back = self.reloaded[phase].contains(value);
                    let expr = match places.get(value) {
                        Some(place) if back => {
                            let Element { param, index } = self.element(place, id, strips);
                            Expr::Load {
                                param,
                                index,
                                predicate: None,
                            }
                        }
                        Some(_) | None if computed => {
                            let rename = |v| names.get(&v).copied().unwrap_or(v);
                            expr.map(&rename, &|i| self.recounted(i, id).with_values(&rename))
                        }
                        Some(_) | None => continue,
                    };
                    let name = if is_last {
                        *value
                    } else {
                        cutter.fresh_value(*value)
                    };
                    names.insert(*value, name);
                    body.push(Stmt::Let { value: name, expr });
                    keep(*value, name, &mut body);
                }
                Stmt::Store {
                    param,
                    index,
                    value,
                    predicate,
                } if is_last && !self.is_direct(*param, index, *value) => {
                    body.push(Stmt::Store {
                        param: *param,
                        index: self.recounted(index, id),
                        value: *value,
                        predicate: *predicate,
                    });
                }
                Stmt::Store { .. } | Stmt::Loop(_) | Stmt::Apply(_) | Stmt::Sort(_) => {}
            }
        }
        let folds = is_last && !self.inner.accumulators.is_empty();
        (folds || !body.is_empty()).then(|| {
            Stmt::Loop(Loop {
                id,
                extent: self.inner.extent.clone(),
                kind: LoopKind::Lanes,
                accumulators: Vec::new(),
                body,
            })
        })
    }
}
