//! What a program needs of memory under a binding, for people and for budgets, before anything runs.

use crate::layout::lay_out;
use kiln_ir::program::Program;
use kiln_ir::{BindError, Bindings};
use std::fmt;

/// Bytes by purpose. All but the inputs, which are the caller's, belong to the session; constants are shared by the sessions of an
/// executable and counted in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// What the caller lends for a step; not part of the total.
    pub inputs: usize,
    /// Params.
    pub params: usize,
    /// State: moments, running statistics, counters.
    pub state: usize,
    /// Constants of the program.
    pub constants: usize,
    /// Results, which the caller may read until the next step.
    pub outputs: usize,
    /// Everything that lives within a step, at its planned offsets.
    pub arena: usize,
    /// The largest sum of bytes that live at the same time in the arena: no plan can need less.
    pub live_peak: usize,
    /// The scratch of one thread.
    pub scratch: usize,
    /// How many threads have scratch.
    pub threads: usize,
}

impl MemoryReport {
    /// What a session of a program needs under a binding and with a number of threads, to the byte. The program needs no code for that,
    /// and nothing runs.
    ///
    /// # Errors
    /// A symbol without a value, or a size out of range.
    pub fn of(
        program: &Program,
        bindings: &Bindings,
        threads: usize,
    ) -> Result<MemoryReport, BindError> {
        Ok(lay_out(program, bindings, threads)?.report)
    }

    /// All that a session holds, in bytes; saturates where no memory could hold it.
    pub fn total(&self) -> usize {
        [
            self.params,
            self.state,
            self.constants,
            self.outputs,
            self.arena,
            self.scratch.saturating_mul(self.threads),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (params {}, state {}, constants {}, outputs {}, arena {} of which {} live at once, scratch {} x {} threads)",
            Bytes(self.total()),
            Bytes(self.params),
            Bytes(self.state),
            Bytes(self.constants),
            Bytes(self.outputs),
            Bytes(self.arena),
            Bytes(self.live_peak),
            Bytes(self.scratch),
            self.threads,
        )
    }
}

/// A number of bytes as people read it: `640 B`, `3.2 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut value = self.0 as f64;
        let mut unit = "B";
        for larger in UNITS {
            // 1023.95 would print as 1024.0 of the smaller unit.
            if value < 1023.95 {
                break;
            }
            value /= 1024.0;
            unit = larger;
        }
        if unit == "B" {
            write!(f, "{} B", self.0)
        } else {
            write!(f, "{value:.1} {unit}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (3 << 30, "3.0 GiB"),
            (usize::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn the_total_leaves_the_inputs_out_and_counts_scratch_for_each_thread() {
        let report = MemoryReport {
            inputs: 1 << 20,
            params: 1024,
            state: 2048,
            constants: 64,
            outputs: 128,
            arena: 4096,
            live_peak: 4000,
            scratch: 256,
            threads: 2,
        };
        assert_eq!(report.total(), 1024 + 2048 + 64 + 128 + 4096 + 512);
        assert_eq!(
            report.to_string(),
            "7.7 KiB (params 1.0 KiB, state 2.0 KiB, constants 64 B, outputs 128 B, arena 4.0 KiB of which 3.9 KiB live at once, \
             scratch 256 B x 2 threads)"
        );
        let huge = MemoryReport {
            scratch: usize::MAX,
            ..report
        };
        assert_eq!(huge.total(), usize::MAX);
    }
}
