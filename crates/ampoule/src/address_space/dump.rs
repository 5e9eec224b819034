//! What a dump of a guest's memory is made of: runs of pages, and which page of the memory is behind each.

use std::ops::Range;

use ampoule_vmm::GuestVirt;
use ampoule_vmm::address_map::USER_END;

use super::range_map::Piece;
use super::{AddressSpace, FileId, Layout, MappedFile, MappingKind, PAGE, Protection, SpaceCheckpoint};
use crate::page::Page;

/// Pages that follow each other in the guest's addresses and, as far as it has ever reached them, in its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) at: GuestVirt,
    pub(crate) pages: u64,
    pub(crate) purpose: Purpose,
    pub(crate) protection: Protection,
    /// The first of these pages of the memory; none where the guest never reached: zeros.
    pub(crate) memory: Option<usize>,
}

/// What pages are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The guest has mapped them, or they were mapped when it was loaded.
    Mapping(MappingKind),
    /// The host shares them with the guest.
    Shared,
    /// The application has mapped them.
    Host {
        /// Which of the files of the host's has them, and the page of it that is the first.
        file: Option<(usize, u64)>,
    },
}

impl Run {
    /// The address behind the last page.
    pub(crate) fn end(&self) -> GuestVirt {
        GuestVirt(self.at.0 + self.pages * PAGE)
    }

    /// The page of the memory that is behind a page of the run, counted from its first.
    pub(crate) fn memory_of(&self, page: u64) -> Option<usize> {
        Some(self.memory? + page as usize)
    }
}

impl AddressSpace {
    /// Everything that the guest can see, in ascending order of the addresses, except for the pages of ring 0.
    pub(crate) fn runs(&self) -> Vec<Run> {
        let mut runs = self.layout.runs(|frame| self.memory.frame_offset(frame) / PAGE as usize);
        let mut shared: Vec<Run> = self
            .windows
            .iter()
            .filter_map(|window| {
                let range = window.range()?;
                Some(Run {
                    at: window.at,
                    pages: range.end - range.start,
                    purpose: Purpose::Shared,
                    protection: if window.writable { Protection::ReadWrite } else { Protection::Read },
                    memory: Some(window.offset / PAGE as usize),
                })
            })
            .collect();
        shared.sort_by_key(|run| run.at);
        // The guest's own addresses lie below those of windows.
        runs.append(&mut shared);
        runs
    }
}

impl SpaceCheckpoint {
    /// The files whose pages are mapped, and perhaps others.
    pub(crate) fn mapped_files(&self) -> impl Iterator<Item = (FileId, &MappedFile)> {
        self.layout.files.iter()
    }

    /// The guest's own pages, in ascending order of the addresses, in memory that begins with `reserved` pages of the host's.
    pub(crate) fn runs(&self, reserved: usize) -> Vec<Run> {
        self.layout.runs(|frame| reserved + frame.0 as usize)
    }
}

impl Layout {
    /// The guest's own pages. At most [`MAX_MAPPINGS`](super::MAX_MAPPINGS) mappings and [`MAX_RUNS`](super::MAX_RUNS) runs of
    /// frames bound their number.
    fn runs(&self, memory: impl Fn(crate::page::Frame) -> usize) -> Vec<Run> {
        let mut runs = Vec::new();
        for (mapped, mapping) in self.mappings.overlapping(&(Page(0)..Page::of(USER_END))) {
            let mut add = |pages: Range<Page>, memory| {
                let purpose = Purpose::Mapping(mapping.skip(pages.start - mapped.start).kind);
                let (at, pages) = (pages.start.address(), pages.end - pages.start);
                if pages > 0 {
                    runs.push(Run { at, pages, purpose, protection: mapping.protection, memory });
                }
            };
            let mut rest = mapped.start;
            for (backed, first) in self.backing.overlapping(&mapped) {
                add(rest..backed.start, None);
                rest = backed.end;
                add(backed, Some(memory(first.0)));
            }
            add(rest..mapped.end, None);
        }
        runs
    }
}
