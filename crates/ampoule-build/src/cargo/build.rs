use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::{Package, Target, Workspace, cannot_run, directory_of, profile};
use crate::place::Place;
use crate::script::BuildScript;
use crate::{BuildError, Guest};

/// What a successful build made, and from what.
#[derive(Debug, Default)]
pub(crate) struct Build {
    pub(crate) images: Vec<Image>,
    /// The guest's package and its path dependencies.
    pub(crate) local_packages: Vec<LocalPackage>,
    /// Whether the guest library is part of it.
    pub(crate) has_guest_library: bool,
}

#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) bin: String,
    pub(crate) path: PathBuf,
}

/// A package that is built from a path.
#[derive(Debug)]
pub(crate) struct LocalPackage {
    id: String,
    pub(crate) dir: PathBuf,
    /// The `OUT_DIR` of its build script, for every time the script was needed.
    pub(crate) build_script_outputs: Vec<PathBuf>,
}

/// Builds the guest's binaries. Messages of cargo and of the compiler go to the standard error stream.
pub(crate) fn build(
    script: &BuildScript,
    guest: &Guest,
    workspace: &Workspace,
    package: &Package,
    place: &Place,
) -> Result<Build, BuildError> {
    let mut child = command(script, guest, package, place)
        .envs(profile::line_tables(workspace, package, &guest.profile))
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|reason| cannot_run(script, reason))?;

    let mut build = Build::default();
    let mut compiled = None;
    for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).split(b'\n')) {
        let line = line.map_err(|reason| cannot_run(script, reason))?;
        // Procedural macros may print lines of their own in between.
        match serde_json::from_slice(&line) {
            Ok(Message::BuildFinished { success }) => compiled = Some(success),
            Ok(message) => build.note(message, &package.id),
            Err(_) => {}
        }
    }

    let status = child.wait().map_err(|reason| cannot_run(script, reason))?;
    match compiled {
        Some(_) if status.success() => Ok(build),
        Some(_) => Err(BuildError::Compile {
            package: package.name.clone(),
            lacks_guest_library: !package.depends_on_guest_library(),
        }),
        None => Err(BuildError::Cargo { manifest: package.manifest_path.clone(), status }),
    }
}

fn command(script: &BuildScript, guest: &Guest, package: &Package, place: &Place) -> Command {
    let mut command = super::command(script, guest, "build", &package.manifest_path);
    // In the root of a workspace, cargo would take its default members for what is meant.
    command.args(["--package", &package.id]);
    if guest.bins.is_empty() {
        command.arg("--bins");
    }
    for bin in &guest.bins {
        command.args(["--bin", bin]);
    }
    for feature in &guest.features {
        command.args(["--features", feature]);
    }
    if !guest.default_features {
        command.arg("--no-default-features");
    }
    command.args(["--profile", &guest.profile]);
    // Named even where it is the default: only with a target named, flags are kept from build scripts and macros.
    command.args(["--target", place.target()]);
    command.arg("--target-dir").arg(place.dir());
    // A configured build directory is the one that the outer cargo keeps locked until the build script ends.
    command.env("CARGO_BUILD_BUILD_DIR", place.dir());
    command.arg("--message-format=json-render-diagnostics");
    command
}

impl Build {
    fn note(&mut self, message: Message, guest_id: &str) {
        match message {
            Message::CompilerArtifact { package_id, manifest_path, target, executable } => {
                self.has_guest_library |= target.is_guest_library();
                if let Some(path) = executable.filter(|_| package_id == guest_id && target.is_bin()) {
                    self.images.push(Image { bin: target.name, path });
                }
                let known = self.local_packages.iter().any(|package| package.id == package_id);
                if package_id.starts_with(LOCAL_SOURCE) && !known {
                    let dir = directory_of(&manifest_path).to_owned();
                    self.local_packages.push(LocalPackage { id: package_id, dir, build_script_outputs: Vec::new() });
                }
            }
            // The script itself was compiled before, so its package is known.
            Message::BuildScriptExecuted { package_id, out_dir } => {
                if let Some(package) = self.local_packages.iter_mut().find(|package| package.id == package_id) {
                    package.build_script_outputs.push(out_dir);
                }
            }
            Message::BuildFinished { .. } | Message::Other => {}
        }
    }
}

/// A line of `cargo build --message-format=json`.
#[derive(Debug, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact {
        package_id: String,
        manifest_path: PathBuf,
        target: Target,
        executable: Option<PathBuf>,
    },
    BuildScriptExecuted {
        package_id: String,
        out_dir: PathBuf,
    },
    BuildFinished {
        success: bool,
    },
    #[serde(other)]
    Other,
}

/// How the identifier of a package begins whose source is a directory.
const LOCAL_SOURCE: &str = "path+";
