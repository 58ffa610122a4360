//! Branches, as the IR's own control ops.

use super::super::call::{Call, Results};
use super::super::error::Reason;
use super::super::value::Value;
use super::{Operator, op};

pub(super) const OPERATORS: &[Operator] = &[op("If", 7, branch)];

/// One of two graphs. Where the condition is known it is put in the place of the node.
fn branch<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (then, otherwise) = (c.graph("then_branch")?, c.graph("else_branch")?);
    let failed = || Reason::new("a node of a branch cannot be imported");
    if let Some(condition) = c.floats_if_known(0) {
        let graph = if condition.first().is_some_and(|x| *x != 0.0) {
            then
        } else {
            otherwise
        };
        let results = c.context.region(c.builder, graph, c.scope, Vec::new());
        let results = results.ok_or_else(failed)?;
        return Ok(results.into_iter().map(Value::Tensor).collect());
    }
    let condition = c.tensor(0)?.reshape(());
    let mut whole = true;
    let results = c.builder.cond(
        condition,
        |it| {
            let results = c.context.region(it.builder(), then, c.scope, Vec::new());
            whole &= results.is_some();
            results.unwrap_or_default()
        },
        |it| {
            let results = (c.context).region(it.builder(), otherwise, c.scope, Vec::new());
            results.unwrap_or_default()
        },
    );
    if whole {
        Ok(results.into_iter().map(Value::Tensor).collect())
    } else {
        Err(failed())
    }
}
