//! The rules of custom calls: [`Rule::Custom`].

use super::super::{Custom, Home, Program, root_of};
use super::{Errors, Rule, missing};

pub(super) fn custom(program: &Program, custom: &Custom, place: &str, errors: &mut Errors) {
    let (found, wanted) = (custom.outputs.len(), custom.call.results.len());
    if found != wanted || wanted == 0 {
        let message = format!("it has {found} buffers for {wanted} results");
        errors.add(Rule::Custom, place, message);
    }
    for (id, ty, _) in custom.tensors() {
        match program.buffer(id) {
            None => missing(id, place, errors),
            Some(b) if b.dtype != ty.dtype || b.elements != ty.shape.elements() => errors.add(
                Rule::Custom,
                place,
                format!("{id} is {}[{}], but the call has {ty}", b.dtype, b.elements),
            ),
            Some(_) => {}
        }
    }
    for (position, id) in custom.outputs.iter().enumerate() {
        let root = program.buffer(root_of(&program.buffers, *id));
        if root.is_some_and(|b| matches!(b.home, Home::Resident)) {
            let name = program.describe(*id);
            let message = format!("it writes {name}, resident, though it may fail halfway");
            errors.add(Rule::Custom, place, message);
        }
        let others = custom.outputs.iter().skip(position + 1);
        let operands = custom.inputs.iter().map(|input| &input.buffer);
        if others.chain(operands).any(|other| other == id) {
            let message = format!(
                "result {position} lies in {}, which the call has for another tensor too",
                program.describe(*id)
            );
            errors.add(Rule::Custom, place, message);
        }
    }
}
