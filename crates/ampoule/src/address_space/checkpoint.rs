//! An address space as it was at one moment, to go back to.

use std::iter;
use std::ops::Range;
use std::sync::Arc;

use ampoule_vmm::{Contents, PageMap, WrittenPages};

use super::{AddressSpace, Layout};
use crate::guest_memory::{GuestMemory, MemoryError, Restored};
use crate::page::Frame;

/// What an address space was at one moment, except for its page tables. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct SpaceCheckpoint {
    pub(super) layout: Arc<Layout>,
    contents: Arc<Contents>,
}

impl AddressSpace {
    /// Remembers the present state. The memory is that of `guest`, which is not running. The bytes `zero`, which are whole
    /// pages and none of the guest's own, are known to be zero, both now and at the checkpoint before.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`].
    pub(crate) fn checkpoint(
        &mut self,
        guest: &mut dyn WrittenPages,
        zero: Range<usize>,
    ) -> Result<SpaceCheckpoint, MemoryError> {
        let contents = self.memory.snapshot(guest, zero)?;
        self.origin = Arc::clone(&self.layout);
        self.remapped.clear();
        Ok(SpaceCheckpoint { layout: Arc::clone(&self.layout), contents })
    }

    /// Goes back to a state of this address space, or of an equal one. The page tables have been restored already. The
    /// memory is that of `guest`, which is not running.
    ///
    /// # Errors
    ///
    /// When the contents could not be changed. The address space is then in neither the old state nor the new one.
    pub(crate) fn restore(
        &mut self,
        checkpoint: &SpaceCheckpoint,
        guest: &mut dyn WrittenPages,
    ) -> Result<Restored, MemoryError> {
        if !Arc::ptr_eq(&self.origin, &checkpoint.layout) {
            self.revoke(iter::once(Frame(0)..Frame(self.memory.frames())));
            self.origin = Arc::clone(&checkpoint.layout);
            self.remapped.clear();
        } else if !self.remapped.is_empty() {
            let frames = self.remapped.take();
            self.revoke(frames);
        }
        if !Arc::ptr_eq(&self.layout, &checkpoint.layout) {
            self.layout = Arc::clone(&checkpoint.layout);
        }
        self.memory.restore(guest, &checkpoint.contents)
    }

    /// An address space as another was at a checkpoint, in memory that shows the contents of the checkpoint. `tables`
    /// already are what they were then.
    pub(crate) fn of_checkpoint(checkpoint: &SpaceCheckpoint, memory: GuestMemory, tables: Box<dyn PageMap>) -> Self {
        Self::of_layout(Arc::clone(&checkpoint.layout), memory, tables)
    }
}

impl SpaceCheckpoint {
    pub(super) fn of_parts(layout: Arc<Layout>, contents: Arc<Contents>) -> Self {
        Self { layout, contents }
    }

    /// What the memory held.
    pub(crate) fn contents(&self) -> &Arc<Contents> {
        &self.contents
    }
}
