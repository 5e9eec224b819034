use ampoule_abi::layout::OutputStream;

use super::*;
use crate::personality::linux::files::MAX_WRITE;

#[test]
fn output_goes_to_the_stream_of_its_descriptor() {
    let mut guest = Guest::new();
    guest.put(DATA, b"out err");
    assert_eq!(guest.ok(nr::WRITE, [1, DATA, 3]), 3);
    assert_eq!(guest.ok(nr::WRITE, [2, DATA + 4, 3]), 3);
    assert_eq!(guest.ok(nr::WRITE, [1, 0, 0]), 0);
    assert_eq!(guest.printed.text(Stream::Stdout), b"out");
    assert_eq!(guest.printed.text(Stream::Stderr), b"err");
}

#[test]
fn output_is_gathered_from_several_places() {
    let mut guest = Guest::new();
    guest.put(DATA, b"one two");
    let vectors = guest.put_words(DATA + 64, &[DATA, 3, 0, 0, DATA + 3, 4]);
    assert_eq!(guest.ok(nr::WRITEV, [1, vectors, 3]), 7);
    assert_eq!(guest.printed.text(Stream::Stdout), b"one two");
    let vectors = guest.put_words(DATA + 64, &[DATA, 3, UNMAPPED, 4]);
    assert_eq!(guest.ok(nr::WRITEV, [1, vectors, 2]), 3);
    assert_eq!(guest.errno(nr::WRITEV, [1, UNMAPPED, 1]), libc::EFAULT);
    assert_eq!(guest.errno(nr::WRITEV, [1, vectors, 1025]), libc::EINVAL);
    assert_eq!(guest.ok(nr::WRITEV, [1, 0, 0]), 0);
}

#[test]
fn what_can_be_read_before_a_bad_address_is_printed() {
    let mut guest = Guest::new();
    let at = guest.ok(nr::MMAP, [0, 2 * PAGE, 3, 0x22, u64::MAX, 0]);
    guest.ok(nr::MUNMAP, [at + PAGE, PAGE]);
    assert_eq!(guest.ok(nr::WRITE, [1, at, 2 * PAGE]), PAGE);
    assert_eq!(guest.errno(nr::WRITE, [1, at + PAGE, 1]), libc::EFAULT);
    assert_eq!(guest.errno(nr::WRITE, [1, u64::MAX, 1]), libc::EFAULT);
    assert_eq!(guest.errno(nr::WRITE, [1, UNMAPPED, u64::MAX]), libc::EFAULT);
}

#[test]
fn one_call_prints_a_bounded_amount() {
    let mut guest = Guest::new();
    let len = 2 * MAX_WRITE;
    let at = guest.ok(nr::MMAP, [0, len, 3, 0x22, u64::MAX, 0]);
    assert_eq!(guest.ok(nr::WRITE, [1, at, len]), MAX_WRITE);
    let vectors = guest.put_words(DATA, &[at, MAX_WRITE - 1, at, len]);
    assert_eq!(guest.ok(nr::WRITEV, [1, vectors, 2]), MAX_WRITE);
}

#[test]
fn the_run_loop_hears_of_the_output_limit() {
    let mut guest = Guest::new();
    guest.printed.full = true;
    assert_eq!(guest.call(nr::WRITE, [1, DATA, 1]), Outcome::OutputLimit);
}

#[test]
fn input_is_at_its_end() {
    let mut guest = Guest::new();
    assert_eq!(guest.ok(nr::READ, [0, DATA, 10]), 0);
    for (number, descriptor) in [(nr::READ, 1), (nr::READ, 3), (nr::WRITE, 0), (nr::WRITE, 3), (nr::WRITE, u64::MAX)] {
        assert_eq!(guest.errno(number, [descriptor, DATA, 1]), libc::EBADF);
    }
    assert_eq!(guest.errno(nr::PREAD64, [0, DATA, 1, 0]), libc::ESPIPE);
    assert_eq!(guest.errno(nr::LSEEK, [1, 0, 0]), libc::ESPIPE);
    assert_eq!(guest.errno(nr::LSEEK, [9, 0, 0]), libc::EBADF);
    assert_eq!(guest.errno(nr::IOCTL, [1, libc::TCGETS, DATA]), libc::ENOTTY);
}

#[test]
fn closed_descriptors_are_gone_and_their_numbers_free() {
    let mut guest = Guest::new();
    assert_eq!(guest.errno(nr::DUP, [1]), libc::EMFILE);
    assert_eq!(guest.ok(nr::CLOSE, [0]), 0);
    assert_eq!(guest.errno(nr::CLOSE, [0]), libc::EBADF);
    assert_eq!(guest.ok(nr::DUP, [2]), 0);
    guest.put(DATA, b"x");
    assert_eq!(guest.ok(nr::WRITE, [0, DATA, 1]), 1);
    assert_eq!(guest.printed.text(Stream::Stderr), b"x");
    assert_eq!(guest.ok(nr::DUP2, [2, 1]), 1);
    assert_eq!(guest.ok(nr::WRITE, [1, DATA, 1]), 1);
    assert_eq!(guest.printed.text(Stream::Stderr), b"xx");
    assert_eq!(guest.errno(nr::DUP2, [2, 3]), libc::EBADF);
    assert_eq!(guest.errno(nr::DUP3, [2, 2, 0]), libc::EINVAL);
}

#[test]
fn the_standard_streams_are_what_their_descriptors_are() {
    let mut guest = Guest::new();
    let streams =
        |guest: &Guest| [OutputStream::Stdout, OutputStream::Stderr].map(|of| guest.process.standard_stream(of));
    assert_eq!(streams(&guest), [Some(Stream::Stdout), Some(Stream::Stderr)]);
    guest.ok(nr::DUP2, [2, 1]);
    assert_eq!(streams(&guest), [Some(Stream::Stderr), Some(Stream::Stderr)]);
    guest.ok(nr::CLOSE, [2]);
    assert_eq!(streams(&guest), [Some(Stream::Stderr), None]);
    guest.ok(nr::DUP2, [0, 1]);
    assert_eq!(streams(&guest), [None, None]);
}

#[test]
fn fcntl_knows_how_the_streams_are_open() {
    let mut guest = Guest::new();
    assert_eq!(guest.ok(nr::FCNTL, [0, libc::F_GETFL as u64]), libc::O_RDONLY as u64);
    assert_eq!(guest.ok(nr::FCNTL, [1, libc::F_GETFL as u64]), libc::O_WRONLY as u64);
    assert_eq!(guest.ok(nr::FCNTL, [2, libc::F_GETFD as u64]), 0);
    assert_eq!(guest.errno(nr::FCNTL, [3, libc::F_GETFD as u64]), libc::EBADF);
    assert_eq!(guest.errno(nr::FCNTL, [1, libc::F_DUPFD as u64, 0]), libc::EMFILE);
    assert_eq!(guest.errno(nr::FCNTL, [1, libc::F_DUPFD as u64, 3]), libc::EINVAL);
    assert_eq!(guest.errno(nr::FCNTL, [1, 99]), libc::EINVAL);
}

#[test]
fn no_path_leads_anywhere() {
    let mut guest = Guest::new();
    guest.put(DATA, b"/etc/passwd\0");
    let here = libc::AT_FDCWD as u64;
    for number in [nr::OPEN, nr::STAT, nr::LSTAT, nr::ACCESS, nr::READLINK, nr::UNLINK, nr::EXECVE, nr::CHDIR] {
        assert_eq!(guest.errno(number, [DATA]), libc::ENOENT);
        assert_eq!(guest.errno(number, [UNMAPPED]), libc::EFAULT);
    }
    for number in [nr::OPENAT, nr::NEWFSTATAT, nr::STATX, nr::FACCESSAT, nr::READLINKAT, nr::UNLINKAT] {
        assert_eq!(guest.errno(number, [here, DATA]), libc::ENOENT);
        assert_eq!(guest.errno(number, [here, u64::MAX]), libc::EFAULT);
    }
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

#[test]
fn the_streams_are_pipes_to_every_kind_of_stat() {
    let mut guest = Guest::new();
    assert_eq!(guest.ok(nr::FSTAT, [1, DATA]), 0);
    assert_eq!(guest.half(DATA + std::mem::offset_of!(libc::stat, st_mode) as u64) & libc::S_IFMT, libc::S_IFIFO);
    assert_eq!(guest.errno(nr::FSTAT, [3, DATA]), libc::EBADF);
    assert_eq!(guest.errno(nr::FSTAT, [1, READ_ONLY]), libc::EFAULT);

    let empty = guest.put(DATA + 1024, b"\0");
    let by_descriptor = libc::AT_EMPTY_PATH as u64;
    assert_eq!(guest.ok(nr::NEWFSTATAT, [2, empty, DATA, by_descriptor]), 0);
    assert_eq!(guest.errno(nr::NEWFSTATAT, [2, empty, DATA, 0]), libc::ENOENT);
    assert_eq!(guest.errno(nr::NEWFSTATAT, [5, empty, DATA, by_descriptor]), libc::EBADF);
    assert_eq!(guest.ok(nr::STATX, [0, empty, by_descriptor, 0x7ff, DATA]), 0);
    let mode = guest.bytes::<2>(DATA + std::mem::offset_of!(libc::statx, stx_mode) as u64);
    assert_eq!(u32::from(u16::from_le_bytes(mode)) & libc::S_IFMT, libc::S_IFIFO);
}

/// Rust's standard library polls the three streams before `main`.
#[test]
fn poll_finds_the_streams_ready() {
    let mut guest = Guest::new();
    let entry = |number: i32, events: i16| (number as u32 as u64) | (events as u64) << 32;
    let entries = guest.put_words(DATA, &[entry(0, libc::POLLIN), entry(1, libc::POLLOUT), entry(2, 0)]);
    assert_eq!(guest.ok(nr::POLL, [entries, 3, 0]), 2);
    let found = |guest: &Guest, index: u64| i16::from_le_bytes(guest.bytes(DATA + 8 * index + 6));
    assert_eq!(found(&guest, 0), libc::POLLIN | libc::POLLHUP);
    assert_eq!(found(&guest, 1), libc::POLLOUT);
    assert_eq!(found(&guest, 2), 0);
    guest.ok(nr::CLOSE, [2]);
    assert_eq!(guest.ok(nr::POLL, [DATA + 16, 1, u64::MAX]), 1);
    assert_eq!(found(&guest, 2), libc::POLLNVAL);
    assert_eq!(guest.errno(nr::POLL, [entries, 4, 0]), libc::EINVAL);
    assert_eq!(guest.errno(nr::POLL, [UNMAPPED, 1, 0]), libc::EFAULT);
}

#[test]
fn polling_for_nothing_is_sleeping() {
    let mut guest = Guest::new();
    let duration = std::time::Duration::from_millis(20);
    assert_eq!(guest.call(nr::POLL, [0, 0, 20]), Outcome::Sleep { duration, result: 0 });
    assert_eq!(guest.call(nr::POLL, [0, 0, 0]), Outcome::Return(0));
    assert_eq!(guest.call(nr::POLL, [0, 0, -1_i64 as u64]), Outcome::Deadlock);
    let timeout = guest.put_words(DATA, &[0, 20_000_000]);
    assert_eq!(guest.call(nr::PPOLL, [0, 0, timeout]), Outcome::Sleep { duration, result: 0 });
    assert_eq!(guest.call(nr::PPOLL, [0, 0, 0]), Outcome::Deadlock);
}

#[test]
fn the_log_has_the_beginning_of_a_path() {
    let mut guest = Guest::new();
    guest.put(DATA, b"/etc/\x1b[2Jhosts\0");
    guest.put(DATA + 100, &[&[b'x'; 2000][..], b"\0"].concat());
    let events = events_of(|| {
        assert_eq!(guest.errno(nr::OPEN, [DATA]), libc::ENOENT);
        assert_eq!(guest.errno(nr::OPENAT, [0, DATA + 100]), libc::ENOENT);
    });
    let said = "a guest asks for a path; guests have no files";
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
        guest.process.resume();
    }
}
