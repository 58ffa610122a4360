//! What the tests of the command share: a folder for each test, files in it, and the real binary run on them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A graph with an input, a param, a gradient step by hand and a repeated subexpression.
pub(crate) const STEP: &str = "kiln 1
graph @step<b>(%x: f32[b, 4]; param %w: f32[4] = constant(0.5)) {
  %0: f32[b, 4] = broadcast %w {axes = [1]}
  %1: f32[b, 4] = mul %x, %0
  %2: f32[b, 4] = mul %x, %0
  %3: f32[b, 4] = add %1, %2
  %4: f32[] = reduce %3 {kind = sum, axes = [0, 1]}
  %5: f32[4] = reduce %x {kind = sum, axes = [0]}
  %6: f32[4] = sub %w, %5
  return loss: %4
  update %w := %6
}
";

/// A folder that is removed when the test ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A new folder, whose name is the test's.
    pub(crate) fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("kiln-cli-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// The place of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs `kiln` in the folder, so that messages name files as they were given.
    pub(crate) fn kiln(&self, arguments: &[&str]) -> Ran {
        let output = command(&self.0).args(arguments).output().unwrap();
        Ran::new(output)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that cannot be removed is the system's to clean up.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The binary, to be run in `folder`.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.current_dir(folder);
    command
}

/// What a run said and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) out: String,
    pub(crate) err: String,
    /// `None` where a signal ended it.
    pub(crate) code: Option<i32>,
}

impl Ran {
    fn new(output: Output) -> Ran {
        Ran {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }

    /// Its output, where it ended well and said nothing on standard error.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// Its message, where a file was at fault.
    #[track_caller]
    pub(crate) fn wrong(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.err
    }

    /// Its message, where the command line was at fault.
    #[track_caller]
    pub(crate) fn usage(self) -> String {
        assert_eq!(self.code, Some(2), "{self:?}");
        self.err
    }
}
