//! The same steps in other frameworks: runs the peers' script for each framework that a workload has there.
//!
//! What could fail, a Python or a script that is not there, packages that are missing, is found before anything is timed. Nothing is
//! installed, and no figure of a peer is changed: its lines are passed on as the script prints them.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A framework of the script with the packages that it imports.
struct Framework {
    name: &'static str,
    packages: &'static [&'static str],
}

/// What the script has for every workload of this bench.
const FRAMEWORKS: [Framework; 5] = [
    Framework {
        name: "torch",
        packages: &["numpy", "torch"],
    },
    Framework {
        name: "torch_compile",
        packages: &["numpy", "torch"],
    },
    Framework {
        name: "jax",
        packages: &["numpy", "jax", "optax"],
    },
    Framework {
        name: "tf",
        packages: &["numpy", "tensorflow"],
    },
    Framework {
        name: "keras_fit",
        packages: &["numpy", "tensorflow"],
    },
];

/// Prints the names of its arguments that are no modules.
const MISSING: &str = "import importlib.util, sys
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])";

/// The peers that can be run.
pub(crate) struct Peers {
    python: PathBuf,
    script: PathBuf,
    frameworks: Vec<&'static str>,
}

impl Peers {
    /// Looks for the script, the Python and its packages. A framework whose packages are missing is left out, with a note on standard
    /// error.
    ///
    /// # Errors
    /// No script, no Python, or no framework for which the Python has the packages.
    pub(crate) fn find(python: &Path, script: &Path) -> Result<Peers, Box<dyn Error>> {
        if !script.is_file() {
            return Err(format!(
                "the peers' script {} is not there; --peers-script takes another path",
                script.display()
            )
            .into());
        }
        let missing = missing_packages(python)?;
        let mut frameworks = Vec::new();
        let mut lacking = Vec::new();
        for framework in &FRAMEWORKS {
            let packages = framework.packages.iter();
            let lacks: Vec<&str> = packages
                .copied()
                .filter(|package| missing.iter().any(|m| m == package))
                .collect();
            if lacks.is_empty() {
                frameworks.push(framework.name);
            } else {
                lacking.push(format!("{} needs {}", framework.name, lacks.join(" and ")));
            }
        }
        let python_shown = python.display();
        if frameworks.is_empty() {
            return Err(format!(
                "{python_shown} lacks the packages of all peers: {}; give a Python that has torch, jax with optax, or tensorflow",
                lacking.join(", ")
            )
            .into());
        }
        if !lacking.is_empty() {
            eprintln!(
                "note: {python_shown} lacks packages, so these peers are left out: {}",
                lacking.join(", ")
            );
        }
        Ok(Peers {
            python: python.to_owned(),
            script: script.to_owned(),
            frameworks,
        })
    }

    /// Runs every peer; `show` gets each line. What a peer says to standard error is told only where it fails.
    ///
    /// # Errors
    /// The peers that failed, all of them, behind the lines of those that did not.
    pub(crate) fn run(
        &self,
        workload: &str,
        threads: NonZeroUsize,
        mut show: impl FnMut(&str),
    ) -> Result<(), Box<dyn Error>> {
        let mut failures = Vec::new();
        for framework in &self.frameworks {
            let output = Command::new(&self.python)
                .arg(&self.script)
                .args([workload, framework, &threads.to_string()])
                .stdin(Stdio::null())
                .output()
                .map_err(|error| cannot_run(&self.python, &error))?;
            let lines = String::from_utf8_lossy(&output.stdout);
            // Frameworks greet on standard output too; the script's lines begin with the workload.
            for line in lines
                .lines()
                .filter(|l| l.split(' ').next() == Some(workload))
            {
                show(line);
            }
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                let last = said.lines().rfind(|line| !line.trim().is_empty());
                failures.push(format!(
                    "the peer {framework} failed ({}): {}",
                    output.status,
                    last.unwrap_or("it said nothing")
                ));
            }
        }
        if failures.is_empty() {
            return Ok(());
        }
        Err(failures.join("\n").into())
    }
}

/// The packages of [`FRAMEWORKS`] that a Python does not find.
fn missing_packages(python: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let output = Command::new(python)
        .args(["-c", MISSING])
        .args(FRAMEWORKS.iter().flat_map(|f| f.packages))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot_run(python, &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{} is no Python 3.4 or newer: {}",
            python.display(),
            said.trim()
        )
        .into());
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

fn cannot_run(python: &Path, error: &std::io::Error) -> String {
    format!(
        "cannot run {}: {error}; --peers takes the path of a Python",
        python.display()
    )
}
