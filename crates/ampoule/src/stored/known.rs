//! What the process knows of snapshots by their digests: those that somebody has loaded, and what somebody has saved.
//!
//! Nothing is kept by being known. A thread of the parent may have held a lock when the process was forked: then nothing is known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, TryLockError, Weak};

use ampoule_vmm::Contents;

use super::format::SnapshotDigest;
use super::opened::Version;
use super::read::Stored;

/// What whoever loads has to ask for to share what somebody has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) digest: SnapshotDigest,
    /// Which file it is, where it, or one of its parents, is mapped.
    pub(super) mapped: Option<Version>,
}

/// What a snapshot in memory and in a file have in common.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) contents: Arc<Contents>,
    pub(super) image_digest: [u8; 32],
}

/// This snapshot, where somebody has loaded it.
pub(super) fn loaded(key: Key) -> Option<Arc<Stored>> {
    with(&LOADED, |loaded| loaded.get(&key).and_then(Weak::upgrade)).flatten()
}

/// Lets others find what was loaded.
pub(super) fn remember_loaded(key: Key, stored: &Arc<Stored>) {
    with(&LOADED, |loaded| {
        loaded.retain(|_, stored| stored.strong_count() > 0);
        loaded.insert(key, Arc::downgrade(stored));
    });
}

/// What the memory holds in a snapshot that was loaded or saved, where somebody still has it.
pub(super) fn by_digest(digest: SnapshotDigest) -> Option<Known> {
    let find = |known: &mut HashMap<SnapshotDigest, (Weak<Contents>, [u8; 32])>| {
        let (contents, image_digest) = known.get(&digest)?;
        Some(Known { contents: contents.upgrade()?, image_digest: *image_digest })
    };
    with(&KNOWN, find).flatten()
}

/// Lets others find what the memory holds in a snapshot. What somebody has already, and others share pages with, stays. Pages of a
/// file that is mapped need not be what its digest says, and are not found.
pub(super) fn remember(digest: SnapshotDigest, contents: &Arc<Contents>, image_digest: [u8; 32]) {
    if contents.can_be_lost() {
        return;
    }
    with(&KNOWN, |known| {
        known.retain(|_, (contents, _)| contents.strong_count() > 0);
        known.entry(digest).or_insert_with(|| (Arc::downgrade(contents), image_digest));
    });
}

type Shared<K, V> = Mutex<Option<HashMap<K, V>>>;

static LOADED: Shared<Key, Weak<Stored>> = Mutex::new(None);

static KNOWN: Shared<SnapshotDigest, (Weak<Contents>, [u8; 32])> = Mutex::new(None);

fn with<K, V, R>(shared: &Shared<K, V>, act: impl FnOnce(&mut HashMap<K, V>) -> R) -> Option<R> {
    let mut shared = match shared.try_lock() {
        Ok(shared) => shared,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    Some(act(shared.get_or_insert_with(HashMap::new)))
}
