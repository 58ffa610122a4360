//! Resizing by interpolation, axis after axis: each output element is a weighted sum of a few elements, whose places and weights are known
//! when the sizes are.

use super::super::call::{Call, Results, axes, one};
use super::super::elements::Elements;
use super::super::error::Reason;
use super::super::value::constant;
use super::movement::pick;
use super::{Operator, op};
use kiln_ir::{DType, Dim, Shape, Tensor};

pub(super) const OPERATORS: &[Operator] = &[op("Resize", 10, resize), op("Upsample", 7, resize)];

/// No axis becomes longer.
const MOST: f64 = (1 << 20) as f64;
/// No element is made of more: an antialiased one is made of as many as it stands for.
const MOST_TAPS: i64 = 4096;

/// How coordinates and weights are computed, as the attributes say.
struct Method {
    mode: String,
    coordinates: String,
    nearest: String,
    cubic: f64,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f64,
}

/// One axis to resize.
struct Along {
    axis: usize,
    /// How many elements there are, and will be.
    size: i64,
    new: i64,
    scale: f64,
    /// The region of interest, for `tf_crop_and_resize`.
    roi: (f64, f64),
}

fn method(c: &Call<'_, '_>) -> Result<Method, Reason> {
    // Version 10 and Upsample know one way.
    let old = c.version < 11 || c.node.op_type == "Upsample";
    let (coordinates, nearest) = if old {
        ("asymmetric", "floor")
    } else {
        ("half_pixel", "round_prefer_floor")
    };
    Ok(Method {
        mode: c.text("mode", "nearest")?,
        coordinates: c.text("coordinate_transformation_mode", coordinates)?,
        nearest: c.text("nearest_mode", nearest)?,
        cubic: c.float_or("cubic_coeff_a", -0.75)?,
        exclude_outside: c.flag("exclude_outside")?,
        antialias: c.flag("antialias")?,
        extrapolation: c.float_or("extrapolation_value", 0.0)?,
    })
}

fn resize<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let method = method(c)?;
    let old = c.version < 11 || c.node.op_type == "Upsample";
    let (roi, scales, sizes) = if old {
        let scales = match c.float_list("scales")? {
            Some(scales) => Some(scales),
            None => c.floats(1, "scales")?,
        };
        (None, scales, None)
    } else {
        let roi = match method.coordinates.as_str() {
            "tf_crop_and_resize" => c.floats(1, "roi")?,
            _ => None,
        };
        (roi, c.floats(2, "scales")?, c.dims(3, "sizes")?)
    };
    let scales = scales.filter(|s| !s.is_empty());
    let sizes = sizes.filter(|s| !s.is_empty());
    let over = match c.int_list("axes")? {
        Some(given) => axes(&given, own.len())?,
        None => (0..own.len()).collect(),
    };
    let policy = c.text("keep_aspect_ratio_policy", "stretch")?;
    let count = over.len();
    let wrong = |what: &str, n: usize| Reason::new(format!("{n} {what} for {count} axes"));
    let mut x = c.tensor(0)?;
    let dtype = c.ty(0)?.dtype;
    if let Some(scales) = scales.as_ref().filter(|s| s.len() != count) {
        return Err(wrong("scales", scales.len()));
    }
    if let Some(sizes) = sizes.as_ref().filter(|s| s.len() != count) {
        return Err(wrong("sizes", sizes.len()));
    }
    if let Some(roi) = roi.as_ref().filter(|r| r.len() != 2 * count) {
        return Err(wrong("regions", roi.len()));
    }
    let aspect = aspect(&own, &over, sizes.as_deref(), &policy)?;
    let mut outside: Vec<(usize, Vec<bool>)> = Vec::new();
    for (i, axis) in over.iter().copied().enumerate() {
        let roi = roi.as_ref().map_or((0.0, 1.0), |r| (r[i], r[i + count]));
        let scale = scales.as_ref().map(|s| s[i]);
        let wanted = sizes.as_ref().map(|s| &s[i]);
        let same = scale == Some(1.0) || wanted == Some(&own[axis]);
        if same && roi == (0.0, 1.0) {
            continue;
        }
        let Some(size) = own[axis].constant() else {
            x = repeated(x, axis, scale, &method)?;
            continue;
        };
        let (scale, new) = match (scale, wanted.and_then(Dim::constant), aspect) {
            (_, Some(_), Some(aspect)) => (aspect, (aspect * size as f64 + 0.5).floor()),
            (Some(scale), None, _) => (scale, (size as f64 * scale).floor()),
            (None, Some(new), None) => (new as f64 / size as f64, new as f64),
            (_, _, _) => return Err(Reason::new("a symbolic size, or neither scales nor sizes")),
        };
        if scale.is_nan() || scale <= 0.0 || new > MOST || size < 1 {
            return Err(Reason::new(format!("{size} elements by {scale}")));
        }
        let along = Along {
            axis,
            size,
            new: new as i64,
            scale,
            roi,
        };
        let places: Vec<f64> = (0..along.new)
            .map(|i| coordinate(&method, &along, i as f32))
            .collect::<Result<_, _>>()?;
        if method.coordinates == "tf_crop_and_resize" {
            let beyond = |p: &f64| *p < 0.0 || *p > (size - 1) as f64;
            outside.push((axis, places.iter().map(beyond).collect()));
        }
        x = interpolated(x, &along, &taps(&method, &along, &places)?, dtype);
    }
    for (axis, beyond) in outside {
        x = extrapolated(x, axis, &beyond, method.extrapolation);
    }
    one(x.convert(dtype))
}

/// The one scale of all axes where the proportions are kept.
fn aspect(
    own: &Shape,
    over: &[usize],
    sizes: Option<&[Dim]>,
    policy: &str,
) -> Result<Option<f64>, Reason> {
    let (Some(sizes), false) = (sizes, policy == "stretch") else {
        return Ok(None);
    };
    let ratio =
        |(axis, new): (&usize, &Dim)| Some(new.constant()? as f64 / own[*axis].constant()? as f64);
    let ratios: Option<Vec<f64>> = over.iter().zip(sizes).map(ratio).collect();
    let ratios = ratios.ok_or_else(|| Reason::new("symbolic sizes whose proportions are kept"))?;
    match policy {
        "not_larger" => Ok(ratios.into_iter().reduce(f64::min)),
        "not_smaller" => Ok(ratios.into_iter().reduce(f64::max)),
        other => Err(Reason::new(format!("keep_aspect_ratio_policy = `{other}`"))),
    }
}

/// An axis of symbolic size: each element several times.
fn repeated<'g>(
    x: Tensor<'g>,
    axis: usize,
    scale: Option<f64>,
    method: &Method,
) -> Result<Tensor<'g>, Reason> {
    let whole = scale.filter(|s| s.fract() == 0.0 && (1.0..1e6).contains(s));
    // With a whole factor these all repeat each element in its place.
    let plain = match (method.coordinates.as_str(), method.nearest.as_str()) {
        ("asymmetric", "floor") => true,
        ("half_pixel" | "pytorch_half_pixel", "round_prefer_floor" | "round_prefer_ceil") => true,
        (_, _) => false,
    };
    let (Some(factor), true, "nearest") = (whole, plain, method.mode.as_str()) else {
        return Err(Reason::new(format!(
            "mode `{}` along an axis of symbolic size by other than a whole factor",
            method.mode
        )));
    };
    let shape = x.ty().map(|ty| ty.shape).unwrap_or_default();
    let factor = Dim::from(factor as i64);
    let (mut narrow, mut wide, mut joined) = (shape.to_vec(), shape.to_vec(), shape.to_vec());
    narrow.insert(axis + 1, Dim::from(1));
    wide.insert(axis + 1, factor.clone());
    joined[axis] = &joined[axis] * &factor;
    Ok(x.reshape(narrow).broadcast_to(wide).reshape(joined))
}

/// Where output element `i` lies among the elements that there are: in f32, as scales are, so that a place that is whole with the scale that
/// was meant stays whole.
fn coordinate(method: &Method, along: &Along, i: f32) -> Result<f64, Reason> {
    let (size, scale) = (along.size as f32, along.scale as f32);
    let (whole, new) = (along.new as f32, size * scale);
    Ok(f64::from(match method.coordinates.as_str() {
        "half_pixel" => (i + 0.5) / scale - 0.5,
        "half_pixel_symmetric" => {
            let offset = size / 2.0 * (1.0 - whole / new);
            offset + ((i + 0.5) / scale - 0.5)
        }
        "pytorch_half_pixel" if whole > 1.0 => (i + 0.5) / scale - 0.5,
        "align_corners" if new != 1.0 => i * (size - 1.0) / (new - 1.0),
        "pytorch_half_pixel" | "align_corners" => 0.0,
        "asymmetric" => i / scale,
        "tf_half_pixel_for_nn" => (i + 0.5) / scale,
        "tf_crop_and_resize" => {
            let (start, end) = (along.roi.0 as f32, along.roi.1 as f32);
            if whole > 1.0 {
                start * (size - 1.0) + i * (end - start) * (size - 1.0) / (whole - 1.0)
            } else {
                0.5 * (start + end) * (size - 1.0)
            }
        }
        other => {
            return Err(Reason::new(format!(
                "coordinate_transformation_mode = `{other}`"
            )));
        }
    }))
}

/// For each output element, the elements that it is made of: the place of the first, and the weights from there on.
fn taps(method: &Method, along: &Along, places: &[f64]) -> Result<Vec<(i64, Vec<f64>)>, Reason> {
    let shrink = if method.antialias {
        along.scale.min(1.0)
    } else {
        1.0
    };
    let reach = match method.mode.as_str() {
        "nearest" => {
            return places
                .iter()
                .map(|p| Ok((nearest(method, *p)?, vec![1.0])))
                .collect();
        }
        "linear" | "bilinear" | "trilinear" => 1.0,
        "cubic" | "bicubic" => 2.0,
        other => return Err(Reason::new(format!("mode = `{other}`"))),
    };
    let weight = |d: f64| match reach {
        1.0 => (1.0 - d.abs()).max(0.0),
        _ => cubic(d.abs(), method.cubic),
    };
    let first = (-reach / shrink).floor() as i64 + 1;
    let count = 2 - 2 * first;
    if count > MOST_TAPS {
        return Err(Reason::new(format!("{count} elements joined into one")));
    }
    let all = places.iter().map(|place| {
        let begin = place.floor() as i64 + first;
        let distance = |k: i64| ((begin + k) as f64 - place) * shrink;
        let mut weights: Vec<f64> = (0..count).map(|k| weight(distance(k))).collect();
        if method.exclude_outside {
            for (k, weight) in weights.iter_mut().enumerate() {
                if !(0..along.size).contains(&(begin + k as i64)) {
                    *weight = 0.0;
                }
            }
        }
        let sum: f64 = weights.iter().sum();
        if method.exclude_outside || shrink != 1.0 {
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        (begin, weights)
    });
    Ok(all.collect())
}

fn nearest(method: &Method, place: f64) -> Result<i64, Reason> {
    Ok(match method.nearest.as_str() {
        "round_prefer_floor" => (place - 0.5).ceil(),
        "round_prefer_ceil" => (place + 0.5).floor(),
        "floor" => place.floor(),
        "ceil" => place.ceil(),
        other => return Err(Reason::new(format!("nearest_mode = `{other}`"))),
    } as i64)
}

/// Keys' cubic kernel ("Cubic convolution interpolation", 1981) at distance `d`.
fn cubic(d: f64, a: f64) -> f64 {
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}

/// The weighted sums along an axis. Places beyond the edges are the edges.
fn interpolated<'g>(
    x: Tensor<'g>,
    along: &Along,
    taps: &[(i64, Vec<f64>)],
    dtype: DType,
) -> Tensor<'g> {
    let count = taps.first().map_or(1, |(_, weights)| weights.len());
    let within = if dtype.is_float() { dtype } else { DType::F32 };
    let mut sum: Option<Tensor<'g>> = None;
    for k in 0..count {
        let place =
            |(begin, _): &(i64, Vec<f64>)| begin.saturating_add(k as i64).clamp(0, along.size - 1);
        let places: Vec<i64> = taps.iter().map(place).collect();
        let picked = pick(x, along.axis, &places);
        if count == 1 {
            return picked;
        }
        let weights: Vec<f32> = taps.iter().map(|(_, w)| w[k] as f32).collect();
        let part = picked
            .convert(within)
            .times(beside(x, along.axis, &weights).convert(within));
        sum = Some(sum.map_or(part, |sum| sum.plus(part)));
    }
    sum.unwrap_or(x)
}

/// Numbers along an axis, that broadcast against `x`.
fn beside<'g>(x: Tensor<'g>, axis: usize, numbers: &[f32]) -> Tensor<'g> {
    let mut shape = vec![Dim::from(1); x.ty().map_or(0, |ty| ty.rank())];
    if let Some(extent) = shape.get_mut(axis) {
        *extent = Dim::from(numbers.len());
    }
    let data = Elements::of_f32(vec![numbers.len()], numbers);
    constant(x.builder(), &data).reshape(shape)
}

/// One number wherever an index of the axis lies outside.
fn extrapolated<'g>(x: Tensor<'g>, axis: usize, beyond: &[bool], value: f64) -> Tensor<'g> {
    let flags: Vec<f32> = beyond.iter().map(|b| f32::from(u8::from(*b))).collect();
    let inside = beside(x, axis, &flags).eq(0.0);
    x.where_(inside, value)
}
