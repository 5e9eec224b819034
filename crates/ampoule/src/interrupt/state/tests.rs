//! The state machine on one thread: what each moment means.

use std::cell::Cell;

use super::{CallNumber, CallState, Interruption, Kick, KillOutcome, Phase, Reason, Sent};
use crate::interrupt::linux::clock::{Clock, Moment};
use crate::interrupt::linux::futex::FutexWord;

/// Counts what is done to the calling thread.
#[derive(Default)]
struct Kicks {
    requested: Cell<bool>,
    signals: Cell<u32>,
    handled: Cell<u32>,
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

    fn handle_pending(&self) {
        self.handled.set(self.signals.get());
    }
}

fn state() -> (CallState<FutexWord>, Kicks) {
    (CallState::default(), Kicks::default())
}

/// What a sample that is due is taken from.
fn taken(state: &CallState<FutexWord>, kicks: &Kicks) -> Option<Phase> {
    let mut taken = None;
    state.take_due(kicks, |phase| taken = Some(phase));
    taken
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
    state.enter(Phase::Host, &kicks).unwrap();
    assert_eq!(state.running(), Some((FIRST, Phase::Host)));
    assert_eq!(state.interrupt(FIRST, Interruption::Killed, &kicks), KillOutcome::Killed);
    assert_eq!(kicks.signals.get(), 0);
    assert_eq!(state.leave(&kicks), Err(Interruption::Killed));
    assert_eq!(state.running(), Some((FIRST, Phase::Guest)));
    assert_eq!(state.finish(&kicks), Err(Interruption::Killed));
}

#[test]
fn a_killed_call_enters_no_host_function() {
    let (state, kicks) = state();
    state.begin();
    state.interrupt(FIRST, Interruption::Killed, &kicks);
    assert_eq!(state.enter(Phase::Host, &kicks), Err(Interruption::Killed));
    assert_eq!(state.running(), Some((FIRST, Phase::Guest)));
}

#[test]
fn a_call_that_unwinds_out_of_a_host_function_can_be_followed_by_another() {
    let (state, kicks) = state();
    state.begin();
    state.enter(Phase::Host, &kicks).unwrap();
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
    state.enter(Phase::Asleep, &kicks).unwrap();
    state.wait(Clock::MONOTONIC.now());
    assert_eq!(state.interrupt(FIRST, Interruption::Killed, &kicks), KillOutcome::Killed);
    state.wait(Moment::NEVER);
    assert_eq!(state.leave(&kicks), Err(Interruption::Killed));
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

        fn handle_pending(&self) {}
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
    assert_eq!(state.enter(Phase::Host, &kicks), Err(Interruption::Killed));
    assert_eq!(state.finish(&kicks), Err(Interruption::Killed));
    assert_eq!(state.interrupt(call, Interruption::Killed, &kicks), KillOutcome::NotRunning);
}

#[test]
fn a_sample_that_falls_due_in_the_guest_is_taken_once_and_the_call_goes_on() {
    let (state, kicks) = state();
    state.begin();
    assert_eq!(taken(&state, &kicks), None);
    state.take_out(Reason::Sample, &kicks);
    assert!(kicks.requested.get());
    assert_eq!(kicks.signals.get(), 1);
    assert_eq!(state.check(), Ok(()));
    state.take_out(Reason::Sample, &kicks);
    assert_eq!(kicks.signals.get(), 1, "one is due already");
    assert_eq!(taken(&state, &kicks), Some(Phase::Guest));
    assert!(!kicks.requested.get(), "the guest can be entered");
    assert_eq!(taken(&state, &kicks), None);
    state.take_out(Reason::Sample, &kicks);
    assert_eq!(taken(&state, &kicks), Some(Phase::Guest));
    assert_eq!(kicks.signals.get(), 2);
    assert_eq!(state.finish(&kicks), Ok(()));
}

#[test]
fn a_sample_that_falls_due_on_the_host_sends_no_signal_and_is_taken_when_the_guest_is_entered() {
    for phase in [Phase::Host, Phase::Asleep, Phase::Serving] {
        let (state, kicks) = state();
        state.begin();
        state.enter(phase, &kicks).unwrap();
        state.take_out(Reason::Sample, &kicks);
        assert_eq!((kicks.signals.get(), kicks.requested.get()), (0, false));
        state.leave(&kicks).unwrap();
        assert!(kicks.requested.get());
        assert_eq!(taken(&state, &kicks), Some(phase));
        assert!(!kicks.requested.get());
        assert_eq!(state.finish(&kicks), Ok(()));
    }
}

#[test]
fn code_of_the_application_runs_only_when_the_signal_of_a_sample_has_come() {
    for phase in [Phase::Host, Phase::Serving] {
        let (state, kicks) = state();
        state.begin();
        state.take_out(Reason::Sample, &kicks);
        state.enter(phase, &kicks).unwrap();
        assert_eq!(kicks.handled.get(), 1);
        state.leave(&kicks).unwrap();
        assert_eq!(taken(&state, &kicks), Some(Phase::Guest));
        state.take_out(Reason::Sample, &kicks);
        assert_eq!(state.finish(&kicks), Ok(()));
        assert_eq!(kicks.handled.get(), 2);
        assert!(!kicks.requested.get(), "the next call can enter the guest");
        state.begin();
        assert_eq!(taken(&state, &kicks), None, "what was due is over with the call");
    }
}

#[test]
fn no_sample_is_due_outside_of_a_call_or_in_one_that_ends() {
    let (state, kicks) = state();
    state.take_out(Reason::Sample, &kicks);
    let call = state.begin();
    assert_eq!(taken(&state, &kicks), None);
    state.interrupt(call, Interruption::Killed, &kicks);
    state.take_out(Reason::Sample, &kicks);
    assert_eq!(taken(&state, &kicks), None);
    assert_eq!(kicks.signals.get(), 1);
    assert!(kicks.requested.get(), "the kill's request stands");
}

#[test]
fn taking_a_sample_hides_no_kill() {
    let (state, kicks) = state();
    let call = state.begin();
    state.take_out(Reason::Sample, &kicks);
    state.interrupt(call, Interruption::Killed, &kicks);
    assert_eq!(taken(&state, &kicks), Some(Phase::Guest));
    assert_eq!(state.check(), Err(Interruption::Killed));
    assert_eq!(state.finish(&kicks), Err(Interruption::Killed));
}

#[test]
fn a_child_enters_a_host_function_of_a_call_out_of_whose_guest_it_was_taken_when_it_was_forked() {
    struct Forked<'a>(&'a CallState<FutexWord>, Cell<Option<Result<(), Interruption>>>);

    impl Kick for Forked<'_> {
        fn request(&self) {}

        fn clear(&self) {}

        fn signal(&self) -> Sent {
            assert!(self.0.is_kicked());
            self.0.forget_kick();
            self.1.set(Some(self.0.enter(Phase::Host, self)));
            Sent::Yes
        }

        fn handle_pending(&self) {}
    }

    let (state, _) = state();
    state.begin();
    let forked = Forked(&state, Cell::default());
    state.take_out(Reason::Sample, &forked);
    assert_eq!(forked.1.get(), Some(Ok(())));
}

#[test]
fn who_comes_while_another_takes_the_thread_out_leaves_his_signal_to_that_one() {
    /// While its first signal is sent, somebody else comes.
    struct Meanwhile<'a>(&'a CallState<FutexWord>, Kicks);

    impl Kick for Meanwhile<'_> {
        fn request(&self) {
            self.1.request();
        }

        fn clear(&self) {
            self.1.clear();
        }

        fn signal(&self) -> Sent {
            if self.1.signals.get() == 0 {
                self.0.take_out(Reason::BreakIn, &Kicks::default());
                assert!(self.0.is_kicked());
            }
            self.1.signal()
        }

        fn handle_pending(&self) {
            self.1.handle_pending();
        }
    }

    let (state, kicks) = state();
    state.begin();
    let kicks = Meanwhile(&state, kicks);
    state.take_out(Reason::Sample, &kicks);
    assert!(!state.is_kicked());
    assert_eq!(kicks.1.signals.get(), 2);
    assert!(state.is_roused());
    state.take_due(&kicks, |phase| assert_eq!(phase, Phase::Guest));
    assert!(!state.is_roused());
    assert_eq!(state.finish(&kicks), Ok(()));
}

#[test]
fn a_break_in_ends_a_sleep_and_a_sample_does_not() {
    let (state, kicks) = state();
    state.begin();
    state.enter(Phase::Asleep, &kicks).unwrap();
    state.take_out(Reason::Sample, &kicks);
    assert!(!state.is_roused());
    state.take_out(Reason::BreakIn, &kicks);
    assert!(state.is_roused());
    state.wait(Moment::NEVER);
    assert_eq!((kicks.signals.get(), kicks.requested.get()), (0, false));
    state.leave(&kicks).unwrap();
    assert!(kicks.requested.get());
    assert_eq!(taken(&state, &kicks), Some(Phase::Asleep));
    assert_eq!(state.finish(&kicks), Ok(()));
}

#[test]
fn no_sample_falls_due_while_one_is_taken() {
    let (state, kicks) = state();
    state.begin();
    state.take_out(Reason::Sample, &kicks);
    state.take_due(&kicks, |_| state.take_out(Reason::Sample, &kicks));
    assert_eq!(taken(&state, &kicks), None);
    assert!(!kicks.requested.get(), "the guest gets its turn");
}
