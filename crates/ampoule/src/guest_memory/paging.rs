//! Pages of the host's files that are read into frames when they are needed.

use ampoule_vmm::{PAGE_SIZE, PagedFile};

use super::GuestMemory;
use super::ahead::HUGE_PAGE;
use crate::page::Frame;

impl GuestMemory {
    /// Reads pages of a file, from its page `first` on, into frames, which hold zeros. Returns how many of these pages have any
    /// byte of the file; the frames behind them may hold anything.
    pub(crate) fn read_file(&mut self, frame: Frame, pages: u64, (file, first): (&PagedFile, u64)) -> u64 {
        let (offset, len) = (self.frame_offset(frame), pages as usize * PAGE_SIZE);
        let start = offset / PAGE_SIZE;
        // Whoever reads so much reads on: so the rest of a huge page is needed soon.
        let end = (start + pages as usize).next_multiple_of(HUGE_PAGE).min(self.pages());
        let huge = start.next_multiple_of(HUGE_PAGE)..end - end % HUGE_PAGE;
        if pages as usize >= HUGE_PAGE && !huge.is_empty() {
            self.populate(huge);
        }
        match file.read_to(&self.region, offset, len, first * PAGE_SIZE as u64) {
            Ok(read) => read.div_ceil(PAGE_SIZE) as u64,
            Err(error) => {
                tracing::debug!(%error, "pages of a file that a guest has mapped could not be read");
                0
            }
        }
    }
}
