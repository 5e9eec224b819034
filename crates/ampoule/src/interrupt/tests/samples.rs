//! Samples: the guest is taken out of its run, again and again, and nothing else is.

use std::time::{Duration, Instant};

use super::guest::{Guest, NO_LIMITS, Step, meanwhile, wait_until};
use super::process::in_own_process;
use crate::interrupt::{InterruptSignal, Interruption, KillOutcome, Phase, TimeLimits, Unsampled};

const PERIOD: Duration = Duration::from_millis(1);

#[test]
fn a_guest_that_spins_is_sampled_again_and_again() {
    let mut guest = Guest::new();
    guest.interruptor.sample_every(PERIOD).unwrap();
    assert_eq!(guest.call(NO_LIMITS, &mut [Step::SpinUntilSampled(20)]), Ok(()));
    assert_eq!(guest.samples[..20], [Phase::Guest; 20]);
}

#[test]
fn a_call_that_is_not_sampled_any_more_is_left_alone() {
    let mut guest = Guest::new();
    guest.interruptor.sample_every(PERIOD).unwrap();
    assert_eq!(guest.call(NO_LIMITS, &mut [Step::SpinUntilSampled(1)]), Ok(()));
    guest.interruptor.stop_samples();
    let (runs, samples) = (guest.runs(), guest.samples.len());
    let limits = TimeLimits { deadline: Some(Duration::from_millis(50)), cpu_time: None };
    assert_eq!(guest.call(limits, &mut [Step::Spin]), Err(Interruption::Deadline));
    assert_eq!(guest.samples.len(), samples);
    // One for the spinning that is ended.
    assert!(guest.runs() - runs <= 2);
}

#[test]
fn the_signal_hits_neither_a_host_function_nor_what_the_application_does_next() {
    let mut guest = Guest::new();
    guest.interruptor.sample_every(PERIOD).unwrap();
    for round in 1..=10 {
        let steps = &mut [Step::SpinUntilSampled(2 * round), Step::Host(&mut wait), Step::SpinUntilSampled(3 * round)];
        assert_eq!(guest.call(NO_LIMITS, steps), Ok(()));
        wait();
    }
    assert!(guest.samples.contains(&Phase::Host), "what falls due in a host function is sampled behind it");
}

/// Waits for a moment, in a way that every signal ends: it is not restarted.
fn wait() {
    // SAFETY: there are no descriptors to write to.
    let ready = unsafe { libc::poll(std::ptr::null_mut(), 0, 10) };
    assert_eq!(ready, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_sleep_lasts_as_long_as_it_is_to() {
    let mut guest = Guest::new();
    guest.interruptor.sample_every(PERIOD).unwrap();
    let begun = Instant::now();
    let nap = Duration::from_millis(50);
    assert_eq!(guest.call(NO_LIMITS, &mut [Step::SpinUntilSampled(3), Step::Sleep(nap)]), Ok(()));
    assert!(begun.elapsed() >= nap);
    assert!(guest.samples.contains(&Phase::Asleep), "{:?}", guest.samples);
}

#[test]
fn a_call_that_is_sampled_can_be_killed_and_has_its_limits() {
    let mut guest = Guest::new();
    guest.interruptor.sample_every(Duration::from_micros(100)).unwrap();
    let killer = meanwhile(&guest, |handle| {
        wait_until(|| handle.is_running());
        handle.kill()
    });
    assert_eq!(guest.call(NO_LIMITS, &mut [Step::Spin]), Err(Interruption::Killed));
    assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
    let limits = TimeLimits { deadline: None, cpu_time: Some(Duration::from_millis(20)) };
    assert_eq!(guest.call(limits, &mut [Step::Spin]), Err(Interruption::CpuTime));
    assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
}

#[test]
fn without_the_signal_nothing_is_sampled() {
    in_own_process(module_path!(), "without_the_signal_nothing_is_sampled", || {
        InterruptSignal::None.install().unwrap();
        let mut guest = Guest::new();
        assert!(matches!(guest.interruptor.sample_every(PERIOD), Err(Unsampled::NoSignal)));
        assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
    });
}
