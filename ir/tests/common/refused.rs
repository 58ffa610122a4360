//! What the verifier says of a program that was changed. Shared by the tests of programs through `#[path]`.

use kiln_ir::program::{Program, Rule};

/// Changes a program that verifies, and compares what the verifier says of it: the rule, and place and message.
#[track_caller]
pub(crate) fn refused(
    mut program: Program,
    change: impl FnOnce(&mut Program),
    expected: &[(Rule, &str)],
) {
    let head = format!("program @{}", program.name);
    change(&mut program);
    let errors = program.verify().unwrap_err();
    let found: Vec<(Rule, String)> = errors
        .iter()
        .map(|e| (e.rule, format!("{}: {}", e.place, e.message)))
        .collect();
    let found: Vec<(Rule, &str)> = found.iter().map(|(r, m)| (*r, m.as_str())).collect();
    assert_eq!(found, expected);
    // A broken program still prints: the dump is how one finds out.
    assert!(program.to_string().starts_with(&head));
}
