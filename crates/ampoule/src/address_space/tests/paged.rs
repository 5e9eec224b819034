//! Files whose pages are read when they are touched.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use ampoule_vmm::PagedFile;

use super::*;

const FILE_PAGES: u64 = 400;
const AT: GuestVirt = GuestVirt(0x4000_0000);

#[test]
fn a_page_is_read_when_it_is_touched_and_more_where_others_were_touched_in_front_of_it() {
    let file = TestFile::new("ahead");
    let mut space = space(1024, 64);
    file.map(&mut space, Protection::Read).unwrap();
    assert_eq!(space.memory_free(), space.memory_total());
    let mut at = 0;
    for expected in [16, 16, 32, 64, 128, 144] {
        assert_eq!(touch(&mut space, at), FaultResolution::PagedIn { pages: expected }, "page {at}");
        assert_eq!(touch(&mut space, at), FaultResolution::Allowed);
        at += expected;
    }
    assert_eq!(at, FILE_PAGES);
    assert_eq!(space.memory_total() - space.memory_free(), FILE_PAGES * PAGE);
    file.check(&space);
}

#[test]
fn a_page_in_the_middle_comes_with_those_around_it() {
    let file = TestFile::new("around");
    let mut space = space(1024, 64);
    file.map(&mut space, Protection::Read).unwrap();
    assert_eq!(touch(&mut space, 100), FaultResolution::PagedIn { pages: 16 });
    assert_eq!(space.memory_total() - space.memory_free(), 16 * PAGE);
    assert_eq!(touch(&mut space, 96), FaultResolution::Allowed);
    assert_eq!(touch(&mut space, 95), FaultResolution::PagedIn { pages: 16 });
    assert_eq!(touch(&mut space, 112), FaultResolution::PagedIn { pages: 32 });
    file.check(&space);
}

#[test]
fn what_the_host_reads_for_the_guest_takes_no_memory_of_it() {
    let file = TestFile::new("host");
    let mut space = space(16, 64);
    file.map(&mut space, Protection::Read).unwrap();
    file.check(&space);
    assert_eq!(space.memory_free(), space.memory_total());
    let end = file.len() as u64;
    assert_eq!(
        space.read_array(GuestVirt(AT.0 + end - 1)),
        Ok([file.byte(end as usize - 1), 0]),
        "zeros behind the end"
    );
    let behind = GuestVirt(AT.0 + FILE_PAGES * PAGE);
    assert_eq!(space.read_array::<1>(behind), Err(BadAddress { address: behind }));
    space.protect(AT, PAGE, Protection::None).unwrap();
    assert_eq!(space.read_array::<1>(AT), Err(BadAddress { address: AT }));
}

#[test]
fn a_file_may_be_larger_than_the_memory_and_other_memory_comes_first() {
    let file = TestFile::new("larger");
    let mut space = space(64, 64);
    file.map(&mut space, Protection::Read).unwrap();
    for _ in 0..2 {
        for page in 0..FILE_PAGES {
            let resolution = touch(&mut space, page);
            assert!(matches!(resolution, FaultResolution::Allowed | FaultResolution::PagedIn { .. }), "{resolution:?}");
            let at = page as usize * PAGE_SIZE;
            assert_eq!(space.read_array(GuestVirt(AT.0 + at as u64)), Ok([file.byte(at), file.byte(at + 1)]));
        }
    }
    space.map_anonymous(63 * PAGE, Placement::Anywhere, Protection::ReadWrite).unwrap();
    assert_eq!(touch(&mut space, 7), FaultResolution::PagedIn { pages: 1 });
    space.map_anonymous(PAGE, Placement::Anywhere, Protection::ReadWrite).unwrap();
    assert!(!space.ran_out_of_memory());
    assert_eq!(touch(&mut space, 7), FaultResolution::OutOfMemory);
    file.check(&space);
}

#[test]
fn what_was_stored_stays_where_memory_is_short() {
    let file = TestFile::new("stored");
    let mut space = space(64, 64);
    file.map(&mut space, Protection::ReadWrite).unwrap();
    let stored = GuestVirt(AT.0 + 20 * PAGE);
    space.write(stored, b"stored").unwrap();
    space.protect(AT, FILE_PAGES * PAGE, Protection::Read).unwrap();
    assert_eq!(touch(&mut space, 40), FaultResolution::PagedIn { pages: 16 });
    let taken = space.memory_total() - space.memory_free();
    let refused = space.map_anonymous(space.memory_free() + PAGE, Placement::Anywhere, Protection::ReadWrite);
    assert!(matches!(refused, Err(MapError::OutOfFrames { .. })), "{refused:?}");
    assert_eq!(space.memory_total() - space.memory_free(), taken);
    assert_eq!(space.read_array(stored), Ok(*b"stored"));
    space.discard(AT, FILE_PAGES * PAGE).unwrap();
    assert_eq!(space.memory_free(), space.memory_total());
    file.check(&space);
}

#[test]
fn what_the_file_has_lost_is_lost_and_what_was_read_stays() {
    let file = TestFile::new("lost");
    let mut space = space(1024, 64);
    file.map(&mut space, Protection::ReadWrite).unwrap();
    assert_eq!(touch(&mut space, 0), FaultResolution::PagedIn { pages: 16 });
    file.open.set_len(20 * PAGE + 10).unwrap();
    assert_eq!(touch(&mut space, 16), FaultResolution::PagedIn { pages: 5 }, "as many as there are");
    assert_eq!(touch(&mut space, 21), FaultResolution::Lost);
    let lost = GuestVirt(AT.0 + 21 * PAGE);
    assert_eq!(space.write(lost, &[1]), Err(BadAddress { address: lost }));
    assert_eq!(space.read_array::<1>(lost), Err(BadAddress { address: lost }));
    assert_eq!(space.memory_total() - space.memory_free(), 21 * PAGE);
    file.open.set_len(0).unwrap();
    let kept = space.read_array(GuestVirt(AT.0 + 20 * PAGE + 8)).unwrap();
    assert_eq!(kept, [file.byte(20 * PAGE_SIZE + 8), file.byte(20 * PAGE_SIZE + 9), 0]);
}

#[test]
fn pages_that_move_are_still_read_when_they_are_touched() {
    let file = TestFile::new("moved");
    let mut space = space(1024, 64);
    file.map(&mut space, Protection::Read).unwrap();
    assert_eq!(touch(&mut space, 3), FaultResolution::PagedIn { pages: 16 });
    let to = GuestVirt(AT.0 + 1000 * PAGE);
    assert_eq!(space.remap(AT, 100 * PAGE, 200 * PAGE, Movement::To(to)).unwrap(), to);
    assert_eq!(
        space.resolve_fault(GuestVirt(to.0 + 150 * PAGE), FaultAccess::Read),
        FaultResolution::PagedIn { pages: 16 }
    );
    let beyond = space.remap(to, 200 * PAGE, (FILE_PAGES + 1) * PAGE, Movement::MayMove);
    assert!(matches!(beyond, Err(MapError::NoRoom)), "{beyond:?}");
    let mut bytes = vec![0; 200 * PAGE_SIZE];
    space.read(to, &mut bytes).unwrap();
    assert!((0..bytes.len()).all(|at| bytes[at] == file.byte(at)));
    space.unmap(to, 200 * PAGE).unwrap();
    space.unmap(AT, FILE_PAGES * PAGE).unwrap();
    assert_eq!(space.memory_free(), space.memory_total());
}

fn touch(space: &mut AddressSpace, page: u64) -> FaultResolution {
    space.resolve_fault(GuestVirt(AT.0 + page * PAGE), FaultAccess::Read)
}

/// A file without a name, with a size that is no multiple of a page's.
struct TestFile {
    open: File,
}

impl TestFile {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ampoule-paged-{}-{name}", std::process::id()));
        let open = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let file = Self { open };
        file.open.write_all_at(&(0..file.len()).map(|at| file.byte(at)).collect::<Vec<_>>(), 0).unwrap();
        file
    }

    fn len(&self) -> usize {
        FILE_PAGES as usize * PAGE_SIZE - 1000
    }

    fn byte(&self, at: usize) -> u8 {
        (1 + at / PAGE_SIZE + at % 40) as u8
    }

    /// Maps all of it, and a page more.
    fn map(&self, space: &mut AddressSpace, protection: Protection) -> Result<(), MapError> {
        let paged = PagedFile::open(self.open.as_fd()).unwrap();
        let file = Arc::new(MappedFile {
            path: b"/file".to_vec().into(),
            device: (0, 1),
            inode: 1,
            size: paged.size(),
            frozen: None,
            paged: Some(Arc::new(paged)),
            executable: true,
        });
        let part = FilePart { file: &file, first: 0, is_shared: false, key: None };
        let (len, placement) = ((FILE_PAGES + 1) * PAGE, Placement::FixedVacant(AT));
        let mapped = space.map_file(len, placement, protection, part, &mut |_, _| panic!("its pages are not copied"));
        mapped.map(drop)
    }

    /// Checks what the host reads for the guest.
    fn check(&self, space: &AddressSpace) {
        let mut bytes = vec![0; self.len()];
        space.read(AT, &mut bytes).unwrap();
        assert!((0..bytes.len()).all(|at| bytes[at] == self.byte(at)));
    }
}
