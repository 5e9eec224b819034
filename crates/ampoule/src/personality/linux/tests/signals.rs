use super::*;
use crate::fault::EndlessWait;

#[test]
fn an_abort_ends_the_guest_by_its_signal() {
    let mut guest = Guest::new();
    let me = guest.id();
    let signal = libc::SIGABRT;
    let end = Outcome::Abort { signal, handled: false };
    assert_eq!(guest.call(nr::TGKILL, [me, me, signal as u64]), end);
    assert_eq!(guest.call(nr::TKILL, [me, signal as u64]), end);
    for process in [me, 0, (me as i64).wrapping_neg() as u64] {
        assert_eq!(guest.call(nr::KILL, [process, signal as u64]), end);
    }
}

#[test]
fn other_processes_are_not_there() {
    let mut guest = Guest::new();
    let me = guest.id();
    for process in [1, me + 1, -1_i64 as u64] {
        assert_eq!(guest.errno(nr::KILL, [process, libc::SIGKILL as u64]), libc::ESRCH);
    }
    assert_eq!(guest.errno(nr::TGKILL, [me, me + 1, 9]), libc::ESRCH);
    assert_eq!(guest.errno(nr::TGKILL, [me, 0, 9]), libc::EINVAL);
    assert_eq!(guest.errno(nr::KILL, [me, 65]), libc::EINVAL);
    assert_eq!(guest.errno(nr::WAIT4, [u64::MAX]), libc::ECHILD);
}

#[test]
fn signals_that_do_nothing_do_nothing() {
    let mut guest = Guest::new();
    let me = guest.id();
    assert_eq!(guest.ok(nr::KILL, [me, 0]), 0);
    assert_eq!(guest.ok(nr::KILL, [me, libc::SIGCHLD as u64]), 0);
    let ignore = guest.put_words(DATA, &[libc::SIG_IGN as u64, 0, 0, 0]);
    assert_eq!(guest.ok(nr::RT_SIGACTION, [libc::SIGTERM as u64, ignore, 0, 8]), 0);
    assert_eq!(guest.ok(nr::KILL, [me, libc::SIGTERM as u64]), 0);
    assert_eq!(guest.call(nr::KILL, [me, libc::SIGSTOP as u64]), Outcome::Deadlock(EndlessWait::Stopped));
}

#[test]
fn a_signal_with_a_handler_ends_the_guest_too() {
    let mut guest = Guest::new();
    let me = guest.id();
    let handler = guest.put_words(DATA, &[0x40_0000, 0, 0, 0]);
    guest.ok(nr::RT_SIGACTION, [libc::SIGUSR1 as u64, handler, 0, 8]);
    assert_eq!(
        guest.call(nr::KILL, [me, libc::SIGUSR1 as u64]),
        Outcome::Abort { signal: libc::SIGUSR1, handled: true }
    );
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
fn a_blocked_signal_waits() {
    let mut guest = Guest::new();
    let me = guest.id();
    let (one, two) = (libc::SIGUSR1, libc::SIGUSR2);
    let bit = |signal: i32| 1_u64 << (signal - 1);
    let set = guest.put_words(DATA, &[bit(one) | bit(two)]);
    guest.ok(nr::RT_SIGPROCMASK, [libc::SIG_BLOCK as u64, set, 0, 8]);
    for signal in [two, one] {
        assert_eq!(guest.ok(nr::TGKILL, [me, me, signal as u64]), 0);
    }
    guest.ok(nr::RT_SIGPENDING, [DATA + 8, 8]);
    assert_eq!(guest.word(DATA + 8), bit(one) | bit(two));

    assert_eq!(guest.ok(nr::RT_SIGTIMEDWAIT, [set, DATA + 64, 0, 8]), one as u64);
    assert_eq!((guest.half(DATA + 64), u64::from(guest.half(DATA + 80))), (one as u32, me));
    guest.ok(nr::RT_SIGPENDING, [DATA + 8, 8]);
    assert_eq!(guest.word(DATA + 8), bit(two));

    let end = Outcome::Abort { signal: two, handled: false };
    let nothing = guest.put_words(DATA + 16, &[0]);
    let before = guest.process.clone();
    assert_eq!(guest.call(nr::RT_SIGSUSPEND, [nothing, 8]), end);
    guest.process = before;
    assert_eq!(guest.call(nr::RT_SIGPROCMASK, [libc::SIG_SETMASK as u64, nothing, 0, 8]), end);
}

#[test]
fn a_signal_that_waits_is_forgotten_when_it_is_ignored() {
    let mut guest = Guest::new();
    let me = guest.id();
    let set = guest.put_words(DATA, &[u64::MAX]);
    guest.ok(nr::RT_SIGPROCMASK, [libc::SIG_BLOCK as u64, set, 0, 8]);
    guest.ok(nr::KILL, [me, libc::SIGTERM as u64]);
    let ignore = guest.put_words(DATA + 64, &[libc::SIG_IGN as u64, 0, 0, 0]);
    guest.ok(nr::RT_SIGACTION, [libc::SIGTERM as u64, ignore, 0, 8]);
    guest.ok(nr::RT_SIGPENDING, [DATA, 8]);
    assert_eq!(guest.word(DATA), 0);
    let kill = Outcome::Abort { signal: libc::SIGKILL, handled: false };
    assert_eq!(guest.call(nr::KILL, [me, libc::SIGKILL as u64]), kill);
}

#[test]
fn waiting_for_a_signal_is_waiting_forever() {
    let mut guest = Guest::new();
    let forever = Outcome::Deadlock(EndlessWait::Signal);
    let set = guest.put_words(DATA + 64, &[u64::MAX]);
    assert_eq!(guest.ok(nr::ALARM, [1]), 0);
    assert_eq!(guest.call(nr::PAUSE, []), forever);
    assert_eq!(guest.call(nr::RT_SIGSUSPEND, [set, 8]), forever);
    assert_eq!(guest.call(nr::RT_SIGTIMEDWAIT, [set, 0, 0, 8]), forever);
    let timeout = guest.put_words(DATA, &[1, 0]);
    let outcome = guest.call(nr::RT_SIGTIMEDWAIT, [set, 0, timeout, 8]);
    let result = -i64::from(libc::EAGAIN) as u64;
    assert_eq!(outcome, Outcome::Sleep { duration: std::time::Duration::from_secs(1), result });
    assert_eq!(guest.errno(nr::RT_SIGTIMEDWAIT, [UNMAPPED, 0, 0, 8]), libc::EFAULT);
    assert_eq!(guest.errno(nr::RT_SIGSUSPEND, [set, 4]), libc::EINVAL);
}
