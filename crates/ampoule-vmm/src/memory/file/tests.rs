//! Files that change, shrink and vanish while their pages are shown.

use std::fs::{self, FileTimes};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::memory::Region;

#[test]
fn pages_stay_what_they_were_whatever_becomes_of_the_file() {
    let file = TestFile::new("truncated", &bytes(3 * PAGE_SIZE + 100));
    let frozen = file.frozen();
    assert_eq!((frozen.pages(), frozen.size()), (4, 3 * PAGE_SIZE as u64 + 100));
    let region = Region::anonymous(8 * PAGE_SIZE).unwrap();
    frozen.contents(1..4).unwrap().show_at(&region, 2).unwrap();
    file.0.set_len(0).unwrap();
    fs::remove_file(&file.1).unwrap();
    let mut expected = vec![0; 8 * PAGE_SIZE];
    expected[2 * PAGE_SIZE..][..2 * PAGE_SIZE + 100].copy_from_slice(&bytes(3 * PAGE_SIZE + 100)[PAGE_SIZE..]);
    assert!(held(&region) == expected);
}

#[test]
fn all_who_map_a_file_share_its_pages_until_it_changes() {
    let file = TestFile::new("shared", &bytes(PAGE_SIZE));
    let (one, other) = (file.frozen(), file.frozen());
    assert!(Arc::ptr_eq(&one, &other));
    file.0.set_len(2 * PAGE_SIZE as u64).unwrap();
    let changed = file.frozen();
    assert!(!Arc::ptr_eq(&one, &changed));
    assert_eq!((one.pages(), changed.pages()), (1, 2));
}

#[test]
fn what_nobody_maps_any_more_is_freed_if_it_was_not_read_whole() {
    let file = TestFile::new("freed", &bytes(2 * PIECE_PAGES * PAGE_SIZE));
    let frozen = file.frozen();
    let contents = frozen.contents(0..1).unwrap();
    let pages = Arc::downgrade(&frozen.frozen);
    drop(frozen);
    assert!(pages.upgrade().is_some());
    drop(contents);
    assert!(pages.upgrade().is_none());
}

#[test]
fn the_files_that_were_used_last_are_kept_without_the_hosts_own() {
    let file = TestFile::new("kept", &bytes(PAGE_SIZE));
    let frozen = file.frozen();
    frozen.contents(0..1).unwrap();
    assert!(frozen.rest.lock().unwrap().file.is_none());
    let pages = Arc::downgrade(&frozen.frozen);
    drop(frozen);
    assert!(pages.upgrade().is_some());
    assert!(Arc::ptr_eq(&file.frozen().frozen, &pages.upgrade().unwrap()));
}

#[test]
fn what_is_kept_is_bounded_in_number_and_size_and_has_one_version_of_a_file() {
    let mut files = Files::default();
    let frozen = |name: &str, len: usize| {
        let file = TestFile::new(name, &bytes(PAGE_SIZE));
        file.0.set_len(len as u64).unwrap();
        let version = Version::of(&file.0).unwrap();
        Arc::new(FrozenFile::new(file.0.try_clone().unwrap(), version).unwrap())
    };
    let first = frozen("first", PAGE_SIZE);
    files.keep(Arc::clone(&first));
    let others: Vec<_> = (1..KEPT_FILES).map(|number| frozen(&format!("other-{number}"), PAGE_SIZE)).collect();
    others.iter().for_each(|file| files.keep(Arc::clone(file)));
    assert_eq!(files.kept.len(), KEPT_FILES);

    files.used(&first);
    files.keep(frozen("one-more", PAGE_SIZE));
    assert_eq!(files.kept.len(), KEPT_FILES);
    let is_kept = |files: &Files, file: &Arc<FrozenFile>| files.kept.iter().any(|kept| Arc::ptr_eq(kept, file));
    assert!(is_kept(&files, &first) && !is_kept(&files, &others[0]) && is_kept(&files, &others[1]));

    let large = frozen("large", (KEPT_PAGES - 1) * PAGE_SIZE);
    files.keep(Arc::clone(&large));
    assert_eq!(files.kept.len(), 2);
    files.keep(frozen("largest", (KEPT_PAGES + 1) * PAGE_SIZE));
    assert!(files.kept.len() == 2 && is_kept(&files, &large));

    let file = TestFile::new("versions", &bytes(PAGE_SIZE));
    let version = |file: &TestFile| Version::of(&file.0).unwrap();
    for seconds in [3, 5] {
        file.settle(seconds);
        files.keep(Arc::new(FrozenFile::new(file.0.try_clone().unwrap(), version(&file)).unwrap()));
    }
    let kept = files.kept.iter().filter(|kept| kept.version.is_of_same_file(&version(&file)));
    assert_eq!(kept.map(|kept| kept.version).collect::<Vec<_>>(), [version(&file)]);
}

#[test]
fn the_bytes_of_a_file_outlive_it_with_what_was_found_out_about_them() {
    let file = TestFile::new("bytes", &bytes(2 * PAGE_SIZE + 7));
    let frozen = file.frozen();
    let held = frozen.shared_bytes().unwrap();
    frozen.remember(Arc::new(17_u32));
    frozen.remember(Arc::new(18_u32));
    assert_eq!((frozen.remembered().as_deref(), frozen.remembered::<u8>()), (Some(&17_u32), None));
    drop(frozen);
    file.0.set_len(0).unwrap();
    assert!(*held == bytes(2 * PAGE_SIZE + 7));
    assert!(TestFile::new("empty", &[]).frozen().bytes().unwrap().is_empty());
}

#[test]
fn what_has_just_been_written_is_not_shared() {
    let file = TestFile::new("written", &bytes(PAGE_SIZE));
    // The time of change cannot be set, so it is that of this test.
    let [one, other] = [(); 2].map(|()| FrozenFile::open(file.0.as_fd()).unwrap());
    assert!(!Arc::ptr_eq(&one, &other));
}

#[test]
fn a_piece_is_read_when_it_is_mapped_first_and_none_of_another_version_is() {
    let len = 3 * PIECE_PAGES * PAGE_SIZE;
    let file = TestFile::new("pieces", &bytes(len));
    let frozen = file.frozen();
    frozen.contents(0..1).unwrap();
    assert_eq!(frozen.rest.lock().unwrap().pieces.iter().collect::<Vec<_>>(), [1, 2]);
    file.0.write_all_at(&[1], 2 * (len / 3) as u64).unwrap();
    file.settle(3);
    assert_eq!(frozen.contents(0..PIECE_PAGES + 1).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    frozen.contents(0..PIECE_PAGES).unwrap();
}

/// The links of a library that is replaced used to count as a change of what it contains, and no guest that had mapped a part
/// of it could map another one.
#[test]
fn a_file_that_loses_its_name_or_has_other_permissions_is_read_on() {
    let len = 2 * PIECE_PAGES * PAGE_SIZE;
    let file = TestFile::new("replaced", &bytes(len));
    let frozen = file.frozen();
    frozen.contents(0..1).unwrap();
    let before = Version::of(&file.0).unwrap();
    fs::remove_file(&file.1).unwrap();
    file.0.set_permissions(PermissionsExt::from_mode(0o600)).unwrap();
    assert_ne!(Version::of(&file.0).unwrap(), before);
    let region = Region::anonymous(len).unwrap();
    frozen.contents(0..frozen.pages()).unwrap().show_at(&region, 0).unwrap();
    assert!(held(&region) == bytes(len));
}

#[test]
fn only_regular_files_can_be_frozen() {
    for path in ["/dev/zero", "/proc"] {
        let file = File::open(path).unwrap();
        assert_eq!(FrozenFile::open(file.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path}");
    }
}

#[test]
fn what_shows_files_is_an_ordinary_part_of_contents() {
    let file = TestFile::new("contents", &bytes(4 * PAGE_SIZE));
    let frozen = file.frozen();
    let region = Region::anonymous(8 * PAGE_SIZE).unwrap();
    let part = frozen.contents(0..4).unwrap();
    part.show_at(&region, 1).unwrap();
    let shown = Contents::zero(8).with(1, &part);
    assert!((0..8).all(|page| shown.is_in(&region, page).unwrap()));
    assert!(shown.file_pages(2..8).eq(std::iter::once(2..5)));

    // A page that is written is copied, and the others stay the file's.
    region.write(2 * PAGE_SIZE, &[77]).unwrap();
    let written = shown.updated(&region, 0..8).unwrap();
    assert_eq!(written.file_pages(0..8).collect::<Vec<_>>(), [1..2, 3..5]);
    assert!((0..8).all(|page| written.is_in(&region, page).unwrap()));

    // Another takes the place of a part of it, and zeros that of another.
    frozen.contents(3..4).unwrap().show_at(&region, 3).unwrap();
    Contents::zero(1).show_at(&region, 4).unwrap();
    let replaced = written.with(3, &frozen.contents(3..4).unwrap()).with(4, &Contents::zero(1));
    assert!((0..8).all(|page| replaced.is_in(&region, page).unwrap()));
    let copy = Region::of_contents(&replaced).unwrap();
    assert!(held(&copy) == held(&region));
    let other = Region::anonymous(3 * PAGE_SIZE).unwrap();
    replaced.part(2..5).show_at(&other, 0).unwrap();
    assert!(held(&other) == held(&region)[2 * PAGE_SIZE..5 * PAGE_SIZE]);
    region.discard(0, 8 * PAGE_SIZE).unwrap();
    assert!(held(&region).iter().all(|byte| *byte == 0));
}

#[test]
fn all_of_a_file_is_what_it_was_when_each_piece_was_first_read() {
    let before = bytes(2 * PIECE_PAGES * PAGE_SIZE + 100);
    let file = TestFile::new("all", &before);
    let frozen = file.frozen();
    frozen.contents(0..1).unwrap();
    assert!(frozen.bytes().unwrap() == before);
    file.0.set_len(0).unwrap();
    assert!(frozen.bytes().unwrap() == before);
    assert_eq!(TestFile::new("none", &[]).frozen().bytes().unwrap(), b"");

    let file = TestFile::new("changed", &before);
    let frozen = file.frozen();
    frozen.contents(0..1).unwrap();
    file.settle(1);
    assert_eq!(frozen.bytes().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
}

/// A file that is removed in the end.
struct TestFile(File, PathBuf);

impl TestFile {
    fn new(name: &str, bytes: &[u8]) -> TestFile {
        let path = std::env::temp_dir().join(format!("ampoule-file-{}-{name}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        TestFile(File::options().read(true).write(true).open(&path).unwrap(), path)
    }

    /// Gives the file another time of modification, whatever the resolution of the file system's times is.
    fn settle(&self, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        self.0.set_times(FileTimes::new().set_modified(time)).unwrap();
    }

    /// The frozen file as it is when the last change is long ago.
    fn frozen(&self) -> Arc<FrozenFile> {
        let file = self.0.try_clone().unwrap();
        let version = Version::of(&file).unwrap();
        FrozenFile::shared(file, version).unwrap()
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.1);
    }
}

/// Bytes that differ from page to page.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / PAGE_SIZE + at % 250 + 1) as u8).collect()
}

fn held(region: &Region) -> Vec<u8> {
    let mut bytes = vec![0; region.len()];
    region.read(0, &mut bytes).unwrap();
    bytes
}
