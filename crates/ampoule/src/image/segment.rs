//! The parts of an executable that are loaded into memory.

use std::ops::Range;

use ampoule_vmm::address_map::{USER_END, USER_START};
use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use object::LittleEndian as LE;
use object::elf::{self, ProgramHeader64};
use object::read::elf::ProgramHeader;

use super::elf::Kind;
use super::error::ImageProblem;

/// A part of an executable that is loaded into memory.
///
/// It shares no page with another segment of the executable, and no segment is both writable and executable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'file> {
    placement: &'file Placement,
    bias: u64,
    bytes: &'file [u8],
}

impl<'file> Segment<'file> {
    /// Address of the first byte in the guest's memory.
    pub(crate) fn address(&self) -> GuestVirt {
        GuestVirt(self.bias + self.placement.address)
    }

    /// The address behind the last byte in the guest's memory.
    pub(crate) fn end(&self) -> GuestVirt {
        GuestVirt(self.bias + self.placement.end())
    }

    /// Bytes in memory: those of the file, then zeros. At least 1.
    pub(crate) fn memory_size(&self) -> u64 {
        self.placement.memory_size
    }

    /// What the memory starts with; not longer than [`Self::memory_size`]. Their place in the file differs from
    /// [`Self::address`] by whole pages.
    pub(crate) fn bytes(&self) -> &'file [u8] {
        self.bytes
    }

    /// Where the bytes begin in the file.
    pub(crate) fn file_offset(&self) -> u64 {
        self.placement.file.start as u64
    }

    /// What the guest may do with the memory.
    pub(crate) fn permissions(&self) -> Permissions {
        self.placement.permissions
    }
}

/// What a guest may do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permissions {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) execute: bool,
}

/// Why a segment cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentProblem {
    /// Its bytes are not all in the file.
    #[error("its {size} bytes at offset {offset:#x} are not within the file")]
    OutsideFile {
        /// Where it begins in the file.
        offset: u64,
        /// Its bytes in the file.
        size: u64,
    },
    /// It has more bytes in the file than in memory.
    #[error("it has {in_file} bytes in the file and only {in_memory} in memory")]
    LargerInFile {
        /// Its bytes in the file.
        in_file: u64,
        /// Its bytes in memory.
        in_memory: u64,
    },
    /// It is not in the part of the address space that a guest has.
    #[error("its {size} bytes are not within the guest's addresses {lowest:#x} to {end:#x}")]
    OutsideUserMemory {
        /// Its bytes in memory.
        size: u64,
        /// The guest's lowest address.
        lowest: u64,
        /// The address behind the guest's highest.
        end: u64,
    },
    /// Its pages in memory are not pages of the file.
    #[error("its file offset {offset:#x} and its address differ by less than whole pages")]
    OffsetNotCongruent {
        /// Where it begins in the file.
        offset: u64,
    },
    /// Its alignment is not a power of two, or too large.
    #[error("its alignment {alignment:#x} is not a power of two up to {limit:#x}")]
    Alignment {
        /// The alignment that it asks for, in bytes.
        alignment: u64,
        /// The largest alignment, in bytes.
        limit: u64,
    },
    /// It is writable and executable.
    #[error("it is writable and executable")]
    WritableAndExecutable,
    /// It begins below the end of the segment before it.
    #[error("it is not above the segment before it, which ends at {previous_end:#x}")]
    NotAscending {
        /// The address behind the segment before it.
        previous_end: u64,
    },
    /// It shares a page with the segment before it.
    #[error("it shares a page with the segment before it, which ends at {previous_end:#x}")]
    SharedPage {
        /// The address behind the segment before it.
        previous_end: u64,
    },
}

/// Where a segment stands in the file and in memory.
#[derive(Clone, Debug)]
struct Placement {
    address: u64,
    memory_size: u64,
    file: Range<usize>,
    alignment: u64,
    permissions: Permissions,
}

impl Placement {
    /// `None` for a segment without memory.
    fn read(header: &ProgramHeader64<LE>, kind: Kind, file_size: usize) -> Result<Option<Self>, SegmentProblem> {
        let (address, memory_size) = (header.p_vaddr(LE), header.p_memsz(LE));
        let (offset, size) = header.file_range(LE);
        let file = file_range(offset, size, file_size).ok_or(SegmentProblem::OutsideFile { offset, size })?;
        if size > memory_size {
            return Err(SegmentProblem::LargerInFile { in_file: size, in_memory: memory_size });
        }
        if memory_size == 0 {
            return Ok(None);
        }
        let user = match kind {
            Kind::Fixed => USER_START.0..USER_END.0,
            Kind::PositionIndependent => 0..USER_END.0 - USER_START.0,
        };
        let end = address.checked_add(memory_size);
        if address < user.start || end.is_none_or(|end| end > user.end) {
            return Err(SegmentProblem::OutsideUserMemory { size: memory_size, lowest: user.start, end: user.end });
        }
        if size != 0 && offset % PAGE != address % PAGE {
            return Err(SegmentProblem::OffsetNotCongruent { offset });
        }
        Ok(Some(Self {
            address,
            memory_size,
            file,
            alignment: alignment(header.p_align(LE))?,
            permissions: permissions(header.p_flags(LE))?,
        }))
    }

    /// The address behind the last byte. The sum was checked when the segment was read.
    fn end(&self) -> u64 {
        self.address + self.memory_size
    }

    fn contains(&self, address: u64) -> bool {
        (self.address..self.end()).contains(&address)
    }

    /// The address at which these bytes of the file are loaded, if they are.
    fn address_of(&self, file: &Range<u64>) -> Option<u64> {
        let loaded = self.file.start as u64..self.file.end as u64;
        let within = loaded.start <= file.start && file.start <= file.end && file.end <= loaded.end;
        within.then(|| self.address + (file.start - loaded.start))
    }

    fn check_above(&self, previous: &Self) -> Result<(), SegmentProblem> {
        let previous_end = previous.end();
        if self.address < previous_end {
            Err(SegmentProblem::NotAscending { previous_end })
        } else if self.address / PAGE == (previous_end - 1) / PAGE {
            Err(SegmentProblem::SharedPage { previous_end })
        } else {
            Ok(())
        }
    }
}

/// The segments that are loaded, in ascending order of their addresses.
#[derive(Debug)]
pub(super) struct Placements {
    segments: Vec<Placement>,
}

impl Placements {
    pub(super) fn read(headers: &[ProgramHeader64<LE>], kind: Kind, file_size: usize) -> Result<Self, ImageProblem> {
        let mut segments: Vec<Placement> = Vec::new();
        for (index, header) in headers.iter().enumerate() {
            if header.p_type(LE) != elf::PT_LOAD {
                continue;
            }
            let segment = Placement::read(header, kind, file_size).and_then(|segment| {
                if let (Some(segment), Some(previous)) = (&segment, segments.last()) {
                    segment.check_above(previous)?;
                }
                Ok(segment)
            });
            let segment =
                segment.map_err(|problem| ImageProblem::Segment { index, address: header.p_vaddr(LE), problem })?;
            segments.extend(segment);
        }
        if segments.is_empty() {
            return Err(ImageProblem::NoSegments);
        }
        // Without overflow: the segments are disjoint parts of the user's addresses.
        let size = segments.iter().map(|segment| segment.memory_size).sum();
        if size > MAX_MEMORY {
            let limit = MAX_MEMORY;
            return Err(ImageProblem::TooMuchMemory { size, limit });
        }
        Ok(Self { segments })
    }

    /// The segments with their bytes, from the `file` that the placements were read from, when `bias` is added to the
    /// addresses in it.
    pub(super) fn iter<'file>(
        &'file self,
        file: &'file [u8],
        bias: u64,
    ) -> impl ExactSizeIterator<Item = Segment<'file>> {
        self.segments.iter().map(move |placement| Segment { placement, bias, bytes: &file[placement.file.clone()] })
    }

    /// Whether there is code at this address.
    pub(super) fn is_executable(&self, address: u64) -> bool {
        self.segments.iter().any(|segment| segment.permissions.execute && segment.contains(address))
    }

    /// The address at which these bytes of the file are loaded, if they are.
    pub(super) fn address_of(&self, file: &Range<u64>) -> Option<u64> {
        self.segments.iter().find_map(|segment| segment.address_of(file))
    }

    /// The largest alignment of a segment, at least a page.
    pub(super) fn alignment(&self) -> u64 {
        self.segments.iter().map(|segment| segment.alignment).fold(PAGE, u64::max)
    }
}

/// The offset of no bytes does not count: linkers give one that may lie outside of the file.
fn file_range(offset: u64, size: u64, file_size: usize) -> Option<Range<usize>> {
    if size == 0 {
        return Some(0..0);
    }
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    (end <= file_size).then_some(start..end)
}

/// 0 and 1 mean none.
fn alignment(alignment: u64) -> Result<u64, SegmentProblem> {
    match alignment {
        0 => Ok(1),
        _ if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT => Ok(alignment),
        _ => Err(SegmentProblem::Alignment { alignment, limit: MAX_ALIGNMENT }),
    }
}

fn permissions(flags: elf::ProgramFlags) -> Result<Permissions, SegmentProblem> {
    let permissions = Permissions {
        read: flags.contains(elf::PF_R),
        write: flags.contains(elf::PF_W),
        execute: flags.contains(elf::PF_X),
    };
    if permissions.write && permissions.execute {
        return Err(SegmentProblem::WritableAndExecutable);
    }
    Ok(permissions)
}

/// The largest page of x86-64.
const MAX_ALIGNMENT: u64 = 1 << 30;

/// The most memory that the segments of an executable may take together, in bytes. A sandbox has a much lower limit of its
/// own.
pub(super) const MAX_MEMORY: u64 = 1 << 40;

pub(super) const PAGE: u64 = PAGE_SIZE as u64;
