//! The names in directories of overlays, as they are on the host.
//!
//! A directory is listed in the order of its names, so that a listing can go on after memory has replaced the directory. To sort
//! them, all of them are needed at each call, and they are kept for the next one: once for all who list the directory, and no
//! more than [`KEPT_MAX`] names but for those of the directory that was listed last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Errno;
use crate::host::{self, HostEntry, HostIdentity, HostNode};
use crate::mount::MountId;
use crate::process::Context;

/// The names that are kept, which the clones of a tree share.
#[derive(Clone, Debug, Default)]
pub(crate) struct LowerNames(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// What was listed last is at the end.
    directories: VecDeque<(Key, Arc<[HostEntry]>)>,
    count: usize,
}

type Key = (MountId, HostIdentity);

impl LowerNames {
    /// The names in a directory of the host's that is open for reading. From its beginning on it is read again.
    pub(crate) fn of(
        &self,
        context: &Context<'_>,
        mount: MountId,
        directory: &HostNode,
        is_begun: bool,
    ) -> Result<Arc<[HostEntry]>, Errno> {
        let key = (mount, directory.status.identity);
        let kept = self.kept().take(key).filter(|_| is_begun);
        let names = match kept {
            Some(names) => names,
            None => host::list(directory, usize::MAX, &|| context.check_interrupted())?.into(),
        };
        Ok(self.keep(key, names))
    }

    fn keep(&self, key: Key, names: Arc<[HostEntry]>) -> Arc<[HostEntry]> {
        let mut kept = self.kept();
        // Somebody else may have been as fast.
        kept.take(key);
        kept.count += names.len();
        kept.directories.push_back((key, names.clone()));
        while kept.count > KEPT_MAX && kept.directories.len() > 1 {
            let dropped = kept.directories.pop_front();
            kept.count -= dropped.map_or(0, |(_, names)| names.len());
        }
        names
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self, key: Key) -> Option<Arc<[HostEntry]>> {
        let at = self.directories.iter().position(|(of, _)| *of == key)?;
        let (_, names) = self.directories.remove(at)?;
        self.count -= names.len();
        Some(names)
    }
}

/// How many names are kept: about 8 MiB of them.
const KEPT_MAX: usize = 1 << 16;
