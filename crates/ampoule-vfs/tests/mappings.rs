//! Files that stand for memory of the application's.

mod common;

use ampoule_vfs::{Errno, FileType, Mapping, Special, Vfs};
use linux_raw_sys::general::{O_CREAT, O_RDONLY, O_RDWR, O_TRUNC};

use common::{CONTEXT, names, open};

const MAPPING: Mapping = Mapping { address: 0x7ff0_0000_0000, len: 5000, is_writable: false, is_executable: false };

#[test]
fn a_mapping_is_a_file_of_roots_in_a_directory_of_its_own() {
    let mut vfs = ampoule_vfs::Builder::new().build().unwrap();
    let devices = names(&mut vfs, "/dev");
    vfs.add_mapping(b"one", MAPPING).unwrap();
    vfs.add_mapping(b"two", Mapping { is_writable: true, ..MAPPING }).unwrap();
    assert_eq!(names(&mut vfs, "/dev/ampoule"), ["one", "two"]);
    let file = open(&mut vfs, "/dev/ampoule/one", O_RDONLY);
    assert_eq!(vfs.special(file.location()), Some(Special::Mapping(MAPPING)));
    let found = vfs.metadata(file.location()).unwrap();
    assert_eq!((found.file_type, found.permissions, found.user), (FileType::Regular, 0o444, 0));
    assert_eq!((found.size, found.blocks, found.links), (5000, 16, 1));
    let root = vfs.root();
    let mut refused = |path: &[u8], flags| vfs.open(&CONTEXT, &root, path, flags, 0o644).unwrap_err();
    assert_eq!(refused(b"/dev/ampoule/one", O_RDWR), Errno::EACCES);
    assert_eq!(refused(b"/dev/ampoule/one", O_RDONLY | O_TRUNC), Errno::EACCES);
    assert_eq!(refused(b"/dev/ampoule/new", O_RDWR | O_CREAT), Errno::EACCES);
    assert_eq!(vfs.remove_file(&CONTEXT, &root, b"/dev/ampoule/one"), Err(Errno::EACCES));
    open(&mut vfs, "/dev/ampoule/two", O_RDWR);

    vfs.remove_mapping(b"one");
    assert_eq!(vfs.special(file.location()), Some(Special::Mapping(Mapping { len: 0, ..MAPPING })));
    assert_eq!(vfs.metadata(file.location()).unwrap().links, 0);
    vfs.close(file);
    vfs.remove_mapping(b"two");
    vfs.remove_mapping(b"two");
    assert_eq!(names(&mut vfs, "/dev"), devices);
    // A later one has the whole way again.
    vfs.add_mapping(b"two", MAPPING).unwrap();
    assert_eq!(names(&mut vfs, "/dev/ampoule"), ["two"]);
}

#[test]
fn a_clone_has_the_mappings_of_its_moment_and_stored_files_have_none() {
    let mut vfs = ampoule_vfs::Builder::new().build().unwrap();
    vfs.add_mapping(b"one", MAPPING).unwrap();
    let mut clone = vfs.clone();
    vfs.remove_mapping(b"one");
    clone.add_mapping(b"two", MAPPING).unwrap();
    assert_eq!(names(&mut clone, "/dev/ampoule"), ["one", "two"]);
    let stored = clone.store().unwrap();
    vfs.restore(&stored).unwrap();
    assert!(!names(&mut vfs, "/dev").contains(&"ampoule".to_owned()));
}

#[test]
fn what_is_no_name_is_refused_and_changes_nothing() {
    let mut vfs = ampoule_vfs::Builder::new().build().unwrap();
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
        assert_eq!(vfs.add_mapping(name, MAPPING), Err(Errno::EINVAL));
    }
    assert_eq!(vfs.add_mapping(&[b'n'; 256], MAPPING), Err(Errno::ENAMETOOLONG));
    vfs.add_mapping(b"one", MAPPING).unwrap();
    assert_eq!(vfs.add_mapping(b"one", MAPPING), Err(Errno::EEXIST));
    assert_eq!(names(&mut vfs, "/dev/ampoule"), ["one"]);
    let mut bare: Vfs = ampoule_vfs::Builder::new().without_devices().build().unwrap();
    assert_eq!(bare.add_mapping(b"one", MAPPING), Err(Errno::ENOENT));
}
