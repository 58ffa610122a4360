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
    let sizes = [64, 65, 79, 81, 96, 112, 127, 160];
    let depths = [32, 33, 47, 64, 65, 127, 128, 129, 161, 300];
    let mut turn = 0;
    for m in sizes {
        for n in sizes {
            let layouts = [READ[turn % 7], READ[turn / 7 % 7], WRITTEN[turn / 5 % 4]];
            check([m, n, depths[turn % 10]], layouts, 1, element);
            turn += 1;
        }
    }
    // Those that are not large are chains everywhere.
    for [m, n, k] in [
        [0, 70, 40],
        [31, 5000, 40],
        [64, 64, 31],
        [64, 64, 0],
        [10, 100, 100],
    ] {
        check([m, n, k], [row_major, row_major, row_major], 1, element);
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
        check([64, 72, 70], [row_major, row_major, row_major], 1, element);
        check(
            [64, 72, 70],
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
        check([64, 72, 70], [row_major, row_major, row_major], 1, element);
    }
}

/// Numbers that are just below the smallest normal one before they are rounded, and just on it afterwards.
#[test]
fn rounding_comes_before_underflow() {
    let power = |exponent: i32| 2.0_f32.powi(exponent);
    for (small, sign) in [(-75, -1.0), (-76, -1.0), (-74, -1.0), (-75, 1.0)] {
        let lhs = Matrix::new(64, 32, row_major, |i| match i % 32 {
            0 => power(-63),
            1 => power(small),
            _ => 0.0,
        });
        let rhs = Matrix::new(32, 64, row_major, |i| match i / 64 {
            0 => power(-63),
            1 => sign * power(small),
            _ => 0.0,
        });
        let results = on_all(&lhs, &rhs, [64, 64, 32], row_major, 1);
        assert!(results.windows(2).all(|w| w[0] == w[1]), "{small} {sign}");
    }
}

/// From where on small factors and terms lose bits.
#[test]
fn tiny_numbers_lose_bits() {
    let error = |x: f32, y: f32| {
        let lhs = Matrix::new(64, 32, row_major, |_| x);
        let rhs = Matrix::new(32, 64, row_major, |_| y);
        let exact = 32.0 * f64::from(x) * f64::from(y);
        let results = on_all(&lhs, &rhs, [64, 64, 32], row_major, 1);
        (f64::from(results[0][0]) - exact).abs() / exact
    };
    assert!(error(1.234_567_8e-33, 1.345_678_9e29) < 1e-6);
    assert!(error(1.234_567_8e-15, 1.345_678_9e-15) < 1e-6);
    assert!(error(1.234_567_8e-18, 1.345_678_9e-18) > 1e-6);
    assert_eq!(error(1e-39, 1e30), 1.0);
}

/// What is not finite is what a chain makes of it, and reaches no other element.
#[test]
fn infinities_stay_in_their_rows_and_columns() {
    let mut lhs = Matrix::new(64, 70, row_major, |_| 1.0);
    let mut rhs = Matrix::new(70, 72, row_major, |i| if i % 72 == 7 { 0.0 } else { 1.0 });
    let (infinite, nan) = (lhs.at(3, 4), rhs.at(18, 71));
    lhs.data[infinite] = f32::INFINITY;
    rhs.data[nan] = f32::NAN;
    for result in on_all(&lhs, &rhs, [64, 72, 70], row_major, 1) {
        for row in 0..64 {
            for col in 0..72 {
                let value = result[row * 72 + col];
                match (row, col) {
                    (_, 71) | (3, 7) => assert!(value.is_nan(), "{row} {col}"),
                    (3, _) => assert_eq!(value, f32::INFINITY, "{col}"),
                    (_, 7) => assert_eq!(value, 0.0),
                    (_, _) => assert_eq!(value, 70.0),
                }
            }
        }
    }
    for (value, every) in [
        (f32::INFINITY, 1),
        (f32::INFINITY, 70),
        (1e30, 1),
        (f32::NAN, 1),
    ] {
        let element = |i: usize| if i.is_multiple_of(every) { value } else { 1.0 };
        let columns: [Layout; 3] = [column_major; 3];
        for layouts in [[row_major as Layout; 3], columns, [padded, sparse, sparse]] {
            check([70, 80, 600], layouts, 2, element);
        }
    }
}

/// A batch, whose right side is shared or not: each matrix is what it is alone.
#[test]
fn batches_are_their_matrices() {
    let noise = noise("split batch", 4099);
    let (m, n, k, batch) = (300, 70, 150, 3);
    for shared in [true, false] {
        let lhs = Matrix::new(batch * m, k, row_major, |i| noise[i % 4099] as f32);
        let rhs = Matrix::new(batch * k, n, row_major, |i| noise[i % 3001] as f32);
        let mut dst = Matrix::new(batch * m, n, row_major, |_| f32::NAN);
        let mut alone = Matrix::new(batch * m, n, row_major, |_| f32::NAN);
        let form = Form {
            dtype: ProductType::F32,
            summation: ProductSummation::Split,
            m,
            n,
            k,
            dst: dst.strides,
            lhs: lhs.strides,
            rhs: rhs.strides,
        };
        let right = |matrix: usize| if shared { 0 } else { matrix };
        let at = |dst: *mut u8, matrix: usize| Matrices {
            dst: dst.wrapping_add(4 * matrix * m * n),
            lhs: lhs.read().wrapping_add(4 * matrix * m * k),
            rhs: rhs.read().wrapping_add(4 * right(matrix) * k * n),
        };
        let method = Method::new(form, batch, 1).unwrap();
        let mut scratch = AlignedBytes::zeroed(method.scratch()).unwrap();
        let mut packed = std::ptr::null();
        for index in 0..method.units() {
            let Unit { matrix, rows, cols } = method.unit(index);
            let at = at(dst.written(), matrix);
            // SAFETY: the matrices of the batch follow one another in memory, and nobody else uses them.
            unsafe { method.run(rows, cols, at, scratch.as_mut_ptr(), &mut packed) }
        }
        let definition = Method::on(Isa::Portable, form, 1, 1).unwrap();
        for matrix in 0..batch {
            let at = at(alone.written(), matrix);
            // SAFETY: as above; the definition needs no scratch.
            unsafe { definition.run(0..m, 0..n, at, std::ptr::null_mut(), &mut std::ptr::null()) }
        }
        assert!(dst.data == alone.data, "shared: {shared}");
    }
}

/// As exact as a chain of multiply-adds in f32: an error of half a unit in the last place of a term counts as 1.
#[test]
fn as_exact_as_a_chain() {
    let noise = noise("split error", 4099);
    for k in [32, 512, 3000] {
        let lhs = Matrix::new(64, k, row_major, |i| noise[i % 4099] as f32);
        let rhs = Matrix::new(k, 64, row_major, |i| noise[(7 * i + 3) % 4099] as f32);
        let error = |summation: ProductSummation| {
            let mut dst = Matrix::new(64, 64, row_major, |_| f32::NAN);
            let form = Form {
                dtype: ProductType::F32,
                summation,
                m: 64,
                n: 64,
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
            for row in 0..64 {
                for col in 0..64 {
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
