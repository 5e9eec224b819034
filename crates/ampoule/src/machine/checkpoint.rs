//! A virtual machine as it was at one moment between calls, to go back to.

use std::sync::Arc;

use ampoule_vmm::HypervisorError;
use ampoule_vmm::x86_64::registers::{FpuState, Regs, SpecialRegs};
use thiserror::Error;

use super::Machine;
use crate::address_space::SpaceCheckpoint;
use crate::loader;
use crate::mailbox::Progress;
use crate::personality::linux::LinuxProcess;

/// What a machine was between two calls.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    space: SpaceCheckpoint,
    process: LinuxProcess,
    progress: Progress,
    regs: Regs,
    special: SpecialRegs,
    fpu: FpuState,
}

/// Why a sandbox could not go back to an earlier state. It is poisoned, or stays so.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The hypervisor failed.
    #[error("the virtual machine's registers could not be restored: {0}; build a new sandbox")]
    Hypervisor(#[source] Arc<HypervisorError>),
    /// The guest's memory could not be mapped as it was.
    #[error("the guest's memory could not be mapped as it was: {0}; build a new sandbox")]
    Memory(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl Machine {
    /// Remembers the present state. The guest waits for a call.
    pub(crate) fn checkpoint(&mut self) -> Result<Checkpoint, HypervisorError> {
        self.vcpu.settle()?;
        Ok(Checkpoint {
            space: self.space.checkpoint(&|at| loader::image_page(&self.image, at)),
            process: self.process.clone(),
            progress: self.mailbox.progress(),
            regs: self.vcpu.regs(),
            special: self.vcpu.special_regs()?,
            fpu: self.vcpu.fpu()?,
        })
    }

    /// Goes back to a state of this machine, whatever the guest was doing.
    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), RestoreError> {
        self.restore_vcpu(checkpoint).map_err(|error| RestoreError::Hypervisor(Arc::new(error)))?;
        let image = &self.image;
        self.space
            .restore(&checkpoint.space, &|at| loader::image_page(image, at))
            .map_err(|error| RestoreError::Memory(Arc::new(error)))?;
        self.process = checkpoint.process.clone();
        self.mailbox.restore(checkpoint.progress);
        self.streams.flush();
        Ok(())
    }

    fn restore_vcpu(&mut self, checkpoint: &Checkpoint) -> Result<(), HypervisorError> {
        self.vcpu.abandon()?;
        self.vcpu.set_special_regs(&checkpoint.special)?;
        self.vcpu.set_regs(&checkpoint.regs);
        self.vcpu.set_fpu(&checkpoint.fpu)
    }
}
