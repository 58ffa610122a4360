//! Kernels as code in memory.
//!
//! Kernels that are equal but for their names are compiled once; the rest is shared out among threads, since Cranelift compiles each
//! function on its own. The code of all is copied into one piece of executable memory, which lives as long as the [`JitCode`]. Nothing is
//! linked: the code is free of relocations.

use crate::emit::{ALIGNMENT, EmitError, MachineCode, Target, Workspace, helper};
use crate::kernel::{Kernel, Param, Stmt};
use cranelift_jit::{ArenaMemoryProvider, BranchProtection, JITMemoryKind, JITMemoryProvider};
use kiln_ir::program::{Code, KernelFn};
use kiln_ir::{DType, KernelId};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The machine code of the kernels of a program, ready to run.
pub struct JitCode {
    /// Only touched when it is freed; the lock makes the code shareable among threads.
    memory: Mutex<ArenaMemoryProvider>,
    functions: Vec<Function>,
    /// The function of each kernel.
    kernels: Vec<usize>,
    compiled: Vec<MachineCode>,
}

/// A function in executable memory.
struct Function {
    name: String,
    entry: KernelFn,
    address: usize,
    length: usize,
}

/// Compiles kernels for this machine. The [`KernelId`] of a kernel is its position.
pub fn compile(kernels: &[Kernel]) -> Result<JitCode, EmitError> {
    compile_for(kernels, &Target::native()?)
}

/// [`compile`] with a choice of instructions.
pub fn compile_for(kernels: &[Kernel], target: &Target) -> Result<JitCode, EmitError> {
    let (distinct, kernels) = distinct(kernels);
    let compiled = compile_all(&distinct, target)?;
    load(&distinct, kernels, compiled)
}

/// Everything of a kernel but its name.
type Structure<'k> = (&'k [Param], &'k [DType], &'k [Stmt]);

/// Kernels that differ in more than their names, and which of them each kernel is.
fn distinct(kernels: &[Kernel]) -> (Vec<&Kernel>, Vec<usize>) {
    let mut found: HashMap<Structure<'_>, usize> = HashMap::new();
    let mut first = Vec::new();
    let positions = kernels
        .iter()
        .map(|kernel| {
            let structure = (
                kernel.params.as_slice(),
                kernel.values.as_slice(),
                kernel.body.as_slice(),
            );
            *found.entry(structure).or_insert_with(|| {
                first.push(kernel);
                first.len() - 1
            })
        })
        .collect();
    (first, positions)
}

/// Compiles on as many threads as there are cores; the first error in the order of the kernels is returned.
fn compile_all(kernels: &[&Kernel], target: &Target) -> Result<Vec<MachineCode>, EmitError> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = cores.min(kernels.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut workspace = Workspace::new();
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(kernel) = kernels.get(i) else {
                return done;
            };
            done.push((i, workspace.compile(kernel, target)));
        }
    };
    let mut done = if threads <= 1 {
        work()
    } else {
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for other in others {
                match other.join() {
                    Ok(more) => done.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            done
        })
    };
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, code)| code).collect()
}

/// Copies code into executable memory.
fn load(
    distinct: &[&Kernel],
    kernels: Vec<usize>,
    compiled: Vec<MachineCode>,
) -> Result<JitCode, EmitError> {
    let refuse = |e: &dyn std::fmt::Display| EmitError::Memory(e.to_string());
    let total: usize = compiled.iter().map(|c| c.bytes.len() + ALIGNMENT).sum();
    let mut memory = ArenaMemoryProvider::new_with_size(total.max(1)).map_err(|e| refuse(&e))?;
    // One allocation, since the arena rounds up to pages.
    let base = memory
        .allocate(total.max(1), ALIGNMENT as u64, JITMemoryKind::Executable)
        .map_err(|e| refuse(&e))?;
    let mut functions = Vec::with_capacity(compiled.len());
    let mut offset = 0;
    for (kernel, code) in distinct.iter().zip(&compiled) {
        let length = code.bytes.len();
        // SAFETY: `total` has room for every function, rounded up to the alignment, and the memory is writable until it is finalised.
        let address = unsafe {
            let address = base.add(offset);
            std::ptr::copy_nonoverlapping(code.bytes.as_ptr(), address, length);
            address
        };
        // SAFETY: the bytes are a function of this signature, and are run only once they are executable.
        let entry = unsafe { std::mem::transmute::<*mut u8, KernelFn>(address) };
        functions.push(Function {
            name: kernel.name.clone(),
            entry,
            address: address.addr(),
            length,
        });
        offset += length.next_multiple_of(ALIGNMENT);
    }
    memory
        .finalize(BranchProtection::None)
        .map_err(|e| refuse(&e))?;
    Ok(JitCode {
        memory: Mutex::new(memory),
        functions,
        kernels,
        compiled,
    })
}

impl JitCode {
    /// The number of functions, which is that of distinct kernels.
    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    /// The bytes of a kernel's code, which run wherever they are copied to, aligned to [`ALIGNMENT`].
    pub fn machine_code(&self, kernel: KernelId) -> Option<&MachineCode> {
        let function = self.kernels.get(kernel.index())?;
        self.compiled.get(*function)
    }

    /// The functions in the form of the file `/tmp/perf-<pid>.map`, by which `perf` names them.
    pub fn perf_map(&self) -> String {
        let mut lines = String::new();
        for function in &self.functions {
            let Function {
                name,
                address,
                length,
                ..
            } = function;
            let _ = writeln!(lines, "{address:x} {length:x} kiln::{name}");
        }
        lines
    }
}

impl std::fmt::Debug for JitCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.functions.iter().map(|f| f.name.as_str()).collect();
        f.debug_struct("JitCode")
            .field("functions", &names)
            .finish_non_exhaustive()
    }
}

impl Drop for JitCode {
    fn drop(&mut self) {
        let memory = self
            .memory
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: `Code` hands out entries for as long as this value lives, and callers keep it alive while they run them.
        unsafe { memory.free_memory() };
    }
}

// SAFETY: the emitter's code touches the elements that the kernel's indices name, which keep to the program's buffers, and returns; the
// memory is executable and unchanged for as long as this value lives.
unsafe impl Code for JitCode {
    fn entry(&self, kernel: KernelId) -> Option<KernelFn> {
        let function = self.kernels.get(kernel.index())?;
        self.functions.get(*function).map(|f| f.entry)
    }

    fn helpers(&self) -> *const *const u8 {
        helper::table()
    }
}
