//! What a guest has written of memory that it sees copy-on-write, and the way back.
//!
//! A page that is not dirty holds what [`Written`] has of it, and otherwise what the file has.

use std::collections::BTreeMap;
use std::sync::Arc;

use ampoule_vmm::{HypervisorError, MappedMemory, PAGE_SIZE, PageSet, Processor};

/// The pages that were written, by their number, at one moment. Pages that were not written in between are shared.
pub(super) type Written = BTreeMap<usize, Arc<[u8]>>;

/// The state of one mapping.
#[derive(Debug)]
pub(super) struct Copies {
    written: Arc<Written>,
    /// Pages that may hold something else.
    dirty: PageSet,
}

impl Copies {
    pub(super) fn new(pages: usize) -> Self {
        Self { written: Arc::default(), dirty: PageSet::new(pages) }
    }

    /// Writes to memory that nobody has written yet what was written at a checkpoint.
    pub(super) fn begin_with(&mut self, memory: &MappedMemory, written: &Arc<Written>) {
        for (page, bytes) in &**written {
            put(memory, *page, bytes);
        }
        self.written = Arc::clone(written);
        discard_note(memory);
    }

    /// What was written until now.
    pub(super) fn keep(
        &mut self,
        guest: &mut dyn Processor,
        number: u32,
        memory: &MappedMemory,
    ) -> Result<Arc<Written>, HypervisorError> {
        self.collect(guest, number, memory)?;
        if self.dirty.iter().next().is_some() {
            let written = Arc::make_mut(&mut self.written);
            for page in self.dirty.iter() {
                let mut bytes = vec![0; PAGE_SIZE];
                // A page that the file has lost has lost what was written to it.
                match memory.read(page * PAGE_SIZE, &mut bytes) {
                    Ok(()) => drop(written.insert(page, bytes.into())),
                    Err(_) => drop(written.remove(&page)),
                }
            }
            guest.forget_attached(number, &self.dirty)?;
            self.dirty.clear();
        }
        Ok(Arc::clone(&self.written))
    }

    /// Adds the pages that were written until now, and looks at none of them.
    pub(super) fn note_written(
        &mut self,
        guest: &mut dyn Processor,
        number: u32,
        memory: &MappedMemory,
        written: &mut PageSet,
    ) -> Result<(), HypervisorError> {
        self.collect(guest, number, memory)?;
        written.insert_all(&self.dirty);
        self.written.keys().for_each(|page| written.insert(*page));
        Ok(())
    }

    /// Makes the memory hold what was written at a checkpoint, and nothing else.
    pub(super) fn go_back(
        &mut self,
        guest: &mut dyn Processor,
        number: u32,
        memory: &MappedMemory,
        target: &Arc<Written>,
    ) -> Result<(), HypervisorError> {
        self.collect(guest, number, memory)?;
        if !Arc::ptr_eq(&self.written, target) {
            let differs = |page: &&usize| {
                let [one, other] = [&self.written, target].map(|written| written.get(*page));
                !one.zip(other).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
            };
            let differing: Vec<_> = self.written.keys().chain(target.keys()).filter(differs).copied().collect();
            differing.into_iter().for_each(|page| self.dirty.insert(page));
            self.written = Arc::clone(target);
        }
        if self.dirty.iter().next().is_none() {
            return Ok(());
        }
        // Before the pages change: a write that comes after that is noted again.
        guest.forget_attached(number, &self.dirty)?;
        for page in self.dirty.iter() {
            match self.written.get(&page) {
                Some(bytes) => put(memory, page, bytes),
                None if memory.forget(page..page + 1) => {}
                None => tracing::debug!(page, "a page of mapped memory is locked and keeps what was written to it"),
            }
        }
        self.dirty.clear();
        discard_note(memory);
        Ok(())
    }

    fn collect(
        &mut self,
        guest: &mut dyn Processor,
        number: u32,
        memory: &MappedMemory,
    ) -> Result<(), HypervisorError> {
        guest.collect_attached(number, &mut self.dirty)?;
        memory.take_written(&mut self.dirty);
        Ok(())
    }
}

/// Writes a page, unless the file has lost it.
fn put(memory: &MappedMemory, page: usize, bytes: &[u8]) {
    if let Err(error) = memory.write(page * PAGE_SIZE, bytes) {
        tracing::debug!(%error, "a page that was written is no longer in its file");
    }
}

/// What has just been written is what should be there.
fn discard_note(memory: &MappedMemory) {
    memory.take_written(&mut PageSet::new(memory.pages()));
}
