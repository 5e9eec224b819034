use std::fs::File;
use std::os::fd::FromRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

#[test]
fn a_file_beyond_the_limit_is_not_begun_and_both_sizes_are_told() {
    let status = in_child(|| {
        set_limit(4096);
        let error = grow(8192, || -> io::Result<()> { panic!("nothing is to be done") }).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        for part in ["8192", "4096", "RLIMIT_FSIZE"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        grow(4096, || file().set_len(4096)).unwrap();
    });
    assert_eq!(status, 0, "wait status");
}

#[test]
fn no_signal_comes_where_the_limit_is_lowered_in_the_meantime() {
    for is_ignored in [false, true] {
        let status = in_child(|| {
            if is_ignored {
                // SAFETY: no handler is installed.
                unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
            }
            let lowered = || {
                set_limit(4096);
                file().set_len(8192)
            };
            let error = grow(8192, lowered).unwrap_err();
            assert!(error.to_string().contains("RLIMIT_FSIZE"), "{error}");
            assert!(!is_pending() && !is_blocked());
        });
        assert_eq!(status, 0, "wait status");
    }
}

#[test]
fn a_signal_that_waits_for_the_application_still_does_afterwards() {
    let status = in_child(|| {
        let signal = only_signal();
        // SAFETY: the set lives during the call; the signal exists.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signal, ptr::null_mut());
            libc::raise(libc::SIGXFSZ);
        }
        let lowered = || {
            set_limit(4096);
            file().set_len(8192)
        };
        grow(8192, lowered).unwrap_err();
        assert!(is_pending() && is_blocked());
    });
    assert_eq!(status, 0, "wait status");
}

fn file() -> File {
    // SAFETY: the name ends with a zero, and the descriptor is new.
    unsafe { File::from_raw_fd(libc::memfd_create(c"test".as_ptr(), 0)) }
}

fn set_limit(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` lives during the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
}

fn is_pending() -> bool {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: the call initializes the set.
    unsafe {
        libc::sigpending(pending.as_mut_ptr());
        libc::sigismember(pending.as_ptr(), libc::SIGXFSZ) == 1
    }
}

fn is_blocked() -> bool {
    let mut blocked = MaybeUninit::uninit();
    // SAFETY: without a new set the call only fills the old one.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), blocked.as_mut_ptr());
        libc::sigismember(blocked.as_ptr(), libc::SIGXFSZ) == 1
    }
}

/// The wait status of a child process that runs `body` and then exits, with status 0 unless that panics. What it changes of the
/// process is its own.
fn in_child(body: impl FnOnce()) -> libc::c_int {
    // SAFETY: the child's only thread runs `body`, which uses nothing that another thread may have locked but for the C
    // library's memory, which can be used in a child, and never returns into the test harness. It ends after a minute at the
    // latest.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::alarm(60);
            let has_failed = catch_unwind(AssertUnwindSafe(body)).is_err();
            libc::_exit(has_failed.into());
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    }
}
