//! Fused multiply-adds, whose result takes the register of an operand.

use super::{Allocator, File, Holder};
use crate::emit::wide::encode::{Place, row};
use crate::emit::wide::opcode::{lanes, moved};
use crate::emit::wide::tape::{Arg, Inst, Out};

impl Allocator<'_> {
    /// The result takes the place of one of the operands: of one that is not read again, or of a copy.
    pub(super) fn fma(&mut self, inst: &Inst, at: usize, [a, b, c]: [Arg; 3]) -> Option<()> {
        let mut places = [self.operand(a)?, self.operand(b)?, self.operand(c)?];
        // One operand may be in memory: the addend before a factor, since that leaves more choice.
        let in_memory = |p: &Place| !matches!(p, Place::Register(_));
        let kept = [2, 0, 1].into_iter().find(|i| in_memory(&places[*i]));
        for (i, place) in places.iter_mut().enumerate() {
            if in_memory(place) && Some(i) != kept {
                *place = Place::Register(self.load(*place)?);
            }
        }
        let scratch: Vec<u8> = self.scratch.iter().map(|(_, reg)| *reg).collect();
        let dying = |e: &Self, i: usize| match (places[i], [a, b, c][i]) {
            (Place::Register(reg), Arg::Value(v)) => {
                e.uses[v as usize].first() == Some(&at)
                    && e.places[v as usize].register.is_some_and(|(_, r)| r == reg)
            }
            (Place::Register(reg), Arg::Word(_) | Arg::Uniform(_)) => scratch.contains(&reg),
            (Place::Register(_), Arg::Partial(_)) => false,
            (_, _) => false,
        };
        // Which operand gives its place: a factor whose partner may be anything, or the addend.
        let giver = [2, 0, 1].into_iter().find(|i| dying(self, *i));
        let (reg, giver) = match giver {
            Some(giver) => {
                let Place::Register(reg) = places[giver] else {
                    return None;
                };
                self.release(inst, at);
                (self.result_in(inst.out, reg)?, giver)
            }
            None => {
                // The copy must not be one of the operands, which are all read again.
                let giver = [2, 0, 1].into_iter().find(|i| !in_memory(&places[*i]))?;
                let reg = self.result(inst.out)?;
                self.code.push(moved(reg, places[giver], 0, false));
                places[giver] = Place::Register(reg);
                self.release(inst, at);
                (reg, giver)
            }
        };
        let as_register = |place: Place| match place {
            Place::Register(reg) => Some(reg),
            _ => None,
        };
        let (row, second, place) = match giver {
            // reg = second * place + reg
            2 => match (as_register(places[0]), as_register(places[1])) {
                (Some(second), _) => (row::FMA231, second, places[1]),
                (None, Some(second)) => (row::FMA231, second, places[0]),
                (None, None) => return None,
            },
            _ => {
                let (factor, addend) = (places[1 - giver], places[2]);
                match (as_register(factor), as_register(addend)) {
                    // reg = second * reg + place
                    (Some(second), _) => (row::FMA213, second, addend),
                    // reg = reg * place + second
                    (None, Some(second)) => (row::FMA132, second, factor),
                    (None, None) => return None,
                }
            }
        };
        self.code.push(lanes(row, reg, second, place));
        Some(())
    }

    /// The result in a register that was just released.
    fn result_in(&mut self, out: Out, reg: u8) -> Option<u8> {
        let Out::Lanes(value) = out else {
            return None;
        };
        self.files[0][usize::from(reg)] = Some(Holder::Value(value));
        self.places[value as usize].register = Some((File::Lanes, reg));
        if self.uses[value as usize].is_empty() {
            self.files[0][usize::from(reg)] = None;
        }
        Some(reg)
    }
}
