//! Steps of the generator that repeat: a loop whose body is a small graph of the same kind.

use super::{MOST_ELEMENTS, Making, Numbers, size};
use kiln_ir::ops::{Binary, Save};
use kiln_ir::{DType, Iteration, ScanOptions, Tensor, TensorType, Yield};

/// How many ops a body has at most, and how many carries and stacked values, but for those of the carries.
const BODY: usize = 6;
const CARRIES: usize = 2;
const STACKED: usize = 3;

impl<'g> Making<'g> {
    /// A loop over the entries of a tensor, and of others with as many.
    pub(super) fn looped(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let trip = ty.shape.first().filter(|_| !self.within)?.clone();
        let fit = |t: &Tensor<'g>, most: i64| t.ty().is_some_and(|ty| size(&ty.shape) <= most);
        // All of them once more for every iteration.
        let room = MOST_ELEMENTS / size(std::slice::from_ref(&trip)).max(1);
        let small: Vec<Tensor<'g>> = self.pool.iter().filter(|t| fit(t, room)).copied().collect();
        let first: Vec<Tensor<'g>> = (0..self.numbers.below(CARRIES + 1))
            .filter(|_| !small.is_empty())
            .map(|_| self.numbers.pick(&small))
            .collect();
        let beside = self.pool.iter().copied();
        let beside = beside.filter(|t| t.ty().is_some_and(|ty| ty.shape.first() == Some(&trip)));
        let beside: Vec<Tensor<'g>> = beside.collect();
        let mut scanned = vec![x];
        if self.numbers.one_in(2) {
            scanned.push(self.numbers.pick(&beside));
        }
        let captured = (0..self.numbers.below(3)).filter(|_| !small.is_empty());
        let captured: Vec<Tensor<'g>> = captured.map(|_| self.numbers.pick(&small)).collect();
        let options = ScanOptions {
            reverse: self.numbers.one_in(2),
            save: self.numbers.pick(&Save::ALL),
            ..ScanOptions::default()
        };
        let numbers = Numbers::new(self.numbers.bits());
        let done = self.g.scan(&options, &first, &scanned, |it| {
            body(&it, numbers, &captured, room)
        });
        let results = [done.stacked, done.carries].concat();
        self.pool.extend(&results);
        results.last().copied()
    }
}

fn body<'b>(
    it: &Iteration<'b, '_>,
    numbers: Numbers,
    captured: &[Tensor<'b>],
    room: i64,
) -> Yield<'b> {
    let mut making = Making {
        g: it.builder(),
        numbers,
        pool: [captured, it.carries(), it.entries()].concat(),
        within: true,
    };
    for _ in 0..1 + making.numbers.below(BODY) {
        if let Some(made) = making.step() {
            making.pool.push(made);
        }
    }
    let carries = it.carries().iter().map(|carry| making.next(*carry));
    let carries: Vec<Tensor<'b>> = carries.collect();
    // Often what an iteration finds and what it leaves.
    let states = [it.carries(), &carries].concat();
    let mut stacked = Vec::new();
    for state in states {
        if making.numbers.one_in(2) {
            stacked.push(state);
        }
    }
    for _ in 0..1 + making.numbers.below(STACKED) {
        stacked.push(making.any().0);
    }
    let fits = |t: &Tensor<'b>| {
        let ty = t.ty();
        ty.is_some_and(|ty| ty.rank() < 5 && size(&ty.shape) <= room)
    };
    stacked.retain(fits);
    if stacked.is_empty() && carries.is_empty() {
        stacked.push(it.entry(0));
    }
    Yield::new(&carries, &stacked)
}

impl<'g> Making<'g> {
    /// The value of a carry for the next iteration: anything of its type, or some of it and of something else.
    fn next(&mut self, carry: Tensor<'g>) -> Tensor<'g> {
        let ty = carry.ty().expect("a carry has a type");
        let fits = |t: &&Tensor<'g>| t.ty().is_some_and(|found| found == ty);
        let fits: Vec<Tensor<'g>> = self.pool.iter().filter(fits).copied().collect();
        if self.numbers.one_in(2) {
            return self.numbers.pick(&fits);
        }
        let other = self.partner(&ty);
        match ty.dtype {
            DType::Bool => self.g.push(Binary::Xor, &[carry, other]),
            dtype if dtype.is_float() => (carry * 0.5 + other).tanh(),
            _ => carry + other,
        }
    }
}
