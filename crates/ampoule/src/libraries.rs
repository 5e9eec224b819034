//! The libraries that a guest has mapped, as far as the names of their functions need them.
//!
//! What is read of them is what the sandbox's files give, and hostile like an image. Only a library whose pages are frozen is
//! read, since any other may have become something else by now: as a whole, when something is first found in it, and shared with
//! all who have mapped it.

use std::ops::Range;
use std::sync::Arc;

use ampoule_symbols::{Images, NameCache, Symbols};
use ampoule_vmm::GuestVirt;

use crate::address_space::{AddressSpace, FileCode, MappedFile};
use crate::image::Executable;

/// Libraries in which a guest was.
#[derive(Clone, Debug)]
pub(crate) struct Libraries {
    all: Vec<Library>,
}

/// A library, and where the guest has mapped its code.
#[derive(Clone, Debug)]
pub(crate) struct Library {
    /// None where two files have been between the addresses at different times, so that no address there can be named.
    file: Option<Arc<MappedFile>>,
    addresses: Range<u64>,
    /// The byte of the file at the first of them.
    offset: u64,
    names: Arc<NameCache>,
}

impl Libraries {
    pub(crate) const fn new() -> Self {
        Self { all: Vec::new() }
    }

    /// For whoever has none.
    pub(crate) fn none() -> &'static Self {
        static NONE: Libraries = Libraries::new();
        &NONE
    }

    /// Takes note of the libraries that these instructions are in.
    pub(crate) fn note(&mut self, space: &AddressSpace, instructions: impl Iterator<Item = u64>) {
        if space.mapped_files().next().is_none() {
            return;
        }
        for code in instructions.filter_map(|at| space.file_code(GuestVirt(at))) {
            self.add(Library::new(&code));
        }
    }

    /// Whether no address is in one library here and in another one there.
    pub(crate) fn agree_with(&self, others: &Self) -> bool {
        others.all.iter().all(|other| self.all.iter().all(|known| known.is_same(other) || !known.overlaps(other)))
    }

    /// Adds libraries that [agree](Self::agree_with).
    pub(crate) fn merge(&mut self, others: Self) {
        others.all.into_iter().for_each(|other| self.add(other));
    }

    fn add(&mut self, library: Library) {
        if let Some(known) = self.all.iter_mut().find(|known| known.is_same(&library)) {
            known.widen(&library);
        } else if let Some(known) = self.all.iter_mut().find(|known| known.overlaps(&library)) {
            known.file = None;
        } else if self.all.len() < MAX_LIBRARIES {
            self.all.push(library);
        }
    }

    /// The images that name what is in this executable and in the libraries.
    pub(crate) fn images<'a>(&'a self, executable: &'a Executable) -> Images<'a> {
        let symbols = Symbols::new(executable.file(), executable.bias());
        let mut images = Images::new(symbols, executable.names());
        let mut left = MAX_READ;
        for library in &self.all {
            let Some(file) = &library.file else { continue };
            let Some(rest) = left.checked_sub(file.size) else { continue };
            if let Some(symbols) = symbols_of(file, library.addresses.start, library.offset) {
                images.add(symbols, library.addresses.clone(), &library.names);
                left = rest;
            }
        }
        images
    }

    /// Those that can be named.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Library> {
        self.all.iter().filter(|library| library.file.is_some())
    }
}

impl Library {
    fn new(code: &FileCode<'_>) -> Self {
        let addresses = code.addresses.start.0..code.addresses.end.0;
        Self { file: Some(Arc::clone(code.file)), addresses, offset: code.offset, names: Arc::default() }
    }

    pub(crate) fn addresses(&self) -> Range<u64> {
        self.addresses.clone()
    }

    /// The byte of the file at the first of its addresses.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Its path, as the guest sees it.
    pub(crate) fn path(&self) -> String {
        self.file.as_ref().map(|file| String::from_utf8_lossy(&file.path).into_owned()).unwrap_or_default()
    }

    /// Whether both are the same file in the same place, of which the guest may have mapped different parts.
    fn is_same(&self, other: &Self) -> bool {
        let (Some(one), Some(another)) = (&self.file, &other.file) else { return false };
        let start = |library: &Self| library.addresses.start.wrapping_sub(library.offset);
        Arc::ptr_eq(one, another) && start(self) == start(other)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.addresses.start < other.addresses.end && other.addresses.start < self.addresses.end
    }

    /// Takes in another part of the same library.
    fn widen(&mut self, other: &Self) {
        if other.addresses.start < self.addresses.start {
            (self.addresses.start, self.offset) = (other.addresses.start, other.offset);
        }
        self.addresses.end = self.addresses.end.max(other.addresses.end);
    }
}

/// What a file says of its code, of which a guest has mapped the bytes from `offset` on at the address `at`.
pub(crate) fn symbols_of(file: &MappedFile, at: u64, offset: u64) -> Option<Symbols<'_>> {
    let frozen = file.frozen.as_ref().filter(|_| file.size <= MAX_SIZE)?;
    let bytes = match frozen.bytes() {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::debug!(%error, "a library has no names, since it cannot be read");
            return None;
        }
    };
    let path = String::from_utf8_lossy(&file.path);
    Symbols::of_library(bytes, path.rsplit('/').next().unwrap_or(&path), at, offset)
}

/// The most libraries that are kept: as many as a guest can have mapped at a time.
const MAX_LIBRARIES: usize = 256;

/// The largest library that is read, in bytes. What is read of it stays in memory as long as somebody has mapped it.
const MAX_SIZE: u64 = 64 << 20;

/// The most bytes of libraries that are read to walk up a stack, or to name the addresses of a stack or a profile.
pub(crate) const MAX_READ: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Arc<MappedFile> {
        let path = b"/lib/libx.so".as_slice().into();
        Arc::new(MappedFile {
            path,
            device: (0, 0),
            inode: 1,
            size: 0x9000,
            frozen: None,
            paged: None,
            executable: true,
        })
    }

    fn library(file: &Arc<MappedFile>, addresses: Range<u64>, offset: u64) -> Library {
        Library::new(&FileCode { file, addresses: GuestVirt(addresses.start)..GuestVirt(addresses.end), offset })
    }

    fn found(libraries: &Libraries) -> Vec<(Range<u64>, u64)> {
        libraries.iter().map(|library| (library.addresses(), library.offset())).collect()
    }

    #[test]
    fn parts_of_one_library_are_one() {
        let (file, mut libraries) = (file(), Libraries::new());
        libraries.add(library(&file, 0x5000..0x6000, 0x2000));
        libraries.add(library(&file, 0x7000..0x8000, 0x4000));
        libraries.add(library(&file, 0x4000..0x5000, 0x1000));
        assert_eq!(found(&libraries), [(0x4000..0x8000, 0x1000)]);
        // The same file in another place is another library.
        libraries.add(library(&file, 0x1_4000..0x1_5000, 0x1000));
        assert_eq!(found(&libraries).len(), 2);
    }

    #[test]
    fn an_address_that_two_libraries_have_had_is_in_none() {
        let mut libraries = Libraries::new();
        libraries.add(library(&file(), 0x5000..0x6000, 0));
        libraries.add(library(&file(), 0x5000..0x7000, 0));
        assert_eq!(found(&libraries), []);
        // Whichever comes back.
        libraries.add(library(&file(), 0x5000..0x6000, 0));
        assert_eq!(found(&libraries), []);
    }

    #[test]
    fn libraries_of_two_guests_agree_where_no_address_is_in_two() {
        let (one, other) = (file(), file());
        let of = |all: &[(&Arc<MappedFile>, u64)]| {
            let mut libraries = Libraries::new();
            all.iter().for_each(|(file, at)| libraries.add(library(file, *at..at + 0x1000, 0)));
            libraries
        };
        let first = of(&[(&one, 0x1000), (&other, 0x4000)]);
        assert!(first.agree_with(&of(&[(&one, 0x1000), (&other, 0x8000)])));
        assert!(!first.agree_with(&of(&[(&other, 0x1000)])));
        assert!(first.agree_with(Libraries::none()));
        let mut merged = first;
        merged.merge(of(&[(&one, 0x1000), (&other, 0x8000)]));
        assert_eq!(found(&merged).len(), 3);
    }

    #[test]
    fn a_guest_that_maps_one_library_after_the_other_has_a_bounded_number_noted() {
        let (file, mut libraries) = (file(), Libraries::new());
        (1..10_000u64).for_each(|at| libraries.add(library(&file, at << 16..(at << 16) + 1, 0)));
        assert_eq!(found(&libraries).len(), MAX_LIBRARIES);
    }
}
