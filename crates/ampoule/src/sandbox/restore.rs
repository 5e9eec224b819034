//! Going back to a snapshot, and why that can fail.

use std::fmt;
use std::io;
use std::sync::Arc;

use ampoule_abi::text::printable_name;
use ampoule_vmm::{HypervisorError, WithAdvice};
use thiserror::Error;

use super::Sandbox;
use super::condition::{Condition, Poison};
use super::snapshot::Snapshot;
use crate::conversation::Conversation;
use crate::executable_memory::ExecutableMemory;
use crate::machine::RestoreMachineError;
use crate::metrics::{Operation, Stopwatch};
use crate::spans;

/// Why a sandbox could not go back to a snapshot.
///
/// [`Hypervisor`](Self::Hypervisor) and [`Memory`](Self::Memory) poison it, because its state is then unknown. All other
/// errors are found before anything is changed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The snapshot is of an image other than the one that the sandbox runs.
    #[error(
        "the snapshot is of image `{}`, and the sandbox runs image `{}`, which is not the same or was loaded separately; \
         restore it into sandboxes that were built from a clone of the same `Image`, or spawn a new one",
        printable_name(snapshot),
        printable_name(sandbox)
    )]
    ForeignImage {
        /// Name of the snapshot's image.
        snapshot: String,
        /// Name of the sandbox's image.
        sandbox: String,
    },
    /// The snapshot is of a sandbox with another setting.
    #[error(
        "the snapshot is of a sandbox with `Builder::{setting}({})`, and this one has `{}`; restore it into a sandbox with the same \
         settings, or spawn a new one",
        setting.shown(*snapshot),
        setting.shown(*sandbox)
    )]
    Setting {
        /// Which setting.
        setting: Setting,
        /// Its value when the snapshot was taken: bytes, or the place of the kind in [`ExecutableMemory::ALL`].
        snapshot: usize,
        /// Its value for this sandbox.
        sandbox: usize,
    },
    /// The snapshot is of a sandbox on a hypervisor on which guests behave in another way.
    #[error("the snapshot is of a sandbox on another hypervisor ({snapshot}; here: {sandbox}); spawn a new one")]
    ForeignHypervisor {
        /// How guests behave on the snapshot's hypervisor.
        snapshot: String,
        /// How guests behave on the sandbox's hypervisor.
        sandbox: String,
    },
    /// The hypervisor failed.
    #[error("the virtual machine could not be restored: {0}; build or spawn a new sandbox")]
    Hypervisor(Arc<HypervisorError>),
    /// The guest's memory could not be restored.
    #[error("the guest's memory could not be restored: {}; build or spawn a new sandbox", WithAdvice(.0))]
    Memory(Arc<io::Error>),
}

impl RestoreError {
    /// Whether the sandbox refuses calls from now on.
    pub fn poisons(&self) -> bool {
        matches!(self, Self::Hypervisor(_) | Self::Memory(_))
    }
}

/// A setting that a sandbox must have in common with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Setting {
    /// [`Builder::memory_limit`](crate::Builder::memory_limit).
    MemoryLimit,
    /// [`Builder::mailbox_size`](crate::Builder::mailbox_size).
    MailboxSize,
    /// [`Builder::stack_size`](crate::Builder::stack_size).
    StackSize,
    /// [`Builder::executable_memory`](crate::Builder::executable_memory).
    ExecutableMemory,
    /// [`Builder::mapped_limit`](crate::Builder::mapped_limit).
    MappedLimit,
}

impl Setting {
    /// A value as the builder takes it.
    fn shown(self, value: usize) -> String {
        match (self, ExecutableMemory::ALL.get(value)) {
            (Self::ExecutableMemory, Some(kind)) => format!("ExecutableMemory::{kind:?}"),
            _ => value.to_string(),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MemoryLimit => "memory_limit",
            Self::MailboxSize => "mailbox_size",
            Self::StackSize => "stack_size",
            Self::ExecutableMemory => "executable_memory",
            Self::MappedLimit => "mapped_limit",
        })
    }
}

impl Sandbox {
    /// Goes back to a snapshot: of this sandbox, or of another one with the same image and the same settings of its memory.
    /// Memory, registers and everything that system calls have changed are as they were then. A poisoned sandbox can be
    /// called again.
    ///
    /// The cost follows the pages that were written since, not the size of the guest: about a tenth of a microsecond for
    /// each. Host functions and outputs keep their state. The guest can tell that it was restored
    /// (`ampoule_guest::on_restore`), and the random numbers that it asks for from then on are new.
    ///
    /// # Errors
    /// A [`RestoreError`]. If [`RestoreError::poisons`] says so, the sandbox is no longer usable; otherwise it is as it was.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), RestoreError> {
        if !self.matching.is_of(snapshot) {
            self.check_match(snapshot)?;
            self.matching = snapshot.identity();
        }
        let result = restored(&mut self.conversation, snapshot);
        self.note_restored(result)
    }

    /// Goes back to the state in which the sandbox was built or spawned. A poisoned sandbox can be called again. See
    /// [`restore`](Self::restore).
    ///
    /// # Errors
    /// A [`RestoreError`]; the sandbox is then no longer usable, and refuses calls.
    pub fn reset(&mut self) -> Result<(), RestoreError> {
        if !self.matching.is_of(&self.initial) {
            let initial = self.initial.clone();
            return self.restore(&initial);
        }
        // As a rule no reference has to be counted, a count that sandboxes on other threads share.
        let result = restored(&mut self.conversation, &self.initial);
        self.note_restored(result)
    }

    /// Takes note of how a restore has ended.
    fn note_restored(&mut self, result: Result<(), RestoreError>) -> Result<(), RestoreError> {
        self.condition = match &result {
            Ok(()) => Condition::Ready,
            Err(error) => Condition::Poisoned(Poison::RestoreFailed(error.clone())),
        };
        result
    }

    /// Whether the sandbox can go back to a snapshot.
    fn check_match(&self, snapshot: &Snapshot) -> Result<(), RestoreError> {
        if !snapshot.image().is_same(&self.image) {
            let [snapshot, sandbox] = [snapshot.image(), &self.image].map(|image| image.name().to_owned());
            return Err(RestoreError::ForeignImage { snapshot, sandbox });
        }
        self.check_settings(snapshot)?;
        let [theirs, ours] = [snapshot.backend(), &self.backend].map(|backend| backend.behaviour());
        if theirs != ours {
            let [snapshot, sandbox] = [theirs, ours].map(|behaviour| behaviour.to_string());
            return Err(RestoreError::ForeignHypervisor { snapshot, sandbox });
        }
        Ok(())
    }

    fn check_settings(&self, snapshot: &Snapshot) -> Result<(), RestoreError> {
        let [theirs, ours] = [snapshot.checkpoint().shape(), self.conversation.machine().shape()];
        let mailbox_sizes = [snapshot.checkpoint().mailbox_size(), self.conversation.mailbox_size()];
        for (setting, [snapshot, sandbox]) in [
            (Setting::MemoryLimit, [theirs, ours].map(|shape| shape.memory_limit)),
            (Setting::MailboxSize, mailbox_sizes),
            (Setting::StackSize, [theirs, ours].map(|shape| shape.stack_size)),
            (Setting::MappedLimit, [theirs, ours].map(|shape| shape.mapped_limit)),
            (Setting::ExecutableMemory, [theirs, ours].map(|shape| shape.executable_memory as usize)),
        ] {
            if snapshot != sandbox {
                return Err(RestoreError::Setting { setting, snapshot, sandbox });
            }
        }
        Ok(())
    }
}

/// Takes a conversation back to a snapshot that matches it.
#[inline]
fn restored(conversation: &mut Conversation, snapshot: &Snapshot) -> Result<(), RestoreError> {
    let span = spans::restore(conversation.machine().origin()).entered();
    let restore = Stopwatch::start();
    let result = restore.ended(Operation::Restore, conversation.restore(snapshot.checkpoint()));
    match result {
        Ok(pages) => {
            span.record("pages", pages);
            Ok(())
        }
        Err(error) => {
            let result = Err(error.into());
            spans::failed(&span, &result);
            result
        }
    }
}

impl From<RestoreMachineError> for RestoreError {
    fn from(error: RestoreMachineError) -> Self {
        match error {
            RestoreMachineError::Hypervisor(error) => Self::Hypervisor(Arc::new(error)),
            RestoreMachineError::Memory(error) => Self::Memory(Arc::new(error)),
        }
    }
}
