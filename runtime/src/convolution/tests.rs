//! Every way against the definition, written out here once more: all bits, on every instruction set of the machine, for several numbers
//! of threads, and nothing outside of the result written.

use super::*;
use crate::memory::AlignedBytes;
use crate::product::Isa;
use cases::*;
use kiln_ir::philox::Stream;
use std::ops::Range;

mod cases;
mod sizes;

macro_rules! against_the_definition {
    ($module:ident, $type:ident) => {
        mod $module {
            use super::*;

            const DTYPE: ProductType = if size_of::<$type>() == 4 {
                ProductType::F32
            } else {
                ProductType::F64
            };

            /// Operands, the definition's result, and the form.
            struct Problem {
                form: Form,
                lhs: Tensor<$type>,
                rhs: Tensor<$type>,
                exact: Tensor<$type>,
            }

            fn problem(case: &Case, noise: &[f64]) -> Problem {
                let c = case;
                let [z, y, x] = c.axes;
                let forward = [false; 6];
                let window = [false, false, false, c.reversed, c.reversed, c.reversed];
                let lhs = Tensor::new(
                    [c.batch, c.groups, c.features_in, z.input, y.input, x.input],
                    ORDERS[c.orders[0]],
                    forward,
                    |i| noise[i % noise.len()] as $type,
                );
                let rhs = Tensor::new(
                    [c.groups, c.features_in, c.features_out, z.window, y.window, x.window],
                    ORDERS[c.orders[1]],
                    window,
                    |i| noise[(7 * i + 3) % noise.len()] as $type,
                );
                let mut exact = Tensor::new(
                    [c.batch, c.groups, c.features_out, z.output, y.output, x.output],
                    ORDERS[c.orders[2]],
                    forward,
                    |_| <$type>::NAN,
                );
                let form = Form {
                    dtype: DTYPE,
                    summation: c.summation,
                    batch: c.batch,
                    groups: c.groups,
                    features_in: c.features_in,
                    features_out: c.features_out,
                    axes: c.axes,
                    lhs: lhs.image(),
                    rhs: rhs.window(),
                    dst: exact.image(),
                };
                let [n, g, o, z, y, x] = exact.extents;
                for index in 0..n * g * o * z * y * x {
                    let mut rest = index;
                    let mut at = [0; 6];
                    for (at, extent) in at.iter_mut().zip(exact.extents).rev() {
                        *at = rest % extent;
                        rest /= extent;
                    }
                    let to = exact.at(at);
                    exact.data[to] = definition(&form, &lhs, &rhs, at);
                }
                Problem { form, lhs, rhs, exact }
            }

            /// The definition, as it is written.
            fn definition(form: &Form, lhs: &Tensor<$type>, rhs: &Tensor<$type>, to: [usize; 6]) -> $type {
                let [n, g, o, ..] = to;
                let windows = form.axes.map(|axis| axis.window);
                // The positions of the window that take part, in row-major order.
                let term = |sum: $type, feature: usize, w: [usize; 3]| {
                    let mut inside = true;
                    let mut from = [n, g, feature, 0, 0, 0];
                    for i in 0..3 {
                        let a = form.axes[i];
                        let position = (to[3 + i] * a.stride + w[i] * a.rhs_dilation) as isize - a.padding;
                        if position.rem_euclid(a.lhs_dilation as isize) != 0 {
                            return sum;
                        }
                        let element = position.div_euclid(a.lhs_dilation as isize);
                        inside &= (0..a.input as isize).contains(&element);
                        from[3 + i] = element.max(0) as usize;
                    }
                    let left = if inside { lhs.data[lhs.at(from)] } else { 0.0 };
                    left.mul_add(rhs.data[rhs.at([g, feature, o, w[0], w[1], w[2]])], sum)
                };
                let mut totals: Vec<$type> = Vec::new();
                match form.summation {
                    Summation::Window => {
                        for first in (0..form.features_in).step_by(DEPTH) {
                            let mut sum = 0.0;
                            for z in 0..windows[0] {
                                for y in 0..windows[1] {
                                    for x in 0..windows[2] {
                                        for feature in first..form.features_in.min(first + DEPTH) {
                                            sum = term(sum, feature, [z, y, x]);
                                        }
                                    }
                                }
                            }
                            totals.push(sum);
                        }
                    }
                    Summation::Lines => {
                        // Axes that change nothing do not give the lines.
                        let trivial = |i: &usize| {
                            let a = form.axes[*i];
                            a.window == 1 && a.output == 1 && a.padding == 0 && a.input > 0
                        };
                        let mut order = [0, 1, 2];
                        order.sort_by_key(|i| !trivial(i));
                        let [z, y, x] = order.map(|i| windows[i]);
                        let lines = form.features_in * z * y;
                        let each = (256 / x.max(1)).max(1);
                        let blocks: Vec<$type> = (0..lines)
                            .step_by(each)
                            .map(|first| {
                                let mut sum = 0.0;
                                for line in first..lines.min(first + each) {
                                    for x in 0..x {
                                        let mut window = [0; 3];
                                        for (i, at) in order.into_iter().zip([line / y % z, line % y, x]) {
                                            window[i] = at;
                                        }
                                        sum = term(sum, line / y / z, window);
                                    }
                                }
                                sum
                            })
                            .collect();
                        let outputs: usize = form.axes.iter().map(|axis| axis.output).product();
                        let elements =
                            form.batch * form.groups * outputs * form.features_out.next_multiple_of(16);
                        let sections = if elements <= 65536 { blocks.len().min(8) } else { 1 };
                        for section in 0..sections {
                            let cut = |s: usize| s * blocks.len() / sections;
                            let blocks = &blocks[cut(section)..cut(section + 1)];
                            totals.push(blocks.iter().copied().reduce(|a, b| a + b).unwrap());
                        }
                    }
                }
                totals.into_iter().reduce(|a, b| a + b).unwrap_or(0.0)
            }

            /// Runs a method with scratch that holds NaN at first, one share after the other; the rows that it tells of.
            fn run(method: &Method, problem: &Problem, dst: &mut Tensor<$type>, threads: usize) -> Vec<usize> {
                let mut blocks: Vec<AlignedBytes> = (0..threads)
                    .map(|_| {
                        let mut block = AlignedBytes::zeroed(method.scratch()).unwrap();
                        block.bytes_mut().fill(0xFF);
                        block
                    })
                    .collect();
                let blocks: Vec<*mut u8> = blocks.iter_mut().map(|b| b.as_mut_ptr()).collect();
                let at = Operands {
                    dst: dst.data.as_mut_ptr().wrapping_add(dst.start).cast(),
                    lhs: problem.lhs.data.as_ptr().wrapping_add(problem.lhs.start).cast(),
                    rhs: problem.rhs.data.as_ptr().wrapping_add(problem.rhs.start).cast(),
                };
                let mut rows = Vec::new();
                for pass in 0..method.passes() {
                    let shares = method.shares(pass);
                    assert!(shares <= threads.max(1));
                    for share in 0..shares {
                        let mut done = |range: Range<usize>| rows.extend(range);
                        // SAFETY: the operands have the extents and strides of the form, and there is scratch for each thread.
                        unsafe { method.run(pass, share, share, at, &|t| blocks[t], &mut done) }
                    }
                }
                rows
            }

            fn check(case: &Case, threads: &[usize], noise: &[f64]) {
                let problem = problem(case, noise);
                for isa in Isa::available() {
                    for threads in threads {
                        let mut dst = Tensor::new(
                            problem.exact.extents,
                            ORDERS[case.orders[2]],
                            [false; 6],
                            |_| <$type>::NAN,
                        );
                        let method = Method::on(isa, problem.form.clone(), *threads).unwrap();
                        let mut rows = run(&method, &problem, &mut dst, *threads);
                        let all = problem.exact.data.iter().zip(&dst.data);
                        let wrong = all.clone().position(|(a, b)| a.to_bits() != b.to_bits());
                        if let Some(index) = wrong {
                            panic!(
                                "{isa:?}, {threads} threads, {case:?}: {} instead of {} at {index} of {}; {method:?}",
                                dst.data[index],
                                problem.exact.data[index],
                                dst.data.len(),
                            );
                        }
                        if method.completes_rows() {
                            rows.sort_unstable();
                            let [n, _, _, z, y, x] = problem.exact.extents;
                            assert!(rows.into_iter().eq(0..n * z * y * x), "{case:?}");
                        }
                    }
                }
            }

            #[test]
            fn windows_of_common_sizes() {
                let noise = noise(4099);
                let same = |size, stride: usize| Axis {
                    padding: 1,
                    stride,
                    ..axis(size, 3, usize::div_ceil(size, stride))
                };
                for case in [
                    square(1, [16, 16], same(32, 1)),
                    square(1, [9, 32], same(32, 2)),
                    square(1, [32, 32], same(16, 1)),
                    square(1, [64, 40], same(8, 1)),
                    square(3, [1, 32], axis(28, 3, 26)),
                    square(2, [3, 20], axis(17, 3, 15)),
                    square(1, [17, 65], axis(13, 3, 11)),
                    square(1, [3, 64], Axis { stride: 2, padding: 3, ..axis(30, 7, 15) }),
                    square(2, [5, 3], same(21, 1)),
                    square(2, [16, 1], same(9, 1)),
                    square(2, [17, 8], Axis { rhs_dilation: 2, padding: 2, ..axis(12, 3, 12) }),
                    square(1, [600, 20], same(4, 1)),
                    square(1, [530, 3], same(20, 1)),
                    square(2, [20, 70], same(3, 1)),
                    square(2, [20, 70], same(2, 1)),
                    // A signal spelled as an image.
                    Case {
                        axes: [Axis::ONE, Axis { padding: 1, ..axis(70, 3, 70) }, Axis::ONE],
                        ..square(1, [6, 20], Axis::ONE)
                    },
                    // Products.
                    square(2, [20, 33], axis(9, 1, 9)),
                    square(2, [600, 5], axis(5, 1, 5)),
                    square(3, [16, 32], Axis { stride: 2, ..axis(16, 1, 8) }),
                    // Gradients of inputs.
                    square(2, [32, 16], Axis { lhs_dilation: 2, padding: 1, ..axis(8, 3, 16) }),
                    square(1, [32, 16], Axis { lhs_dilation: 2, ..axis(8, 1, 16) }),
                    square(1, [40, 32], Axis { padding: 2, ..axis(11, 3, 13) }),
                    square(1, [4, 40], Axis { lhs_dilation: 3, stride: 2, padding: -1, ..axis(9, 4, 11) }),
                ] {
                    for orders in [[0, 3, 0], [0, 4, 0], [1, 3, 1], [0, 3, 1], [1, 4, 0]] {
                        check(&Case { orders, ..case }, &[1], &noise);
                    }
                    check(&Case { reversed: true, orders: [0, 4, 0], ..case }, &[2, 3], &noise);
                }
            }

            #[test]
            fn groups_of_one_feature() {
                let noise = noise(4099);
                for groups in [2, 16, 33, 70] {
                    for each in [
                        Axis { padding: 1, ..axis(14, 3, 14) },
                        Axis { padding: 1, stride: 2, ..axis(15, 3, 8) },
                        Axis { padding: 1, lhs_dilation: 2, ..axis(8, 3, 15) },
                        Axis { rhs_dilation: 2, ..axis(13, 4, 7) },
                        Axis { padding: 2, ..axis(17, 5, 17) },
                        Axis { padding: 2, stride: 2, ..axis(19, 5, 10) },
                        Axis { padding: 2, ..axis(5, 5, 5) },
                        Axis { padding: 3, ..axis(12, 7, 12) },
                        Axis { padding: 4, ..axis(3, 3, 9) },
                        axis(3, 3, 1),
                        Axis { lhs_dilation: 2, stride: 2, rhs_dilation: 2, ..axis(9, 3, 7) },
                    ] {
                        let forward = Case { groups, ..square(2, [1, 1], each) };
                        let backward = Case { groups, ..gradient(5, [1, 1], each) };
                        for orders in [[0, 3, 0], [1, 4, 0], [0, 5, 1]] {
                            check(&Case { orders, ..forward }, &[1, 3], &noise);
                            check(&Case { orders, ..backward }, &[1, 3], &noise);
                        }
                    }
                }
            }

            #[test]
            fn gradients_of_windows() {
                let noise = noise(4099);
                let same = |size, stride: usize| Axis {
                    padding: 1,
                    stride,
                    ..axis(size, 3, usize::div_ceil(size, stride))
                };
                for case in [
                    gradient(2, [16, 16], same(32, 1)),
                    gradient(3, [16, 32], same(32, 2)),
                    gradient(3, [32, 32], same(16, 1)),
                    gradient(6, [20, 40], same(8, 1)),
                    gradient(5, [1, 32], axis(28, 3, 26)),
                    gradient(7, [3, 20], axis(13, 3, 11)),
                    gradient(2, [8, 8], Axis { stride: 2, ..axis(16, 1, 8) }),
                    gradient(2, [5, 7], Axis { rhs_dilation: 2, padding: 2, ..axis(12, 3, 12) }),
                    // Of transposed convolutions.
                    gradient(3, [6, 20], Axis { lhs_dilation: 2, padding: 1, ..axis(9, 4, 16) }),
                    gradient(2, [9, 5], Axis { lhs_dilation: 3, stride: 2, padding: 2, ..axis(9, 4, 12) }),
                    gradient(2, [4, 5], Axis { lhs_dilation: 2, stride: 2, rhs_dilation: 2, ..axis(9, 3, 7) }),
                    // Signals spelled as images.
                    Case {
                        axes: [Axis::ONE, axis(60, 50, 5), Axis { input: 2, ..Axis::ONE }],
                        ..gradient(9, [6, 9], Axis::ONE)
                    },
                    gradient(40, [6, 9], axis(4, 3, 2)),
                    gradient(300, [6, 9], axis(3, 3, 1)),
                    gradient(2, [100, 100], same(6, 1)),
                    gradient(1, [3, 17], axis(300, 2, 299)),
                ] {
                    for orders in [[4, 2, 2], [1, 2, 2], [0, 1, 0], [4, 5, 5]] {
                        check(&Case { orders, ..case }, &[1], &noise);
                    }
                    check(&case, &[2, 3, 5, 9], &noise);
                }
            }

            /// Forms drawn at random: ranks, groups, strides, paddings, dilations, layouts, and empty axes.
            #[test]
            fn whatever_there_is() {
                let noise = noise(4099);
                let stream = Stream::new(8, "forms", 0);
                let mut drawn = 0;
                let mut draw = |below: usize| {
                    drawn += 1;
                    (stream.word(drawn) as usize) % below
                };
                for turn in 0..200 {
                    let rank = 1 + draw(3);
                    let lines = turn % 3 == 0;
                    let mut axes = [Axis::ONE; 3];
                    for axis in axes.iter_mut().skip(3 - rank) {
                        let size = [40, 13, 7][rank - 1];
                        *axis = Axis {
                            input: 1 + draw(size),
                            window: 1 + draw(if lines { 9 } else { 4 }),
                            output: 1 + draw(size),
                            stride: 1 + draw(3),
                            padding: draw(7) as isize - 3,
                            lhs_dilation: if draw(2) == 0 { 1 } else { 1 + draw(3) },
                            rhs_dilation: 1 + draw(2),
                        };
                    }
                    let mut case = Case {
                        summation: if lines { Summation::Lines } else { Summation::Window },
                        batch: 1 + draw(3),
                        groups: if draw(3) == 0 { 1 + draw(4) } else { 1 },
                        features_in: 1 + draw(20),
                        features_out: 1 + draw(40),
                        axes,
                        orders: [draw(6), draw(6), draw(6)],
                        reversed: draw(2) == 0,
                    };
                    match draw(40) {
                        0 => case.features_in = 0,
                        1 => case.features_out = 0,
                        2 => case.axes[2].window = 0,
                        3 => case.axes[2].input = 0,
                        4 => case.axes[1].output = 0,
                        5 => case.batch = 0,
                        _ => {}
                    }
                    check(&case, &[1, 3], &noise);
                }
            }

            /// What is not a number reaches the sums that it is a part of, and no other.
            #[test]
            fn infinities_stay_where_they_are_seen() {
                for summation in [Summation::Window, Summation::Lines] {
                    let each = Axis { padding: 1, ..axis(9, 3, 9) };
                    let case = Case { summation, ..square(1, [3, 5], each) };
                    let mut problem = problem(&case, &[1.0]);
                    let (bad, infinite) = (problem.lhs.at([0, 0, 1, 0, 4, 4]), <$type>::INFINITY);
                    problem.lhs.data[bad] = infinite;
                    for isa in Isa::available() {
                        let mut dst = Tensor::new(problem.exact.extents, CHANNELS_LAST, [false; 6], |_| 5.0);
                        let method = Method::on(isa, problem.form.clone(), 1).unwrap();
                        run(&method, &problem, &mut dst, 1);
                        for y in 0..9_usize {
                            for x in 0..9_usize {
                                let seen = y.abs_diff(4) <= 1 && x.abs_diff(4) <= 1;
                                let found = dst.data[dst.at([0, 0, 2, 0, y, x])];
                                assert_eq!(found.is_finite(), !seen, "{isa:?} {y} {x}");
                            }
                        }
                    }
                }
            }
        }
    };
}
against_the_definition!(single, f32);
against_the_definition!(double, f64);

#[test]
fn integers_wrap_and_wide_sums_round_once() {
    let lhs = [100_i8, 2, -3, 4];
    let rhs = [2_i8, 1, 3];
    let strides = |feature| ImageStrides {
        batch: 4,
        group: 4,
        feature,
        spatial: [4, 4, 1],
    };
    let mut form = Form {
        dtype: ProductType::I8,
        summation: Summation::Window,
        batch: 1,
        groups: 1,
        features_in: 1,
        features_out: 1,
        axes: [Axis::ONE, Axis::ONE, axis(4, 3, 3)],
        lhs: strides(4),
        rhs: WindowStrides {
            group: 3,
            feature_in: 3,
            feature_out: 3,
            spatial: [3, 3, 1],
        },
        dst: strides(4),
    };
    let mut dst = [0_i8; 3];
    let run = |form: &Form, at: Operands| {
        let method = Method::new(form.clone(), 2).unwrap();
        // SAFETY: three elements of each result, from four and three of the operands; the method needs no scratch.
        unsafe { method.run(0, 0, 0, at, &|_| std::ptr::null_mut(), &mut |_| {}) }
    };
    let at = Operands {
        dst: dst.as_mut_ptr().cast(),
        lhs: lhs.as_ptr().cast(),
        rhs: rhs.as_ptr().cast(),
    };
    run(&form, at);
    // 200 + 2 - 9 wraps; 4 - 3 + 12 and, with the padding beyond the end, -6 + 4 do not.
    assert_eq!(dst, [193_u8 as i8, 13, -2]);
    form.dtype = ProductType::F32InF64;
    let (lhs, rhs) = ([1e8_f32, 1.0, -1e8, 3.0], [1.0_f32; 3]);
    let mut dst = [0.0_f32; 3];
    let at = Operands {
        dst: dst.as_mut_ptr().cast(),
        lhs: lhs.as_ptr().cast(),
        rhs: rhs.as_ptr().cast(),
    };
    run(&form, at);
    assert_eq!(dst, [1.0, -99_999_996.0, -99_999_997.0]);
}
