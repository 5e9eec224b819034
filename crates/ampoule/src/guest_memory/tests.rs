//! Memory by itself, with a hypervisor that records what the tests write as a guest.

mod ahead;
mod model;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use ampoule_vmm::{FrozenFile, HostOnly};

use super::quiet::PATIENCE;
use super::*;

#[test]
fn what_guest_and_host_have_written_is_restored() {
    let mut trial = Trial::new(8);
    trial.guest_writes(1, 1);
    trial.host_writes(2, 2);
    let first = trial.snapshot();
    for (page, value) in [(1, 3), (2, 4), (3, 5), (4, 6)] {
        if page % 2 == 1 { trial.guest_writes(page, value) } else { trial.host_writes(page, value) }
    }
    assert_eq!(trial.restore(&first).pages, 4);
    assert_eq!(trial.bytes(), [0, 1, 2, 0, 0, 0, 0, 0]);
}

#[test]
fn pages_that_the_guest_has_written_once_are_written_back_every_time() {
    let mut trial = Trial::new(8);
    let first = trial.snapshot();
    trial.guest_writes(3, 1);
    trial.host_writes(4, 1);
    assert_eq!(trial.restore(&first).pages, 2);
    assert_eq!(trial.restore(&first).pages, 1);
    trial.snapshot();
    assert_eq!(trial.restore(&first).pages, 0);
}

#[test]
fn a_snapshot_leaves_out_what_is_known_to_be_zero() {
    let mut trial = Trial::new(8);
    trial.guest_writes(0, 1);
    trial.guest_writes(1, 1);
    trial.memory.clear_reserved(&(0..PAGE_SIZE)).unwrap();
    let contents = trial.memory.snapshot(&mut trial.guest, 0..PAGE_SIZE).unwrap();
    assert_eq!(contents.stored_pages(), 1);
    trial.guest_writes(0, 2);
    trial.restore(&contents);
    assert_eq!(trial.bytes()[..2], [0, 1]);
}

#[test]
fn frames_that_are_cleared_hold_zeros_until_they_are_restored() {
    let mut trial = Trial::new(8);
    (2..6).for_each(|page| trial.guest_writes(page, page as u8));
    let first = trial.snapshot();
    trial.memory.clear_frames(&(Frame(1)..Frame(4))).unwrap();
    assert_eq!(trial.bytes(), [0, 0, 0, 0, 0, 5, 0, 0]);
    trial.restore(&first);
    assert_eq!(trial.bytes(), [0, 0, 2, 3, 4, 5, 0, 0]);
}

#[test]
fn quiet_pages_of_a_large_set_are_given_back_and_hold_what_they_should() {
    let pages = 2 * LARGE_SET;
    let mut trial = Trial::new(pages);
    // What the region shows, what differs from that, and zeros.
    (0..pages / 2).step_by(2).for_each(|page| trial.guest_writes(page, 7));
    let contents = trial.snapshot();
    let mut trial = Trial::showing(&contents);
    (0..pages / 4).step_by(2).for_each(|page| trial.guest_writes(page, 8));
    let target = trial.snapshot();
    let expected = trial.bytes();
    for round in 0..3 {
        (0..pages).for_each(|page| trial.guest_writes(page, 9));
        trial.restore(&target);
        for restore in 0..2 * WINDOW {
            trial.guest_writes(1, 10);
            assert_eq!(trial.bytes()[1], 10);
            trial.restore(&target);
            assert!(trial.bytes() == expected, "restore {restore} of round {round}");
            assert!(trial.guest.written.contains(1), "a page that is written all the time is not forgotten");
        }
        assert_eq!(trial.guest.written.iter().collect::<Vec<_>>(), [1]);
        // Pages that differ from what the region shows keep their memory, with those between them.
        let owned = trial.memory.owned_pages();
        assert!((pages / 8..=pages / 4 + 1).contains(&owned), "{owned}");
    }
}

#[test]
fn pages_that_are_written_and_hold_the_same_are_not_given_back_time_and_again() {
    let mut trial = Trial::new(2 * LARGE_SET);
    let target = trial.snapshot();
    let mut given_back = Vec::new();
    for restore in 0..3 * PATIENCE * WINDOW {
        (0..2 * LARGE_SET).for_each(|page| trial.guest_writes(page, 0));
        trial.restore(&target);
        if trial.guest.written.is_empty() {
            given_back.push(restore / WINDOW);
        }
    }
    assert_eq!(given_back, [1, 2 + PATIENCE, 3 + 2 * PATIENCE]);
}

#[test]
fn a_small_set_is_written_back_at_every_restore() {
    let mut trial = Trial::new(LARGE_SET);
    let target = trial.snapshot();
    (1..LARGE_SET).for_each(|page| trial.guest_writes(page, 1));
    for _ in 0..3 * WINDOW {
        assert_eq!(trial.restore(&target).pages, LARGE_SET - 1);
    }
}

#[test]
fn contents_far_away_are_mapped_instead_of_copied() {
    let mut trial = Trial::new(REMAP_FROM + 10);
    let near = trial.snapshot();
    (0..REMAP_FROM + 5).for_each(|page| trial.guest_writes(page, 1));
    let far = trial.snapshot();
    let at_far = trial.bytes();
    for _ in 0..2 {
        trial.guest_writes(REMAP_FROM + 7, 2);
        assert_eq!(trial.restore(&near).pages, 0);
        assert!(trial.bytes().iter().all(|byte| *byte == 0) && trial.guest.written.is_empty());
        trial.host_writes(0, 3);
        trial.restore(&far);
        assert!(trial.bytes() == at_far);
        assert_eq!((trial.memory.owned_pages(), trial.memory.shared_pages()), (0, REMAP_FROM + 5));
    }
}

#[test]
fn what_could_not_be_mapped_is_mapped_as_a_whole_later() {
    let mut trial = Trial::new(8);
    trial.guest_writes(1, 1);
    let target = trial.snapshot();
    // What a failed attempt to show something else leaves, as far as anybody knows.
    trial.memory.is_shown = false;
    trial.memory.clear_reserved(&(0..8 * PAGE_SIZE)).unwrap();
    trial.restore(&target);
    assert_eq!(trial.bytes(), [0, 1, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn failures_of_the_hypervisor_are_reported_and_mended_by_the_next_restore() {
    for operation in 0..4 {
        let mut trial = Trial::new(2 * LARGE_SET);
        let target = trial.snapshot();
        let expected = trial.bytes();
        (0..2 * LARGE_SET).for_each(|page| trial.guest_writes(page, 1));
        trial.guest.fail_after = Some(operation);
        let mut failures = 0;
        for _ in 0..2 * WINDOW {
            trial.guest_writes(5, 2);
            failures += u32::from(trial.memory.restore(&mut trial.guest, &target).is_err());
        }
        assert_eq!(failures, 1, "operation {operation}");
        trial.restore(&target);
        assert!(trial.bytes() == expected);
    }
}

#[test]
fn pages_of_a_file_are_shared_through_snapshots_and_given_back_by_restores() {
    let file = TestFile::new(64);
    let mut trial = Trial::new(128);
    let empty = trial.snapshot();
    trial.memory.show_file(Frame(9), &file.0.contents(0..64).unwrap()).unwrap();
    trial.guest_writes(20, 1);
    let mut mapped = trial.bytes();
    assert_eq!((mapped[10], mapped[20], mapped[73]), (file_byte(0), 1, file_byte(63)));

    let target = trial.snapshot();
    assert_eq!(target.file_pages(0..128).map(|run| run.len()).sum::<usize>(), 63);
    assert_eq!(trial.restore(&empty).pages, 1);
    assert_eq!(trial.bytes(), [0; 128]);
    // The page that was written is no longer the file's, and is zeroed where it is.
    assert_eq!(trial.memory.shared_pages(), 1);
    for sibling in [false, true] {
        if sibling {
            trial = Trial::showing(&target);
        }
        trial.guest_writes(30, 2);
        trial.restore(&target);
        assert!(trial.bytes() == mapped);
    }
    trial.memory.clear_frames(&(Frame(0)..Frame(40))).unwrap();
    mapped[1..41].fill(0);
    assert!(trial.bytes() == mapped);
    let cleared = trial.snapshot();
    assert!(cleared.file_pages(0..128).eq(std::iter::once(41..74)));
    assert_eq!(trial.memory.file_runs(), 1);
}

/// Memory with a guest that writes it.
struct Trial {
    memory: GuestMemory,
    guest: FakeGuest,
}

impl Trial {
    fn new(pages: usize) -> Self {
        Self::showing(&Contents::zero(pages))
    }

    fn showing(contents: &Arc<Contents>) -> Self {
        let region = TrackedRegion::anonymous(contents.pages() * PAGE_SIZE, HostOnly::default()).unwrap();
        let mut memory = GuestMemory::new(region, GuestPhys(0), 1);
        memory.show(contents).unwrap();
        Self { memory, guest: FakeGuest { written: PageSet::new(contents.pages()), fail_after: None } }
    }

    fn guest_writes(&mut self, page: usize, value: u8) {
        // A guest does not write through the host's interface, so the pages that this marks must not be seen.
        self.memory.collect_host_writes();
        self.memory.region.write(page * PAGE_SIZE + OFFSET, &[value]).unwrap();
        self.memory.region.take_written(&mut PageSet::new(self.memory.pages()));
        self.guest.written.insert(page);
    }

    fn host_writes(&mut self, page: usize, value: u8) {
        self.memory.write(page * PAGE_SIZE + OFFSET, &[value]).unwrap();
    }

    fn snapshot(&mut self) -> Arc<Contents> {
        self.memory.snapshot(&mut self.guest, 0..0).unwrap()
    }

    fn restore(&mut self, target: &Arc<Contents>) -> Restored {
        self.memory.restore(&mut self.guest, target).unwrap()
    }

    /// The byte of each page that is written.
    fn bytes(&self) -> Vec<u8> {
        let byte = |page| {
            let mut byte = [0];
            self.memory.region.read(page * PAGE_SIZE + OFFSET, &mut byte).unwrap();
            byte[0]
        };
        (0..self.memory.pages()).map(byte).collect()
    }
}

/// A file whose pages differ, frozen.
struct TestFile(Arc<FrozenFile>);

impl TestFile {
    fn new(pages: usize) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ampoule-pages-{}-{number}", std::process::id()));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        (0..pages).for_each(|page| file.write_all(&[file_byte(page); PAGE_SIZE]).unwrap());
        Self(FrozenFile::open(file.as_fd()).unwrap())
    }
}

/// What a page of the file holds.
fn file_byte(page: usize) -> u8 {
    (page % 200 + 17) as u8
}

/// Knows which pages were written, and can fail once.
struct FakeGuest {
    written: PageSet,
    /// After so many operations.
    fail_after: Option<u32>,
}

impl FakeGuest {
    fn pass(&mut self) -> Result<(), HypervisorError> {
        self.fail_after = match self.fail_after {
            Some(0) => {
                self.fail_after = None;
                return Err(HypervisorError::SlotEmpty { slot: 3 });
            }
            left => left.map(|left| left - 1),
        };
        Ok(())
    }
}

impl WrittenPages for FakeGuest {
    fn collect_written(&mut self, pages: &mut PageSet) -> Result<(), HypervisorError> {
        self.pass()?;
        pages.insert_all(&self.written);
        Ok(())
    }

    fn forget_written(&mut self, pages: &PageSet) -> Result<(), HypervisorError> {
        self.pass()?;
        pages.iter().for_each(|page| self.written.remove(page));
        Ok(())
    }
}

/// Where in a page the tests write.
const OFFSET: usize = 1000;
