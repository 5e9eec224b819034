use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::fault::EndlessWait;

#[test]
fn clocks_are_the_hosts() {
    let mut guest = Guest::new();
    let host = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let is_today = |seconds: u64| seconds.abs_diff(host) < 86_400;
    assert_eq!(guest.ok(nr::CLOCK_GETTIME, [libc::CLOCK_REALTIME as u64, DATA]), 0);
    assert!(is_today(guest.word(DATA)) && guest.word(DATA + 8) < 1_000_000_000);
    assert_eq!(guest.ok(nr::GETTIMEOFDAY, [DATA, DATA + 16]), 0);
    assert!(is_today(guest.word(DATA)) && guest.word(DATA + 8) < 1_000_000);
    assert!(is_today(guest.ok(nr::TIME, [DATA])) && is_today(guest.word(DATA)));
    assert_eq!(guest.word(DATA + 16), 0);
}

#[test]
fn monotonic_clocks_do_not_go_back() {
    let mut guest = Guest::new();
    for clock in [
        libc::CLOCK_MONOTONIC,
        libc::CLOCK_MONOTONIC_RAW,
        libc::CLOCK_MONOTONIC_COARSE,
        libc::CLOCK_BOOTTIME,
        libc::CLOCK_PROCESS_CPUTIME_ID,
        libc::CLOCK_THREAD_CPUTIME_ID,
    ] {
        let mut read = || {
            guest.ok(nr::CLOCK_GETTIME, [clock as u64, DATA]);
            (guest.word(DATA), guest.word(DATA + 8))
        };
        assert!(read() <= read(), "clock {clock}");
    }
}

#[test]
fn time_between_two_calls_of_the_host_is_no_processor_time() {
    let mut guest = Guest::new();
    let processor = |guest: &mut Guest| {
        guest.ok(nr::CLOCK_GETTIME, [libc::CLOCK_PROCESS_CPUTIME_ID as u64, DATA]);
        Duration::new(guest.word(DATA), guest.word(DATA + 8) as u32)
    };
    let whole = Instant::now();
    let before = processor(&mut guest);
    let mut idle = Duration::ZERO;
    for _ in 0..2 {
        guest.process.rests();
        let begun = Instant::now();
        std::thread::sleep(Duration::from_millis(20));
        idle += begun.elapsed();
        guest.process.resume(&guest.space);
    }
    let used = processor(&mut guest) - before;
    let whole = whole.elapsed();
    // The two clocks of the host do not go at quite the same pace.
    assert!(used <= whole - idle + Duration::from_millis(1), "{used:?} of {whole:?}, of which {idle:?} were idle");
}

#[test]
fn clocks_that_do_not_exist_and_bad_places_are_refused() {
    let mut guest = Guest::new();
    for number in [nr::CLOCK_GETTIME, nr::CLOCK_GETRES, nr::CLOCK_NANOSLEEP] {
        assert_eq!(guest.errno(number, [99, DATA, DATA]), libc::EINVAL);
    }
    assert_eq!(guest.errno(nr::CLOCK_GETTIME, [0, READ_ONLY]), libc::EFAULT);
    assert_eq!(guest.errno(nr::CLOCK_SETTIME, [0, DATA]), libc::EPERM);
    assert_eq!(guest.ok(nr::CLOCK_GETRES, [0, 0]), 0);
    assert_eq!(guest.ok(nr::CLOCK_GETRES, [1, DATA]), 0);
    assert_eq!((guest.word(DATA), guest.word(DATA + 8)), (0, 1));
}

#[test]
fn sleeping_is_left_to_the_run_loop() {
    let mut guest = Guest::new();
    let request = guest.put_words(DATA, &[2, 500]);
    let sleep = Outcome::Sleep { duration: Duration::new(2, 500), result: 0 };
    assert_eq!(guest.call(nr::NANOSLEEP, [request, 0]), sleep);
    assert_eq!(guest.call(nr::CLOCK_NANOSLEEP, [libc::CLOCK_MONOTONIC as u64, 0, request]), sleep);
    let past = guest.put_words(DATA, &[0, 1]);
    let absolute = libc::TIMER_ABSTIME as u64;
    assert_eq!(guest.call(nr::CLOCK_NANOSLEEP, [0, absolute, past]), Outcome::Return(0));
    let forever = guest.put_words(DATA, &[i64::MAX as u64, 999_999_999]);
    let Outcome::Sleep { duration, .. } = guest.call(nr::NANOSLEEP, [forever, 0]) else { panic!("does not sleep") };
    assert_eq!(duration.as_secs(), i64::MAX as u64);
    for request in [[0, 1_000_000_000], [u64::MAX, 0], [0, u64::MAX]] {
        let request = guest.put_words(DATA, &request);
        assert_eq!(guest.errno(nr::NANOSLEEP, [request, 0]), libc::EINVAL);
    }
    assert_eq!(guest.errno(nr::NANOSLEEP, [UNMAPPED, 0]), libc::EFAULT);
}

#[test]
fn waiting_on_a_futex_is_a_deadlock_unless_it_times_out() {
    let mut guest = Guest::new();
    let word = guest.put_words(DATA, &[7]);
    let private = libc::FUTEX_PRIVATE_FLAG as u64;
    let wait = libc::FUTEX_WAIT as u64 | private;
    assert_eq!(guest.call(nr::FUTEX, [word, wait, 7, 0]), Outcome::Deadlock(EndlessWait::Lock));
    assert_eq!(guest.errno(nr::FUTEX, [word, wait, 8, 0]), libc::EAGAIN);
    assert_eq!(guest.errno(nr::FUTEX, [word + 1, wait, 7, 0]), libc::EINVAL);
    assert_eq!(guest.errno(nr::FUTEX, [UNMAPPED, wait, 7, 0]), libc::EFAULT);
    assert_eq!(guest.ok(nr::FUTEX, [word, libc::FUTEX_WAKE as u64 | private, 1]), 0);
    let timeout = guest.put_words(DATA + 64, &[1, 0]);
    let timed_out = -i64::from(libc::ETIMEDOUT) as u64;
    let sleep = Outcome::Sleep { duration: Duration::from_secs(1), result: timed_out };
    assert_eq!(guest.call(nr::FUTEX, [word, wait, 7, timeout]), sleep);
    let wait_until = libc::FUTEX_WAIT_BITSET as u64 | private;
    assert_eq!(guest.errno(nr::FUTEX, [word, wait_until, 7, timeout, 0, 0]), libc::EINVAL);
    let past = guest.put_words(DATA + 64, &[0, 0]);
    assert_eq!(guest.errno(nr::FUTEX, [word, wait_until, 7, past, 0, u64::MAX]), libc::ETIMEDOUT);
    assert_eq!(guest.errno(nr::FUTEX, [word, 77, 7, 0]), libc::ENOSYS);
}

#[test]
fn processor_time_starts_with_the_process() {
    let mut guest = Guest::new();
    assert_eq!(guest.ok(nr::GETRUSAGE, [0, DATA]), 0);
    let used = guest.word(DATA);
    guest.ok(nr::CLOCK_GETTIME, [libc::CLOCK_BOOTTIME as u64, DATA]);
    assert!(used < guest.word(DATA));
    assert_eq!(guest.errno(nr::GETRUSAGE, [5, DATA]), libc::EINVAL);
    guest.ok(nr::TIMES, [DATA]);
    assert_eq!(guest.word(DATA + 8), 0);
}

#[test]
fn random_bytes_come_in_bounded_amounts() {
    let mut guest = Guest::new();
    assert_eq!(guest.ok(nr::GETRANDOM, [DATA, 64, 0]), 64);
    assert_ne!(guest.bytes(DATA), [0; 64]);
    assert_eq!(guest.bytes(DATA + 64), [0; 64]);
    assert_eq!(guest.ok(nr::GETRANDOM, [DATA, 2 * PAGE, 0]), PAGE);
    let large = guest.ok(nr::MMAP, [0, 1 << 17, 3, 0x22, u64::MAX, 0]);
    assert_eq!(guest.ok(nr::GETRANDOM, [large, u64::MAX, 0]), super::super::random::MAX_RANDOM);
    assert_eq!(guest.errno(nr::GETRANDOM, [READ_ONLY, 1, 0]), libc::EFAULT);
    assert_eq!(guest.errno(nr::GETRANDOM, [DATA, 1, 8]), libc::EINVAL);
    assert_eq!(guest.errno(nr::GETRANDOM, [DATA, 1, 6]), libc::EINVAL);
    assert_eq!(guest.ok(nr::GETRANDOM, [0, 0, 0]), 0);
}

#[test]
fn no_wait_takes_the_hosts_time_where_the_clock_is_not_the_hosts() {
    let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    for (clock, passes) in [(Clock::Frozen(day), 0), (Clock::Virtual(day), 1)] {
        let mut guest = Guest::with_clock(clock);
        let second = guest.put_words(DATA, &[1, 0]);
        let timed_out = -i64::from(libc::ETIMEDOUT) as u64;
        let again = -i64::from(libc::EAGAIN) as u64;
        let signals = guest.put_words(DATA + 32, &[0]);
        let waits: [(u64, [u64; 6], u64); 8] = [
            (nr::NANOSLEEP, [second, 0, 0, 0, 0, 0], 0),
            (nr::CLOCK_NANOSLEEP, [0, 0, second, 0, 0, 0], 0),
            (nr::POLL, [0, 0, 1000, 0, 0, 0], 0),
            (nr::PPOLL, [0, 0, second, 0, 0, 0], 0),
            (nr::SELECT, [0, 0, 0, 0, DATA + 64, 0], 0),
            (nr::PSELECT6, [0, 0, 0, 0, DATA + 64, 0], 0),
            (nr::FUTEX, [signals, libc::FUTEX_WAIT as u64, 0, second, 0, 0], timed_out),
            (nr::RT_SIGTIMEDWAIT, [signals, 0, second, 8, 0, 0], again),
        ];
        for (passed, (number, arguments, result)) in (1..).zip(waits) {
            guest.put_words(DATA + 64, &[1, 0]);
            assert_eq!(guest.call(number, arguments), Outcome::Return(result), "{number}");
            assert_eq!(guest.ok(nr::TIME, [0]), 86_400 + passes * passed, "{number}");
            guest.ok(nr::CLOCK_GETTIME, [libc::CLOCK_MONOTONIC as u64, DATA + 96]);
            assert_eq!((guest.word(DATA + 96), guest.word(DATA + 104)), (1 + passes * passed, 0));
        }
        let deadline = guest.put_words(DATA, &[86_500, 0]);
        assert_eq!(guest.call(nr::CLOCK_NANOSLEEP, [0, libc::TIMER_ABSTIME as u64, deadline]), Outcome::Return(0));
        assert_eq!(guest.ok(nr::TIME, [0]), if passes == 0 { 86_400 } else { 86_500 });
        assert_eq!(guest.ok(nr::TIMES, [0]), 100 * if passes == 0 { 1 } else { 101 });
    }
}

#[test]
fn a_wait_is_no_processor_time() {
    let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    for clock in [Clock::Virtual(day), Clock::Frozen(day), Clock::FrozenInCalls] {
        let mut guest = Guest::with_clock(clock);
        for timer in [libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
            let second = guest.put_words(DATA, &[0, 0, 1, 0]);
            assert_eq!(guest.ok(nr::SETITIMER, [timer as u64, second, 0]), 0);
        }
        let request = guest.put_words(DATA, &[5, 0]);
        assert_eq!(guest.ok(nr::NANOSLEEP, [request, 0]), 0);
        assert_eq!(processor_times(&mut guest), [Duration::ZERO; 3]);
        for timer in [libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
            guest.ok(nr::GETITIMER, [timer as u64, DATA]);
            assert_eq!([guest.word(DATA + 16), guest.word(DATA + 24)], [1, 0]);
        }
        assert!(!guest.process.has_signal());
    }
}

#[test]
fn a_wait_for_the_hosts_time_is_no_processor_time() {
    let mut guest = Guest::new();
    let length = Duration::from_millis(20);
    guest.printed.input.extend([Taken::NotYet, Taken::Bytes(1)]);
    let request = guest.put_words(DATA, &[0, length.as_nanos() as u64]);
    assert_eq!(guest.call(nr::NANOSLEEP, [request, 0]), Outcome::Sleep { duration: length, result: 0 });
    std::thread::sleep(length);
    // Whoever looks while it waits does not find that it has run either.
    let elapsed = guest.process.clocks.now_of_timers();
    assert!(elapsed.processor + length <= elapsed.time);
    guest.process.slept();
    assert_eq!(guest.call(nr::READ, [0, DATA, 1]), Outcome::AwaitInput);
    std::thread::sleep(length);
    let suspended = guest.process.suspended();
    assert_eq!(guest.ok(nr::READ, [0, DATA, 1]), 1);
    for process in [guest.process.clone(), suspended] {
        guest.process = process;
        let used = processor_times(&mut guest);
        let now = guest.process.clocks.now_of_timers().time;
        assert!(used.iter().all(|used| *used + 2 * length <= now), "{used:?} of {now:?}");
    }
}

/// The processor time by each way to ask for it.
fn processor_times(guest: &mut Guest) -> [Duration; 3] {
    guest.ok(nr::CLOCK_GETTIME, [libc::CLOCK_PROCESS_CPUTIME_ID as u64, DATA]);
    let by_clock = Duration::new(guest.word(DATA), guest.word(DATA + 8) as u32);
    guest.ok(nr::GETRUSAGE, [libc::RUSAGE_SELF as u64, DATA]);
    let by_usage = Duration::from_secs(guest.word(DATA)) + Duration::from_micros(guest.word(DATA + 8));
    guest.ok(nr::TIMES, [DATA]);
    [by_clock, by_usage, Duration::from_millis(10 * guest.word(DATA))]
}
