//! Signals: Fourier transforms as products with a matrix of sines and cosines, windows, and the mel scale.

use super::super::call::{Call, Results, axis, one};
use super::super::elements::Elements;
use super::super::error::Reason;
use super::super::value::{Known, constant, iota};
use super::indexing::size;
use super::{Operator, op};
use kiln_ir::{DType, Dim, OutOfRange, Shape, Tensor};
use std::f64::consts::PI;

pub(super) const OPERATORS: &[Operator] = &[
    op("BlackmanWindow", 17, |c| {
        window(c, |turn| {
            let second = turn.times(2.0).cos().times(0.08);
            second.minus(turn.cos().times(0.5)).plus(0.42)
        })
    }),
    op("DFT", 17, dft),
    op("HammingWindow", 17, |c| {
        let alpha = 25.0 / 46.0;
        window(c, |turn| alpha - turn.cos().times(1.0 - alpha))
    }),
    op("HannWindow", 17, |c| {
        window(c, |turn| turn.times(0.5).sin().square())
    }),
    op("MelWeightMatrix", 17, mel_weights),
    op("STFT", 17, stft),
];

/// `f` of the angle of each element, of which a period, or all but its last, makes a full turn. Computed in f64.
fn window<'g>(c: &Call<'_, 'g>, f: impl Fn(Tensor<'g>) -> Tensor<'g>) -> Results<'g> {
    let count = single(c, 0, "size")?;
    let periodic = c.int_or("periodic", 1)? != 0;
    let dtype = c.dtype("output_datatype")?.unwrap_or(DType::F32);
    let number = iota(c.builder, [count.clone()], 0).convert(DType::F64);
    let whole = size(c, &count).convert(DType::F64);
    let whole = if periodic { whole } else { whole.minus(1.0) };
    one(f(number.times(2.0 * PI).over(whole)).convert(dtype))
}

/// An extent that an input of one element gives.
fn single(c: &Call<'_, '_>, position: usize, what: &str) -> Result<Dim, Reason> {
    let dims = c.dims(position, what)?.unwrap_or_default();
    match dims.as_slice() {
        [one] if one.constant().is_none_or(|n| n >= 0) => Ok(one.clone()),
        _ => Err(Reason::new(format!("its {what} is not one size"))),
    }
}

/// How a transform is taken.
struct Transform {
    /// How many elements it takes, zeros behind the signal's end, and how many frequencies it has.
    length: Dim,
    inverse: bool,
    /// Only the first half of the frequencies, which tells the other.
    onesided: bool,
}

fn dft<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let rank = c.ty(0)?.rank();
    let along = if c.version >= 20 {
        let given = c.ints(2, "axis")?.unwrap_or(vec![-2]);
        given.first().copied().unwrap_or(-2)
    } else {
        c.int_or("axis", 1)?
    };
    let along = axis(along, rank)?;
    let length = match c.input(1).is_absent() {
        true => c.shape(0)?[along].clone(),
        false => single(c, 1, "dft_length")?,
    };
    let how = Transform {
        length,
        inverse: c.flag("inverse")?,
        onesided: c.flag("onesided")?,
    };
    one(transformed(c, c.tensor(0)?, along, &how)?)
}

/// The discrete Fourier transform along an axis of `[.., 1]`, real numbers, or `[.., 2]`, complex ones; the result is `[.., 2]`. The inverse
/// is divided by the length.
fn transformed<'g>(
    c: &Call<'_, 'g>,
    x: Tensor<'g>,
    along: usize,
    how: &Transform,
) -> Result<Tensor<'g>, Reason> {
    let Some(ty) = x.ty() else { return Ok(x) };
    let last = ty.rank() - 1;
    let complex = match ty.shape[last].constant() {
        Some(1) => false,
        Some(2) => true,
        Some(_) | None => {
            return Err(Reason::new(format!(
                "of {ty}, which is neither real nor complex"
            )));
        }
    };
    if along == last || !ty.dtype.is_float() {
        return Err(Reason::new(format!("of {ty} along axis {along}")));
    }
    if how.onesided && (complex || how.inverse) {
        return Err(Reason::new(
            "onesided, but not from real numbers to frequencies",
        ));
    }
    let used = ty.shape[along].minimum(&how.length);
    let frequencies = if how.onesided {
        how.length.floor_div(&Dim::from(2)) + 1
    } else {
        how.length.clone()
    };
    // The angle of element j at frequency k is 2 pi (j k mod n) / n, exact before it is rounded.
    let shape = Shape::from([used.clone(), frequencies]);
    let product = iota(c.builder, &shape, 0).times(iota(c.builder, &shape, 1));
    let length = size(c, &how.length);
    let turn = product.rem(length).convert(DType::F64);
    let angle = turn.times(2.0 * PI).over(length.convert(DType::F64));
    let (cos, sin) = (angle.cos().convert(ty.dtype), angle.sin().convert(ty.dtype));
    let part = |i: usize| {
        let mut dims = ty.shape.to_vec();
        dims.pop();
        let part = x.slice_axis(last, i, i + 1).reshape(dims);
        part.slice_axis(along, 0, used.clone())
    };
    // The product puts the frequencies behind all other axes.
    let mut back: Vec<usize> = (0..last - 1).collect();
    back.insert(along, last - 1);
    let times = |x: Tensor<'g>, matrix: Tensor<'g>| {
        x.dot_general(matrix, &[along], &[0], &[], &[])
            .transpose(&back)
    };
    let sin = if how.inverse { sin.neg() } else { sin };
    let (mut re, mut im) = (times(part(0), cos), times(part(0), sin).neg());
    if complex {
        re = re.plus(times(part(1), sin));
        im = im.plus(times(part(1), cos));
    }
    if how.inverse {
        let length = length.convert(ty.dtype);
        (re, im) = (re.over(length), im.over(length));
    }
    let pair = [re, im].map(|x| {
        let mut dims = x.ty().map(|ty| ty.shape.to_vec()).unwrap_or_default();
        dims.push(Dim::from(1));
        x.reshape(dims)
    });
    Ok(c.builder.concat(&pair, last))
}

/// Transforms of stretches of a signal `[batch, time, 1 or 2]`, each begun some elements behind the one before and weighted by a window.
fn stft<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, ty) = (c.tensor(0)?, c.ty(0)?);
    if ty.rank() != 3 {
        return Err(Reason::new(format!("of {ty}")));
    }
    let step = single(c, 1, "frame_step")?;
    let window = c.optional(2)?;
    let own = match window {
        Some(_) => c.shape(2)?.first().cloned(),
        None => None,
    };
    let length = match (c.input(3).is_absent(), &own) {
        (false, _) => single(c, 3, "frame_length")?,
        (true, Some(own)) => own.clone(),
        (true, None) => ty.shape[1].clone(),
    };
    if own.is_some_and(|own| own != length) || step.constant() == Some(0) {
        return Err(Reason::new(format!(
            "frames of {length}, other than its window, or no step"
        )));
    }
    let frames = (&ty.shape[1] - &length).floor_div(&step) + 1;
    let shape = Shape::from([frames, length.clone()]);
    let begin = iota(c.builder, &shape, 0).times(size(c, &step));
    let places = begin.plus(iota(c.builder, &shape, 1));
    let mut framed = x.gather(1, places, OutOfRange::Clamp);
    if let Some(window) = window {
        framed = framed.times(
            window
                .convert(ty.dtype)
                .reshape([length.clone(), Dim::from(1)]),
        );
    }
    let how = Transform {
        length,
        inverse: false,
        onesided: c.int_or("onesided", 1)? != 0,
    };
    one(transformed(c, framed, 2, &how)?)
}

/// Triangles over the frequencies of a transform, evenly spaced in mels, `2595 log10(1 + f / 700)`: the weight of each frequency in each
/// band. All inputs are known.
fn mel_weights<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let number = |position: usize, what: &str| -> Result<f64, Reason> {
        let given = c.floats(position, what)?.unwrap_or_default();
        let given = given
            .first()
            .copied()
            .filter(|x| x.is_finite() && *x >= 0.0);
        given.ok_or_else(|| Reason::new(format!("its {what} is no number from 0 on")))
    };
    let (bands, length) = (number(0, "num_mel_bins")?, number(1, "dft_length")?);
    let rate = number(2, "sample_rate")?;
    let (low, high) = (
        number(3, "lower_edge_hertz")?,
        number(4, "upper_edge_hertz")?,
    );
    if bands * (length + 1.0) > 4e6 || bands.max(length) > 1e6 || rate <= 0.0 {
        return Err(Reason::new(format!(
            "{bands} bands of {length} frequencies at {rate}"
        )));
    }
    let mels = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mels(high) - mels(low)) / (bands + 2.0);
    let edge = |i: usize| {
        let hertz = 700.0 * (10f64.powf((i as f64 * step + mels(low)) / 2595.0) - 1.0);
        ((length + 1.0) * hertz / rate).floor() as i64
    };
    let (bands, bins) = (bands as usize, length as usize / 2 + 1);
    let mut weights = vec![0.0f32; bins * bands];
    for band in 0..bands {
        let (left, centre, right) = (edge(band), edge(band + 1), edge(band + 2));
        if right > bins as i64 {
            return Err(Reason::new("an upper edge above half of the sample rate"));
        }
        for bin in left..right.max(centre + 1) {
            let weight = match bin <= centre {
                true if centre == left => 1.0,
                true => (bin - left) as f64 / (centre - left) as f64,
                false => (right - bin) as f64 / (right - centre) as f64,
            };
            if let Some(place) = weights.get_mut(bin as usize * bands + band) {
                *place = weight as f32;
            }
        }
    }
    let data = Elements::of_f32(vec![bins, bands], &weights);
    match c.dtype("output_datatype")? {
        None | Some(DType::F32) => one(Known::Data(data)),
        Some(dtype) => one(constant(c.builder, &data).convert(dtype)),
    }
}
