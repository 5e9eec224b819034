//! The state machine on one thread: what each moment means.

use std::cell::Cell;

use super::{CallNumber, CallState, Interruption, Kick, KillOutcome, Phase, Sent};
use crate::interrupt::linux::clock::{Clock, Moment};
use crate::interrupt::linux::futex::FutexWord;

/// Counts what is done to the calling thread.
#[derive(Default)]
struct Kicks {
    requested: Cell<bool>,
    signals: Cell<u32>,
    refusals: Cell<u32>,
    is_forbidden: Cell<bool>,
}

impl Kick for Kicks {
    fn request(&self) {
        self.requested.set(true);
    }

    fn clear(&self) {
        self.requested.set(false);
    }

    fn signal(&self) -> Sent {
        assert!(self.requested.get(), "the request comes before the signal");
        if self.refusals.get() > 0 {
            self.refusals.set(self.refusals.get() - 1);
            return Sent::NotYet;
        }
        if self.is_forbidden.get() {
            return Sent::Refused;
        }
        self.signals.set(self.signals.get() + 1);
        Sent::Yes
    }
}

fn state() -> (CallState<FutexWord>, Kicks) {
    (CallState::default(), Kicks::default())
}

const FIRST: CallNumber = CallNumber(1);
const SECOND: CallNumber = CallNumber(2);

#[test]
fn a_kill_before_and_after_a_call_does_nothing() {
    let (state, kicks) = state();
    assert_eq!(state.interrupt(FIRST, Interruption::Killed, &kicks), KillOutcome::NotRunning);
    state.begin();
    assert_eq!(state.running(), Some((FIRST, Phase::Guest)));
    assert_eq!(state.check(), Ok(()));
    assert_eq!(state.finish(&kicks), Ok(()));
    assert_eq!(state.running(), None);
    assert_eq!(state.interrupt(FIRST, Interruption::Killed, &kicks), KillOutcome::NotRunning);
    assert_eq!(kicks.signals.get(), 0);
    assert!(!kicks.requested.get());
}

#[test]
fn a_kill_of_an_earlier_call_does_nothing() {
    let (state, kicks) = state();
    state.begin();
    state.finish(&kicks).unwrap();
    state.begin();
    assert_eq!(state.interrupt(FIRST, Interruption::Killed, &kicks), KillOutcome::NotRunning);
    assert_eq!(state.check(), Ok(()));
    assert_eq!(state.interrupt(SECOND, Interruption::Killed, &kicks), KillOutcome::Killed);
    assert_eq!(state.finish(&kicks), Err(Interruption::Killed));
}

#[test]
fn a_kill_requests_and_signals_once_and_leaves_no_request() {
    let (state, kicks) = state();
    state.begin();
    assert_eq!(state.interrupt(FIRST, Interruption::Killed, &kicks), KillOutcome::Killed);
    assert_eq!(state.interrupt(FIRST, Interruption::Killed, &kicks), KillOutcome::AlreadyEnding);
    assert_eq!(kicks.signals.get(), 1);
    assert!(kicks.requested.get());
    assert_eq!(state.check(), Err(Interruption::Killed));
    assert_eq!(state.finish(&kicks), Err(Interruption::Killed));
    assert!(!kicks.requested.get());
}

#[test]
fn a_signal_that_cannot_be_sent_is_tried_again() {
    let (state, kicks) = state();
    kicks.refusals.set(3);
    state.begin();
    assert_eq!(state.interrupt(FIRST, Interruption::Killed, &kicks), KillOutcome::Killed);
    assert_eq!(kicks.signals.get(), 1);
}

#[test]
fn a_kill_in_a_host_function_sends_no_signal_and_counts_when_it_returns() {
    let (state, kicks) = state();
    state.begin();
    state.enter(Phase::Host).unwrap();
    assert_eq!(state.running(), Some((FIRST, Phase::Host)));
    assert_eq!(state.interrupt(FIRST, Interruption::Killed, &kicks), KillOutcome::Killed);
    assert_eq!(kicks.signals.get(), 0);
    assert_eq!(state.leave(), Err(Interruption::Killed));
    assert_eq!(state.running(), Some((FIRST, Phase::Guest)));
    assert_eq!(state.finish(&kicks), Err(Interruption::Killed));
}

#[test]
fn a_killed_call_enters_no_host_function() {
    let (state, kicks) = state();
    state.begin();
    state.interrupt(FIRST, Interruption::Killed, &kicks);
    assert_eq!(state.enter(Phase::Host), Err(Interruption::Killed));
    assert_eq!(state.running(), Some((FIRST, Phase::Guest)));
}

#[test]
fn a_call_that_unwinds_out_of_a_host_function_can_be_followed_by_another() {
    let (state, kicks) = state();
    state.begin();
    state.enter(Phase::Host).unwrap();
    state.finish(&kicks).unwrap();
    state.begin();
    assert_eq!(state.running(), Some((SECOND, Phase::Guest)));
}

#[test]
fn the_first_interruption_counts() {
    let (state, kicks) = state();
    state.begin();
    assert_eq!(state.open(), Some(FIRST));
    assert_eq!(state.interrupt(FIRST, Interruption::CpuTime, &kicks), KillOutcome::Killed);
    assert_eq!(state.interrupt(FIRST, Interruption::Deadline, &kicks), KillOutcome::AlreadyEnding);
    assert_eq!(state.interrupt(FIRST, Interruption::Killed, &kicks), KillOutcome::AlreadyEnding);
    assert_eq!(state.open(), None);
    assert_eq!(state.finish(&kicks), Err(Interruption::CpuTime));
}

#[test]
fn a_wait_ends_at_its_time_or_at_once_where_the_call_has_been_interrupted() {
    let (state, kicks) = state();
    state.begin();
    state.enter(Phase::Asleep).unwrap();
    state.wait(Clock::MONOTONIC.now());
    assert_eq!(state.interrupt(FIRST, Interruption::Killed, &kicks), KillOutcome::Killed);
    state.wait(Moment::NEVER);
    assert_eq!(state.leave(), Err(Interruption::Killed));
}

#[test]
fn a_child_ends_a_call_in_whose_kick_it_was_forked() {
    /// Its signal is never done being sent: the thread that sends it is not there any more.
    struct Forked<'a>(&'a CallState<FutexWord>, Cell<Option<Result<(), Interruption>>>);

    impl Kick for Forked<'_> {
        fn request(&self) {}

        fn clear(&self) {}

        fn signal(&self) -> Sent {
            self.0.forget_kick();
            self.1.set(Some(self.0.finish(self)));
            Sent::Yes
        }
    }

    let (state, _) = state();
    let call = state.begin();
    let forked = Forked(&state, Cell::default());
    state.interrupt(call, Interruption::Killed, &forked);
    assert_eq!(forked.1.get(), Some(Err(Interruption::Killed)));
}

#[test]
fn where_a_signal_may_not_be_sent_the_call_is_left_to_whoever_may() {
    let (state, kicks) = state();
    kicks.is_forbidden.set(true);
    let call = state.begin();
    assert_eq!(state.interrupt(call, Interruption::Killed, &kicks), KillOutcome::Unreachable);
    assert_eq!((state.check(), state.open()), (Err(Interruption::Killed), Some(call)));
    assert_eq!(state.interrupt(call, Interruption::Deadline, &kicks), KillOutcome::Unreachable);
    kicks.is_forbidden.set(false);
    assert_eq!(state.interrupt(call, Interruption::CpuTime, &kicks), KillOutcome::AlreadyEnding);
    assert_eq!((kicks.signals.get(), state.open()), (1, None));
    assert_eq!(state.interrupt(call, Interruption::CpuTime, &kicks), KillOutcome::AlreadyEnding);
    assert_eq!(kicks.signals.get(), 1);
    assert_eq!(state.finish(&kicks), Err(Interruption::Killed));
    assert!(!kicks.requested.get());
    let call = state.begin();
    assert_eq!((state.check(), state.open()), (Ok(()), Some(call)));
    assert_eq!(state.finish(&kicks), Ok(()));
}

#[test]
fn a_call_that_could_not_be_reached_ends_at_the_guests_next_exit() {
    let (state, kicks) = state();
    kicks.is_forbidden.set(true);
    let call = state.begin();
    assert_eq!(state.interrupt(call, Interruption::Killed, &kicks), KillOutcome::Unreachable);
    assert_eq!(state.enter(Phase::Host), Err(Interruption::Killed));
    assert_eq!(state.finish(&kicks), Err(Interruption::Killed));
    assert_eq!(state.interrupt(call, Interruption::Killed, &kicks), KillOutcome::NotRunning);
}
