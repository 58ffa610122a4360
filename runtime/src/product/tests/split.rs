//! Split products: tiles against the definition, bit for bit, and the definition against exact sums.

use super::*;

/// `lhs . rhs` on each instruction set, the definition being the last: what has no unit for it computes that.
fn on_all(
    lhs: &Matrix<f32>,
    rhs: &Matrix<f32>,
    [m, n, k]: [usize; 3],
    written: Layout,
    threads: usize,
) -> Vec<Vec<f32>> {
    let fresh = || Matrix::new(m, n, written, |_| f32::NAN);
    let form = Form {
        dtype: ProductType::F32,
        summation: ProductSummation::Split,
        m,
        n,
        k,
        dst: fresh().strides,
        lhs: lhs.strides,
        rhs: rhs.strides,
    };
    let mut results = Vec::new();
    for isa in Isa::available() {
        let method = Method::on(isa, form, 1, threads).unwrap();
        let mut compute = |method: &Method, packed: *const u8| {
            let mut dst = fresh();
            run(method, packed, lhs, rhs, &mut dst);
            results.push(dst.data);
        };
        if let Some((apart, bytes)) = method.apart() {
            let mut packed = AlignedBytes::zeroed(bytes).unwrap();
            packed.bytes_mut().fill(0xFF);
            // SAFETY: the matrix has the extents and strides of the form, and the room is as large as it must be.
            unsafe { apart.pack(rhs.read(), packed.as_mut_ptr()) }
            compute(&apart, packed.as_ptr());
        }
        compute(&method, std::ptr::null());
    }
    results
}

/// All NaNs are alike.
fn bits(value: f32) -> u32 {
    if value.is_nan() {
        f32::NAN.to_bits()
    } else {
        value.to_bits()
    }
}

fn check(sizes: [usize; 3], layouts: [Layout; 3], threads: usize, element: impl Fn(usize) -> f32) {
    let [m, n, k] = sizes;
    let lhs = Matrix::new(m, k, layouts[0], &element);
    let rhs = Matrix::new(k, n, layouts[1], |i| element(7 * i + 3));
    let results = on_all(&lhs, &rhs, sizes, layouts[2], threads);
    let Some((definition, others)) = results.split_last() else {
        panic!("no instruction set");
    };
    for (index, other) in others.iter().enumerate() {
        let pairs = definition.iter().zip(other);
        let wrong = pairs.clone().position(|(a, b)| bits(*a) != bits(*b));
        if let Some(at) = wrong {
            panic!(
                "{sizes:?}, {threads} threads, way {index}: {:e} instead of {:e} at {at}",
                other[at], definition[at]
            );
        }
    }
}

/// Sizes around those of registers, tiles, chunks and blocks, in all layouts.
#[test]
fn tiles_follow_the_definition() {
    let noise = noise("split", 4099);
    let element = |i: usize| noise[i % 4099] as f32;
    let sizes = [0, 1, 31, 32, 33, 47, 48, 49, 63, 64, 65, 80];
    let depths = [
        1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 127, 128, 129, 161, 300, 0,
    ];
    let mut turn = 0;
    for m in sizes {
        for n in sizes {
            for _ in 0..2 {
                let layouts = [READ[turn % 7], READ[turn / 7 % 7], WRITTEN[turn / 5 % 4]];
                check([m, n, depths[turn % 16]], layouts, 1, element);
                turn += 1;
            }
        }
    }
}

/// Large enough for several panels and parts.
#[test]
fn threads_change_no_bit() {
    let noise = noise("split threads", 4099);
    let element = |i: usize| noise[i % 4099] as f32;
    for threads in [1, 2, 3] {
        check(
            [600, 70, 70],
            [row_major, row_major, row_major],
            threads,
            element,
        );
        check(
            [300, 70, 300],
            [column_major, column_major, row_major],
            threads,
            element,
        );
        check(
            [520, 100, 40],
            [row_major, column_major, column_major],
            threads,
            element,
        );
        check(
            [64, 500, 260],
            [row_major, row_major, row_major],
            threads,
            element,
        );
    }
}

/// Numbers of all sizes: subnormal parts, sums that underflow, parts that overflow, infinities and NaN.
#[test]
fn numbers_of_all_sizes() {
    let stream = Stream::new(8, "split sizes", 0);
    for (low, high) in [(0, 255), (0, 30), (100, 154), (50, 80), (180, 255)] {
        let element = |i: usize| {
            let word = stream.word(i as u64);
            let exponent = low + (word >> 8) % (high - low + 1);
            f32::from_bits(word & 0x807F_FFFF | exponent << 23)
        };
        check([40, 40, 70], [row_major, row_major, row_major], 1, element);
        check(
            [40, 40, 70],
            [column_major, column_major, column_major],
            1,
            element,
        );
    }
    let special = [
        f32::NAN,
        f32::from_bits(0xFFFF_FFFF),
        f32::from_bits(0x7F80_0001),
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        -0.0,
    ];
    for value in special {
        let element = |i: usize| {
            if i % 97 == 5 {
                value
            } else {
                (i % 13) as f32 - 6.0
            }
        };
        check([40, 40, 70], [row_major, row_major, row_major], 1, element);
    }
}

/// What is not finite is what a chain makes of it, and reaches no other element.
#[test]
fn infinities_stay_in_their_rows_and_columns() {
    let mut lhs = Matrix::new(40, 70, row_major, |_| 1.0);
    let mut rhs = Matrix::new(70, 50, row_major, |i| if i % 50 == 7 { 0.0 } else { 1.0 });
    let (infinite, nan) = (lhs.at(3, 4), rhs.at(18, 49));
    lhs.data[infinite] = f32::INFINITY;
    rhs.data[nan] = f32::NAN;
    for result in on_all(&lhs, &rhs, [40, 50, 70], row_major, 1) {
        for row in 0..40 {
            for col in 0..50 {
                let value = result[row * 50 + col];
                match (row, col) {
                    (_, 49) | (3, 7) => assert!(value.is_nan(), "{row} {col}"),
                    (3, _) => assert_eq!(value, f32::INFINITY, "{col}"),
                    (_, 7) => assert_eq!(value, 0.0),
                    (_, _) => assert_eq!(value, 70.0),
                }
            }
        }
    }
}

/// As exact as a chain of multiply-adds in f32: an error of half a unit in the last place of a term counts as 1.
#[test]
fn as_exact_as_a_chain() {
    let noise = noise("split error", 4099);
    for k in [32, 512, 3000] {
        let lhs = Matrix::new(40, k, row_major, |i| noise[i % 4099] as f32);
        let rhs = Matrix::new(k, 40, row_major, |i| noise[(7 * i + 3) % 4099] as f32);
        let error = |summation: ProductSummation| {
            let mut dst = Matrix::new(40, 40, row_major, |_| f32::NAN);
            let form = Form {
                dtype: ProductType::F32,
                summation,
                m: 40,
                n: 40,
                k,
                dst: dst.strides,
                lhs: lhs.strides,
                rhs: rhs.strides,
            };
            run(
                &Method::new(form, 1, 1).unwrap(),
                std::ptr::null(),
                &lhs,
                &rhs,
                &mut dst,
            );
            let mut squares = [0.0, 0.0];
            for row in 0..40 {
                for col in 0..40 {
                    let terms =
                        (0..k).map(|d| f64::from(lhs.get(row, d)) * f64::from(rhs.get(d, col)));
                    let exact: f64 = terms.sum();
                    squares[0] += (f64::from(dst.get(row, col)) - exact).powi(2);
                    squares[1] += exact.powi(2);
                }
            }
            (squares[0] / squares[1]).sqrt()
        };
        let [chain, split] = [ProductSummation::Chain, ProductSummation::Split].map(error);
        assert!(
            split <= 1.5 * chain,
            "k={k}: {split:e}, of a chain {chain:e}"
        );
        println!("k={k} chain {chain:e} split {split:e}");
    }
}
