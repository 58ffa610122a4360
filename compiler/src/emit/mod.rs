//! From kernels to machine code for this machine.
//!
//! Code is computed in one form only: *groups* of four lanes in 128-bit registers (`form.rs`). A value outside the lanes loop is the
//! same form with one number in all lanes, so that a number has the same bits wherever it is computed. The lanes loop runs four groups an
//! iteration, then one group at a time, whose surplus lanes repeat the last live element; so there is no scalar code beside the vector code.
//!
//! The emitted code is position-independent and free of relocations: constants lie behind the code, helpers are called through the table
//! that the kernel is handed. It contains no instruction that can trap: divisions are guarded, and masked loads are redirected to memory
//! that is always readable.
//!
//! What is refused: f16 and bf16, which have no lanes yet ([`EmitError::Unsupported`]), and machines without SSE 4.1.

use crate::kernel::{Expr, Kernel, KernelError};
use crate::math::wide::Width;
use cranelift_codegen::Context;
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{ExternalName, Function};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{CompiledCode, FinalizedRelocTarget};
use cranelift_frontend::FunctionBuilderContext;
use emitter::Emitted;
use kiln_ir::DType;

mod address;
pub(crate) mod analysis;
mod arithmetic;
mod columns;
mod convert;
mod emitter;
mod expr;
mod fold;
mod form;
pub mod helper;
mod integer;
mod machine;
mod memory;
mod nest;
mod philox;
pub mod recipes;
mod sort;
mod strips;
pub(crate) mod wide;
mod words;

/// Why there is no code for a kernel.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// The kernel breaks a rule of the language, which is a mistake of the lowering.
    #[error("kernel `{kernel}` is malformed")]
    Malformed {
        /// The kernel's name.
        kernel: String,
        /// The rule and the place.
        #[source]
        source: KernelError,
    },
    /// An element type without machine code.
    #[error("`{op}` of {dtype} has no machine code")]
    Unsupported {
        /// The element type.
        dtype: DType,
        /// The op that met it.
        op: String,
    },
    /// The machine lacks what the code needs.
    #[error("no code can be made for this machine: {0}")]
    Machine(String),
    /// Cranelift refused the function, which is a mistake of the emitter.
    #[error("Cranelift refused kernel `{kernel}`: {message}")]
    Codegen {
        /// The kernel's name.
        kernel: String,
        /// What Cranelift said.
        message: String,
    },
    /// The system gave no executable memory.
    #[error("no executable memory: {0}")]
    Memory(String),
}

/// What code is made for: the machine that the compiler runs on.
#[derive(Clone)]
pub struct Target {
    isa: OwnedTargetIsa,
    x64: bool,
    fma: bool,
    /// Whether lanes loops may run at the full width of AVX-512.
    wide: bool,
}

/// How hard Cranelift tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// The order of the emitter is kept.
    None,
    /// Values are numbered and placed anew.
    Speed,
}

impl Target {
    /// This machine, with all the instructions that it has.
    pub fn native() -> Result<Target, EmitError> {
        Target::with_effort(Effort::None)
    }

    /// This machine, with a choice of Cranelift's optimisation level.
    pub fn with_effort(effort: Effort) -> Result<Target, EmitError> {
        let refuse = |e: &dyn std::fmt::Display| EmitError::Machine(e.to_string());
        let level = match effort {
            Effort::None => "none",
            Effort::Speed => "speed",
        };
        let verifier = if cfg!(debug_assertions) {
            "true"
        } else {
            "false"
        };
        let mut flags = settings::builder();
        for (name, value) in [
            ("opt_level", level),
            ("enable_verifier", verifier),
            ("unwind_info", "false"),
            ("enable_probestack", "false"),
            ("log2_min_function_alignment", "5"),
        ] {
            flags.set(name, value).map_err(|e| refuse(&e))?;
        }
        let builder = cranelift_native::builder().map_err(|e| refuse(&e))?;
        let isa = builder
            .finish(settings::Flags::new(flags))
            .map_err(|e| refuse(&e))?;
        let x64 = cfg!(target_arch = "x86_64");
        let has = |name: &str| {
            isa.isa_flags()
                .into_iter()
                .any(|flag| flag.name == name && flag.as_bool() == Some(true))
        };
        if x64 && !has("has_sse41") {
            return Err(EmitError::Machine("SSE 4.1 is needed".into()));
        }
        let fma = !x64 || (has("has_avx") && has("has_fma"));
        let wide = fma && Width::native() == Width::Avx512 && has("has_bmi2");
        Ok(Target {
            isa,
            x64,
            fma,
            wide,
        })
    }

    /// The same machine, made to do without full-width loops; the results have the same bits.
    pub fn without_wide(mut self) -> Target {
        self.wide = false;
        self
    }

    /// The same machine, made to do without fused multiply-add instructions; the results have the same bits.
    pub fn without_fma(mut self) -> Target {
        self.fma = false;
        self.wide = false;
        self
    }
}

/// Machine code of one kernel, which runs wherever it is copied to, aligned to [`ALIGNMENT`].
#[derive(Clone, Debug)]
pub struct MachineCode {
    /// The instructions and the constants behind them.
    pub bytes: Vec<u8>,
}

/// What the start of a function is a multiple of, in bytes.
pub const ALIGNMENT: usize = 64;

/// What a thread keeps between the functions that it compiles.
pub struct Workspace {
    context: Context,
    builder: FunctionBuilderContext,
    /// The instructions of the full-width functions of the last kernel.
    text: Vec<String>,
}

impl Workspace {
    /// An empty workspace.
    pub fn new() -> Self {
        Self {
            context: Context::new(),
            builder: FunctionBuilderContext::new(),
            text: Vec::new(),
        }
    }

    /// Compiles a kernel.
    pub fn compile(&mut self, kernel: &Kernel, target: &Target) -> Result<MachineCode, EmitError> {
        self.compile_as(kernel, target, false)
    }

    fn compile_as(
        &mut self,
        kernel: &Kernel,
        target: &Target,
        disassemble: bool,
    ) -> Result<MachineCode, EmitError> {
        self.context.clear();
        self.context.set_disasm(disassemble);
        // What is left of a function that was given up would be taken for the beginning of the next one.
        let emitted = function(kernel, target, &mut self.builder)
            .inspect_err(|_| self.builder = FunctionBuilderContext::new())?;
        self.context.func = emitted.function;
        let refuse = |message: String| EmitError::Codegen {
            kernel: kernel.name.clone(),
            message,
        };
        self.context
            .compile(&*target.isa, &mut ControlPlane::default())
            .map_err(|e| refuse(format!("{:?}", e.inner)))?;
        let code = self.context.compiled_code();
        let code = code.ok_or_else(|| refuse("there is no code".into()))?;
        let bytes = link(code, &self.context.func, &emitted.functions).map_err(refuse)?;
        self.text = emitted
            .functions
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        Ok(MachineCode { bytes })
    }
}

/// Puts the full-width functions behind the code that calls them, and the distances into the calls.
fn link(
    code: &CompiledCode,
    function: &Function,
    functions: &[(Vec<u8>, String)],
) -> Result<Vec<u8>, String> {
    let mut bytes = code.code_buffer().to_vec();
    let mut starts = Vec::with_capacity(functions.len());
    for (function, _) in functions {
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        starts.push(bytes.len());
        bytes.extend(function);
    }
    for relocation in code.buffer.relocs() {
        let start = match (&relocation.kind, &relocation.target) {
            (
                Reloc::X86CallPCRel4,
                FinalizedRelocTarget::ExternalName(ExternalName::User(name)),
            ) => {
                let name = &function.params.user_named_funcs()[*name];
                starts.get(name.index as usize).copied()
            }
            _ => None,
        };
        let start = start.ok_or_else(|| format!("the code needs {relocation:?}"))?;
        let at = relocation.offset as usize;
        let distance = start as i64 + relocation.addend - at as i64;
        let distance = i32::try_from(distance).map_err(|_| "a call is too far".to_string())?;
        bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
    }
    Ok(bytes)
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

/// The Cranelift function of a kernel.
fn function(
    kernel: &Kernel,
    target: &Target,
    workspace: &mut FunctionBuilderContext,
) -> Result<Emitted, EmitError> {
    crate::kernel::verify(kernel).map_err(|source| EmitError::Malformed {
        kernel: kernel.name.clone(),
        source,
    })?;
    emitter::emit(kernel, target, workspace)
}

/// The Cranelift IR of a kernel, for dumps.
pub fn clif_text(kernel: &Kernel, target: &Target) -> Result<String, EmitError> {
    let emitted = function(kernel, target, &mut FunctionBuilderContext::new())?;
    Ok(emitted.function.display().to_string())
}

/// The machine instructions of a kernel, for dumps.
pub fn asm_text(kernel: &Kernel, target: &Target) -> Result<String, EmitError> {
    let mut workspace = Workspace::new();
    workspace.compile_as(kernel, target, true)?;
    let code = workspace.context.compiled_code();
    let mut text = code.and_then(|c| c.vcode.clone()).unwrap_or_default();
    for (i, function) in workspace.text.iter().enumerate() {
        text += &format!("\nfull-width function {i}:\n{function}");
    }
    Ok(text)
}

/// The spelling of an expression's op, for messages.
fn op_name(expr: &Expr) -> String {
    match expr {
        Expr::Load { .. } => "load".into(),
        Expr::Const(_) => "const".into(),
        Expr::Index(_) => "index".into(),
        Expr::Unary(op, _) => crate::kernel::spell(op),
        Expr::Binary(op, ..) => crate::kernel::spell(op),
        Expr::Compare(op, ..) => crate::kernel::spell(op),
        Expr::Select(..) => "select".into(),
        Expr::Fma(..) => "fma".into(),
        Expr::Convert(_) => "convert".into(),
        Expr::Bitcast(_) => "bitcast".into(),
        Expr::Philox { .. } => "philox".into(),
    }
}
