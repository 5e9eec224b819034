//! Signals: what a process has set up for them, and those that it is sent, by itself, by its timers, and by its faults.
//!
//! A signal waits until it is not blocked, and is delivered before the process goes on: behind its next system call, or where
//! it was interrupted. It ends the process, has no effect, or lets the process continue in a handler.

mod delivery;
mod info;
mod pending;
mod stored;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    MINSIGSTKSZ, SI_TKILL, SI_USER, SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGILL,
    SIGKILL, SIGPIPE, SIGSEGV, SIGSTOP, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH, SS_AUTODISARM,
    SS_DISABLE, SS_ONSTACK, kernel_sigaction, stack_t,
};

use crate::address_space::AddressSpace;
use crate::fault::EndlessWait;
use crate::personality::Outcome;

use super::clocks::Clocks;
use super::errno::Errno;
use super::process::ProcessId;
use super::structure::{read_fields, to_bytes};
use super::timers::{Now, TimerId, Timers};
use super::{int, time, uint};

pub(super) use self::info::Info;
pub(super) use self::pending::Target;
use self::pending::{Pending, Queued};
pub(super) use self::stored::SignalsRecord;

/// What the process has set up for signals, and those that wait.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    own: ProcessId,
    /// By signal number minus one.
    actions: [Action; SIGNALS],
    blocked: u64,
    /// What was blocked before a call that waits with other signals blocked, until that is over.
    saved_mask: Option<u64>,
    pending: Pending,
    alternate_stack: AlternateStack,
    /// Whether the system call that a signal has interrupted is one that handlers can have made again.
    may_repeat: bool,
}

/// `struct sigaction` as the kernel has it.
#[derive(Clone, Copy, Debug, Default)]
struct Action {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

#[derive(Clone, Copy, Debug)]
struct AlternateStack {
    start: u64,
    flags: u32,
    size: u64,
}

impl Signals {
    /// Those of a process with this number.
    pub(super) fn new(own: ProcessId) -> Self {
        Self {
            own,
            actions: [Action::default(); SIGNALS],
            blocked: 0,
            saved_mask: None,
            pending: Pending::default(),
            alternate_stack: AlternateStack::none(),
            may_repeat: false,
        }
    }

    pub(super) fn action(
        &mut self,
        space: &mut AddressSpace,
        [signal, new, old, set_size]: [u64; 4],
    ) -> Result<u64, Errno> {
        let signal = int(signal);
        let index = index(signal).filter(|_| set_size == SET_SIZE).ok_or(Errno::EINVAL)?;
        let before = self.actions[index];
        if new != 0 {
            let (handler, flags, restorer, mask) =
                read_fields!(space, new, kernel_sigaction { sa_handler_kernel, sa_flags, sa_restorer, sa_mask })?;
            if matches!(signal as u32, SIGKILL | SIGSTOP) {
                return Err(Errno::EINVAL);
            }
            self.actions[index] = Action { handler, flags, restorer, mask: mask & !UNBLOCKABLE };
            if self.meaning(signal) == Meaning::Nothing {
                self.pending.forget(bit(signal));
            }
        }
        if old != 0 {
            let Action { handler, flags, restorer, mask } = before;
            let action = to_bytes!(kernel_sigaction {
                sa_handler_kernel: handler,
                sa_flags: flags,
                sa_restorer: restorer,
                sa_mask: mask,
            });
            space.write(GuestVirt(old), &action)?;
        }
        Ok(0)
    }

    /// `rt_sigprocmask`.
    pub(super) fn mask(&mut self, space: &mut AddressSpace, [how, new, old, set_size]: [u64; 4]) -> Result<u64, Errno> {
        if set_size != SET_SIZE {
            return Err(Errno::EINVAL);
        }
        let before = self.blocked;
        if new != 0 {
            let set = space.read_u64(GuestVirt(new))?;
            let blocked = match uint(how) {
                SIG_BLOCK => before | set,
                SIG_UNBLOCK => before & !set,
                SIG_SETMASK => set,
                _ => return Err(Errno::EINVAL),
            };
            self.blocked = blocked & !UNBLOCKABLE;
        }
        if old != 0 {
            space.write(GuestVirt(old), &before.to_le_bytes())?;
        }
        Ok(0)
    }

    /// `sigaltstack`, of code with this stack pointer.
    pub(super) fn alternate_stack(
        &mut self,
        space: &mut AddressSpace,
        [new, old]: [u64; 2],
        stack_pointer: u64,
    ) -> Result<u64, Errno> {
        let before = self.alternate_stack;
        if new != 0 {
            let (start, flags, size) = read_fields!(space, new, stack_t { ss_sp, ss_flags, ss_size })?;
            self.alternate_stack.set(start, flags as u32, size, stack_pointer)?;
        }
        if old != 0 {
            let AlternateStack { start, size, flags } = before;
            let state = match flags {
                _ if size == 0 => SS_DISABLE,
                _ if before.holds(stack_pointer) => SS_ONSTACK,
                _ => 0,
            };
            let flags = (state | flags & SS_AUTODISARM) as i32;
            space.write(GuestVirt(old), &to_bytes!(stack_t { ss_sp: start, ss_flags: flags, ss_size: size }))?;
        }
        Ok(0)
    }

    /// `kill`: a process or a process group; the only ones are the guest's own.
    pub(super) fn kill(&mut self, process: u64, signal: u64) -> Result<u64, Errno> {
        if !self.own.is_reached_by(int(process)) {
            return Err(Errno::ESRCH);
        }
        self.send(Target::Process, Info::sent(int(signal), SI_USER as i32, self.own)).map(|()| 0)
    }

    /// `tkill` and `tgkill`.
    pub(super) fn kill_thread(&mut self, [group, thread, signal]: [u64; 3]) -> Result<u64, Errno> {
        check_thread(self.own, group, thread)?;
        self.send(Target::Thread, Info::sent(int(signal), SI_TKILL, self.own)).map(|()| 0)
    }

    /// `rt_sigqueueinfo`.
    pub(super) fn queue(&mut self, space: &AddressSpace, [process, signal, info]: [u64; 3]) -> Result<u64, Errno> {
        let info = Info::given(int(signal), &space.read_array(GuestVirt(info))?);
        if !self.own.is(int(process)) || int(process) == 0 {
            return Err(Errno::ESRCH);
        }
        self.send(Target::Process, info).map(|()| 0)
    }

    /// `rt_tgsigqueueinfo`.
    pub(super) fn queue_to_thread(
        &mut self,
        space: &AddressSpace,
        [group, thread, signal, info]: [u64; 4],
    ) -> Result<u64, Errno> {
        let info = Info::given(int(signal), &space.read_array(GuestVirt(info))?);
        check_thread(self.own, group, thread)?;
        self.send(Target::Thread, info).map(|()| 0)
    }

    /// Sends the signal of a write that nobody is there to read.
    pub(super) fn broken_pipe(&mut self) {
        // There is room for one of each.
        let _ = self.send(Target::Thread, Info::sent(SIGPIPE as i32, SI_USER as i32, self.own));
    }

    /// Sends the signals of a terminal, as a set of bits.
    pub(super) fn send_of_terminal(&mut self, set: u32) {
        for signal in (1..=u32::BITS as i32).filter(|signal| u64::from(set) & bit(*signal) != 0) {
            // There is room for one of each.
            let _ = self.send(Target::Process, Info::from_kernel(signal));
        }
    }

    /// Sends the signal of a timer.
    pub(super) fn send_of_timer(&mut self, target: Target, info: Info, timer: TimerId) {
        if !self.is_ignored(info.signal()) {
            self.pending.add(target, Queued { info, timer: Some(timer) });
        }
    }

    /// `rt_sigpending`.
    pub(super) fn pending(&self, space: &mut AddressSpace, into: u64, set_size: u64) -> Result<u64, Errno> {
        if set_size > SET_SIZE {
            return Err(Errno::EINVAL);
        }
        let set = self.pending.set() & self.blocked;
        space.write(GuestVirt(into), &set.to_le_bytes()[..set_size as usize])?;
        Ok(0)
    }

    /// `rt_sigtimedwait`: takes a signal that waits, or waits for one.
    pub(super) fn wait(
        &mut self,
        (timers, clocks): (&mut Timers, &mut Clocks),
        space: &mut AddressSpace,
        [set, info, timeout, set_size]: [u64; 4],
    ) -> Result<Outcome, Errno> {
        if set_size != SET_SIZE {
            return Err(Errno::EINVAL);
        }
        let wanted = space.read_u64(GuestVirt(set))? & !UNBLOCKABLE;
        let timeout = if timeout == 0 { None } else { Some(time::read_timespec(space, timeout)?) };
        if let Some(taken) = self.take(wanted, timers, clocks.now_of_timers()) {
            if info != 0 {
                space.write(GuestVirt(info), &taken.to_bytes())?;
            }
            return Ok(Outcome::Return(taken.signal() as u64));
        }
        Ok(match timeout {
            Some(duration) => clocks.wait(duration, Errno::EAGAIN.result()),
            None => Outcome::Deadlock(EndlessWait::Signal),
        })
    }

    /// `rt_sigsuspend`.
    pub(super) fn suspend(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        mask: u64,
        set_size: u64,
    ) -> Result<Outcome, Errno> {
        self.block_meanwhile(clocks, space, mask, set_size)?;
        Ok(Outcome::Deadlock(EndlessWait::Signal))
    }

    /// Blocks these signals, and no others, as long as a call waits.
    pub(super) fn block_meanwhile(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        mask: u64,
        set_size: u64,
    ) -> Result<(), Errno> {
        if set_size != SET_SIZE {
            return Err(Errno::EINVAL);
        }
        let mask = space.read_u64(GuestVirt(mask))? & !UNBLOCKABLE;
        let before = std::mem::replace(&mut self.blocked, mask);
        // While the call waits, it is served several times.
        self.saved_mask.get_or_insert(before);
        if self.has_deliverable() {
            clocks.interrupt();
        }
        Ok(())
    }

    /// Ends a call that may have waited: what it has blocked meanwhile is so no longer, unless a handler is to run with it.
    pub(super) fn end_wait(&mut self, is_interrupted: bool, may_repeat: bool) {
        self.may_repeat = is_interrupted && may_repeat;
        if !is_interrupted && let Some(mask) = self.saved_mask.take() {
            self.blocked = mask;
        }
    }

    /// Whether a signal that was sent would have no effect. One that is blocked may come to have one.
    pub(super) fn is_ignored(&self, signal: i32) -> bool {
        self.meaning(signal) == Meaning::Nothing && !self.is_blocked(signal)
    }

    pub(super) fn is_blocked(&self, signal: i32) -> bool {
        self.blocked & bit(signal) != 0
    }

    /// Whether a signal of this timer has been sent and not been taken.
    pub(super) fn waits(&self, timer: TimerId) -> bool {
        self.pending.has_of(timer)
    }

    /// The signals that wait, blocked or not, as a set.
    pub(super) fn waiting(&self) -> u64 {
        self.pending.set()
    }

    /// Takes the signal among these that comes first.
    pub(super) fn take(&mut self, among: u64, timers: &mut Timers, now: Now) -> Option<Info> {
        let Queued { info, timer } = self.pending.take(among)?;
        Some(match timer {
            Some(timer @ TimerId::Created(_)) => info.with_overrun(timers.signal_taken(timer, now)),
            Some(timer) => {
                timers.signal_taken(timer, now);
                info
            }
            None => info,
        })
    }

    /// What the process comes to by the first signal that is to be delivered, where that is no handler.
    pub(super) fn end(&mut self) -> Option<Outcome> {
        while let Some(signal) = self.pending.first(!self.blocked) {
            match self.meaning(signal) {
                Meaning::Nothing => self.pending.forget(bit(signal)),
                Meaning::Handler => return None,
                end => {
                    self.pending.take(bit(signal));
                    let stops = end == Meaning::Stop;
                    return Some(if stops {
                        Outcome::Deadlock(EndlessWait::Stopped)
                    } else {
                        Outcome::Abort { signal }
                    });
                }
            }
        }
        None
    }

    fn send(&mut self, target: Target, info: Info) -> Result<(), Errno> {
        let signal = info.signal();
        if signal == 0 {
            return Ok(());
        }
        index(signal).ok_or(Errno::EINVAL)?;
        if self.is_ignored(signal) || self.pending.add(target, Queued { info, timer: None }) {
            return Ok(());
        }
        // Linux forgets what is to be known of a signal rather than the signal, unless the program has said what that is.
        if matches!(info.code(), SI_TKILL) || info.code() == SI_USER as i32 { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    /// The effect of a signal with a valid number.
    fn meaning(&self, signal: i32) -> Meaning {
        let handler = index(signal).map_or(SIG_DFL, |index| self.actions[index].handler);
        match (signal as u32, handler) {
            (_, SIG_IGN) | (SIGCHLD | SIGCONT | SIGURG | SIGWINCH, SIG_DFL) => Meaning::Nothing,
            (SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU, SIG_DFL) => Meaning::Stop,
            (_, SIG_DFL) => Meaning::End,
            _ => Meaning::Handler,
        }
    }
}

/// The effect of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Nothing,
    /// The guest stops, and nobody could make it continue.
    Stop,
    End,
    Handler,
}

/// The signal by which Linux reports an exception of the processor (its `arch/x86/kernel/traps.c`).
pub(crate) fn signal_of(vector: u8) -> Option<u32> {
    Some(match vector {
        0 | 16 | 19 => SIGFPE,
        1 | 3 => SIGTRAP,
        4 | 5 | 13 | 14 => SIGSEGV,
        6 => SIGILL,
        11 | 12 | 17 => SIGBUS,
        _ => return None,
    })
}

impl AlternateStack {
    fn none() -> Self {
        Self { start: 0, flags: SS_DISABLE, size: 0 }
    }

    /// Makes it another one, at the wish of code with this stack pointer.
    fn set(&mut self, start: u64, flags: u32, size: u64, stack_pointer: u64) -> Result<(), Errno> {
        if self.holds(stack_pointer) {
            return Err(Errno::EPERM);
        }
        *self = match flags & !SS_AUTODISARM {
            SS_DISABLE => Self { start: 0, flags, size: 0 },
            0 | SS_ONSTACK if size < MINSIGSTKSZ.into() => return Err(Errno::ENOMEM),
            0 | SS_ONSTACK => Self { start, flags, size },
            _ => return Err(Errno::EINVAL),
        };
        Ok(())
    }
}

fn check_thread(own: ProcessId, group: u64, thread: u64) -> Result<(), Errno> {
    if int(group) <= 0 || int(thread) <= 0 {
        return Err(Errno::EINVAL);
    }
    if own.is(int(group)) && own.is(int(thread)) { Ok(()) } else { Err(Errno::ESRCH) }
}

fn lowest(set: u64) -> Option<i32> {
    (set != 0).then(|| set.trailing_zeros() as i32 + 1)
}

/// A set of one signal, whose number is valid.
pub(super) fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn index(signal: i32) -> Option<usize> {
    usize::try_from(signal).ok()?.checked_sub(1).filter(|index| *index < SIGNALS)
}

const SIGNALS: usize = 64;

/// Size of a set of signals, in bytes.
pub(super) const SET_SIZE: u64 = 8;

/// The set of `SIGKILL` and `SIGSTOP`.
pub(super) const UNBLOCKABLE: u64 = 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1);

// Values of a handler that are not handlers (Linux's `include/uapi/asm-generic/signal-defs.h`).
const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
