//! Signals. What a guest sets up is remembered and reported on request, but no handler is ever called: a fault ends the
//! guest, and so does a signal that it sends itself, unless it ignores it. One that it blocks waits until it is unblocked or
//! waited for, and is then treated in the same way.

use std::mem::offset_of;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    __sifields__bindgen_ty_1, MINSIGSTKSZ, SI_TKILL, SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SIGBUS, SIGCHLD, SIGCONT,
    SIGFPE, SIGILL, SIGKILL, SIGPIPE, SIGSEGV, SIGSTOP, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH,
    SS_AUTODISARM, SS_DISABLE, SS_ONSTACK, kernel_sigaction, siginfo__bindgen_ty_1__bindgen_ty_1, siginfo_t, stack_t,
};

use crate::address_space::AddressSpace;
use crate::fault::EndlessWait;
use crate::personality::Outcome;

use super::clocks::Clocks;
use super::errno::Errno;
use super::process::{ProcessId, USER_ID};
use super::structure::{read_fields, to_bytes};
use super::{int, time, uint};

/// What the process has set up for signals.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    /// By signal number minus one.
    actions: [Action; SIGNALS],
    blocked: u64,
    /// Signals that were sent while they were blocked.
    pending: u64,
    alternate_stack: AlternateStack,
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
    pub(super) fn new() -> Self {
        Self {
            actions: [Action::default(); SIGNALS],
            blocked: 0,
            pending: 0,
            alternate_stack: AlternateStack { start: 0, flags: SS_DISABLE, size: 0 },
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
                self.pending &= !bit(signal);
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

    /// `rt_sigprocmask`. A pending signal that is no longer blocked is delivered before the call returns.
    pub(super) fn mask(
        &mut self,
        space: &mut AddressSpace,
        [how, new, old, set_size]: [u64; 4],
    ) -> Result<Outcome, Errno> {
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
        Ok(self.deliver(self.blocked).unwrap_or(Outcome::Return(0)))
    }

    pub(super) fn alternate_stack(&mut self, space: &mut AddressSpace, new: u64, old: u64) -> Result<u64, Errno> {
        let before = self.alternate_stack;
        if new != 0 {
            let (start, flags, size) = read_fields!(space, new, stack_t { ss_sp, ss_flags, ss_size })?;
            let flags = flags as u32;
            self.alternate_stack = match flags & !SS_AUTODISARM {
                SS_DISABLE => AlternateStack { start: 0, flags, size: 0 },
                0 | SS_ONSTACK if size < MINSIGSTKSZ.into() => return Err(Errno::ENOMEM),
                0 | SS_ONSTACK => AlternateStack { start, flags: flags & SS_AUTODISARM, size },
                _ => return Err(Errno::EINVAL),
            };
        }
        if old != 0 {
            let AlternateStack { start, flags, size } = before;
            let stack = to_bytes!(stack_t { ss_sp: start, ss_flags: flags as i32, ss_size: size });
            space.write(GuestVirt(old), &stack)?;
        }
        Ok(0)
    }

    /// `kill`: a process or a process group; the only ones are the guest's own.
    pub(super) fn kill(&mut self, own: ProcessId, process: u64, signal: u64) -> Result<Outcome, Errno> {
        if !own.is_reached_by(int(process)) {
            return Err(Errno::ESRCH);
        }
        self.send(int(signal))
    }

    /// `tkill` and `tgkill`.
    pub(super) fn kill_thread(&mut self, own: ProcessId, [group, thread, signal]: [u64; 3]) -> Result<Outcome, Errno> {
        if int(group) <= 0 || int(thread) <= 0 {
            return Err(Errno::EINVAL);
        }
        if !own.is(int(group)) || !own.is(int(thread)) {
            return Err(Errno::ESRCH);
        }
        self.send(int(signal))
    }

    /// Sends the signal of a write that nobody is there to read, and returns what it comes to.
    pub(super) fn broken_pipe(&mut self) -> Result<Outcome, Errno> {
        self.send(SIGPIPE as i32)
    }

    /// `rt_sigpending`.
    pub(super) fn pending(&self, space: &mut AddressSpace, into: u64, set_size: u64) -> Result<u64, Errno> {
        if set_size > SET_SIZE {
            return Err(Errno::EINVAL);
        }
        space.write(GuestVirt(into), &self.pending.to_le_bytes()[..set_size as usize])?;
        Ok(0)
    }

    /// `rt_sigtimedwait`: takes a pending signal. No other ever comes.
    pub(super) fn wait(
        &mut self,
        own: ProcessId,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        [set, info, timeout, set_size]: [u64; 4],
    ) -> Result<Outcome, Errno> {
        if set_size != SET_SIZE {
            return Err(Errno::EINVAL);
        }
        let wanted = space.read_u64(GuestVirt(set))?;
        let timeout = if timeout == 0 { None } else { Some(time::read_timespec(space, timeout)?) };
        if let Some(signal) = lowest(self.pending & wanted) {
            self.pending &= !bit(signal);
            if info != 0 {
                space.write(GuestVirt(info), &info_of_sent(signal, own))?;
            }
            return Ok(Outcome::Return(signal as u64));
        }
        Ok(match timeout {
            Some(duration) => clocks.wait(duration, Errno::EAGAIN.result()),
            None => Outcome::Deadlock(EndlessWait::Signal),
        })
    }

    /// `rt_sigsuspend`: only what is pending can come.
    pub(super) fn suspend(&mut self, space: &AddressSpace, mask: u64, set_size: u64) -> Result<Outcome, Errno> {
        if set_size != SET_SIZE {
            return Err(Errno::EINVAL);
        }
        let blocked = space.read_u64(GuestVirt(mask))? & !UNBLOCKABLE;
        Ok(self.deliver(blocked).unwrap_or(Outcome::Deadlock(EndlessWait::Signal)))
    }

    /// The signal by which Linux reports this exception of the processor, if the process means to handle it. Rust's standard
    /// library has handlers for `SIGSEGV` and `SIGBUS` in every program, to report stack overflows; who makes use of faults
    /// handles `SIGILL` as well.
    pub(super) fn handled(&self, vector: u8) -> Option<i32> {
        let signal = signal_of(vector)?;
        let telling = if matches!(signal, SIGSEGV | SIGBUS) { SIGILL } else { signal };
        let is_handled = [signal, telling].iter().all(|signal| self.meaning(*signal as i32) == Meaning::Handler);
        is_handled.then_some(signal as i32)
    }

    fn send(&mut self, signal: i32) -> Result<Outcome, Errno> {
        if signal == 0 {
            return Ok(Outcome::Return(0));
        }
        index(signal).ok_or(Errno::EINVAL)?;
        self.pending |= bit(signal);
        Ok(self.deliver(self.blocked).unwrap_or(Outcome::Return(0)))
    }

    /// Takes the signals that are pending and not `blocked`, and returns their effect if they have one.
    fn deliver(&mut self, blocked: u64) -> Option<Outcome> {
        while let Some(signal) = lowest(self.pending & !blocked) {
            self.pending &= !bit(signal);
            match self.meaning(signal) {
                Meaning::Nothing => {}
                Meaning::Stop => return Some(Outcome::Deadlock(EndlessWait::Stopped)),
                Meaning::End => return Some(Outcome::Abort { signal, handled: false }),
                Meaning::Handler => return Some(Outcome::Abort { signal, handled: true }),
            }
        }
        None
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
    /// The guest ends too: continuing without the handler would not be what it has asked for.
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

/// What `siginfo_t` reports of a signal that the process has sent itself.
fn info_of_sent(signal: i32, own: ProcessId) -> [u8; size_of::<siginfo_t>()] {
    let own_fields = offset_of!(siginfo__bindgen_ty_1__bindgen_ty_1, _sifields);
    let common = to_bytes!(siginfo__bindgen_ty_1__bindgen_ty_1 { si_signo: signal, si_code: SI_TKILL });
    let sender = to_bytes!(__sifields__bindgen_ty_1 { _pid: own.number() as i32, _uid: USER_ID });
    let mut info = [0; size_of::<siginfo_t>()];
    info[..common.len()].copy_from_slice(&common);
    info[own_fields..own_fields + sender.len()].copy_from_slice(&sender);
    info
}

fn lowest(set: u64) -> Option<i32> {
    (set != 0).then(|| set.trailing_zeros() as i32 + 1)
}

/// A set of one signal, whose number is valid.
fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn index(signal: i32) -> Option<usize> {
    usize::try_from(signal).ok()?.checked_sub(1).filter(|index| *index < SIGNALS)
}

const SIGNALS: usize = 64;

/// Size of a set of signals, in bytes.
pub(super) const SET_SIZE: u64 = 8;

/// The set of `SIGKILL` and `SIGSTOP`.
const UNBLOCKABLE: u64 = 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1);

// Values of a handler that are not handlers (Linux's `include/uapi/asm-generic/signal-defs.h`).
const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
