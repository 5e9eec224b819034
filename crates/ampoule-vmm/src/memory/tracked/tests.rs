use std::io::Write;
use std::os::fd::AsFd;

use super::*;

const PAGES: usize = 70;

fn written(region: &TrackedRegion) -> Vec<usize> {
    let mut pages = PageSet::new(PAGES);
    region.take_written(&mut pages);
    pages.iter().collect()
}

fn region(host_only: HostOnly) -> Arc<TrackedRegion> {
    TrackedRegion::anonymous(PAGES * PAGE_SIZE, host_only).unwrap()
}

#[test]
fn what_is_written_is_reported_once() {
    let region = region(HostOnly::default());
    region.write(3 * PAGE_SIZE - 1, &[1, 2]).unwrap();
    region.write_u64(69 * PAGE_SIZE, 7).unwrap();
    region.write(10 * PAGE_SIZE, &[]).unwrap();
    region.write(PAGES * PAGE_SIZE - 1, &[1, 2]).unwrap_err();
    assert_eq!(written(&region), [2, 3, 69]);
    assert_eq!(written(&region), []);
}

#[test]
fn a_writer_marks_only_what_it_has_written() {
    let region = region(HostOnly::default());
    let mut writer = region.part_writer(PAGE_SIZE, 8 * PAGE_SIZE).unwrap();
    writer.write(0, &[1; 10]);
    writer.write(10, &[2; PAGE_SIZE]);
    writer.write_again(0, &[3]);
    drop(writer);
    assert_eq!(written(&region), [1, 2]);
    drop(region.part_writer(PAGE_SIZE, PAGE_SIZE).unwrap());
    assert_eq!(written(&region), []);
}

#[test]
fn a_writer_that_a_panic_ends_marks_what_it_has_written() {
    let region = region(HostOnly::default());
    let end = std::panic::catch_unwind(|| {
        let mut writer = region.part_writer(5 * PAGE_SIZE, PAGE_SIZE).unwrap();
        writer.write(0, &[1]);
        panic!("a value that cannot be encoded");
    });
    assert!(end.is_err());
    assert_eq!(written(&region), [5]);
}

#[test]
fn the_hosts_own_bytes_are_wiped_and_never_dirty() {
    let region = region(HostOnly { len: 2 * PAGE_SIZE, kept: 16 });
    region.write(0, &[1; 16]).unwrap();
    region.part_writer(16, 2 * PAGE_SIZE - 16).unwrap().write(0, &[2; 5000]);
    region.write(2 * PAGE_SIZE, &[3]).unwrap();
    assert_eq!(written(&region), [2]);
    region.wipe_host_only();
    let mut bytes = vec![0; 2 * PAGE_SIZE + 1];
    region.read(0, &mut bytes).unwrap();
    assert!(
        bytes[..16] == [1; 16] && bytes[16..2 * PAGE_SIZE].iter().all(|byte| *byte == 0) && bytes[2 * PAGE_SIZE] == 3
    );
}

#[test]
fn zeros_are_marked_where_something_else_should_be() {
    let region = region(HostOnly::default());
    region.write(PAGE_SIZE, &[1; 2 * PAGE_SIZE]).unwrap();
    let current = region.freeze(&Contents::zero(PAGES), [1, 2]).unwrap();
    written(&region);
    region.zero_pages(0..2, &current);
    region.discard(2 * PAGE_SIZE, 2 * PAGE_SIZE, &current).unwrap();
    assert_eq!(written(&region), [1, 2]);
}

#[test]
fn all_that_a_file_was_asked_for_is_dirty_even_where_the_file_is_shorter() {
    let mut file = tempfile("asked");
    file.write_all(&[7; PAGE_SIZE + 100]).unwrap();
    let region = region(HostOnly::default());
    assert_eq!(region.read_file(2 * PAGE_SIZE, 3 * PAGE_SIZE, file.as_fd(), 50).unwrap(), PAGE_SIZE + 50);
    assert_eq!(written(&region), [2, 3, 4]);
    let mut bytes = vec![0; 2 * PAGE_SIZE];
    region.read(2 * PAGE_SIZE, &mut bytes).unwrap();
    assert!(
        bytes[..PAGE_SIZE + 50].iter().all(|byte| *byte == 7) && bytes[PAGE_SIZE + 50..].iter().all(|byte| *byte == 0)
    );
    assert_eq!(region.read_file(0, PAGE_SIZE, file.as_fd(), 1 << 20).unwrap(), 0, "behind its end");
    assert_eq!(written(&region), [0]);
    let outside = region.read_file((PAGES - 1) * PAGE_SIZE, 2 * PAGE_SIZE, file.as_fd(), 0);
    assert_eq!(outside.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(written(&region), []);
    let directory = std::fs::File::open("/").unwrap();
    assert!(region.read_file(0, PAGE_SIZE, directory.as_fd(), 0).is_err());
    assert_eq!(written(&region), [0], "some of it may have been read");
}

/// An empty file without a name.
fn tempfile(name: &str) -> std::fs::File {
    let path = std::env::temp_dir().join(format!("ampoule-tracked-{}-{name}", std::process::id()));
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file
}
