//! Memory of the host's in core dumps.
//!
//! Pages of a file that has a name on the host are not stored, unless the guest has written them: a debugger finds them there.
//! Everything else is, as on Linux, where files are left out and memory without one is not.

use std::sync::Arc;

use ampoule_vmm::{GuestVirt, HypervisorError, MappedMemory, PAGE_SIZE, PageAccess, PageSet};

use super::{Kept, Machine, Shown, Written};
use crate::address_space::{HostPages, Protection, Purpose, Run};
use crate::core_dump::Memory;

/// Pages of the host's that follow each other in the guest's addresses.
pub(in crate::machine) struct HostPart {
    at: GuestVirt,
    count: usize,
    access: PageAccess,
    memory: Arc<MappedMemory>,
    /// The number of the first among the pages of `memory`.
    first: usize,
    /// The path of the file that has what the guest has not written, and the page of it that is the first.
    file: Option<(String, u64)>,
    /// The pages that the guest has written, as far as there is such a file.
    written: PageSet,
    /// What it has written, where `memory` does not have it.
    saved: Arc<Written>,
}

impl Machine {
    /// What the guest sees now.
    pub(in crate::machine) fn host_parts(&mut self) -> Result<Vec<HostPart>, HypervisorError> {
        let mut parts = Vec::new();
        for pages in self.space.host_pages() {
            let HostPages { at, memory, first, count, access, .. } = pages.clone();
            let mut part = HostPart {
                at,
                count,
                access,
                memory,
                first,
                file: None,
                written: PageSet::new(count),
                saved: Arc::default(),
            };
            if let Some(Shown { mapping, memory, number, copies }) =
                self.host.shown.iter_mut().find(|shown| shown.mapping.start() == at)
            {
                part.file = mapping.named_file();
                if let Some(copies) = copies {
                    copies.note_written(&mut *self.processor, *number, memory, &mut part.written)?;
                }
            }
            parts.push(part);
        }
        Ok(parts)
    }
}

impl HostPart {
    /// What a guest saw at a checkpoint.
    pub(in crate::machine) fn of_kept(kept: &[Kept]) -> Vec<Self> {
        let part = |Kept { mapping, written: saved }: &Kept| {
            let mut written = PageSet::new(mapping.pages());
            saved.keys().for_each(|page| written.insert(*page));
            Self {
                at: mapping.start(),
                count: mapping.pages(),
                access: mapping.page_access(),
                memory: mapping.unwritten(),
                first: 0,
                file: mapping.named_file(),
                written,
                saved: Arc::clone(saved),
            }
        };
        let mut parts: Vec<Self> = kept.iter().map(part).collect();
        parts.sort_unstable_by_key(|part| part.at);
        parts
    }

    fn is_stored(&self, page: usize) -> bool {
        self.file.is_none() || self.written.contains(page)
    }

    fn read(&self, page: usize, into: &mut [u8]) {
        match self.saved.get(&page) {
            Some(bytes) => into.copy_from_slice(bytes),
            None => {
                if self.memory.read((self.first + page) * PAGE_SIZE, into).is_err() {
                    // The file no longer has the page.
                    into.fill(0);
                }
            }
        }
    }
}

/// The memory of a guest, whose pages have the numbers up to `own_pages`, and what it sees of the host's, with those behind.
pub(in crate::machine) struct WithHost<'guest> {
    own: &'guest dyn Memory,
    own_pages: usize,
    parts: &'guest [HostPart],
    /// The number of the first page of each part.
    numbers: Vec<usize>,
}

impl<'guest> WithHost<'guest> {
    pub(in crate::machine) fn new(own: &'guest dyn Memory, own_pages: usize, parts: &'guest [HostPart]) -> Self {
        let mut next = own_pages;
        let number = |part: &HostPart| {
            let number = next;
            next += part.count;
            number
        };
        Self { own, own_pages, parts, numbers: parts.iter().map(number).collect() }
    }

    /// The parts, whose addresses lie behind all of the guest's own.
    pub(in crate::machine) fn runs(&self) -> impl Iterator<Item = Run> {
        let mut files = 0;
        self.parts.iter().zip(&self.numbers).map(move |(part, number)| {
            let file = part.file.as_ref().map(|(_, first)| {
                files += 1;
                (files - 1, *first)
            });
            let protection = match (part.access.write, part.access.execute) {
                (true, _) => Protection::ReadWrite,
                (false, true) => Protection::ReadExecute,
                (false, false) => Protection::Read,
            };
            let purpose = Purpose::Host { file };
            Run { at: part.at, pages: part.count as u64, purpose, protection, memory: Some(*number) }
        })
    }

    /// The paths of their files, in the same order.
    pub(in crate::machine) fn files(&self) -> Vec<&'guest str> {
        self.parts.iter().filter_map(|part| part.file.as_ref().map(|(path, _)| &**path)).collect()
    }

    /// The part that has a page, and its number there.
    fn find(&self, page: usize) -> (&HostPart, usize) {
        let index = self.numbers.partition_point(|number| *number <= page) - 1;
        (&self.parts[index], page - self.numbers[index])
    }
}

impl Memory for WithHost<'_> {
    fn is_touched(&self, page: usize) -> bool {
        if page < self.own_pages {
            return self.own.is_touched(page);
        }
        let (part, page) = self.find(page);
        part.is_stored(page)
    }

    fn read(&self, page: usize, into: &mut [u8]) {
        if page < self.own_pages {
            return self.own.read(page, into);
        }
        let (part, page) = self.find(page);
        part.read(page, into);
    }
}
