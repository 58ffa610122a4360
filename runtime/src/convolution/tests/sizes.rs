//! Sizes that no memory holds, and sizes that nobody could run: planned or refused, at once.

use super::*;

#[test]
fn sizes_that_no_memory_holds_have_no_method() {
    let strides = ImageStrides {
        batch: 0,
        group: 0,
        feature: 1,
        spatial: [0; 3],
    };
    let form = Form {
        dtype: ProductType::F32,
        summation: Summation::Window,
        batch: 1,
        groups: 1,
        features_in: 1,
        features_out: 1,
        axes: [Axis::ONE; 3],
        lhs: strides,
        rhs: WindowStrides {
            group: 0,
            feature_in: 1,
            feature_out: 1,
            spatial: [0; 3],
        },
        dst: strides,
    };
    assert!(Method::new(form.clone(), 1).is_some());
    let with = |change: &dyn Fn(&mut Form)| {
        let mut form = form.clone();
        change(&mut form);
        Method::new(form, 2).is_none()
    };
    assert!(with(&|f| (f.batch, f.features_in) = (1 << 40, 1 << 40)));
    assert!(with(&|f| f.axes[2].input = usize::MAX));
    assert!(with(&|f| f.axes[2].padding = isize::MIN));
    assert!(with(&|f| f.axes[2].rhs_dilation = usize::MAX));
    assert!(with(&|f| f.axes[1].stride = 0));
    assert!(with(&|f| f.axes[0].lhs_dilation = 0));
}

/// Sizes that have a method, but no room for tables or no time to walk them.
#[test]
fn huge_sizes_are_planned_at_once() {
    let strides = ImageStrides {
        batch: 0,
        group: 0,
        feature: 1,
        spatial: [0; 3],
    };
    for summation in [Summation::Window, Summation::Lines] {
        for groups in [1, 64] {
            let form = Form {
                dtype: ProductType::F32,
                summation,
                batch: 1,
                groups,
                features_in: 1,
                features_out: 1,
                axes: [Axis::ONE; 3],
                lhs: strides,
                rhs: WindowStrides {
                    group: 0,
                    feature_in: 1,
                    feature_out: 1,
                    spatial: [0; 3],
                },
                dst: strides,
            };
            let huge = 1 << 40;
            let planned = |change: &dyn Fn(&mut Form)| {
                let mut form = form.clone();
                form.axes[1] = axis(100, 3, 98);
                form.axes[2] = axis(100, 3, 98);
                change(&mut form);
                assert!(Method::new(form, 2).is_some());
            };
            planned(&|f| f.batch = huge);
            planned(&|f| f.features_in = huge);
            planned(&|f| f.features_out = huge);
            for axis in 0..3 {
                planned(&|f| f.axes[axis].input = huge);
                planned(&|f| f.axes[axis].window = huge);
                planned(&|f| f.axes[axis].output = huge);
                planned(&|f| f.axes[axis].stride = huge);
                planned(&|f| f.axes[axis].padding = huge as isize);
                planned(&|f| f.axes[axis].padding = -(huge as isize));
                planned(&|f| f.axes[axis].lhs_dilation = huge);
                planned(&|f| f.axes[axis].rhs_dilation = huge);
                planned(&|f| (f.axes[axis].lhs_dilation, f.axes[axis].stride) = (huge, 3));
            }
        }
    }
}
