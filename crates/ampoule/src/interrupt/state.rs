//! The state of a sandbox's calls, in one atomic word that the calling thread and its interrupters share: every handle,
//! and the thread that watches limits.
//!
//! The word says which call is running, what its thread is doing, and whether the call has been interrupted. Because an
//! interruption is one compare-and-swap of this word, it hits exactly the call that it has seen, and because the
//! calling thread announces by the same word where it goes, the interrupter knows how to reach it:
//!
//! - In the **guest** it needs a kick: the request to leave the guest and then a signal. The word says so
//!   ([`KICKING`]), and [`finish`](CallState::finish) waits until the kick is over. So the thread is still in the call
//!   when the signal is sent, and the request is withdrawn after it was made.
//! - In a **host function** it is left alone. It looks at the word before it enters the guest again.
//! - **Asleep** it waits for the word to change, and is woken.
//!
//! A function of the application may be asleep too: where it awaits something, the thread sleeps until a [`Waker`](std::task::Waker)
//! [wakes](CallState::wake_up) it or the call is to end. That it was woken stands in the word until it [looks](CallState::forget_wake).
//!
//! A thread is also **taken out** of its guest without an end of the call, for whatever [`Reason`], and goes on. What is due stands
//! in the word until the thread takes it. This is like a kick, but for what comes after it: the call continues, so whoever enters
//! code of the application waits for a kick that is on its way, and for its signal. In a call that is taken out of its guest the
//! thread also announces when it **serves** the guest, where the application's outputs may run. Only in the guest is it sent a
//! signal; elsewhere it finds what is due when it leaves, and some reasons end a sleep early. Several threads may take one out at
//! once: whoever comes while another's kick is on its way leaves his own to that one, and waits for nobody.
//!
//! No operation but `finish`, `enter` and [`wait`](CallState::wait) waits for another thread, and none takes a lock or
//! allocates, so [`interrupt`](CallState::interrupt) may be called in a signal handler.

use super::linux::clock::Moment;
use super::word::Word;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct CallState<W> {
    word: W,
}

/// What ended a call from outside of the guest.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// A [handle](super::InterruptHandle) killed it.
    Killed,
    /// The call's deadline passed.
    Deadline,
    /// The call used up its CPU time.
    CpuTime,
}

/// What the thread of a call is taken out of its guest for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The guest is sampled.
    Sample,
    /// A debugger breaks in, or the guest is sent a signal. This ends a sleep, and a wait for input.
    BreakIn,
    /// A timer of the guest's has expired.
    Timer,
}

/// What became of an attempt to kill a call.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KillOutcome {
    /// The call was running and will end without a result.
    Killed,
    /// The call was running and was about to end already, because of another kill, its deadline or its CPU time.
    AlreadyEnding,
    /// No call was running, or no longer the one that was meant. Nothing happened, and no later call is affected.
    NotRunning,
    /// The call was running and will end without a result, but not before the guest leaves by itself: the kernel refuses to send
    /// the [signal](crate::InterruptSignal) that would take it out, as a seccomp filter without `tgkill` makes it do. A kill from
    /// a thread that may send it still takes the guest out.
    Unreachable,
}

/// What a call's thread is doing.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It runs the guest, or serves one of its exits.
    Guest,
    /// It runs a function of the application.
    Host,
    /// It sleeps on the guest's behalf.
    Asleep,
    /// It serves an exit of a guest that may be taken out.
    Serving,
}

/// What makes the calling thread leave its guest.
pub(super) trait Kick {
    /// Makes each run end at once until [`clear`](Kick::clear); one in progress ends at the next
    /// [`signal`](Kick::signal).
    fn request(&self);

    fn clear(&self);

    /// Sends the calling thread a signal. Pauses if that is impossible for the moment.
    fn signal(&self) -> Sent;

    /// Returns when all signals that were sent before have been handled. For the calling thread.
    fn handle_pending(&self);
}

/// What became of a signal.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    /// Another attempt may succeed.
    NotYet,
    /// No attempt of this thread will succeed.
    Refused,
}

/// For the calling thread.
impl<W: Word> CallState<W> {
    /// Begins the next call. None may be running.
    pub(super) fn begin(&self) -> CallNumber {
        let last = self.word.load();
        debug_assert_eq!(last & !NUMBER, 0, "one call at a time");
        let word = last + ONE_CALL;
        // While no call is running, nobody else changes the word.
        self.word.store(word | RUNNING);
        number(word)
    }

    /// Whether the call may continue.
    pub(super) fn check(&self) -> Result<(), Interruption> {
        cause(self.word.load()).map_or(Ok(()), Err)
    }

    /// Announces what the thread does next, unless the call is to end. When it does not sleep, no signal comes before the next
    /// [`leave`](Self::leave).
    pub(super) fn enter(&self, phase: Phase, kick: &impl Kick) -> Result<(), Interruption> {
        let entered = self.word.try_update(|word| is_open(word).then_some((word & !PHASE) | phase_bits(phase)));
        let before = entered.map_err(|word| cause(word).expect("a call is running"))?;
        if before & TAKEN_OUT != 0 && phase != Phase::Asleep {
            self.wait_while(TAKING_OUT);
            kick.handle_pending();
        }
        Ok(())
    }

    /// Announces that the thread returns to the guest, if the call may continue. Where something fell due meanwhile, the next run
    /// ends at once.
    pub(super) fn leave(&self, kick: &impl Kick) -> Result<(), Interruption> {
        let before = self.word.update(|word| (word & !PHASE) | phase_bits(Phase::Guest));
        if before & DUE != 0 {
            kick.request();
        }
        cause(before).map_or(Ok(()), Err)
    }

    /// Whether something is due.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.word.load() & DUE != 0
    }

    /// Takes all that is due; a sample from what the thread was doing when it fell due, and none falls due meanwhile. To be called
    /// after each run that was interrupted: it withdraws the request, even that of a kill. So [`check`](Self::check) follows.
    pub(super) fn take_due(&self, kick: &impl Kick, sample: impl FnOnce(Phase)) {
        if self.word.load() & TAKEN_OUT == 0 {
            return;
        }
        // After a request is withdrawn comes an update. Whatever has changed the word before that is seen by it, or by the next check,
        // and what changes it later makes its own request then. Who has changed it before and makes his request in between takes
        // the thread out once more, for nothing.
        kick.clear();
        if let Some(phase) = due_sample(self.word.update(|word| word & !(BREAK_IN | TIMER))) {
            sample(phase);
            kick.clear();
            self.word.update(|word| word & !DUE);
        }
    }

    /// Whether something is due that ends a sleep.
    pub(super) fn is_roused(&self) -> bool {
        is_roused(self.word.load())
    }

    /// Waits until the call is interrupted or something falls due that ends a sleep, at most until then. May return early. To be
    /// called in [`Phase::Asleep`].
    pub(super) fn wait(&self, until: Moment) {
        let word = self.word.load();
        if is_open(word) && !is_roused(word) {
            self.word.wait(word, until);
        }
    }

    /// Forgets that the thread was woken up, for which it looks next.
    pub(super) fn forget_wake(&self) {
        self.word.update(|word| word & !WOKEN);
    }

    /// Waits until the thread is woken up or the call is interrupted. To be called in [`Phase::Asleep`].
    pub(super) fn wait_for_wake(&self) {
        loop {
            let word = self.word.load();
            if !is_open(word) || word & WOKEN != 0 {
                break;
            }
            self.word.wait(word, Moment::NEVER);
        }
    }

    /// Ends the call, waits for a kick that is on its way, and withdraws its request. From here on nothing can
    /// interrupt the call; if something did before, this is its report.
    pub(super) fn finish(&self, kick: &impl Kick) -> Result<(), Interruption> {
        let last = self.word.update(|word| word & (NUMBER | KICKING | TAKING_OUT | TAKEN_OUT));
        self.wait_while(KICKING | TAKING_OUT);
        if last & (CAUSE | TAKEN_OUT) != 0 {
            // While no call is running, nobody else changes the word.
            self.word.store(last & NUMBER);
            kick.clear();
            // The signal must not hit what the application does next.
            kick.handle_pending();
        }
        cause(last).map_or(Ok(()), Err)
    }

    fn wait_while(&self, bits: u64) {
        loop {
            let word = self.word.load();
            if word & bits == 0 {
                break;
            }
            self.word.wait(word, Moment::NEVER);
        }
    }

    /// Whether a kick is on its way, of whatever kind.
    pub(super) fn is_kicked(&self) -> bool {
        self.word.load() & (KICKING | TAKING_OUT) != 0
    }

    /// Takes a kick for over that is on its way. To be called in a forked child, which has none of the threads that
    /// could end it, before it [finishes](Self::finish) the call that it has inherited, or [enters](Self::enter) anything in it.
    pub(super) fn forget_kick(&self) {
        self.word.update(|word| word & !(KICKING | TAKING_OUT | ANOTHER));
    }
}

/// For any thread.
impl<W: Word> CallState<W> {
    /// The number of the call that is running, and what its thread is doing.
    pub(super) fn running(&self) -> Option<(CallNumber, Phase)> {
        let word = self.word.load();
        (word & RUNNING != 0).then(|| (number(word), phase(word)))
    }

    /// The number of the call that is running, if it has not been interrupted, or if that did not reach its thread.
    pub(super) fn open(&self) -> Option<CallNumber> {
        let word = self.word.load();
        (is_open(word) || is_unreached(word)).then(|| number(word))
    }

    /// Interrupts this call, if it is running and has not been interrupted, and makes its thread notice. Where it has been, and
    /// the interrupter was not allowed to reach its thread, this one tries.
    pub(super) fn interrupt(&self, call: CallNumber, interruption: Interruption, kick: &impl Kick) -> KillOutcome {
        let interrupted = self.word.try_update(|word| {
            let kicking = if phase(word) == Phase::Guest { KICKING } else { 0 };
            match () {
                () if number(word) != call => None,
                () if is_open(word) => Some(word | cause_bits(interruption) | kicking),
                () if is_unreached(word) => Some((word & !UNREACHED) | KICKING),
                () => None,
            }
        });
        let before = match interrupted {
            Ok(before) => before,
            Err(word) if word & RUNNING != 0 && number(word) == call => return KillOutcome::AlreadyEnding,
            Err(_) => return KillOutcome::NotRunning,
        };
        match phase(before) {
            Phase::Guest if !self.kick(call, kick) => return KillOutcome::Unreachable,
            Phase::Guest | Phase::Host | Phase::Serving => {}
            Phase::Asleep => self.word.wake(),
        }
        if is_open(before) { KillOutcome::Killed } else { KillOutcome::AlreadyEnding }
    }

    /// Wakes the thread up that awaits something in this call, or is about to.
    pub(super) fn wake_up(&self, call: CallNumber) {
        // Even when it is woken up already the word is written, so that its next look sees what the waker has done before.
        let is_awaiting = |word| is_open(word) && number(word) == call;
        let woken = self.word.try_update(|word| is_awaiting(word).then_some(word | WOKEN));
        if woken.is_ok_and(|before| phase(before) == Phase::Asleep) {
            self.word.wake();
        }
    }

    /// Makes the thread leave the guest. [`KICKING`] is set: the call cannot end before it is cleared here. Returns whether the
    /// thread leaves, or has left by itself.
    fn kick(&self, call: CallNumber, kick: &impl Kick) -> bool {
        let sent = self.push(call, kick);
        let unreached = if sent == Sent::Refused { UNREACHED } else { 0 };
        let before = self.word.update(|word| {
            let left = word & RUNNING == 0;
            (word & !KICKING) | if left { 0 } else { unreached }
        });
        if before & RUNNING == 0 {
            self.word.wake();
            return true;
        }
        unreached == 0
    }

    /// Takes the thread out of its guest in the call that is running, if there is one that may continue and for which this is not
    /// due already.
    pub(super) fn take_out(&self, reason: Reason, kick: &impl Kick) {
        let taken_out = self.word.try_update(|word| {
            let way = match phase(word) {
                Phase::Guest if word & TAKING_OUT == 0 => TAKING_OUT,
                Phase::Guest => ANOTHER,
                Phase::Host | Phase::Asleep | Phase::Serving => 0,
            };
            (is_open(word) && !is_due(word, reason)).then(|| word | TAKEN_OUT | due_bits(reason, phase(word)) | way)
        });
        match taken_out {
            Ok(before) if phase(before) == Phase::Guest && before & TAKING_OUT == 0 => {
                self.push_out(number(before), kick);
            }
            Ok(before) if phase(before) == Phase::Asleep => self.word.wake(),
            Ok(_) | Err(_) => {}
        }
    }

    /// Makes the thread leave the guest, and again for each who comes meanwhile. [`TAKING_OUT`] is set: before it is cleared here,
    /// the call does not end, and no code of the application is entered.
    fn push_out(&self, call: CallNumber, kick: &impl Kick) {
        loop {
            self.push(call, kick);
            let before = self.word.update(|word| {
                let over = if wants_another(word) { ANOTHER } else { ANOTHER | TAKING_OUT };
                word & !over
            });
            if !wants_another(before) {
                break;
            }
        }
        self.word.wake();
    }

    /// Takes the thread out of the guest. Returns at the latest when the call is over.
    fn push(&self, call: CallNumber, kick: &impl Kick) -> Sent {
        // A run that begins after the request ends because of it, one that began before ends because of the signal.
        kick.request();
        loop {
            let sent = kick.signal();
            // The guest may leave by itself, and `finish` wait.
            if sent != Sent::NotYet || self.running().is_none_or(|(running, _)| running != call) {
                break sent;
            }
        }
    }
}

/// Tells the calls of one sandbox apart. The first one has the number 1.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallNumber(u64);

fn number(word: u64) -> CallNumber {
    CallNumber(word >> NUMBER_SHIFT)
}

fn is_open(word: u64) -> bool {
    word & (RUNNING | CAUSE) == RUNNING
}

/// Whether the call has been interrupted, and its thread may be in the guest all the same.
fn is_unreached(word: u64) -> bool {
    word & (RUNNING | UNREACHED) == RUNNING | UNREACHED && phase(word) == Phase::Guest
}

fn phase(word: u64) -> Phase {
    match word & PHASE {
        IN_HOST => Phase::Host,
        ASLEEP => Phase::Asleep,
        SERVING => Phase::Serving,
        _ => Phase::Guest,
    }
}

/// Whether the kick that is on its way has come too early for somebody. Elsewhere than in the guest no kick is needed.
fn wants_another(word: u64) -> bool {
    word & (RUNNING | ANOTHER) == RUNNING | ANOTHER && phase(word) == Phase::Guest
}

fn is_due(word: u64, reason: Reason) -> bool {
    match reason {
        Reason::Sample => word & SAMPLE != 0,
        Reason::BreakIn => word & BREAK_IN != 0,
        Reason::Timer => word & TIMER != 0,
    }
}

/// Whether something is due that ends a sleep. A sample does not, nor does a timer: who sleeps knows when it expires.
fn is_roused(word: u64) -> bool {
    word & BREAK_IN != 0
}

/// What the thread was doing when a sample fell due, if one has.
fn due_sample(word: u64) -> Option<Phase> {
    (word & SAMPLE != 0).then(|| phase(word >> SAMPLE_PHASE_SHIFT))
}

fn due_bits(reason: Reason, phase: Phase) -> u64 {
    match reason {
        Reason::Sample => SAMPLE | phase_bits(phase) << SAMPLE_PHASE_SHIFT,
        Reason::BreakIn => BREAK_IN,
        Reason::Timer => TIMER,
    }
}

fn phase_bits(phase: Phase) -> u64 {
    match phase {
        Phase::Guest => 0,
        Phase::Host => IN_HOST,
        Phase::Asleep => ASLEEP,
        Phase::Serving => SERVING,
    }
}

fn cause(word: u64) -> Option<Interruption> {
    match word & CAUSE {
        KILLED => Some(Interruption::Killed),
        DEADLINE => Some(Interruption::Deadline),
        CPU_TIME => Some(Interruption::CpuTime),
        _ => None,
    }
}

fn cause_bits(interruption: Interruption) -> u64 {
    match interruption {
        Interruption::Killed => KILLED,
        Interruption::Deadline => DEADLINE,
        Interruption::CpuTime => CPU_TIME,
    }
}

// The word, from its lowest bit. All that a thread may wait for lies in the low half.
const RUNNING: u64 = 1;
const PHASE: u64 = 0b11 << 1;
const IN_HOST: u64 = 1 << 1;
const ASLEEP: u64 = 2 << 1;
const SERVING: u64 = 3 << 1;
const CAUSE: u64 = 0b11 << 3;
const KILLED: u64 = 1 << 3;
const DEADLINE: u64 = 2 << 3;
const CPU_TIME: u64 = 3 << 3;
/// A kick is on its way. Only the one interrupter that has interrupted the call sets and clears it.
const KICKING: u64 = 1 << 5;
/// The last interrupter was not allowed to send the signal. Set and cleared like [`KICKING`].
const UNREACHED: u64 = 1 << 6;
/// What is due. Set by whoever takes the thread out, cleared by the calling thread.
const DUE: u64 = SAMPLE | PHASE << SAMPLE_PHASE_SHIFT | BREAK_IN | TIMER;
const SAMPLE: u64 = 1 << 7;
/// The phase in which the sample fell due.
const SAMPLE_PHASE_SHIFT: u32 = 7;
const BREAK_IN: u64 = 1 << 10;
const TIMER: u64 = 1 << 11;
/// Somebody takes the thread out of the guest: his kick is on its way. Only he clears it.
const TAKING_OUT: u64 = 1 << 12;
/// Somebody else has come meanwhile, and leaves his kick to the former.
const ANOTHER: u64 = 1 << 13;
/// The thread has been taken out in this call: there may be a request, and a signal that has not been handled.
const TAKEN_OUT: u64 = 1 << 14;
/// What the thread awaits may be ready. Set by a waker, cleared by the calling thread.
const WOKEN: u64 = 1 << 15;
const NUMBER_SHIFT: u32 = 16;
const ONE_CALL: u64 = 1 << NUMBER_SHIFT;
const NUMBER: u64 = !(ONE_CALL - 1);
