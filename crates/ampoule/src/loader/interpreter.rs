//! The interpreter of a dynamically linked program: it is started in the program's place, maps the libraries, and jumps to the
//! program. Linux calls it so whatever it is; on most systems it is `ld.so`.

use std::sync::Arc;

use ampoule_vmm::{GuestVirt, PAGE_SIZE};

use crate::address_space::{AddressSpace, FilePart, MapError, MappedFile, Placement, Protection};
use crate::image::{Executable, Segment};

use super::{LoadError, PAGE, protection};

/// An interpreter that is to be loaded.
#[derive(Clone, Debug)]
pub(crate) struct Interpreter {
    executable: Executable,
    file: Arc<MappedFile>,
}

impl Interpreter {
    /// The checked bytes, and the file that they are from.
    pub(crate) fn new(executable: Executable, file: Arc<MappedFile>) -> Self {
        Self { executable, file }
    }

    /// How much memory its segments take, in bytes.
    pub(super) fn memory_size(&self) -> u64 {
        self.executable.segments().map(|segment| segment.memory_size().next_multiple_of(PAGE) + PAGE).sum()
    }

    /// The first instruction, from the [base](Self::map) on.
    pub(super) fn entry(&self) -> u64 {
        self.executable.entry().0 - self.executable.bias()
    }

    /// Maps it, and returns its base: what is to be added to the addresses in its file.
    pub(super) fn map(&self, space: &mut AddressSpace) -> Result<GuestVirt, LoadError> {
        let base = self.base(space)?;
        for segment in self.executable.segments() {
            let at = GuestVirt(base + (segment.address().0 - self.executable.bias()));
            self.map_segment(at, &segment, space).map_err(|error| match error {
                MapError::OutOfTables(_) => LoadError::PageTables { address: at.0, size: segment.memory_size() },
                MapError::File(reason) => LoadError::Memory(reason),
                _ => LoadError::NoRoom { address: at.0, size: segment.memory_size() },
            })?;
        }
        Ok(GuestVirt(base))
    }

    fn base(&self, space: &AddressSpace) -> Result<u64, LoadError> {
        let Some((first, end)) = self.executable.extent().filter(|_| self.executable.is_position_independent()) else {
            return Ok(self.executable.bias());
        };
        let start = first - first % PAGE;
        // As much more as it takes to find an aligned place within.
        let slack = self.executable.alignment() - PAGE;
        let size = end - start;
        let room =
            space.room_for(size + slack).ok().and_then(|room| room.0.checked_sub(start - self.executable.bias()));
        let base = room.ok_or(LoadError::NoRoom { address: start, size })?;
        Ok(base.next_multiple_of(self.executable.alignment()))
    }

    /// Maps a segment, as the program's own are mapped: zeros follow what is in the file.
    fn map_segment(&self, at: GuestVirt, segment: &Segment<'_>, space: &mut AddressSpace) -> Result<(), MapError> {
        let (first, into_page) = (at.page_start(), at.page_offset() as u64);
        let of_file = into_page + segment.bytes().len() as u64;
        let len = (into_page + segment.memory_size()).next_multiple_of(PAGE);
        let mapped = if segment.bytes().is_empty() { 0 } else { of_file.next_multiple_of(PAGE) };
        let protection = protection(segment.permissions());
        if mapped > 0 {
            let page = (segment.file_offset() - into_page) / PAGE;
            let mut read = |offset: u64, into: &mut [u8]| {
                let rest = self.executable.file().get(offset as usize..).unwrap_or_default();
                let len = rest.len().min(into.len());
                into[..len].copy_from_slice(&rest[..len]);
                Ok(len)
            };
            let part = FilePart { file: &self.file, first: page, is_shared: false, key: None };
            space.map_file(mapped, Placement::FixedVacant(first), protection, part, &mut read)?;
        }
        if mapped < len {
            space.map_image(GuestVirt(first.0 + mapped), len - mapped, protection)?;
        }
        let zeros = (mapped - of_file.min(mapped)).min((len - of_file.min(len)).min(PAGE)) as usize;
        if segment.memory_size() > segment.bytes().len() as u64 && protection != Protection::None {
            let behind = GuestVirt(first.0 + of_file);
            space.initialize(behind, &[0; PAGE_SIZE][..zeros]).map_err(|_| MapError::NotMapped)?;
        }
        Ok(())
    }
}
