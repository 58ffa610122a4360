//! Loads and stores of groups.
//!
//! A masked lane reads from memory that is always there and is then cleared, and writes to the function's own stack; so masks cost no
//! branch for each lane. Where elements are adjacent, one branch takes the whole group at once if all lanes are live.
//!
//! Stores of a group go from the first lane to the last, so that of two lanes that write one element the later one wins. A surplus lane
//! of the tail repeats the last live lane, hence writes the same number to the same element again.

use super::EmitError;
use super::address::Address;
use super::emitter::{Emitter, Point, memory};
use super::form::Form;
use crate::kernel::{Index, ParamId, ValueId};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I8X16, I32, I32X4, I64, I64X2};
use cranelift_codegen::ir::{BlockArg, InstBuilder, Type, Value};
use kiln_ir::DType;

impl Emitter<'_, '_> {
    pub(super) fn load(
        &mut self,
        param: ParamId,
        index: &Index,
        predicate: Option<ValueId>,
        point: Point,
    ) -> Result<Form, EmitError> {
        let dtype = self.kernel.params[param.index()].dtype;
        self.register_type(dtype, || "load".into())?;
        let mask = predicate.map(|p| self.form(p, point).one());
        let address = self.address(param, index, point);
        Ok(match (address, mask) {
            (Address::Same(at), None) => {
                let scalar = self.load_scalar(dtype, at, 0);
                self.splat(dtype, scalar)
            }
            (Address::Same(at), Some(mask)) => {
                let any = self.b.ins().vany_true(mask);
                let safe = self.readable();
                let at = self.b.ins().select(any, at, safe);
                let scalar = self.load_scalar(dtype, at, 0);
                let form = self.splat(dtype, scalar);
                self.clear(form, mask)
            }
            (Address::Adjacent(at, offset), None) => self.load_adjacent(dtype, at, offset),
            (Address::Apart(lanes), None) => {
                self.gathered(dtype, |e, j| e.load_scalar(dtype, lanes[j].0, lanes[j].1))
            }
            (Address::Adjacent(at, offset), Some(mask)) => {
                self.load_where_live(dtype, at, offset, mask)
            }
            (Address::Apart(lanes), Some(mask)) => self.load_lanes(dtype, lanes, mask),
        })
    }

    /// Adjacent elements under a mask: all at once where every lane is live, else lane by lane.
    fn load_where_live(&mut self, dtype: DType, at: Value, offset: i32, mask: Value) -> Form {
        let (whole, apart, done) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let all = self.b.ins().vall_true(mask);
        self.b.ins().brif(all, whole, &[], apart, &[]);

        self.b.switch_to_block(whole);
        let form = self.load_adjacent(dtype, at, offset);
        self.jump_with(done, form);

        self.b.switch_to_block(apart);
        let size = dtype.size() as i32;
        let lanes = std::array::from_fn(|j| (at, offset + size * j as i32));
        let masked = self.load_lanes(dtype, lanes, mask);
        self.jump_with(done, masked);

        self.b.switch_to_block(done);
        form.map(|register| {
            let ty = self.b.func.dfg.value_type(register);
            self.b.append_block_param(done, ty)
        })
    }

    fn jump_with(&mut self, block: cranelift_codegen::ir::Block, form: Form) {
        let arguments: Vec<BlockArg> = form
            .registers()
            .iter()
            .copied()
            .map(BlockArg::Value)
            .collect();
        self.b.ins().jump(block, &arguments);
    }

    fn load_lanes(&mut self, dtype: DType, lanes: [(Value, i32); 4], mask: Value) -> Form {
        let safe = self.readable();
        let form = self.gathered(dtype, |e, j| {
            let (at, offset) = lanes[j];
            let at = e.masked_address(at, offset, mask, j, safe);
            e.load_scalar(dtype, at, 0)
        });
        self.clear(form, mask)
    }

    fn masked_address(
        &mut self,
        at: Value,
        offset: i32,
        mask: Value,
        lane: usize,
        safe: Value,
    ) -> Value {
        let live = self.b.ins().extractlane(mask, lane as u8);
        let at = if offset == 0 {
            at
        } else {
            self.b.ins().iadd_imm_s(at, i64::from(offset))
        };
        self.b.ins().select(live, at, safe)
    }

    /// Zero in the lanes that a mask leaves out.
    fn clear(&mut self, form: Form, mask: Value) -> Form {
        let masks = self.masks_like(form, mask);
        form.zip(masks, |register, mask| {
            let ty = self.b.func.dfg.value_type(register);
            let mask = self.bitcast(ty, mask);
            self.b.ins().band(register, mask)
        })
    }

    /// A 32-bit mask in the width of a form.
    pub(super) fn masks_like(&mut self, form: Form, mask: Value) -> Form {
        match form {
            Form::One(_) => Form::One(mask),
            Form::Two(_) => Form::Two(self.widen_mask(mask)),
        }
    }

    pub(super) fn widen_mask(&mut self, mask: Value) -> [Value; 2] {
        let low = self.b.ins().swiden_low(mask);
        [low, self.b.ins().swiden_high(mask)]
    }

    /// One element: f32, f64 and i64 as such, everything else as an i32 that holds the extended number.
    fn load_scalar(&mut self, dtype: DType, at: Value, offset: i32) -> Value {
        let flags = memory();
        match dtype {
            DType::F32 => self.b.ins().load(F32, flags, at, offset),
            DType::F64 => self.b.ins().load(F64, flags, at, offset),
            DType::I64 | DType::U64 => self.b.ins().load(I64, flags, at, offset),
            DType::I32 | DType::U32 => self.b.ins().load(I32, flags, at, offset),
            DType::I8 => self.b.ins().sload8(I32, flags, at, offset),
            DType::U8 | DType::Bool => self.b.ins().uload8(I32, flags, at, offset),
            DType::I16 => self.b.ins().sload16(I32, flags, at, offset),
            DType::U16 | DType::BF16 | DType::F16 => self.b.ins().uload16(I32, flags, at, offset),
        }
    }

    /// A scalar of [`load_scalar`](Self::load_scalar) in all lanes.
    pub(super) fn splat(&mut self, dtype: DType, scalar: Value) -> Form {
        let ty = super::form::register_type(dtype).unwrap_or(I32X4);
        let register = self.b.ins().splat(ty, scalar);
        match ty {
            F64X2 | I64X2 => Form::Two([register; 2]),
            _ if dtype == DType::Bool => Form::One(self.b.ins().ineg(register)),
            _ => Form::One(register),
        }
    }

    /// The scalars of four lanes in registers.
    pub(super) fn assemble(&mut self, dtype: DType, lanes: [Value; 4]) -> Form {
        self.gathered(dtype, |_, j| lanes[j])
    }

    /// The scalars of four lanes in registers, each asked for right before it is put there, so that a load becomes part of that.
    pub(super) fn gathered(
        &mut self,
        dtype: DType,
        mut lane: impl FnMut(&mut Self, usize) -> Value,
    ) -> Form {
        let ty = super::form::register_type(dtype).unwrap_or(I32X4);
        let mut register = |e: &mut Self, first: usize, count: usize| {
            let scalar = lane(e, first);
            // A float is broadcast in one instruction, but put into an empty register in three.
            let mut register = if ty.lane_type().is_float() {
                e.b.ins().splat(ty, scalar)
            } else {
                e.b.ins().scalar_to_vector(ty, scalar)
            };
            for j in 1..count {
                let scalar = lane(e, first + j);
                register = e.b.ins().insertlane(register, scalar, j as u8);
            }
            register
        };
        match ty {
            F64X2 | I64X2 => {
                let low = register(self, 0, 2);
                Form::Two([low, register(self, 2, 2)])
            }
            _ => {
                let register = register(self, 0, 4);
                Form::One(if dtype == DType::Bool {
                    self.b.ins().ineg(register)
                } else {
                    register
                })
            }
        }
    }

    fn load_adjacent(&mut self, dtype: DType, at: Value, offset: i32) -> Form {
        let flags = memory();
        match dtype {
            DType::F32 => Form::One(self.b.ins().load(F32X4, flags, at, offset)),
            DType::I32 | DType::U32 => Form::One(self.b.ins().load(I32X4, flags, at, offset)),
            DType::F64 => self.load_pair(F64X2, at, offset),
            DType::I64 | DType::U64 => self.load_pair(I64X2, at, offset),
            DType::I16 => Form::One(self.b.ins().sload16x4(flags, at, offset)),
            DType::U16 | DType::BF16 | DType::F16 => {
                Form::One(self.b.ins().uload16x4(flags, at, offset))
            }
            DType::I8 | DType::U8 | DType::Bool => {
                let word = self.b.ins().load(F32, flags, at, offset);
                let bytes = self.b.ins().scalar_to_vector(F32X4, word);
                let bytes = self.bitcast(I8X16, bytes);
                let register = if dtype == DType::I8 {
                    let halves = self.b.ins().swiden_low(bytes);
                    self.b.ins().swiden_low(halves)
                } else {
                    let halves = self.b.ins().uwiden_low(bytes);
                    self.b.ins().uwiden_low(halves)
                };
                Form::One(if dtype == DType::Bool {
                    self.b.ins().ineg(register)
                } else {
                    register
                })
            }
        }
    }

    fn load_pair(&mut self, ty: Type, at: Value, offset: i32) -> Form {
        let low = self.b.ins().load(ty, memory(), at, offset);
        Form::Two([low, self.b.ins().load(ty, memory(), at, offset + 16)])
    }

    pub(super) fn store(
        &mut self,
        param: ParamId,
        index: &Index,
        value: ValueId,
        predicate: Option<ValueId>,
        point: Point,
    ) -> Result<(), EmitError> {
        let dtype = self.kernel.params[param.index()].dtype;
        self.register_type(dtype, || "store".into())?;
        let form = self.form(value, point);
        let mask = predicate.map(|p| self.form(p, point).one());
        match (self.address(param, index, point), mask, point) {
            (Address::Same(at), None, Point::Uniform) => self.store_lane(dtype, form, 0, at, 0),
            // All lanes write one element, and the last one stays.
            (Address::Same(at), None, Point::Group(_)) => self.store_lane(dtype, form, 3, at, 0),
            (Address::Same(at), Some(mask), Point::Uniform) => {
                self.store_masked(dtype, form, [(at, 0); 4], mask, 1);
            }
            (Address::Same(at), Some(mask), Point::Group(_)) => {
                self.store_masked(dtype, form, [(at, 0); 4], mask, 4);
            }
            (Address::Adjacent(at, offset), None, _) => {
                self.store_adjacent(dtype, form, at, offset)
            }
            (Address::Adjacent(at, offset), Some(mask), _) => {
                let (whole, apart, done) = (
                    self.b.create_block(),
                    self.b.create_block(),
                    self.b.create_block(),
                );
                let all = self.b.ins().vall_true(mask);
                self.b.ins().brif(all, whole, &[], apart, &[]);
                self.b.switch_to_block(whole);
                self.store_adjacent(dtype, form, at, offset);
                self.b.ins().jump(done, &[]);
                self.b.switch_to_block(apart);
                let size = dtype.size() as i32;
                let lanes = std::array::from_fn(|j| (at, offset + size * j as i32));
                self.store_masked(dtype, form, lanes, mask, 4);
                self.b.ins().jump(done, &[]);
                self.b.switch_to_block(done);
            }
            (Address::Apart(lanes), None, _) => {
                for (j, (at, offset)) in lanes.into_iter().enumerate() {
                    self.store_lane(dtype, form, j, at, offset);
                }
            }
            (Address::Apart(lanes), Some(mask), _) => {
                self.store_masked(dtype, form, lanes, mask, 4)
            }
        }
        Ok(())
    }

    fn store_masked(
        &mut self,
        dtype: DType,
        form: Form,
        lanes: [(Value, i32); 4],
        mask: Value,
        count: usize,
    ) {
        let own = self.scratch();
        for (j, (at, offset)) in lanes.into_iter().enumerate().take(count) {
            let at = self.masked_address(at, offset, mask, j, own);
            self.store_lane(dtype, form, j, at, 0);
        }
    }

    /// A lane as a scalar of its register's lane type.
    pub(super) fn lane(&mut self, form: Form, lane: usize) -> Value {
        match form {
            Form::One(register) => self.b.ins().extractlane(register, lane as u8),
            Form::Two(registers) => self
                .b
                .ins()
                .extractlane(registers[lane / 2], (lane % 2) as u8),
        }
    }

    fn store_lane(&mut self, dtype: DType, form: Form, lane: usize, at: Value, offset: i32) {
        let scalar = self.lane(form, lane);
        let flags = memory();
        match dtype.size() {
            1 => {
                let scalar = if dtype == DType::Bool {
                    self.b.ins().ineg(scalar)
                } else {
                    scalar
                };
                self.b.ins().istore8(flags, scalar, at, offset);
            }
            2 => {
                self.b.ins().istore16(flags, scalar, at, offset);
            }
            _ => {
                self.b.ins().store(flags, scalar, at, offset);
            }
        }
    }

    fn store_adjacent(&mut self, dtype: DType, form: Form, at: Value, offset: i32) {
        let flags = memory();
        match (dtype.size(), form) {
            (1, form) => {
                let register = form.one();
                let register = if dtype == DType::Bool {
                    self.b.ins().ineg(register)
                } else {
                    register
                };
                let bytes = std::array::from_fn(|i| 4 * (i as u8 % 4));
                let packed = self.shuffle(register, register, bytes);
                let packed = self.bitcast(F32X4, packed);
                let word = self.b.ins().extractlane(packed, 0);
                self.b.ins().store(flags, word, at, offset);
            }
            (2, form) => {
                let register = form.one();
                let bytes = std::array::from_fn(|i| 4 * (i as u8 % 8 / 2) + i as u8 % 2);
                let packed = self.shuffle(register, register, bytes);
                let packed = self.bitcast(F64X2, packed);
                let word = self.b.ins().extractlane(packed, 0);
                self.b.ins().store(flags, word, at, offset);
            }
            (_, form) => {
                for (i, register) in form.registers().iter().enumerate() {
                    self.b
                        .ins()
                        .store(flags, *register, at, offset + 16 * i as i32);
                }
            }
        }
    }

    /// The lanes of the tail whose element exists: lane `j` where `first + j <= last`.
    pub(super) fn live_lanes(&mut self, first: Value, last: Value) -> Value {
        let key = super::emitter::Key::Live;
        if let Some(mask) = self.memo.find(&key) {
            return mask;
        }
        let rest = self.b.ins().isub(last, first);
        let rest = self.b.ins().ireduce(I32, rest);
        let rest = self.b.ins().splat(I32X4, rest);
        let numbers = self.constant(I32X4, 0x0000_0002_0000_0001_0000_0000_ffff_ffff);
        let mask = self.b.ins().icmp(IntCC::SignedGreaterThan, rest, numbers);
        self.memo.insert(key, mask);
        mask
    }
}
