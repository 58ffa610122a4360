//! An axis whose labels stand at round numbers, also where it is logarithmic.

use plotters::coord::ranged1d::{BoldPoints, DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use std::ops::Range;

/// A logarithmic axis that would have fewer labels gets some between the powers of ten.
const FEWEST: usize = 3;
const MOST: usize = 7;
/// The decimal logarithm beyond which f64 has no even steps.
const LARGEST: f64 = 300.0;

/// A linear axis with labels of its own. A logarithmic one is linear in the decimal logarithms of what it shows.
pub(super) struct Axis {
    linear: RangedCoordf64,
    ticks: Vec<f64>,
}

impl Axis {
    /// The axis of a range, from low to high; of logarithms where it is logarithmic.
    pub(super) fn new((low, high): (f64, f64), is_log: bool) -> Self {
        Self {
            linear: RangedCoordf64::from(low..high),
            ticks: if is_log {
                log_ticks(low, high)
            } else {
                even_ticks(low, high)
            },
        }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.linear.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Thin lines between the labels are not drawn.
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.ticks.clone()
        }
    }

    fn range(&self) -> Range<f64> {
        self.linear.range()
    }
}

fn even_ticks(low: f64, high: f64) -> Vec<f64> {
    RangedCoordf64::from(low..high).key_points(BoldPoints(MOST))
}

fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.floor() as i32..=high.ceil() as i32;
    for mantissas in [&[1.0][..], &[1.0, 2.0, 5.0]] {
        let ticks = decades.clone().flat_map(|decade| {
            let tick = move |mantissa: &f64| f64::from(decade) + mantissa.log10();
            mantissas.iter().map(tick)
        });
        let ticks: Vec<f64> = ticks.filter(|y| (low..=high).contains(y)).collect();
        if ticks.len() >= FEWEST {
            let every = if mantissas.len() == 1 {
                ticks.len().div_ceil(MOST)
            } else {
                1
            };
            return ticks.into_iter().step_by(every).collect();
        }
    }
    // A narrow range is nearly linear.
    if low.abs().max(high.abs()) > LARGEST {
        return Vec::new();
    }
    let ticks = even_ticks(10f64.powf(low), 10f64.powf(high));
    ticks.into_iter().map(f64::log10).collect()
}

#[cfg(test)]
mod tests {
    use super::super::number;
    use super::*;

    #[test]
    fn a_logarithmic_axis_has_round_ticks() {
        let ticks = |low: f64, high: f64| -> Vec<String> {
            let ticks = log_ticks(low.log10(), high.log10());
            ticks.iter().map(|y| number(10f64.powf(*y))).collect()
        };
        let wanted = ["0.02", "0.05", "0.1", "0.2", "0.5", "1"];
        assert_eq!(ticks(0.012, 1.5), wanted);
        assert_eq!(ticks(0.9, 1100.0), ["1", "10", "100", "1000"]);
        assert_eq!(ticks(0.405, 0.445), ["0.41", "0.42", "0.43", "0.44"]);
        assert!(ticks(1e-100, 1e100).len() <= MOST);
    }
}
