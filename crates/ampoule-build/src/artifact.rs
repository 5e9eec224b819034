use std::fs;
use std::path::{Path, PathBuf};

use crate::BuildError;

/// An image that is ready to be embedded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    name: String,
    path: PathBuf,
}

impl Artifact {
    /// Writes the image of the binary `name` to `out_dir`.
    pub(crate) fn write(name: &str, image: &[u8], out_dir: &Path) -> Result<Self, BuildError> {
        let path = write_to(&out_dir.join(IMAGE_DIR), name, image)?;
        Ok(Self { name: name.to_owned(), path })
    }

    /// The guest's name, that of its binary, by which `ampoule::include_guest!` finds it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Absolute path of the image, an ELF executable in the host's `OUT_DIR`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes a file to a directory, and returns its path.
///
/// A file that holds the same bytes already is left alone: its time of modification makes cargo compile the host again.
pub(crate) fn write_to(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, BuildError> {
    let path = dir.join(name);
    let unchanged = fs::read(&path).is_ok_and(|present| present == bytes);
    if !unchanged {
        fs::create_dir_all(dir).map_err(|reason| BuildError::Write { path: dir.to_owned(), reason })?;
        fs::write(&path, bytes).map_err(|reason| BuildError::Write { path: path.clone(), reason })?;
    }
    Ok(path)
}

/// A folder of `OUT_DIR`, so that no binary's name meets a file of the host's build script.
const IMAGE_DIR: &str = "ampoule";
