//! Products against their definition, over sizes, layouts, types and threads.

use super::*;
use crate::pool::Pool;
use kiln_ir::philox::Stream;
use std::num::NonZeroUsize;

const SIZES: [usize; 6] = [0, 1, 3, 17, 128, 129];

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
/// Both axes backwards.
fn reversed(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
    (
        rows * cols,
        (rows * cols).saturating_sub(1),
        -(cols as isize),
        -1,
    )
}
/// The rows backwards.
fn rows_reversed(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
    let last = (rows * cols).saturating_sub(cols);
    (rows * cols, last, -(cols as isize), 1)
}
/// The columns backwards.
fn columns_reversed(rows: usize, cols: usize) -> (usize, usize, isize, isize) {
    (rows * cols, cols.saturating_sub(1), cols as isize, -1)
}
/// One row, repeated.
fn repeated(_rows: usize, cols: usize) -> (usize, usize, isize, isize) {
    (cols, 0, 0, 1)
}

const READ: [Layout; 5] = [row_major, column_major, padded, reversed, repeated];
const WRITTEN: [Layout; 3] = [row_major, column_major, padded];

struct Matrix<T> {
    data: Vec<T>,
    start: usize,
    strides: (isize, isize),
}

impl<T: Copy> Matrix<T> {
    fn new(
        rows: usize,
        cols: usize,
        layout: Layout,
        mut element: impl FnMut(usize) -> T,
    ) -> Matrix<T> {
        let (len, start, row, col) = layout(rows, cols);
        Matrix {
            data: (0..len).map(&mut element).collect(),
            start,
            strides: (row, col),
        }
    }
    fn get(&self, row: usize, col: usize) -> T {
        let offset = row as isize * self.strides.0 + col as isize * self.strides.1;
        self.data[(self.start as isize + offset) as usize]
    }
    fn operand(&self) -> Operand {
        let ptr = self.data.as_ptr().wrapping_add(self.start).cast();
        Operand {
            ptr,
            row_stride: self.strides.0,
            col_stride: self.strides.1,
        }
    }
    fn target(&mut self) -> Target {
        let ptr = self.data.as_mut_ptr().wrapping_add(self.start).cast();
        Target {
            ptr,
            row_stride: self.strides.0,
            col_stride: self.strides.1,
        }
    }
}

/// Normal numbers, drawn once: to draw them for each case would take longer than the products.
fn noise(path: &str) -> Vec<f64> {
    let stream = Stream::new(5, path, 0);
    (0..300_000).map(|index| stream.normal(index)).collect()
}

/// Every combination of sizes and layouts of the operands, the layouts of the result taking turns.
fn table(mut check: impl FnMut([usize; 3], Layout, Layout, Layout)) {
    for m in SIZES {
        for n in SIZES {
            for k in SIZES {
                for (index, lhs) in READ.into_iter().enumerate() {
                    for (other, rhs) in READ.into_iter().enumerate() {
                        check([m, n, k], WRITTEN[(index + other) % 3], lhs, rhs);
                    }
                }
            }
        }
    }
}

/// Calls `product` for every panel.
///
/// # Safety
/// As `product` for the whole matrices.
unsafe fn by_panels(
    dtype: ProductType,
    [m, n, k]: [usize; 3],
    dst: Target,
    lhs: Operand,
    rhs: Operand,
    pool: &mut Pool,
) {
    struct Shared(Target, Operand, Operand);
    // SAFETY: panels write disjoint rows and share only what is read.
    unsafe impl Sync for Shared {}
    impl Shared {
        fn panel(&self, size: usize, first: usize) -> (Target, Operand, Operand) {
            let bytes = |stride: isize| stride * (first * size) as isize;
            let mut panel = (self.0, self.1, self.2);
            panel.0.ptr = panel.0.ptr.wrapping_offset(bytes(panel.0.row_stride));
            panel.1.ptr = panel.1.ptr.wrapping_offset(bytes(panel.1.row_stride));
            panel
        }
    }
    let shared = Shared(dst, lhs, rhs);
    pool.run(panels(m), &|index, _| {
        let rows = panel_rows(m, index);
        let (dst, lhs, rhs) = shared.panel(dtype.size(), rows.start);
        // SAFETY: the rows lie inside the matrices that the caller promises.
        unsafe { product(dtype, rows.len(), n, k, dst, lhs, rhs) }
    });
}

macro_rules! close_to_naive {
    ($name:ident, $type:ty, $dtype:expr) => {
        /// |dst - exact| <= k eps sum |a b|, element by element, and nothing outside dst is written.
        #[test]
        fn $name() {
            let mut pool = Pool::new(NonZeroUsize::MIN).unwrap();
            let noise = noise(stringify!($name));
            table(|sizes, dst_layout, lhs_layout, rhs_layout| {
                let [m, n, k] = sizes;
                let lhs = Matrix::new(m, k, lhs_layout, |i| noise[i] as $type);
                let rhs = Matrix::new(k, n, rhs_layout, |i| noise[20_000 + i] as $type);
                let mut dst = Matrix::new(m, n, dst_layout, |_| <$type>::NAN);
                // SAFETY: the matrices have the sizes named and are not shared.
                unsafe {
                    by_panels(
                        $dtype,
                        sizes,
                        dst.target(),
                        lhs.operand(),
                        rhs.operand(),
                        &mut pool,
                    )
                };
                for row in 0..m {
                    for col in 0..n {
                        let (mut exact, mut scale) = (0.0, 0.0);
                        for depth in 0..k {
                            let term =
                                f64::from(lhs.get(row, depth)) * f64::from(rhs.get(depth, col));
                            exact += term;
                            scale += term.abs();
                        }
                        let bound = (k as f64 * f64::from(<$type>::EPSILON) * scale) * (1.0 + 1e-9);
                        let error = (f64::from(dst.get(row, col)) - exact).abs();
                        assert!(
                            error <= bound,
                            "{sizes:?} at {row}, {col}: {error} > {bound}"
                        );
                    }
                }
                let untouched = dst.data.iter().filter(|value| value.is_nan()).count();
                assert_eq!(untouched, dst.data.len() - m * n, "{sizes:?}");
            });
        }
    };
}
close_to_naive!(f32_is_close_to_naive, f32, ProductType::F32);
close_to_naive!(f64_is_close_to_naive, f64, ProductType::F64);

macro_rules! equal_to_naive {
    ($($type:ident $dtype:ident),*) => {
        #[test]
        fn integers_wrap_exactly() {
            let stream = Stream::new(6, "integers", 0);
            let mut pool = Pool::new(NonZeroUsize::MIN).unwrap();
            $(for sizes @ [m, n, k] in [[0, 3, 3], [3, 0, 3], [3, 3, 0], [1, 1, 1], [129, 3, 17], [17, 5, 129]] {
                for (lhs_layout, rhs_layout) in [(READ[0], READ[1]), (READ[2], READ[3]), (READ[1], READ[4])] {
                    let lhs = Matrix::new(m, k, lhs_layout, |i| stream.word(i as u64) as $type);
                    let rhs = Matrix::new(k, n, rhs_layout, |i| stream.word(9000 + i as u64) as $type);
                    let mut dst = Matrix::new(m, n, padded, |_| 77 as $type);
                    // SAFETY: the matrices have the sizes named and are not shared.
                    unsafe {
                        by_panels(ProductType::$dtype, sizes, dst.target(), lhs.operand(), rhs.operand(), &mut pool);
                    }
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
    let mut pool = Pool::new(NonZeroUsize::MIN).unwrap();
    // SAFETY: the matrices have the sizes named and are not shared.
    unsafe {
        by_panels(
            ProductType::F32InF64,
            [2, 1, 3],
            dst.target(),
            lhs.operand(),
            rhs.operand(),
            &mut pool,
        );
    }
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

/// The bits of a product are those of its panels, whichever threads compute them.
#[test]
fn bits_do_not_depend_on_threads() {
    let noise = noise("bits");
    for sizes @ [m, n, k] in [
        [1, 10, 784],
        [127, 10, 33],
        [129, 17, 65],
        [400, 10, 512],
        [517, 70, 3],
        [640, 1, 300],
    ] {
        for (index, lhs_layout) in READ.into_iter().enumerate() {
            for rhs_layout in READ {
                let lhs = Matrix::new(m, k, lhs_layout, |i| noise[i] as f32);
                let rhs = Matrix::new(k, n, rhs_layout, |i| noise[250_000 + i] as f32);
                let results = [1, 2, 4].map(|threads| {
                    let mut pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
                    let mut dst = Matrix::new(m, n, WRITTEN[index % 3], |_| 0.0_f32);
                    // SAFETY: the matrices have the sizes named and are not shared.
                    unsafe {
                        by_panels(
                            ProductType::F32,
                            sizes,
                            dst.target(),
                            lhs.operand(),
                            rhs.operand(),
                            &mut pool,
                        )
                    };
                    dst.data.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                });
                assert!(
                    results[0] == results[1] && results[0] == results[2],
                    "{sizes:?}"
                );
            }
        }
    }
}

#[test]
fn panels_cover_the_rows() {
    for m in [0, 1, 127, 128, 129, 256, 1000] {
        let rows: Vec<usize> = (0..panels(m))
            .flat_map(|index| panel_rows(m, index))
            .collect();
        assert_eq!(rows, (0..m).collect::<Vec<_>>());
        assert!((0..panels(m)).all(|index| (1..=PANEL_ROWS).contains(&panel_rows(m, index).len())));
        assert!(panel_rows(m, panels(m)).is_empty());
    }
    assert!(panel_rows(5, usize::MAX).is_empty());
}

/// A matrix with these elements, whatever its layout.
fn with_elements(rows: usize, cols: usize, layout: Layout, elements: &[f64]) -> Matrix<f32> {
    let mut matrix = Matrix::new(rows, cols, layout, |_| f32::NAN);
    for (i, element) in elements.iter().take(rows * cols).enumerate() {
        let (row, col) = ((i / cols) as isize, (i % cols) as isize);
        let at = row * matrix.strides.0 + col * matrix.strides.1;
        matrix.data[(matrix.start as isize + at) as usize] = *element as f32;
    }
    matrix
}

#[test]
fn bits_do_not_depend_on_strides() {
    let lefts: [Layout; 4] = [row_major, column_major, padded, rows_reversed];
    let rights: [Layout; 4] = [row_major, column_major, padded, columns_reversed];
    let (a, b) = (noise("left"), noise("right"));
    for [m, n, k] in [
        [1, 40, 33],
        [40, 1, 33],
        [1, 1, 1030],
        [5, 7, 19],
        [16, 16, 1500],
        [17, 16, 40],
        [40, 50, 2],
        [40, 50, 3],
        [70, 30, 600],
        [128, 130, 70],
    ] {
        let made = |left: Layout, right: Layout| {
            let lhs = with_elements(m, k, left, &a);
            let rhs = with_elements(k, n, right, &b);
            let mut dst = Matrix::new(m, n, row_major, |_| f32::NAN);
            let (target, lhs, rhs) = (dst.target(), lhs.operand(), rhs.operand());
            // SAFETY: the matrices have the sizes of the product and are used here alone.
            unsafe { product(ProductType::F32, m, n, k, target, lhs, rhs) };
            let bits = |i| dst.get(i / n, i % n).to_bits();
            (0..m * n).map(bits).collect::<Vec<_>>()
        };
        let expected = made(row_major, row_major);
        for (i, left) in lefts.into_iter().enumerate() {
            for (j, right) in rights.into_iter().enumerate() {
                let same = made(left, right) == expected;
                assert!(same, "{m} x {n} x {k}, layouts {i} and {j}");
            }
        }
    }
}
