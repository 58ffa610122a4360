//! Accumulators: identities, how two partial results combine, and the tree over the sixteen partial results of a block.

use super::EmitError;
use super::emitter::{Emitter, Point};
use super::form::{self, Form};
use crate::kernel::{Accumulator, Fold, fold_op, identity, start};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{I32X4, I64X2};
use cranelift_codegen::ir::{InstBuilder, Value};
use kiln_ir::DType;
use kiln_ir::ops::ReduceKind;

/// A partial result of four lanes.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    value: Form,
    /// Where the value was found, for argmax and argmin.
    position: Option<[Value; 2]>,
}

impl State {
    /// The registers of all states, by accumulator and group.
    pub(super) fn pack(states: &[Vec<State>]) -> Vec<Value> {
        let mut registers = Vec::new();
        for state in states.iter().flatten() {
            registers.extend_from_slice(state.value.registers());
            registers.extend(state.position.into_iter().flatten());
        }
        registers
    }

    /// The states that [`pack`](Self::pack) flattened.
    pub(super) fn unpack(
        e: &Emitter<'_, '_>,
        accumulators: &[Accumulator],
        groups: usize,
        registers: &[Value],
    ) -> Vec<Vec<State>> {
        let mut rest = registers.iter().copied();
        let mut take = || {
            rest.next()
                .unwrap_or_else(|| unreachable!("a packed state is short"))
        };
        let mut one = |accumulator: &Accumulator| State {
            value: if form::is_wide(e.dtype(accumulator.operand)) {
                Form::Two([take(), take()])
            } else {
                Form::One(take())
            },
            position: match accumulator.fold {
                Fold::Reduce(_) => None,
                Fold::ArgMax(_) | Fold::ArgMin(_) => Some([take(), take()]),
            },
        };
        let states = |a| (0..groups).map(|_| one(a)).collect();
        accumulators.iter().map(states).collect()
    }
}

/// The position of no element.
const NOWHERE: u64 = i64::MAX as u64;

impl Emitter<'_, '_> {
    /// The identities of all accumulators, packed.
    pub(super) fn identities(
        &mut self,
        accumulators: &[Accumulator],
        groups: usize,
    ) -> Result<Vec<Value>, EmitError> {
        let mut states = Vec::with_capacity(accumulators.len());
        for accumulator in accumulators {
            states.push(vec![self.identity(accumulator)?; groups]);
        }
        Ok(State::pack(&states))
    }

    /// What the results of all accumulators begin with, packed: the identities, but +0 for a floating sum.
    pub(super) fn starts(
        &mut self,
        accumulators: &[Accumulator],
        groups: usize,
    ) -> Result<Vec<Value>, EmitError> {
        let mut states = Vec::with_capacity(accumulators.len());
        for accumulator in accumulators {
            let mut state = self.identity(accumulator)?;
            let dtype = self.dtype(accumulator.operand);
            if let Fold::Reduce(kind) = accumulator.fold {
                state.value = self.literal(dtype, start(dtype, kind))?;
            }
            states.push(vec![state; groups]);
        }
        Ok(State::pack(&states))
    }

    pub(super) fn identity(&mut self, accumulator: &Accumulator) -> Result<State, EmitError> {
        let dtype = self.dtype(accumulator.operand);
        let kind = match accumulator.fold {
            Fold::Reduce(kind) => kind,
            Fold::ArgMax(_) => ReduceKind::Max,
            Fold::ArgMin(_) => ReduceKind::Min,
        };
        let value = self.literal(dtype, identity(dtype, kind))?;
        let position = match accumulator.fold {
            Fold::Reduce(_) => None,
            Fold::ArgMax(_) | Fold::ArgMin(_) => Some([self.splat64(I64X2, NOWHERE); 2]),
        };
        Ok(State { value, position })
    }

    /// What an iteration adds to an accumulator.
    pub(super) fn operand(&mut self, accumulator: &Accumulator, point: Point) -> State {
        let position = match accumulator.fold {
            Fold::Reduce(_) => None,
            Fold::ArgMax(p) | Fold::ArgMin(p) => Some(self.form(p, point).two()),
        };
        State {
            value: self.form(accumulator.operand, point),
            position,
        }
    }

    /// The first state in the lanes of a mask, the second elsewhere.
    pub(super) fn choose_state(&mut self, mask: Value, yes: State, no: State) -> State {
        let value = self.choose_form(mask, yes.value, no.value);
        let position = match (yes.position, no.position) {
            (Some(yes), Some(no)) => {
                Some(self.choose_form(mask, Form::Two(yes), Form::Two(no)).two())
            }
            (Some(_) | None, _) => None,
        };
        State { value, position }
    }

    /// Two partial results as one.
    pub(super) fn fold(&mut self, accumulator: &Accumulator, a: State, b: State) -> State {
        let dtype = self.dtype(accumulator.operand);
        let op = match accumulator.fold {
            Fold::Reduce(kind) => fold_op(kind),
            Fold::ArgMax(_) => return self.better(dtype, true, a, b),
            Fold::ArgMin(_) => return self.better(dtype, false, a, b),
        };
        State {
            value: self.simple(op, dtype, a.value, b.value),
            position: None,
        }
    }

    /// The larger (or smaller) of two, NaN before all, and of equal ones that with the lesser position.
    fn better(&mut self, dtype: DType, largest: bool, a: State, b: State) -> State {
        let (Some(at_a), Some(at_b)) = (a.position, b.position) else {
            return a;
        };
        let is_float = dtype.is_float();
        let masks = a.value.zip(b.value, |a, b| {
            let (small, large) = if largest { (a, b) } else { (b, a) };
            if is_float {
                self.b.ins().fcmp(FloatCC::LessThan, small, large)
            } else {
                self.int_compare(IntCC::SignedLessThan, dtype, small, large)
            }
        });
        let equal = a.value.zip(b.value, |a, b| {
            if is_float {
                self.b.ins().fcmp(FloatCC::Equal, a, b)
            } else {
                self.b.ins().icmp(IntCC::Equal, a, b)
            }
        });
        let (mut wins, mut ties) = (self.narrow_mask(masks), self.narrow_mask(equal));
        if is_float {
            let nan_a = a.value.map(|a| self.b.ins().fcmp(FloatCC::Unordered, a, a));
            let nan_b = b.value.map(|b| self.b.ins().fcmp(FloatCC::Unordered, b, b));
            let (nan_a, nan_b) = (self.narrow_mask(nan_a), self.narrow_mask(nan_b));
            let only_b = self.b.ins().band_not(nan_b, nan_a);
            let both = self.b.ins().band(nan_a, nan_b);
            wins = self.b.ins().bor(wins, only_b);
            ties = self.b.ins().bor(ties, both);
        }
        let earlier = Form::Two(at_b).zip(Form::Two(at_a), |b, a| {
            self.b.ins().icmp(IntCC::SignedLessThan, b, a)
        });
        let earlier = self.narrow_mask(earlier);
        let ties = self.b.ins().band(ties, earlier);
        let takes = self.b.ins().bor(wins, ties);
        self.choose_state(takes, b, a)
    }

    /// Packed states folded one by one.
    pub(super) fn fold_all(
        &mut self,
        accumulators: &[Accumulator],
        groups: usize,
        left: &[Value],
        right: &[Value],
    ) -> Vec<Value> {
        let mut states = State::unpack(self, accumulators, groups, left);
        let others = State::unpack(self, accumulators, groups, right);
        for ((accumulator, states), others) in accumulators.iter().zip(&mut states).zip(others) {
            for (state, other) in states.iter_mut().zip(others) {
                *state = self.fold(accumulator, *state, other);
            }
        }
        State::pack(&states)
    }

    /// The sixteen partial results of each accumulator as one, in all lanes.
    pub(super) fn combine(
        &mut self,
        accumulators: &[Accumulator],
        partial: &[Value],
    ) -> Vec<Value> {
        let states = State::unpack(self, accumulators, 4, partial);
        let mut combined = Vec::with_capacity(accumulators.len());
        for (accumulator, states) in accumulators.iter().zip(states) {
            let low = self.fold(accumulator, states[0], states[1]);
            let high = self.fold(accumulator, states[2], states[3]);
            let four = self.fold(accumulator, low, high);
            // Lanes 0 and 1 are now to be folded with 2 and 3, then 0 with 1.
            let upper = self.rotated(four, 2);
            let two = self.fold(accumulator, four, upper);
            let second = self.rotated(two, 1);
            let one = self.fold(accumulator, two, second);
            combined.push(vec![self.spread(one)]);
        }
        State::pack(&combined)
    }

    /// Lane `j` becomes lane `j + by`, around the end.
    fn rotated(&mut self, state: State, by: u8) -> State {
        let mut rotate = |form: Form| match form {
            Form::One(r) => {
                Form::One(self.shuffle32(r, r, std::array::from_fn(|j| (j as u8 + by) % 4)))
            }
            Form::Two([low, high]) if by == 2 => Form::Two([high, low]),
            Form::Two([low, high]) => {
                let words = [2, 3, 4, 5];
                let first = self.shuffle32(low, high, words);
                Form::Two([first, self.shuffle32(high, low, words)])
            }
        };
        State {
            value: rotate(state.value),
            position: state.position.map(|p| rotate(Form::Two(p)).two()),
        }
    }

    /// Lane 0 in all lanes.
    fn spread(&mut self, state: State) -> State {
        let mut spread = |form: Form| match form {
            Form::One(r) => Form::One(self.shuffle32(r, r, [0; 4])),
            Form::Two([low, _]) => Form::Two([self.shuffle32(low, low, [0, 1, 0, 1]); 2]),
        };
        State {
            value: spread(state.value),
            position: state.position.map(|p| spread(Form::Two(p)).two()),
        }
    }

    /// What an accumulator is behind its loop: the value, or the position, which is 0 where nothing was folded.
    pub(super) fn result(&mut self, state: State) -> Form {
        let Some(position) = state.position else {
            return state.value;
        };
        let nowhere = self.splat64(I64X2, NOWHERE);
        Form::Two(position).map(|p| {
            let found = self.b.ins().icmp(IntCC::NotEqual, p, nowhere);
            self.b.ins().band(p, found)
        })
    }

    /// A mask of any width as a 32-bit mask.
    pub(super) fn narrow_mask(&mut self, mask: Form) -> Value {
        match mask {
            Form::One(mask) => self.bitcast(I32X4, mask),
            Form::Two([low, high]) => self.low_words(low, high),
        }
    }

    /// The lower words of four 64-bit lanes.
    pub(super) fn low_words(&mut self, low: Value, high: Value) -> Value {
        let (low, high) = (self.bitcast(I32X4, low), self.bitcast(I32X4, high));
        self.shuffle32(low, high, [0, 2, 4, 6])
    }

    /// The upper words of four 64-bit lanes.
    pub(super) fn high_words(&mut self, low: Value, high: Value) -> Value {
        let (low, high) = (self.bitcast(I32X4, low), self.bitcast(I32X4, high));
        self.shuffle32(low, high, [1, 3, 5, 7])
    }
}
