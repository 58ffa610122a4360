//! Snapshot tests of a user's own models.
//!
//! The macro expands to insta's own, in the user's test, so that files, reviews and `cargo insta` work as ever; Kiln itself does not
//! depend on insta.

/// Asserts that the text of a graph at a [`Stage`](crate::Stage) is the one that was reviewed before.
///
/// `insta` must be among the dev-dependencies. The texts of [`Clif`](crate::Stage::Clif) and [`Asm`](crate::Stage::Asm) are those of the
/// machine that the test runs on; all others are the same everywhere.
///
/// ```no_run
/// use kiln::{Builder, DType, Stage, assert_ir_snapshot};
///
/// // In a function marked `#[test]`:
/// let g = Builder::new("double");
/// let x = g.input("x", DType::F32, (g.dim("n"),));
/// g.output("y", x + x);
/// let graph = g.finish().unwrap();
/// assert_ir_snapshot!(graph, Stage::Fused);
/// assert_ir_snapshot!("double-kernels", graph, Stage::Kernels);
/// ```
#[macro_export]
macro_rules! assert_ir_snapshot {
    ($graph:expr, $stage:expr $(,)?) => {
        match $crate::ir_text(&$graph, $stage) {
            ::std::result::Result::Ok(text) => ::insta::assert_snapshot!(text),
            ::std::result::Result::Err(error) => ::std::panic!("no IR to compare: {error}"),
        }
    };
    ($name:expr, $graph:expr, $stage:expr $(,)?) => {
        match $crate::ir_text(&$graph, $stage) {
            ::std::result::Result::Ok(text) => ::insta::assert_snapshot!($name, text),
            ::std::result::Result::Err(error) => ::std::panic!("no IR to compare: {error}"),
        }
    };
}
