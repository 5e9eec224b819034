use super::*;

#[test]
fn other_paths_lead_nowhere() {
    let mut guest = Guest::new();
    guest.put(DATA, b"/etc/passwd\0");
    let here = libc::AT_FDCWD as u64;
    for number in [nr::OPEN, nr::STAT, nr::LSTAT, nr::ACCESS, nr::UNLINK, nr::EXECVE, nr::CHDIR] {
        assert_eq!(guest.errno(number, [DATA]), libc::ENOENT);
        assert_eq!(guest.errno(number, [UNMAPPED]), libc::EFAULT);
    }
    for number in [nr::OPENAT, nr::NEWFSTATAT, nr::STATX, nr::FACCESSAT, nr::UNLINKAT] {
        assert_eq!(guest.errno(number, [here, DATA]), libc::ENOENT);
        assert_eq!(guest.errno(number, [here, u64::MAX]), libc::EFAULT);
    }
    assert_eq!(guest.errno(nr::READLINK, [DATA, DATA, 10]), libc::ENOENT);
    assert_eq!(guest.errno(nr::READLINKAT, [here, DATA, DATA, 10]), libc::ENOENT);
    assert_eq!(guest.errno(nr::READLINK, [DATA, DATA, 0]), libc::EINVAL);
    let at = guest.ok(nr::MMAP, [0, 2 * PAGE, 3, 0x22, u64::MAX, 0]);
    guest.put(at, &[b'a'; 2 * PAGE_SIZE]);
    assert_eq!(guest.errno(nr::OPEN, [at]), libc::ENAMETOOLONG);
}

#[test]
fn the_working_directory_is_the_root() {
    let mut guest = Guest::new();
    assert_eq!(guest.ok(nr::GETCWD, [DATA, 100]), 2);
    assert_eq!(&guest.bytes(DATA), b"/\0");
    assert_eq!(guest.errno(nr::GETCWD, [DATA, 1]), libc::ERANGE);
    assert_eq!(guest.errno(nr::GETCWD, [READ_ONLY, 100]), libc::EFAULT);
}

/// Opening with flags that programs use, and what Linux answers to others.
#[test]
fn the_devices_open_as_they_do_on_linux() {
    let mut guest = Guest::new();
    let here = libc::AT_FDCWD as u64;
    for (path, flags, expected) in [
        ("/dev/urandom", libc::O_RDONLY | libc::O_CLOEXEC, Ok(libc::O_RDONLY)),
        ("/dev/null", libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC, Ok(libc::O_RDWR)),
        ("/dev/null", libc::O_WRONLY | libc::O_APPEND, Ok(libc::O_WRONLY | libc::O_APPEND)),
        ("/dev/random", libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW, Ok(libc::O_NONBLOCK | libc::O_NOFOLLOW)),
        ("//dev/./../dev/zero", libc::O_RDONLY, Ok(libc::O_RDONLY)),
        ("dev/full", libc::O_RDONLY, Ok(libc::O_RDONLY)),
        ("/proc/self/maps", libc::O_RDONLY, Ok(libc::O_RDONLY)),
        ("/proc/self/maps", libc::O_RDWR, Err(libc::EACCES)),
        ("/dev/null", libc::O_CREAT | libc::O_EXCL, Err(libc::EEXIST)),
        ("/dev/null", libc::O_DIRECTORY, Err(libc::ENOTDIR)),
        ("/dev/null/", libc::O_RDONLY, Err(libc::ENOTDIR)),
        ("/dev/null/..", libc::O_RDONLY, Err(libc::ENOTDIR)),
        ("/dev/no/../null", libc::O_RDONLY, Err(libc::ENOENT)),
        ("/dev/kvm", libc::O_RDWR, Err(libc::ENOENT)),
        ("/proc/self/mem", libc::O_RDWR, Err(libc::ENOENT)),
        ("/../../etc/passwd", libc::O_RDONLY, Err(libc::ENOENT)),
        ("/", libc::O_RDONLY, Ok(libc::O_RDONLY)),
        ("/dev", libc::O_RDONLY | libc::O_DIRECTORY, Ok(libc::O_RDONLY | libc::O_DIRECTORY)),
        ("/dev/tty", libc::O_RDWR, Err(libc::ENXIO)),
        ("/dev/null", libc::O_PATH | libc::O_RDWR, Ok(libc::O_PATH)),
        ("/dev/null", libc::O_PATH | libc::O_DIRECTORY, Err(libc::ENOTDIR)),
        ("/new", libc::O_WRONLY | libc::O_CREAT, Err(libc::EACCES)),
        ("/dev/stdout", libc::O_WRONLY, Ok(libc::O_WRONLY)),
        ("/proc/self/fd/1", libc::O_WRONLY, Ok(libc::O_WRONLY)),
        ("/dev", libc::O_RDWR, Err(libc::EISDIR)),
        ("", libc::O_RDONLY, Err(libc::ENOENT)),
    ] {
        guest.put(DATA, &[path.as_bytes(), b"\0"].concat());
        match expected {
            Ok(kept) => {
                let number = guest.ok(nr::OPENAT, [here, DATA, flags as u64]);
                let found = guest.ok(nr::FCNTL, [number, libc::F_GETFL as u64]);
                assert_eq!(found & !0o100_000, kept as u64, "{path}");
                let closes = guest.ok(nr::FCNTL, [number, libc::F_GETFD as u64]);
                assert_eq!(closes == 1, flags & libc::O_CLOEXEC != 0);
            }
            Err(errno) => assert_eq!(guest.errno(nr::OPEN, [DATA, flags as u64]), errno, "{path} {flags:o}"),
        }
    }
    let relative = guest.put(DATA, b"dev/null\0");
    assert_eq!(guest.errno(nr::OPENAT, [0, relative, 0]), libc::ENOTDIR);
    assert_eq!(guest.errno(nr::OPENAT, [60, relative, 0]), libc::EBADF);
    guest.put(DATA, b"/dev/null\0");
    assert_eq!(guest.ok(nr::CREAT, [DATA, 0o600]), guest.ok(nr::OPENAT, [60, DATA, 0]) - 1);
}

#[test]
fn devices_give_and_take_what_linuxs_do() {
    let mut guest = Guest::new();
    let [null, zero, full, random, urandom] = ["null", "zero", "full", "random", "urandom"].map(|name| {
        guest.put(DATA, format!("/dev/{name}\0").as_bytes());
        guest.ok(nr::OPEN, [DATA, libc::O_RDWR as u64])
    });
    guest.put(DATA, &[0xaa; 64]);
    assert_eq!(guest.ok(nr::READ, [null, DATA, 64]), 0);
    assert_eq!(guest.bytes(DATA), [0xaa; 64]);
    for device in [random, urandom] {
        assert_eq!(guest.ok(nr::READ, [device, DATA, 32]), 32);
        let (first, untouched) = (guest.bytes::<32>(DATA), guest.bytes::<32>(DATA + 32));
        assert_eq!(guest.ok(nr::PREAD64, [device, DATA, 32, 5]), 32);
        assert_ne!(guest.bytes::<32>(DATA), first);
        assert_eq!(untouched, [0xaa; 32]);
    }
    for device in [zero, full] {
        let vectors = guest.put_words(DATA + 64, &[DATA, 16, DATA + 32, 16]);
        guest.put(DATA, &[0xaa; 64]);
        assert_eq!(guest.ok(nr::READV, [device, vectors, 2]), 32);
        assert_eq!((guest.word(DATA + 8), guest.word(DATA + 16), guest.word(DATA + 40)), (0, u64::MAX / 3 * 2, 0));
    }
    for device in [null, zero, random, urandom] {
        assert_eq!(guest.ok(nr::WRITE, [device, DATA, 5000]), 5000);
        assert_eq!(guest.ok(nr::PWRITE64, [device, DATA, 3, 9]), 3);
        assert_eq!(guest.ok(nr::LSEEK, [device, 100, libc::SEEK_END as u64]), 0);
        assert_eq!(guest.errno(nr::LSEEK, [device, 0, 9]), libc::EINVAL);
    }
    assert_eq!(guest.errno(nr::WRITE, [full, DATA, 1]), libc::ENOSPC);
    assert!(guest.printed.bytes.is_empty());

    let large = guest.ok(nr::MMAP, [0, 1 << 17, 3, 0x22, u64::MAX, 0]);
    for device in [zero, urandom] {
        assert_eq!(guest.ok(nr::READ, [device, large, u64::MAX]), 1 << 17, "as much as there is room for");
        assert_eq!(guest.ok(nr::READ, [device, READ_ONLY - 5, 10]), 5);
        assert_eq!(guest.errno(nr::READ, [device, READ_ONLY, 10]), libc::EFAULT);
        assert_eq!(guest.errno(nr::PREAD64, [device, DATA, 10, u64::MAX]), libc::EINVAL);
    }
    guest.put(DATA, b"/dev/zero\0");
    let reader = guest.ok(nr::OPEN, [DATA, libc::O_RDONLY as u64]);
    let writer = guest.ok(nr::OPEN, [DATA, libc::O_WRONLY as u64]);
    assert_eq!(guest.errno(nr::WRITE, [reader, DATA, 1]), libc::EBADF);
    assert_eq!(guest.errno(nr::READ, [writer, DATA, 1]), libc::EBADF);
    assert_eq!(guest.errno(nr::IOCTL, [reader, libc::TCGETS, DATA]), libc::ENOTTY);
}

#[test]
fn what_is_there_can_be_looked_at_and_not_changed() {
    let mut guest = Guest::new();
    let mode_of = |guest: &Guest| guest.half(DATA + std::mem::offset_of!(libc::stat, st_mode) as u64);
    let device_of = |guest: &Guest| guest.word(DATA + std::mem::offset_of!(libc::stat, st_rdev) as u64);
    let path = DATA + 1024;
    for (name, mode, device) in [
        ("/dev/null", libc::S_IFCHR | 0o666, libc::makedev(1, 3)),
        ("/dev/urandom", libc::S_IFCHR | 0o666, libc::makedev(1, 9)),
        ("/", libc::S_IFDIR | 0o555, 0),
        ("/dev", libc::S_IFDIR | 0o755, 0),
        ("/proc/self/", libc::S_IFDIR | 0o555, 0),
        ("/proc/self/maps", libc::S_IFREG | 0o444, 0),
    ] {
        guest.put(path, &[name.as_bytes(), b"\0"].concat());
        for number in [nr::STAT, nr::LSTAT] {
            assert_eq!(guest.ok(number, [path, DATA]), 0);
            assert_eq!((mode_of(&guest), device_of(&guest)), (mode, device), "{name}");
        }
        assert_eq!(guest.ok(nr::STATX, [libc::AT_FDCWD as u64, path, 0, 0x7ff, DATA]), 0);
        let minor = guest.half(DATA + std::mem::offset_of!(libc::statx, stx_rdev_minor) as u64);
        assert_eq!(minor, libc::minor(device));
        if mode & libc::S_IFMT != libc::S_IFDIR {
            assert_eq!(guest.errno(nr::UNLINK, [path]), libc::EACCES, "{name}");
        }
        assert_eq!(guest.errno(nr::MKDIR, [path]), libc::EEXIST);
        assert_eq!(guest.errno(nr::READLINK, [path, DATA, 100]), libc::EINVAL);
    }
    let (read, write, search) = (libc::R_OK as u64, libc::W_OK as u64, libc::X_OK as u64);
    for (name, allowed, refused) in
        [("/dev/null", read | write, search), ("/", read | search, write), ("/proc/self/maps", read, write)]
    {
        guest.put(path, &[name.as_bytes(), b"\0"].concat());
        assert_eq!(guest.ok(nr::ACCESS, [path, allowed]), 0);
        assert_eq!(guest.errno(nr::FACCESSAT2, [libc::AT_FDCWD as u64, path, refused, 0]), libc::EACCES);
        assert_eq!(guest.errno(nr::ACCESS, [path, 8]), libc::EINVAL);
    }
    guest.put(path, b"/dev/zero\0");
    let number = guest.ok(nr::OPEN, [path]);
    guest.ok(nr::FSTAT, [number, DATA]);
    assert_eq!(device_of(&guest), libc::makedev(1, 5));
}

#[test]
fn the_working_directory_can_be_changed() {
    let mut guest = Guest::new();
    for (path, now) in [("dev", "/dev"), ("..", "/"), ("/proc/self/.", "/proc/self"), ("..", "/proc"), ("/", "/")] {
        guest.put(DATA, &[path.as_bytes(), b"\0"].concat());
        assert_eq!(guest.ok(nr::CHDIR, [DATA]), 0);
        assert_eq!(guest.ok(nr::GETCWD, [DATA, 100]), now.len() as u64 + 1);
        assert_eq!(guest.space.read_c_string(GuestVirt(DATA), 100).unwrap(), now.as_bytes());
    }
    guest.put(DATA, b"/dev/null\0");
    assert_eq!(guest.errno(nr::CHDIR, [DATA]), libc::ENOTDIR);
}

/// `pthread_getattr_np` finds the stack there.
#[test]
fn the_list_of_mappings_is_that_of_the_address_space() {
    let mut guest = Guest::new();
    guest.ok(nr::BRK, [HEAP + 1]);
    guest.put(DATA, b"/proc/self/maps\0");
    let file = guest.ok(nr::OPEN, [DATA]);
    let mut text = Vec::new();
    // Pieces of any size are one text.
    for len in [1, 80, 81, 200].into_iter().cycle() {
        let read = guest.ok(nr::READ, [file, DATA, len]);
        if read == 0 {
            break;
        }
        text.extend_from_slice(&guest.bytes::<200>(DATA)[..read as usize]);
    }
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    let stack_end = ampoule_vmm::address_map::USER_END.0 - PAGE;
    let expected = [
        (DATA, DATA + PAGE, "rw-p", None),
        (READ_ONLY, READ_ONLY + PAGE, "r--p", None),
        (HEAP, HEAP + PAGE, "rw-p", Some("[heap]")),
        (stack_end - PAGE, stack_end, "rw-p", Some("[stack]")),
    ];
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, (start, end, permissions, name)) in lines.iter().zip(expected) {
        assert_eq!(line[0], format!("{start:08x}-{end:08x}"));
        assert_eq!((line[1], line.get(5).copied()), (permissions, name));
    }
    assert_eq!(guest.ok(nr::PREAD64, [file, DATA, 12, 40]), 12);
    assert_eq!(guest.bytes::<12>(DATA), text.as_bytes()[40..52]);
    assert_eq!(guest.ok(nr::LSEEK, [file, 0, libc::SEEK_CUR as u64]), text.len() as u64);
    assert_eq!(guest.ok(nr::LSEEK, [file, 0, libc::SEEK_SET as u64]), 0);
    assert_eq!(guest.ok(nr::READ, [file, DATA, 12]), 12);
    assert_eq!(guest.bytes::<12>(DATA), text.as_bytes()[..12]);
    assert_eq!(guest.errno(nr::LSEEK, [file, u64::MAX, libc::SEEK_SET as u64]), libc::EINVAL);
    assert_eq!(guest.ok(nr::LSEEK, [file, i64::MAX as u64, libc::SEEK_SET as u64]), i64::MAX as u64);
    assert_eq!(guest.ok(nr::READ, [file, DATA, 12]), 0);
}

#[test]
fn the_log_has_the_beginning_of_a_path() {
    let mut guest = Guest::new();
    guest.put(DATA, b"/etc/\x1b[2Jhosts\0");
    guest.put(DATA + 100, &[&[b'x'; 200][..], b"\0"].concat());
    let here = libc::AT_FDCWD as u64;
    let events = events_of(|| {
        assert_eq!(guest.errno(nr::OPEN, [DATA]), libc::ENOENT);
        assert_eq!(guest.errno(nr::OPENAT, [here, DATA + 100]), libc::ENOENT);
    });
    let said = "a guest asks for a path that is not there";
    assert_eq!(
        events,
        [
            format!("{said} call=\"open\" path=/etc/\\x1b[2Jhosts"),
            format!("{said} call=\"openat\" path={}…", "x".repeat(64)),
        ]
    );
}

#[test]
fn what_a_guest_makes_the_log_say_of_its_system_calls_is_bounded() {
    let mut guest = Guest::new();
    guest.put(DATA, b"/etc/hosts\0");
    // Each call of the host has its own bound.
    for _ in 0..2 {
        let events = events_of(|| {
            for number in 300..800 {
                guest.errno(nr::OPEN, [DATA]);
                guest.call(number, []);
            }
        });
        assert_eq!(events.len(), 101);
        assert_eq!(events[100], "a guest makes more such system calls in this call; they are not logged");
        guest.process.resume(&guest.space);
    }
}
