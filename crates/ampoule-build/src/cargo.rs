//! The nested cargo: what it is asked, in which environment, and what it answers.

mod build;
mod environment;
mod profile;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

pub(crate) use self::build::{Build, LocalPackage, build};
use crate::script::BuildScript;
use crate::{BuildError, Guest};

/// The workspace of the guest; a package without one is its own workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    targets: Vec<Target>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    path: Option<PathBuf>,
}

/// A target in cargo's sense: a library, a binary or the like.
#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    /// The features without which a binary is not built; the messages of a build do not have them.
    #[serde(default, rename = "required-features")]
    required_features: Vec<String>,
}

impl Workspace {
    pub(crate) fn load(script: &BuildScript, guest: &Guest, manifest: &Path) -> Result<Self, BuildError> {
        let mut command = command(script, guest, "metadata", manifest);
        command.args(["--no-deps", "--format-version", "1"]);
        let output = command.stderr(Stdio::inherit()).output().map_err(|reason| cannot_run(script, reason))?;
        if !output.status.success() {
            return Err(BuildError::Cargo { manifest: manifest.to_owned(), status: output.status });
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|reason| BuildError::Metadata { manifest: manifest.to_owned(), reason })
    }

    /// The package of a canonical `manifest`.
    pub(crate) fn package(&self, manifest: &Path) -> Option<&Package> {
        self.packages.iter().find(|package| package.manifest_path.canonicalize().is_ok_and(|path| path == manifest))
    }
}

impl Package {
    pub(crate) fn dir(&self) -> &Path {
        directory_of(&self.manifest_path)
    }

    pub(crate) fn bins(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().filter(|target| target.is_bin()).map(|target| target.name.as_str())
    }

    /// Whether this binary is built only with features that it names.
    pub(crate) fn requires_features(&self, bin: &str) -> bool {
        let mut bins = self.targets.iter().filter(|target| target.is_bin());
        bins.any(|target| target.name == bin && !target.required_features.is_empty())
    }

    /// Whether the package itself depends on the guest library.
    pub(crate) fn depends_on_guest_library(&self) -> bool {
        self.dependencies.iter().any(|dependency| dependency.name == GUEST_LIBRARY)
    }

    /// Directories of the direct dependencies that have a path.
    pub(crate) fn path_dependencies(&self) -> impl Iterator<Item = &Path> {
        self.dependencies.iter().filter_map(|dependency| dependency.path.as_deref())
    }
}

impl Target {
    fn is_bin(&self) -> bool {
        self.kind.iter().any(|kind| kind == "bin")
    }

    /// Whether this is the library that makes a program a guest. Cargo has shown a hyphen in the name of a library as it is,
    /// and as the underscore by which code calls it.
    fn is_guest_library(&self) -> bool {
        self.name.replace('_', "-") == GUEST_LIBRARY && self.kind.iter().any(|kind| kind == "lib")
    }
}

fn command(script: &BuildScript, guest: &Guest, subcommand: &str, manifest: &Path) -> Command {
    let mut command = Command::new(&script.cargo);
    command.arg(subcommand).arg("--manifest-path").arg(manifest);
    if guest.locked {
        command.arg("--locked");
    }
    if guest.offline {
        command.arg("--offline");
    }
    // Cargo looks for its configuration files from here upwards.
    command.current_dir(directory_of(manifest));
    environment::prepare(&mut command, script, guest);
    command
}

fn cannot_run(script: &BuildScript, reason: std::io::Error) -> BuildError {
    BuildError::Run { program: script.cargo.clone(), reason }
}

fn directory_of(manifest: &Path) -> &Path {
    manifest.parent().unwrap_or(manifest)
}

/// The package without which no program has functions that a host can call.
const GUEST_LIBRARY: &str = "ampoule-guest";
