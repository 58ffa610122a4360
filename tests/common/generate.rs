//! Random well-typed graphs over all ops and all element types that have machine code, with gradients and updates.
//!
//! A graph is a function of a seed and a number of steps, so a failure is named by two numbers and shrinks by the second. The generator
//! goes through the public builder, asks each op's own shape rule whether operands fit, and keeps tensors small enough for the
//! interpreter.

use super::Numbers;
use kiln_ir::ops::{
    Arg, ArgKind, Binary, Bitcast, Compare, Convert, DimSize, Dot, Fma, Gather, Iota, Op, Reduce,
    Require, Reverse, RngBits, Scatter, Select, StopGradient, Transpose, Unary,
};
use kiln_ir::{
    Bindings, Builder, DType, Dim, Graph, Init, OutOfRange, ReduceKind, ScatterKind, Shape, Tensor,
    TensorType, grad,
};

mod layers;
mod loops;
mod movement;
mod ordered;
mod windows;

/// The element types that have machine code.
pub const DTYPES: [DType; 11] = [
    DType::F32,
    DType::F64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
];

/// What the sizes of symbolic axes may be.
pub const SIZES: [i64; 9] = [0, 1, 3, 4, 5, 15, 16, 17, 33];

/// No tensor has more elements, and no product more multiplications, when both symbols are 17.
const MOST_ELEMENTS: i64 = 2400;
const MOST_MULTIPLICATIONS: i64 = 20_000;

/// A graph under construction.
struct Making<'g> {
    g: &'g Builder,
    numbers: Numbers,
    pool: Vec<Tensor<'g>>,
    /// Whether this is the body of a loop, in which nothing may fail.
    within: bool,
}

/// A random graph over the symbols `b` and `t`.
pub fn graph(seed: u64, steps: usize) -> Graph {
    let g = Builder::new(&format!("seed{seed}_{steps}"));
    let mut making = Making {
        g: &g,
        numbers: Numbers::new(seed),
        pool: Vec::new(),
        within: false,
    };
    let residents = making.slots();
    for _ in 0..steps {
        if let Some(made) = making.step() {
            making.pool.push(made);
        }
    }
    making.finish(&residents);
    g.finish()
        .unwrap_or_else(|e| panic!("seed {seed}, {steps} steps: {e}"))
}

impl<'g> Making<'g> {
    fn slots(&mut self) -> Vec<Tensor<'g>> {
        let g = self.g;
        let mut residents = vec![
            g.param("w", [3, 4], Init::zeros()),
            g.state("s", DType::I32, [5], Init::zeros()),
        ];
        self.pool
            .push(g.input("x", DType::F32, (g.dim("b"), g.dim("t"))));
        for i in 0..2 + self.numbers.below(4) {
            let dtype = self.dtype();
            let shape = self.shape();
            self.pool.push(g.input(&format!("x{i}"), dtype, shape));
        }
        for i in 0..self.numbers.below(4) {
            let dtype = self.dtype();
            let rank = self.numbers.below(3);
            let shape: Vec<Dim> = (0..rank)
                .map(|_| Dim::from(self.numbers.pick(&[1, 2, 4, 17])))
                .collect();
            let (name, init) = (format!("r{i}"), Init::zeros());
            residents.push(if dtype.is_float() && self.numbers.one_in(2) {
                g.param_of(&name, dtype, shape, init)
            } else {
                g.state(&name, dtype, shape, init)
            });
        }
        self.pool.extend(&residents);
        residents
    }

    /// Outputs, a loss with its gradients, and updates.
    fn finish(&mut self, residents: &[Tensor<'g>]) {
        let g = self.g;
        let params = g.params();
        let mut updated = Vec::new();
        if self.numbers.below(3) > 0 {
            let floats: Vec<Tensor<'g>> = self.pool.iter().rev().copied().collect();
            let floats = floats.into_iter().filter(|t| is_float(*t)).take(6);
            let mut loss = g.splat(DType::F32, (), 0.0);
            for t in floats.chain(params.iter().copied()) {
                // Large values would drown the others.
                let small = t.tanh().sum().convert(DType::F32);
                loss = loss + small;
            }
            for (param, gradient) in params.iter().zip(grad(loss, &params)) {
                let value = *param - gradient * 0.125;
                g.update(*param, value);
                updated.push(*param);
                if self.numbers.one_in(3) {
                    g.output(&format!("gradient{}", updated.len()), gradient);
                }
            }
            g.output("loss", loss);
        }
        for resident in residents {
            let done = updated.iter().any(|u| u.id() == resident.id());
            if done || self.numbers.one_in(4) {
                continue;
            }
            let fits: Vec<Tensor<'g>> = self
                .pool
                .iter()
                .copied()
                .filter(|t| t.ty() == resident.ty())
                .collect();
            g.update(*resident, self.numbers.pick(&fits));
        }
        let last = self.pool.len();
        for i in 0..1 + self.numbers.below(4) {
            let from = if i == 0 {
                last - 1
            } else {
                self.numbers.below(last)
            };
            g.output(&format!("o{i}"), self.pool[from]);
        }
    }

    fn dtype(&mut self) -> DType {
        if self.numbers.one_in(2) {
            self.numbers
                .pick(&[DType::F32, DType::F32, DType::F32, DType::I32, DType::Bool])
        } else {
            self.numbers.pick(&DTYPES)
        }
    }

    fn shape(&mut self) -> Vec<Dim> {
        let texts = [
            "b", "t", "b", "t", "1", "2", "3", "4", "5", "b + 1", "2*t", "b*t",
        ];
        loop {
            let rank = self.numbers.below(4);
            let dims: Vec<Dim> = (0..rank)
                .map(|_| self.numbers.pick(&texts).parse().expect("a dim"))
                .collect();
            if size(&dims) <= MOST_ELEMENTS {
                return dims;
            }
        }
    }

    /// A tensor of the pool; later ones are likelier, so that chains grow.
    fn any(&mut self) -> (Tensor<'g>, TensorType) {
        let n = self.pool.len();
        let at = self.numbers.below(n).max(self.numbers.below(n));
        let x = self.pool[at];
        (x, x.ty().expect("no tensor of the pool is poisoned"))
    }

    /// The op on the operands, if they fit it and the result is small enough.
    fn push(&self, op: impl Into<Op>, operands: &[Tensor<'g>]) -> Option<Tensor<'g>> {
        let op = op.into();
        let types: Vec<TensorType> = operands.iter().filter_map(|t| t.ty()).collect();
        let types: Vec<&TensorType> = types.iter().collect();
        let ty = op.rules().infer(&types).ok()?;
        let fits = ty.rank() <= 5 && size(&ty.shape) <= MOST_ELEMENTS;
        fits.then(|| self.g.push(op, operands))
    }

    /// A tensor of this type: one of the pool, possibly broadcast, or a number.
    fn partner(&mut self, ty: &TensorType) -> Tensor<'g> {
        let fits: Vec<Tensor<'g>> = self
            .pool
            .iter()
            .copied()
            .filter(|t| t.ty().is_some_and(|t| broadcasts(&t, ty)))
            .collect();
        if fits.is_empty() || self.numbers.one_in(6) {
            let value = self
                .numbers
                .pick(&[0.0, -0.0, 1.0, 2.0, 0.5, -1.0, 3.0, -4.0, 1e9]);
            return self.g.splat(ty.dtype, &ty.shape, value);
        }
        self.numbers.pick(&fits).broadcast_to(&ty.shape)
    }

    fn step(&mut self) -> Option<Tensor<'g>> {
        let (x, ty) = self.any();
        let (g, rank) = (self.g, ty.rank());
        let float = ty.dtype.is_float();
        match self.numbers.below(52) {
            0..=3 => {
                let op = self.numbers.pick(Unary::ALL);
                self.push(op, &[x])
            }
            4..=7 => {
                let op = self.numbers.pick(Binary::ALL);
                let y = self.partner(&ty);
                let operands = if self.numbers.one_in(2) {
                    [x, y]
                } else {
                    [y, x]
                };
                self.push(op, &operands)
            }
            8 => {
                let op = self.numbers.pick(&Compare::ALL);
                let y = self.partner(&ty);
                self.push(op, &[x, y])
            }
            9 | 10 => {
                let condition = self.partner(&TensorType::new(DType::Bool, &ty.shape));
                let y = self.partner(&ty);
                let operands = if self.numbers.one_in(2) {
                    [x, y]
                } else {
                    [y, x]
                };
                self.push(Select, &[condition, operands[0], operands[1]])
            }
            11 => {
                let (y, z) = (self.partner(&ty), self.partner(&ty));
                self.push(Fma, &[x, y, z])
            }
            12 | 13 => {
                let to = self.dtype();
                self.push(Convert { to }, &[x])
            }
            14 => {
                let to = self.numbers.pick(&DTYPES);
                // Which NaN a NaN is has no meaning.
                let x = if float { x.where_(x.eq(x), 0.0) } else { x };
                self.push(Bitcast { to }, &[x])
            }
            15 => self.broadcast(x, &ty),
            16 | 17 => self.reshape(x, &ty),
            18 => {
                let order = self.numbers.permutation(rank);
                self.push(Transpose { order }, &[x])
            }
            19 => self.slice(x, &ty),
            20 => self.pad(x, &ty),
            21 => self.concat(x, &ty),
            22 => {
                let axes = self.numbers.some_of(rank);
                self.push(Reverse { axes }, &[x])
            }
            23..=26 => self.reduce(x, &ty),
            27 if rank > 0 => {
                let kind = self.numbers.pick(&[ArgKind::Max, ArgKind::Min]);
                let axis = self.numbers.below(rank);
                self.push(Arg { kind, axis }, &[x])
            }
            28 | 29 => self.dot(x, &ty),
            30 if rank > 0 => self.gather(x, &ty),
            31 if rank > 0 => self.scatter(x, &ty),
            32 => {
                let words = self.numbers.bits();
                let key = g.constant([2], &[words as u32, (words >> 32) as u32]);
                let counters: Vec<Tensor<'g>> = self.pool.iter().copied().filter(is_key).collect();
                let counter = match counters.first() {
                    Some(found) => *found,
                    None => g.constant([2], &[3u32, 0]),
                };
                self.push(RngBits { shape: ty.shape }, &[key, counter])
            }
            33 => match self.numbers.below(3) {
                0 if rank > 0 => {
                    let axis = self.numbers.below(rank);
                    self.push(Iota { ty, axis }, &[])
                }
                1 => {
                    let dim = ty.shape.elements();
                    self.push(DimSize { dim }, &[])
                }
                _ => Some(match self.numbers.below(4) {
                    0 => g.constant([3], &[1.5f32, -0.0, f32::MIN_POSITIVE]),
                    1 => g.constant([2, 2], &[1i32, -7, i32::MAX, 0]),
                    2 => g.constant([4], &[true, false, true, true]),
                    _ => g.constant([1, 3], &[2.5f64, -1e300, 0.1]),
                }),
            },
            34 => self.push(StopGradient, &[x]),
            35 if !self.within => {
                // Mostly true, and computed without rounding.
                let condition = x.eq(x).or(g.splat(DType::Bool, &ty.shape, 1.0));
                let condition = if ty.dtype == DType::I32 && self.numbers.one_in(2) {
                    x.gt(-100.0)
                } else {
                    condition
                };
                let message = "a guard \"of\" the test".to_owned();
                self.push(Require { message }, &[x, condition])
            }
            36..=38 => self.normalised(x, &ty),
            39 | 40 => self.dense(x, &ty),
            41 if float => self.dropped(x, &ty),
            42 | 43 => self.convolved(x, &ty),
            44 | 45 => self.pooled(x, &ty),
            46 | 47 if rank > 0 => self.ordered(x, &ty),
            48 | 49 => self.windowed(x, &ty),
            50 | 51 => self.looped(x, &ty),
            _ => None,
        }
    }

    fn reduce(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let kind = self.numbers.pick(&ReduceKind::ALL);
        let axes = self.numbers.some_of(ty.rank());
        let reduced: Vec<Dim> = axes.iter().map(|a| ty.shape[*a].clone()).collect();
        // The gradient of a product squares the number of its factors.
        if kind == ReduceKind::Prod && size(&reduced) > 20 {
            return None;
        }
        let accumulates = matches!(kind, ReduceKind::Sum | ReduceKind::Prod);
        let wide = accumulates && ty.dtype == DType::F32 && self.numbers.one_in(3);
        let accumulate = wide.then_some(DType::F64);
        let reduce = Reduce {
            kind,
            axes,
            accumulate,
        };
        self.push(reduce, &[x])
    }

    fn dot(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let others: Vec<Tensor<'g>> = self
            .pool
            .iter()
            .copied()
            .filter(|t| t.ty().is_some_and(|t| t.dtype == ty.dtype))
            .collect();
        let y = self.numbers.pick(&others);
        let other = y.ty()?;
        let mut dot = Dot {
            contract: (Vec::new(), Vec::new()),
            batch: (Vec::new(), Vec::new()),
            accumulate: None,
        };
        let mut taken: Vec<usize> = Vec::new();
        for axis in self.numbers.permutation(ty.rank()) {
            let pairs: Vec<usize> = (0..other.rank())
                .filter(|o| !taken.contains(o) && other.shape[*o] == ty.shape[axis])
                .collect();
            if pairs.is_empty() || self.numbers.one_in(4) {
                continue;
            }
            let pair = self.numbers.pick(&pairs);
            taken.push(pair);
            let list = if self.numbers.one_in(3) {
                &mut dot.batch
            } else {
                &mut dot.contract
            };
            list.0.push(axis);
            list.1.push(pair);
        }
        if ty.dtype == DType::F32 && self.numbers.one_in(5) {
            dot.accumulate = Some(DType::F64);
        }
        let depth: Vec<Dim> = dot
            .contract
            .0
            .iter()
            .map(|a| ty.shape[*a].clone())
            .collect();
        let result = dot_size(&dot, ty, &other);
        if result.saturating_mul(size(&depth).max(1)) > MOST_MULTIPLICATIONS {
            return None;
        }
        self.push(dot, &[x, y])
    }

    /// Indices that are mostly within an axis of `extent`.
    fn indices(&mut self, extent: &Dim) -> Option<Tensor<'g>> {
        let found: Vec<Tensor<'g>> = self
            .pool
            .iter()
            .copied()
            .filter(|t| {
                t.ty()
                    .is_some_and(|t| t.dtype.is_integer() && t.rank() <= 2)
            })
            .collect();
        if found.is_empty() {
            return None;
        }
        let index = self.numbers.pick(&found);
        if self.numbers.one_in(2) {
            return Some(index);
        }
        let dim = extent.clone();
        let n = self.g.push(DimSize { dim }, &[]);
        Some(index.convert(DType::I64).maximum(0.0).rem(n))
    }

    fn mode(&mut self) -> OutOfRange {
        self.numbers.pick(&[
            OutOfRange::Clamp,
            OutOfRange::Clamp,
            OutOfRange::Skip,
            OutOfRange::Skip,
            if self.within {
                OutOfRange::Skip
            } else {
                OutOfRange::Fail
            },
        ])
    }

    fn gather(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let axis = self.numbers.below(ty.rank());
        let index = self.indices(&ty.shape[axis])?;
        let out_of_range = self.mode();
        self.push(Gather { axis, out_of_range }, &[x, index])
    }

    fn scatter(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let axis = self.numbers.below(ty.rank());
        let index = self.indices(&ty.shape[axis])?;
        let mut shape = ty.shape.to_vec();
        shape.splice(axis..=axis, index.ty()?.shape.iter().cloned());
        if shape.len() > 5 || size(&shape) > MOST_ELEMENTS {
            return None;
        }
        let updates = self.partner(&TensorType::new(ty.dtype, Shape::from(shape)));
        let scatter = Scatter {
            kind: self.numbers.pick(&ScatterKind::ALL),
            axis,
            out_of_range: self.mode(),
        };
        self.push(scatter, &[x, index, updates])
    }
}

fn is_float(t: Tensor<'_>) -> bool {
    t.ty().is_some_and(|ty| ty.dtype.is_float())
}

fn is_key(t: &Tensor<'_>) -> bool {
    t.ty()
        .is_some_and(|ty| ty == TensorType::new(DType::U32, [2]))
}

fn broadcasts(from: &TensorType, to: &TensorType) -> bool {
    let Some(skip) = to.rank().checked_sub(from.rank()) else {
        return false;
    };
    let pairs = from.shape.iter().zip(&to.shape[skip..]);
    from.dtype == to.dtype
        && pairs
            .into_iter()
            .all(|(f, t)| f == t || f.constant() == Some(1))
}

/// The number of elements when both symbols are 17.
fn size(dims: &[Dim]) -> i64 {
    let bindings = Bindings::from([("b", 17), ("t", 17)]);
    dims.iter().fold(1i64, |n, d| {
        n.saturating_mul(d.eval(&bindings).unwrap_or(i64::MAX))
    })
}

fn dot_size(dot: &Dot, lhs: &TensorType, rhs: &TensorType) -> i64 {
    let ty = Op::from(dot.clone()).rules().infer(&[lhs, rhs]);
    ty.map_or(i64::MAX, |ty| size(&ty.shape))
}
