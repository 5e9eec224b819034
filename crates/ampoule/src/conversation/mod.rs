//! Calling a guest: messages and payloads in a mailbox, host calls, typed results.
//!
//! Host and guest take turns. The host writes a message and lets the guest run; the guest answers and rings the doorbell. In
//! between, the machine serves the guest's system calls, and what the guest prints gathers in the mailbox. A machine does
//! not need a conversation: without one its guest has no mailbox, and ends when its `main` returns.

mod call;
mod checkpoint;
mod imports;
mod mailbox;
mod run;
mod stored;
mod streams;

use std::sync::Arc;

use ampoule_vmm::address_map::SHARED_BASE;
use ampoule_vmm::{Backend, DOORBELL};

use crate::image::Executable;
use crate::machine::{GuestStreams, Machine, MachineConfig, MachineError};

pub(crate) use call::{Copied, Reply, Request, Returns};
pub(crate) use checkpoint::Checkpoint;
pub(crate) use imports::Imports;
pub(crate) use mailbox::LARGEST_MAILBOX;
pub use mailbox::ProtocolViolation;
#[cfg(fuzzing)]
pub(crate) use mailbox::{GuestMessage, Mailbox, OutputRecord};
pub(crate) use mailbox::{PayloadArea, PayloadSource, WantedRecords};
pub(crate) use run::StartError;
pub(crate) use stored::ConversationRecord;

/// A guest that can be called.
pub(crate) struct Conversation {
    machine: Machine,
    mailbox: mailbox::Mailbox,
}

impl Conversation {
    /// Makes a machine whose guest has a mailbox of this size. The guest has not run yet: see
    /// [`await_ready`](Self::await_ready).
    pub(crate) fn new(
        backend: &dyn Backend,
        executable: &Executable,
        mut config: MachineConfig,
        mailbox_size: usize,
        streams: GuestStreams,
    ) -> Result<Self, MachineError> {
        config.shape.shared = Some(mailbox::Mailbox::shared_memory(mailbox_size));
        let machine = Machine::new(backend, executable, &config, streams)?;
        Ok(Self::over(machine, mailbox_size))
    }

    fn over(machine: Machine, mailbox_size: usize) -> Self {
        let mut mailbox = mailbox::Mailbox::new(Arc::clone(machine.region()), mailbox_size);
        mailbox.publish(SHARED_BASE, DOORBELL, wanted_records(&machine));
        Self { machine, mailbox }
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Bytes that a payload may have.
    pub(crate) fn mailbox_size(&self) -> usize {
        self.mailbox.capacity()
    }

    #[inline]
    fn wanted_records(&self) -> WantedRecords {
        wanted_records(&self.machine)
    }
}

#[inline]
fn wanted_records(machine: &Machine) -> WantedRecords {
    WantedRecords { log_level: machine.log_level(), allocations: machine.records_allocations() }
}
