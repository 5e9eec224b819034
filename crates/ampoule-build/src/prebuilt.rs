//! Images that are there already: of guests in other languages, and of applications that are shipped with built guests.

use std::fs;
use std::path::{Path, PathBuf};

use crate::announced::announce;
use crate::guest::end_on_error;
use crate::inputs::Inputs;
use crate::script::BuildScript;
use crate::{Artifact, BuildError};

/// Names an image that exists already, and what it is called: `ampoule::include_guest!` finds it by `name`. A relative
/// `path` is relative to the directory of the host's package.
///
/// It is for guests in other languages, and for those that another program builds.
///
/// ```no_run
/// ampoule_build::prebuilt("filter", "images/filter.elf").build();
/// ```
pub fn prebuilt(name: impl Into<String>, path: impl AsRef<Path>) -> Prebuilt {
    Prebuilt { name: name.into(), path: path.as_ref().to_owned() }
}

/// An image that exists already; made by [`prebuilt`].
#[derive(Clone, Debug)]
#[must_use = "an image is embedded by `build` or `try_build`"]
pub struct Prebuilt {
    name: String,
    path: PathBuf,
}

impl Prebuilt {
    /// Makes the image available, and ends the build script with a message if that fails.
    pub fn build(self) {
        end_on_error(self.try_build());
    }

    /// Makes the image available like [`build`](Self::build), but returns it, or why it is not.
    ///
    /// # Errors
    ///
    /// Where the name is not one, is taken, or the image cannot be read.
    pub fn try_build(self) -> Result<Artifact, BuildError> {
        let mut inputs = Inputs::default();
        let result = BuildScript::from_env().and_then(|script| self.build_in(&script, &mut inputs));
        inputs.announce();
        result.and_then(|artifact| announce(std::slice::from_ref(&artifact)).map(|()| artifact))
    }

    fn build_in(&self, script: &BuildScript, inputs: &mut Inputs) -> Result<Artifact, BuildError> {
        if !is_name(&self.name) {
            return Err(BuildError::InvalidName { name: self.name.clone() });
        }
        copy(script, &self.name, script.package_dir.join(&self.path), inputs)
    }
}

/// Takes the image of each of these binaries from the file in `dir` that has its name.
pub(crate) fn take<'a>(
    script: &BuildScript,
    bins: impl Iterator<Item = &'a str>,
    dir: &Path,
    inputs: &mut Inputs,
) -> Result<Vec<Artifact>, BuildError> {
    bins.map(|bin| copy(script, bin, dir.join(bin), inputs)).collect()
}

fn copy(script: &BuildScript, name: &str, path: PathBuf, inputs: &mut Inputs) -> Result<Artifact, BuildError> {
    // What the build script has made itself is newer than when it began, so that cargo would run it again each time.
    if !path.starts_with(&script.out_dir) {
        inputs.add(&path);
    }
    match fs::read(&path) {
        Ok(image) => Artifact::write(name, &image, &script.out_dir),
        Err(reason) => Err(BuildError::Prebuilt { path, reason }),
    }
}

/// The names of the images in a directory of prebuilt guests; none if there is no such directory.
pub(crate) fn names_in(dir: &Path) -> Vec<String> {
    let entries = dir.read_dir().into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let mut names: Vec<String> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
    names.retain(|name| is_name(name) && !name.starts_with('.'));
    names.sort_unstable();
    names
}

/// Whether this can stand in the name of a file and of an environment variable.
fn is_name(name: &str) -> bool {
    let is_allowed = |character: char| !matches!(character, '/' | '\\' | '=' | '`') && !character.is_control();
    !matches!(name, "" | "." | "..") && name.chars().all(is_allowed)
}

#[cfg(test)]
mod tests;
