//! A virtual machine as it was at one moment between calls, to go back to or to make others from.

use std::sync::Arc;

use ampoule_vmm::HypervisorError;
use ampoule_vmm::x86_64::registers::{FpuState, Regs, SpecialRegs};
use ampoule_vmm::x86_64::shim::{self, Resumption, SystemCheckpoint};
use thiserror::Error;

use super::{MEMORY_SLOT, Machine, Shape};
use crate::address_space::SpaceCheckpoint;
use crate::guest_memory::MemoryError;
use crate::mailbox::Progress;
use crate::personality::linux::LinuxProcess;

/// What a machine was between two calls.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(super) shape: Shape,
    pub(super) space: SpaceCheckpoint,
    pub(super) system: SystemCheckpoint,
    pub(super) process: LinuxProcess,
    pub(super) progress: Progress,
    pub(super) processor: Arc<Processor>,
}

impl Checkpoint {
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Pages of guest memory that are stored for this checkpoint, and perhaps for others too.
    pub(crate) fn stored_pages(&self) -> usize {
        self.space.contents().stored_pages()
    }
}

/// The state of a vCPU whose guest waits in the doorbell.
#[derive(Debug)]
pub(super) struct Processor {
    regs: Regs,
    special: SpecialRegs,
    fpu: FpuState,
    /// How the vCPU restores its floating-point state itself, where it can.
    resume: Option<Resumption>,
}

/// Why a machine's state could not be remembered.
#[derive(Debug, Error)]
pub(crate) enum CheckpointError {
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    #[error(transparent)]
    Host(#[from] std::io::Error),
}

/// Why a machine could not go back. It is of no more use then.
#[derive(Debug, Error)]
pub(crate) enum RestoreMachineError {
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    #[error(transparent)]
    Memory(#[from] std::io::Error),
}

impl Machine {
    /// Remembers the present state. The guest waits for a call.
    pub(crate) fn checkpoint(&mut self) -> Result<Checkpoint, CheckpointError> {
        self.streams.flush();
        let processor = self.processor()?;
        let zero = self.mailbox.wipe();
        let system = self.system.checkpoint(self.space.tables_mut())?;
        Ok(Checkpoint {
            shape: self.shape,
            space: self.space.checkpoint(&mut *self.vm, MEMORY_SLOT, zero)?,
            system,
            process: self.process.suspended(),
            progress: self.mailbox.progress(),
            processor,
        })
    }

    /// Goes back to a state of this machine, or of one of the same shape, whatever the guest was doing.
    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), RestoreMachineError> {
        debug_assert_eq!(self.shape, checkpoint.shape);
        self.restore_processor(&checkpoint.processor)?;
        let memory = self.space.memory_mut();
        let written = self.mailbox.forget_sent();
        memory.note(written.start, written.len());
        self.system.restore(self.space.tables_mut(), &checkpoint.system);
        let restored = self.space.restore(&checkpoint.space, &mut *self.vm, MEMORY_SLOT)?;
        self.process = checkpoint.process.clone();
        self.mailbox.restore(checkpoint.progress);
        self.mailbox.publish(shim::SHARED_BASE, shim::DOORBELL);
        self.streams.flush();
        self.restores += 1;
        self.pages_restored += restored.pages as u64;
        Ok(())
    }

    /// The state of the vCPU, whose guest waits in the doorbell.
    fn processor(&mut self) -> Result<Arc<Processor>, HypervisorError> {
        if let Some(processor) = &self.resumes {
            return Ok(Arc::clone(processor));
        }
        self.vcpu.settle()?;
        let (regs, special, fpu) = (self.vcpu.regs(), self.vcpu.special_regs()?, self.vcpu.fpu()?);
        let resume = self.system.set_resume_state(&self.capabilities, &fpu, &regs, &special);
        if let Err(reason) = &resume {
            tracing::debug!(%reason, "restoring this guest takes a call into the kernel for its floating-point state");
        }
        Ok(Arc::new(Processor { regs, special, fpu, resume: resume.ok() }))
    }

    /// Makes the vCPU go on from a state in which a guest waited in the doorbell. Where the guest waits there now, no exit and
    /// no call into the kernel is needed.
    pub(super) fn restore_processor(&mut self, processor: &Arc<Processor>) -> Result<(), HypervisorError> {
        if !self.at_rest {
            self.vcpu.abandon()?;
            self.special = None;
        }
        let has_special = self.special.as_ref().is_some_and(|special| Arc::ptr_eq(special, processor));
        if !(has_special && processor.resume.is_some_and(|resumption| resumption.loads_bases)) {
            // To find out whether the guest has changed a segment would cost as much as to set them all.
            self.special = None;
            self.vcpu.set_special_regs(&processor.special)?;
            self.special = Some(Arc::clone(processor));
        }
        match &processor.resume {
            Some(resumption) => self.vcpu.set_regs(&resumption.regs),
            None => {
                self.vcpu.set_regs(&processor.regs);
                self.vcpu.set_fpu(&processor.fpu)?;
            }
        }
        self.at_rest = true;
        self.resumes = Some(Arc::clone(processor));
        Ok(())
    }
}

impl From<MemoryError> for CheckpointError {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::Hypervisor(error) => error.into(),
            MemoryError::Host(error) => error.into(),
        }
    }
}

impl From<MemoryError> for RestoreMachineError {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::Hypervisor(error) => error.into(),
            MemoryError::Host(error) => error.into(),
        }
    }
}
