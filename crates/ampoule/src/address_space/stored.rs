//! An address space as a record of a stored snapshot, and back.
//!
//! The record is the layout. Page tables are made again from it, so that a snapshot belongs to no kind of paging, and nobody
//! can write them who writes the file. Every rule of the [address space](super) is checked before it holds again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ampoule_vmm::address_map::{USER_END, USER_START};
use ampoule_vmm::{GuestVirt, PageMap};
use serde::{Deserialize, Serialize};

use super::copied::CopiedFiles;
use super::files::{FileId, Files};
use super::frames::{FirstFrame, FrameAllocator};
use super::heap::Heap;
use super::mapping::{Mapping, Sharing};
use super::range_map::RangeMap;
use super::shared::SharedFiles;
use super::stack::Stack;
use super::{
    AddressSpace, FilePages, Layout, MAX_MAPPINGS, MAX_RUNS, MappedFile, MappingKind, Protection, SpaceCheckpoint,
    coalesce,
};
use crate::bad_record::BadRecord;
use crate::executable_memory::ExecutableMemory;
use crate::guest_memory::GuestMemory;
use crate::page::{Frame, Page};

/// The layout of an address space.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SpaceRecord {
    mappings: Vec<MappingRecord>,
    backing: Vec<BackingRecord>,
    files: Vec<FileRecord>,
    next_file: u64,
    /// The start of the heap and the break.
    heap: [u64; 2],
    /// The start of the gap below the stack, of its guard, of the stack, and its end, as pages.
    stack: [u64; 4],
}

/// A range of pages, by the first and the one behind the last.
#[derive(Debug, Serialize, Deserialize)]
struct MappingRecord {
    pages: [u64; 2],
    kind: KindRecord,
    protection: ProtectionRecord,
}

#[derive(Debug, Serialize, Deserialize)]
enum KindRecord {
    Image,
    Heap,
    Stack,
    Anonymous,
    File(FilePagesRecord),
    BehindFile(FilePagesRecord),
    Vdso,
}

#[derive(Debug, Serialize, Deserialize)]
struct FilePagesRecord {
    file: u64,
    first: u64,
    pristine: bool,
    /// Whether the guest sees the pages that the file has, and cannot change them.
    is_shared: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum ProtectionRecord {
    None,
    Read,
    ReadWrite,
    ReadExecute,
    ReadWriteExecute,
}

/// Pages and the first of the frames behind them.
#[derive(Debug, Serialize, Deserialize)]
struct BackingRecord {
    pages: [u64; 2],
    frame: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct FileRecord {
    id: u64,
    path: Box<[u8]>,
    device: [u32; 2],
    inode: u64,
    size: u64,
    executable: bool,
}

/// Why an address space cannot be made of a record.
#[derive(Debug)]
pub(crate) enum SpaceError {
    Record(BadRecord),
    /// There are not enough page tables.
    Tables,
}

impl SpaceCheckpoint {
    /// The frame behind an address, if there is one.
    pub(crate) fn frame_behind(&self, at: GuestVirt) -> Option<Frame> {
        let (pages, FirstFrame(first)) = self.layout.backing.get(Page::of(at))?;
        Some(*first + (Page::of(at) - pages.start))
    }

    /// The record of the layout.
    ///
    /// # Errors
    ///
    /// What the guest does that has no record.
    pub(crate) fn record(&self) -> Result<SpaceRecord, String> {
        let Layout { mappings, backing, files, shared, copied, heap, stack, .. } = &*self.layout;
        if !shared.is_empty() {
            return Err("maps a file that may change, and shares its pages".to_owned());
        }
        if !copied.is_empty() {
            return Err("maps copies of a file that may change".to_owned());
        }
        let everywhere = Page(0)..Page::of(USER_END);
        for (pages, mapping) in mappings.overlapping(&everywhere) {
            if let MappingKind::File(of) = mapping.kind
                && !backing.covers(&pages)
            {
                let path = files.get(of.file).map(|file| file.path.clone()).unwrap_or_default();
                let path = String::from_utf8_lossy(&path);
                return Err(format!("maps pages of `{path}` that it has not been able to read, or has not read yet"));
            }
        }
        let file = |(FileId(id), file): (FileId, &MappedFile)| {
            let (path, device) = (file.path.clone(), file.device.into());
            FileRecord { id, path, device, inode: file.inode, size: file.size, executable: file.executable }
        };
        Ok(SpaceRecord {
            mappings: mappings.overlapping(&everywhere).map(MappingRecord::of).collect(),
            backing: backing
                .overlapping(&everywhere)
                .map(|(pages, FirstFrame(frame))| BackingRecord { pages: ends(&pages), frame: frame.0 })
                .collect(),
            files: files.iter().map(file).collect(),
            next_file: files.next(),
            heap: heap.record(),
            stack: stack.record(),
        })
    }
}

impl AddressSpace {
    /// The address space of a record, in memory that shows what it held. Nothing is mapped yet in `tables`.
    ///
    /// # Errors
    ///
    /// Where no guest could have come to such a layout, or there are not enough page tables.
    pub(crate) fn of_record(
        record: &SpaceRecord,
        memory: GuestMemory,
        tables: Box<dyn PageMap>,
        executable_memory: ExecutableMemory,
    ) -> Result<Self, SpaceError> {
        let layout = record.layout(memory.frames(), executable_memory).map_err(SpaceError::Record)?;
        let mut space = Self::of_layout(Arc::new(layout), memory, tables);
        let all: Vec<_> = space.layout.mappings.overlapping(&(Page(0)..Page::of(USER_END))).collect();
        for (pages, mapping) in all.into_iter().filter(|(_, mapping)| mapping.has_frames()) {
            if mapping.protection != Protection::None {
                space.set_entries(&pages, mapping.protection).map_err(|_| SpaceError::Tables)?;
            }
        }
        space.remapped.clear();
        Ok(space)
    }

    /// What it is now, if nothing was written since it was made of a record.
    pub(crate) fn as_recorded(&self) -> SpaceCheckpoint {
        SpaceCheckpoint::of_parts(Arc::clone(&self.layout), Arc::clone(self.memory.contents()))
    }
}

impl SpaceRecord {
    fn layout(&self, frames: u64, executable_memory: ExecutableMemory) -> Result<Layout, BadRecord> {
        let check = |holds, problem| BadRecord::unless(holds, "address space", problem);
        let files = self.files()?;
        check(self.mappings.len() <= MAX_MAPPINGS, "it has too many mappings")?;
        check(self.backing.len() <= MAX_RUNS, "it has too many runs of frames")?;
        let mut mappings = RangeMap::new();
        let mut end = Page::of(USER_START);
        for record in &self.mappings {
            let pages = range(record.pages, &mut end)?;
            let mapping = record.mapping(&files)?;
            let is_permitted = mapping.protection.is_permitted(executable_memory, true);
            check(is_permitted, "a page is writable and executable where none may be")?;
            mappings.insert(pages, mapping);
        }
        let mut backing = RangeMap::new();
        let mut used = Vec::new();
        let mut end = Page::of(USER_START);
        for record in &self.backing {
            let pages = range(record.pages, &mut end)?;
            let first = Frame(record.frame);
            let behind = record.frame.checked_add(pages.end - pages.start).filter(|behind| *behind <= frames);
            let behind = Frame(behind.ok_or(bad("a frame is beyond its memory"))?);
            check(mappings.covers(&pages), "a page has a frame and is not mapped")?;
            backing.insert(pages, FirstFrame(first));
            used.push(first..behind);
        }
        let count: u64 = used.iter().map(|run: &Range<Frame>| run.end - run.start).sum();
        let used = coalesce(used);
        let apart: u64 = used.iter().map(|run| run.end - run.start).sum();
        check(count == apart, "two pages have one frame")?;
        for (pages, mapping) in mappings.overlapping(&(Page(0)..Page::of(USER_END))) {
            let mapping: Mapping = mapping;
            let needs_frames = mapping.has_frames() && mapping.protection != Protection::None;
            check(!needs_frames || backing.covers(&pages), "a page that can be read has no frame")?;
        }
        Ok(Layout {
            mappings,
            backing,
            files,
            shared: SharedFiles::default(),
            copied: CopiedFiles::default(),
            frames: FrameAllocator::without(frames, &used),
            heap: Heap::of_record(self.heap).ok_or(bad("its heap is no range of its addresses"))?,
            stack: Stack::of_record(self.stack).ok_or(bad("its stack is no range of its addresses"))?,
            executable_memory,
        })
    }

    fn files(&self) -> Result<Files, BadRecord> {
        let mut files = BTreeMap::new();
        for FileRecord { id, path, device: [major, minor], inode, size, executable } in &self.files {
            BadRecord::unless(*id < self.next_file, "address space", "a file has a number that is still to be given")?;
            let file = MappedFile {
                path: path.clone(),
                device: (*major, *minor),
                inode: *inode,
                size: *size,
                frozen: None,
                paged: None,
                executable: *executable,
            };
            if files.insert(FileId(*id), Arc::new(file)).is_some() {
                return Err(bad("two files have one number"));
            }
        }
        Ok(Files::of_parts(files, self.next_file))
    }
}

impl MappingRecord {
    fn of((pages, mapping): (Range<Page>, Mapping)) -> Self {
        let of_file = |pages: FilePages| FilePagesRecord {
            file: pages.file.0,
            first: pages.first,
            pristine: pages.pristine,
            is_shared: pages.sharing != Sharing::Private,
        };
        let kind = match mapping.kind {
            MappingKind::Image => KindRecord::Image,
            MappingKind::Heap => KindRecord::Heap,
            MappingKind::Stack => KindRecord::Stack,
            MappingKind::Anonymous => KindRecord::Anonymous,
            MappingKind::File(pages) => KindRecord::File(of_file(pages)),
            MappingKind::BehindFile(pages) => KindRecord::BehindFile(of_file(pages)),
            MappingKind::Vdso => KindRecord::Vdso,
        };
        let protection = match mapping.protection {
            Protection::None => ProtectionRecord::None,
            Protection::Read => ProtectionRecord::Read,
            Protection::ReadWrite => ProtectionRecord::ReadWrite,
            Protection::ReadExecute => ProtectionRecord::ReadExecute,
            Protection::ReadWriteExecute => ProtectionRecord::ReadWriteExecute,
        };
        Self { pages: ends(&pages), kind, protection }
    }

    fn mapping(&self, files: &Files) -> Result<Mapping, BadRecord> {
        let pages = self.pages[1] - self.pages[0];
        let of_file = |record: &FilePagesRecord| {
            let FilePagesRecord { file, first, pristine, is_shared } = *record;
            let is_known = files.get(FileId(file)).is_some() && first.checked_add(pages).is_some();
            let sharing = if is_shared { Sharing::ReadOnly } else { Sharing::Private };
            let of = FilePages { file: FileId(file), first, pristine, sharing };
            if is_known { Ok(of) } else { Err(bad("it maps pages of a file that it does not name")) }
        };
        let kind = match &self.kind {
            KindRecord::Image => MappingKind::Image,
            KindRecord::Heap => MappingKind::Heap,
            KindRecord::Stack => MappingKind::Stack,
            KindRecord::Anonymous => MappingKind::Anonymous,
            KindRecord::File(record) => MappingKind::File(of_file(record)?),
            KindRecord::BehindFile(record) => MappingKind::BehindFile(of_file(record)?),
            KindRecord::Vdso => MappingKind::Vdso,
        };
        let protection = match self.protection {
            ProtectionRecord::None => Protection::None,
            ProtectionRecord::Read => Protection::Read,
            ProtectionRecord::ReadWrite => Protection::ReadWrite,
            ProtectionRecord::ReadExecute => Protection::ReadExecute,
            ProtectionRecord::ReadWriteExecute => Protection::ReadWriteExecute,
        };
        Ok(Mapping { kind, protection })
    }
}

fn ends(pages: &Range<Page>) -> [u64; 2] {
    [pages.start.0, pages.end.0]
}

/// A range that begins at `end` at the earliest, which is moved behind it.
fn range([first, behind]: [u64; 2], end: &mut Page) -> Result<Range<Page>, BadRecord> {
    let pages = Page(first)..Page(behind);
    let is_next = *end <= pages.start && pages.start < pages.end && pages.end <= Page::of(USER_END);
    BadRecord::unless(is_next, "address space", "its ranges are not in ascending order within its addresses")?;
    *end = pages.end;
    Ok(pages)
}

fn bad(problem: &'static str) -> BadRecord {
    BadRecord { part: "address space", problem }
}
