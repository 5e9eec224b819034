use super::*;
use crate::files::Files;
use crate::personality::linux::descriptors::OPEN_MAX;

impl Guest {
    /// A guest in a directory of its own in memory.
    fn with_directory() -> Self {
        Self::with_files(&Files::none().tmp(1 << 20), "/tmp")
    }

    /// A guest with these files, in one of their directories.
    fn with_files(files: &Files, directory: &str) -> Self {
        let files = files.mount(None, std::path::Path::new(directory)).unwrap();
        let mut guest = Self::new();
        guest.process = LinuxProcess::new(
            ProcessConfig {
                stack_size: STACK_SIZE,
                chance: *b"dice",
                clock: by_system_calls(Clock::Real),
                policy: Policy::all(),
            },
            files,
        );
        guest.process.started(Started { program: "/bin/guest".into(), ..Started::default() });
        guest
    }

    fn path(&mut self, path: &str) -> u64 {
        self.put(DATA + 2048, &[path.as_bytes(), b"\0"].concat())
    }

    fn open(&mut self, path: &str, flags: i32) -> u64 {
        let path = self.path(path);
        self.ok(nr::OPEN, [path, flags as u64, 0o644])
    }

    /// The first bytes of what a path leads to.
    fn text(&mut self, path: &str) -> String {
        let file = self.open(path, libc::O_RDONLY);
        let len = self.ok(nr::READ, [file, DATA, 2000]) as usize;
        self.ok(nr::CLOSE, [file]);
        String::from_utf8(self.bytes::<2000>(DATA)[..len].to_vec()).unwrap()
    }

    fn write(&mut self, file: u64, text: &[u8]) -> Outcome {
        self.put(DATA, text);
        self.call(nr::WRITE, [file, DATA, text.len() as u64])
    }
}

const NEW: i32 = libc::O_CREAT | libc::O_RDWR;

#[test]
fn what_was_written_after_a_snapshot_is_gone_and_no_copy_sees_anothers() {
    let mut guest = Guest::with_directory();
    let file = guest.open("kept", NEW);
    assert_eq!(guest.write(file, b"before"), Outcome::Return(6));
    let snapshot = guest.process.suspended();
    let mut other = Guest::with_directory();
    other.process = snapshot.clone();

    assert_eq!(guest.write(file, b", after"), Outcome::Return(7));
    guest.open("new", NEW);
    assert_eq!(other.text("kept"), "before");
    let new = other.path("new");
    assert_eq!(other.errno(nr::OPEN, [new]), libc::ENOENT);
    assert_eq!(guest.text("kept"), "before, after");

    guest.process.restore(&snapshot);
    assert_eq!(guest.text("kept"), "before");
    // The file is open, at the same position.
    assert_eq!(guest.write(file, b" again"), Outcome::Return(6));
    assert_eq!(guest.text("kept"), "before again");
    assert_eq!(other.text("kept"), "before");
}

#[test]
fn nothing_is_created_for_which_there_is_no_number() {
    let mut guest = Guest::with_directory();
    for number in 3..OPEN_MAX as u64 {
        assert_eq!(guest.ok(nr::DUP, [1]), number);
    }
    let path = guest.path("new");
    assert_eq!(guest.errno(nr::OPEN, [path, NEW as u64, 0o600]), libc::EMFILE);
    assert_eq!(guest.errno(nr::STAT, [path, DATA]), libc::ENOENT);
}

#[test]
fn seals_forbid_what_they_say() {
    let mut guest = Guest::with_directory();
    let name = guest.path("name");
    let file = guest.ok(nr::MEMFD_CREATE, [name, libc::MFD_ALLOW_SEALING.into()]);
    assert_eq!(guest.write(file, b"contents"), Outcome::Return(8));
    let (add, get) = (libc::F_ADD_SEALS as u64, libc::F_GET_SEALS as u64);
    let size = (libc::F_SEAL_GROW | libc::F_SEAL_SHRINK) as u64;
    assert_eq!(guest.ok(nr::FCNTL, [file, add, size]), 0);
    assert_eq!(guest.errno(nr::FTRUNCATE, [file, 4]), libc::EPERM);
    assert_eq!(guest.errno(nr::FTRUNCATE, [file, 9]), libc::EPERM);
    assert_eq!(guest.errno(nr::WRITE, [file, DATA, 1]), libc::EPERM, "at its end");
    assert_eq!(guest.ok(nr::PWRITE64, [file, DATA, 8, 0]), 8);
    guest.ok(nr::FCNTL, [file, add, (libc::F_SEAL_WRITE | libc::F_SEAL_SEAL) as u64]);
    assert_eq!(guest.errno(nr::PWRITE64, [file, DATA, 8, 0]), libc::EPERM);
    assert_eq!(guest.errno(nr::FCNTL, [file, add, 0]), libc::EPERM);
    let all = size | (libc::F_SEAL_WRITE | libc::F_SEAL_SEAL) as u64;
    assert_eq!(guest.ok(nr::FCNTL, [file, get]), all);
    let unsealable = guest.ok(nr::MEMFD_CREATE, [name, 0]);
    assert_eq!(guest.ok(nr::FCNTL, [unsealable, get]), libc::F_SEAL_SEAL as u64);
    let ordinary = guest.open("ordinary", NEW);
    assert_eq!(guest.errno(nr::FCNTL, [ordinary, get]), libc::EINVAL);
}

#[test]
fn a_lock_that_only_the_process_could_release_is_a_wait_for_ever() {
    let mut guest = Guest::with_directory();
    let (one, other) = (guest.open("file", NEW), guest.open("file", NEW));
    let (exclusive, shared, no_wait) = (libc::LOCK_EX as u64, libc::LOCK_SH as u64, libc::LOCK_NB as u64);
    assert_eq!(guest.ok(nr::FLOCK, [one, exclusive]), 0);
    assert_eq!(guest.errno(nr::FLOCK, [other, shared | no_wait]), libc::EWOULDBLOCK);
    assert_eq!(guest.call(nr::FLOCK, [other, shared]), Outcome::Deadlock(EndlessWait::Files));
    guest.ok(nr::CLOSE, [one]);
    assert_eq!(guest.ok(nr::FLOCK, [other, shared | no_wait]), 0);
}

#[test]
fn proc_tells_of_the_sandbox() {
    let mut guest = Guest::with_directory();
    let id = guest.id();
    assert_eq!(guest.text("/proc/self/loginuid"), "4294967295");
    assert!(guest.text("/proc/self/status").contains(&format!("\nPid:\t{id}\n")));
    assert!(guest.text(&format!("/proc/{id}/stat")).starts_with(&format!("{id} (guest) R 1 ")));
    assert_eq!(guest.text("/proc/self/stat").split(' ').count(), 52);
    assert!(guest.text("/proc/meminfo").starts_with(&format!("MemTotal:{:>15} kB\n", (FRAMES as u64 * PAGE) >> 10)));
    assert!(guest.text("/proc/mounts").contains("tmpfs /tmp tmpfs rw,nosuid,nodev 0 0\n"));
    assert_eq!(guest.text("/proc/sys/kernel/hostname"), "ampoule\n");
    assert_eq!(guest.text("/proc/sys/kernel/random/uuid").len(), 37);
    assert_ne!(guest.text("/proc/sys/kernel/random/uuid"), guest.text("/proc/sys/kernel/random/uuid"));
    assert_eq!(guest.text("/proc/sys/kernel/random/boot_id"), guest.text("/proc/sys/kernel/random/boot_id"));
    let file = guest.open("some file", NEW);
    let link = guest.path(&format!("/proc/self/fd/{file}"));
    let len = guest.ok(nr::READLINK, [link, DATA, 100]) as usize;
    assert_eq!(guest.bytes::<100>(DATA)[..len], *b"/tmp/some file");
    guest.path("some file");
    guest.ok(nr::UNLINK, [DATA + 2048]);
    guest.path(&format!("/proc/self/fd/{file}"));
    let len = guest.ok(nr::READLINK, [link, DATA, 100]) as usize;
    assert_eq!(guest.bytes::<100>(DATA)[..len], *b"/tmp/some file (deleted)");
}

#[test]
fn a_full_quota_is_an_error_and_a_part_is_written_before() {
    let mut guest = Guest::with_directory();
    let file = guest.open("file", NEW);
    let large = guest.ok(nr::MMAP, [0, 64 * PAGE, 3, 0x22, u64::MAX, 0]);
    let mut written = 0;
    let errno = loop {
        match guest.call(nr::WRITE, [file, large, 64 * PAGE]) {
            Outcome::Return(count) if (count as i64) > 0 => written += count,
            Outcome::Return(errno) => break -(errno as i64) as i32,
            outcome => panic!("{outcome:?}"),
        }
    };
    assert_eq!((errno, written <= 1 << 20), (libc::ENOSPC, true));
    assert_eq!(guest.ok(nr::FTRUNCATE, [file, 0]), 0);
    assert_eq!(guest.ok(nr::WRITE, [file, large, PAGE]), PAGE);
}

#[test]
fn the_standard_streams_can_be_opened_again() {
    let mut guest = Guest::with_directory();
    let output = guest.open("/dev/stdout", libc::O_WRONLY);
    assert_eq!(guest.write(output, b"text"), Outcome::Return(4));
    assert_eq!(guest.printed.text(Stream::Stdout), b"text");
    let source = guest.open("file", NEW);
    guest.write(source, b"from a file");
    guest.ok(nr::LSEEK, [source, 5, 0]);
    assert_eq!(guest.ok(nr::SENDFILE, [2, source, 0, 100]), 6);
    assert_eq!(guest.printed.text(Stream::Stderr), b"a file");
}

#[test]
fn a_transfer_ends_when_the_call_is_interrupted() {
    #[derive(Debug)]
    struct Interrupted;
    impl crate::address_space::Watch for Interrupted {
        fn is_interrupted(&self) -> bool {
            true
        }
    }
    let mut guest = Guest::with_directory();
    let file = guest.open("/dev/zero", libc::O_RDONLY);
    let large = guest.ok(nr::MMAP, [0, 64 * PAGE, 3, 0x22, u64::MAX, 0]);
    let mut watched = guest.space.watched(Arc::new(Interrupted));
    let call = SystemCall { number: nr::READ, arguments: [file, large, 64 * PAGE, 0, 0, 0] };
    let outcome = guest.process.system_call(&call, &mut watched, &mut guest.printed);
    assert_eq!(outcome, Outcome::Return(Errno::EINTR.result()));
}

#[test]
fn what_is_locked_can_be_released_when_there_is_no_room_for_more_locks() {
    let mut guest = Guest::with_directory();
    let file = guest.open("file", NEW);
    let mut lock = |kind: i32, start: u64, len: u64| {
        let words = [kind as u64 | (libc::SEEK_SET as u64) << 16, start, len, 0];
        let at = guest.put_words(DATA, &words);
        guest.call(nr::FCNTL, [file, libc::F_SETLK as u64, at])
    };
    let no_lock = Outcome::Return(-i64::from(libc::ENOLCK) as u64);
    let locked = (0..10_000).take_while(|index| lock(libc::F_WRLCK, 3 * index, 2) == Outcome::Return(0)).count() as u64;
    assert_eq!(lock(libc::F_WRLCK, 3 * locked, 2), no_lock);
    assert_eq!(lock(libc::F_RDLCK, 0, 2), Outcome::Return(0), "it takes the place of another");
    assert_eq!(lock(libc::F_RDLCK, 3, 1), no_lock, "the other byte stays locked as it was");
    assert_eq!(lock(libc::F_UNLCK, 0, 2), Outcome::Return(0));
    assert_eq!(lock(libc::F_WRLCK, 3 * locked, 3), Outcome::Return(0));
    assert_eq!(lock(libc::F_UNLCK, 3 * locked + 1, 1), no_lock, "which would be one more");
    assert_eq!(lock(libc::F_UNLCK, 0, 0), Outcome::Return(0), "all of them");
    assert_eq!(lock(libc::F_WRLCK, 0, 9), Outcome::Return(0));
    assert_eq!(lock(libc::F_UNLCK, 1, 1), Outcome::Return(0));
}

#[test]
fn nothing_is_sent_from_beyond_the_last_place_that_a_file_can_have() {
    let mut guest = Guest::with_directory();
    let (from, to) = (guest.open("from", NEW), guest.open("to", NEW));
    assert_eq!(guest.write(from, b"contents"), Outcome::Return(8));
    for to in [to, 1] {
        for (offset, count) in [(i64::MAX as u64, 1), (i64::MAX as u64 - 9, 9), (8, u64::MAX), (u64::MAX, 1)] {
            let at = guest.put_words(DATA, &[offset]);
            let expected = if offset == i64::MAX as u64 - 9 { Outcome::Return(0) } else { INVALID };
            assert_eq!(guest.call(nr::SENDFILE, [to, from, at, count]), expected, "{count} at {offset:#x}");
            assert_eq!(guest.word(DATA), offset);
        }
        let at = guest.put_words(DATA, &[3]);
        assert_eq!(guest.ok(nr::SENDFILE, [to, from, at, 1 << 40]), 5);
        assert_eq!(guest.word(DATA), 8);
    }
    assert_eq!(guest.printed.text(Stream::Stdout), b"tents");
    assert_eq!(guest.text("to"), "tents");
}

/// The outcome of a call with an argument that is refused.
const INVALID: Outcome = Outcome::Return(-(libc::EINVAL as i64) as u64);

#[test]
fn as_many_files_are_open_as_the_application_allows() {
    let mut guest = Guest::with_files(&Files::none().tmp(1 << 20).open_files(10), "/tmp");
    guest.ok(nr::GETRLIMIT, [u64::from(libc::RLIMIT_NOFILE), DATA]);
    assert_eq!([guest.word(DATA), guest.word(DATA + 8)], [10, 10]);
    assert!(guest.text("/proc/self/limits").contains("Max open files            10                   10 "));
    let file = guest.open("file", NEW);
    guest.write(file, b"text");
    for number in 4..10 {
        assert_eq!(guest.open("file", libc::O_RDONLY), number);
    }
    let path = guest.path("file");
    assert_eq!(guest.errno(nr::OPEN, [path, 0]), libc::EMFILE);
    assert_eq!(guest.errno(nr::DUP, [1]), libc::EMFILE);
    assert_eq!(guest.errno(nr::DUP2, [1, 10]), libc::EBADF);
    assert_eq!(guest.errno(nr::FCNTL, [1, libc::F_DUPFD as u64, 10]), libc::EINVAL);
}

#[test]
fn parts_of_files_are_copied_in_the_file_system() {
    let mut guest = Guest::with_directory();
    let (from, to) = (guest.open("from", NEW), guest.open("to", NEW));
    guest.write(from, b"contents");
    let places = |guest: &mut Guest, from: u64, to: u64| guest.put_words(DATA + 64, &[from, to]);
    let at = places(&mut guest, 3, 1);
    assert_eq!(guest.ok(nr::COPY_FILE_RANGE, [from, at, to, at + 8, 100, 0]), 5, "what there is");
    assert_eq!([guest.word(at), guest.word(at + 8)], [8, 6]);
    assert_eq!(guest.text("to"), "\0tents");
    assert_eq!(guest.ok(nr::COPY_FILE_RANGE, [from, at, to, at + 8, 100, 0]), 0, "its end");

    // Without places it goes by the positions, which move.
    guest.ok(nr::LSEEK, [from, 0, 0]);
    assert_eq!(guest.ok(nr::COPY_FILE_RANGE, [from, 0, to, 0, 3, 0]), 3);
    assert_eq!(guest.text("to"), "connts");
    assert_eq!([guest.ok(nr::LSEEK, [from, 0, 1]), guest.ok(nr::LSEEK, [to, 0, 1])], [3, 3]);

    // Within one file, parts that do not overlap.
    let at = places(&mut guest, 0, 8);
    assert_eq!(guest.ok(nr::COPY_FILE_RANGE, [from, at, from, at + 8, 4, 0]), 4);
    assert_eq!(guest.text("from"), "contentscont");
    let at = places(&mut guest, 0, 3);
    assert_eq!(guest.errno(nr::COPY_FILE_RANGE, [from, at, from, at + 8, 4, 0]), libc::EINVAL);
    for (from_place, to_place, count) in [(0, i64::MAX as u64 - 3, 8), (u64::MAX, 0, 1), (0, u64::MAX, 1)] {
        let at = places(&mut guest, from_place, to_place);
        assert_eq!(guest.errno(nr::COPY_FILE_RANGE, [from, at, to, at + 8, count, 0]), libc::EOVERFLOW);
    }
    assert_eq!(guest.errno(nr::COPY_FILE_RANGE, [from, 0, to, 0, 1, 1]), libc::EINVAL);
    assert_eq!(guest.errno(nr::COPY_FILE_RANGE, [from, 0, 1, 0, 1, 0]), libc::EINVAL);
    let place = guest.open("to", libc::O_PATH);
    let directory = guest.open(".", libc::O_RDONLY);
    let (reads, appends) = (guest.open("to", libc::O_RDONLY), guest.open("to", libc::O_RDWR | libc::O_APPEND));
    assert_eq!(guest.errno(nr::COPY_FILE_RANGE, [from, 0, directory, 0, 1, 0]), libc::EISDIR);
    for closed in [place, reads, appends, 99] {
        assert_eq!(guest.errno(nr::COPY_FILE_RANGE, [from, 0, closed, 0, 1, 0]), libc::EBADF);
    }
}

#[test]
fn both_forms_of_a_listing_have_the_same_entries() {
    let mut guest = Guest::with_directory();
    for name in ["a", "file of a name", "seventh"] {
        guest.open(name, NEW);
    }
    let mut listings = Vec::new();
    for (number, has_type_first) in [(nr::GETDENTS64, true), (nr::GETDENTS, false)] {
        let directory = guest.open(".", libc::O_RDONLY | libc::O_DIRECTORY);
        let len = guest.ok(number, [directory, DATA, 2048]) as usize;
        let bytes = guest.bytes::<2048>(DATA)[..len].to_vec();
        let mut entries = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (entry, others) = rest.split_at(usize::from(u16::from_le_bytes([rest[16], rest[17]])));
            let (name, file_type) = if has_type_first { (19, entry[18]) } else { (18, entry[entry.len() - 1]) };
            let name = entry[name..].split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            entries.push((entry[..16].to_vec(), name, file_type));
            rest = others;
        }
        assert_eq!(guest.ok(number, [directory, DATA, 2048]), 0);
        listings.push(entries);
    }
    assert_eq!(listings[0].len(), 5);
    assert_eq!(listings[0], listings[1]);
}
