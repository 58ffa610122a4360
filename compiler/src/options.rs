//! What a user can choose about a compilation, and the one place that reads environment variables.

use crate::stage::Stage;
use std::ffi::OsString;
use std::path::PathBuf;

/// How kernels use registers wider than the 128 bits in which Cranelift computes. Results have the same bits in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullWidth {
    /// Not at all, so that kernels are the same on every machine.
    Never,
    /// Transcendental functions are called for strips of elements.
    Strips,
    /// Straight-line loops are emitted in full width, and strips do for the others.
    Always,
}

/// The choices of one compilation. None but [`split_products`](Options::split_products) changes a result by a single bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether the passes behind the equality point run: algebra, folding, sharing, dead code. Off, the graph is only legalised.
    pub optimize: bool,
    /// Whether ops are fused into groups; off, each op is a kernel of its own.
    pub fuse: bool,
    /// In which order the groups of a step run, as far as their dependencies leave a choice.
    pub order: Order,
    /// How kernels use registers wider than 128 bits, where the machine has them.
    pub full_width: FullWidth,
    /// Whether large products of f32 are summed in parts of bf16, six products of parts for each one
    /// ([`ProductSummation::Split`](kiln_ir::program::ProductSummation::Split), which says how exact that is: more than f32, but for tiny
    /// numbers), which makes them half as fast again on machines that multiply bf16 in tiles (AMX). For others the facade's `compile` turns
    /// it off, since they would compute them one element after the other. Off, products have the same bits on all machines, and the system
    /// is not asked for the right to tiles.
    pub split_products: bool,
    /// Whether every pass result is verified.
    pub verify: bool,
    /// The stages to dump, ascending, each once.
    pub dump: Vec<Stage>,
    /// Where dumps go, and the input of a pass that fails. Without it dumps go to the sink of the
    /// [`Context`](crate::driver::Context), and a failing pass's input to the system's folder for temporary files.
    pub dump_dir: Option<PathBuf>,
    /// The stage behind which the compilation ends with [`CompileError::Stopped`](crate::CompileError::Stopped).
    pub stop_after: Option<Stage>,
    /// Whether the caller should print the timings, which are always measured.
    pub time: bool,
    /// Whether the caller should write a perf map, by which `perf` names the kernels.
    pub perf_map: bool,
}

/// How the steps of a program are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// What leaves the least memory alive comes first, so that gradients die into their updates.
    LeastMemory,
    /// As the nodes were written: what a plan is compared with.
    Topological,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            optimize: true,
            fuse: true,
            order: Order::LeastMemory,
            full_width: FullWidth::Always,
            split_products: true,
            verify: true,
            dump: Vec::new(),
            dump_dir: None,
            stop_after: None,
            time: false,
            perf_map: false,
        }
    }
}

/// An environment variable with a value that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {variable}={value}: {expected}")]
pub struct OptionsError {
    /// The variable.
    pub variable: &'static str,
    /// Its value, as far as it is text.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

impl Options {
    /// The defaults, changed by the environment:
    ///
    /// - `KILN_DUMP`: stages to dump, separated by commas, or `all`;
    /// - `KILN_DUMP_DIR`: the folder for dumps;
    /// - `KILN_STOP_AFTER`: the stage behind which the compilation ends;
    /// - `KILN_SPLIT_PRODUCTS`, `KILN_VERIFY`, `KILN_TIME`, `KILN_PERF_MAP`: `1` or `0`.
    ///
    /// A variable that is empty counts as not set.
    pub fn from_env() -> Result<Self, OptionsError> {
        Self::from_variables(std::env::var_os)
    }

    /// As [`from_env`](Self::from_env), with the variables taken from `read`.
    pub fn from_variables(
        read: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Self, OptionsError> {
        let set = |name| read(name).filter(|v| !v.is_empty());
        let text = |variable| match set(variable).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(raw)) => Err(OptionsError {
                variable,
                value: raw.to_string_lossy().into_owned(),
                expected: "expected text in UTF-8".into(),
            }),
        };
        let mut options = Self::default();
        if let Some(list) = text("KILN_DUMP")? {
            options.dump = stages("KILN_DUMP", &list)?;
        }
        options.dump_dir = set("KILN_DUMP_DIR").map(PathBuf::from);
        if let Some(name) = text("KILN_STOP_AFTER")? {
            options.stop_after = Some(stage("KILN_STOP_AFTER", &name, &name)?);
        }
        if let Some(value) = text("KILN_SPLIT_PRODUCTS")? {
            options.split_products = switch("KILN_SPLIT_PRODUCTS", &value)?;
        }
        if let Some(value) = text("KILN_VERIFY")? {
            options.verify = switch("KILN_VERIFY", &value)?;
        }
        if let Some(value) = text("KILN_TIME")? {
            options.time = switch("KILN_TIME", &value)?;
        }
        if let Some(value) = text("KILN_PERF_MAP")? {
            options.perf_map = switch("KILN_PERF_MAP", &value)?;
        }
        Ok(options)
    }
}

fn stages(variable: &'static str, list: &str) -> Result<Vec<Stage>, OptionsError> {
    if list == "all" {
        return Ok(Stage::ALL.to_vec());
    }
    let mut stages: Vec<Stage> = list
        .split(',')
        .map(|name| stage(variable, list, name.trim()))
        .collect::<Result<_, _>>()?;
    stages.sort_unstable();
    stages.dedup();
    Ok(stages)
}

fn stage(variable: &'static str, value: &str, name: &str) -> Result<Stage, OptionsError> {
    name.parse()
        .map_err(|e: crate::stage::UnknownStage| OptionsError {
            variable,
            value: value.to_owned(),
            expected: e.to_string(),
        })
}

fn switch(variable: &'static str, value: &str) -> Result<bool, OptionsError> {
    match value {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(OptionsError {
            variable,
            value: value.to_owned(),
            expected: "expected 1 or 0".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &str)]) -> Result<Options, OptionsError> {
        Options::from_variables(|name| {
            pairs
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| OsString::from(v))
        })
    }

    #[test]
    fn variables_change_the_defaults() {
        assert_eq!(read(&[]), Ok(Options::default()));
        let options = read(&[
            ("KILN_DUMP", "fused, optimized,fused"),
            ("KILN_DUMP_DIR", "out/dumps"),
            ("KILN_STOP_AFTER", "kernels"),
            ("KILN_SPLIT_PRODUCTS", "0"),
            ("KILN_VERIFY", "0"),
            ("KILN_TIME", "1"),
            ("KILN_PERF_MAP", "1"),
        ])
        .unwrap();
        assert_eq!(options.dump, [Stage::Optimized, Stage::Fused]);
        assert_eq!(options.dump_dir, Some("out/dumps".into()));
        assert_eq!(options.stop_after, Some(Stage::Kernels));
        assert!(!options.split_products);
        assert!(!options.verify && options.time && options.fuse && options.perf_map);
        assert_eq!(read(&[("KILN_DUMP", "all")]).unwrap().dump, Stage::ALL);
        assert_eq!(read(&[("KILN_VERIFY", "")]), Ok(Options::default()));
    }

    #[test]
    fn bad_values_are_named_with_what_would_be_right() {
        let message = read(&[("KILN_DUMP", "fused,ast")]).unwrap_err().to_string();
        assert!(
            message
                .starts_with("the environment variable KILN_DUMP=fused,ast: unknown stage `ast`"),
            "{message}"
        );
        let message = read(&[("KILN_TIME", "yes")]).unwrap_err().to_string();
        assert_eq!(
            message,
            "the environment variable KILN_TIME=yes: expected 1 or 0"
        );
        assert!(read(&[("KILN_STOP_AFTER", "fused,clif")]).is_err());
    }
}
