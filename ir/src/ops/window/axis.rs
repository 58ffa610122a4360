//! How a window slides along one axis: positions, padding, and the windows of adjoints.
//!
//! All come from the equation of the parent module. Extents that are numbers are computed in 128 bits, so that nothing overflows whatever
//! a file says; polynomials saturate, as all extents do.

use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use serde::{Deserialize, Serialize};

/// No stride and no dilation is larger.
const MAX_STEP: i64 = 1 << 31;
/// No constant padding is larger, in either direction.
const MAX_PADDING: i64 = 1 << 40;

/// How a window slides along one axis. The extent of the window itself is not part of it: for `conv` it is the kernel's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowAxis {
    /// From one position of the window to the next, at least 1.
    pub stride: i64,
    /// How many elements of padding come before the first element; a negative number takes elements away.
    pub low: Dim,
    /// How many elements of padding come behind the last element; a negative number takes elements away.
    pub high: Dim,
    /// From one element of the operand to the next, at least 1: all but one of them are holes. `lhs_dilation` of `conv`.
    pub base_dilation: i64,
    /// From one element of the window to the next, at least 1. `rhs_dilation` of `conv`.
    pub window_dilation: i64,
}

impl Default for WindowAxis {
    /// Every position, no padding, no dilation.
    fn default() -> Self {
        Self {
            stride: 1,
            low: Dim::from(0),
            high: Dim::from(0),
            base_dilation: 1,
            window_dilation: 1,
        }
    }
}

impl WindowAxis {
    /// The padding, (low, high), with which a window of `window` elements has `ceil(base / stride)` positions: TensorFlow's `SAME`, an odd
    /// element at the high edge. Symbolic extents give exactly that extent, for which the high padding may become negative: it then takes
    /// away elements that no window meets.
    pub fn same_padding(&self, base: &Dim, window: &Dim) -> (Dim, Dim) {
        if self.stride < 1 {
            return (Dim::from(0), Dim::from(0));
        }
        let (zero, one) = (Dim::from(0), Dim::from(1));
        let base = span(base, self.base_dilation);
        let positions = steps(&base, self.stride);
        let last = &(&positions - &one) * &Dim::from(self.stride);
        let total = &(&last + &span(window, self.window_dilation)) - &base;
        // A window that is not smaller than its stride never leaves elements over.
        let covers = (window.constant()).is_some_and(|w| {
            (i128::from(w) - 1) * i128::from(self.window_dilation) + 1 >= i128::from(self.stride)
        });
        let padded = if covers && total.constant().is_none() {
            total.clone()
        } else {
            total.maximum(&zero)
        };
        let low = padded.floor_div(&Dim::from(2));
        let high = if base.constant().is_some() && total.constant().is_some() {
            &padded - &low
        } else {
            &total - &low
        };
        (low, high)
    }

    /// The number of positions of a window of `window` elements over `base` elements, or why it does not fit. `op` and `place` are for the
    /// message: "`conv`", "spatial axis 0".
    pub(in crate::ops) fn positions(
        &self,
        op: &str,
        place: &str,
        base: &Dim,
        window: &Dim,
    ) -> Result<Dim, Refusal> {
        let refuse =
            |why: String| Refusal::new(Kind::Attribute, format!("`{op}` along {place}: {why}"));
        let steps = [
            ("stride", self.stride, "1 visits every position"),
            (
                "dilation of the operand",
                self.base_dilation,
                "1 leaves no holes",
            ),
            (
                "dilation of the window",
                self.window_dilation,
                "1 takes neighbours",
            ),
        ];
        for (what, value, help) in steps {
            if !(1..=MAX_STEP).contains(&value) {
                return Err(refuse(format!("the {what} is {value}, not from 1 to 2^31")).help(help));
            }
        }
        for (what, padding) in [("low", &self.low), ("high", &self.high)] {
            if padding
                .constant()
                .is_some_and(|p| p.unsigned_abs() > MAX_PADDING.unsigned_abs())
            {
                return Err(refuse(format!(
                    "the {what} padding is {padding}, beyond 2^40"
                )));
            }
        }
        if window.constant().is_some_and(|w| w < 1) {
            return Err(refuse(format!("the window has {window} elements"))
                .help("a window has at least 1 element"));
        }
        match Numbers::of(self, base, window) {
            Some(numbers) => numbers.positions(self, op, place),
            None => {
                let padded = &(&self.low + &span(base, self.base_dilation)) + &self.high;
                let room = &padded - &span(window, self.window_dilation);
                if room.constant().is_some_and(|room| room < 0) {
                    return Err(Refusal::new(
                        Kind::Shape,
                        format!("`{op}` along {place}: the window is larger than the padded operand, {padded}"),
                    )
                    .help("pad the operand, or take a smaller window"));
                }
                // One step more, not one more position: windows side by side over `h` elements have `floordiv(h, 2)` positions.
                let stride = Dim::from(self.stride);
                Ok((&room + &stride).floor_div(&stride))
            }
        }
    }

    /// The window that computes the cotangent of the operand from that of the result: the same elements in reverse order, sliding over
    /// `positions`. `base`, `window` and `positions` are the extents of operand, window and result here.
    pub(in crate::ops) fn adjoint_of_base(
        &self,
        base: &Dim,
        window: &Dim,
        positions: &Dim,
    ) -> WindowAxis {
        let (low, high) = self.reversed_padding(base, window, positions);
        WindowAxis {
            stride: self.base_dilation,
            low,
            high,
            base_dilation: self.stride,
            window_dilation: self.window_dilation,
        }
    }

    /// The window that computes the cotangent of the window's own elements: the cotangent of the result, of `positions` elements, slides
    /// over the operand.
    pub(in crate::ops) fn adjoint_of_window(
        &self,
        base: &Dim,
        window: &Dim,
        positions: &Dim,
    ) -> WindowAxis {
        let reach = &last(window, self.window_dilation) - &self.low;
        let room = &last(positions, self.stride) - &last(base, self.base_dilation);
        WindowAxis {
            stride: self.window_dilation,
            low: self.low.clone(),
            high: &reach + &room,
            base_dilation: self.base_dilation,
            window_dilation: self.stride,
        }
    }

    /// As [`adjoint_of_window`](Self::adjoint_of_window), where the elements of the window are numbered from its end: the operand slides
    /// over the cotangent of the result.
    pub(in crate::ops) fn adjoint_of_reversed_window(
        &self,
        base: &Dim,
        window: &Dim,
        positions: &Dim,
    ) -> WindowAxis {
        let (low, high) = self.reversed_padding(base, window, positions);
        WindowAxis {
            stride: self.window_dilation,
            low,
            high,
            base_dilation: self.stride,
            window_dilation: self.base_dilation,
        }
    }

    /// What `low` becomes where the window is walked from its end, and the `high` that gives exactly the extents of this window.
    fn reversed_padding(&self, base: &Dim, window: &Dim, positions: &Dim) -> (Dim, Dim) {
        let low = &last(window, self.window_dilation) - &self.low;
        let high = &(&last(base, self.base_dilation) + &self.low) - &last(positions, self.stride);
        (low, high)
    }

    /// The element that element `k` of the window at position `s` meets, of an operand of `extent` elements; `low` is the low padding as a
    /// number. `None` where it meets padding or a hole.
    pub(in crate::ops) fn meets(
        &self,
        low: i64,
        s: usize,
        k: usize,
        extent: usize,
    ) -> Option<usize> {
        if self.is_hole(low, s, k) {
            return None;
        }
        usize::try_from(self.place(low, s, k) / i128::from(self.base_dilation))
            .ok()
            .filter(|p| *p < extent)
    }

    /// Whether element `k` of the window at position `s` meets a hole between two elements of the operand, or of its padding.
    pub(in crate::ops) fn is_hole(&self, low: i64, s: usize, k: usize) -> bool {
        let place = self.place(low, s, k);
        place.checked_rem(i128::from(self.base_dilation)) != Some(0)
    }

    /// Where element `k` of the window at position `s` lies on the dilated operand.
    fn place(&self, low: i64, s: usize, k: usize) -> i128 {
        let step = |count: usize, by: i64| count as i128 * i128::from(by);
        step(s, self.stride) + step(k, self.window_dilation) - i128::from(low)
    }
}

/// The distance of the last of `count` elements from the first.
fn last(count: &Dim, dilation: i64) -> Dim {
    &(count - &Dim::from(1)) * &Dim::from(dilation)
}

/// How many elements `count` of them span with their holes.
fn span(count: &Dim, dilation: i64) -> Dim {
    &last(count, dilation) + &Dim::from(1)
}

/// `ceil(count / stride)`. An exact quotient is found first, so that `2*h` by 2 is `h`.
fn steps(count: &Dim, stride: i64) -> Dim {
    let divisor = Dim::from(stride);
    match count.exact_div(&divisor) {
        Some(quotient) => quotient,
        None => (count + &Dim::from(stride.saturating_sub(1))).floor_div(&divisor),
    }
}

/// The extents along an axis where none is symbolic; wide enough that nothing overflows.
struct Numbers {
    base: i128,
    window: i128,
    /// What the padded, dilated operand spans.
    padded: i128,
    /// What the dilated window spans.
    span: i128,
}

impl Numbers {
    fn of(axis: &WindowAxis, base: &Dim, window: &Dim) -> Option<Self> {
        let number = |d: &Dim| d.constant().map(i128::from);
        let (base, window) = (number(base)?, number(window)?);
        let span = |count: i128, by: i64| (count - 1) * i128::from(by) + 1;
        let padding = number(&axis.low)? + number(&axis.high)?;
        Some(Self {
            base,
            window,
            padded: padding + span(base, axis.base_dilation),
            span: span(window, axis.window_dilation),
        })
    }

    fn positions(&self, axis: &WindowAxis, op: &str, place: &str) -> Result<Dim, Refusal> {
        let room = self.padded - self.span;
        let positions = room.div_euclid(i128::from(axis.stride)) + 1;
        // Of nothing there is nothing, and that is no mistake.
        if room < 0 && !(self.base == 0 && positions == 0) {
            return Err(self.too_large(axis, op, place));
        }
        i64::try_from(positions).map(Dim::from).map_err(|_| {
            Refusal::new(
                Kind::Shape,
                format!("`{op}` along {place}: {positions} positions are more than 2^63"),
            )
        })
    }

    fn too_large(&self, axis: &WindowAxis, op: &str, place: &str) -> Refusal {
        let mut window = format!("a window of {}", self.window);
        if self.span != self.window {
            window += &format!(", dilated to {},", self.span);
        }
        let mut operand = format!("the operand of {}", self.base);
        if self.padded != self.base {
            operand += &format!(" that is padded and dilated to {}", self.padded);
        }
        let fitting = (self.padded - 1).div_euclid(i128::from(axis.window_dilation)) + 1;
        let pad = format!("pad by {} more", self.span - self.padded);
        Refusal::new(
            Kind::Shape,
            format!("`{op}` along {place}: {window} is larger than {operand}"),
        )
        .help(if self.padded >= 1 {
            format!("{pad}, or take a window of at most {fitting}")
        } else {
            pad
        })
    }
}
