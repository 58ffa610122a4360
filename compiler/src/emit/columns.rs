//! Column reductions: rows outside, columns inside.
//!
//! A lanes loop around a fold in order would walk down sixteen columns at a time, a cache line of each row: memory is then fetched line by
//! line from far apart. Instead the columns are taken in tiles of [`TILE`], whose results lie on the stack, and the rows of a tile are read
//! from left to right. Each column still folds its rows in order and in the blocks that the language defines, so no bit changes.
//!
//! In full width a function goes through all rows with the partial results of up to 256 columns in registers ([`Tiles`]). That serves few
//! columns in any memory, and many columns in cache. Otherwise the partial results lie on the stack too, and [`ROWS`] rows are read for each
//! pass over them, or one where they come from beyond L2; these passes run in full width where there is a function for them ([`Callee`]).

use super::EmitError;
use super::emitter::{Counters, Emitter, Lanes, Point, Trips, memory};
use super::fold::State;
use super::wide::{Callee, Tiles};
use crate::kernel::{Expr, Loop, LoopId, LoopKind, SERIAL_BLOCK, Stmt};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{InstBuilder, StackSlotData, StackSlotKind, Type, Value};
use kiln_ir::program::ALIGNMENT;

/// The columns of a tile whose states are one register for a group: partial results and results are then 8 KiB each, on the stack, which
/// also bounds the frame. Larger states make the tile narrower.
const TILE: i64 = 2048;
/// The rows for each pass over the partial results: a divisor of [`SERIAL_BLOCK`].
const ROWS: i64 = 4;
/// The same in full width, where the pointers of the rows have registers: a power of two that divides [`SERIAL_BLOCK`].
const MOST_ROWS: usize = 8;
/// The bytes of one operand from which rows are read one at a time: memory is fastest when it is read as one stream, and so is an L3 shared
/// by many cores, while what is in L2 would be held up by the loads and stores of the partial results.
const STREAM: i64 = 4 << 20;
/// Where partial results begin, as buffers do: at a cache line.
const LINE: i64 = ALIGNMENT as i64;
/// The groups of an iteration.
const GROUPS: usize = 4;
/// The trip counts, where they are known, from which it pays: columns in 128 bits and in full width, and rows.
const LEAST: i64 = 64;
const LEAST_IN_FULL_WIDTH: i64 = 8;
const LEAST_ROWS: i64 = 16;
/// The accumulators that share the registers.
const MOST: usize = 2;

/// A lanes loop that reduces columns.
#[derive(Clone, Copy)]
pub(super) struct Columns<'k> {
    lanes: &'k Loop,
    /// What comes before the fold.
    before: &'k [Stmt],
    rows: &'k Loop,
    /// What comes behind it.
    behind: &'k [Stmt],
}

impl<'k> Columns<'k> {
    /// Whether there are enough columns for 128 bits.
    fn is_wide(&self) -> bool {
        self.lanes.extent.constant().is_none_or(|n| n >= LEAST)
    }

    /// The lanes loop as a column reduction whose rows may be worth reading from left to right.
    pub(super) fn of(lanes: &'k Loop) -> Option<Columns<'k>> {
        let mut loops = lanes.body.iter().enumerate().filter_map(|(i, s)| match s {
            Stmt::Loop(inner) => Some((i, inner)),
            Stmt::Let { .. } | Stmt::Store { .. } | Stmt::Apply(_) | Stmt::Sort(_) => None,
        });
        let (at, rows) = loops.next()?;
        let alone = loops.next().is_none() && lanes.accumulators.is_empty();
        let folds = rows.kind == LoopKind::Serial && (1..=MOST).contains(&rows.accumulators.len());
        let known = |l: &Loop| l.extent.constant().unwrap_or(i64::MAX);
        let large = known(lanes) >= LEAST_IN_FULL_WIDTH && known(rows) >= LEAST_ROWS;
        let values = |body: &[Stmt]| body.iter().all(|s| matches!(s, Stmt::Let { .. }));
        let (before, behind) = (&lanes.body[..at], &lanes.body[at + 1..]);
        let fits = alone && folds && large && values(before) && values(&rows.body);
        (fits && walks(&rows.body, lanes.id, rows.id)).then_some(Columns {
            lanes,
            before,
            rows,
            behind,
        })
    }
}

/// Whether all loads are of adjacent columns, or the same for all, and some differ from row to row.
fn walks(body: &[Stmt], lanes: LoopId, rows: LoopId) -> bool {
    let mut streams = false;
    let mut plain = true;
    for stmt in body {
        if let Stmt::Let {
            expr: Expr::Load {
                index, predicate, ..
            },
            ..
        } = stmt
        {
            let step = index.step(lanes);
            let mut values = false;
            index.visit_values(&mut |_| values = true);
            plain &= matches!(step, Some(0 | 1)) && !values && predicate.is_none();
            index.visit_loops(&mut |id| streams |= id == rows && step == Some(1));
        }
    }
    plain && streams
}

/// Where the states of a tile lie: the first registers of all columns, then the second ones.
#[derive(Clone)]
struct Tile {
    partial: Value,
    result: Value,
    /// All ones for rows in cache, zero for rows that are a stream.
    cached: Value,
    /// The registers of one group.
    registers: Vec<Type>,
    /// The bytes of one register for all columns of a tile.
    plane: i64,
    first: Value,
}

/// The functions in full width: for all rows of a tile, for several rows, and for one.
struct Callees<'k> {
    tiles: Option<Tiles<'k>>,
    several: Option<Callee<'k>>,
    one: Option<Callee<'k>>,
    /// What [`ROWS`] is for them.
    rows: i64,
}

impl<'k> Emitter<'k, '_> {
    /// Emits the loop over a range that has at least one column; false if it is to be emitted as any other.
    pub(super) fn columns(
        &mut self,
        columns: Columns<'k>,
        [from, to]: [Value; 2],
        trips: Trips,
    ) -> Result<bool, EmitError> {
        let callees = self.callees(&columns);
        if callees.tiles.is_none() && !columns.is_wide() {
            return Ok(false);
        }
        let starts = self.starts(&columns.rows.accumulators, 1)?;
        let registers: Vec<Type> = starts
            .iter()
            .map(|r| self.b.func.dfg.value_type(*r))
            .collect();
        let tile = TILE / registers.len() as i64 / 16 * 16;
        let most = columns.lanes.extent.constant().unwrap_or(i64::MAX);
        let (tiles, width) = match trips {
            Trips::Exactly(n) => (Trips::Exactly((n + tile - 1) / tile), n.min(tile)),
            Trips::Unknown | Trips::AtLeastOne => (trips, tile.min(most)),
        };
        // One iteration more than whole ones, for the tail.
        let groups = width as usize / 4 + GROUPS;
        let plane = (groups * 16).next_multiple_of(LINE as usize);
        // The frame is aligned to 16 bytes: where vectors lay across cache lines, a sweep would take half as long again.
        let bytes = (plane * registers.len()) as u32 + LINE as u32;
        let mut slot = || {
            let data = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4);
            self.b.create_sized_stack_slot(data)
        };
        let slots = [slot(), slot()];
        let extent = self.size(&columns.rows.extent, 1);
        let last = self.b.ins().iadd_imm_s(to, -1);
        let all = self.size(&columns.lanes.extent, 4);
        let all = self.b.ins().imul(all, extent);
        let small = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, all, STREAM);
        let large = self
            .b
            .ins()
            .icmp_imm_s(IntCC::SignedGreaterThanOrEqual, all, STREAM);
        let (ones, zero) = (self.int(-1), self.int(0));
        let cached = self.b.ins().select(small, ones, zero);
        self.counted([from, to], tile, tiles, Vec::new(), &mut |e, first, _| {
            let next = e.b.ins().iadd_imm_s(first, tile);
            let end = e.b.ins().smin(next, to);
            let [partial, result] = slots.map(|slot| {
                let address = e.b.ins().stack_addr(I64, slot, LINE as i32 - 1);
                e.b.ins().band_imm_s(address, -LINE)
            });
            let tile = Tile {
                partial,
                result,
                cached,
                registers: registers.clone(),
                plane: plane as i64,
                first,
            };
            match &callees.tiles {
                // One tile has whole rows, so that they are one stream in any case.
                Some(tiles) if most <= tiles.width() => e.tiled(&columns, tiles, &tile, end)?,
                Some(tiles) => {
                    e.guarded(small, &[], &mut |e| {
                        e.tiled(&columns, tiles, &tile, end)?;
                        Ok(Vec::new())
                    })?;
                    e.guarded(large, &[], &mut |e| {
                        e.row_blocks(&columns, &callees, &tile, [end, last])?;
                        Ok(Vec::new())
                    })?;
                }
                None => e.row_blocks(&columns, &callees, &tile, [end, last])?,
            }
            if callees.tiles.is_some() || callees.one.is_some() {
                e.repeat_last(&tile, end);
            }
            e.tile_sweep(&columns, &tile, end, last, &mut |e, groups, at| {
                e.finish_columns(&columns, &tile, groups, at)
            })?;
            Ok(Vec::new())
        })?;
        Ok(true)
    }

    /// The results of a tile, by functions that go through all rows.
    fn tiled(
        &mut self,
        columns: &Columns<'k>,
        tiles: &Tiles<'k>,
        tile: &Tile,
        end: Value,
    ) -> Result<(), EmitError> {
        let plane = |i| self.b.ins().iadd_imm_s(tile.result, i as i64 * tile.plane);
        let planes: Vec<Value> = (0..tile.registers.len()).map(plane).collect();
        let loops = [columns.lanes, columns.rows];
        self.reduce_tiles(tiles, loops, [tile.first, end], &planes)
    }

    /// The results of a tile, block of rows by block of rows.
    fn row_blocks(
        &mut self,
        columns: &Columns<'k>,
        callees: &Callees<'k>,
        tile: &Tile,
        [end, last]: [Value; 2],
    ) -> Result<(), EmitError> {
        let accumulators = &columns.rows.accumulators;
        let starts = self.starts(accumulators, 1)?;
        let identities = self.identities(accumulators, 1)?;
        self.tile_sweep(columns, tile, end, last, &mut |e, groups, at| {
            for g in 0..groups {
                e.keep(tile, tile.partial, at, g, &identities);
                e.keep(tile, tile.result, at, g, &starts);
            }
            Ok(())
        })?;
        let extent = self.size(&columns.rows.extent, 1);
        let zero = self.int(0);
        self.counted(
            [zero, extent],
            SERIAL_BLOCK,
            Trips::Unknown,
            Vec::new(),
            &mut |e, block, _| {
                let next = e.b.ins().iadd_imm_s(block, SERIAL_BLOCK);
                let stop = e.b.ins().smin(next, extent);
                e.rows(columns, callees, tile, [block, stop], [end, last])?;
                // The block joins the result, and the next one begins with the identity.
                e.tile_sweep(columns, tile, end, last, &mut |e, groups, at| {
                    for g in 0..groups {
                        let result = e.kept(tile, tile.result, at, g);
                        let partial = e.kept(tile, tile.partial, at, g);
                        let joined = e.fold_all(accumulators, 1, &result, &partial);
                        e.keep(tile, tile.result, at, g, &joined);
                        e.keep(tile, tile.partial, at, g, &identities);
                    }
                    Ok(())
                })?;
                Ok(Vec::new())
            },
        )?;
        Ok(())
    }

    /// The rows of a block, several at a time and then one at a time.
    fn rows(
        &mut self,
        columns: &Columns<'k>,
        callees: &Callees<'k>,
        tile: &Tile,
        [start, stop]: [Value; 2],
        [end, last]: [Value; 2],
    ) -> Result<(), EmitError> {
        let count = self.b.ins().isub(stop, start);
        let several = callees.rows;
        let whole = self.b.ins().band_imm_s(count, -several);
        let whole = self.b.ins().band(whole, tile.cached);
        let middle = self.b.ins().iadd(start, whole);
        let passes = [
            ([start, middle], several, &callees.several),
            ([middle, stop], 1, &callees.one),
        ];
        // Where tiles have functions of their own, rows come here only if they are a stream.
        let skipped = usize::from(callees.tiles.is_some());
        for (range, rows, callee) in passes.into_iter().skip(skipped) {
            self.counted(range, rows, Trips::Unknown, Vec::new(), &mut |e, row, _| {
                if let Some(callee) = callee {
                    let plane = |i| e.b.ins().iadd_imm_s(tile.partial, i as i64 * tile.plane);
                    let planes: Vec<Value> = (0..tile.registers.len()).map(plane).collect();
                    let loops = [columns.lanes, columns.rows];
                    let rows = (row, rows as usize);
                    let span = [tile.first, end];
                    e.fold_rows_in_full_width(callee, loops, rows, span, &planes)?;
                    return Ok(Vec::new());
                }
                e.tile_sweep(columns, tile, end, last, &mut |e, groups, at| {
                    e.fold_rows(columns, tile, groups, at, row, rows)
                })?;
                Ok(Vec::new())
            })?;
        }
        Ok(())
    }

    /// The functions in full width, with as many rows at once as there are pointers for.
    fn callees(&mut self, columns: &Columns<'k>) -> Callees<'k> {
        let Columns {
            lanes,
            before,
            rows,
            ..
        } = *columns;
        let tiles = self.tiles(lanes, before, rows);
        let width = tiles.as_ref().map_or(0, Tiles::width);
        let whole = lanes.extent.constant().is_some_and(|n| n <= width);
        let one = if whole || !columns.is_wide() {
            None
        } else {
            self.rows_callee(lanes, before, rows, 1)
        };
        let mut several = None;
        let mut count = MOST_ROWS;
        while tiles.is_none() && one.is_some() && count > 1 {
            several = self.rows_callee(lanes, before, rows, count);
            if several.is_some() {
                break;
            }
            count /= 2;
        }
        let rows = if several.is_some() {
            count as i64
        } else {
            ROWS
        };
        Callees {
            tiles,
            several,
            one,
            rows,
        }
    }

    /// Folds some rows onto the partial results of an iteration's groups.
    fn fold_rows(
        &mut self,
        columns: &Columns<'k>,
        tile: &Tile,
        groups: usize,
        at: Value,
        row: Value,
        rows: i64,
    ) -> Result<(), EmitError> {
        let accumulators = &columns.rows.accumulators;
        self.before_rows(columns, groups)?;
        let mut states: Vec<Vec<Value>> = (0..groups)
            .map(|g| self.kept(tile, tile.partial, at, g))
            .collect();
        for r in 0..rows {
            let counter = self.b.ins().iadd_imm_s(row, r);
            let mark = self.memo.mark();
            let mut next = Vec::with_capacity(groups);
            self.iteration(columns.rows, counter, &mut |e, group| {
                let mut unpacked = State::unpack(e, accumulators, 1, &states[group]);
                for (accumulator, state) in accumulators.iter().zip(&mut unpacked) {
                    let operand = e.operand(accumulator, Point::Group(group));
                    state[0] = e.fold(accumulator, state[0], operand);
                }
                next.push(State::pack(&unpacked));
                Ok(())
            })?;
            states = next;
            self.memo.reset(mark);
        }
        for (g, state) in states.iter().enumerate() {
            self.keep(tile, tile.partial, at, g, state);
        }
        Ok(())
    }

    /// Lanes behind the last column repeat it, but the functions in full width leave their results alone.
    fn repeat_last(&mut self, tile: &Tile, end: Value) {
        let columns = self.b.ins().isub(end, tile.first);
        let bytes = self.b.ins().ishl_imm_s(columns, 2);
        let behind = self.b.ins().iadd(tile.result, bytes);
        for plane in 0..tile.registers.len() as i32 {
            let at = plane * tile.plane as i32;
            let last = self.b.ins().load(I32, memory(), behind, at - 4);
            for lane in 0..3 {
                self.b.ins().store(memory(), last, behind, at + 4 * lane);
            }
        }
    }

    /// What stands before the fold is computed again wherever it is needed.
    fn before_rows(&mut self, columns: &Columns<'k>, groups: usize) -> Result<(), EmitError> {
        for group in 0..groups {
            self.straight(columns.before, group)?;
        }
        Ok(())
    }

    /// The results of an iteration's groups, and what stands behind the fold.
    fn finish_columns(
        &mut self,
        columns: &Columns<'k>,
        tile: &Tile,
        groups: usize,
        at: Value,
    ) -> Result<(), EmitError> {
        self.before_rows(columns, groups)?;
        let accumulators = &columns.rows.accumulators;
        for g in 0..groups {
            let registers = self.kept(tile, tile.result, at, g);
            let states = State::unpack(self, accumulators, 1, &registers);
            for (accumulator, state) in accumulators.iter().zip(states) {
                let form = self.result(state[0]);
                self.set(accumulator.value, Point::Group(g), form);
            }
        }
        for g in 0..groups {
            self.straight(columns.behind, g)?;
        }
        Ok(())
    }

    /// Runs `body` for all columns of a tile: its groups, and the number of bytes from the tile's first register to the iteration's.
    fn tile_sweep(
        &mut self,
        columns: &Columns<'k>,
        tile: &Tile,
        end: Value,
        last: Value,
        body: &mut dyn FnMut(&mut Self, usize, Value) -> Result<(), EmitError>,
    ) -> Result<(), EmitError> {
        let step = 4 * GROUPS as i64;
        let count = self.b.ins().isub(end, tile.first);
        let whole = self.b.ins().band_imm_s(count, -step);
        let main_end = self.b.ins().iadd(tile.first, whole);
        for (range, groups) in [
            ([tile.first, main_end], GROUPS),
            // Four at a time; lanes behind the last column repeat it, and so do their states.
            ([main_end, end], 1),
        ] {
            let step = 4 * groups as i64;
            self.counted(
                range,
                step,
                Trips::Unknown,
                Vec::new(),
                &mut |e, first, _| {
                    let counters = if groups == 1 {
                        Counters::Tail { first, last }
                    } else {
                        Counters::Full { first }
                    };
                    e.counters.insert(columns.lanes.id, first);
                    e.lanes = Some(Lanes {
                        id: columns.lanes.id,
                        groups,
                        counters,
                    });
                    let column = e.b.ins().isub(first, tile.first);
                    let at = e.b.ins().ishl_imm_s(column, 2);
                    body(e, groups, at)?;
                    e.lanes = None;
                    Ok(Vec::new())
                },
            )?;
        }
        Ok(())
    }

    /// Writes the registers of a group's states.
    fn keep(&mut self, tile: &Tile, base: Value, at: Value, group: usize, registers: &[Value]) {
        let address = self.b.ins().iadd(base, at);
        for (i, register) in registers.iter().enumerate() {
            let offset = 16 * group as i32 + i as i32 * tile.plane as i32;
            self.b.ins().store(memory(), *register, address, offset);
        }
    }

    /// Reads the registers of a group's states.
    fn kept(&mut self, tile: &Tile, base: Value, at: Value, group: usize) -> Vec<Value> {
        let address = self.b.ins().iadd(base, at);
        let load = |(i, ty): (usize, &Type)| {
            let offset = 16 * group as i32 + i as i32 * tile.plane as i32;
            self.b.ins().load(*ty, memory(), address, offset)
        };
        tile.registers.iter().enumerate().map(load).collect()
    }
}
