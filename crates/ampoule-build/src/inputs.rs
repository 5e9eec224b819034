use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::BuildError;
use crate::cargo::{Build, LocalPackage, Package, Workspace};

/// The files and directories on which a guest's build depends.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    paths: BTreeSet<PathBuf>,
}

impl Inputs {
    pub(crate) fn add(&mut self, path: &Path) {
        self.paths.insert(path.to_owned());
    }

    /// Adds what a successful build depends on.
    pub(crate) fn add_build(
        &mut self,
        build: &Build,
        workspace: &Workspace,
        guest: &Package,
        out_dir: &Path,
    ) -> Result<(), BuildError> {
        for image in &build.images {
            let path = image.path.with_extension("d");
            let text = fs::read_to_string(&path).map_err(|reason| BuildError::Read { path, reason })?;
            self.paths.extend(parse_dep_info(&text));
        }
        for package in &build.local_packages {
            self.add_local_package(package, out_dir);
        }
        self.add_present(workspace.root.join("Cargo.toml"));
        self.add_present(workspace.root.join("Cargo.lock"));
        for dir in guest.dir().ancestors() {
            self.add_present(dir.join(".cargo/config.toml"));
            self.add_present(dir.join(".cargo/config"));
        }
        Ok(())
    }

    /// Adds what may have to change before a failed build succeeds; no list of the files that were read is left by one.
    pub(crate) fn add_unbuilt(&mut self, guest: &Package, out_dir: &Path) {
        self.add_tree(guest.dir(), out_dir);
        for dependency in guest.path_dependencies() {
            self.add_tree(dependency, out_dir);
        }
    }

    /// Prints to cargo what calls for another build.
    pub(crate) fn announce(&self) {
        for directive in self.directives() {
            println!("{directive}");
        }
    }

    /// The lines by which cargo learns of the inputs.
    pub(crate) fn directives(&self) -> impl Iterator<Item = String> {
        self.paths.iter().map(|path| format!("cargo:rerun-if-changed={}", path.display()))
    }

    /// The dep-info lists the sources of local packages, with two gaps: packages behind one that is not local (by `[patch]`),
    /// and what a build script reads without naming it to cargo.
    fn add_local_package(&mut self, package: &LocalPackage, out_dir: &Path) {
        let listed = self.paths.iter().any(|path| path.starts_with(&package.dir));
        let silent = !package.build_script_outputs.iter().all(|output| names_inputs(output));
        if !listed || silent {
            self.add_tree(&package.dir, out_dir);
        }
        self.add(&package.dir.join("Cargo.toml"));
    }

    /// Adds everything in the directory of a package but what is not source as a rule: hidden files, and outputs of builds.
    fn add_tree(&mut self, dir: &Path, out_dir: &Path) {
        for entry in dir.read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if name != "target" && !name.to_string_lossy().starts_with('.') && !out_dir.starts_with(&path) {
                self.paths.insert(path);
            }
        }
    }

    /// Cargo takes a file that does not exist for one that always changes.
    fn add_present(&mut self, path: PathBuf) {
        if path.exists() {
            self.paths.insert(path);
        }
    }
}

/// The prerequisites in a dep-info file of cargo, which is one rule of a makefile: a space within a path stands behind a
/// backslash.
fn parse_dep_info(text: &str) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for line in text.lines() {
        let Some((_, prerequisites)) = line.split_once(": ") else {
            continue;
        };
        let mut path = String::new();
        for word in prerequisites.split(' ') {
            match word.strip_suffix('\\') {
                Some(beginning) => path.extend([beginning, " "]),
                None => {
                    path.push_str(word);
                    paths.extend((!path.is_empty()).then(|| PathBuf::from(&path)));
                    path.clear();
                }
            }
        }
    }
    paths
}

/// Whether a build script named to cargo what it depends on. What it printed is kept beside its output directory.
fn names_inputs(build_script_output: &Path) -> bool {
    fs::read_to_string(build_script_output.with_file_name("output")).is_ok_and(|printed| {
        printed.lines().any(|line| line.starts_with("cargo:rerun-if-") || line.starts_with("cargo::rerun-if-"))
    })
}

#[cfg(test)]
mod tests;
