//! Products against their definition, bit for bit: every instruction set of this machine, over sizes, layouts, types and threads.

use super::*;
use crate::memory::AlignedBytes;
use kiln_ir::DType;
use kiln_ir::philox::Stream;

mod cuts;
mod split;

/// How a matrix of `rows x cols` lies in memory: (elements needed, element (0, 0), row stride, column stride).
type Layout = fn(usize, usize) -> (usize, usize, isize, isize);

fn row_major(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
    (rows * cols, 0, cols as isize, 1)
}
fn column_major(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
    (rows * cols, 0, 1, rows as isize)
}
/// Rows with a gap between them, off any alignment wider than the element's.
fn padded(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
    (rows * (cols + 3) + 1, 1, cols as isize + 3, 1)
}
/// Neither rows nor columns lie together.
fn sparse(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
    (rows * cols * 2, 0, 2 * cols as isize, 2)
}
/// Both axes backwards.
fn reversed(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
    let all = rows * cols;
    (all, all.saturating_sub(1), -(cols as isize), -1)
}
/// Columns backwards, each of them together.
fn mirrored(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
    let last = (rows * cols).saturating_sub(rows);
    (rows * cols, last, 1, -(rows as isize))
}
/// One row, repeated.
fn repeated(_rows: usize, cols: usize) -> (usize, usize, isize, isize) {
    (cols, 0, 0, 1)
}

const READ: [Layout; 7] = [
    row_major,
    column_major,
    padded,
    sparse,
    reversed,
    mirrored,
    repeated,
];
const WRITTEN: [Layout; 4] = [row_major, column_major, padded, sparse];

struct Matrix<T> {
    data: Vec<T>,
    start: usize,
    strides: Strides,
}

impl<T: Copy> Matrix<T> {
    fn new(rows: usize, cols: usize, layout: Layout, element: impl FnMut(usize) -> T) -> Matrix<T> {
        let (len, start, row, col) = layout(rows, cols);
        Matrix {
            data: (0..len).map(element).collect(),
            start,
            strides: Strides { row, col },
        }
    }
    fn at(&self, row: usize, col: usize) -> usize {
        let offset = row as isize * self.strides.row + col as isize * self.strides.col;
        (self.start as isize + offset) as usize
    }
    fn get(&self, row: usize, col: usize) -> T {
        self.data[self.at(row, col)]
    }
    fn read(&self) -> *const u8 {
        self.data.as_ptr().wrapping_add(self.start).cast()
    }
    fn written(&mut self) -> *mut u8 {
        self.data.as_mut_ptr().wrapping_add(self.start).cast()
    }
}

/// Runs all units, each share with scratch of its own that holds NaN at first.
///
/// `packed` is the right side packed, of a method that has it apart.
fn run<T: Copy>(
    method: &Method,
    packed: *const u8,
    lhs: &Matrix<T>,
    rhs: &Matrix<T>,
    dst: &mut Matrix<T>,
) {
    let at = Matrices {
        dst: dst.written(),
        lhs: lhs.read(),
        rhs: rhs.read(),
    };
    for share in 0..method.shares() {
        let mut scratch = AlignedBytes::zeroed(method.scratch()).unwrap();
        scratch.bytes_mut().fill(0xFF);
        let mut packed = packed;
        for index in crate::pool::split(method.units(), method.shares(), 1, share) {
            let unit = method.unit(index);
            assert_eq!(unit.matrix, 0);
            // SAFETY: the matrices have the extents and strides of the form that the method was made for, and nobody else uses them.
            unsafe { method.run(unit.rows, unit.cols, at, scratch.as_mut_ptr(), &mut packed) }
        }
    }
}

/// Drawn once: to draw numbers for each case would take longer than the products.
fn noise(path: &str, count: u64) -> Vec<f64> {
    let stream = Stream::new(5, path, 0);
    (0..count).map(|index| stream.normal(index)).collect()
}

macro_rules! against_the_definition {
    ($module:ident, $type:ident) => {
        mod $module {
            use super::*;

            const DTYPE: ProductType = if size_of::<$type>() == 4 { ProductType::F32 } else { ProductType::F64 };

            type Definition = fn(&Matrix<$type>, &Matrix<$type>, usize, usize, usize) -> $type;

            /// The definition, as it is written.
            fn definition(lhs: &Matrix<$type>, rhs: &Matrix<$type>, k: usize, row: usize, col: usize) -> $type {
                let mut total = 0.0;
                for first in (0..k).step_by(DEPTH) {
                    let mut sum: $type = 0.0;
                    for depth in first..k.min(first + DEPTH) {
                        sum = lhs.get(row, depth).mul_add(rhs.get(depth, col), sum);
                    }
                    total = if first == 0 { sum } else { total + sum };
                }
                total
            }

            /// The definition in partial sums.
            fn in_partial_sums(lhs: &Matrix<$type>, rhs: &Matrix<$type>, k: usize, row: usize, col: usize) -> $type {
                let mut partials = [0.0; PARTIALS];
                for (first, partial) in partials.iter_mut().enumerate() {
                    let terms: Vec<usize> = (first..k.next_multiple_of(PARTIALS)).step_by(PARTIALS).collect();
                    for (index, block) in terms.chunks(DEPTH).enumerate() {
                        let sum = block.iter().fold(0.0, |sum: $type, depth| {
                            let left: $type = if *depth < k { lhs.get(row, *depth) } else { 0.0 };
                            let right = if *depth < k { rhs.get(*depth, col) } else { 0.0 };
                            left.mul_add(right, sum)
                        });
                        *partial = if index == 0 { sum } else { *partial + sum };
                    }
                }
                let mut half = PARTIALS / 2;
                while half > 0 {
                    for index in 0..half {
                        partials[index] += partials[index + half];
                    }
                    half /= 2;
                }
                partials[0]
            }

            #[test]
            fn partial_sums() {
                let noise = noise("partial", 4099);
                let depths = [1, 15, 16, 31, 32, 33, 64, 100, 0, 257, 3 * PARTIALS, DEPTH * PARTIALS + 45];
                let mut turn = 0;
                for extent in [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 70, 200] {
                    for [m, n] in [[1, extent], [extent, 1]] {
                        for _ in 0..3 {
                            let layouts = [READ[turn % 7], READ[turn / 7 % 7], WRITTEN[turn / 5 % 4]];
                            let sizes = [m, n, depths[turn % depths.len()]];
                            check_summed(ProductSummation::Lanes, in_partial_sums, sizes, layouts, &[1], &noise);
                            turn += 1;
                        }
                    }
                }
                // One element has a function of its own.
                for depth in depths {
                    for turn in 0..7 {
                        let layouts = [READ[turn], READ[(turn + 3) % 7], WRITTEN[turn % 4]];
                        check_summed(ProductSummation::Lanes, in_partial_sums, [1, 1, depth], layouts, &[1], &noise);
                    }
                }
                for sizes in [[1, 900, 300], [900, 1, 300], [1, 70, 5000]] {
                    let layouts = [row_major as Layout, column_major, row_major];
                    check_summed(ProductSummation::Lanes, in_partial_sums, sizes, layouts, &[1, 2, 3, 4], &noise);
                }
            }

            /// All bits, on every instruction set and for these numbers of threads, and nothing outside of the result written.
            fn check(sizes: [usize; 3], layouts: [Layout; 3], threads: &[usize], noise: &[f64]) {
                check_summed(ProductSummation::Chain, definition, sizes, layouts, threads, noise);
            }

            fn check_summed(
                summation: ProductSummation,
                definition: Definition,
                [m, n, k]: [usize; 3],
                layouts: [Layout; 3],
                threads: &[usize],
                noise: &[f64],
            ) {
                let lhs = Matrix::new(m, k, layouts[0], |i| noise[i % noise.len()] as $type);
                let rhs = Matrix::new(k, n, layouts[1], |i| noise[(7 * i + 3) % noise.len()] as $type);
                let mut exact = Matrix::new(m, n, layouts[2], |_| <$type>::NAN);
                for row in 0..m {
                    for col in 0..n {
                        let at = exact.at(row, col);
                        exact.data[at] = definition(&lhs, &rhs, k, row, col);
                    }
                }
                for isa in Isa::available() {
                    for threads in threads {
                        let fresh = || Matrix::new(m, n, layouts[2], |_| <$type>::NAN);
                        let form = Form {
                            dtype: DTYPE,
 summation,
                            m,
                            n,
                            k,
                            dst: fresh().strides,
                            lhs: lhs.strides,
                            rhs: rhs.strides,
                        };
                        let method = Method::on(isa, form, 1, *threads).unwrap();
                        let compare = |method: &Method, packed: *const u8| {
                            let mut dst = fresh();
                            run(method, packed, &lhs, &rhs, &mut dst);
                            let wrong = exact.data.iter().zip(&dst.data).position(|(a, b)| a.to_bits() != b.to_bits());
                            if let Some(index) = wrong {
                                panic!(
                                    "{isa:?}, {threads} threads, {form:?}: {} instead of {} at {index}; {method:?}",
                                    dst.data[index], exact.data[index]
                                );
                            }
                        };
                        compare(&method, std::ptr::null());
                        if let Some((apart, bytes)) = method.apart() {
                            let mut packed = AlignedBytes::zeroed(bytes).unwrap();
                            packed.bytes_mut().fill(0xFF);
                            // SAFETY: the matrix has the extents and strides of the form, and the room is as large as it must be.
                            unsafe { apart.pack(rhs.read(), packed.as_mut_ptr()) }
                            compare(&apart, packed.as_ptr());
                        }
                    }
                }
            }

            /// Sizes around those of tiles, strips, vectors and blocks, every layout of an operand beside every one of the other.
            #[test]
            fn edges() {
                let noise = noise("edges", 4099);
                let rows = [0, 1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 27, 28, 29, 43];
                let cols = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 49, 63, 64, 65, 66, 129];
                let depths = [1, 2, 15, 16, 17, 33, 64, 5, 0];
                let mut turn = 0;
                for m in rows {
                    for n in cols {
                        let layouts = [READ[turn % 7], READ[turn / 7 % 7], WRITTEN[turn / 5 % 4]];
                        check([m, n, depths[turn % 9]], layouts, &[1], &noise);
                        turn += 1;
                    }
                }
            }

            #[test]
            fn blocks_are_added_in_order() {
                let noise = noise("blocks", 4099);
                let mut turn = 0;
                for k in [DEPTH - 1, DEPTH, DEPTH + 1, 2 * DEPTH, 3 * DEPTH + 7] {
                    for [m, n] in [[1, 1], [1, 40], [40, 1], [3, 70], [70, 3], [29, 33], [20, 10], [1, 200], [200, 1]] {
                        for _ in 0..3 {
                            let layouts = [READ[turn % 7], READ[turn / 3 % 7], WRITTEN[turn % 4]];
                            check([m, n, k], layouts, &[1], &noise);
                            turn += 1;
                        }
                    }
                }
            }

            /// Large enough to be cut into panels or columns, for one thread and for several.
            #[test]
            fn bits_do_not_depend_on_threads() {
                let noise = noise("threads", 4099);
                for (sizes, lhs, rhs) in [
                    ([300, 70, 65], row_major as Layout, row_major as Layout),
                    ([300, 70, 300], row_major, column_major),
                    ([520, 33, 31], column_major, row_major),
                    ([700, 10, 65], column_major, row_major),
                    ([700, 10, 300], row_major, row_major),
                    ([700, 40, 300], row_major, row_major),
                    ([600, 60, 300], padded, column_major),
                    ([5, 700, 260], row_major, row_major),
                    ([33, 520, 40], row_major, column_major),
                    // Few rows give the lanes.
                    ([32, 300, 520], row_major, column_major),
                    ([61, 500, 90], padded, column_major),
                    // A first block in two parts.
                    ([70, 90, 511], row_major, row_major),
                    ([30, 130, 700], padded, row_major),
                    ([1, 900, 300], row_major, column_major),
                    ([900, 1, 300], row_major, row_major),
                    ([1100, 64, 20], padded, padded),
                    ([1100, 200, 3], row_major, row_major),
                ] {
                    check(sizes, [lhs, rhs, row_major], &[1, 2, 3, 4], &noise);
                }
            }

            /// What is not a number reaches the elements that it is a part of, and no other: padding does not take part.
            #[test]
            fn infinities_stay_in_their_rows_and_columns() {
                for isa in Isa::available() {
                    let mut lhs = Matrix::new(17, 19, row_major, |_| 1.0);
                    let mut rhs = Matrix::new(19, 21, row_major, |_| 0.0);
                    let (infinite, nan) = (lhs.at(3, 4), rhs.at(18, 20));
                    lhs.data[infinite] = <$type>::INFINITY;
                    rhs.data[nan] = <$type>::NAN;
                    let mut dst = Matrix::new(17, 21, row_major, |_| 5.0);
                    let form = Form {
                        dtype: DTYPE,
 summation: ProductSummation::Chain,
                        m: 17,
                        n: 21,
                        k: 19,
                        dst: dst.strides,
                        lhs: lhs.strides,
                        rhs: rhs.strides,
                    };
                    run(&Method::on(isa, form, 1, 1).unwrap(), std::ptr::null(), &lhs, &rhs, &mut dst);
                    for row in 0..17 {
                        for col in 0..21 {
                            let bad = row == 3 || col == 20;
                            assert_eq!(dst.get(row, col).is_nan(), bad, "{isa:?} {row} {col}");
                        }
                    }
                }
            }
        }
    };
}
against_the_definition!(single, f32);
against_the_definition!(double, f64);

/// A right side that several matrices share is packed once, and one that they do not share for each of them.
#[test]
fn packed_sides_follow_the_batch() {
    let noise = noise("batch", 4099);
    let (m, n, k, batch) = (300, 40, 50, 3);
    for shared in [true, false] {
        let lhs = Matrix::new(batch * m, k, row_major, |i| noise[i % 4099] as f32);
        let rhs = Matrix::new(batch * k, n, row_major, |i| noise[i % 3001] as f32);
        let mut dst = Matrix::new(batch * m, n, row_major, |_| f32::NAN);
        let form = Form {
            dtype: ProductType::F32,
            summation: ProductSummation::Chain,
            m,
            n,
            k,
            dst: dst.strides,
            lhs: lhs.strides,
            rhs: rhs.strides,
        };
        let method = Method::new(form, batch, 1).unwrap();
        let mut scratch = AlignedBytes::zeroed(method.scratch()).unwrap();
        let mut packed = std::ptr::null();
        let right = |matrix: usize| if shared { 0 } else { matrix };
        for index in 0..method.units() {
            let Unit { matrix, rows, cols } = method.unit(index);
            let at = Matrices {
                dst: dst.written().wrapping_add(4 * matrix * m * n),
                lhs: lhs.read().wrapping_add(4 * matrix * m * k),
                rhs: rhs.read().wrapping_add(4 * right(matrix) * k * n),
            };
            // SAFETY: the matrices of the batch follow one another in memory, and nobody else uses them.
            unsafe { method.run(rows, cols, at, scratch.as_mut_ptr(), &mut packed) }
        }
        for row in 0..batch * m {
            for col in 0..n {
                let above = right(row / m) * k;
                let sum = (0..k).fold(0.0_f32, |sum, depth| {
                    lhs.get(row, depth)
                        .mul_add(rhs.get(above + depth, col), sum)
                });
                assert_eq!(dst.get(row, col), sum, "{row} {col}");
            }
        }
    }
}

macro_rules! equal_to_naive {
    ($($type:ident $dtype:ident),*) => {
        #[test]
        fn integers_wrap_exactly() {
            let stream = Stream::new(6, "integers", 0);
            $(for [m, n, k] in [[0, 3, 3], [3, 0, 3], [3, 3, 0], [1, 1, 1], [129, 3, 17], [17, 5, 129]] {
                for (lhs_layout, rhs_layout) in [(READ[0], READ[1]), (READ[2], READ[4]), (READ[1], READ[6])] {
                    let lhs = Matrix::new(m, k, lhs_layout, |i| stream.word(i as u64) as $type);
                    let rhs = Matrix::new(k, n, rhs_layout, |i| stream.word(9000 + i as u64) as $type);
                    let mut dst = Matrix::new(m, n, padded, |_| 77 as $type);
                    let form = Form {
                        dtype: ProductType::$dtype,
 summation: ProductSummation::Chain,
                        m,
                        n,
                        k,
                        dst: dst.strides,
                        lhs: lhs.strides,
                        rhs: rhs.strides,
                    };
                    run(&Method::new(form, 1, 2).unwrap(), std::ptr::null(), &lhs, &rhs, &mut dst);
                    for row in 0..m {
                        for col in 0..n {
                            let exact: i128 = (0..k).map(|d| lhs.get(row, d) as i128 * rhs.get(d, col) as i128).sum();
                            assert_eq!(dst.get(row, col), exact as $type);
                        }
                    }
                    assert_eq!(std::mem::size_of::<$type>(), ProductType::$dtype.size());
                }
            })*
        }
    };
}
equal_to_naive!(i8 I8, i16 I16, i32 I32, i64 I64, u8 U8, u16 U16, u32 U32, u64 U64);

#[test]
fn sums_in_f64_survive_cancellation() {
    let lhs = Matrix::new(2, 3, row_major, |i| [1e8_f32, 1.0, -1e8, 3.0, 4.0, 5.0][i]);
    let rhs = Matrix::new(3, 1, row_major, |_| 1.0_f32);
    let mut dst = Matrix::new(2, 1, row_major, |_| f32::NAN);
    let form = Form {
        dtype: ProductType::F32InF64,
        summation: ProductSummation::Chain,
        m: 2,
        n: 1,
        k: 3,
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
    assert_eq!((dst.get(0, 0), dst.get(1, 0)), (1.0, 12.0));
}

#[test]
fn products_exist_for_the_types_that_can_be_summed_exactly_or_in_themselves() {
    use DType::*;
    assert_eq!(ProductType::of(F32, F32), Some(ProductType::F32));
    assert_eq!(ProductType::of(F32, F64), Some(ProductType::F32InF64));
    assert_eq!(ProductType::of(I8, I32), Some(ProductType::I8));
    for (dtype, accumulate) in [
        (F32, I64),
        (F64, F32),
        (I32, I8),
        (I32, F64),
        (BF16, F32),
        (Bool, Bool),
    ] {
        assert_eq!(
            ProductType::of(dtype, accumulate),
            None,
            "{dtype} in {accumulate}"
        );
    }
}
