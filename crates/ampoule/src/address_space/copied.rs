//! Files of which the guest has private copies: which they are, so that what a copy was made of can be read again.
//!
//! Each file has one number for as long as any of its pages is mapped privately, however often that is. None of them may be
//! executed: what is read again may be the guest's own work.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ampoule_vmm::GuestVirt;

use super::shared::FileKey;
use super::{AddressSpace, FileId, FilePages, MapError, MappedFile, MappingKind, PAGE, ReadFile, user_pages};
use crate::page::Page;

/// The copied files of a layout.
#[derive(Clone, Debug, Default)]
pub(super) struct CopiedFiles {
    /// With how many of the guest's pages are mapped of each.
    files: BTreeMap<FileId, (FileKey, u64)>,
    by_key: BTreeMap<FileKey, FileId>,
}

impl CopiedFiles {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl AddressSpace {
    /// Whether a file has pages of which the guest has copies.
    pub(crate) fn is_copied(&self, id: FileId) -> bool {
        self.layout.copied.files.contains_key(&id)
    }

    /// The copies that lie at addresses: the files, where the copies are, and which pages of the file.
    pub(crate) fn copied_at(&self, at: GuestVirt, len: u64) -> Vec<(FileId, Range<GuestVirt>, u64)> {
        let Ok(range) = user_pages(at, len) else { return Vec::new() };
        let copies = self.layout.mappings.overlapping(&range).filter_map(|(pages, mapping)| match mapping.kind {
            MappingKind::File(FilePages { file, first, .. }) if self.is_copied(file) => {
                Some((file, pages.start.address()..pages.end.address(), first))
            }
            _ => None,
        });
        copies.collect()
    }

    /// Gives copies, which hold zeros, what the file holds from its page `first` on.
    ///
    /// # Errors
    ///
    /// `File`, `Interrupted`.
    pub(crate) fn copy_again(&mut self, at: &Range<GuestVirt>, first: u64, read: ReadFile<'_>) -> Result<(), MapError> {
        self.fill_by(&(Page::of(at.start)..Page::of(at.end)), first * PAGE, read)
    }

    /// The number of a file of which pages are about to be copied.
    pub(super) fn copied_id(&mut self, key: FileKey, file: &Arc<MappedFile>) -> FileId {
        if let Some(id) = self.layout.copied.by_key.get(&key) {
            return *id;
        }
        let id = self.new_file_id(file);
        let copied = &mut self.layout_mut().copied;
        copied.files.insert(id, (key, 0));
        copied.by_key.insert(key, id);
        id
    }

    /// Counts pages of a copied file that are mapped, or no longer mapped.
    pub(super) fn count_copied(&mut self, kind: MappingKind, pages: u64, more: bool) {
        let Some(of) = kind.file().filter(|of| self.is_copied(of.file)) else { return };
        if let Some((_, count)) = self.layout_mut().copied.files.get_mut(&of.file) {
            *count = if more { *count + pages } else { *count - pages };
        }
        self.forget_copied(of.file);
    }

    /// Forgets a copied file of which nothing is mapped.
    pub(super) fn forget_copied(&mut self, id: FileId) {
        if let Some((key, 0)) = self.layout.copied.files.get(&id).copied() {
            let copied = &mut self.layout_mut().copied;
            copied.files.remove(&id);
            copied.by_key.remove(&key);
        }
    }
}
