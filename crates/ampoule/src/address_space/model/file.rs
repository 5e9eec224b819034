//! The files that are mapped, and what should come of that.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock};

use ampoule_vmm::{FrozenFile, GuestVirt, PAGE_SIZE};

use super::change::Plan;
use super::{Model, PAGE, Page, user_range};
use crate::address_space::mapping::Mapping;
use crate::address_space::range_map::Piece;
use crate::address_space::{
    AddressSpace, FileId, FilePages, FilePart, MapError, MappedFile, MappingKind, Placement, Protection, Sharing,
};

/// A file to map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TestFile {
    /// A frozen one that the guest may execute.
    Library,
    /// A frozen one that it may not execute.
    Data,
    /// One that is copied.
    Scratch,
    /// One whose pages are [shared](super::shared).
    Shared,
}

impl TestFile {
    /// Those that are mapped privately.
    pub(crate) const PRIVATE: [Self; 3] = [Self::Library, Self::Data, Self::Scratch];

    /// Maps its pages from `first` on.
    pub(super) fn map(
        self,
        space: &mut AddressSpace,
        (placement, len): (Placement, u64),
        protection: Protection,
        first: u64,
    ) -> Result<GuestVirt, MapError> {
        let bytes = self.bytes();
        let file = match self {
            Self::Scratch | Self::Shared => Arc::new(mapped(self, None)),
            Self::Library | Self::Data => Arc::clone(&FROZEN[self as usize]),
        };
        let part = FilePart { file: &file, first, is_shared: false, key: None };
        let mapped = space.map_file(len, placement, protection, part, &mut |offset, into| {
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            let len = rest.len().min(into.len());
            into[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        });
        mapped.map(|(at, _)| at)
    }

    fn bytes(self) -> Vec<u8> {
        let seed = 1 + 50 * self as usize;
        (0..FILE_LEN).map(|at| (seed + at / PAGE_SIZE + at % 40) as u8).collect()
    }

    /// The number under which the model knows it.
    fn id(self, copies: u64) -> FileId {
        match self {
            Self::Scratch | Self::Shared => FileId(KINDS * copies + self as u64),
            Self::Library | Self::Data => FileId(self as u64),
        }
    }
}

/// What a page holds when it is new.
pub(super) fn held(kind: MappingKind) -> [u8; PAGE_SIZE] {
    let mut page = [0; PAGE_SIZE];
    if let MappingKind::File(of) = kind {
        let bytes = TestFile::PRIVATE[(of.file.0 % KINDS) as usize].bytes();
        let part = &bytes[(of.first as usize * PAGE_SIZE).min(bytes.len())..];
        let len = part.len().min(PAGE_SIZE);
        page[..len].copy_from_slice(&part[..len]);
    }
    page
}

/// Whether pages of this kind can be had again.
pub(super) fn is_copy(kind: MappingKind) -> bool {
    matches!(kind, MappingKind::File(of) if of.file.0 % KINDS == TestFile::Scratch as u64)
}

/// The same without the number of the file, but for which of them it is.
pub(super) fn comparable(kind: MappingKind, number: impl Fn(FileId) -> u64) -> MappingKind {
    let of = |pages: FilePages| FilePages { file: FileId(number(pages.file)), ..pages };
    match kind {
        MappingKind::File(pages) => MappingKind::File(of(pages)),
        MappingKind::BehindFile(pages) => MappingKind::BehindFile(of(pages)),
        kind => kind,
    }
}

/// The number of a file in the model, without that of the copy.
pub(super) fn number_of(id: FileId) -> u64 {
    id.0 % KINDS
}

impl Model {
    pub(super) fn map_file(
        &mut self,
        file: TestFile,
        (placement, len): (Placement, u64),
        protection: Protection,
        first: u64,
    ) -> Result<Plan, MapError> {
        if !self.permits(protection, file == TestFile::Library) {
            return Err(MapError::ExecutableRefused);
        }
        self.copies += 1;
        let pages = FilePages { file: file.id(self.copies), first, pristine: true, sharing: Sharing::Private };
        if let Placement::Fixed(at) = placement
            && self.shows_already(at, len, pages)
        {
            return self.protect(at, len, protection);
        }
        let (range, replaced) = self.place(placement, len)?;
        let held = FILE_PAGES.saturating_sub(first).min(range.end - range.start);
        let in_frames = if file == TestFile::Scratch { Protection::Read } else { protection };
        self.check_frames(held, &replaced, in_frames)?;
        let at = GuestVirt(range.start * PAGE);
        let plan = Plan::at(
            at,
            range.clone().map(|index| {
                let of = FilePages { first: first + (index - range.start), ..pages };
                let page = match index - range.start < held {
                    true => {
                        let kind = MappingKind::File(of).protected(protection);
                        Page { protection, ..Page::fresh(kind, in_frames) }
                    }
                    false => Page::fresh(MappingKind::BehindFile(of), protection),
                };
                (index, Some(page))
            }),
        );
        Ok(Plan { replaced, ..plan })
    }

    fn shows_already(&self, at: GuestVirt, len: u64, pages: FilePages) -> bool {
        let Some(range) = user_range(at, len) else { return false };
        let Some(protection) = self.pages.get(&range.start).map(|page| page.protection) else { return false };
        let shown = Mapping { kind: MappingKind::File(pages), protection };
        self.is_full(&range)
            && self.pages.range(range.clone()).all(|(index, page)| {
                Mapping { kind: page.kind, protection: page.protection } == shown.skip(index - range.start)
            })
    }

    /// Whether a mapping that begins with this page may grow to so many.
    pub(super) fn check_growth(first: &Mapping, pages: u64) -> Result<(), MapError> {
        let Some(of) = first.kind.file() else { return Ok(()) };
        let held = if is_copy(MappingKind::File(of)) { 0 } else { FILE_PAGES };
        if of.first + pages > held { Err(MapError::NoRoom) } else { Ok(()) }
    }
}

pub(super) fn mapped(file: TestFile, frozen: Option<Arc<FrozenFile>>) -> MappedFile {
    MappedFile {
        path: b"/file".to_vec().into(),
        device: (0, 1),
        inode: file as u64,
        size: FILE_LEN as u64,
        frozen,
        paged: None,
        executable: file == TestFile::Library,
    }
}

static FROZEN: LazyLock<[Arc<MappedFile>; 2]> = LazyLock::new(|| {
    [TestFile::Library, TestFile::Data].map(|file| {
        let path = std::env::temp_dir().join(format!("ampoule-model-{}-{}", std::process::id(), file as u64));
        let mut open = File::options().read(true).write(true).create_new(true).open(&path).expect("a file can be made");
        fs::remove_file(&path).expect("the file is there");
        open.write_all(&file.bytes()).expect("there is room for the file");
        Arc::new(mapped(file, Some(FrozenFile::open(open.as_fd()).expect("there is memory for the file"))))
    })
});

/// So few that a mapping often reaches behind the end, which is within a page.
const FILE_LEN: usize = 7 * PAGE_SIZE - 1000;
const FILE_PAGES: u64 = 7;

pub(super) const KINDS: u64 = 4;
