use ampoule_abi::layout::OutputStream;

use super::*;
use crate::personality::linux::descriptors::OPEN_MAX;
use crate::personality::linux::files::MAX_TRANSFER;

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
    let len = 2 * MAX_TRANSFER;
    let at = guest.ok(nr::MMAP, [0, len, 3, 0x22, u64::MAX, 0]);
    assert_eq!(guest.ok(nr::WRITE, [1, at, len]), MAX_TRANSFER);
    let vectors = guest.put_words(DATA, &[at, MAX_TRANSFER - 1, at, len]);
    assert_eq!(guest.ok(nr::WRITEV, [1, vectors, 2]), MAX_TRANSFER);
}

#[test]
fn input_is_taken_as_it_comes_and_into_several_places() {
    let mut guest = Guest::new();
    guest.printed.input.extend([Taken::Bytes(3), Taken::NotYet, Taken::Bytes(2), Taken::Bytes(0)]);
    let vectors = guest.put_words(DATA + 64, &[DATA, 2, 0, 0, DATA + 2, 8]);
    guest.printed.input.push_front(Taken::Bytes(2));
    assert_eq!(guest.ok(nr::READV, [0, vectors, 3]), 5, "what there is");
    assert_eq!(guest.bytes::<6>(DATA), *b"iiiii\0");
    assert_eq!(guest.ok(nr::READ, [0, DATA, 8]), 2);
    assert_eq!(guest.ok(nr::READ, [0, DATA, 8]), 0, "its end");
    assert_eq!(guest.ok(nr::READ, [0, UNMAPPED, 0]), 0);
}

#[test]
fn the_run_loop_hears_that_input_is_awaited() {
    let mut guest = Guest::new();
    guest.printed.input.extend([Taken::NotYet, Taken::NotYet, Taken::Failed]);
    assert_eq!(guest.call(nr::READ, [0, DATA, 8]), Outcome::AwaitInput);
    guest.ok(nr::FCNTL, [0, linux_raw_sys::general::F_SETFL.into(), linux_raw_sys::general::O_NONBLOCK.into()]);
    assert_eq!(guest.errno(nr::READ, [0, DATA, 8]), libc::EAGAIN);
    assert_eq!(guest.errno(nr::READ, [0, DATA, 8]), libc::EIO);
}

#[test]
fn input_for_a_bad_address_is_not_lost() {
    let mut guest = Guest::new();
    guest.printed.input.extend([Taken::Bytes(4)]);
    for bad in [UNMAPPED, READ_ONLY, u64::MAX] {
        assert_eq!(guest.errno(nr::READ, [0, bad, 4]), libc::EFAULT, "{bad:#x}");
    }
    assert_eq!(guest.ok(nr::READ, [0, DATA, 4]), 4);
}

#[test]
fn the_run_loop_hears_of_the_output_limit() {
    let mut guest = Guest::new();
    guest.printed.full = true;
    assert_eq!(guest.call(nr::WRITE, [1, DATA, 1]), Outcome::OutputLimit);
}

#[test]
fn an_output_that_fails_is_an_error_and_one_that_nobody_reads_a_signal() {
    let mut guest = Guest::new();
    for (kind, errno) in [
        (ErrorKind::StorageFull, libc::ENOSPC),
        (ErrorKind::FileTooLarge, libc::EFBIG),
        (ErrorKind::WouldBlock, libc::EAGAIN),
        (ErrorKind::PermissionDenied, libc::EIO),
    ] {
        guest.printed.broken = Some(kind);
        assert_eq!(guest.errno(nr::WRITE, [1, DATA, 1]), errno, "{kind:?}");
        assert_eq!(guest.ok(nr::WRITE, [1, DATA, 0]), 0);
    }
    guest.printed.broken = Some(ErrorKind::BrokenPipe);
    assert_eq!(guest.call(nr::WRITE, [2, DATA, 1]), Outcome::Abort { signal: libc::SIGPIPE });
    let ignored = guest.put_words(DATA + 1024, &[libc::SIG_IGN as u64, 0, 0, 0]);
    guest.ok(nr::RT_SIGACTION, [libc::SIGPIPE as u64, ignored, 0, 8]);
    assert_eq!(guest.errno(nr::WRITE, [2, DATA, 1]), libc::EPIPE);
    guest.printed.broken = None;
    assert_eq!(guest.ok(nr::WRITE, [2, DATA, 1]), 1, "an output may recover");
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
    assert_eq!(guest.ok(nr::DUP, [1]), 3);
    assert_eq!(guest.ok(nr::CLOSE, [3]), 0);
    assert_eq!(guest.ok(nr::CLOSE, [0]), 0);
    assert_eq!(guest.errno(nr::CLOSE, [0]), libc::EBADF);
    assert_eq!(guest.ok(nr::DUP, [2]), 0);
    guest.put(DATA, b"x");
    assert_eq!(guest.ok(nr::WRITE, [0, DATA, 1]), 1);
    assert_eq!(guest.printed.text(Stream::Stderr), b"x");
    assert_eq!(guest.ok(nr::DUP2, [2, 1]), 1);
    assert_eq!(guest.ok(nr::WRITE, [1, DATA, 1]), 1);
    assert_eq!(guest.printed.text(Stream::Stderr), b"xx");
    assert_eq!(guest.ok(nr::DUP2, [2, 2]), 2);
    assert_eq!(guest.errno(nr::DUP2, [9, 9]), libc::EBADF);
    assert_eq!(guest.errno(nr::DUP2, [2, OPEN_MAX as u64]), libc::EBADF);
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
    assert_eq!(guest.ok(nr::FCNTL, [1, libc::F_DUPFD as u64, 10]), 10);
    assert_eq!(guest.errno(nr::FCNTL, [1, libc::F_DUPFD as u64, OPEN_MAX as u64]), libc::EINVAL);
    assert_eq!(guest.errno(nr::FCNTL, [1, 99]), libc::EINVAL);
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

#[test]
fn the_table_of_descriptors_is_bounded() {
    let mut guest = Guest::new();
    guest.put(DATA, b"/dev/null\0");
    for number in 3..OPEN_MAX as u64 {
        assert_eq!(guest.ok(nr::OPEN, [DATA]), number);
    }
    assert_eq!(guest.errno(nr::OPEN, [DATA]), libc::EMFILE);
    assert_eq!(guest.errno(nr::DUP, [1]), libc::EMFILE);
    assert_eq!(guest.ok(nr::DUP2, [1, 7]), 7);
    assert_eq!(guest.errno(nr::OPEN, [DATA]), libc::EMFILE);
    assert_eq!(guest.ok(nr::CLOSE, [7]), 0);
    assert_eq!(guest.ok(nr::OPEN, [DATA]), 7);
    guest.ok(nr::GETRLIMIT, [u64::from(libc::RLIMIT_NOFILE), DATA]);
    assert_eq!(guest.word(DATA), OPEN_MAX as u64);
}

#[test]
fn duplicated_descriptors_share_what_is_open_and_not_whether_exec_closes_it() {
    let mut guest = Guest::new();
    let (get, set) = (libc::F_GETFL as u64, libc::F_SETFL as u64);
    let copy = guest.ok(nr::FCNTL, [1, libc::F_DUPFD_CLOEXEC as u64, 0]);
    let non_blocking = (libc::O_WRONLY | libc::O_NONBLOCK) as u64;
    assert_eq!(guest.ok(nr::FCNTL, [copy, set, non_blocking | 0o777]), 0);
    assert_eq!(guest.ok(nr::FCNTL, [1, get]), non_blocking);
    assert_eq!(guest.ok(nr::FCNTL, [2, get]), libc::O_WRONLY as u64);
    let off = guest.put_words(DATA, &[0]);
    assert_eq!(guest.ok(nr::IOCTL, [1, libc::FIONBIO, off]), 0);
    assert_eq!(guest.ok(nr::FCNTL, [copy, get]), libc::O_WRONLY as u64);

    let closes = |guest: &mut Guest, number: u64| guest.ok(nr::FCNTL, [number, libc::F_GETFD as u64]);
    assert_eq!((closes(&mut guest, 1), closes(&mut guest, copy)), (0, 1));
    guest.ok(nr::FCNTL, [copy, libc::F_SETFD as u64, 0]);
    guest.ok(nr::IOCTL, [1, libc::FIOCLEX]);
    assert_eq!((closes(&mut guest, 1), closes(&mut guest, copy)), (1, 0));
    assert_eq!(guest.ok(nr::DUP3, [1, 20, libc::O_CLOEXEC as u64]), 20);
    assert_eq!(closes(&mut guest, 20), 1);
}
