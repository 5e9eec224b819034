use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::script::BuildScript;
use crate::{BuildError, Guest};

/// The target directory in which a guest is built, for this process alone as long as this is there.
///
/// Build scripts of several hosts share it. In turns, since what is in it under the name of a binary is what was built last.
#[derive(Debug)]
pub(crate) struct Place {
    target: &'static str,
    dir: PathBuf,
    _lock: File,
}

impl Place {
    /// Waits until nobody else builds there.
    pub(crate) fn take(script: &BuildScript, guest: &Guest, target: &'static str) -> Result<Self, BuildError> {
        // Builds with other flags for the compiler would only replace each other's.
        let mut hasher = DefaultHasher::new();
        (target, guest.flags().collect::<Vec<_>>()).hash(&mut hasher);
        let dir = script.guests_dir().join(format!("{:016x}", hasher.finish()));
        fs::create_dir_all(&dir).map_err(|reason| BuildError::Write { path: dir.clone(), reason })?;
        let path = dir.join("ampoule.lock");
        let lock = File::create(&path).and_then(|lock| lock.lock().map(|()| lock));
        let _lock = lock.map_err(|reason| BuildError::Write { path, reason })?;
        Ok(Self { target, dir, _lock })
    }

    /// The triple.
    pub(crate) fn target(&self) -> &'static str {
        self.target
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}
