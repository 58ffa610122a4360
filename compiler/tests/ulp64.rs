//! The error bounds of the f64 recipes against correctly rounded results, and their special cases.

#[path = "../examples/ulp/table64.rs"]
mod table;

use table::{BINARY, UNARY, steps};

/// Representable steps from the correctly rounded result that every f64 recipe may be off.
const BOUND: u64 = 2;

/// Function, argument bits, result bits; see the head of the file.
const EXPECTED: &str = include_str!("data/f64.txt");

fn float(word: &str) -> f64 {
    if word == "nan" {
        return f64::NAN;
    }
    f64::from_bits(u64::from_str_radix(word, 16).expect("sixteen hexadecimal digits"))
}

#[test]
fn every_point_of_the_table_is_within_two_steps() {
    let mut failures = Vec::new();
    let mut points = 0;
    for line in EXPECTED.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (computed, expected) = match words[..] {
            [name, x, result] => {
                let function = UNARY
                    .iter()
                    .find(|f| f.name == name)
                    .expect("a unary function");
                ((function.recipe)(float(x)), float(result))
            }
            [name, x, y, result] => {
                let function = BINARY
                    .iter()
                    .find(|f| f.name == name)
                    .expect("a binary function");
                ((function.recipe)(float(x), float(y)), float(result))
            }
            _ => panic!("a line of the table has three or four words: {line}"),
        };
        points += 1;
        let distance = steps(computed, expected);
        if distance > BOUND {
            failures.push(format!(
                "{line}: {computed:e}, {distance} steps from {expected:e}"
            ));
        }
    }
    assert!(points > 6_000, "the table is whole");
    assert!(
        failures.is_empty(),
        "{} of {points} points fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Zeros, infinities, NaN and the ends of the range, where the platform is exact or within a step.
#[test]
fn special_values_agree_with_the_platform() {
    let magnitudes = [
        0.0,
        5.0e-324,
        f64::MIN_POSITIVE,
        1.0e-300,
        0.5,
        1.0 - f64::EPSILON,
        1.0,
        1.0 + f64::EPSILON,
        1.5,
        2.0,
        3.0,
        1023.0,
        1024.0,
        1074.0,
        1075.0,
        1076.0,
        709.782_712_893_384,
        709.9,
        745.133_219_101_941,
        745.2,
        746.1,
        4_503_599_627_370_495.5,
        9_007_199_254_740_991.0,
        9_007_199_254_740_992.0,
        1.0e300,
        f64::MAX,
        f64::INFINITY,
        f64::NAN,
    ];
    let values: Vec<f64> = magnitudes.iter().flat_map(|&v| [v, -v]).collect();
    for function in UNARY {
        for &x in &values {
            let (computed, expected) = ((function.recipe)(x), (function.platform)(x));
            assert!(
                steps(computed, expected) <= BOUND + 1,
                "{}({x:e}) = {computed:e}, the platform has {expected:e}",
                function.name,
            );
        }
    }
    for function in BINARY {
        for &a in &values {
            for &b in &values {
                let (computed, expected) = ((function.recipe)(a, b), (function.platform)(a, b));
                assert!(
                    steps(computed, expected) <= BOUND + 1,
                    "{}({a:e}, {b:e}) = {computed:e}, the platform has {expected:e}",
                    function.name,
                );
            }
        }
    }
}
