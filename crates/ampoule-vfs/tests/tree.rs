//! What a tree is built of, what it holds, and what its own files show.

mod common;

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;

use ampoule_vfs::{
    Allocation, BuildError, Builder, Descriptor, Device, Errno, File, FileType, Follow, MountKind, NodeKind,
    ProcessFile, ProcessView, Quota, Seek, Special, SystemFile, USER_ID, Vfs,
};
use linux_raw_sys::general::{
    O_CREAT, O_DIRECTORY, O_EXCL, O_PATH, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY, RENAME_EXCHANGE,
};

use common::{CONTEXT, Process, SMALL, names, names_in, open, read};

fn small() -> Vfs {
    Builder::new().memory("/", SMALL).build().unwrap()
}

#[test]
fn mounts_are_where_they_were_asked_for() {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("out")).unwrap();
    fs::write(host.path().join("text"), "text").unwrap();
    let other = tempfile::tempdir().unwrap();
    let mut vfs = Builder::new()
        .host_read_only("/usr/share/data/", host.path())
        .host_read_write("/usr/share/data/out", other.path())
        .memory("/tmp", SMALL)
        .memory("/dev/shm", SMALL)
        .host_file("/bin/tool", host.path().join("text"))
        .build()
        .unwrap();
    assert_eq!(names(&mut vfs, "/"), ["bin", "dev", "proc", "tmp", "usr"]);
    assert_eq!(read(&mut vfs, "/bin/tool"), b"text");
    let file = open(&mut vfs, "/usr/share/data/out/new", O_RDWR | O_CREAT);
    assert_eq!(vfs.write_at(&CONTEXT, &file, b"new", 0), Ok(3));
    assert_eq!(fs::read(other.path().join("new")).unwrap(), b"new");
    let up = vfs.resolve(&CONTEXT, &vfs.root(), b"/usr/share/data/out/../text", Follow::Never).unwrap();
    assert_eq!(vfs.metadata(&up).unwrap().size, 4);
    let mounts: Vec<_> = vfs.mounts().map(|mount| (mount.path, mount.kind)).collect();
    let mounts: Vec<_> = mounts.iter().map(|(path, kind)| (std::str::from_utf8(path).unwrap(), *kind)).collect();
    assert_eq!(
        mounts,
        [
            ("/", MountKind::Memory),
            ("/bin/tool", MountKind::HostReadOnly),
            ("/dev", MountKind::Devices),
            ("/dev/shm", MountKind::Memory),
            ("/proc", MountKind::Processes),
            ("/tmp", MountKind::Memory),
            ("/usr/share/data", MountKind::HostReadOnly),
            ("/usr/share/data/out", MountKind::HostReadWrite),
        ]
    );
    // What was made for the mounts is not the guest's.
    let root = vfs.root();
    assert_eq!(vfs.create_directory(&CONTEXT, &root, b"/usr/new", 0o755), Err(Errno::EACCES));
    assert_eq!(vfs.create_directory(&CONTEXT, &root, b"/dev/new", 0o755), Err(Errno::EACCES));
    assert_eq!(vfs.create_directory(&CONTEXT, &root, b"/tmp/new", 0o755), Ok(()));
}

#[test]
fn a_grant_that_cannot_be_made_is_named() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "").unwrap();
    symlink("file", host.path().join("link")).unwrap();
    let path = |name: &str| host.path().join(name);
    type Case<'a> = (&'a str, Builder, fn(&BuildError) -> bool);
    let cases: [Case<'_>; 14] = [
        ("relative", Builder::new().memory("tmp", SMALL), |it| matches!(it, BuildError::InvalidPlace { .. })),
        ("empty", Builder::new().memory("", SMALL), |it| matches!(it, BuildError::InvalidPlace { .. })),
        ("dots", Builder::new().memory("/a/../b", SMALL), |it| matches!(it, BuildError::InvalidPlace { .. })),
        ("long", Builder::new().memory(format!("/{:256}", 1), SMALL), |it| {
            matches!(it, BuildError::InvalidPlace { .. })
        }),
        ("twice", Builder::new().memory("/a", SMALL).host_read_only("/a/", host.path()), |it| {
            matches!(it, BuildError::SamePlace { .. })
        }),
        ("devices twice", Builder::new().memory("/dev", SMALL), |it| matches!(it, BuildError::SamePlace { .. })),
        ("missing", Builder::new().host_read_only("/a", path("missing")), |it| {
            matches!(it, BuildError::Missing { .. })
        }),
        ("file for directory", Builder::new().host_read_write("/a", path("file")), |it| {
            matches!(it, BuildError::NotADirectory { .. })
        }),
        ("beneath a file", Builder::new().overlay("/a", path("file/below"), SMALL), |it| {
            matches!(it, BuildError::Missing { .. })
        }),
        ("missing file", Builder::new().host_file("/a", path("missing")), |it| {
            matches!(it, BuildError::Missing { .. })
        }),
        ("directory for file", Builder::new().host_file("/a", host.path()), |it| {
            matches!(it, BuildError::NotAFile { .. })
        }),
        ("no place", Builder::new().host_read_only("/a", host.path()).memory("/a/b", SMALL), |it| {
            matches!(it, BuildError::NoPlace { .. })
        }),
        ("place is a file", Builder::new().host_read_only("/a", host.path()).memory("/a/file", SMALL), |it| {
            matches!(it, BuildError::WrongPlace { found: FileType::Regular, .. })
        }),
        ("place is a link", Builder::new().overlay("/a", host.path(), SMALL).memory("/a/link", SMALL), |it| {
            matches!(it, BuildError::WrongPlace { found: FileType::Symlink, .. })
        }),
    ];
    for (name, builder, is_expected) in cases {
        let error = builder.build().unwrap_err();
        assert!(is_expected(&error), "{name}: {error}");
    }
}

#[test]
fn a_full_file_system_says_so_and_has_room_again_when_something_goes() {
    let quota = Quota { bytes: 3 * 4096, inodes: 4 };
    let mut vfs = Builder::new().memory("/data", quota).build().unwrap();
    let root = vfs.root();
    let file = open(&mut vfs, "/data/a", O_RDWR | O_CREAT);
    assert_eq!(vfs.write_at(&CONTEXT, &file, &[1; 5 * 4096], 0), Ok(3 * 4096), "as much as there is room for");
    assert_eq!(vfs.write_at(&CONTEXT, &file, &[1; 1], 3 * 4096), Err(Errno::ENOSPC));
    assert_eq!(vfs.write_at(&CONTEXT, &file, &[2; 4096], 4096), Ok(4096), "what has room is overwritten");
    let status = vfs.file_system(file.location()).unwrap();
    assert_eq!((status.blocks, status.blocks_free), (3, 0));
    let allocated = vfs.allocate(&CONTEXT, &file, Allocation::Reserve { keep_size: true }, [4 * 4096, 1]);
    assert_eq!(allocated, Err(Errno::ENOSPC));
    vfs.allocate(&CONTEXT, &file, Allocation::PunchHole, [0, 4096]).unwrap();
    assert_eq!(vfs.file_system(file.location()).unwrap().blocks_free, 1);

    for name in ["b", "c", "d"] {
        vfs.create_directory(&CONTEXT, &root, format!("/data/{name}").as_bytes(), 0o755).unwrap();
    }
    for result in [
        vfs.create_directory(&CONTEXT, &root, b"/data/e", 0o755),
        vfs.create_symlink(&CONTEXT, b"a", &root, b"/data/e"),
        vfs.open(&CONTEXT, &root, b"/data/e", O_RDWR | O_CREAT, 0o644).map(drop),
        vfs.open(&CONTEXT, &root, b"/data", O_RDWR | O_TMPFILE, 0o644).map(drop),
        vfs.link(&CONTEXT, file.location(), &root, b"/data/e"),
    ] {
        assert_eq!(result, Err(Errno::ENOSPC));
    }
    vfs.rename(&CONTEXT, (&root, b"/data/b"), (&root, b"/data/e"), 0).expect("moving needs no room");
    vfs.remove_file(&CONTEXT, &root, b"/data/a").unwrap();
    assert_eq!(vfs.file_system(&root_of(&vfs, "/data")).unwrap().blocks_free, 1, "it is open");
    vfs.close(file);
    let status = vfs.file_system(&root_of(&vfs, "/data")).unwrap();
    assert_eq!((status.blocks_free, status.files_free), (3, 1));
}

fn root_of(vfs: &Vfs, path: &str) -> ampoule_vfs::Location {
    vfs.resolve(&CONTEXT, &vfs.root(), path.as_bytes(), Follow::Always).unwrap()
}

#[test]
fn an_overlay_bounds_what_is_changed_and_removing_needs_no_room() {
    let host = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(host.path().join(name), vec![7; 10_000]).unwrap();
    }
    let quota = Quota { bytes: 4096, inodes: 1 };
    let mut vfs =
        Builder::new().overlay("/", host.path(), quota).without_devices().without_processes().build().unwrap();
    let root = vfs.root();
    let a = open(&mut vfs, "/a", O_RDWR);
    assert_eq!(vfs.write_at(&CONTEXT, &a, &[1; 10], 5000), Ok(10), "one page of it is copied");
    assert_eq!(vfs.write_at(&CONTEXT, &a, &[1; 10], 0), Err(Errno::ENOSPC));
    let b = root_of(&vfs, "/b");
    assert_eq!(vfs.set_permissions(&CONTEXT, &b, 0o600), Err(Errno::ENOSPC));
    vfs.remove_file(&CONTEXT, &root, b"/b").unwrap();
    vfs.remove_file(&CONTEXT, &root, b"/c").unwrap();
    assert_eq!(names(&mut vfs, "/"), ["a"]);
    let mut expected = vec![7; 10_000];
    expected[5000..5010].fill(1);
    assert_eq!(read(&mut vfs, "/a"), expected);
    assert_eq!(fs::read(host.path().join("a")).unwrap(), vec![7; 10_000]);
}

/// A failed allocation used to give back more than it had taken, so that a guest could go beyond any quota.
#[test]
fn what_a_failed_allocation_gives_back_is_what_it_has_taken() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("lower"), vec![7; 64 * 4096]).unwrap();
    let quota = Quota { bytes: 16 * 4096, inodes: 8 };
    let mut vfs =
        Builder::new().overlay("/", host.path(), quota).without_devices().without_processes().build().unwrap();
    let file = open(&mut vfs, "/lower", O_RDWR);
    vfs.allocate(&CONTEXT, &file, Allocation::PunchHole, [0, 64 * 4096]).unwrap();
    let root = vfs.root();
    let before = vfs.file_system(&root).unwrap();
    for _ in 0..100 {
        let all = vfs.allocate(&CONTEXT, &file, Allocation::Reserve { keep_size: false }, [0, 64 * 4096]);
        assert_eq!(all, Err(Errno::ENOSPC));
    }
    assert_eq!(vfs.file_system(&root).unwrap(), before);
    vfs.set_len(&CONTEXT, &file, 0).unwrap();
}

/// What had been written used to be given up for the holes before there was room for all of them.
#[test]
fn a_hole_for_which_there_is_no_room_leaves_the_file_as_it_was() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("lower"), vec![7; 1000 * 4096]).unwrap();
    let quota = Quota { bytes: 8 * 4096, inodes: 8 };
    let mut vfs =
        Builder::new().overlay("/", host.path(), quota).without_devices().without_processes().build().unwrap();
    let file = open(&mut vfs, "/lower", O_RDWR);
    vfs.write_at(&CONTEXT, &file, &[1; 4 * 4096], 4096).unwrap();
    let expected = read(&mut vfs, "/lower");
    for start in [0, 5, 4096, 4096 + 5] {
        let punched = vfs.allocate(&CONTEXT, &file, Allocation::PunchHole, [start, 999 * 4096 - start]);
        assert_eq!(punched, Err(Errno::ENOSPC));
        assert!(read(&mut vfs, "/lower") == expected);
    }
}

#[test]
fn what_a_file_owns_can_be_written_without_more_room() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("lower"), vec![7; 8 * 4096]).unwrap();
    let quota = Quota { bytes: 5 * 4096, inodes: 8 };
    let mut vfs =
        Builder::new().overlay("/", host.path(), quota).without_devices().without_processes().build().unwrap();
    let root = vfs.root();
    let before = vfs.file_system(&root).unwrap();
    let file = open(&mut vfs, "/lower", O_RDWR);
    assert_eq!(vfs.own(&file, [0, 8 * 4096]), Err(Errno::ENOSPC));
    assert_eq!(vfs.file_system(&root).unwrap().blocks_free, before.blocks_free);
    vfs.own(&file, [4096 + 1, 4 * 4096]).unwrap();
    assert!(read(&mut vfs, "/lower") == vec![7; 8 * 4096], "it holds what it did");
    let other = open(&mut vfs, "/other", O_RDWR | O_CREAT);
    let filled = vfs.write_at(&CONTEXT, &other, &[2; 8 * 4096], 0).unwrap();
    assert_eq!(filled, 2 * 4096, "the rest is taken");
    assert_eq!(vfs.write_at(&CONTEXT, &file, &[3; 3 * 4096], 4096), Ok(3 * 4096));
    assert_eq!(vfs.write_at(&CONTEXT, &file, &[3], 0), Err(Errno::ENOSPC));
}

#[test]
fn only_so_many_files_are_open_at_once() {
    let mut vfs = Builder::new().open_files(3).build().unwrap();
    let files: Vec<_> = (0..3).map(|_| open(&mut vfs, "/", O_RDONLY | O_DIRECTORY)).collect();
    let root = vfs.root();
    assert_eq!(vfs.open(&CONTEXT, &root, b"/", O_PATH, 0).unwrap_err(), Errno::ENFILE);
    assert_eq!(vfs.open_anonymous(&CONTEXT, 0o600).unwrap_err(), Errno::ENFILE);
    assert_eq!(vfs.retain(&files[0]).unwrap_err(), Errno::ENFILE);
    files.into_iter().for_each(|file| vfs.close(file));
    open(&mut vfs, "/", O_PATH);
}

#[test]
fn devices_are_names_for_what_the_caller_makes_of_them() {
    let mut vfs = small();
    let root = vfs.root();
    let process = Process::new(&mut vfs, "/");
    let context = process.context();
    for (path, device, number) in [
        ("/dev/null", Device::Null, (1, 3)),
        ("/dev/zero", Device::Zero, (1, 5)),
        ("/dev/full", Device::Full, (1, 7)),
        ("/dev/random", Device::Random, (1, 8)),
        ("/dev/urandom", Device::Urandom, (1, 9)),
        ("/dev/tty", Device::Tty, (5, 0)),
    ] {
        let file = vfs.open(&context, &root, path.as_bytes(), O_RDWR | O_CREAT | O_TRUNC, 0).unwrap();
        assert_eq!(vfs.special(file.location()), Some(Special::Device(device)), "{path}");
        let metadata = vfs.metadata(file.location()).unwrap();
        assert_eq!(metadata.mode(), 0o020_666, "{path}");
        assert_eq!((metadata.special_device.major, metadata.special_device.minor), number, "{path}");
        assert_eq!(vfs.read_at(&file, &mut [0], 0), Err(Errno::EINVAL));
        vfs.close(file);
    }
    for (path, number) in [("/dev/stdin", 0), ("/dev/stdout", 1), ("/dev/stderr", 2), ("/dev/fd/2", 2)] {
        let found = vfs.resolve(&context, &root, path.as_bytes(), Follow::Always).unwrap();
        assert_eq!(vfs.special(&found), Some(Special::Descriptor(number)), "{path}");
    }
}

#[test]
fn the_own_process_is_found_by_its_number_and_shows_what_is_open() {
    let mut vfs = small();
    let root = vfs.root();
    vfs.create_directory(&CONTEXT, &root, b"/work", 0o755).unwrap();
    let process = Process::new(&mut vfs, "/work");
    let context = process.context();
    let find = |path: &str, follow| vfs.resolve(&context, &root, path.as_bytes(), follow);
    let link = |path: &str| vfs.read_link(&context, &find(path, Follow::Never)?);
    assert_eq!(link("/proc/self"), Ok(b"4321".to_vec()));
    assert_eq!(link("/proc/self/cwd"), Ok(b"/work".to_vec()));
    assert_eq!(link("/proc/self/root"), Ok(b"/".to_vec()));
    assert_eq!(link("/proc/self/exe"), Err(Errno::ENOENT));
    assert_eq!(link("/proc/self/fd/3"), Ok(b"/work".to_vec()));
    assert_eq!(link("/proc/4321/fd/1"), Ok(b"pipe:[1]".to_vec()));
    assert_eq!(link("/dev/fd"), Ok(b"/proc/self/fd".to_vec()));
    let absent = [
        "/proc/1",
        "/proc/04321",
        "/proc/4321x",
        "/proc/self/fd/4",
        "/proc/self/fd/03",
        "/proc/self/fd/-1",
        "/proc/sys/a",
    ];
    for path in absent {
        assert_eq!(find(path, Follow::Always).unwrap_err(), Errno::ENOENT, "{path}");
    }
    let special = |path: &str| vfs.special(&find(path, Follow::Always).unwrap());
    assert_eq!(special("/proc/self/maps"), Some(Special::Process(ProcessFile::Maps)));
    assert_eq!(special("/proc/mounts"), Some(Special::Process(ProcessFile::Mounts)));
    assert_eq!(special("/proc/meminfo"), Some(Special::System(SystemFile::Meminfo)));
    assert_eq!(special("/proc/sys/kernel/osrelease"), Some(Special::System(SystemFile::Osrelease)));
    assert_eq!(special("/proc/self/fd/3"), None);
    let status = vfs.metadata(&find("/proc/self/status", Follow::Always).unwrap()).unwrap();
    assert_eq!((status.mode(), status.user), (0o100_444, USER_ID));

    let listed = |vfs: &mut Vfs, path: &str| {
        let directory = vfs.open(&context, &root, path.as_bytes(), O_RDONLY | O_DIRECTORY, 0).unwrap();
        let names = names_in(vfs, &context, &directory);
        vfs.close(directory);
        names
    };
    assert_eq!(listed(&mut vfs, "/proc/self/fd"), ["0", "1", "2", "3"]);
    assert!(listed(&mut vfs, "/proc").contains(&"4321".to_owned()));
    assert!(listed(&mut vfs, "/proc/self/fd/3/../proc/self").contains(&"maps".to_owned()));
    assert_eq!(vfs.create_directory(&context, &root, b"/proc/self/fd/3/new", 0o755), Ok(()));
    assert_eq!(listed(&mut vfs, "/work"), ["new"]);
    let written = vfs.open(&context, &root, b"/proc/meminfo", O_RDWR, 0);
    assert_eq!(written.unwrap_err(), Errno::EACCES);
    assert_eq!(vfs.remove_file(&context, &root, b"/proc/meminfo"), Err(Errno::EACCES));
    // Without a process, its files are not there.
    assert_eq!(vfs.resolve(&CONTEXT, &root, b"/proc/self/maps", Follow::Always).unwrap_err(), Errno::ENOENT);
}

#[test]
fn a_file_lives_for_as_long_as_it_is_open() {
    let mut vfs = small();
    let root = vfs.root();
    let file = open(&mut vfs, "/file", O_RDWR | O_CREAT | O_EXCL);
    vfs.write_at(&CONTEXT, &file, b"text", 0).unwrap();
    assert_eq!(vfs.path_of(&CONTEXT, &file), b"/file");
    vfs.remove_file(&CONTEXT, &root, b"/file").unwrap();
    assert_eq!(vfs.path_of(&CONTEXT, &file), b"/file (deleted)");
    assert_eq!(vfs.metadata(file.location()).unwrap().links, 0);
    let again = vfs.retain(&file).unwrap();
    vfs.close(file);
    let mut text = [0; 4];
    assert_eq!(vfs.read_at(&again, &mut text, 0), Ok(4));
    let other = vfs.open_location(&CONTEXT, again.location(), O_RDONLY).unwrap();
    let location = again.location().clone();
    vfs.close(again);
    vfs.close(other);
    assert_eq!(vfs.metadata(&location), Err(Errno::ENOENT));
}

#[test]
fn an_open_file_that_was_moved_is_shown_where_it_is_now() {
    let host = tempfile::tempdir().unwrap();
    let lower = tempfile::tempdir().unwrap();
    fs::write(lower.path().join("old"), "").unwrap();
    for (name, builder) in [
        ("memory", Builder::new().memory("/", SMALL).memory("/data", SMALL)),
        ("overlay", Builder::new().memory("/", SMALL).overlay("/data", lower.path(), SMALL)),
        ("host", Builder::new().memory("/", SMALL).host_read_write("/data", host.path())),
    ] {
        let mut vfs = builder.build().unwrap();
        let root = vfs.root();
        let shown = |vfs: &Vfs, file| String::from_utf8(vfs.path_of(&CONTEXT, file)).unwrap();
        vfs.create_directory(&CONTEXT, &root, b"/data/below", 0o755).unwrap();
        let file = open(&mut vfs, "/data/old", O_RDWR | O_CREAT);
        vfs.rename(&CONTEXT, (&root, b"/data/old"), (&root, b"/data/below/new"), 0).unwrap();
        assert_eq!(shown(&vfs, &file), "/data/below/new", "{name}");
        vfs.rename(&CONTEXT, (&root, b"/data/below"), (&root, b"/data/above"), 0).unwrap();
        assert_eq!(shown(&vfs, &file), "/data/above/new", "{name}");
        let other = open(&mut vfs, "/data/other", O_RDWR | O_CREAT);
        vfs.rename(&CONTEXT, (&root, b"/data/other"), (&root, b"/data/above/new"), RENAME_EXCHANGE).unwrap();
        assert_eq!([shown(&vfs, &other), shown(&vfs, &file)], ["/data/above/new", "/data/other"], "{name}");
        vfs.rename(&CONTEXT, (&root, b"/data/other"), (&root, b"/data/above/new"), 0).unwrap();
        assert_eq!(shown(&vfs, &file), "/data/above/new", "{name}");
        assert!(shown(&vfs, &other).ends_with(" (deleted)"), "{name}");
        vfs.remove_file(&CONTEXT, &root, b"/data/above/new").unwrap();
        assert!(shown(&vfs, &file).ends_with(" (deleted)"), "{name}");
        vfs.close(file);
        vfs.close(other);
    }
}

/// Linux lets a directory be moved that something is mounted in. On the host itself, mounts are found by their paths, which
/// therefore stay.
#[test]
fn a_directory_that_something_is_mounted_in_is_moved_in_memory_and_stays_on_the_host() {
    let (host, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir_all(host.path().join("above/place")).unwrap();
    let mut vfs = Builder::new()
        .host_read_write("/host", host.path())
        .host_read_only("/host/above/place", other.path())
        .memory("/tmp", SMALL)
        .overlay("/tmp/overlay", host.path(), SMALL)
        .memory("/tmp/overlay/above/place", SMALL)
        .build()
        .unwrap();
    let root = vfs.root();
    let rename = |vfs: &mut Vfs, from: &[u8], to: &[u8]| vfs.rename(&CONTEXT, (&root, from), (&root, to), 0);
    for from in ["/host/above", "/host/above/place", "/tmp/overlay", "/tmp/overlay/above/place"] {
        assert_eq!(
            rename(&mut vfs, from.as_bytes(), b"/host/moved"),
            Err(match from {
                "/host/above" | "/host/above/place" => Errno::EBUSY,
                _ => Errno::EXDEV,
            })
        );
    }
    let inside = root_of(&vfs, "/tmp/overlay/above/place");
    assert_eq!(rename(&mut vfs, b"/tmp/overlay/above/place", b"/tmp/overlay/moved"), Err(Errno::EBUSY));
    rename(&mut vfs, b"/tmp/overlay/above", b"/tmp/overlay/moved").unwrap();
    assert_eq!(vfs.path(&inside).unwrap(), b"/tmp/overlay/moved/place");
    assert_eq!(vfs.create_directory(&CONTEXT, &root, b"/tmp/overlay/moved/place/new", 0o755), Ok(()));
    assert_eq!(vfs.remove_directory(&CONTEXT, &root, b"/tmp/overlay/moved"), Err(Errno::ENOTEMPTY));
}

#[test]
fn a_long_way_and_a_large_reservation_end_when_nobody_needs_them() {
    let host = tempfile::tempdir().unwrap();
    let mut vfs = Builder::new().memory("/", SMALL).host_read_write("/host", host.path()).build().unwrap();
    let files: Vec<_> = ["/file", "/host/file"].map(|path| open(&mut vfs, path, O_RDWR | O_CREAT)).into();
    let root = vfs.root();
    // It can be found, and something can be listed, until it has been asked that often.
    for patience in 0..3 {
        let stopped = Stopped(Cell::new(patience));
        let context = ampoule_vfs::Context { process: &stopped, ..CONTEXT };
        assert_eq!(vfs.resolve(&context, &root, b"/./././file", Follow::Always).unwrap_err(), Errno::EINTR);
    }
    for file in &files {
        let stopped = Stopped(Cell::new(0));
        let context = ampoule_vfs::Context { process: &stopped, ..CONTEXT };
        for allocation in [Allocation::Reserve { keep_size: true }, Allocation::Zero { keep_size: true }] {
            assert_eq!(vfs.allocate(&context, file, allocation, [0, 1 << 16]), Err(Errno::EINTR));
        }
        assert_eq!(vfs.allocate(&CONTEXT, file, Allocation::Reserve { keep_size: true }, [0, 1 << 16]), Ok(()));
    }
}

/// A process that is stopped once it has been asked so often.
struct Stopped(Cell<u32>);

impl ProcessView for Stopped {
    fn id(&self) -> u32 {
        1
    }

    fn descriptors(&self) -> Vec<u32> {
        Vec::new()
    }

    fn descriptor(&self, _: u32) -> Option<Descriptor<'_>> {
        None
    }

    fn executable(&self) -> Option<&File> {
        None
    }

    fn directory(&self) -> Option<&File> {
        None
    }

    fn is_interrupted(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left == 0
    }
}

/// Each open directory used to have a list of its own.
#[test]
fn directories_of_an_overlay_are_listed_to_the_end_however_many_are_listed_at_once() {
    let host = tempfile::tempdir().unwrap();
    let count = 300;
    for directory in ["one", "other"] {
        fs::create_dir(host.path().join(directory)).unwrap();
        for index in 0..count {
            fs::write(host.path().join(directory).join(format!("{index:04}")), "").unwrap();
        }
    }
    let quota = Quota { bytes: 0, inodes: 10 };
    let mut vfs = Builder::new().overlay("/data", host.path(), quota).build().unwrap();
    let mut open: Vec<_> =
        ["/data/one", "/data/other", "/data/one"].map(|path| (open(&mut vfs, path, O_RDONLY), 0, Vec::new())).into();
    for _ in 0..count + 2 {
        for (file, from, seen) in &mut open {
            let begin = *from;
            let mut emit = |entry: ampoule_vfs::DirectoryEntry<'_>| {
                seen.push(String::from_utf8(entry.name.to_vec()).unwrap());
                *from = entry.next;
                false
            };
            vfs.read_directory(&CONTEXT, file, begin, &mut emit).unwrap();
        }
    }
    let expected: Vec<_> =
        [".".to_owned(), "..".to_owned()].into_iter().chain((0..count).map(|index| format!("{index:04}"))).collect();
    assert!(open.iter().all(|(_, _, seen)| *seen == expected));
    let root = vfs.root();
    let changed = vfs.create_directory(&CONTEXT, &root, b"/data/one/new", 0o755);
    assert_eq!(changed, Err(Errno::ENOSPC), "its names would be more than the quota has room for");
}

#[test]
fn an_unnamed_file_gets_a_name_only_if_that_was_intended() {
    let mut vfs = small();
    let root = vfs.root();
    let file = vfs.open(&CONTEXT, &root, b"/", O_TMPFILE | O_RDWR, 0o600).unwrap();
    let private = vfs.open(&CONTEXT, &root, b"/", O_TMPFILE | O_WRONLY | O_EXCL, 0o600).unwrap();
    let anonymous = vfs.open_anonymous(&CONTEXT, 0o600).unwrap();
    assert_eq!(vfs.link(&CONTEXT, file.location(), &root, b"/named"), Ok(()));
    assert_eq!(vfs.link(&CONTEXT, private.location(), &root, b"/private"), Err(Errno::ENOENT));
    assert_eq!(vfs.link(&CONTEXT, anonymous.location(), &root, b"/anonymous"), Err(Errno::EXDEV));
    assert_eq!(vfs.write_at(&CONTEXT, &anonymous, b"text", 1 << 20), Ok(4));
    assert_eq!(vfs.len(&anonymous), Ok((1 << 20) + 4));
}

#[test]
fn names_that_stay_are_listed_once_while_others_come_and_go() {
    let host = tempfile::tempdir().unwrap();
    for index in 0..20 {
        fs::write(host.path().join(format!("host-{index:02}")), "").unwrap();
    }
    let mut vfs =
        Builder::new().overlay("/", host.path(), SMALL).without_devices().without_processes().build().unwrap();
    let root = vfs.root();
    let directory = open(&mut vfs, "/", O_RDONLY | O_DIRECTORY);
    let (mut seen, mut from) = (Vec::new(), 0);
    for round in 0.. {
        let mut count = 0;
        vfs.read_directory(&CONTEXT, &directory, from, &mut |entry| {
            seen.push(String::from_utf8(entry.name.to_vec()).unwrap());
            from = entry.next;
            count += 1;
            count < 3
        })
        .unwrap();
        if count == 0 {
            break;
        }
        // As `rm -r` does, what was listed is removed; and something is added.
        for name in seen.iter().filter(|name| name.starts_with("host-0")) {
            let _ = vfs.remove_file(&CONTEXT, &root, name.as_bytes());
        }
        if round < 3 {
            vfs.create_directory(&CONTEXT, &root, format!("new-{round}").as_bytes(), 0o755).unwrap();
        }
    }
    let listed: Vec<_> = seen.iter().filter(|name| name.starts_with("host-")).cloned().collect();
    assert_eq!(listed, (0..20).map(|index| format!("host-{index:02}")).collect::<Vec<_>>());
}

#[test]
fn whole_host_files_are_lent_until_memory_replaces_some_of_them() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("library"), vec![5; 9000]).unwrap();
    let mut vfs =
        Builder::new().overlay("/", host.path(), SMALL).without_devices().without_processes().build().unwrap();
    let file = open(&mut vfs, "/library", O_RDONLY);
    let lent = vfs.host_file(&file).unwrap();
    assert_eq!(lent.size, 9000);
    let mut bytes = [0; 9000];
    rustix::io::pread(lent.descriptor, &mut bytes, 0).unwrap();
    assert_eq!(bytes, [5; 9000]);
    // Metadata may change without the contents.
    let place = file.location().clone();
    vfs.set_permissions(&CONTEXT, &place, 0o600).unwrap();
    assert_eq!(vfs.host_file(&file).unwrap().identity, lent.identity);
    let writable = open(&mut vfs, "/library", O_RDWR);
    assert!(vfs.host_file(&writable).is_some());
    vfs.write_at(&CONTEXT, &writable, &[6], 100).unwrap();
    assert!(vfs.host_file(&file).is_none() && vfs.host_file(&writable).is_none());
    assert_eq!(vfs.read_at(&file, &mut bytes, 0), Ok(9000));
    assert_eq!((bytes[99], bytes[100], bytes[101], bytes[8999]), (5, 6, 5, 5));
    let memory = vfs.open_anonymous(&CONTEXT, 0o600).unwrap();
    assert!(vfs.host_file(&memory).is_none());
}

#[test]
fn holes_and_data_are_found() {
    let mut vfs = small();
    let file = open(&mut vfs, "/sparse", O_RDWR | O_CREAT);
    vfs.write_at(&CONTEXT, &file, &[1; 10], 1 << 40).unwrap();
    vfs.write_at(&CONTEXT, &file, &[1; 10], 8192).unwrap();
    assert_eq!(vfs.seek(&file, Seek::Data, 0), Ok(8192));
    assert_eq!(vfs.seek(&file, Seek::Hole, 8192), Ok(8192 + 4096));
    assert_eq!(vfs.seek(&file, Seek::Data, 3 * 4096), Ok(1 << 40));
    assert_eq!(vfs.seek(&file, Seek::Hole, 1 << 40), Ok((1 << 40) + 10), "there is a hole at the end");
    assert_eq!(vfs.seek(&file, Seek::Data, (1 << 40) + 10), Err(Errno::ENXIO));
    assert_eq!(vfs.metadata(file.location()).unwrap().blocks, 16);
    vfs.set_len(&CONTEXT, &file, i64::MAX as u64).unwrap();
    assert_eq!(vfs.write_at(&CONTEXT, &file, &[1], i64::MAX as u64), Err(Errno::EFBIG));
    assert_eq!(vfs.write_at(&CONTEXT, &file, &[1; 4], i64::MAX as u64 - 2), Ok(2));
    assert_eq!(vfs.write_at(&CONTEXT, &file, &[1], i64::MAX as u64 + 1), Err(Errno::EINVAL));
}

#[test]
fn pipes_and_sockets_in_memory_have_a_number_to_meet_by() {
    let mut vfs = small();
    let root = vfs.root();
    vfs.create_node(&CONTEXT, &root, b"/pipe", NodeKind::Fifo, 0o600).unwrap();
    vfs.create_node(&CONTEXT, &root, b"/socket", NodeKind::Socket, 0o600).unwrap();
    vfs.link(&CONTEXT, &root_of(&vfs, "/pipe"), &root, b"/same").unwrap();
    let special = |path| vfs.special(&root_of(&vfs, path)).unwrap();
    assert_eq!(special("/pipe"), special("/same"));
    assert!(matches!(special("/pipe"), Special::Rendezvous { is_socket: false, .. }));
    assert!(matches!(special("/socket"), Special::Rendezvous { is_socket: true, .. }));
}

#[test]
fn paths_and_names_and_links_have_bounds() {
    let mut vfs = small();
    let root = vfs.root();
    let find = |vfs: &Vfs, path: &[u8]| vfs.resolve(&CONTEXT, &root, path, Follow::Always).map(drop);
    assert_eq!(find(&vfs, &[b'a'; 256]), Err(Errno::ENAMETOOLONG));
    assert_eq!(find(&vfs, &[b'a'; 255]), Err(Errno::ENOENT));
    assert_eq!(find(&vfs, &b"./".repeat(2047)), Ok(()));
    assert_eq!(find(&vfs, &b"./".repeat(2048)), Err(Errno::ENAMETOOLONG));
    assert_eq!(vfs.create_symlink(&CONTEXT, &[b'a'; 4096], &root, b"link"), Err(Errno::ENAMETOOLONG));
    for index in 0..41 {
        let target = if index == 0 { ".".to_owned() } else { format!("link-{}", index - 1) };
        vfs.create_symlink(&CONTEXT, target.as_bytes(), &root, format!("link-{index}").as_bytes()).unwrap();
    }
    assert_eq!(find(&vfs, b"link-39"), Ok(()));
    assert_eq!(find(&vfs, b"link-40"), Err(Errno::ELOOP));
    let mut path = Vec::new();
    let mut deepest = root.clone();
    for _ in 0..17 {
        vfs.create_directory(&CONTEXT, &deepest, &[b'd'; 250], 0o755).unwrap();
        deepest = vfs.resolve(&CONTEXT, &deepest, &[b'd'; 250], Follow::Never).unwrap();
        path.extend_from_slice(b"/");
        path.extend_from_slice(&[b'd'; 250]);
    }
    assert_eq!(vfs.path(&deepest), Err(Errno::ENAMETOOLONG));
    let above = vfs.resolve(&CONTEXT, &deepest, b"..", Follow::Never).unwrap();
    assert_eq!(vfs.path(&above).unwrap(), &path[..16 * 251]);
}

#[test]
fn what_was_changed_in_an_overlay_is_found_however_the_path_is_written() {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir_all(host.path().join("a/b/c")).unwrap();
    fs::write(host.path().join("a/b/c/file"), "old").unwrap();
    symlink("b", host.path().join("a/link")).unwrap();
    let mut vfs =
        Builder::new().overlay("/", host.path(), SMALL).without_devices().without_processes().build().unwrap();
    let root = vfs.root();
    vfs.remove_file(&CONTEXT, &root, b"/a/b/c/file").unwrap();
    vfs.create_directory(&CONTEXT, &root, b"/a/b/new", 0o755).unwrap();
    for separated in ["/", "//", "/./", "///"] {
        let path = |names: &str| names.replace('/', separated).into_bytes();
        let find = |names: &str| vfs.resolve(&CONTEXT, &root, &path(names), Follow::Always).map(drop);
        for directory in ["/a/b", "/a/link", "/a/b/c/..", "/a/../a/b", "/a/link/../b"] {
            assert_eq!(find(&format!("{directory}/new")), Ok(()), "{directory} {separated}");
            assert_eq!(find(&format!("{directory}/c/file")), Err(Errno::ENOENT), "{directory} {separated}");
        }
    }
}

#[test]
fn links_are_made_where_memory_takes_them_and_nothing_is_yet() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("there"), "").unwrap();
    let mut vfs = Builder::new()
        .host_read_only("/usr/lib", host.path())
        .symlink("/lib", "usr/lib")
        .symlink("/etc/alternatives/awk", "/usr/bin/mawk")
        .symlink("/usr/lib/new", "there")
        .symlink("/usr/lib/there", "elsewhere")
        .build()
        .unwrap();
    assert_eq!(names(&mut vfs, "/lib/"), ["there"]);
    let link = vfs.resolve(&CONTEXT, &vfs.root(), b"/etc/alternatives/awk", Follow::Never).unwrap();
    assert_eq!(vfs.read_link(&CONTEXT, &link).unwrap(), b"/usr/bin/mawk");
    assert_eq!(read(&mut vfs, "/lib/there"), b"");
}
