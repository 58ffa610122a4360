//! The contract between compiler and runtime: a [`Program`] is plain data, and [`Code`] finds its machine code.
//!
//! A program is a list of [`Step`]s over [`Buffer`]s whose sizes are symbolic. Once the symbols are bound, [`place`] gives every arena
//! buffer its offset; it is a pure function, so compiler reports and runtime agree on the peak without talking to each other. This file
//! computes nothing but placement: it never looks inside a kernel.

use crate::dim::{BindError, Bindings, Dim};
use crate::dtype::DType;
use crate::graph::Role;
use crate::ids::{BufferId, KernelId};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

mod control;
mod convolution;
mod custom;
mod place;
mod text;
mod verify;

pub use control::{
    Bodies, Branch, Copy, Loop, Part, Slice, Stretch, While, root_of, slices_of, stretch_of,
};
pub use convolution::{Convolution, Summation, View, WindowAxis};
pub use custom::{Argument, Custom};
pub use place::{ALIGNMENT, Placement, place};
pub use verify::{ProgramError, ProgramErrors, Rule};

/// A compiled graph, but for its machine code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// The name of the graph.
    pub name: String,
    /// What is fed at each step, in the order of declaration.
    pub inputs: Vec<Port>,
    /// Params and state, in the order of declaration.
    pub residents: Vec<Resident>,
    /// The results, in order. Two outputs never share a buffer, and none shares one with an input or a resident.
    pub outputs: Vec<Port>,
    /// All memory that the steps touch.
    pub buffers: Vec<Buffer>,
    /// The names of the kernels; a [`KernelId`] is a position here.
    pub kernels: Vec<String>,
    /// What a binding must meet before any step runs under it. Indices stay within their buffers only where all of them hold.
    pub requirements: Vec<Requirement>,
    /// What a step of the session runs, in order.
    pub steps: Vec<Step>,
}

/// A number that must not be negative under a binding: what a window leaves of its axis, an extent that is a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The number.
    pub value: Dim,
    /// What is wrong where it is negative, with the user's line.
    pub message: String,
}

/// A named input or output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// The name in the graph's signature.
    pub name: String,
    /// The type, with symbolic extents.
    pub ty: TensorType,
    /// Where the elements are, row-major.
    pub buffer: BufferId,
}

/// A param or state, which lives as long as the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resident {
    /// The name in the graph's signature.
    pub name: String,
    /// Param or state, and how it starts. Never [`Role::Input`].
    pub role: Role,
    /// The type.
    pub ty: TensorType,
    /// Where the elements are, row-major.
    pub buffer: BufferId,
}

/// A piece of memory that steps read and write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// What it holds, for people: the name of a slot or the node that wrote it first.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The number of elements.
    pub elements: Dim,
    /// Who provides the memory.
    pub home: Home,
}

/// Who provides the memory of a buffer, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Home {
    /// The caller, for the time of a step; only read.
    Input,
    /// The session, from its start to its end.
    Resident,
    /// The session; readable by the caller until the next step.
    Output,
    /// The program itself; only read. Row-major little-endian elements.
    Constant(Arc<[u8]>),
    /// The arena: shared with every buffer whose live range does not meet this one.
    Arena(LiveRange),
    /// One copy for each thread; its content does not outlive a launch.
    Scratch,
    /// One copy for each thread that runs iterations of a parallel [`Loop`], within whose body it lives: shared with every such buffer
    /// whose live range does not meet this one.
    Local(LiveRange),
    /// Another buffer: it is one entry of that, another one in each iteration of a loop.
    Slice(Slice),
    /// Another buffer without its first elements, or its last ones.
    Stretch(Stretch),
}

/// The steps, by position in [`Program::steps`], from the first write of a buffer to its last use, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRange {
    /// The step that writes first.
    pub first: usize,
    /// The step that uses last.
    pub last: usize,
}

impl LiveRange {
    /// Whether the two ranges share a step.
    pub fn meets(self, other: LiveRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// One thing that a session does within its step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Calls kernels, its parts, each over the whole of its outermost loop. None touches what another one writes, so that the parts may
    /// run in any order and at the same time: their work is shared out among threads as if it were one kernel's. At least one.
    Kernel(Vec<Launch>),
    /// A matrix product, panel by panel, each followed by the epilogue's share while it is in cache.
    Product(Product),
    /// A convolution, a few rows at a time, each followed by the epilogue's share while it is in cache.
    Convolution(Convolution),
    /// Refuses the step where a condition does not hold. All guards come before the first write to a resident.
    Guard(Guard),
    /// Runs the steps behind it so many times.
    Loop(Loop),
    /// Runs the steps behind it while a condition holds that some of them set.
    While(While),
    /// Runs some of the steps behind it or others.
    Branch(Branch),
    /// Copies elements as they are.
    Copy(Copy),
    /// Calls a custom op.
    Custom(Custom),
}

/// A call of a kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// Which kernel.
    pub kernel: KernelId,
    /// The kernel's parameters, in its order. One buffer may stand for an input and an output, where the kernel works in place.
    pub arguments: Vec<BufferId>,
    /// What the kernel does with each argument, in the same order. Where a buffer stands for two, the kernel reads each element before
    /// it overwrites it.
    pub access: Vec<Access>,
    /// The kernel's symbolic sizes, in its order.
    pub sizes: Vec<Dim>,
    /// The trip count of the outermost loop: the kernel is called with ranges that cut `0..total`.
    pub total: Dim,
    /// Ranges begin at multiples of this many iterations.
    pub grain: usize,
    /// The work of one iteration, in elements touched: small totals stay on one thread.
    pub work: Dim,
}

/// What a step does with the elements of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// Loads only.
    Read,
    /// Stores only.
    Write,
    /// Both; what is loaded is what the same call stored, or what the buffer held before.
    ReadWrite,
}

/// A strided matrix, or a batch of them, within a buffer. All numbers count elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// The buffer.
    pub buffer: BufferId,
    /// Where element (0, 0) of the first matrix lies.
    pub offset: Dim,
    /// From a row to the next.
    pub row_stride: Dim,
    /// From a column to the next.
    pub column_stride: Dim,
    /// From a matrix to the next, along each batch axis of the product.
    pub batch_strides: Vec<Dim>,
}

/// `dst = lhs . rhs` for every matrix of a batch: `[batch.., m, k] x [batch.., k, n]`.
///
/// The bits of the result are defined by the operands alone, however the runtime cuts it into panels and shares these out. The rows
/// that the epilogue counts are those of the whole batch: row `i` of matrix `j` is `j * m + i`, with `j` in row-major order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// What is multiplied, for people.
    pub name: String,
    /// The element type of operands and result.
    pub dtype: DType,
    /// The type in which sums are held.
    pub accumulate: DType,
    /// The order of the terms.
    pub summation: ProductSummation,
    /// The extents of the batch axes, outermost first.
    pub batch: Vec<Dim>,
    /// Rows of the left side and the result.
    pub m: Dim,
    /// Columns of the right side and the result.
    pub n: Dim,
    /// The contracted extent.
    pub k: Dim,
    /// `[batch.., m, k]`.
    pub lhs: Matrix,
    /// `[batch.., k, n]`.
    pub rhs: Matrix,
    /// `[batch.., m, n]`, row-major without gaps.
    pub dst: Matrix,
    /// What runs on the rows of each panel. Its `total` is the number of rows of the whole batch.
    pub epilogue: Option<Launch>,
}

/// In which order the terms of a product's element are summed. The runtime defines both to the bit (`kiln_runtime::product`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProductSummation {
    /// In ascending order, in one chain.
    Chain,
    /// In partial sums along the contracted axis: for f32 and f64, summed in themselves, where a vector is multiplied with a matrix that
    /// lies along that axis.
    Lanes,
    /// As six products of parts, each factor being the sum of three bf16: for f32, summed in itself. It is the way of units that multiply
    /// bf16 in tiles (AMX); machines without one take very long. Errors are those of a chain and smaller, where factors and terms are not
    /// tiny: parts and their products below the smallest normal number (1.2e-38) are 0, so that factors below 1e-33 and terms below
    /// 1e-30 begin to lose bits. A product that is not [large](Self::is_large) is a chain.
    Split,
}

impl ProductSummation {
    /// Whether a product of `[m, k]` and `[k, n]` is large enough to be split: each number is cut into parts once, which takes as long as some
    /// thirty multiplications, and a unit sums up 32 terms at a time.
    pub fn is_large(m: u64, n: u64, k: u64) -> bool {
        let [m, n] = [m, n].map(u128::from);
        // 1 / m + 1 / n <= 2 / 64
        k >= 32 && m > 0 && n > 0 && 32 * (m + n) <= m.saturating_mul(n)
    }
}

/// A condition that a fallible op set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// A buffer of one `bool`: the step goes on where it is true.
    pub condition: BufferId,
    /// What is wrong otherwise.
    pub message: String,
    /// The user's line and scope.
    pub location: String,
}

/// A compiled kernel: `(parameters, sizes, start, end, helpers)`.
///
/// `parameters` points to one pointer for each parameter, `sizes` to the values of [`Launch::sizes`] under the binding, and
/// `start..end` is the range of the outermost loop. `helpers` is what [`Code::helpers`] gave.
pub type KernelFn = unsafe extern "C" fn(
    parameters: *const *mut u8,
    sizes: *const i64,
    start: i64,
    end: i64,
    helpers: *const *const u8,
);

/// The machine code of a program; it stays loaded while this lives.
///
/// # Safety
/// For every kernel of the program that it was made with, `entry` is code that keeps to the program: called with pointers to buffers of
/// the sizes that the program gives under a binding, with the sizes of the same binding and a range within `0..total`, it reads and
/// writes inside those buffers only, stores only where the launch's `access` says so, and returns. Calls whose ranges do not overlap may
/// run on several threads at once, each with scratch buffers of its own. A `bool` that it stores is 0 or 1.
pub unsafe trait Code: Send + Sync {
    /// The entry of a kernel, or `None` where the program has no such kernel.
    fn entry(&self, kernel: KernelId) -> Option<KernelFn>;
    /// The table of helper functions that kernels call.
    fn helpers(&self) -> *const *const u8;
}

impl Program {
    /// The buffer named by `id`, if the program has it.
    pub fn buffer(&self, id: BufferId) -> Option<&Buffer> {
        self.buffers.get(id.index())
    }

    /// The bytes of a buffer under a binding.
    pub fn bytes(&self, id: BufferId, bindings: &Bindings) -> Result<usize, BindError> {
        self.buffer(id).map_or(Ok(0), |b| b.bytes(bindings))
    }
}

impl Buffer {
    /// The size in bytes under a binding.
    pub fn bytes(&self, bindings: &Bindings) -> Result<usize, BindError> {
        let elements = self.elements.eval_size(bindings)?;
        elements
            .checked_mul(self.dtype.size())
            .filter(|bytes| *bytes <= isize::MAX.unsigned_abs())
            .ok_or_else(|| BindError::OutOfRange {
                dim: self.elements.clone(),
            })
    }
}

impl Launch {
    /// The arguments, each with what the kernel does with it.
    pub fn accesses(&self) -> impl Iterator<Item = (BufferId, Access)> {
        let access = self.access.iter().copied();
        self.arguments.iter().copied().zip(access)
    }
}

impl Access {
    /// Whether elements may be loaded.
    pub const fn reads(self) -> bool {
        matches!(self, Access::Read | Access::ReadWrite)
    }

    /// Whether elements may be stored.
    pub const fn writes(self) -> bool {
        matches!(self, Access::Write | Access::ReadWrite)
    }
}

impl Step {
    /// Every buffer that the step itself touches, once for each mention; what the steps of its body touch is theirs.
    pub fn buffers(&self) -> Vec<BufferId> {
        match self {
            Step::Kernel(parts) => parts.iter().flat_map(|l| &l.arguments).copied().collect(),
            Step::Product(product) => {
                let mut all = vec![product.lhs.buffer, product.rhs.buffer, product.dst.buffer];
                all.extend(product.epilogue.iter().flat_map(|e| &e.arguments));
                all
            }
            Step::Convolution(c) => {
                let mut all = vec![c.lhs.buffer, c.rhs.buffer, c.dst.buffer];
                all.extend(c.epilogue.iter().flat_map(|e| &e.arguments));
                all
            }
            Step::Guard(guard) => vec![guard.condition],
            Step::Loop(_) => Vec::new(),
            Step::While(w) => vec![w.condition],
            Step::Branch(branch) => vec![branch.condition],
            Step::Copy(copy) => vec![copy.from.buffer, copy.to.buffer],
            Step::Custom(custom) => custom.tensors().map(|(buffer, ..)| buffer).collect(),
        }
    }

    /// Every call of a kernel that the step makes: its parts, or its epilogue.
    pub fn calls(&self) -> &[Launch] {
        match self {
            Step::Kernel(parts) => parts,
            Step::Product(product) => product.epilogue.as_slice(),
            Step::Convolution(convolution) => convolution.epilogue.as_slice(),
            Step::Guard(_)
            | Step::Loop(_)
            | Step::While(_)
            | Step::Branch(_)
            | Step::Copy(_)
            | Step::Custom(_) => &[],
        }
    }

    /// As [`calls`](Step::calls), to change them.
    pub fn calls_mut(&mut self) -> &mut [Launch] {
        match self {
            Step::Kernel(parts) => parts,
            Step::Product(product) => product.epilogue.as_mut_slice(),
            Step::Convolution(convolution) => convolution.epilogue.as_mut_slice(),
            Step::Guard(_)
            | Step::Loop(_)
            | Step::While(_)
            | Step::Branch(_)
            | Step::Copy(_)
            | Step::Custom(_) => &mut [],
        }
    }

    /// What the step itself does with its buffers, in phases: an epilogue reads what its product wrote, but within a phase the order of
    /// accesses is the kernel's business.
    pub fn phases(&self) -> Vec<Vec<(BufferId, Access)>> {
        match self {
            Step::Kernel(parts) => vec![parts.iter().flat_map(Launch::accesses).collect()],
            Step::Product(product) => {
                let matrices = vec![
                    (product.lhs.buffer, Access::Read),
                    (product.rhs.buffer, Access::Read),
                    (product.dst.buffer, Access::Write),
                ];
                let epilogue = product.epilogue.iter().map(|e| e.accesses().collect());
                std::iter::once(matrices).chain(epilogue).collect()
            }
            Step::Convolution(c) => {
                let views = vec![
                    (c.lhs.buffer, Access::Read),
                    (c.rhs.buffer, Access::Read),
                    (c.dst.buffer, Access::Write),
                ];
                let epilogue = c.epilogue.iter().map(|e| e.accesses().collect());
                std::iter::once(views).chain(epilogue).collect()
            }
            Step::Guard(guard) => vec![vec![(guard.condition, Access::Read)]],
            Step::Loop(_) => Vec::new(),
            Step::While(w) => vec![vec![(w.condition, Access::Read)]],
            Step::Branch(branch) => vec![vec![(branch.condition, Access::Read)]],
            Step::Copy(copy) => vec![vec![
                (copy.from.buffer, Access::Read),
                (copy.to.buffer, Access::Write),
            ]],
            Step::Custom(custom) => {
                let tensors = custom.tensors();
                vec![
                    tensors
                        .map(|(buffer, _, access)| (buffer, access))
                        .collect(),
                ]
            }
        }
    }
}
