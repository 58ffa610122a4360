//! Windows that slide over axes.
//!
//! `MaxPool` and `AveragePool` where they mean the same; everything else element by element of the window: a strided slice of the padded
//! operand holds, for every position of the window, the element that it meets there.

use super::attribute;
use super::body::{Body, Out, Value};
use super::elementwise::round_to;
use super::reduce::signed;
use kiln_ir::ops::{
    ArgKind, ArgWindow, GatherWindow, ReduceWindow, ScatterWindow, WindowKind, Windows,
};
use kiln_ir::{Array, Class, DType, Dim, Shape, TensorType};

/// Windows with more elements than this would make models of too many nodes.
const MOST_ELEMENTS: i64 = 1024;
/// A pool slides along at most so many axes.
const MOST_SPATIAL: usize = 3;

/// A window, element by element, over an operand that is dilated and padded.
struct Slider<'w> {
    windows: &'w Windows,
    sizes: Vec<usize>,
    positions: Shape,
}

impl<'w> Slider<'w> {
    fn new(windows: &'w Windows, positions: &Shape) -> Out<Self> {
        let count = windows.elements().filter(|n| *n <= MOST_ELEMENTS);
        if count.is_none() {
            return Err(format!(
                "ONNX has no operator for it, and a window of more than {MOST_ELEMENTS} elements is not taken apart"
            ));
        }
        Ok(Self {
            windows,
            sizes: windows.sizes.iter().map(|s| *s as usize).collect(),
            positions: positions.clone(),
        })
    }

    fn count(&self) -> usize {
        self.sizes.iter().product()
    }

    /// Where the first position meets element `k` along each axis, within the padded operand.
    fn offsets(&self, k: usize) -> Vec<i64> {
        let at = Array::unravel(k, &self.sizes);
        let axes = at.iter().zip(&self.windows.axes);
        axes.map(|(k, axis)| *k as i64 * axis.window_dilation)
            .collect()
    }

    /// The extents of the dilated operand.
    fn spans(&self, shape: &[Dim]) -> Shape {
        let axes = shape.iter().zip(&self.windows.axes);
        axes.map(|(dim, axis)| span(dim, axis.base_dilation))
            .collect()
    }

    fn holes(&self) -> Vec<i64> {
        self.windows
            .axes
            .iter()
            .map(|a| a.base_dilation - 1)
            .collect()
    }

    /// The extents of the dilated and padded operand.
    fn padded_shape(&self, shape: &[Dim]) -> Shape {
        let spans = self.spans(shape);
        let axes = spans.iter().zip(&self.windows.axes);
        axes.map(|(dim, axis)| &(&axis.low + dim) + &axis.high)
            .collect()
    }

    fn padded(&self, body: &mut Body<'_>, x: &Value, value: &Value) -> Out {
        let dilated = body.dilate(x, &self.holes(), value, &self.spans(x.shape()))?;
        let low: Vec<Dim> = self.windows.axes.iter().map(|a| a.low.clone()).collect();
        let high: Vec<Dim> = self.windows.axes.iter().map(|a| a.high.clone()).collect();
        body.pad(&dilated, &low, &high, value, &self.padded_shape(x.shape()))
    }

    /// The way back from the shape of the dilated and padded operand to its own.
    fn unpadded(&self, body: &mut Body<'_>, x: &Value, shape: &Shape, zero: &Value) -> Out {
        // Where padding took elements away there is nothing to find.
        let missing = |d: &Dim| Dim::from(d.constant().map_or(0, |n| (-n).max(0)));
        let axes = &self.windows.axes;
        let low: Vec<Dim> = axes.iter().map(|a| missing(&a.low)).collect();
        let high: Vec<Dim> = axes.iter().map(|a| missing(&a.high)).collect();
        let whole = x.shape().iter().zip(low.iter().zip(&high));
        let whole: Shape = whole
            .map(|(dim, (low, high))| &(low + dim) + high)
            .collect();
        let x = body.pad(x, &low, &high, zero, &whole)?;
        let start: Vec<Dim> = axes
            .iter()
            .zip(&low)
            .map(|(a, more)| &a.low + more)
            .collect();
        let spans = self.spans(shape);
        let limit: Vec<Dim> = start
            .iter()
            .zip(spans.iter())
            .map(|(s, span)| s + span)
            .collect();
        let stride: Vec<i64> = axes.iter().map(|a| a.base_dilation).collect();
        body.slice(&x, &start, &limit, &stride, shape)
    }

    /// For every position, the element of the padded operand that element `k` of its window meets: from where it lies in the first window, in
    /// strides, to as far before the end as it lies in a window at the end.
    fn met(&self, body: &mut Body<'_>, padded: &Value, k: usize) -> Out {
        let stride: Vec<i64> = self.windows.axes.iter().map(|a| a.stride).collect();
        let last = self.offsets(self.count() - 1);
        let offsets = self.offsets(k);
        let behind: Vec<i64> = last
            .iter()
            .zip(&offsets)
            .map(|(last, own)| last - own)
            .collect();
        body.inner_slice(padded, &offsets, &behind, &stride, &self.positions)
    }

    /// Whether some element of a window may be padding or a hole.
    fn is_padded(&self) -> bool {
        !self.windows.unpadded()
    }
}

fn span(dim: &Dim, dilation: i64) -> Dim {
    match dilation {
        1 => dim.clone(),
        _ => &(&(dim - &Dim::from(1)) * &Dim::from(dilation)) + &Dim::from(1),
    }
}

/// What a maximum or minimum is not changed by.
fn neutral(body: &mut Body<'_>, dtype: DType, largest: bool) -> Value {
    let bits = 8 * dtype.size() as u32;
    match (dtype.class(), largest) {
        (Class::Float, true) => body.number(dtype, f64::INFINITY),
        (Class::Float, false) => body.number(dtype, f64::NEG_INFINITY),
        (Class::Signed, true) => body.integer(dtype, i64::MAX >> (64 - bits)),
        (Class::Signed, false) => body.integer(dtype, i64::MIN >> (64 - bits)),
        (Class::Unsigned | Class::Bool, true) => {
            body.integer(dtype, (u64::MAX >> (64 - bits)).cast_signed())
        }
        (Class::Unsigned | Class::Bool, false) => body.integer(dtype, 0),
    }
}

pub(super) fn reduce(body: &mut Body<'_>, op: &ReduceWindow, x: &Value, ty: &TensorType) -> Out {
    let dtype = x.dtype();
    let wide = match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        dtype => dtype,
    };
    let wide = body.cast(x, op.accumulate.unwrap_or(wide));
    if let Some(pool) = pool(body, op, &wide, ty)? {
        return Ok(round_to(body, &pool, dtype));
    }
    let slider = Slider::new(&op.windows, &ty.shape)?;
    let (operator, value) = match op.kind {
        WindowKind::Sum => ("Add", body.number(wide.dtype(), 0.0)),
        WindowKind::Max => ("Max", neutral(body, wide.dtype(), false)),
        WindowKind::Min => ("Min", neutral(body, wide.dtype(), true)),
    };
    let padded = slider.padded(body, &wide, &value)?;
    let mut total = slider.met(body, &padded, 0)?;
    for k in 1..slider.count() {
        let next = slider.met(body, &padded, k)?;
        total = body.same(operator, &[&total, &next]);
    }
    Ok(round_to(body, &total, dtype))
}

/// ONNX's own pools: they slide along the axes behind the first two, of f32, with padding that is smaller than the window.
fn pool(body: &mut Body<'_>, op: &ReduceWindow, x: &Value, ty: &TensorType) -> Out<Option<Value>> {
    let windows = &op.windows;
    let plain = |a: usize| {
        let axis = &windows.axes[a];
        let still = axis.stride == 1 && axis.low.constant() == Some(0);
        windows.sizes[a] == 1 && still && axis.high.constant() == Some(0) && axis.base_dilation == 1
    };
    let (kept, spatial): (Vec<usize>, Vec<usize>) = (0..x.rank()).partition(|a| plain(*a));
    let mut edges = Vec::new();
    for edge in [0, 1] {
        for a in &spatial {
            let (axis, size) = (&windows.axes[*a], windows.sizes[*a]);
            let pad = if edge == 0 { &axis.low } else { &axis.high };
            match pad.constant() {
                Some(pad) if (0..size).contains(&pad) && axis.base_dilation == 1 => edges.push(pad),
                Some(_) | None => return Ok(None),
            }
        }
    }
    let pools = match op.kind {
        WindowKind::Max | WindowKind::Min => matches!(x.dtype(), DType::F32 | DType::F64),
        // Its kernel knows no dilation before version 19, and f32 alone.
        WindowKind::Sum => {
            x.dtype() == DType::F32
                && spatial
                    .iter()
                    .all(|a| windows.axes[*a].window_dilation == 1)
        }
    };
    if !pools || spatial.is_empty() || spatial.len() > MOST_SPATIAL {
        return Ok(None);
    }
    // Kept axes in front: two of them, or one and one of size 1.
    let order: Vec<usize> = kept.iter().chain(&spatial).copied().collect();
    let front = body.transpose(x, &order);
    let tail = &front.shape()[kept.len()..].to_vec();
    let head: Vec<Dim> = match kept.len() {
        2 => front.shape()[..2].to_vec(),
        _ => {
            let all: Shape = front.shape()[..kept.len()].into();
            vec![all.elements(), Dim::from(1)]
        }
    };
    let shape: Shape = head.iter().chain(tail).cloned().collect();
    let mut input = body.reshape(&front, &shape)?;
    if op.kind == WindowKind::Min {
        input = body.same("Neg", &[&input]);
    }
    let list = |f: &dyn Fn(usize) -> i64| -> Vec<i64> { spatial.iter().map(|a| f(*a)).collect() };
    let sizes = list(&|a| windows.sizes[a]);
    let mut attributes = vec![
        attribute::ints("kernel_shape", sizes.clone()),
        attribute::ints("strides", list(&|a| windows.axes[a].stride)),
        attribute::ints("pads", edges),
    ];
    let operator = match op.kind {
        WindowKind::Max | WindowKind::Min => {
            let steps = list(&|a| windows.axes[a].window_dilation);
            attributes.push(attribute::ints("dilations", steps));
            "MaxPool"
        }
        WindowKind::Sum => {
            attributes.push(attribute::int("count_include_pad", 1));
            "AveragePool"
        }
    };
    let slid = spatial.iter().map(|a| ty.shape[*a].clone());
    let result: Shape = head.into_iter().chain(slid.clone()).collect();
    let mut pooled = body.typed(operator, &[&input], &[], attributes, result);
    match op.kind {
        WindowKind::Max => {}
        WindowKind::Min => pooled = body.same("Neg", &[&pooled]),
        WindowKind::Sum => {
            let count: i64 = sizes.iter().product();
            let count = body.number(x.dtype(), count as f64);
            pooled = body.same("Mul", &[&pooled, &count]);
        }
    }
    let back: Shape = kept
        .iter()
        .map(|a| ty.shape[*a].clone())
        .chain(slid)
        .collect();
    let pooled = body.reshape(&pooled, &back)?;
    let places = (0..x.rank()).filter_map(|axis| order.iter().position(|a| *a == axis));
    let places: Vec<usize> = places.collect();
    Ok(Some(body.transpose(&pooled, &places)))
}

/// The first of the extremes among the elements that are no padding.
pub(super) fn arg(body: &mut Body<'_>, op: &ArgWindow, x: &Value, ty: &TensorType) -> Out {
    let slider = Slider::new(&op.windows, &ty.shape)?;
    let operator = match op.kind {
        ArgKind::Max => "Greater",
        ArgKind::Min => "Less",
    };
    let x = signed(body, x);
    let value = neutral(body, x.dtype(), op.kind == ArgKind::Min);
    let padded = slider.padded(body, &x, &value)?;
    // Padding is worse than anything but its like, so which elements are real matters only for these.
    let real = match slider.is_padded() {
        true => {
            let yes = body.integer(DType::I32, 1);
            let ones = body.expand(&yes, &x.ty.shape)?;
            let no = body.integer(DType::I32, 0);
            Some(slider.padded(body, &ones, &no)?)
        }
        false => None,
    };
    let zero = body.integer(DType::I64, 0);
    let mut index = body.expand(&zero, &ty.shape)?;
    let mut best = slider.met(body, &padded, 0)?;
    let mut found = match &real {
        Some(real) => Some(slider.met(body, real, 0)?),
        None => None,
    };
    for k in 1..slider.count() {
        let next = slider.met(body, &padded, k)?;
        let mut beats = body.test(operator, &[&next, &best]);
        if x.dtype().is_float() {
            // The first NaN wins over all numbers.
            let (now, before) = (body.test("IsNaN", &[&next]), body.test("IsNaN", &[&best]));
            let not_before = body.same("Not", &[&before]);
            let first = body.same("And", &[&now, &not_before]);
            beats = body.same("Or", &[&beats, &first]);
        }
        if let (Some(real), Some(before)) = (&real, &found) {
            // The first real element beats what was none.
            let here = slider.met(body, real, k)?;
            let first = body.test("Greater", &[&here, before]);
            beats = body.same("Or", &[&beats, &first]);
            found = Some(body.same("Max", &[&here, before]));
        }
        let number = body.integer(DType::I64, k as i64);
        index = body.choose(&beats, &number, &index);
        best = body.choose(&beats, &next, &best);
    }
    Ok(body.cast(&index, ty.dtype))
}

/// Each position adds the one element whose number it has.
pub(super) fn gather(
    body: &mut Body<'_>,
    op: &GatherWindow,
    x: &Value,
    index: &Value,
    ty: &TensorType,
) -> Out {
    let slider = Slider::new(&op.windows, &ty.shape)?;
    let zero = body.number(x.dtype(), 0.0);
    let padded = slider.padded(body, x, &zero)?;
    let index = body.cast(index, DType::I64);
    let mut picked = body.expand(&zero, &ty.shape)?;
    for k in 0..slider.count() {
        let next = slider.met(body, &padded, k)?;
        let number = body.integer(DType::I64, k as i64);
        let here = body.test("Equal", &[&index, &number]);
        picked = body.choose(&here, &next, &picked);
    }
    Ok(picked)
}

/// The way back of [`gather`]: what has number `k` is put where element `k` of each window lies, and all of it is added.
pub(super) fn scatter(body: &mut Body<'_>, op: &ScatterWindow, x: &Value, index: &Value) -> Out {
    let slider = Slider::new(&op.windows, &x.ty.shape)?;
    let dtype = x.dtype();
    let wide = match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        dtype => dtype,
    };
    let x = body.cast(x, wide);
    let zero = body.number(wide, 0.0);
    let index = body.cast(index, DType::I64);
    let steps: Vec<i64> = op.windows.axes.iter().map(|a| a.stride - 1).collect();
    let strided: Shape = (x.shape().iter().zip(&op.windows.axes))
        .map(|(dim, axis)| span(dim, axis.stride))
        .collect();
    // All of it is added within the padded tensor, where no place is negative.
    let padded = slider.padded_shape(&op.shape);
    let mut total: Option<Value> = None;
    for k in 0..slider.count() {
        let number = body.integer(DType::I64, k as i64);
        let here = body.test("Equal", &[&index, &number]);
        let own = body.choose(&here, &x, &zero);
        let apart = body.dilate(&own, &steps, &zero, &strided)?;
        let low: Vec<Dim> = slider.offsets(k).into_iter().map(Dim::from).collect();
        let ends = strided.iter().zip(&low).map(|(span, low)| span + low);
        let high: Vec<Dim> = padded
            .iter()
            .zip(ends)
            .map(|(all, end)| all - &end)
            .collect();
        let placed = body.pad(&apart, &low, &high, &zero, &padded)?;
        total = Some(match total {
            Some(total) => body.same("Add", &[&total, &placed]),
            None => placed,
        });
    }
    let total = total.ok_or("a window without elements")?;
    let thinned = slider.unpadded(body, &total, &op.shape, &zero)?;
    Ok(round_to(body, &thinned, dtype))
}
