//! Readable names of kernels: the scope that most members share, and the ops in order.

use crate::fusion::Group;
use kiln_ir::Graph;

/// At most this many ops are named.
const MOST_OPS: usize = 5;

/// `fc1:add.max.select` for a group whose nodes come from the scope `fc1`.
pub(super) fn kernel_name(graph: &Graph, group: &Group) -> String {
    let mut ops: Vec<&str> = Vec::new();
    let mut scope: Option<&str> = None;
    for (id, _) in &group.members {
        let Some(node) = graph.node(*id) else {
            continue;
        };
        if ops.last() != Some(&node.op.rules().name()) {
            ops.push(node.op.rules().name());
        }
        let own = &*node.provenance.scope;
        scope = Some(scope.map_or(own, |s| common(s, own)));
    }
    let more = ops.len() > MOST_OPS;
    ops.truncate(MOST_OPS);
    let mut name = ops.join(".");
    if more {
        name.push_str("..");
    }
    match scope {
        Some(scope) if !scope.is_empty() => format!("{scope}:{name}"),
        Some(_) | None => name,
    }
}

/// The path that two scopes share.
fn common<'s>(a: &'s str, b: &str) -> &'s str {
    let shared = a.split('/').zip(b.split('/')).take_while(|(x, y)| x == y);
    let length: usize = shared.map(|(x, _)| x.len() + 1).sum();
    a[..length.saturating_sub(1)].trim_end_matches('/')
}
