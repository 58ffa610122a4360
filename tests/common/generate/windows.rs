//! Steps of the generator with convolutions and pools, whose adjoints come with the gradients.

use super::{MOST_ELEMENTS, MOST_MULTIPLICATIONS, Making, size};
use kiln_ir::ops::{
    ArgKind, ArgWindow, Conv, ConvAxes, ConvGroups, GatherWindow, Iota, ReduceWindow,
    ScatterWindow, WindowAxis, WindowKind, Windows,
};
use kiln_ir::{DType, Dim, Tensor, TensorType};

impl<'g> Making<'g> {
    /// How a window slides, mostly plainly.
    fn axis(&mut self) -> WindowAxis {
        let padding = |making: &mut Self| Dim::from(making.numbers.pick(&[0, 0, 1, 2]));
        WindowAxis {
            stride: self.numbers.pick(&[1, 1, 2, 3]),
            low: padding(self),
            high: padding(self),
            base_dilation: self.numbers.pick(&[1, 1, 1, 2]),
            window_dilation: self.numbers.pick(&[1, 1, 1, 2]),
        }
    }

    /// A convolution with a bias and an activation behind it, of a tensor that is made an image of.
    pub(super) fn convolved(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let spatial = self.numbers.pick(&[1, 1, 2]);
        let (h, w) = (self.numbers.pick(&[3, 4, 5]), self.numbers.pick(&[1, 4, 6]));
        let groups = self.numbers.pick(&[1, 1, 1, 2]);
        let (input, output) = (
            groups * self.numbers.pick(&[1, 2, 3]),
            groups * self.numbers.pick(&[1, 4, 17]),
        );
        let mut image = vec![
            self.numbers.pick(&[Dim::symbol("b"), Dim::from(2)]),
            h.into(),
        ];
        let mut kernel = vec![Dim::from(self.numbers.pick(&[1, 2, 3]))];
        if spatial == 2 {
            image.push(w.into());
            kernel.push(Dim::from(self.numbers.pick(&[1, 2])));
        }
        image.push(input.into());
        kernel.extend([Dim::from(input / groups), Dim::from(output)]);
        let first = self.numbers.one_in(3);
        if first {
            // Features before the spatial axes, in the image and in the kernel.
            image[1..].rotate_right(1);
            kernel.rotate_right(2);
            kernel.swap(0, 1);
        }
        let lhs = self.spread(x, ty, &image);
        let rhs = self.partner(&TensorType::new(ty.dtype, kernel.clone()));
        let window: Vec<WindowAxis> = (0..spatial).map(|_| self.axis()).collect();
        let conv = Conv {
            axes: if first {
                ConvAxes::channels_first(spatial)
            } else {
                ConvAxes::channels_last(spatial)
            },
            window,
            reverse: self.numbers.one_in(4),
            groups: ConvGroups::features(groups),
            accumulate: None,
        };
        if size(&image).saturating_mul(size(&kernel)) > 4 * MOST_MULTIPLICATIONS {
            return None;
        }
        let made = self.push(conv, &[lhs, rhs])?;
        let made_ty = made.ty()?;
        if !made_ty.dtype.is_float() {
            return Some(made);
        }
        let bias = self.partner(&TensorType::new(made_ty.dtype, [output]));
        let feature = if first { 1 } else { spatial + 1 };
        let mut spread = vec![Dim::from(1); spatial + 2];
        spread[feature] = output.into();
        let sum = made + bias.reshape(spread);
        Some(match self.numbers.below(3) {
            0 => sum.tanh(),
            1 => sum.where_(sum.gt(0.0), 0.0),
            _ => sum,
        })
    }

    /// A tensor of another shape, by broadcasting a row of it.
    fn spread(&mut self, x: Tensor<'g>, ty: &TensorType, shape: &[Dim]) -> Tensor<'g> {
        let wanted = TensorType::new(ty.dtype, shape.to_vec());
        let mut partner = self.partner(&wanted);
        if ty.dtype.is_float() && ty.rank() > 0 {
            // So that the image differs from element to element.
            partner = partner + x.sum().tanh().broadcast_to(shape.to_vec());
            let ty = TensorType::new(DType::I32, shape.to_vec());
            let axis = shape.len() - 1;
            let numbers = self.g.push(Iota { ty, axis }, &[]);
            partner = partner + numbers.convert(wanted.dtype);
        }
        partner
    }

    /// A pool, or one of the ops that its gradient is made of.
    pub(super) fn pooled(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        if ty.rank() == 0 {
            return None;
        }
        let mut windows = Windows::of(&vec![1; ty.rank()]);
        for axis in 0..ty.rank() {
            if self.numbers.one_in(2) {
                windows.sizes[axis] = self.numbers.pick(&[1, 2, 3]);
                windows.axes[axis] = self.axis();
            }
        }
        if size(&ty.shape) > MOST_ELEMENTS / 4 {
            return None;
        }
        let kind = self.numbers.pick(&[ArgKind::Max, ArgKind::Min]);
        match self.numbers.below(4) {
            0 | 1 => {
                let kind = self.numbers.pick(&WindowKind::ALL);
                let reduce = ReduceWindow {
                    kind,
                    windows,
                    accumulate: None,
                };
                self.push(reduce, &[x])
            }
            2 => {
                let index = self.push(
                    ArgWindow {
                        kind,
                        windows: windows.clone(),
                    },
                    &[x],
                )?;
                self.pool.push(index);
                let chosen = self.push(
                    GatherWindow {
                        windows: windows.clone(),
                    },
                    &[x, index],
                )?;
                let shape = ty.shape.clone();
                self.push(ScatterWindow { shape, windows }, &[chosen, index])
            }
            _ => self.push(ArgWindow { kind, windows }, &[x]),
        }
    }
}
