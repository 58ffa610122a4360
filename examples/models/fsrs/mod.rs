//! FSRS-6, the memory model of spaced-repetition schedulers: its formulas as a graph, and review histories to fit it to.
//!
//! Source of every formula and number: the crate `fsrs` 6.6.2 (open-spaced-repetition). A card has a stability S, the days until its
//! retrievability is 0.9, and a difficulty D; ratings are 1 (again), 2 (hard), 3 (good) and 4 (easy).

// The example and the bench use different parts.
#![allow(dead_code)]

pub(crate) mod graph;
pub(crate) mod history;

pub(crate) const PARAMETERS: usize = 21;

/// Where the parameters start, and what they are drawn to.
pub(crate) const INITIAL: [f64; PARAMETERS] = [
    0.212, 1.2931, 2.3065, 8.2956, 6.4133, 0.8334, 3.0194, 0.001, 1.8722, 0.1666, 0.796, 1.4835,
    0.0614, 0.2629, 1.6483, 0.6014, 1.8729, 0.5425, 0.0912, 0.0658, 0.1542,
];

/// How much they vary among people.
pub(crate) const DEVIATION: [f64; PARAMETERS] = [
    6.43, 9.66, 17.58, 27.85, 0.57, 0.28, 0.6, 0.12, 0.39, 0.18, 0.33, 0.3, 0.09, 0.16, 0.57, 0.25,
    1.03, 0.31, 0.32, 0.14, 0.27,
];

/// The ranges that they are clipped to.
pub(crate) const RANGES: [(f64, f64); PARAMETERS] = [
    (0.001, 100.0),
    (0.001, 100.0),
    (0.001, 100.0),
    (0.001, 100.0),
    (1.0, 10.0),
    (0.001, 4.0),
    (0.001, 4.0),
    (0.001, 0.75),
    (0.0, 4.5),
    (0.0, 0.8),
    (0.001, 3.5),
    (0.001, 5.0),
    (0.001, 0.25),
    (0.001, 0.9),
    (0.0, 4.0),
    (0.0, 1.0),
    (1.0, 6.0),
    (0.0, 2.0),
    (0.0, 2.0),
    (0.01, 0.8),
    (0.1, 0.8),
];

/// The range of the stability, in days.
pub(crate) const STABILITY: (f64, f64) = (0.001, 36_500.0);

/// The range of the difficulty.
pub(crate) const DIFFICULTY: (f64, f64) = (1.0, 10.0);
