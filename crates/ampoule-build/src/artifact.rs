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
    ///
    /// A file that holds the same bytes already is left alone: its time of modification makes cargo compile the host again.
    pub(crate) fn write(name: &str, image: &[u8], out_dir: &Path) -> Result<Self, BuildError> {
        let dir = out_dir.join(IMAGE_DIR);
        let path = dir.join(name);
        let unchanged = fs::read(&path).is_ok_and(|present| present == image);
        if !unchanged {
            fs::create_dir_all(&dir).map_err(|reason| BuildError::Write { path: dir, reason })?;
            fs::write(&path, image).map_err(|reason| BuildError::Write { path: path.clone(), reason })?;
        }
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

/// A folder of `OUT_DIR`, so that no binary's name meets a file of the host's build script.
const IMAGE_DIR: &str = "ampoule";
