use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use super::super::OwnedPages;
use super::super::frozen::create_file;
use super::*;

#[test]
fn what_is_written_stays_here_until_it_is_forgotten() {
    let mut owned = OwnedPages::new(2 * PAGE_SIZE).unwrap();
    owned.bytes_mut()[PAGE_SIZE..][..4].copy_from_slice(b"file");
    let [one, other] = [0, 1].map(|_| MappedMemory::copy_of_file(owned.file(), 0, 2 * PAGE_SIZE).unwrap());
    one.write(PAGE_SIZE + 2, b"ve").unwrap();
    assert_eq!(four(&one, PAGE_SIZE), *b"five");
    assert_eq!(four(&other, PAGE_SIZE), *b"file");
    assert_eq!(owned.bytes()[PAGE_SIZE..][..4], *b"file");

    let mut written = PageSet::new(2);
    one.take_written(&mut written);
    assert_eq!(written.iter().collect::<Vec<_>>(), [1]);
    assert!(one.forget(1..2));
    assert_eq!(four(&one, PAGE_SIZE), *b"file");
}

#[test]
fn pages_that_a_file_no_longer_has_are_an_error() {
    let file = file_of(3 * PAGE_SIZE);
    let memory = MappedMemory::copy_of_file(file.as_fd(), PAGE_SIZE as u64, 2 * PAGE_SIZE).unwrap();
    assert_eq!(four(&memory, PAGE_SIZE), [7; 4]);
    file.set_len(2 * PAGE_SIZE as u64).unwrap();
    assert_eq!(four(&memory, PAGE_SIZE - 4), [7; 4]);
    let mut bytes = [0; 8];
    assert_eq!(memory.read(PAGE_SIZE - 4, &mut bytes), Err(MemoryLost { offset: PAGE_SIZE }));
    assert_eq!(memory.write(PAGE_SIZE, b"x"), Err(MemoryLost { offset: PAGE_SIZE }));
    file.set_len(3 * PAGE_SIZE as u64).unwrap();
    assert_eq!(four(&memory, PAGE_SIZE), [0; 4]);
}

#[test]
fn memory_of_the_application_is_only_read() {
    let owned = OwnedPages::new(PAGE_SIZE).unwrap();
    // SAFETY: the pages outlive the memory, and nobody writes them.
    let lent = unsafe { MappedMemory::of_addresses(owned.bytes().as_ptr(), PAGE_SIZE) }.unwrap();
    assert_eq!(four(&lent, 0), [0; 4]);
    assert_eq!(lent.write(8, b"x"), Err(MemoryLost { offset: 8 }));
    assert!(!lent.forget(0..1));
    drop(lent);
    assert_eq!(owned.bytes()[8], 0);
}

#[test]
fn what_is_not_whole_pages_is_refused() {
    let file = file_of(2 * PAGE_SIZE);
    for (offset, len) in [(1, PAGE_SIZE), (0, PAGE_SIZE + 1), (0, 0), (u64::MAX, PAGE_SIZE)] {
        let refused = MappedMemory::of_file(file.as_fd(), offset, len).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{offset} {len}");
    }
    // SAFETY: nothing is accessed.
    let odd = unsafe { MappedMemory::of_addresses(std::ptr::without_provenance(PAGE_SIZE + 8), PAGE_SIZE) };
    assert_eq!(odd.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(OwnedPages::new(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let memory = MappedMemory::of_file(file.as_fd(), 0, PAGE_SIZE).unwrap();
    assert_eq!(memory.read(PAGE_SIZE - 1, &mut [0; 2]), Err(MemoryLost { offset: PAGE_SIZE - 1 }));
    assert_eq!(memory.read(usize::MAX, &mut [0; 2]), Err(MemoryLost { offset: usize::MAX }));
}

fn four(memory: &MappedMemory, at: usize) -> [u8; 4] {
    let mut bytes = [0; 4];
    memory.read(at, &mut bytes).unwrap();
    bytes
}

/// A file of sevens.
fn file_of(len: usize) -> File {
    let file = File::from(create_file(len, Ok).unwrap());
    file.write_all_at(&vec![7; len], 0).unwrap();
    file
}
