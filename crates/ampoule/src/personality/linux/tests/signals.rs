use super::*;

const ME: u64 = 1000;

#[test]
fn an_abort_ends_the_guest_by_its_signal() {
    let mut guest = Guest::new();
    let signal = libc::SIGABRT;
    assert_eq!(guest.call(nr::TGKILL, [ME, ME, signal as u64]), Outcome::Abort { signal });
    assert_eq!(guest.call(nr::TKILL, [ME, signal as u64]), Outcome::Abort { signal });
    for process in [ME, 0, (ME as i64).wrapping_neg() as u64] {
        assert_eq!(guest.call(nr::KILL, [process, signal as u64]), Outcome::Abort { signal });
    }
}

#[test]
fn other_processes_are_not_there() {
    let mut guest = Guest::new();
    for process in [1, ME + 1, -1_i64 as u64] {
        assert_eq!(guest.errno(nr::KILL, [process, libc::SIGKILL as u64]), libc::ESRCH);
    }
    assert_eq!(guest.errno(nr::TGKILL, [ME, ME + 1, 9]), libc::ESRCH);
    assert_eq!(guest.errno(nr::TGKILL, [ME, 0, 9]), libc::EINVAL);
    assert_eq!(guest.errno(nr::KILL, [ME, 65]), libc::EINVAL);
    assert_eq!(guest.errno(nr::WAIT4, [u64::MAX]), libc::ECHILD);
}

#[test]
fn signals_that_do_nothing_do_nothing() {
    let mut guest = Guest::new();
    assert_eq!(guest.ok(nr::KILL, [ME, 0]), 0);
    assert_eq!(guest.ok(nr::KILL, [ME, libc::SIGCHLD as u64]), 0);
    let ignore = guest.put_words(DATA, &[libc::SIG_IGN as u64, 0, 0, 0]);
    assert_eq!(guest.ok(nr::RT_SIGACTION, [libc::SIGTERM as u64, ignore, 0, 8]), 0);
    assert_eq!(guest.ok(nr::KILL, [ME, libc::SIGTERM as u64]), 0);
    assert_eq!(guest.call(nr::KILL, [ME, libc::SIGSTOP as u64]), Outcome::Deadlock);
}

#[test]
fn a_signal_with_a_handler_ends_the_guest_too() {
    let mut guest = Guest::new();
    let handler = guest.put_words(DATA, &[0x40_0000, 0, 0, 0]);
    guest.ok(nr::RT_SIGACTION, [libc::SIGUSR1 as u64, handler, 0, 8]);
    assert_eq!(guest.call(nr::KILL, [ME, libc::SIGUSR1 as u64]), Outcome::Abort { signal: libc::SIGUSR1 });
}

#[test]
fn actions_are_remembered() {
    let mut guest = Guest::new();
    let action = guest.put_words(DATA, &[0x40_0000, 0x0400_0000, 0x40_1000, u64::MAX]);
    assert_eq!(guest.ok(nr::RT_SIGACTION, [libc::SIGSEGV as u64, action, DATA + 64, 8]), 0);
    assert_eq!(guest.word(DATA + 64), 0);
    assert_eq!(guest.ok(nr::RT_SIGACTION, [libc::SIGSEGV as u64, 0, DATA + 64, 8]), 0);
    assert_eq!((guest.word(DATA + 64), guest.word(DATA + 80)), (0x40_0000, 0x40_1000));
    for signal in [0, 65, libc::SIGKILL as u64, libc::SIGSTOP as u64, u64::MAX] {
        assert_eq!(guest.errno(nr::RT_SIGACTION, [signal, action, 0, 8]), libc::EINVAL);
    }
    assert_eq!(guest.errno(nr::RT_SIGACTION, [1, action, 0, 16]), libc::EINVAL);
    assert_eq!(guest.errno(nr::RT_SIGACTION, [1, UNMAPPED, 0, 8]), libc::EFAULT);
    assert_eq!(guest.errno(nr::RT_SIGACTION, [1, 0, READ_ONLY, 8]), libc::EFAULT);
}

#[test]
fn the_mask_is_remembered_without_what_cannot_be_blocked() {
    let mut guest = Guest::new();
    let all = guest.put_words(DATA, &[u64::MAX]);
    guest.ok(nr::RT_SIGPROCMASK, [libc::SIG_SETMASK as u64, all, 0, 8]);
    let some = guest.put_words(DATA, &[0b11]);
    guest.ok(nr::RT_SIGPROCMASK, [libc::SIG_UNBLOCK as u64, some, DATA + 8, 8]);
    let kill_and_stop = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
    assert_eq!(guest.word(DATA + 8), !kill_and_stop);
    guest.ok(nr::RT_SIGPROCMASK, [0, 0, DATA + 8, 8]);
    assert_eq!(guest.word(DATA + 8), !kill_and_stop & !0b11);
    assert_eq!(guest.errno(nr::RT_SIGPROCMASK, [9, all, 0, 8]), libc::EINVAL);
    assert_eq!(guest.errno(nr::RT_SIGPROCMASK, [0, all, 0, 4]), libc::EINVAL);
}

#[test]
fn the_alternate_stack_is_remembered() {
    let mut guest = Guest::new();
    guest.ok(nr::SIGALTSTACK, [0, DATA]);
    assert_eq!(guest.half(DATA + 8), libc::SS_DISABLE as u32);
    let stack = guest.put_words(DATA, &[0x1234_0000, 0, 8192]);
    guest.ok(nr::SIGALTSTACK, [stack, 0]);
    guest.ok(nr::SIGALTSTACK, [0, DATA + 64]);
    assert_eq!((guest.word(DATA + 64), guest.word(DATA + 72), guest.word(DATA + 80)), (0x1234_0000, 0, 8192));
    let small = guest.put_words(DATA, &[0x1234_0000, 0, 100]);
    assert_eq!(guest.errno(nr::SIGALTSTACK, [small, 0]), libc::ENOMEM);
    let wild = guest.put_words(DATA, &[0x1234_0000, 0x55, 8192]);
    assert_eq!(guest.errno(nr::SIGALTSTACK, [wild, 0]), libc::EINVAL);
}

#[test]
fn waiting_for_a_signal_is_waiting_forever() {
    let mut guest = Guest::new();
    assert_eq!(guest.call(nr::PAUSE, []), Outcome::Deadlock);
    assert_eq!(guest.call(nr::RT_SIGTIMEDWAIT, [DATA, 0, 0, 8]), Outcome::Deadlock);
    let timeout = guest.put_words(DATA, &[1, 0]);
    let outcome = guest.call(nr::RT_SIGTIMEDWAIT, [DATA, 0, timeout, 8]);
    let result = -i64::from(libc::EAGAIN) as u64;
    assert_eq!(outcome, Outcome::Sleep { duration: std::time::Duration::from_secs(1), result });
}
