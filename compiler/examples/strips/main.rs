//! How near kernels come to hand-written loops at the full width of the machine, from L1 to DRAM.
//!
//! `cargo run --release -p kiln-compiler --example strips [-- NAME...]` prints a line for each workload and level: the time of an element
//! of the compiled kernel with and without strips, that of the hand-written loop over the same memory, and the ratio of the loop to the
//! kernel. Each figure is the best of many rounds that take turns, so that the machine's other work meets all alike.
//!
//! It measures one thread, and needs a machine with AVX-512.

#[cfg(target_arch = "x86_64")]
mod graphs;
#[cfg(target_arch = "x86_64")]
mod rivals;

#[cfg(target_arch = "x86_64")]
mod measure {
    use super::graphs::WORKLOADS;
    use kiln_compiler::{Compiled, Options, compile};
    use kiln_ir::program::{Code, Home, Step};
    use kiln_ir::{Bindings, Symbol};
    use std::time::Instant;

    /// Bytes of all buffers of a workload at each level.
    const LEVELS: [(&str, usize); 4] = [
        ("L1", 24 << 10),
        ("L2", 512 << 10),
        ("L3", 8 << 20),
        ("DRAM", 256 << 20),
    ];
    /// Seconds of one round.
    const ROUND: f64 = 0.004;
    const ROUNDS: usize = 25;

    /// Elements that begin at a cache line.
    struct Memory {
        bytes: Vec<u8>,
        start: usize,
    }

    impl Memory {
        fn new(bytes: usize, fill: impl Fn(usize) -> f32) -> Memory {
            let mut memory = Memory {
                bytes: vec![0; bytes + 64],
                start: 0,
            };
            memory.start = memory.bytes.as_ptr().align_offset(64);
            for i in 0..bytes / 4 {
                let at = memory.start + 4 * i;
                memory.bytes[at..at + 4].copy_from_slice(&fill(i).to_ne_bytes());
            }
            memory
        }

        fn pointer(&mut self) -> *mut u8 {
            self.bytes[self.start..].as_mut_ptr()
        }
    }

    /// A launch: entry, parameters, sizes, trip count.
    struct Call {
        entry: kiln_ir::program::KernelFn,
        parameters: Vec<*mut u8>,
        sizes: Vec<i64>,
        total: i64,
        helpers: *const *const u8,
    }

    fn calls(compiled: &Compiled, bindings: &Bindings, memory: &mut [Memory]) -> Vec<Call> {
        let mut calls = Vec::new();
        for step in &compiled.program.steps {
            let Step::Kernel(parts) = step else {
                panic!("a workload is kernels only");
            };
            let eval = |d: &kiln_ir::Dim| d.eval(bindings).unwrap();
            calls.extend(parts.iter().map(|launch| {
                Call {
                    entry: compiled.code.entry(launch.kernel).unwrap(),
                    parameters: launch
                        .arguments
                        .iter()
                        .map(|b| memory[b.index()].pointer())
                        .collect(),
                    sizes: launch.sizes.iter().map(eval).collect(),
                    total: eval(&launch.total),
                    helpers: compiled.code.helpers(),
                }
            }));
        }
        calls
    }

    fn run(calls: &[Call]) {
        for call in calls {
            // SAFETY: the memory has the sizes of the program under the binding.
            unsafe {
                (call.entry)(
                    call.parameters.as_ptr(),
                    call.sizes.as_ptr(),
                    0,
                    call.total,
                    call.helpers,
                );
            }
        }
    }

    pub(crate) fn main() {
        let wanted: Vec<String> = std::env::args().skip(1).collect();
        for workload in WORKLOADS {
            if !wanted.is_empty() && !wanted.iter().any(|w| w == workload.name) {
                continue;
            }
            let graph = (workload.graph)();
            let compiled = [true, false].map(|strips| {
                let options = Options {
                    strips,
                    ..Options::default()
                };
                compile(&graph, &options).unwrap()
            });
            if std::env::var_os("KERNELS").is_some() {
                let text = kiln_compiler::stage_text(
                    &graph,
                    kiln_compiler::Stage::Kernels,
                    &Options::default(),
                );
                println!("{}", text.unwrap());
            }
            for (level, bytes) in LEVELS {
                let rows = (bytes / workload.bytes).max(1);
                let mut bindings = Bindings::new();
                bindings.insert(Symbol::new("n"), rows as i64);
                let mut memory: Vec<Vec<Memory>> = Vec::new();
                for c in &compiled {
                    let buffers = c.program.buffers.iter();
                    memory.push(
                        buffers
                            .map(|b| {
                                assert!(!matches!(b.home, Home::Constant(_)));
                                Memory::new(b.bytes(&bindings).unwrap(), |i| {
                                    ((i * 7919) % 1009) as f32 / 1009.0 + 0.001
                                })
                            })
                            .collect(),
                    );
                }
                let program = &compiled[0].program;
                let named: Vec<*mut f32> = (program.inputs.iter().map(|p| p.buffer))
                    .chain(program.residents.iter().map(|p| p.buffer))
                    .chain(program.outputs.iter().map(|p| p.buffer))
                    .map(|b| memory[0][b.index()].pointer().cast())
                    .collect();
                let [with, without] = [0, 1].map(|i| {
                    let (c, m) = (&compiled[i], &mut memory[i]);
                    calls(c, &bindings, m)
                });
                let rival = || {
                    // SAFETY: the loop is over the same memory.
                    unsafe { (workload.rival)(&named, rows) }
                };
                let kernel = || run(&with);
                let inline = || run(&without);
                let ways: [&dyn Fn(); 3] = [&kernel, &inline, &rival];
                let mut best = [f64::INFINITY; 3];
                let mut repeats = [0; 3];
                for round in 0..ROUNDS {
                    for (i, way) in ways.iter().enumerate() {
                        if round == 0 {
                            way();
                            let start = Instant::now();
                            way();
                            let one = start.elapsed().as_secs_f64();
                            repeats[i] = ((ROUND / one) as usize).max(1);
                        }
                        let start = Instant::now();
                        for _ in 0..repeats[i] {
                            way();
                        }
                        let one = start.elapsed().as_secs_f64() / repeats[i] as f64;
                        best[i] = best[i].min(one);
                    }
                }
                let per = 1e9 / (rows * workload.elements) as f64;
                println!(
                    "{:<12} level={level:<4} kernel_ns={:.3} inline_ns={:.3} full_width_ns={:.3} ratio={:.2} inline_ratio={:.2}",
                    workload.name,
                    best[0] * per,
                    best[1] * per,
                    best[2] * per,
                    best[2] / best[0],
                    best[2] / best[1],
                );
            }
        }
    }
}

fn main() {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        return measure::main();
    }
    eprintln!("the hand-written loops need AVX-512");
}
