//! Elements of images at computed, fractional places: GridSample, and AffineGrid, which makes such places.

use super::super::call::{Call, Results, one};
use super::super::error::Reason;
use super::super::value::iota;
use super::indexing::size;
use super::{Operator, op};
use kiln_ir::{DType, Dim, OutOfRange, Shape, Tensor};

pub(super) const OPERATORS: &[Operator] = &[
    op("AffineGrid", 20, affine_grid),
    op("GridSample", 16, grid_sample),
];

/// The constant of the cubic kernel (Keys 1981), which PyTorch and ONNX fix for sampling.
const CUBIC: f64 = -0.75;

/// What an element outside of an image is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outside {
    Zero,
    /// The nearest at the border.
    Border,
    /// As if the image were mirrored at its ends.
    Reflected,
}

/// An axis of an image: its size as a floating scalar, and the ends at which it is mirrored.
pub(super) struct Span<'g> {
    size: Tensor<'g>,
    low: f64,
    high: Tensor<'g>,
}

impl<'g> Span<'g> {
    /// An axis of `extent` elements, mirrored at the centres of its outermost elements, or at their outer edges.
    pub(super) fn new(c: &Call<'_, 'g>, extent: &Dim, dtype: DType, centres: bool) -> Self {
        let size = size(c, extent).convert(dtype);
        Self {
            size,
            low: if centres { 0.0 } else { -0.5 },
            high: size.minus(if centres { 1.0 } else { 0.5 }),
        }
    }

    fn clamped(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.maximum(0.0).minimum(self.size.minus(1.0))
    }

    /// Mirrored at both ends until it lies between them.
    fn reflected(&self, x: Tensor<'g>) -> Tensor<'g> {
        let range = self.high.minus(self.low);
        let twice = range.times(2.0);
        let far = x.minus(self.low).abs().rem(twice);
        let folded = far.minimum(twice.minus(far)).plus(self.low);
        let within = x.ge(self.low).and(x.le(self.high));
        // An axis of one element, mirrored at its centre, has nowhere else to go.
        let empty = range.le(0.0).broadcast_to(shape_of(x));
        x.where_(within, x.times(0.0).plus(self.low).where_(empty, folded))
    }

    /// A place moved as the border wants it.
    fn moved(&self, x: Tensor<'g>, outside: Outside) -> Tensor<'g> {
        match outside {
            Outside::Zero => x,
            Outside::Border => self.clamped(x),
            Outside::Reflected => self.reflected(x),
        }
    }

    /// The element at a whole number, with a weight.
    pub(super) fn tap(&self, x: Tensor<'g>, weight: Tensor<'g>, outside: Outside) -> Tap<'g> {
        let inside = match outside {
            Outside::Zero => Some(x.ge(0.0).and(x.lt(self.size))),
            Outside::Border | Outside::Reflected => None,
        };
        Tap {
            index: self.clamped(self.moved(x, outside)).convert(DType::I64),
            inside,
            weight,
        }
    }

    /// The two elements around a place, weighted by their nearness.
    pub(super) fn linear(&self, x: Tensor<'g>, outside: Outside) -> Vec<Tap<'g>> {
        let low = x.floor();
        let far = x.minus(low);
        vec![
            self.tap(low, 1.0 - far, outside),
            self.tap(low.plus(1.0), far, outside),
        ]
    }

    /// The four elements around a place, weighted by the cubic kernel.
    fn cubic(&self, x: Tensor<'g>, outside: Outside) -> Vec<Tap<'g>> {
        let low = x.floor();
        let far = x.minus(low);
        let near = |d: Tensor<'g>| {
            let inner = d.times(CUBIC + 2.0).minus(CUBIC + 3.0);
            inner.times(d.square()).plus(1.0)
        };
        let wide = |d: Tensor<'g>| {
            let inner = d.times(CUBIC).minus(5.0 * CUBIC).times(d);
            inner.plus(8.0 * CUBIC).times(d).minus(4.0 * CUBIC)
        };
        let weights = [
            wide(far.plus(1.0)),
            near(far),
            near(1.0 - far),
            wide(2.0 - far),
        ];
        let taps = weights.into_iter().zip([-1.0, 0.0, 1.0, 2.0]);
        taps.map(|(w, step)| self.tap(low.plus(step), w, outside))
            .collect()
    }
}

/// One element along an axis: its index, whether it is one of the image where that is asked, and its weight.
pub(super) struct Tap<'g> {
    index: Tensor<'g>,
    inside: Option<Tensor<'g>>,
    weight: Tensor<'g>,
}

/// Images as rows of features, one for each element of each image.
pub(super) struct Image<'g> {
    /// `[images * elements, features]`.
    pub(super) rows: Tensor<'g>,
    pub(super) extents: Vec<Dim>,
}

impl<'g> Image<'g> {
    /// The images of a tensor `[batch, groups * features, spatial..]`: `batch * groups` of them.
    pub(super) fn new(x: Tensor<'g>, own: &Shape, groups: i64) -> Self {
        let groups = Dim::from(groups);
        let features = own[1].floor_div(&groups);
        let extents = own[2..].to_vec();
        let count = Shape::from(extents.as_slice()).elements();
        let flat = [&own[0] * &groups, features.clone(), count.clone()];
        let rows = x.reshape(flat).transpose(&[0, 2, 1]);
        let all = &(&own[0] * &groups) * &count;
        Self {
            rows: rows.reshape([all, features]),
            extents,
        }
    }

    /// For each choice of one tap an axis: the features there, `places.. + [features]`, and their weight, which broadcasts against them.
    /// `image` is the number of the image that each place lies in; all broadcast against each other, to `places`.
    pub(super) fn corners(
        &self,
        c: &Call<'_, 'g>,
        image: Tensor<'g>,
        axes: &[Vec<Tap<'g>>],
        places: &Shape,
    ) -> Vec<(Tensor<'g>, Tensor<'g>)> {
        let mut found: Vec<(Tensor<'g>, Option<Tensor<'g>>, Option<Tensor<'g>>)> =
            vec![(image, None, None)];
        for (taps, extent) in axes.iter().zip(&self.extents) {
            let mut next = Vec::with_capacity(found.len() * taps.len());
            for (place, inside, weight) in &found {
                for tap in taps {
                    next.push((
                        place.times(size(c, extent)).plus(tap.index),
                        joined(*inside, tap.inside, Tensor::and),
                        joined(*weight, Some(tap.weight), Tensor::times),
                    ));
                }
            }
            found = next;
        }
        let features = (self.rows.ty()).map_or(Dim::from(1), |ty| ty.shape[1].clone());
        let [mut wide, mut narrow] = [places.to_vec(), places.to_vec()];
        wide.push(features);
        narrow.push(Dim::from(1));
        let corners = found.into_iter().map(|(place, inside, weight)| {
            let mut value = self
                .rows
                .gather(0, place.broadcast_to(places), OutOfRange::Clamp);
            if let Some(inside) = inside {
                let inside = inside.broadcast_to(places).reshape(narrow.clone());
                value = value.where_(inside.broadcast_to(wide.clone()), 0.0);
            }
            let weight = weight.unwrap_or(place.convert(DType::F32));
            let weight = weight.broadcast_to(places).reshape(narrow.clone());
            (value, weight)
        });
        corners.collect()
    }

    /// The weighted sum of the corners.
    pub(super) fn sampled(
        &self,
        c: &Call<'_, 'g>,
        image: Tensor<'g>,
        axes: &[Vec<Tap<'g>>],
        places: &Shape,
    ) -> Tensor<'g> {
        let parts = self.corners(c, image, axes, places).into_iter();
        let sum = parts
            .map(|(value, weight)| value.times(weight))
            .reduce(Tensor::plus);
        sum.unwrap_or(self.rows)
    }
}

fn joined<'g>(
    a: Option<Tensor<'g>>,
    b: Option<Tensor<'g>>,
    f: impl Fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
) -> Option<Tensor<'g>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(f(a, b)),
        (a, b) => a.or(b),
    }
}

fn shape_of(x: Tensor<'_>) -> Shape {
    x.ty().map(|ty| ty.shape).unwrap_or_default()
}

/// `[batch, features, spatial..]` at a grid `[batch, places.., axes]` of coordinates from -1 to 1, of which the first is that of the last
/// axis.
fn grid_sample<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (own, at) = (c.shape(0)?, c.shape(1)?);
    let (x, ty) = (c.tensor(0)?, c.ty(1)?);
    let count = own.len().saturating_sub(2);
    let fits = count > 0 && at.last().and_then(Dim::constant) == Some(count as i64);
    if !fits || at.len() < 2 || at[0] != own[0] || !ty.dtype.is_float() {
        return Err(Reason::new(format!("{} at a grid of {ty}", c.ty(0)?)));
    }
    let centres = c.flag("align_corners")?;
    let mode = c.text("mode", "linear")?;
    let outside = match c.text("padding_mode", "zeros")?.as_str() {
        "zeros" => Outside::Zero,
        "border" => Outside::Border,
        "reflection" => Outside::Reflected,
        other => return Err(Reason::new(format!("padding_mode = `{other}`"))),
    };
    let image = Image::new(x.convert(ty.dtype), &own, 1);
    let places = Shape::from(&at[..at.len() - 1]);
    let mut axes = Vec::with_capacity(count);
    for (i, extent) in image.extents.iter().enumerate() {
        let span = Span::new(c, extent, ty.dtype, centres);
        let from = count - 1 - i;
        let place = c.tensor(1)?.slice_axis(at.len() - 1, from, from + 1);
        let place = place.reshape(&places).plus(1.0);
        let place = if centres {
            place.times(0.5).times(span.size.minus(1.0))
        } else {
            place.times(span.size).minus(1.0).times(0.5)
        };
        axes.push(match mode.as_str() {
            "nearest" => {
                let near = span.moved(place.round(), outside);
                vec![span.tap(near, c.builder.splat(ty.dtype, &places, 1.0), outside)]
            }
            "linear" | "bilinear" => span.linear(span.moved(place, outside), outside),
            // Only the elements are moved, not the place between them, so that the kernel still runs out beyond the border.
            "cubic" | "bicubic" => span.cubic(place, outside),
            other => return Err(Reason::new(format!("mode = `{other}`"))),
        });
    }
    let number = iota(c.builder, &places, 0);
    let sampled = image.sampled(c, number, &axes, &places);
    // The features come behind the places.
    let mut order: Vec<usize> = (0..at.len()).collect();
    order.pop();
    order.insert(1, at.len() - 1);
    one(sampled.transpose(&order).convert(c.ty(0)?.dtype))
}

/// Affine maps `[batch, axes, axes + 1]` of the places of an image of a given size, `[batch, features, spatial..]`.
fn affine_grid<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (theta, ty) = (c.tensor(0)?, c.ty(0)?);
    let target = super::movement::target(c, 1)?;
    let centres = c.flag("align_corners")?;
    let count = target.len().saturating_sub(2);
    let fits = count > 0
        && ty.rank() == 3
        && ty.shape[0] == target[0]
        && ty.shape[1].constant() == Some(count as i64)
        && ty.shape[2].constant() == Some(count as i64 + 1);
    if !fits || !ty.dtype.is_float() {
        return Err(Reason::new(format!("{ty} for an image of shape {target}")));
    }
    let mut shape = target.to_vec();
    shape.remove(1);
    shape.push(Dim::from(count));
    // Column `j` of the maps, as it meets the places.
    let column = |j: usize| {
        let mut dims = vec![Dim::from(1); count + 2];
        dims[0] = target[0].clone();
        dims[count + 1] = Dim::from(count);
        theta.slice_axis(2, j, j + 1).reshape(dims)
    };
    let mut sum = column(count).broadcast_to(shape);
    for j in 0..count {
        // The first coordinate is that of the last axis.
        let extent = &target[count + 1 - j];
        let number = iota(c.builder, [extent.clone()], 0).convert(ty.dtype);
        let whole = size(c, extent).convert(ty.dtype);
        let place = match (centres, extent.constant()) {
            (true, Some(1)) => number,
            (true, _) => number.times(2.0).over(whole.minus(1.0)).minus(1.0),
            (false, _) => number.times(2.0).plus(1.0).over(whole).minus(1.0),
        };
        let mut dims = vec![Dim::from(1); count + 2];
        dims[count - j] = extent.clone();
        sum = sum.plus(column(j).times(place.reshape(dims)));
    }
    one(sum)
}
