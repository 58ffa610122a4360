//! The state of an emission: the function under construction, what each value is, and what was computed already.
//!
//! The entry block stays open at its end: constants, pointers and sizes are put there on first use, so that each is made once and
//! outside of every loop. Everything else is put where the emission stands; what may be used again is kept in [`Memo`], whose entries
//! last as long as the scope in which they dominate.

use super::analysis::Facts;
use super::form::{self, Form};
use super::{EmitError, Target};
use crate::kernel::{Atom, Index, Kernel, LoopId, ParamId, ValueId};
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8X16, I64};
use cranelift_codegen::ir::{
    AbiParam, BlockArg, ConstantData, Endianness, Function, Inst, InstBuilder, MemFlagsData,
    Signature, StackSlot, StackSlotData, StackSlotKind, Type, Value,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use kiln_ir::ops::Literal;
use kiln_ir::{DType, Dim};
use std::collections::{BTreeMap, HashMap};

/// Where a value is computed: once for all lanes, or for a group of the lanes loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Uniform,
    Group(usize),
}

impl Point {
    /// The group, the first one for what is computed once.
    pub(super) fn group(self) -> usize {
        match self {
            Point::Uniform => 0,
            Point::Group(group) => group,
        }
    }
}

/// What a kernel's value is at this place of the emission.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    Unset,
    Uniform(Form),
    Varying([Option<Form>; 4]),
}

/// The lanes loop under emission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    pub(super) id: LoopId,
    /// The groups of an iteration.
    pub(super) groups: usize,
    pub(super) counters: Counters,
}

/// Which elements the lanes of an iteration are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counters {
    /// Lane `e` of the iteration is element `first + e`.
    Full { first: Value },
    /// Lane `e` is element `min(first + e, last)`.
    Tail { first: Value, last: Value },
}

/// A scalar that was computed in this scope or one around it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    /// A uniform index in elements, or the address of that element.
    Uniform(Option<ParamId>, Index),
    /// A uniform atom.
    Atom(Atom),
    /// The address that walks with the lanes, for an element of the iteration.
    Walk(ParamId, Index, usize),
    /// The counter of an element of the iteration.
    Counter(usize),
    /// A varying atom at an element of the iteration.
    Lane(Atom, usize),
    /// The mask of the live lanes of the tail.
    Live,
    /// The address of the random words of an iteration.
    Words(ValueId),
}

/// The scalars that can be used again, innermost scope last.
#[derive(Default)]
pub(super) struct Memo(Vec<(Key, Value)>);

impl Memo {
    pub(super) fn find(&self, key: &Key) -> Option<Value> {
        self.0.iter().rev().find(|(k, _)| k == key).map(|(_, v)| *v)
    }

    pub(super) fn insert(&mut self, key: Key, value: Value) {
        self.0.push((key, value));
    }

    pub(super) fn mark(&self) -> usize {
        self.0.len()
    }

    pub(super) fn reset(&mut self, mark: usize) {
        self.0.truncate(mark);
    }
}

/// How often a counted loop runs, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trips {
    Unknown,
    AtLeastOne,
    Exactly(i64),
}

/// What computes the carried values of one iteration from its counter and those of the one before.
type Iteration<'a, 'k, 'f> =
    &'a mut dyn FnMut(&mut Emitter<'k, 'f>, Value, &[Value]) -> Result<Vec<Value>, EmitError>;

pub(super) struct Emitter<'k, 'f> {
    pub(super) kernel: &'k Kernel,
    pub(super) target: &'k Target,
    pub(super) facts: Facts,
    pub(super) b: FunctionBuilder<'f>,
    /// The jump at the end of the entry block.
    entry_end: Inst,
    parameters: Value,
    sizes: Value,
    helpers: Value,
    pub(super) start: Value,
    pub(super) end: Value,
    size_order: Vec<Dim>,
    constants: HashMap<(Type, u128), Value>,
    pointers: BTreeMap<ParamId, Value>,
    scaled_sizes: HashMap<(Dim, i64), Value>,
    slot: Option<StackSlot>,
    pub(super) values: Vec<Slot>,
    pub(super) counters: BTreeMap<LoopId, Value>,
    pub(super) memo: Memo,
    /// The number of loops around the place of emission.
    pub(super) depth: usize,
    pub(super) lanes: Option<Lanes>,
    /// The full-width functions that are called, with their instructions as text; a call names the position.
    pub(super) functions: Vec<(Vec<u8>, String)>,
}

/// A kernel in Cranelift's hands.
pub(super) struct Emitted {
    pub(super) function: Function,
    /// The full-width functions that it calls, and their instructions as text.
    pub(super) functions: Vec<(Vec<u8>, String)>,
}

/// Emits a verified kernel.
pub(super) fn emit(
    kernel: &Kernel,
    target: &Target,
    workspace: &mut FunctionBuilderContext,
) -> Result<Emitted, EmitError> {
    let mut signature = Signature::new(CallConv::triple_default(target.isa.triple()));
    signature.params.extend([AbiParam::new(I64); 5]);
    let mut function = Function::with_name_signature(Default::default(), signature);
    let mut b = FunctionBuilder::new(&mut function, workspace);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let arguments: Vec<Value> = b.block_params(entry).to_vec();
    let [parameters, sizes, start, end, helpers] = arguments.as_slice() else {
        return Err(EmitError::Codegen {
            kernel: kernel.name.clone(),
            message: "a kernel has five arguments".into(),
        });
    };
    let body = b.create_block();
    let entry_end = b.ins().jump(body, &[]);
    b.switch_to_block(body);
    let mut emitter = Emitter {
        kernel,
        target,
        facts: Facts::of(kernel),
        b,
        entry_end,
        parameters: *parameters,
        sizes: *sizes,
        helpers: *helpers,
        start: *start,
        end: *end,
        size_order: kernel.sizes(),
        constants: HashMap::new(),
        pointers: BTreeMap::new(),
        scaled_sizes: HashMap::new(),
        slot: None,
        values: vec![Slot::Unset; kernel.values.len()],
        counters: BTreeMap::new(),
        memo: Memo::default(),
        depth: 0,
        lanes: None,
        functions: Vec::new(),
    };
    emitter.body(&kernel.body)?;
    emitter.b.ins().return_(&[]);
    emitter.b.seal_all_blocks();
    emitter.b.finalize(target.isa.frontend_config());
    let functions = emitter.functions;
    Ok(Emitted {
        function,
        functions,
    })
}

/// Memory that is there and that nobody else writes behind our back in ways that matter; vectors in it need not be aligned.
///
/// Loads are not marked as movable: a kernel may work in place, so that a load and a store are of one element.
pub(super) fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

impl<'k, 'f> Emitter<'k, 'f> {
    pub(super) fn dtype(&self, value: ValueId) -> DType {
        self.kernel.values[value.index()]
    }

    /// The registers of a value at a point.
    pub(super) fn form(&self, value: ValueId, point: Point) -> Form {
        let found = match (self.values[value.index()], point) {
            (Slot::Uniform(form), _) => Some(form),
            (Slot::Varying(groups), Point::Group(g)) => groups[g],
            (Slot::Varying(_), Point::Uniform) | (Slot::Unset, _) => None,
        };
        // The verifier has seen to it that a value is computed before its use.
        found.unwrap_or_else(|| unreachable!("{value} is used before it is computed"))
    }

    pub(super) fn set(&mut self, value: ValueId, point: Point, form: Form) {
        let slot = &mut self.values[value.index()];
        match (point, &mut *slot) {
            (Point::Uniform, slot) => *slot = Slot::Uniform(form),
            (Point::Group(g), Slot::Varying(groups)) => groups[g] = Some(form),
            (Point::Group(g), slot) => {
                let mut groups = [None; 4];
                groups[g] = Some(form);
                *slot = Slot::Varying(groups);
            }
        }
    }

    fn at_entry(&mut self) -> FuncCursor<'_> {
        FuncCursor::new(self.b.func).at_inst(self.entry_end)
    }

    /// A register with the given bits.
    pub(super) fn constant(&mut self, ty: Type, bits: u128) -> Value {
        if let Some(value) = self.constants.get(&(ty, bits)) {
            return *value;
        }
        let bytes = ConstantData::from(bits.to_le_bytes().to_vec());
        let handle = self.b.func.dfg.constants.insert(bytes);
        let value = self.at_entry().ins().vconst(ty, handle);
        self.constants.insert((ty, bits), value);
        value
    }

    /// Four lanes of a 32-bit pattern.
    pub(super) fn splat32(&mut self, ty: Type, lane: u32) -> Value {
        self.constant(ty, form::splat_bits(DType::U32, u64::from(lane)))
    }

    /// Two lanes of a 64-bit pattern.
    pub(super) fn splat64(&mut self, ty: Type, lane: u64) -> Value {
        self.constant(ty, form::splat_bits(DType::U64, lane))
    }

    /// A literal in all lanes.
    pub(super) fn literal(&mut self, dtype: DType, literal: Literal) -> Result<Form, EmitError> {
        let ty = self.register_type(dtype, || "const".into())?;
        let bits = form::splat_bits(dtype, form::lane_bits(dtype, literal));
        let register = self.constant(ty, bits);
        Ok(if form::is_wide(dtype) {
            Form::Two([register; 2])
        } else {
            Form::One(register)
        })
    }

    pub(super) fn register_type(
        &self,
        dtype: DType,
        op: impl FnOnce() -> String,
    ) -> Result<Type, EmitError> {
        form::register_type(dtype).ok_or_else(|| EmitError::Unsupported { dtype, op: op() })
    }

    /// The pointer that the kernel was called with.
    pub(super) fn pointer(&mut self, param: ParamId) -> Value {
        if let Some(value) = self.pointers.get(&param) {
            return *value;
        }
        let (table, offset) = (self.parameters, 8 * param.0 as i32);
        let value = self.at_entry().ins().load(I64, memory(), table, offset);
        self.pointers.insert(param, value);
        value
    }

    /// Memory that can always be read.
    pub(super) fn readable(&self) -> Value {
        self.parameters
    }

    /// The address of a stack slot of [`helper::BLOCK`](super::helper::BLOCK) bytes: the arguments of helpers, and where masked lanes write.
    pub(super) fn scratch(&mut self) -> Value {
        let slot = self.scratch_slot();
        self.b.ins().stack_addr(I64, slot, 0)
    }

    pub(super) fn scratch_slot(&mut self) -> StackSlot {
        if let Some(slot) = self.slot {
            return slot;
        }
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, super::helper::BLOCK, 4);
        let slot = self.b.create_sized_stack_slot(data);
        self.slot = Some(slot);
        slot
    }

    /// The pointer to a helper.
    pub(super) fn helper(&mut self, position: usize) -> Value {
        let (table, offset) = (self.helpers, 8 * position as i32);
        self.b.ins().load(I64, memory(), table, offset)
    }

    pub(super) fn int(&mut self, value: i64) -> Value {
        self.b.ins().iconst(I64, value)
    }

    /// A size times a constant.
    pub(super) fn size(&mut self, dim: &Dim, scale: i64) -> Value {
        if let Some(constant) = dim.constant() {
            return self.int(constant.wrapping_mul(scale));
        }
        if let Some(value) = self.scaled_sizes.get(&(dim.clone(), scale)) {
            return *value;
        }
        let position = self.size_order.iter().position(|d| d == dim);
        // `Kernel::sizes` visits every size that an index or a loop mentions.
        let position = position.unwrap_or_else(|| unreachable!("{dim} is not among the sizes"));
        let table = self.sizes;
        let mut cursor = self.at_entry();
        let mut value = cursor.ins().load(I64, memory(), table, 8 * position as i32);
        if scale != 1 {
            value = cursor.ins().imul_imm_s(value, scale);
        }
        self.scaled_sizes.insert((dim.clone(), scale), value);
        value
    }

    /// `value * factor * scale`.
    pub(super) fn times(&mut self, value: Value, factor: &Dim, scale: i64) -> Value {
        match factor.constant().map(|c| c.wrapping_mul(scale)) {
            Some(1) => value,
            Some(c) if c > 0 && c & (c - 1) == 0 => self
                .b
                .ins()
                .ishl_imm_s(value, i64::from(c.trailing_zeros())),
            Some(c) => self.b.ins().imul_imm_s(value, c),
            None => {
                let factor = self.size(factor, scale);
                self.b.ins().imul(value, factor)
            }
        }
    }

    pub(super) fn bitcast(&mut self, ty: Type, value: Value) -> Value {
        if self.b.func.dfg.value_type(value) == ty {
            return value;
        }
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.b.ins().bitcast(ty, flags, value)
    }

    /// Bytes of two registers, counted through both, as a register of the first one's type.
    pub(super) fn shuffle(&mut self, a: Value, b: Value, bytes: [u8; 16]) -> Value {
        let ty = self.b.func.dfg.value_type(a);
        let (a, b) = (self.bitcast(I8X16, a), self.bitcast(I8X16, b));
        let mask = self
            .b
            .func
            .dfg
            .immediates
            .push(ConstantData::from(bytes.to_vec()));
        let mixed = self.b.ins().shuffle(a, b, mask);
        self.bitcast(ty, mixed)
    }

    /// Words of two registers, counted through both.
    pub(super) fn shuffle32(&mut self, a: Value, b: Value, words: [u8; 4]) -> Value {
        let bytes = std::array::from_fn(|i| 4 * words[i / 4] + (i % 4) as u8);
        self.shuffle(a, b, bytes)
    }

    /// Runs `body` for `from, from + step, ...` below `to`; the result is what the last iteration carries.
    pub(super) fn counted(
        &mut self,
        [from, to]: [Value; 2],
        step: i64,
        trips: Trips,
        carried: Vec<Value>,
        body: Iteration<'_, 'k, 'f>,
    ) -> Result<Vec<Value>, EmitError> {
        match trips {
            Trips::Exactly(0) => return Ok(carried),
            Trips::Exactly(1) => {
                let mark = self.memo.mark();
                let results = body(self, from, &carried)?;
                self.memo.reset(mark);
                return Ok(results);
            }
            Trips::Unknown | Trips::AtLeastOne | Trips::Exactly(_) => {}
        }
        let (head, done) = (self.b.create_block(), self.b.create_block());
        let counter = self.b.append_block_param(head, I64);
        let mut inside = Vec::with_capacity(carried.len());
        let mut results = Vec::with_capacity(carried.len());
        for value in &carried {
            let ty = self.b.func.dfg.value_type(*value);
            inside.push(self.b.append_block_param(head, ty));
            results.push(self.b.append_block_param(done, ty));
        }
        let first = arguments(Some(from), &carried);
        if trips == Trips::Unknown {
            let any = self.b.ins().icmp(IntCC::SignedLessThan, from, to);
            self.b
                .ins()
                .brif(any, head, &first, done, &arguments(None, &carried));
        } else {
            self.b.ins().jump(head, &first);
        }
        self.b.switch_to_block(head);
        let mark = self.memo.mark();
        let next = body(self, counter, &inside)?;
        self.memo.reset(mark);
        let counter = self.b.ins().iadd_imm_s(counter, step);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, counter, to);
        let again = arguments(Some(counter), &next);
        self.b
            .ins()
            .brif(more, head, &again, done, &arguments(None, &next));
        self.b.switch_to_block(done);
        Ok(results)
    }

    /// Runs `body` where a condition holds; the result is `otherwise` where it does not.
    pub(super) fn guarded(
        &mut self,
        condition: Value,
        otherwise: &[Value],
        body: &mut dyn FnMut(&mut Self) -> Result<Vec<Value>, EmitError>,
    ) -> Result<Vec<Value>, EmitError> {
        let (inside, done) = (self.b.create_block(), self.b.create_block());
        let mut results = Vec::with_capacity(otherwise.len());
        for value in otherwise {
            let ty = self.b.func.dfg.value_type(*value);
            results.push(self.b.append_block_param(done, ty));
        }
        let skipped = arguments(None, otherwise);
        self.b.ins().brif(condition, inside, &[], done, &skipped);
        self.b.switch_to_block(inside);
        let mark = self.memo.mark();
        let computed = body(self)?;
        self.memo.reset(mark);
        self.b.ins().jump(done, &arguments(None, &computed));
        self.b.switch_to_block(done);
        Ok(results)
    }
}

fn arguments(first: Option<Value>, rest: &[Value]) -> Vec<BlockArg> {
    let rest = rest.iter().copied();
    first.into_iter().chain(rest).map(BlockArg::Value).collect()
}
