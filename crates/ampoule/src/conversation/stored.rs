//! A conversation's checkpoint as a record of a stored snapshot, and back.

use std::sync::Arc;

use ampoule_vfs::Vfs;
use ampoule_vmm::{Backend, Contents};
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::mailbox::{Mailbox, Progress};
use crate::bad_record::BadRecord;
use crate::machine::{MachineRecord, RecordError, Shape};

/// A guest that waits for a call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConversationRecord {
    machine: MachineRecord,
    mailbox_size: u64,
    /// How many calls and host calls there have been.
    calls: [u64; 2],
}

impl Checkpoint {
    /// The record.
    ///
    /// # Errors
    ///
    /// What the guest does, or has, that has no record.
    pub(crate) fn record(&self) -> Result<ConversationRecord, String> {
        Ok(ConversationRecord {
            machine: self.machine().record()?,
            mailbox_size: self.mailbox_size() as u64,
            calls: self.progress().calls(),
        })
    }
}

impl ConversationRecord {
    /// Bytes that a payload may have, if that is in its range.
    fn mailbox_size(&self) -> Result<usize, BadRecord> {
        let size = usize::try_from(self.mailbox_size).ok().filter(|size| Mailbox::SIZES.contains(size));
        size.ok_or(BadRecord { part: "mailbox", problem: "its size is out of range" })
    }

    /// What decides about the size of the memory.
    ///
    /// # Errors
    ///
    /// Where a size is out of its range.
    pub(crate) fn shape(&self) -> Result<Shape, RecordError> {
        let shared = Mailbox::shared_memory(self.mailbox_size()?);
        self.machine.shape(shared).map_err(RecordError::Setting)
    }

    /// The checkpoint of a guest whose memory held these contents.
    ///
    /// # Errors
    ///
    /// A [`RecordError`].
    pub(crate) fn checkpoint(
        &self,
        backend: &dyn Backend,
        contents: &Arc<Contents>,
        files: Vfs,
    ) -> Result<Checkpoint, RecordError> {
        let machine = self.machine.checkpoint(backend, self.shape()?, contents, files)?;
        BadRecord::unless(!machine.waits_for_input(), "processor", "it waits for input and not for a call")?;
        let are_possible = self.calls.iter().all(|calls| *calls < MOST_CALLS);
        BadRecord::unless(are_possible, "mailbox", "there have been more calls than can be counted")?;
        let progress = Progress::idle_after(self.calls);
        Ok(Checkpoint::of_parts(machine, progress, self.mailbox_size()?))
    }
}

/// More calls than any guest can have had.
const MOST_CALLS: u64 = 1 << 62;
