//! Things in a row, as messages have them.

/// How many things a message lists before it counts the rest.
const LISTED: usize = 20;

/// Things as a message lists them: `a`, `b` and 3 more; "none" where there are none.
pub(crate) fn listed(things: impl Iterator<Item = String>) -> String {
    let things: Vec<String> = things.collect();
    let shown = things[..things.len().min(LISTED)].join(", ");
    match things.len().checked_sub(LISTED) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        Some(0) | None if things.is_empty() => "none".to_owned(),
        Some(0) | None => shown,
    }
}
