//! How system calls wait, and how signals interrupt them.
//!
//! A call that waits is served in parts: after each part it is served again, and finds out whether it is over. The host waits
//! for real time; where the clocks stand, the time of a part passes at once. A part ends when the wait does, or before, when a
//! timer expires whose signal may interrupt the call. Only a call that would have to wait is interrupted, and only by a signal
//! that has an effect.

use std::sync::Arc;
use std::time::Duration;

use linux_raw_sys::general::{
    FUTEX_CLOCK_REALTIME, FUTEX_PRIVATE_FLAG, FUTEX_WAIT, FUTEX_WAIT_BITSET, TIMER_ABSTIME, timespec, timeval,
};

use ampoule_vmm::GuestVirt;

use crate::address_space::AddressSpace;
use crate::fault::EndlessWait;
use crate::personality::{Outcome, Streams, SystemCall};

use super::clocks::Clocks;
use super::errno::Errno;
use super::numbers as nr;
use super::structure::to_bytes;
use super::{LinuxProcess, State, groups, socket, time, uint};

impl LinuxProcess {
    /// Serves a system call until it has a result, or the host is to wait.
    pub(super) fn serve(&mut self, call: &SystemCall, space: &mut AddressSpace, streams: &mut dyn Streams) -> Outcome {
        let Self { state, clocks, log, waits_in, .. } = self;
        let state = Arc::make_mut(state);
        if waits_in.take().is_some_and(|before| before != *call) {
            // What it has waited for is given up.
            clocks.served();
        }
        let outcome = loop {
            // The signals of a terminal come from outside, at any time.
            let has_terminal =
                streams.terminal().inspect(|it| state.signals.send_of_terminal(it.take_signals())).is_some();
            let interruption = state.interruption(clocks);
            clocks.serve(interruption);
            clocks.may_be_interrupted_any_time(has_terminal);
            let denied = groups::denied(state.config.policy, call.number);
            let served = match denied {
                None => state.serve(clocks, call, space, streams, log),
                Some(errno) => Err(errno),
            };
            let outcome = served.unwrap_or_else(|errno| {
                let is_refused = denied.is_some() || errno == Errno::ENOSYS;
                if is_refused && state.refused.record(call.number) == 1 {
                    log.refused(call.number, groups::needs(call.number));
                }
                if is_refused && socket::looks_for_names(call) {
                    state.harmless_sockets = state.harmless_sockets.saturating_add(1);
                }
                Outcome::Return(errno.result())
            });
            let duration = match outcome {
                Outcome::Pause { duration } => duration,
                Outcome::Deadlock(EndlessWait::Stopped) => break outcome,
                Outcome::Deadlock(_) => match clocks.interruption() {
                    Some(duration) => duration,
                    None if has_terminal => Duration::MAX,
                    None => break outcome,
                },
                Outcome::AwaitInput if state.signals.has_deliverable() => Duration::ZERO,
                _ => break outcome,
            };
            if state.signals.has_deliverable() {
                match state.signals.end() {
                    Some(end) => break end,
                    None if state.signals.has_deliverable() => return state.interrupt(clocks, call, space),
                    None => continue,
                }
            }
            // Where the clocks stand, nothing else would end a wait in which nothing but time passes.
            if !clocks.stand() || duration == Duration::MAX || space.check_watch().is_err() {
                break Outcome::Pause { duration };
            }
            clocks.pass(duration);
        };
        match outcome {
            Outcome::Pause { .. } | Outcome::AwaitInput => {
                clocks.wait_begins();
                *waits_in = Some(*call);
                return outcome;
            }
            Outcome::Sleep { .. } => clocks.wait_begins(),
            _ => {}
        }
        clocks.served();
        state.signals.end_wait(false, false);
        match outcome {
            Outcome::Return(_) => state.signals.end().unwrap_or(outcome),
            _ => outcome,
        }
    }
}

impl State {
    /// How long it takes, at the beginning of a system call, until something interrupts it.
    fn interruption(&mut self, clocks: &Clocks) -> Option<Duration> {
        if self.has_timers() {
            self.expire_timers(clocks);
        }
        if self.descriptors.has_signals() {
            self.descriptors.signals_wait(self.signals.waiting());
        }
        if self.signals.has_deliverable() {
            return Some(Duration::ZERO);
        }
        if !self.has_timers() {
            return None;
        }
        let now = clocks.now_of_timers();
        let files = self.descriptors.next_expiration(now.time);
        self.timers.next_effect(now, &self.signals, true).into_iter().chain(files).min()
    }

    pub(super) fn has_timers(&self) -> bool {
        self.timers.are_armed() || self.descriptors.has_timers()
    }

    /// Does what the timers that have expired are for.
    pub(super) fn expire_timers(&mut self, clocks: &Clocks) {
        let now = clocks.now_of_timers();
        self.timers.expire(now, &mut self.signals);
        self.descriptors.expire_timers(now.time);
    }

    /// Ends the wait of a call because of a signal. What is left of a sleep is written where the program wants it.
    fn interrupt(&mut self, clocks: &mut Clocks, call: &SystemCall, space: &mut AddressSpace) -> Outcome {
        let left = clocks.served().unwrap_or_default();
        self.signals.end_wait(true, may_be_repeated(call));
        let [_, b, _, d, e, _] = call.arguments;
        let written = match call.number {
            nr::NANOSLEEP => time::write_rest(space, b, left),
            nr::CLOCK_NANOSLEEP if uint(b) & TIMER_ABSTIME == 0 => time::write_rest(space, d, left),
            // What cannot be written is ignored.
            nr::SELECT if e != 0 => {
                let left = to_bytes!(timeval { tv_sec: left.as_secs() as i64, tv_usec: left.subsec_micros().into() });
                space.write(GuestVirt(e), &left).ok();
                Ok(())
            }
            nr::PSELECT6 if e != 0 => {
                let left = to_bytes!(timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
                space.write(GuestVirt(e), &left).ok();
                Ok(())
            }
            _ => Ok(()),
        };
        Outcome::Return(written.err().unwrap_or(Errno::EINTR).result())
    }
}

/// Whether a handler with `SA_RESTART` has this call made again that has interrupted it (signal(7)).
fn may_be_repeated(call: &SystemCall) -> bool {
    match call.number {
        nr::READ | nr::READV | nr::WRITE | nr::WRITEV | nr::RECVFROM | nr::RECVMSG | nr::SENDTO | nr::SENDMSG => true,
        nr::FUTEX => {
            let command = uint(call.arguments[1]) & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
            matches!(command, FUTEX_WAIT | FUTEX_WAIT_BITSET) && call.arguments[3] == 0
        }
        _ => false,
    }
}
