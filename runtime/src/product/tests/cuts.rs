//! How results are cut into units.

use super::*;

#[test]
fn units_cover_the_result_once() {
    for [m, n, k, batch, threads] in [
        [1, 1, 1, 1, 1],
        [0, 5, 5, 2, 2],
        [5, 0, 5, 2, 2],
        [3000, 3, 0, 1, 4],
        [128, 512, 784, 1, 1],
        [128, 512, 784, 1, 2],
        [128, 512, 784, 1, 3],
        [4, 5000, 100, 1, 4],
        [4, 5000, 100, 1, 7],
        [64, 64, 32, 48, 2],
        [1000, 10, 300, 5, 4],
        [5000, 2000, 3, 1, 2],
    ] {
        for dtype in [ProductType::F32, ProductType::F64, ProductType::I32] {
            let strides = |cols: usize| Strides {
                row: cols as isize,
                col: 1,
            };
            let form = Form {
                dtype,
                summation: ProductSummation::Chain,
                m,
                n,
                k,
                dst: strides(n),
                lhs: strides(k),
                rhs: strides(n),
            };
            let method = Method::new(form, batch, threads).unwrap();
            assert!((1..=threads).contains(&method.shares()) || method.units() == 0);
            assert_eq!(method.scratch() % 64, 0);
            let mut rows = vec![0; batch * m];
            for index in 0..method.units() {
                let unit = method.unit(index);
                if method.has_whole_rows() {
                    assert_eq!(unit.cols, 0..n);
                }
                for row in unit.rows {
                    rows[unit.matrix * m + row] += unit.cols.len();
                }
            }
            assert!(rows.iter().all(|cols| *cols == n), "{form:?} {method:?}");
        }
    }
}

#[test]
fn sizes_that_no_memory_holds_have_no_method() {
    let form = Form {
        dtype: ProductType::F32,
        summation: ProductSummation::Chain,
        m: usize::MAX,
        n: 2,
        k: 2,
        dst: Strides { row: 2, col: 1 },
        lhs: Strides { row: 2, col: 1 },
        rhs: Strides { row: 2, col: 1 },
    };
    assert!(Method::new(form, 1, 1).is_none());
    assert!(
        Method::new(
            Form {
                m: 1 << 40,
                n: 1 << 20,
                ..form
            },
            1 << 10,
            2
        )
        .is_none()
    );
}
