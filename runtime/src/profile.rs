//! What the steps of a session spend their time on, launch by launch.
//!
//! A session that was told to record takes the time of each launch on the calling thread, joins included. What a launch moves and
//! computes is known from the plan: the bytes of its buffers, once for each that it reads and each that it writes, and the multiply-adds
//! of its product. A step in a loop is a launch for each iteration; loops and branches are none, but for a parallel loop, which is one
//! launch with all that its iterations do. Nothing of this is in the way of a session that does not record.

use crate::machine::Machine;
use kiln_ir::program::{Launch, Program, Step};
use std::fmt;
use std::time::{Duration, Instant};

/// So many launches are kept one by one for the trace; the table counts all.
const MOST_EVENTS: usize = 100_000;
/// So many kernels of one launch are named.
const MOST_NAMES: usize = 3;

/// What a launch moves and computes under one binding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Its position in the program.
    pub(crate) step: usize,
    pub(crate) bytes: u64,
    pub(crate) flops: u64,
}

/// Sees the launches of a step go by.
pub(crate) trait Watch {
    /// The beginning of a launch.
    type Mark;
    fn begin(&mut self) -> Self::Mark;
    fn end(&mut self, begun: Self::Mark, cost: &Cost);
}

/// Looks away; costs nothing.
pub(crate) struct Unwatched;

impl Watch for Unwatched {
    type Mark = ();
    fn begin(&mut self) {}
    fn end(&mut self, (): (), _: &Cost) {}
}

/// Takes the time of every launch.
pub(crate) struct Recorder {
    origin: Instant,
    totals: Vec<Total>,
    events: Vec<Event>,
}

#[derive(Clone, Copy, Default)]
struct Total {
    calls: u64,
    time: Duration,
    bytes: u64,
    flops: u64,
}

#[derive(Clone, Copy)]
struct Event {
    step: usize,
    start: Duration,
    time: Duration,
}

impl Recorder {
    /// A recorder for a program of so many steps; what it writes while it records is allocated here.
    pub(crate) fn new(steps: usize) -> Self {
        Self {
            origin: Instant::now(),
            totals: vec![Total::default(); steps],
            events: Vec::with_capacity(MOST_EVENTS),
        }
    }

    /// The profile so far.
    pub(crate) fn profile(&self, program: &Program, threads: usize) -> Profile {
        let launches = program.steps.iter().zip(&self.totals);
        let entries = launches.filter(|(_, total)| total.calls > 0);
        let label = |step: usize| label(program, &program.steps[step]);
        Profile {
            program: program.name.clone(),
            threads,
            entries: entries
                .map(|(step, total)| Entry {
                    name: self::label(program, step),
                    calls: total.calls,
                    time: total.time,
                    bytes: total.bytes,
                    flops: total.flops,
                })
                .collect(),
            events: self
                .events
                .iter()
                .map(|e| (label(e.step), e.start, e.time))
                .collect(),
        }
    }
}

/// The name of a launch, for people.
fn label(program: &Program, step: &Step) -> String {
    match step {
        Step::Kernel(parts) => parts_label(program, parts),
        Step::Product(product) => format!(
            "{} [{} x {} x {}]",
            product.name, product.m, product.k, product.n
        ),
        Step::Convolution(c) => {
            let axes: Vec<String> = c
                .axes
                .iter()
                .map(|a| format!("{} * {}", a.input, a.window))
                .collect();
            format!(
                "{} [{} x {}, {} -> {}]",
                c.name,
                c.batch,
                axes.join(" x "),
                c.features_in,
                c.features_out
            )
        }
        Step::Guard(guard) => format!("guard {}", guard.condition),
        Step::Loop(l) => format!("{} [{} times]", l.name, l.trip),
        Step::While(w) => format!("while {}", w.name),
        Step::Branch(branch) => format!("branch {}", branch.name),
        Step::Copy(copy) => format!("copy {}", copy.name),
        Step::Custom(custom) => format!("{} {}", custom.name, custom.call.target),
    }
}

/// The names of the kernels of a launch, each with how often it is called, up to [`MOST_NAMES`] of them.
fn parts_label(program: &Program, parts: &[Launch]) -> String {
    let mut names: Vec<(String, usize)> = Vec::new();
    for part in parts {
        let name = match program.kernels.get(part.kernel.index()) {
            Some(name) => name.clone(),
            None => part.kernel.to_string(),
        };
        match names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, calls)) => *calls += 1,
            None => names.push((name, 1)),
        }
    }
    let left: usize = names.iter().skip(MOST_NAMES).map(|(_, calls)| calls).sum();
    let mut text: Vec<String> = names
        .into_iter()
        .take(MOST_NAMES)
        .map(|(name, calls)| match calls {
            1 => name,
            _ => format!("{calls} x {name}"),
        })
        .collect();
    if left > 0 {
        text.push(format!("{left} more"));
    }
    text.join(" + ")
}

impl Watch for Recorder {
    type Mark = Instant;

    fn begin(&mut self) -> Instant {
        Instant::now()
    }

    fn end(&mut self, begun: Instant, cost: &Cost) {
        let time = begun.elapsed();
        if let Some(total) = self.totals.get_mut(cost.step) {
            total.calls += 1;
            total.time += time;
            total.bytes += cost.bytes;
            total.flops += cost.flops;
        }
        if self.events.len() < MOST_EVENTS {
            self.events.push(Event {
                step: cost.step,
                start: begun.duration_since(self.origin),
                time,
            });
        }
    }
}

/// What one launch of the program took, over all recorded steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The kernel or product.
    pub name: String,
    /// How often it ran.
    pub calls: u64,
    /// How long, in all.
    pub time: Duration,
    /// The bytes of the buffers that it read and wrote, in all. What stays in cache between launches is counted too.
    pub bytes: u64,
    /// The FLOPs of its product, in all; 0 for kernels.
    pub flops: u64,
}

impl Entry {
    /// Bytes a second.
    pub fn bandwidth(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64()
    }

    /// FLOPs a second.
    pub fn rate(&self) -> f64 {
        self.flops as f64 / self.time.as_secs_f64()
    }

    /// The share of the machine's limit that binds the launch sooner: its arithmetic on all threads, or its memory. Above 1 where the
    /// caches give more than memory could.
    pub fn ratio(&self, machine: &Machine, threads: usize) -> f64 {
        let arithmetic = self.rate() / (machine.flops * threads as f64);
        arithmetic.max(self.bandwidth() / machine.bandwidth)
    }
}

/// What the recorded steps of a session spent their time on.
///
/// `Display` is a table, the costliest launch first; [`Profile::table`] adds each launch's share of the machine's limit.
#[derive(Clone, Debug)]
pub struct Profile {
    program: String,
    threads: usize,
    entries: Vec<Entry>,
    events: Vec<(String, Duration, Duration)>,
}

impl Profile {
    /// A profile of nothing.
    pub(crate) fn empty(program: &str, threads: usize) -> Self {
        Self {
            program: program.to_owned(),
            threads,
            entries: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The launches, in the order of the program.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The time of all launches.
    pub fn time(&self) -> Duration {
        self.entries.iter().map(|e| e.time).sum()
    }

    /// The table with each launch's share of the limit of `machine`.
    pub fn table(&self, machine: &Machine) -> String {
        self.lines(Some(machine))
    }

    fn lines(&self, machine: Option<&Machine>) -> String {
        let total = self.time().as_secs_f64();
        let mut sorted: Vec<&Entry> = self.entries.iter().collect();
        sorted.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.name.cmp(&b.name)));
        let width = sorted.iter().map(|e| e.name.chars().count()).max();
        let width = width.unwrap_or(0).max("launch".len());
        let mut text = format!(
            "{:width$}  {:>9}  {:>6}  {:>8}  {:>8}{}\n",
            "launch",
            "us a call",
            "share",
            "GB/s",
            "GFLOP/s",
            if machine.is_some() { "  of limit" } else { "" }
        );
        for entry in sorted {
            let seconds = entry.time.as_secs_f64();
            let rate = if entry.flops > 0 {
                format!("{:.1}", entry.rate() / 1e9)
            } else {
                "-".into()
            };
            text += &format!(
                "{:width$}  {:>9.2}  {:>5.1}%  {:>8.1}  {rate:>8}",
                entry.name,
                1e6 * seconds / entry.calls.max(1) as f64,
                100.0 * seconds / total.max(f64::MIN_POSITIVE),
                entry.bandwidth() / 1e9,
            );
            if let Some(machine) = machine {
                text += &format!("  {:>8.2}", entry.ratio(machine, self.threads));
            }
            text.push('\n');
        }
        text
    }

    /// The recorded launches as a trace in Chrome's JSON format ("Trace Event Format"), which `chrome://tracing` and Perfetto show. The
    /// first hundred thousand launches are in it.
    pub fn chrome_trace(&self) -> String {
        let events: Vec<serde_json::Value> = self
            .events
            .iter()
            .map(|(name, start, time)| {
                serde_json::json!({
                    "name": name,
                    "cat": self.program,
                    "ph": "X",
                    "pid": 1,
                    "tid": 1,
                    "ts": start.as_nanos() as f64 / 1e3,
                    "dur": time.as_nanos() as f64 / 1e3,
                })
            })
            .collect();
        serde_json::json!({ "traceEvents": events, "displayTimeUnit": "ns" }).to_string()
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        let entry = |name: &str, micros, bytes, flops| Entry {
            name: name.into(),
            calls: 2,
            time: Duration::from_micros(micros),
            bytes,
            flops,
        };
        Profile {
            program: "mlp".into(),
            threads: 1,
            entries: vec![
                entry("add", 10, 200_000, 0),
                entry("dot", 90, 9_000, 18_000_000),
            ],
            events: vec![(
                "dot \"fc1\"".into(),
                Duration::ZERO,
                Duration::from_micros(45),
            )],
        }
    }

    #[test]
    fn the_table_has_the_costliest_first_and_shares_of_the_limit() {
        let machine = Machine {
            flops: 400e9,
            bandwidth: 40e9,
        };
        assert_eq!(
            profile().table(&machine),
            "launch  us a call   share      GB/s   GFLOP/s  of limit\n\
             dot         45.00   90.0%       0.1     200.0      0.50\n\
             add          5.00   10.0%      20.0         -      0.50\n"
        );
        assert!(!profile().to_string().contains("of limit"));
    }

    #[test]
    fn a_launch_of_many_parts_counts_its_kernels() {
        let kernels = ["adam", "scale", "sum", "mean", "most"].map(String::from);
        let part = |kernel| Launch {
            kernel: kiln_ir::KernelId::new(kernel),
            arguments: Vec::new(),
            access: Vec::new(),
            sizes: Vec::new(),
            total: 1.into(),
            grain: 1,
            work: 1.into(),
        };
        let program = Program {
            name: "m".into(),
            inputs: Vec::new(),
            residents: Vec::new(),
            outputs: Vec::new(),
            buffers: Vec::new(),
            kernels: kernels.into(),
            requirements: Vec::new(),
            steps: Vec::new(),
        };
        let named = |parts: &[usize]| {
            let parts = parts.iter().copied().map(part).collect();
            label(&program, &Step::Kernel(parts))
        };
        assert_eq!(named(&[1]), "scale");
        assert_eq!(named(&[0, 1, 0]), "2 x adam + scale");
        assert_eq!(named(&[0, 1, 2, 3, 4, 3]), "adam + scale + sum + 3 more");
    }

    #[test]
    fn the_trace_is_json_with_a_launch_an_event() {
        let trace: serde_json::Value = serde_json::from_str(&profile().chrome_trace()).unwrap();
        let event = &trace["traceEvents"][0];
        assert_eq!(event["name"], "dot \"fc1\"");
        assert_eq!(event["dur"], 45.0);
    }
}
