//! Measures the recipes, one line a function: f32 over all 2^32 inputs, pairs and f64 on samples.
//!
//! `RUSTFLAGS=-Ctarget-cpu=native cargo run --release -p kiln-compiler --example ulp [FUNCTION..]`;
//! without the target feature `fma` the results are the same and it takes ten times as long.
//! `--stride N` visits every N-th input only; `--pow-samples N` sets the number of pairs for the binary
//! functions.

mod table;
mod table64;

use std::thread;

use table::{BINARY, Binary, UNARY, Unary, draw, pair, steps, ulps};

/// What a sweep found.
#[derive(Clone, Copy, Default)]
struct Worst {
    steps: u32,
    at: u32,
    ulps: f64,
    above_one: u64,
}

fn sweep(function: &Unary, start: u64, end: u64, stride: u64) -> Worst {
    let mut worst = Worst::default();
    let mut bits = start;
    while bits < end {
        let x = f32::from_bits(bits as u32);
        let computed = (function.recipe)(x);
        let exact = (function.exact)(f64::from(x));
        let distance = steps(computed, exact);
        if distance > 0 {
            worst.above_one += u64::from(distance > 1);
            if distance > worst.steps {
                worst.steps = distance;
                worst.at = bits as u32;
            }
        }
        let error = ulps(computed, exact);
        if error > worst.ulps {
            worst.ulps = error;
            if distance == worst.steps {
                worst.at = bits as u32;
            }
        }
        bits += stride;
    }
    worst
}

/// Visits `samples` pairs of a sequence that depends on `seed` only.
fn sample(function: &Binary, seed: u64, samples: u64) -> (u32, u64, (f32, f32)) {
    let mut state = seed;
    let mut found = (0, 0, (0.0, 0.0));
    for _ in 0..samples {
        let (a, b) = pair(&mut state);
        let exact = (function.exact)(f64::from(a), f64::from(b));
        let distance = steps((function.recipe)(a, b), exact);
        found.1 += u64::from(distance > 1);
        if distance > found.0 {
            found.0 = distance;
            found.2 = (a, b);
        }
    }
    found
}

fn merge(a: Worst, b: Worst) -> Worst {
    let worse = if (b.steps, b.ulps) > (a.steps, a.ulps) {
        b
    } else {
        a
    };
    Worst {
        ulps: a.ulps.max(b.ulps),
        above_one: a.above_one + b.above_one,
        ..worse
    }
}

fn main() {
    let threads = thread::available_parallelism().map_or(2, |n| n.get() as u64);
    let mut names = Vec::new();
    let mut stride = 1_u64;
    let mut samples = 100_000_000_u64;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--stride" {
            stride = arguments
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(1)
                .max(1);
        } else if argument == "--pow-samples" {
            samples = arguments
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(samples);
        } else {
            names.push(argument);
        }
    }
    for function in UNARY {
        if !names.is_empty() && !names.iter().any(|name| name == function.name) {
            continue;
        }
        let worst = thread::scope(|scope| {
            let share = (1_u64 << 32).div_ceil(threads);
            let workers: Vec<_> = (0..threads)
                .map(|index| {
                    // Every share starts on a multiple of the stride.
                    let start = (index * share).next_multiple_of(stride);
                    let end = ((index + 1) * share).min(1 << 32);
                    scope.spawn(move || sweep(function, start, end, stride))
                })
                .collect();
            workers
                .into_iter()
                .map(|w| w.join().expect("a sweep does not panic"))
                .fold(Worst::default(), merge)
        });
        let x = f32::from_bits(worst.at);
        println!(
            "{:<9} steps={} ulp={:.3} above_one={} worst={x:e} (0x{:08x}) computed={:e} bound={}{}",
            function.name,
            worst.steps,
            worst.ulps,
            worst.above_one,
            worst.at,
            (function.recipe)(x),
            function.bound,
            if worst.steps > function.bound {
                " FAILED"
            } else {
                ""
            },
        );
    }
    for function in BINARY {
        if !names.is_empty() && !names.iter().any(|name| name == function.name) {
            continue;
        }
        let found = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|seed| scope.spawn(move || sample(function, seed, samples / threads)))
                .collect();
            workers
                .into_iter()
                .map(|w| w.join().expect("a sample does not panic"))
                .fold((0, 0, (0.0, 0.0)), |a, b| {
                    if b.0 > a.0 {
                        (b.0, a.1 + b.1, b.2)
                    } else {
                        (a.0, a.1 + b.1, a.2)
                    }
                })
        });
        let (a, b) = found.2;
        println!(
            "{:<9} steps={} above_one={} samples={samples} worst=({a:e}, {b:e}) computed={:e} bound={}{}",
            function.name,
            found.0,
            found.1,
            (function.recipe)(a, b),
            function.bound,
            if found.0 > function.bound {
                " FAILED"
            } else {
                ""
            },
        );
    }
    if stride > 1 || names.iter().any(|name| name == "f64") || names.is_empty() {
        sample_f64(&names);
    }
}

/// Three million points of each f64 function in three regimes: any bits, moderate magnitudes, and
/// around the origin.
///
/// The reference is the platform's function, which errs by up to an ULP itself, so a distance of 3 does
/// not contradict the bound of 2.
fn sample_f64(names: &[String]) {
    let selected = |name: &str| names.iter().all(|n| n == "f64") || names.iter().any(|n| n == name);
    let unit = |bits: u64| (bits >> 11) as f64 / 9_007_199_254_740_992.0 * 2.0 - 1.0;
    for function in table64::UNARY.iter().filter(|f| selected(f.name)) {
        let mut state = 1;
        let mut worst = (0, 0.0);
        for _ in 0..1_000_000 {
            let bits = draw(&mut state);
            for x in [f64::from_bits(bits), unit(bits) * 750.0, unit(bits) * 3.0] {
                let distance = table64::steps((function.recipe)(x), (function.platform)(x));
                if distance > worst.0 {
                    worst = (distance, x);
                }
            }
        }
        let (distance, x) = worst;
        println!(
            "{:<9} f64 steps={distance} worst={x:e} samples=3000000",
            function.name
        );
    }
    for function in table64::BINARY.iter().filter(|f| selected(f.name)) {
        let mut state = 1;
        let mut worst = (0, (0.0, 0.0));
        for _ in 0..1_000_000 {
            let (p, q) = (draw(&mut state), draw(&mut state));
            let near_one = 1.0 + unit(p) / 64.0;
            let pairs = [
                (f64::from_bits(p), f64::from_bits(q)),
                (unit(p).abs() * 4.0, unit(q) * 200.0),
                (near_one, unit(q) * 709.0 / near_one.ln().abs().max(1.0e-15)),
            ];
            for (a, b) in pairs {
                let distance = table64::steps((function.recipe)(a, b), (function.platform)(a, b));
                if distance > worst.0 {
                    worst = (distance, (a, b));
                }
            }
        }
        let (distance, (a, b)) = worst;
        println!(
            "{:<9} f64 steps={distance} worst=({a:e}, {b:e}) samples=3000000",
            function.name
        );
    }
}
