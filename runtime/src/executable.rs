//! A program with its machine code, ready to be opened as sessions.
//!
//! Everything that depends on neither a seed nor a binding is checked and prepared here: the program is verified, each kernel has its
//! entry, each product a type that exists, and constants lie aligned in memory. Sessions share all of it.

use crate::errors::SessionError;
use crate::layout::{Constant, constants};
use crate::memory::{AlignedBytes, OutOfMemory};
use crate::pool::default_threads;
use crate::product::ProductType;
use crate::report::MemoryReport;
use crate::session::{Session, SessionOptions};
use kiln_ir::ops::CallError;
use kiln_ir::program::{Code, KernelFn, Program, ProgramErrors, Step};
use kiln_ir::{BindError, Bindings, CustomOp, DType, KernelId};
use std::fmt;
use std::sync::Arc;

/// A verified program and its code. Cloning shares it.
#[derive(Clone)]
pub struct Executable {
    loaded: Arc<Loaded>,
}

/// Why a program cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The program breaks a rule; whoever made it has a bug, or its file is damaged.
    #[error("the program is not valid:\n{0}")]
    Program(#[from] ProgramErrors),
    /// The code lacks a kernel.
    #[error("the code has no kernel {id} ({name}); program and code do not belong together")]
    MissingKernel {
        /// The kernel.
        id: KernelId,
        /// Its name.
        name: String,
    },
    /// No product of these types exists.
    #[error(
        "the product {name:?} at step {step} multiplies {dtype} with sums in {accumulate}, which does not exist; f32 sums in f32 or f64, \
         f64 in f64, and integers in integers at least as wide"
    )]
    UnsupportedProduct {
        /// What is multiplied.
        name: String,
        /// The step.
        step: usize,
        /// The element type.
        dtype: DType,
        /// The type of the sums.
        accumulate: DType,
    },
    /// No convolution of these types exists.
    #[error(
        "the convolution {name:?} at step {step} multiplies {dtype} with sums in {accumulate}, which does not exist; f32 sums in f32 or \
         f64, f64 in f64, and integers in integers at least as wide"
    )]
    UnsupportedConvolution {
        /// What is convolved.
        name: String,
        /// The step.
        step: usize,
        /// The element type.
        dtype: DType,
        /// The type of the sums.
        accumulate: DType,
    },
    /// The code of a custom call is not there, or is not that of the op that the graph was built with.
    #[error("{source}; it is called at {location}")]
    Custom {
        /// What is missing.
        source: CallError,
        /// The user's line and scope.
        location: String,
    },
    /// No memory for the constants.
    #[error("the constants of the program do not fit: {0}")]
    Memory(#[from] OutOfMemory),
}

/// What sessions share.
pub(crate) struct Loaded {
    pub(crate) program: Program,
    pub(crate) code: Box<dyn Code>,
    /// By kernel.
    pub(crate) entries: Vec<KernelFn>,
    /// By step; `None` where the step is neither a product nor a convolution.
    pub(crate) products: Vec<Option<ProductType>>,
    /// By step; `None` where the step is no custom call.
    pub(crate) customs: Vec<Option<Arc<dyn CustomOp>>>,
    pub(crate) constants: AlignedBytes,
}

impl Executable {
    /// Verifies `program` and looks up its kernels in `code`.
    ///
    /// # Errors
    /// [`LoadError`]: an invalid program, a missing kernel, a product of types that do not exist, a custom op that is not registered.
    ///
    /// # Safety
    /// `code` was made for this very program: it keeps the promise of [`Code`] for the buffers, sizes and accesses that `program` states.
    /// The promise of `Code` speaks of the program that it was made with, and nothing here can tell that the two belong together.
    pub unsafe fn new(program: Program, code: Box<dyn Code>) -> Result<Executable, LoadError> {
        program.verify()?;
        let entries = program
            .kernels
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let id = KernelId::new(index);
                code.entry(id).ok_or_else(|| LoadError::MissingKernel {
                    id,
                    name: name.clone(),
                })
            })
            .collect::<Result<_, _>>()?;
        let products = program
            .steps
            .iter()
            .enumerate()
            .map(|(index, step)| match step {
                Step::Product(p) => match ProductType::of(p.dtype, p.accumulate) {
                    Some(found) => Ok(Some(found)),
                    None => Err(LoadError::UnsupportedProduct {
                        name: p.name.clone(),
                        step: index,
                        dtype: p.dtype,
                        accumulate: p.accumulate,
                    }),
                },
                Step::Convolution(c) => match ProductType::of(c.dtype, c.accumulate) {
                    Some(found) => Ok(Some(found)),
                    None => Err(LoadError::UnsupportedConvolution {
                        name: c.name.clone(),
                        step: index,
                        dtype: c.dtype,
                        accumulate: c.accumulate,
                    }),
                },
                Step::Kernel(_)
                | Step::Guard(_)
                | Step::Loop(_)
                | Step::While(_)
                | Step::Branch(_)
                | Step::Copy(_)
                | Step::Custom(_) => Ok(None),
            })
            .collect::<Result<_, _>>()?;
        let customs = program.steps.iter().map(load_custom);
        let customs = customs.collect::<Result<_, _>>()?;
        let constants = load_constants(&program)?;
        Ok(Executable {
            loaded: Arc::new(Loaded {
                program,
                code,
                entries,
                products,
                customs,
                constants,
            }),
        })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.loaded.program
    }

    /// How many distinct functions the kernels are: equal layers share theirs.
    pub fn functions(&self) -> usize {
        let entries = self.loaded.entries.iter();
        let mut addresses: Vec<usize> = entries.map(|entry| *entry as usize).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.len()
    }

    /// A session with the params and state that `seed` draws, one thread for each of the machine's, and no limit to memory.
    ///
    /// # Errors
    /// As [`Executable::session_with`].
    pub fn session(&self, seed: u64) -> Result<Session, SessionError> {
        self.session_with(&SessionOptions::new(seed))
    }

    /// A session with params and state drawn from their initialisers.
    ///
    /// # Errors
    /// [`SessionError`]: more memory than the limit or the machine allows, a param or state whose extents have no value, a fixed symbol
    /// that the program does not know, or threads that the system would not start.
    pub fn session_with(&self, options: &SessionOptions) -> Result<Session, SessionError> {
        Session::new(Arc::clone(&self.loaded), options)
    }

    /// What a session with the default number of threads needs under a binding, to the byte, without running or allocating anything.
    ///
    /// # Errors
    /// A symbol without a value, or a size out of range.
    pub fn memory(&self, bindings: &Bindings) -> Result<MemoryReport, BindError> {
        self.memory_with(bindings, default_threads().get())
    }

    /// [`Executable::memory`] for a number of threads.
    ///
    /// # Errors
    /// As [`Executable::memory`].
    pub fn memory_with(
        &self,
        bindings: &Bindings,
        threads: usize,
    ) -> Result<MemoryReport, BindError> {
        MemoryReport::of(&self.loaded.program, bindings, threads)
    }
}

impl fmt::Debug for Executable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executable({})", self.loaded.program.name)
    }
}

/// The code of a custom call.
fn load_custom(step: &Step) -> Result<Option<Arc<dyn CustomOp>>, LoadError> {
    match step {
        Step::Custom(custom) => {
            let found = custom.call.resolve(&custom.operands());
            found.map(Some).map_err(|source| LoadError::Custom {
                source,
                location: custom.location.clone(),
            })
        }
        Step::Kernel(_)
        | Step::Product(_)
        | Step::Convolution(_)
        | Step::Guard(_)
        | Step::Loop(_)
        | Step::While(_)
        | Step::Branch(_)
        | Step::Copy(_) => Ok(None),
    }
}

/// The constants in one aligned block, at the offsets of the layout, in the byte order of the machine.
fn load_constants(program: &Program) -> Result<AlignedBytes, OutOfMemory> {
    let constants = constants(program);
    let mut block = AlignedBytes::zeroed(constants.last().map_or(0, Constant::end))?;
    for constant in constants {
        let range = constant.offset..constant.offset + constant.bytes.len();
        let elements = &mut block.bytes_mut()[range];
        elements.copy_from_slice(constant.bytes);
        if cfg!(target_endian = "big") {
            elements
                .chunks_exact_mut(constant.dtype.size())
                .for_each(<[u8]>::reverse);
        }
    }
    Ok(block)
}
