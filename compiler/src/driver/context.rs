//! Where dumps go: to files of the dump folder, else to the caller's sink.

use crate::error::CompileError;
use crate::options::Options;
use crate::stage::Stage;
use kiln_ir::Graph;
use std::path::{Path, PathBuf};

/// Takes the dump of a stage.
pub type Sink<'a> = &'a mut dyn FnMut(Stage, &str);

/// The options of a compilation and where its dumps go. Every phase reports here what stage it has reached.
pub struct Context<'a> {
    options: &'a Options,
    sink: Option<Sink<'a>>,
}

impl<'a> Context<'a> {
    /// A context whose dumps go to the dump folder of the options; without a folder they go nowhere.
    pub fn new(options: &'a Options) -> Self {
        Self {
            options,
            sink: None,
        }
    }

    /// A context whose dumps go to `sink` where the options name no folder.
    pub fn with_sink(options: &'a Options, sink: Sink<'a>) -> Self {
        Self {
            options,
            sink: Some(sink),
        }
    }

    /// The options.
    pub fn options(&self) -> &'a Options {
        self.options
    }

    /// Reports that `stage` of the graph called `name` is reached: dumps `text` where the options ask for it, and ends the compilation
    /// where they ask for that. The text is made only when it is needed.
    ///
    /// # Errors
    /// [`CompileError::Dump`] and [`CompileError::Stopped`].
    pub fn reach(
        &mut self,
        stage: Stage,
        name: &str,
        text: impl FnOnce() -> String,
    ) -> Result<(), CompileError> {
        if self.options.dump.contains(&stage) {
            match (&self.options.dump_dir, &mut self.sink) {
                (Some(dir), _) => {
                    let path = dir.join(format!("{}.{stage}.{}", safe(name), stage.extension()));
                    write(&path, &text()).map_err(|error| CompileError::Dump {
                        stage,
                        path,
                        error,
                    })?;
                }
                (None, Some(sink)) => sink(stage, &text()),
                (None, None) => {}
            }
        }
        if self.options.stop_after == Some(stage) {
            Err(CompileError::Stopped(stage))
        } else {
            Ok(())
        }
    }
}

/// Writes the graph on which `pass` failed, and says where, or why that was not possible.
pub(super) fn write_failing_input(
    options: &Options,
    pass: &str,
    graph: &Graph,
) -> Result<PathBuf, String> {
    let dir = options
        .dump_dir
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join("kiln"));
    let path = dir.join(format!("{}.before-{pass}.kir", safe(&graph.name)));
    match write(&path, &graph.to_string()) {
        Ok(()) => Ok(path),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, text)
}

/// A graph's name as a file name: it may come from a file, so nothing of it may lead out of the folder.
fn safe(name: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let safe: String = name.chars().take(100).map(keep).collect();
    if safe.is_empty() {
        "graph".into()
    } else {
        safe
    }
}
