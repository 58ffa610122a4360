//! `conv`: the general convolution, StableHLO's `convolution` with groups that may lie in either of two axes of each tensor.
//!
//! Both adjoints of a convolution are convolutions of the same tensors: the three change their roles, and an axis its role with them. So
//! an adjoint needs no transpose and no reshape, only other [`ConvAxes`], other windows and groups in other places, and the op is closed
//! under differentiation of any order.

use super::labels::ConvAxes;
use super::{DataAxes, KernelAxes};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::window::{AxisNames, WindowAxis, is_empty, parse_axes, print_axes};
use crate::ops::{Effect, EvalCx, Rules, Vjp, accumulate, arrays, exactly};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

mod eval;
mod groups;

pub use groups::{ConvGroups, DataRole, KernelRole};

const NAMES: AxisNames = AxisNames {
    base: "lhs_dilation",
    window: "rhs_dilation",
};

/// The convolution of an operand, the left side, with a kernel, the right side. In one group and per spatial axis `a`
///
/// ```text
/// result[n, s.., o] = sum over k.., i of lhs[n, p.., i] * rhs[k.., i, o]
///     where p_a * lhs_dilation_a = s_a * stride_a + k_a * rhs_dilation_a - low_a
/// ```
///
/// and padding is 0, which is multiplied like everything else: an infinity in the kernel is seen there. Holes take no part. It is what deep learning calls a convolution: the kernel is not reversed unless `reverse` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv {
    /// Which axis of each tensor is what.
    pub axes: ConvAxes,
    /// How the kernel slides along each spatial axis; its extents are the kernel's own.
    pub window: Vec<WindowAxis>,
    /// Whether the kernel is read from its end along all spatial axes: element `k` of the window is `rhs[size - 1 - k]`.
    pub reverse: bool,
    /// The groups.
    pub groups: ConvGroups,
    /// What sums are accumulated in, where it is not the default of [`accumulator`](crate::ops::accumulator): f64 for a narrower float.
    pub accumulate: Option<DType>,
}

impl Conv {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "conv").then(|| {
            let axes: ConvAxes = attributes
                .word("dims")?
                .parse()
                .map_err(|_| AttributeError {
                    name: "dims".into(),
                    expected: "the axes of operand, kernel and result, such as b01f_01io->b01f"
                        .into(),
                })?;
            let window = parse_axes(attributes, axes.lhs.spatial.len(), &NAMES)?;
            let reverse = attributes.flag("reverse")?;
            Ok(Self {
                axes,
                window,
                reverse,
                groups: ConvGroups::parse(attributes)?,
                accumulate: accumulate::parse(attributes, ty.dtype)?,
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self {
            axes: ConvAxes::channels_last(1),
            window: vec![WindowAxis::default()],
            reverse: false,
            groups: ConvGroups::default(),
            accumulate: None,
        }]
    }

    /// What sums of `dtype` are accumulated in.
    pub fn accumulator(&self, dtype: DType) -> DType {
        self.accumulate.unwrap_or(accumulate::accumulator(dtype))
    }

    /// The extents within one group, or why the tensors do not fit.
    fn within_group(&self, lhs: &TensorType, rhs: &TensorType) -> Result<WithinGroup, Refusal> {
        let groups = &self.groups;
        let part = |what: &str, ty: &TensorType, axis: usize, split: bool| {
            let extent = &ty.shape[axis];
            if !split {
                return Ok(extent.clone());
            }
            extent.exact_div(&Dim::from(groups.count)).ok_or_else(|| {
                let help = match extent.constant() {
                    Some(_) => format!("the number of groups must divide {extent}"),
                    None => format!(
                        "declare the extent as a multiple of {0}, such as {0}*c",
                        groups.count
                    ),
                };
                Refusal::new(
                    Kind::Shape,
                    format!(
                        "`conv` in {} groups: {extent} {what} of {ty} are no multiple of {}",
                        groups.count, groups.count
                    ),
                )
                .help(help)
            })
        };
        let (l, r) = (&self.axes.lhs, &self.axes.rhs);
        let batch = groups.lhs == DataRole::Batch;
        let input = groups.rhs == KernelRole::Input;
        let found = WithinGroup {
            batch: part("examples", lhs, l.batch, batch)?,
            input: part("input features", lhs, l.feature, !batch)?,
            output: part("output features", rhs, r.output, !input)?,
        };
        let kernel_input = part("input features", rhs, r.input, input)?;
        if found.input != kernel_input {
            let mut fitting = rhs.shape.to_vec();
            let wanted = &found.input * &Dim::from(if input { groups.count } else { 1 });
            fitting[r.input] = wanted;
            let each = match groups.count {
                1 => String::new(),
                n => format!(" in each of {n} groups"),
            };
            return Err(Refusal::new(
                Kind::Shape,
                format!(
                    "`conv` of {} input features{each} with a kernel of {kernel_input}",
                    found.input
                ),
            )
            .help(format!("a kernel of shape {} fits", Shape::from(fitting))));
        }
        Ok(found)
    }

    fn check(&self, lhs: &TensorType, rhs: &TensorType) -> Result<(), Refusal> {
        if lhs.dtype != rhs.dtype || lhs.dtype == DType::Bool {
            return Err(Refusal::new(
                Kind::Type,
                format!("`conv` of {} and {}", lhs.dtype, rhs.dtype),
            )
            .help("both sides need the same numeric type; convert one"));
        }
        accumulate::check("conv", lhs.dtype, self.accumulate)?;
        let spatial = self.axes.lhs.spatial.len();
        if !self.axes.are_complete() || self.window.len() != spatial {
            return Err(Refusal::new(
                Kind::Attribute,
                format!(
                    "`conv` with the axes {} and windows along {} of them",
                    self.axes,
                    self.window.len()
                ),
            )
            .help(
                "each tensor has two axes and the same 1 to 3 spatial axes, as in b01f_01io->b01f",
            ));
        }
        for (side, ty) in [("operand", lhs), ("kernel", rhs)] {
            if ty.rank() != spatial + 2 {
                return Err(Refusal::new(
                    Kind::Shape,
                    format!("`conv` along {spatial} spatial axes with the {side} {ty}"),
                )
                .help(format!(
                    "it needs {} axes, as in {}",
                    spatial + 2,
                    self.axes
                )));
            }
        }
        self.groups.check()
    }

    /// The convolution of the cotangent with the kernel that is the cotangent of the operand.
    fn adjoint_of_lhs(&self, window: Vec<WindowAxis>) -> Conv {
        let rhs = &self.axes.rhs;
        Conv {
            axes: ConvAxes {
                lhs: self.axes.out.clone(),
                rhs: KernelAxes {
                    input: rhs.output,
                    output: rhs.input,
                    spatial: rhs.spatial.clone(),
                },
                out: self.axes.lhs.clone(),
            },
            window,
            reverse: !self.reverse,
            groups: ConvGroups {
                count: self.groups.count,
                lhs: self.groups.out,
                rhs: self.groups.rhs.swapped(),
                out: self.groups.lhs,
            }
            .normal(),
            accumulate: self.accumulate,
        }
    }

    /// The convolution that is the cotangent of the kernel: of operand and cotangent where the kernel is read forwards, and of cotangent and
    /// operand where it is read from its end, since then the cotangent moves against it.
    fn adjoint_of_rhs(&self, window: Vec<WindowAxis>) -> Conv {
        let (base, slider) = if self.reverse {
            (&self.axes.out, &self.axes.lhs)
        } else {
            (&self.axes.lhs, &self.axes.out)
        };
        let (base_groups, slider_groups) = if self.reverse {
            (self.groups.out, self.groups.lhs)
        } else {
            (self.groups.lhs, self.groups.out)
        };
        let rhs = &self.axes.rhs;
        // The features of the base become the examples of the result.
        let (batch, feature) = if self.reverse {
            (rhs.output, rhs.input)
        } else {
            (rhs.input, rhs.output)
        };
        let grouped = match (self.groups.rhs, self.reverse) {
            (KernelRole::Input, false) | (KernelRole::Output, true) => DataRole::Batch,
            (KernelRole::Output, false) | (KernelRole::Input, true) => DataRole::Feature,
        };
        Conv {
            axes: ConvAxes {
                lhs: DataAxes {
                    batch: base.feature,
                    feature: base.batch,
                    spatial: base.spatial.clone(),
                },
                rhs: KernelAxes {
                    input: slider.batch,
                    output: slider.feature,
                    spatial: slider.spatial.clone(),
                },
                out: DataAxes {
                    batch,
                    feature,
                    spatial: rhs.spatial.clone(),
                },
            },
            window,
            reverse: false,
            groups: ConvGroups {
                count: self.groups.count,
                lhs: base_groups.swapped(),
                rhs: slider_groups.as_kernel(),
                out: grouped,
            }
            .normal(),
            accumulate: self.accumulate,
        }
    }
}

/// Extents of the three kinds of index within one group.
struct WithinGroup {
    batch: Dim,
    input: Dim,
    output: Dim,
}

impl Rules for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [lhs, rhs] = exactly("conv", operands)?;
        self.check(lhs, rhs)?;
        let group = self.within_group(lhs, rhs)?;
        let count = Dim::from(self.groups.count);
        let whole = |part: Dim, split: bool| if split { &part * &count } else { part };
        let batch = self.groups.out == DataRole::Batch;
        let mut shape = vec![Dim::from(0); lhs.rank()];
        shape[self.axes.out.batch] = whole(group.batch, batch);
        shape[self.axes.out.feature] = whole(group.output, !batch);
        for (i, axis) in self.window.iter().enumerate() {
            let base = &lhs.shape[self.axes.lhs.spatial[i]];
            let kernel = &rhs.shape[self.axes.rhs.spatial[i]];
            let place = format!("spatial axis {i}");
            shape[self.axes.out.spatial[i]] = axis.positions("conv", &place, base, kernel)?;
        }
        Ok(TensorType::new(lhs.dtype, shape))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let [lhs, rhs] = cx.operands.as_slice() else {
            return Vec::new();
        };
        let (Some(l), Some(r), Some(out)) = (lhs.ty(), rhs.ty(), cx.cotangent.ty()) else {
            return vec![None, None];
        };
        let builder = lhs.builder();
        if [&l, &r, &out].iter().any(|ty| is_empty(&ty.shape)) {
            let zeros = |ty: TensorType| Some(builder.splat(ty.dtype, ty.shape, 0.0));
            return vec![zeros(l), zeros(r)];
        }
        let windows = |adjoint: fn(&WindowAxis, &Dim, &Dim, &Dim) -> WindowAxis| {
            let of = |(i, axis): (usize, &WindowAxis)| {
                adjoint(
                    axis,
                    &l.shape[self.axes.lhs.spatial[i]],
                    &r.shape[self.axes.rhs.spatial[i]],
                    &out.shape[self.axes.out.spatial[i]],
                )
            };
            self.window.iter().enumerate().map(of).collect()
        };
        let of_lhs = self.adjoint_of_lhs(windows(WindowAxis::adjoint_of_base));
        let dlhs = builder.push(of_lhs, &[cx.cotangent, *rhs]);
        let drhs = if self.reverse {
            let of_rhs = self.adjoint_of_rhs(windows(WindowAxis::adjoint_of_reversed_window));
            builder.push(of_rhs, &[cx.cotangent, *lhs])
        } else {
            let of_rhs = self.adjoint_of_rhs(windows(WindowAxis::adjoint_of_window));
            builder.push(of_rhs, &[*lhs, cx.cotangent])
        };
        vec![Some(dlhs), Some(drhs)]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [lhs, rhs] = arrays(operands)?;
        let pairs = eval::Pairs::of(self, lhs.shape(), rhs.shape(), cx)?;
        let values = match (lhs.values(), rhs.values()) {
            (Values::Float(l), Values::Float(r)) => Values::Float(
                (0..cx.count)
                    .map(|i| {
                        let mut sum = 0.0;
                        pairs.visit(i, |a, b| sum += a.map_or(0.0, |a| l[a]) * r[b]);
                        sum
                    })
                    .collect(),
            ),
            (Values::Int(l), Values::Int(r)) => Values::Int(
                (0..cx.count)
                    .map(|i| {
                        let mut sum = 0i64;
                        pairs.visit(i, |a, b| {
                            let a = a.map_or(0, |a| l[a]);
                            sum = sum.wrapping_add(a.wrapping_mul(r[b]));
                        });
                        sum
                    })
                    .collect(),
            ),
            (Values::Float(_) | Values::Int(_), _) => {
                return Err(EvalError::Invalid("`conv` of two families".into()));
            }
        };
        Array::new(lhs.dtype(), cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        let dims = Value::Word(self.axes.to_string());
        let attributes = Attributes::none().with("dims", dims);
        let attributes = print_axes(attributes, &self.window, &NAMES);
        let attributes = attributes.with_flag("reverse", self.reverse);
        accumulate::print(self.groups.print(attributes), self.accumulate)
    }
}
