//! A conversation as it was between two calls.

use std::io::Write;

use ampoule_vmm::address_map::SHARED_BASE;
use ampoule_vmm::{Backend, DOORBELL};

use super::Conversation;
use super::mailbox::Progress;
use crate::core_dump::Dumped;
use crate::image::Executable;
use crate::machine::{self, CheckpointError, GuestStreams, Machine, MachineError, RestoreMachineError, Shape};

/// A guest, and how far its conversation with the host had come, at a moment at which it waited for a call.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    machine: machine::Checkpoint,
    progress: Progress,
    mailbox_size: usize,
}

impl Checkpoint {
    pub(super) fn of_parts(machine: machine::Checkpoint, progress: Progress, mailbox_size: usize) -> Self {
        Self { machine, progress, mailbox_size }
    }

    pub(crate) fn machine(&self) -> &machine::Checkpoint {
        &self.machine
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    pub(crate) fn shape(&self) -> Shape {
        self.machine.shape()
    }

    pub(crate) fn mailbox_size(&self) -> usize {
        self.mailbox_size
    }

    /// Writes a core dump of the guest, which has this executable.
    ///
    /// # Errors
    /// What the writer reports.
    pub(crate) fn core_dump(&self, executable: &Executable, sink: &mut dyn Write) -> Dumped {
        self.machine.core_dump(executable, sink)
    }

    /// Pages of guest memory that are stored for this checkpoint, and perhaps for others too.
    pub(crate) fn stored_pages(&self) -> usize {
        self.machine.stored_pages()
    }
}

impl Conversation {
    /// A guest in the state that another had at a checkpoint. The two share the memory that neither has written since.
    pub(crate) fn of_checkpoint(
        backend: &dyn Backend,
        executable: &Executable,
        checkpoint: &Checkpoint,
        streams: GuestStreams,
    ) -> Result<Self, MachineError> {
        let machine = Machine::of_checkpoint(backend, executable, &checkpoint.machine, streams)?;
        let mut conversation = Self::over(machine, checkpoint.mailbox_size);
        conversation.mailbox.restore(checkpoint.progress);
        Ok(conversation)
    }

    /// Remembers the present state. The guest waits for a call. What was exchanged is wiped first, so that no state holds
    /// it.
    pub(crate) fn checkpoint(&mut self) -> Result<Checkpoint, CheckpointError> {
        let zero = self.mailbox.wipe(self.machine.memory_mut());
        Ok(Checkpoint {
            machine: self.machine.checkpoint(zero)?,
            progress: self.mailbox.progress(),
            mailbox_size: self.mailbox.capacity(),
        })
    }

    /// Restores a state of this conversation, or of one with a guest of the same shape, whatever the guest was doing: how many
    /// pages that has written back.
    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<usize, RestoreMachineError> {
        self.machine.streams_mut().log_mut().forget();
        let pages = self.machine.restore(&checkpoint.machine)?;
        self.mailbox.restore(checkpoint.progress);
        self.mailbox.publish(SHARED_BASE, DOORBELL, self.wanted_records());
        Ok(pages)
    }
}
