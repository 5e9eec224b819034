use std::time::{Duration, SystemTime};

use ampoule_vmm::Entry;

use super::*;
use crate::fault::{EndlessWait, FaultAccess, FaultTarget};

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

const HANDLER: u64 = 0x40_0000;

/// Linux's `SA_RESTORER`.
const RESTORER: u64 = 0x0400_0000;

#[test]
fn an_abort_ends_the_guest_by_its_signal() {
    let mut guest = Guest::new();
    let me = guest.id();
    let signal = libc::SIGABRT;
    let end = Outcome::Abort { signal };
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

/// Installs a handler, with a restorer.
fn handle(guest: &mut Guest, signal: i32, flags: i32, mask: u64) {
    let flags = u64::from(flags as u32) | RESTORER;
    let action = guest.put_words(DATA + 512, &[HANDLER, flags, HANDLER + 64, mask]);
    guest.ok(nr::RT_SIGACTION, [signal as u64, action, 0, 8]);
}

fn context() -> Context {
    Context::new(Entry { instruction: GuestVirt(0x40_0100), stack_pointer: GuestVirt(STACK_POINTER) })
}

fn register(context: &Context, name: &str) -> u64 {
    context.registers().get(name).unwrap()
}

fn deliver(guest: &mut Guest, context: &mut Context) -> Result<bool, SignalEnd> {
    guest.process.deliver_signals(context, &mut guest.space)
}

/// Returns from the handler in which the code is.
fn leave(guest: &mut Guest, context: &mut Context) -> Result<GuestVirt, SignalEnd> {
    context.set_stack_pointer(GuestVirt(register(context, "rsp") + 8));
    guest.process.return_from_signal(context, &mut guest.space)
}

#[test]
fn a_handler_runs_on_the_stack_and_comes_back() {
    let mut guest = Guest::new();
    let me = guest.id();
    handle(&mut guest, libc::SIGUSR1, libc::SA_SIGINFO, bit(libc::SIGUSR2));
    assert!(!guest.process.has_signal());
    assert_eq!(guest.ok(nr::TGKILL, [me, me, libc::SIGUSR1 as u64]), 0);
    assert!(guest.process.has_signal());
    let mut context = context();
    let before = context.registers();
    assert_eq!(deliver(&mut guest, &mut context), Ok(true));
    assert_eq!([register(&context, "rip"), register(&context, "rdi")], [HANDLER, libc::SIGUSR1 as u64]);
    let info = register(&context, "rsi");
    assert_eq!([guest.half(info), guest.half(info + 8)], [libc::SIGUSR1 as u32, libc::SI_TKILL as u32]);
    assert_eq!([guest.half(info + 16), guest.half(info + 20)], [me as u32, USER_ID]);
    assert_eq!(blocked(&mut guest), bit(libc::SIGUSR1) | bit(libc::SIGUSR2));
    assert!(leave(&mut guest, &mut context).is_ok());
    assert_eq!(context.registers(), before);
    assert_eq!(blocked(&mut guest), 0);
}

fn blocked(guest: &mut Guest) -> u64 {
    guest.ok(nr::RT_SIGPROCMASK, [0, 0, DATA + 600, 8]);
    guest.word(DATA + 600)
}

#[test]
fn flags_of_handlers_are_obeyed() {
    let mut guest = Guest::new();
    let me = guest.id();
    handle(&mut guest, libc::SIGUSR1, libc::SA_NODEFER | libc::SA_RESETHAND | libc::SA_ONSTACK, 0);
    let stack = guest.put_words(DATA, &[DATA + 1024, 0, 3072]);
    guest.ok(nr::SIGALTSTACK, [stack, 0]);
    guest.ok(nr::KILL, [me, libc::SIGUSR1 as u64]);
    let mut context = context();
    assert_eq!(deliver(&mut guest, &mut context), Ok(true));
    let on_stack = DATA + 1024..DATA + 4096;
    assert!(on_stack.contains(&register(&context, "rsp")), "{context:?}");
    assert_eq!(blocked(&mut guest), 0);
    guest.ok(nr::RT_SIGACTION, [libc::SIGUSR1 as u64, 0, DATA + 64, 8]);
    assert_eq!(guest.word(DATA + 64), libc::SIG_DFL as u64);
    assert_eq!(guest.call(nr::KILL, [me, libc::SIGUSR1 as u64]), Outcome::Abort { signal: libc::SIGUSR1 });
}

#[test]
fn a_stack_without_room_ends_the_guest() {
    let mut guest = Guest::new();
    let me = guest.id();
    handle(&mut guest, libc::SIGUSR1, 0, 0);
    guest.ok(nr::KILL, [me, libc::SIGUSR1 as u64]);
    let mut context = Context::new(Entry { instruction: GuestVirt(1), stack_pointer: GuestVirt(0x1000) });
    let end = deliver(&mut guest, &mut context);
    assert!(matches!(end, Err(SignalEnd::NoRoom { signal: libc::SIGUSR1, .. })), "{end:?}");
}

#[test]
fn no_frame_is_no_way_back() {
    let mut guest = Guest::new();
    let mut context = context();
    let before = context.registers();
    context.set_stack_pointer(GuestVirt(UNMAPPED + 64));
    let end = guest.process.return_from_signal(&mut context, &mut guest.space);
    assert_eq!(end, Err(SignalEnd::BadFrame { at: GuestVirt(UNMAPPED + 56) }));
    assert_eq!(register(&context, "rip"), before.instruction_pointer());
}

#[test]
fn a_fault_is_a_signal_for_its_handler() {
    let fault = FaultKind::PageFault { address: 0x1230, access: FaultAccess::Write, target: FaultTarget::Null };
    let mut guest = Guest::new();
    assert!(!guest.process.handles_fault(&fault));
    assert_eq!(guest.process.raise_fault(&fault, &mut context(), &mut guest.space), None);
    handle(&mut guest, libc::SIGSEGV, libc::SA_SIGINFO, 0);
    assert!(guest.process.handles_fault(&fault));
    let mut context = context();
    assert!(guest.process.raise_fault(&fault, &mut context, &mut guest.space).is_some());
    let info = register(&context, "rsi");
    assert_eq!([guest.half(info), guest.half(info + 8)], [libc::SIGSEGV as u32, 1]);
    assert_eq!(guest.word(info + 16), 0x1230);
    assert!(!guest.process.handles_fault(&fault), "it is blocked in its handler");
}

#[test]
fn a_timer_expires_once_until_its_signal_is_taken() {
    let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    let mut guest = Guest::with_clock(Clock::Virtual(day));
    let set = guest.put_words(DATA, &[bit(libc::SIGALRM)]);
    guest.ok(nr::RT_SIGPROCMASK, [libc::SIG_BLOCK as u64, set, 0, 8]);
    let event = guest.put_words(DATA + 16, &[0x1234, libc::SIGALRM as u64, 0]);
    guest.ok(nr::TIMER_CREATE, [libc::CLOCK_MONOTONIC as u64, event, DATA + 64]);
    let timer = u64::from(guest.half(DATA + 64));
    let every_second = guest.put_words(DATA + 96, &[1, 0, 1, 0]);
    guest.ok(nr::TIMER_SETTIME, [timer, 0, every_second, 0]);
    let five_seconds = guest.put_words(DATA + 128, &[5, 500_000_000]);
    assert_eq!(guest.ok(nr::NANOSLEEP, [five_seconds, 0]), 0, "what is blocked interrupts nothing");
    assert_eq!(guest.ok(nr::RT_SIGTIMEDWAIT, [set, DATA + 256, 0, 8]), libc::SIGALRM as u64);
    assert_eq!([guest.half(DATA + 256 + 16), guest.half(DATA + 256 + 20)], [timer as u32, 4]);
    assert_eq!(guest.word(DATA + 256 + 24), 0x1234);
    assert_eq!(guest.ok(nr::TIMER_GETOVERRUN, [timer]), 4);
    guest.ok(nr::TIMER_GETTIME, [timer, DATA + 160]);
    assert_eq!([guest.word(DATA + 176), guest.word(DATA + 184)], [0, 500_000_000]);
    assert_eq!(guest.ok(nr::RT_SIGTIMEDWAIT, [set, 0, 0, 8]), libc::SIGALRM as u64);
    assert_eq!(guest.ok(nr::TIMER_GETOVERRUN, [timer]), 0);
    guest.ok(nr::TIMER_DELETE, [timer]);
    assert_eq!(guest.call(nr::RT_SIGTIMEDWAIT, [set, 0, 0, 8]), Outcome::Deadlock(EndlessWait::Signal));
    assert_eq!(guest.errno(nr::TIMER_DELETE, [timer]), libc::EINVAL);
}

#[test]
fn a_timer_that_begins_in_the_past_has_missed_what_has_been_since() {
    let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    let mut guest = Guest::with_clock(Clock::Virtual(day));
    let hourly_since_one = guest.put_words(DATA, &[3600, 0, 1, 0]);
    let absolute = libc::TIMER_ABSTIME as u64;
    let file = guest.ok(nr::TIMERFD_CREATE, [libc::CLOCK_REALTIME as u64, 0]);
    guest.ok(nr::TIMERFD_SETTIME, [file, absolute, hourly_since_one, 0]);
    guest.ok(nr::READ, [file, DATA + 64, 8]);
    assert_eq!(guest.word(DATA + 64), 24);
    guest.ok(nr::TIMERFD_GETTIME, [file, DATA + 64]);
    assert_eq!([guest.word(DATA + 80), guest.word(DATA + 88)], [1, 0], "until the next one");

    let set = guest.put_words(DATA + 32, &[bit(libc::SIGALRM)]);
    guest.ok(nr::RT_SIGPROCMASK, [libc::SIG_BLOCK as u64, set, 0, 8]);
    guest.ok(nr::TIMER_CREATE, [libc::CLOCK_REALTIME as u64, 0, DATA + 64]);
    let timer = u64::from(guest.half(DATA + 64));
    guest.ok(nr::TIMER_SETTIME, [timer, absolute, hourly_since_one, 0]);
    assert_eq!(guest.ok(nr::RT_SIGTIMEDWAIT, [set, 0, 0, 8]), libc::SIGALRM as u64);
    assert_eq!(guest.ok(nr::TIMER_GETOVERRUN, [timer]), 23);
}

#[test]
fn a_timer_at_either_end_of_all_times_can_be_asked_for() {
    let mut guest = Guest::with_clock(Clock::Virtual(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33)));
    let file = guest.ok(nr::TIMERFD_CREATE, [libc::CLOCK_REALTIME as u64, 0]);
    let (latest, longest) = ([i64::MAX as u64, 999_999_999], i64::MAX as u64);
    for flags in [0, libc::TIMER_ABSTIME as u64] {
        let last = guest.put_words(DATA, &[latest, latest].concat());
        guest.ok(nr::TIMERFD_SETTIME, [file, flags, last, 0]);
        guest.ok(nr::TIMERFD_GETTIME, [file, DATA + 64]);
        assert!(guest.word(DATA + 80) >= longest - (1 << 34));
    }
    let first = guest.put_words(DATA, &[0, 1, 0, 1]);
    guest.ok(nr::TIMERFD_SETTIME, [file, libc::TIMER_ABSTIME as u64, first, 0]);
    guest.ok(nr::READ, [file, DATA + 64, 8]);
    assert_eq!(guest.word(DATA + 64), (1 << 33) * 1_000_000_000);
}

#[test]
fn an_alarm_interrupts_what_waits() {
    for clock in [Clock::Virtual(SystemTime::UNIX_EPOCH), Clock::Frozen(SystemTime::UNIX_EPOCH)] {
        let mut guest = Guest::with_clock(clock);
        handle(&mut guest, libc::SIGALRM, 0, 0);
        guest.ok(nr::ALARM, [2]);
        let request = guest.put_words(DATA, &[5, 0, 0, 0]);
        assert_eq!(guest.errno(nr::NANOSLEEP, [request, DATA + 16]), libc::EINTR);
        assert_eq!([guest.word(DATA + 16), guest.word(DATA + 24)], [3, 0]);
        assert_eq!(deliver(&mut guest, &mut context()), Ok(true));
    }
    let mut guest = Guest::with_clock(Clock::Virtual(SystemTime::UNIX_EPOCH));
    guest.ok(nr::ALARM, [2]);
    assert_eq!(guest.call(nr::PAUSE, []), Outcome::Abort { signal: libc::SIGALRM });
}

#[test]
fn a_mask_for_a_wait_holds_as_long_as_that() {
    let mut guest = Guest::new();
    let me = guest.id();
    handle(&mut guest, libc::SIGUSR1, 0, 0);
    let all = guest.put_words(DATA, &[bit(libc::SIGUSR1)]);
    guest.ok(nr::RT_SIGPROCMASK, [libc::SIG_SETMASK as u64, all, 0, 8]);
    guest.ok(nr::KILL, [me, libc::SIGUSR1 as u64]);
    let none = guest.put_words(DATA + 8, &[0]);
    let at_once = guest.put_words(DATA + 16, &[0, 0]);
    assert_eq!(guest.ok(nr::PPOLL, [0, 0, at_once, none, 8]), 0, "it does not wait");
    assert_eq!(blocked(&mut guest), bit(libc::SIGUSR1));
    let second = guest.put_words(DATA + 16, &[1, 0]);
    assert_eq!(guest.errno(nr::PPOLL, [0, 0, second, none, 8]), libc::EINTR);
    let mut context = context();
    assert_eq!(deliver(&mut guest, &mut context), Ok(true));
    assert!(leave(&mut guest, &mut context).is_ok());
    assert_eq!(blocked(&mut guest), bit(libc::SIGUSR1));
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

    let end = Outcome::Abort { signal: two };
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
    let kill = Outcome::Abort { signal: libc::SIGKILL };
    assert_eq!(guest.call(nr::KILL, [me, libc::SIGKILL as u64]), kill);
}

#[test]
fn waiting_for_a_signal_is_waiting_forever() {
    let mut guest = Guest::new();
    let forever = Outcome::Deadlock(EndlessWait::Signal);
    let set = guest.put_words(DATA + 64, &[u64::MAX]);
    assert_eq!(guest.call(nr::PAUSE, []), forever);
    guest.ok(nr::ALARM, [1]);
    assert!(matches!(guest.call(nr::PAUSE, []), Outcome::Pause { duration } if duration.as_secs() <= 1));
    assert_eq!(guest.ok(nr::ALARM, [0]), 1);
    assert_eq!(guest.call(nr::RT_SIGSUSPEND, [set, 8]), forever);
    assert_eq!(guest.call(nr::RT_SIGTIMEDWAIT, [set, 0, 0, 8]), forever);
    let timeout = guest.put_words(DATA, &[1, 0]);
    let outcome = guest.call(nr::RT_SIGTIMEDWAIT, [set, 0, timeout, 8]);
    let result = -i64::from(libc::EAGAIN) as u64;
    assert_eq!(outcome, Outcome::Sleep { duration: std::time::Duration::from_secs(1), result });
    assert_eq!(guest.errno(nr::RT_SIGTIMEDWAIT, [UNMAPPED, 0, 0, 8]), libc::EFAULT);
    assert_eq!(guest.errno(nr::RT_SIGSUSPEND, [set, 4]), libc::EINVAL);
}
