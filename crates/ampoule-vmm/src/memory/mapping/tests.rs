//! Which pages of a region have memory of their own, as the kernel says in `/proc/self/pagemap`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::slice::from_ref;

use crate::address::PAGE_SIZE;
use crate::memory::{Contents, Region};

#[test]
fn pages_that_are_populated_have_memory_and_hold_what_they_held() {
    let region = Region::anonymous(3 * HUGE * PAGE_SIZE).unwrap();
    let written = [HUGE - 1, HUGE + 300];
    written.iter().for_each(|page| region.write_u64(page * PAGE_SIZE, 7).unwrap());
    assert_eq!(region.populate(HUGE..2 * HUGE).unwrap(), from_ref(&(HUGE..2 * HUGE)));
    assert_eq!(owned(&region), (HUGE - 1..2 * HUGE).collect::<Vec<_>>());
    for page in 0..3 * HUGE {
        let expected = if written.contains(&page) { 7 } else { 0 };
        assert_eq!(region.read_u64(page * PAGE_SIZE), Ok(expected), "page {page}");
    }
}

#[test]
fn pages_that_show_contents_are_not_populated() {
    let parts = Contents::of_bytes(&[(0, &[1; 4 * PAGE_SIZE])]).unwrap();
    let region = Region::of_contents(&Contents::of_parts(HUGE, [(10, &parts[0])])).unwrap();
    assert_eq!(region.populate(0..HUGE).unwrap(), [0..10, 14..HUGE]);
    assert_eq!(owned(&region), (0..10).chain(14..HUGE).collect::<Vec<_>>());
}

#[test]
fn a_page_that_is_written_takes_the_memory_of_one_page_whatever_is_populated_beside_it() {
    let contents = Contents::zero(4 * HUGE);
    let shown = Region::anonymous(4 * HUGE * PAGE_SIZE).unwrap();
    contents.show_in(&shown).unwrap();
    for region in [Region::anonymous(4 * HUGE * PAGE_SIZE).unwrap(), shown] {
        region.write(HUGE * PAGE_SIZE, &[1]).unwrap();
        assert_eq!(owned(&region), [HUGE]);
        region.populate(2 * HUGE..3 * HUGE).unwrap();
        region.write(3 * HUGE * PAGE_SIZE, &[1]).unwrap();
        assert_eq!(owned(&region).len(), HUGE + 2);
    }
}

#[test]
fn populated_pages_can_be_given_back_one_by_one() {
    let region = Region::anonymous(2 * HUGE * PAGE_SIZE).unwrap();
    region.populate(0..HUGE).unwrap();
    region.write(5 * PAGE_SIZE, &[7; 3 * PAGE_SIZE]).unwrap();
    region.discard(6 * PAGE_SIZE, PAGE_SIZE).unwrap();
    assert_eq!(owned(&region), (0..6).chain(7..HUGE).collect::<Vec<_>>());
    assert_eq!([5, 6, 7].map(|page| region.read_u64(page * PAGE_SIZE).unwrap() as u8), [7, 0, 7]);
}

#[test]
fn pages_beyond_the_end_are_not_populated() {
    let region = Region::anonymous(4 * PAGE_SIZE).unwrap();
    assert_eq!(region.populate(3..5).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(owned(&region), []);
}

/// The pages of a region that have memory, and share it with no file.
fn owned(region: &Region) -> Vec<usize> {
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    let mut entries = vec![0; region.len() / PAGE_SIZE * ENTRY];
    pagemap.read_exact_at(&mut entries, region.host_address() / PAGE_SIZE as u64 * ENTRY as u64).unwrap();
    let entries = entries.chunks_exact(ENTRY).map(|entry| u64::from_ne_bytes(entry.try_into().unwrap()));
    entries.enumerate().filter(|(_, entry)| entry & (PRESENT | OF_FILE) == PRESENT).map(|(page, _)| page).collect()
}

const HUGE: usize = Region::HUGE_PAGE;

// An entry of the file (Linux, Documentation/admin-guide/mm/pagemap.rst).
const ENTRY: usize = 8;
const PRESENT: u64 = 1 << 63;
const OF_FILE: u64 = 1 << 61;
