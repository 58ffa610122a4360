//! What the tests of emitted code share: buffers with guard zones, a way to run a kernel, and builders for small kernels.

use crate::elements::{Random, assert_same, decode, encode};
use crate::reference::interpret;
use kiln_compiler::emit::Target;
use kiln_compiler::jit::{self, JitCode};
use kiln_compiler::kernel::{
    Access, Accumulator, Expr, Index, Kernel, Loop, LoopId, LoopKind, Param, ParamId, Stmt, ValueId,
};
use kiln_ir::ops::Literal;
use kiln_ir::program::Code;
use kiln_ir::{Array, Bindings, DType, Dim, KernelId, Symbol, Values};

/// The lengths at which loops of four groups of four lanes, or of four times sixteen lanes, change their course.
pub(crate) const LENGTHS: [usize; 12] = [0, 1, 3, 4, 5, 15, 16, 17, 33, 64, 70, 145];

/// This machine with and without loops in full width, whose bits must not differ.
pub(crate) fn targets() -> [Target; 2] {
    let native = Target::native().unwrap();
    [native.clone(), native.without_wide()]
}

/// Elements in memory, with a guard zone on either side that must stay as it is.
#[derive(Clone)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
}

const GUARD: usize = 64;
/// The guard's bytes, which are NaN as floats and no bool.
const FILL: u8 = 0xff;

impl Buffer {
    pub(crate) fn of<T: Copy>(elements: &[T]) -> Self {
        let length = size_of_val(elements);
        let mut bytes = vec![FILL; length + 2 * GUARD];
        // SAFETY: the vector has `length` bytes behind the guard, and plain numbers have no padding.
        unsafe {
            let from = elements.as_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr().add(GUARD), length);
        }
        Self { bytes }
    }

    pub(crate) fn pointer(&mut self) -> *mut u8 {
        // SAFETY: the guard is part of the vector.
        unsafe { self.bytes.as_mut_ptr().add(GUARD) }
    }

    pub(crate) fn check_guards(&self) {
        let length = self.bytes.len();
        let (low, high) = (&self.bytes[..GUARD], &self.bytes[length - GUARD..]);
        assert!(
            low.iter().chain(high).all(|b| *b == FILL),
            "a kernel wrote outside of its buffer"
        );
    }

    pub(crate) fn to_vec<T: Copy>(&self) -> Vec<T> {
        self.check_guards();
        let count = (self.bytes.len() - 2 * GUARD) / size_of::<T>();
        // SAFETY: the elements are plain numbers that were written there.
        let at = |i: usize| unsafe {
            self.bytes
                .as_ptr()
                .add(GUARD + i * size_of::<T>())
                .cast::<T>()
                .read_unaligned()
        };
        (0..count).map(at).collect()
    }
}

/// A compiled kernel.
pub(crate) struct Compiled {
    pub(crate) kernel: Kernel,
    code: JitCode,
}

impl Compiled {
    pub(crate) fn new(kernel: Kernel) -> Self {
        Self::for_target(kernel, &Target::native().unwrap())
    }

    pub(crate) fn for_target(kernel: Kernel, target: &Target) -> Self {
        let code = jit::compile_for(std::slice::from_ref(&kernel), target);
        let code = code.unwrap_or_else(|e| panic!("{e:?}\n{kernel}"));
        Self { kernel, code }
    }

    /// Runs the kernel over the whole of its partition, with `n` bound.
    pub(crate) fn run(&self, n: usize, buffers: &mut [&mut Buffer]) {
        let mut bindings = Bindings::new();
        bindings.insert(Symbol::new("n"), n as i64);
        let total = self
            .kernel
            .partition()
            .map_or(1, |l| l.extent.eval(&bindings).unwrap());
        self.run_range(&bindings, 0..total, buffers);
    }

    pub(crate) fn run_range(
        &self,
        bindings: &Bindings,
        range: std::ops::Range<i64>,
        buffers: &mut [&mut Buffer],
    ) {
        assert_eq!(buffers.len(), self.kernel.params.len());
        let pointers: Vec<*mut u8> = buffers.iter_mut().map(|b| b.pointer()).collect();
        let sizes: Vec<i64> = self
            .kernel
            .sizes()
            .iter()
            .map(|d| d.eval(bindings).unwrap())
            .collect();
        let entry = self.code.entry(KernelId::new(0)).unwrap();
        // SAFETY: the tests give every kernel buffers of the sizes that it indexes.
        unsafe {
            entry(
                pointers.as_ptr(),
                sizes.as_ptr(),
                range.start,
                range.end,
                self.code.helpers(),
            );
        }
        buffers.iter().for_each(|b| b.check_guards());
    }
}

/// A kernel under construction.
pub(crate) struct Build {
    kernel: Kernel,
}

pub(crate) fn n() -> Dim {
    Dim::symbol("n")
}

pub(crate) fn i(number: u32) -> Index {
    Index::counter(LoopId(number))
}

impl Build {
    pub(crate) fn new(params: &[(DType, Access)]) -> Self {
        let params = params.iter().map(|(dtype, access)| Param {
            dtype: *dtype,
            access: *access,
        });
        let kernel = Kernel {
            name: "test".into(),
            params: params.collect(),
            values: Vec::new(),
            body: Vec::new(),
        };
        Self { kernel }
    }

    pub(crate) fn value(&mut self, dtype: DType) -> ValueId {
        self.kernel.values.push(dtype);
        ValueId(self.kernel.values.len() as u32 - 1)
    }

    pub(crate) fn dtype(&self, value: ValueId) -> DType {
        self.kernel.values[value.index()]
    }

    pub(crate) fn param(&mut self, dtype: DType, access: Access) {
        self.kernel.params.push(Param { dtype, access });
    }

    /// A statement that computes, and its value.
    pub(crate) fn compute(&mut self, body: &mut Vec<Stmt>, dtype: DType, expr: Expr) -> ValueId {
        let value = self.value(dtype);
        body.push(Stmt::Let { value, expr });
        value
    }

    pub(crate) fn load(&mut self, body: &mut Vec<Stmt>, param: u32, index: Index) -> ValueId {
        self.load_if(body, param, index, None)
    }

    pub(crate) fn load_if(
        &mut self,
        body: &mut Vec<Stmt>,
        param: u32,
        index: Index,
        predicate: Option<ValueId>,
    ) -> ValueId {
        let dtype = self.kernel.params[param as usize].dtype;
        self.compute(
            body,
            dtype,
            Expr::Load {
                param: ParamId(param),
                index,
                predicate,
            },
        )
    }

    pub(crate) fn float(&mut self, body: &mut Vec<Stmt>, dtype: DType, value: f64) -> ValueId {
        self.compute(body, dtype, Expr::Const(Literal::Float(value.to_bits())))
    }

    pub(crate) fn int(&mut self, body: &mut Vec<Stmt>, dtype: DType, value: i64) -> ValueId {
        self.compute(body, dtype, Expr::Const(Literal::Int(value)))
    }

    pub(crate) fn finish(mut self, body: Vec<Stmt>) -> Kernel {
        self.kernel.body = body;
        self.kernel
    }
}

pub(crate) fn store(param: u32, index: Index, value: ValueId) -> Stmt {
    store_if(param, index, value, None)
}

pub(crate) fn store_if(
    param: u32,
    index: Index,
    value: ValueId,
    predicate: Option<ValueId>,
) -> Stmt {
    Stmt::Store {
        param: ParamId(param),
        index,
        value,
        predicate,
    }
}

pub(crate) fn nest(kind: LoopKind, id: u32, extent: impl Into<Dim>, body: Vec<Stmt>) -> Stmt {
    folding(kind, id, extent, body, Vec::new())
}

pub(crate) fn folding(
    kind: LoopKind,
    id: u32,
    extent: impl Into<Dim>,
    body: Vec<Stmt>,
    accumulators: Vec<Accumulator>,
) -> Stmt {
    Stmt::Loop(Loop {
        id: LoopId(id),
        extent: extent.into(),
        kind,
        accumulators,
        body,
    })
}

/// A kernel that maps `n` elements of each operand to one result: `out[i] = f(a[i], ...)`.
pub(crate) fn map(
    operands: &[DType],
    result: DType,
    f: impl FnOnce(&mut Build, &mut Vec<Stmt>, &[ValueId]) -> ValueId,
) -> Kernel {
    let mut params: Vec<(DType, Access)> = operands.iter().map(|d| (*d, Access::Read)).collect();
    params.push((result, Access::Write));
    let mut build = Build::new(&params);
    let mut body = Vec::new();
    let loaded: Vec<ValueId> = (0..operands.len())
        .map(|p| build.load(&mut body, p as u32, i(0)))
        .collect();
    let value = f(&mut build, &mut body, &loaded);
    body.push(store(operands.len() as u32, i(0), value));
    build.finish(vec![nest(LoopKind::Lanes, 0, n(), body)])
}

/// f32 numbers, one parameter's worth.
pub(crate) fn float_param(count: usize) -> Array {
    let mut random = Random::new(99);
    let values = (0..count).map(|_| random.unit() * 8.0).collect();
    Array::new(DType::F32, vec![count], Values::Float(values)).unwrap()
}

/// The kernel and the reference agree in every element of every parameter, at the usual lengths.
pub(crate) fn agrees(kernel: &Kernel, params: impl Fn(usize) -> Vec<Array>) {
    agrees_over(kernel, &LENGTHS, params);
}

pub(crate) fn agrees_over(
    kernel: &Kernel,
    lengths: &[usize],
    params: impl Fn(usize) -> Vec<Array>,
) {
    for target in targets() {
        let compiled = Compiled::for_target(kernel.clone(), &target);
        for n in lengths {
            let bindings = bound(*n);
            let total = kernel
                .partition()
                .map_or(1, |l| l.extent.eval(&bindings).unwrap());
            compiled.agrees(&bindings, 0..total, &params(*n));
        }
    }
}

pub(crate) fn agrees_in_ranges(
    kernel: &Kernel,
    n: usize,
    ranges: &[std::ops::Range<i64>],
    params: impl Fn(usize) -> Vec<Array>,
) {
    for target in targets() {
        let compiled = Compiled::for_target(kernel.clone(), &target);
        for range in ranges {
            compiled.agrees(&bound(n), range.clone(), &params(n));
        }
    }
}

pub(crate) fn bound(n: usize) -> Bindings {
    let mut bindings = Bindings::new();
    bindings.insert(Symbol::new("n"), n as i64);
    bindings
}

impl Compiled {
    fn agrees(&self, bindings: &Bindings, range: std::ops::Range<i64>, params: &[Array]) {
        let mut buffers: Vec<Buffer> = params.iter().map(encode).collect();
        self.run_range(
            bindings,
            range.clone(),
            &mut buffers.iter_mut().collect::<Vec<_>>(),
        );
        let mut expected = params.to_vec();
        interpret(&self.kernel, bindings, range.clone(), &mut expected);
        for (p, (buffer, expected)) in buffers.iter().zip(&expected).enumerate() {
            let found = decode(expected.dtype(), buffer);
            let what = format!("p{p} with {bindings:?} over {range:?} of\n{}", self.kernel);
            assert_same(&found, expected, &[], &what);
        }
    }
}
