//! A machine as it was at one moment at which the guest waited, to restore it or to make others from it.

use std::ops::Range;
use std::sync::Arc;

use ampoule_vmm::{HypervisorError, MapCheckpoint, SystemCall, Waiting};
use thiserror::Error;

use super::host_mappings::Kept;
use super::unstarted::Leftover;
use super::{Machine, Shape};
use crate::address_space::SpaceCheckpoint;
use crate::guest_memory::MemoryError;
use crate::loader::StartRecord;
use crate::metrics;
use crate::personality::linux::LinuxProcess;
use crate::profile::LiveBlocks;

/// What a machine was while the guest waited.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(super) shape: Shape,
    pub(super) space: SpaceCheckpoint,
    pub(super) pages: MapCheckpoint,
    pub(super) process: LinuxProcess,
    pub(super) started: Arc<StartRecord>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) waits_in: Option<SystemCall>,
    pub(super) host: Vec<Kept>,
    /// What was live, where the guest's memory was profiled.
    pub(super) live: Option<LiveBlocks>,
    /// What the first machine need not make, where the checkpoint was made of a record.
    pub(super) leftover: Leftover,
}

impl Checkpoint {
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether the guest waits for its input, and otherwise for a call.
    pub(crate) fn waits_for_input(&self) -> bool {
        self.waits_in.is_some()
    }

    /// Pages of guest memory that are stored for this checkpoint, and perhaps for others too.
    pub(crate) fn stored_pages(&self) -> usize {
        self.space.contents().stored_pages()
    }
}

/// Why a machine's state could not be remembered.
#[derive(Debug, Error)]
pub(crate) enum CheckpointError {
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    #[error(transparent)]
    Host(#[from] std::io::Error),
}

/// Why a machine could not be restored. It is no longer usable.
#[derive(Debug, Error)]
pub(crate) enum RestoreMachineError {
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    #[error(transparent)]
    Memory(#[from] std::io::Error),
}

impl Machine {
    /// Remembers the present state. The guest waits in the doorbell or for its input. The bytes `zero` of the memory that it shares with the
    /// host, which are whole pages, are known to be zero.
    pub(crate) fn checkpoint(&mut self, zero: Range<usize>) -> Result<Checkpoint, CheckpointError> {
        self.streams.flush();
        let waiting = self.processor.checkpoint()?;
        let pages = self.space.tables_mut().checkpoint()?;
        Ok(Checkpoint {
            shape: self.shape,
            space: self.space.checkpoint(&mut *self.processor, zero)?,
            pages,
            process: self.process.suspended(),
            started: Arc::clone(&self.started),
            waiting,
            waits_in: self.waits_in,
            host: self.keep_host_mappings()?,
            live: self.allocations.as_ref().map(|allocations| allocations.live_blocks()),
            leftover: Leftover::default(),
        })
    }

    /// Restores a state of this machine, or of one of the same shape, whatever the guest was doing: how many pages that has
    /// written back.
    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<usize, RestoreMachineError> {
        debug_assert_eq!(self.shape, checkpoint.shape);
        self.processor.restore(&checkpoint.waiting)?;
        self.waits_in = checkpoint.waits_in;
        self.space.tables_mut().restore(&checkpoint.pages);
        let restored = self.space.restore(&checkpoint.space, &mut *self.processor)?;
        self.restore_host_mappings(&checkpoint.host)?;
        self.process.restore(&checkpoint.process);
        self.process.refresh_files(&mut self.space);
        if !Arc::ptr_eq(&self.started, &checkpoint.started) {
            self.started = Arc::clone(&checkpoint.started);
        }
        if let Some(allocations) = &mut self.allocations {
            allocations.restore(checkpoint.live.as_ref());
        }
        self.streams.flush();
        self.restores += 1;
        self.pages_restored += restored.pages as u64;
        metrics::pages_restored(restored.pages);
        Ok(restored.pages)
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
