//! Snapshots of sandboxes.

use std::fmt;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Weak};

use ampoule_vmm::{Backend, HypervisorError, PAGE_SIZE, WithAdvice};
use thiserror::Error;

use super::Sandbox;
use super::condition::Poison;
use super::spawn::Spawn;
use crate::conversation::{Checkpoint, Conversation};
use crate::error::BuildError;
use crate::image::Image;
use crate::limits::Limits;
use crate::machine::CheckpointError;
use crate::metrics::{Operation, Stopwatch};
use crate::spans;
use crate::stored::{
    Guest, LoadSnapshotError, SaveOptions, SaveSnapshotError, Saved, SavedSnapshot, SnapshotFile, Stored,
};

/// What a sandbox was between two calls: to [go back to](Sandbox::restore), and to [make others from](Self::spawn).
///
/// Clones share it. It stays intact whatever becomes of the sandbox, and of the snapshots before and after it. It costs the
/// memory of the pages that were written since the snapshot before it, and two file descriptors.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
/// sandbox.call::<()>("load_model", ())?;
/// let loaded = sandbox.snapshot()?;
///
/// sandbox.call::<()>("run", ("some request",))?;
/// sandbox.restore(&loaded)?;
///
/// let mut another = loaded.spawn()?;
/// another.call::<()>("run", ("another request",))?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Snapshot(Arc<State>);

/// Which snapshot it was, without keeping it.
pub(super) struct SnapshotIdentity(Weak<State>);

struct State {
    image: Image,
    backend: Arc<dyn Backend>,
    limits: Limits,
    checkpoint: Checkpoint,
    /// The file that it comes from, so that all that is loaded from it shares its pages.
    _stored: Option<Arc<Stored>>,
}

/// Why no snapshot could be taken. The sandbox is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The guest ended in an earlier call, or the sandbox could not be restored to an earlier state.
    #[error("no snapshot is taken of a poisoned sandbox: {cause}")]
    Poisoned {
        /// Why it is.
        cause: Poison,
    },
    /// The hypervisor failed.
    #[error("the virtual machine's state could not be read: {0}")]
    Hypervisor(Arc<HypervisorError>),
    /// The host cannot hold the snapshot, for lack of memory, files or mappings, or because a limit of the process forbids
    /// it.
    #[error("the host cannot hold the snapshot: {}", WithAdvice(.0))]
    Memory(std::io::Error),
}

impl Sandbox {
    /// Remembers what the sandbox is now: its memory, its registers, and what system calls have changed. What it has printed
    /// without ending the line goes to its output first.
    ///
    /// The first snapshot copies the pages that were written since the start, a later one those since the snapshot before.
    /// A sandbox is borrowed by the call that it makes, so no snapshot can be taken within one:
    ///
    /// ```compile_fail,E0499
    /// # fn nested(mut sandbox: ampoule::Sandbox) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut within = || sandbox.snapshot();
    /// sandbox.call::<()>("function", ())?;
    /// within()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A [`SnapshotError`]; the sandbox is as it was.
    pub fn snapshot(&mut self) -> Result<Snapshot, SnapshotError> {
        if let Some(cause) = self.condition.poison() {
            return Err(SnapshotError::Poisoned { cause: cause.clone() });
        }
        Snapshot::take(&self.image, &self.backend, self.limits, &mut self.conversation)
    }
}

impl Snapshot {
    /// Remembers what a guest is that waits for a call.
    pub(super) fn take(
        image: &Image,
        backend: &Arc<dyn Backend>,
        limits: Limits,
        conversation: &mut Conversation,
    ) -> Result<Self, SnapshotError> {
        let span = spans::snapshot(conversation.machine().origin()).entered();
        let snapshot = Stopwatch::start();
        let checkpoint = snapshot.ended(Operation::Snapshot, conversation.checkpoint()).map_err(SnapshotError::from);
        spans::failed(&span, &checkpoint);
        let checkpoint = checkpoint?;
        span.record("stored_pages", checkpoint.stored_pages());
        Ok(Self(Arc::new(State {
            image: image.clone(),
            backend: Arc::clone(backend),
            limits,
            checkpoint,
            _stored: None,
        })))
    }

    /// A snapshot that was loaded from a file.
    pub(crate) fn of_stored(
        image: Image,
        backend: Arc<dyn Backend>,
        limits: Limits,
        checkpoint: Checkpoint,
        stored: Arc<Stored>,
    ) -> Self {
        Self(Arc::new(State { image, backend, limits, checkpoint, _stored: Some(stored) }))
    }

    /// Saves the snapshot, with the image, in a file that [`load`](Self::load) makes it from again: later, in other processes,
    /// on other machines. The file is complete and on the disk when this returns; what was there under its name is replaced
    /// then and not before.
    ///
    /// Nothing of the host is in it but what the guest knows: see [the format][1]. Secrets of the guest are: whoever can read the
    /// file can read its memory.
    ///
    /// [1]: https://github.com/ampoule-rs/ampoule/blob/main/docs/snapshot-format.md
    ///
    /// # Errors
    /// A [`SaveSnapshotError`]; no file is left behind.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<SavedSnapshot, SaveSnapshotError> {
        self.save_with(path, &SaveOptions::new())
    }

    /// The same with options: compressed, or as a difference from another snapshot.
    ///
    /// # Errors
    /// As for [`save`](Self::save).
    pub fn save_with(&self, path: impl AsRef<Path>, options: &SaveOptions) -> Result<SavedSnapshot, SaveSnapshotError> {
        let State { image, limits, checkpoint, backend, .. } = &*self.0;
        let saved = Saved {
            guest: checkpoint.record().map(|record| Guest::called(record, image)),
            executable: image.executable(),
            limits: *limits,
            machine: checkpoint.machine(),
            behaviour: backend.behaviour(),
        };
        saved.save(path.as_ref(), options)
    }

    /// The snapshot that was [saved](Self::save) in a file. [`SnapshotFile`] has settings for it.
    ///
    /// What is spawned from it is given its host functions and outputs as from any other snapshot. Its random numbers are new,
    /// [`on_restore`][1] runs in it, and its clocks go on: the time of day is the host's, and no other clock goes back.
    ///
    /// [1]: https://docs.rs/ampoule-guest/latest/ampoule_guest/fn.on_restore.html
    ///
    /// # Errors
    /// A [`LoadSnapshotError`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, LoadSnapshotError> {
        SnapshotFile::new(path.as_ref()).snapshot()
    }

    /// A new sandbox in the state of the snapshot. It shares all pages with the snapshot, and with the other sandboxes that
    /// come from it, until it writes them.
    ///
    /// Its output goes to the log. Where the guest imports host functions, or the output is to go elsewhere, use
    /// [`builder`](Self::builder).
    ///
    /// # Errors
    /// A [`BuildError`]; [`BuildError::MissingHostFunction`] where the guest imports any.
    pub fn spawn(&self) -> Result<Sandbox, BuildError> {
        self.builder().build()
    }

    /// Settings of a new sandbox in the state of the snapshot.
    pub fn builder(&self) -> Spawn {
        Spawn::new(self.clone())
    }

    /// The image that the sandbox ran.
    pub fn image(&self) -> &Image {
        &self.0.image
    }

    /// Bytes of guest memory that the snapshot holds, alone or together with the snapshots before it.
    pub fn stored_bytes(&self) -> u64 {
        (self.0.checkpoint.stored_pages() * PAGE_SIZE) as u64
    }

    pub(super) fn identity(&self) -> SnapshotIdentity {
        SnapshotIdentity(Arc::downgrade(&self.0))
    }

    pub(super) fn backend(&self) -> &Arc<dyn Backend> {
        &self.0.backend
    }

    pub(super) fn limits(&self) -> Limits {
        self.0.limits
    }

    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.0.checkpoint
    }
}

impl SnapshotIdentity {
    /// That of no snapshot.
    pub(super) fn of_none() -> Self {
        Self(Weak::new())
    }

    pub(super) fn is_of(&self, snapshot: &Snapshot) -> bool {
        // As long as the weak reference exists, no other state can have its address.
        ptr::eq(self.0.as_ptr(), Arc::as_ptr(&snapshot.0))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("image", &self.0.image.name())
            .field("stored_bytes", &self.stored_bytes())
            .finish_non_exhaustive()
    }
}

impl From<CheckpointError> for SnapshotError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Hypervisor(error) => Self::Hypervisor(Arc::new(error)),
            CheckpointError::Host(error) => Self::Memory(error),
        }
    }
}
