//! How Cranelift's code calls a function of this folder.

use super::select::Source;
use super::{Function, LANES, columns, function, rows_function};
use crate::emit::emitter::{Counters, Emitter, Lanes, Point, Trips, memory};
use crate::emit::{EmitError, helper, words};
use crate::kernel::{LANES_BLOCK, Loop, LoopId, STRIP, Stmt, ValueId};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{
    ExtFuncData, ExternalName, FuncRef, InstBuilder, StackSlot, StackSlotData, StackSlotKind,
    UserExternalName, Value,
};

/// A function in the kernel at hand: how it is called.
pub(in crate::emit) struct Callee<'k> {
    function: Function<'k>,
    reference: FuncRef,
    /// Its block.
    slot: StackSlot,
}

/// The functions that reduce tiles of columns.
pub(in crate::emit) struct Tiles<'k> {
    /// For some vectors, the last of which may be short, and for one.
    several: Callee<'k>,
    one: Option<Callee<'k>>,
    vectors: usize,
}

impl Tiles<'_> {
    /// The columns of a whole tile.
    pub(in crate::emit) fn width(&self) -> i64 {
        i64::from(LANES) * self.vectors as i64
    }
}

impl<'k> Emitter<'k, '_> {
    /// Emits a lanes loop of at least one iteration as a call, if it has a function in full width: the sixteen partial results of each
    /// accumulator, in four registers.
    pub(in crate::emit) fn full_width(
        &mut self,
        inner: &'k Loop,
        [from, to]: [Value; 2],
        trips: Trips,
    ) -> Result<Option<Vec<Value>>, EmitError> {
        if !self.target.wide {
            return Ok(None);
        }
        let count = match trips {
            Trips::Exactly(n) => Some(n),
            Trips::Unknown | Trips::AtLeastOne => None,
        };
        // Words are drawn for a strip of iterations. Folds come here in blocks, whose partial results last for one call.
        let draws = self.facts.draws_in_a_row(&inner.body);
        let strip = match (draws, inner.accumulators.is_empty()) {
            (true, true) => STRIP,
            (true, false) => LANES_BLOCK,
            (false, _) => i64::MAX,
        };
        let in_strips = count.is_none_or(|n| n > strip) && strip == STRIP;
        let known = count.filter(|_| !in_strips);
        let Some(function) = function(self.kernel, &self.facts, inner, known) else {
            return Ok(None);
        };
        let callee = self.callee(function);
        let buffers = self.buffers(&callee, known.unwrap_or(strip));
        if in_strips {
            let step = Trips::AtLeastOne;
            self.counted([from, to], strip, step, Vec::new(), &mut |e, first, _| {
                let next = e.b.ins().iadd_imm_s(first, strip);
                let end = e.b.ins().smin(next, to);
                e.call_from(&callee, inner.id, [first, end], &buffers)?;
                Ok(Vec::new())
            })?;
        } else {
            self.call_from(&callee, inner.id, [from, to], &buffers)?;
        }
        let block = self.b.ins().stack_addr(I64, callee.slot, 0);
        let layout = callee.function.layout;
        let mut partial = Vec::with_capacity(4 * inner.accumulators.len());
        for (i, accumulator) in inner.accumulators.iter().enumerate() {
            let dtype = self.dtype(accumulator.operand);
            let ty = self.register_type(dtype, || "reduce".into())?;
            for group in 0..4 {
                let at = (layout.partial(i) + 16 * group) as i32;
                partial.push(self.b.ins().load(ty, memory(), block, at));
            }
        }
        Ok(Some(partial))
    }

    /// Room for the random words that a function reads in so many iterations.
    fn buffers(&mut self, callee: &Callee<'k>, iterations: i64) -> Vec<StackSlot> {
        let streams = callee.function.streams.iter();
        let drawn = streams.filter(|s| matches!(s.source, Source::Words(_)));
        let slot = |_| {
            // The first word may be any of its block, and blocks are drawn in whole multiples.
            let blocks = (iterations as usize / 4 + 2).next_multiple_of(words::AT_ONCE);
            let data = StackSlotData::new(StackSlotKind::ExplicitSlot, 16 * blocks as u32, 4);
            self.b.create_sized_stack_slot(data)
        };
        drawn.map(slot).collect()
    }

    /// Calls a function for a range of a loop, with the random words that it reads in these buffers.
    fn call_from(
        &mut self,
        callee: &Callee<'k>,
        id: LoopId,
        [from, to]: [Value; 2],
        buffers: &[StackSlot],
    ) -> Result<(), EmitError> {
        let count = self.b.ins().isub(to, from);
        let mark = self.memo.mark();
        self.start_lanes(id, from);
        let mut buffers = buffers.iter();
        for (i, stream) in callee.function.streams.iter().enumerate() {
            if let Source::Words(value) = stream.source
                && let Some(buffer) = buffers.next()
            {
                let pointer = self.draw(value, count, *buffer);
                let at = callee.function.layout.pointer(i) as i32;
                self.b.ins().stack_store(I64, pointer, callee.slot, at);
            }
        }
        self.put_row(callee, 0, 0);
        self.lanes = None;
        self.memo.reset(mark);
        self.call_full_width(callee, count);
        Ok(())
    }

    /// Draws `count` random words, from those of the loop's counter on, and returns the address of the first one.
    fn draw(&mut self, value: ValueId, count: Value, buffer: StackSlot) -> Value {
        let slot = self.scratch_slot();
        let target = self.b.ins().stack_addr(I64, buffer, 0);
        let Some((key, counter, index)) = self.facts.draw(value) else {
            return target;
        };
        let first = self.lane_index(&index, 0);
        let block = self.b.ins().ushr_imm_s(first, 2);
        let skipped = self.b.ins().band_imm_s(first, 3);
        let words = self.b.ins().iadd(skipped, count);
        let words = self.b.ins().iadd_imm_s(words, 3);
        let blocks = self.b.ins().ushr_imm_s(words, 2);
        for (part, at) in [
            (target, words::TARGET),
            (block, words::FIRST),
            (blocks, words::BLOCKS),
        ] {
            self.b.ins().stack_store(I64, part, slot, at);
        }
        for (pair, at) in [(key, words::KEY), (counter, words::COUNTER)] {
            for (value, at) in pair.into_iter().zip([at, at + 4]) {
                let register = self.form(value, Point::Uniform).one();
                let word = self.b.ins().extractlane(register, 0);
                self.b.ins().stack_store(I64, word, slot, at);
            }
        }
        let callee = self.helper(helper::WORDS);
        let signature = self.helper_signature();
        let block = self.b.ins().stack_addr(I64, slot, 0);
        self.b.ins().call_indirect(signature, callee, &[block]);
        let skipped = self.b.ins().ishl_imm_s(skipped, 2);
        self.b.ins().iadd(target, skipped)
    }

    /// The function that folds `count` rows of a column reduction, if there is one.
    pub(in crate::emit) fn rows_callee(
        &mut self,
        lanes: &'k Loop,
        before: &'k [Stmt],
        rows: &'k Loop,
        count: usize,
    ) -> Option<Callee<'k>> {
        if !self.target.wide {
            return None;
        }
        let function = rows_function(self.kernel, &self.facts, lanes, before, rows, count)?;
        Some(self.callee(function))
    }

    /// Folds `count` rows, the first of which is `row`, for columns from `first` up to `end`, onto the partial results at `planes`.
    pub(in crate::emit) fn fold_rows_in_full_width(
        &mut self,
        callee: &Callee<'k>,
        [lanes, rows]: [&'k Loop; 2],
        (row, count): (Value, usize),
        [first, end]: [Value; 2],
        planes: &[Value],
    ) -> Result<(), EmitError> {
        let layout = callee.function.layout;
        for (i, plane) in planes.iter().enumerate() {
            let at = layout.pointer(i) as i32;
            self.b.ins().stack_store(I64, *plane, callee.slot, at);
        }
        let mark = self.memo.mark();
        self.start_lanes(lanes.id, first);
        for r in 0..count {
            let counter = self.b.ins().iadd_imm_s(row, r as i64);
            self.counters.insert(rows.id, counter);
            self.depth += 1;
            let within = self.memo.mark();
            self.still(&rows.body)?;
            self.put_row(callee, planes.len(), r);
            self.memo.reset(within);
            self.depth -= 1;
        }
        self.lanes = None;
        self.memo.reset(mark);
        let columns = self.b.ins().isub(end, first);
        self.call_full_width(callee, columns);
        Ok(())
    }

    /// The functions that reduce tiles of columns, if there are any.
    pub(in crate::emit) fn tiles(
        &mut self,
        lanes: &'k Loop,
        before: &'k [Stmt],
        rows: &'k Loop,
    ) -> Option<Tiles<'k>> {
        if !self.target.wide {
            return None;
        }
        let (kernel, facts) = (self.kernel, &self.facts);
        let (function, vectors) = columns::function(kernel, facts, lanes, before, rows)?;
        let one = match vectors {
            1 => None,
            _ => Some(columns::of_vectors(kernel, facts, lanes, before, rows, 1)?),
        };
        Some(Tiles {
            several: self.callee(function),
            one: one.map(|one| self.callee(one)),
            vectors,
        })
    }

    /// Reduces the columns from `first` up to `end`, which are at least one; the results go to `planes`.
    pub(in crate::emit) fn reduce_tiles(
        &mut self,
        tiles: &Tiles<'k>,
        loops: [&'k Loop; 2],
        [first, end]: [Value; 2],
        planes: &[Value],
    ) -> Result<(), EmitError> {
        let width = tiles.width();
        let step = Trips::AtLeastOne;
        self.counted([first, end], width, step, Vec::new(), &mut |e, from, _| {
            let next = e.b.ins().iadd_imm_s(from, width);
            let to = e.b.ins().smin(next, end);
            let count = e.b.ins().isub(to, from);
            let distance = e.b.ins().isub(from, first);
            let distance = e.b.ins().ishl_imm_s(distance, 2);
            let planes = planes.iter().map(|plane| e.b.ins().iadd(*plane, distance));
            let planes: Vec<Value> = planes.collect();
            let Some(one) = &tiles.one else {
                e.reduce_tile(&tiles.several, loops, (from, count), &planes);
                return Ok(Vec::new());
            };
            let behind_last = width - i64::from(LANES);
            let last = e.b.ins().iadd_imm_s(count, -behind_last);
            let zero = e.int(0);
            let whole = e.b.ins().icmp(IntCC::SignedGreaterThan, last, zero);
            let short = e.b.ins().icmp(IntCC::SignedLessThanOrEqual, last, zero);
            e.guarded(whole, &[], &mut |e| {
                e.reduce_tile(&tiles.several, loops, (from, last), &planes);
                Ok(Vec::new())
            })?;
            e.guarded(short, &[], &mut |e| {
                let lanes = i64::from(LANES);
                e.counted([from, to], lanes, step, Vec::new(), &mut |e, at, _| {
                    let next = e.b.ins().iadd_imm_s(at, lanes);
                    let next = e.b.ins().smin(next, to);
                    let count = e.b.ins().isub(next, at);
                    let distance = e.b.ins().isub(at, from);
                    let distance = e.b.ins().ishl_imm_s(distance, 2);
                    let planes = planes.iter().map(|plane| e.b.ins().iadd(*plane, distance));
                    let planes: Vec<Value> = planes.collect();
                    e.reduce_tile(one, loops, (at, count), &planes);
                    Ok(Vec::new())
                })?;
                Ok(Vec::new())
            })?;
            Ok(Vec::new())
        })?;
        Ok(())
    }

    /// Reduces a tile that begins at a column, with so many columns in its last vector.
    fn reduce_tile(
        &mut self,
        callee: &Callee<'k>,
        [lanes, rows]: [&'k Loop; 2],
        (first, last): (Value, Value),
        planes: &[Value],
    ) {
        let function = &callee.function;
        let layout = function.layout;
        for (i, plane) in planes.iter().enumerate() {
            let at = layout.pointer(i) as i32;
            self.b.ins().stack_store(I64, *plane, callee.slot, at);
        }
        let mark = self.memo.mark();
        let zero = self.int(0);
        self.counters.insert(rows.id, zero);
        self.start_lanes(lanes.id, first);
        self.put_row(callee, planes.len(), 0);
        self.lanes = None;
        self.memo.reset(mark);
        let strides = function.strides.iter().zip(&function.streams);
        for (i, (stride, stream)) in strides.enumerate() {
            let size = match stream.source {
                Source::Elements(param, _) => self.kernel.params[param.index()].dtype.size(),
                Source::Words(_) => 4,
            };
            let stride = self.size(stride, size as i64);
            let at = layout.word(i) as i32;
            self.b.ins().stack_store(I64, stride, callee.slot, at);
        }
        let at = layout.word(function.strides.len()) as i32;
        self.b.ins().stack_store(I64, last, callee.slot, at);
        let count = self.size(&rows.extent, 1);
        self.call_full_width(callee, count);
    }

    fn start_lanes(&mut self, id: LoopId, first: Value) {
        self.counters.insert(id, first);
        self.lanes = Some(Lanes {
            id,
            groups: 1,
            counters: Counters::Full { first },
        });
    }

    /// Declares a function, and makes room for its block.
    fn callee(&mut self, mut function: Function<'k>) -> Callee<'k> {
        let size = function.layout.size();
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, size, 4);
        let slot = self.b.create_sized_stack_slot(data);
        let name = UserExternalName {
            namespace: 0,
            index: self.functions.len() as u32,
        };
        self.functions.push((
            std::mem::take(&mut function.bytes),
            std::mem::take(&mut function.text),
        ));
        let name = self.b.func.declare_imported_user_function(name);
        let signature = self.helper_signature();
        let reference = self.b.import_function(ExtFuncData {
            name: ExternalName::user(name),
            signature,
            colocated: true,
            patchable: false,
        });
        Callee {
            function,
            reference,
            slot,
        }
    }

    /// Writes the pointers and values of a row into the block.
    fn put_row(&mut self, callee: &Callee<'k>, own: usize, row: usize) {
        let layout = callee.function.layout;
        for (i, stream) in callee.function.streams.iter().enumerate() {
            if let Source::Elements(param, index) = stream.source
                && stream.row == row
            {
                let pointer = self.walking(param, index, 0);
                let at = layout.pointer(own + i) as i32;
                self.b.ins().stack_store(I64, pointer, callee.slot, at);
            }
        }
        for (i, uniform) in callee.function.uniforms.iter().enumerate() {
            if uniform.row == row {
                let at = layout.uniform(i) as i32;
                let index = self.facts.index(uniform.value).filter(|_| uniform.first);
                let value = match index.cloned() {
                    Some(index) => self.lane_index(&index, 0),
                    None => self.form(uniform.value, Point::Uniform).one(),
                };
                self.b.ins().stack_store(I64, value, callee.slot, at);
            }
        }
    }

    /// Calls a function whose block is filled but for the trip count, and returns the block's address.
    fn call_full_width(&mut self, callee: &Callee<'k>, count: Value) -> Value {
        self.b.ins().stack_store(I64, count, callee.slot, 0);
        let block = self.b.ins().stack_addr(I64, callee.slot, 0);
        self.b.ins().call(callee.reference, &[block]);
        block
    }
}
