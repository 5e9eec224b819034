use std::time::{Duration, SystemTime};

use linux_raw_sys::ioctl::FIONREAD;

use super::*;
use crate::fault::EndlessWait;
use crate::personality::linux::descriptors::OPEN_MAX;

/// Rust's standard library polls the three streams before `main`.
#[test]
fn poll_finds_the_streams_ready() {
    let mut guest = Guest::new();
    let entry = |number: i32, events: i16| (number as u32 as u64) | (events as u64) << 32;
    let entries = guest.put_words(DATA, &[entry(0, libc::POLLIN), entry(1, libc::POLLOUT), entry(2, 0)]);
    assert_eq!(guest.ok(nr::POLL, [entries, 3, 0]), 2);
    let found = |guest: &Guest, index: u64| i16::from_le_bytes(guest.bytes(DATA + 8 * index + 6));
    assert_eq!(found(&guest, 0), libc::POLLHUP);
    assert_eq!(found(&guest, 1), libc::POLLOUT);
    assert_eq!(found(&guest, 2), 0);
    guest.ok(nr::CLOSE, [2]);
    assert_eq!(guest.ok(nr::POLL, [DATA + 16, 1, u64::MAX]), 1);
    assert_eq!(found(&guest, 2), libc::POLLNVAL);
    assert_eq!(guest.errno(nr::POLL, [entries, OPEN_MAX as u64 + 1, 0]), libc::EINVAL);
    assert_eq!(guest.errno(nr::POLL, [UNMAPPED, 1, 0]), libc::EFAULT);
}

#[test]
fn polling_for_nothing_is_sleeping() {
    let mut guest = Guest::new();
    let duration = Duration::from_millis(20);
    assert_eq!(guest.call(nr::POLL, [0, 0, 20]), Outcome::Sleep { duration, result: 0 });
    assert_eq!(guest.call(nr::POLL, [0, 0, 0]), Outcome::Return(0));
    assert_eq!(guest.call(nr::POLL, [0, 0, -1_i64 as u64]), Outcome::Deadlock(EndlessWait::Files));
    let timeout = guest.put_words(DATA, &[0, 20_000_000]);
    assert_eq!(guest.call(nr::PPOLL, [0, 0, timeout]), Outcome::Sleep { duration, result: 0 });
    assert_eq!(guest.call(nr::PPOLL, [0, 0, 0]), Outcome::Deadlock(EndlessWait::Files));
}

#[test]
fn devices_are_ready() {
    let mut guest = Guest::new();
    guest.put(DATA, b"/dev/random\0");
    let file = guest.ok(nr::OPEN, [DATA]);
    let wanted = libc::POLLIN | libc::POLLOUT | libc::POLLPRI;
    let entry = guest.put_words(DATA, &[file | (wanted as u64) << 32]);
    assert_eq!(guest.ok(nr::POLL, [entry, 1, u64::MAX]), 1);
    assert_eq!(i16::from_le_bytes(guest.bytes(entry + 6)), libc::POLLIN | libc::POLLOUT);
}

#[test]
fn select_is_poll_with_sets() {
    let mut guest = Guest::new();
    guest.put(DATA, b"/dev/null\0");
    assert_eq!(guest.ok(nr::OPEN, [DATA]), 3);
    let (readable, writable, exceptional) = (DATA, DATA + 8, DATA + 16);
    guest.put_words(DATA, &[0b1111, 0b1111, 0b1111]);
    assert_eq!(guest.ok(nr::SELECT, [64, readable, writable, exceptional, 0]), 5);
    assert_eq!((guest.word(readable), guest.word(writable), guest.word(exceptional)), (0b1001, 0b1110, 0));

    // What is not among the first descriptors does not count, and a set of which there is none is not looked at.
    guest.put_words(DATA, &[0b110, u64::MAX]);
    let at_once = guest.put_words(DATA + 32, &[0, 0]);
    assert_eq!(guest.ok(nr::SELECT, [1, readable, 0, 0, at_once]), 0);
    assert_eq!((guest.word(readable), guest.word(writable)), (0, u64::MAX));
    assert_eq!(guest.ok(nr::SELECT, [1, 0, writable, 0, at_once]), 0);
    assert_eq!(guest.word(writable), 0);

    guest.put_words(DATA, &[0b1_0000]);
    assert_eq!(guest.errno(nr::SELECT, [64, readable, 0, 0, 0]), libc::EBADF);
    assert_eq!(guest.errno(nr::SELECT, [64, UNMAPPED, 0, 0, 0]), libc::EFAULT);
    assert_eq!(guest.errno(nr::SELECT, [u64::MAX, 0, 0, 0, 0]), libc::EINVAL);

    let last = OPEN_MAX as u64 - 1;
    guest.ok(nr::DUP2, [3, last]);
    guest.put_words(DATA, &[0; 32]);
    guest.put_words(DATA, &[0b1000]);
    guest.put_words(DATA + 120, &[1 << 63]);
    assert_eq!(guest.ok(nr::SELECT, [u64::from(u16::MAX), DATA, 0, 0, 0]), 2);
    assert_eq!((guest.word(DATA), guest.word(DATA + 120)), (0b1000, 1 << 63));
}

#[test]
fn selecting_nothing_is_sleeping() {
    let mut guest = Guest::new();
    let sleep = |millis| Outcome::Sleep { duration: Duration::from_millis(millis), result: 0 };
    let time = guest.put_words(DATA, &[1, 20_000]);
    assert_eq!(guest.call(nr::SELECT, [0, 0, 0, 0, time]), sleep(1020));
    assert_eq!((guest.word(time), guest.word(time + 8)), (0, 0), "none of it is left");
    assert_eq!(guest.call(nr::SELECT, [0, 0, 0, 0, time]), Outcome::Return(0));
    guest.put_words(time, &[0, 20_000_000]);
    assert_eq!(guest.call(nr::PSELECT6, [0, 0, 0, 0, time, 0]), sleep(20));
    guest.put_words(time, &[0, 5_000_000]);
    assert_eq!(guest.call(nr::SELECT, [0, 0, 0, 0, time]), sleep(5000), "more microseconds than a second has");
    assert_eq!(guest.call(nr::SELECT, [0, 0, 0, 0, 0]), Outcome::Deadlock(EndlessWait::Files));
    // Standard output never becomes readable.
    let readable = guest.put_words(DATA + 32, &[0b10]);
    guest.put_words(time, &[0, 1000]);
    assert_eq!(guest.call(nr::SELECT, [2, readable, 0, 0, time]), sleep(1));
    assert_eq!(guest.word(readable), 0);
    for bad in [[u64::MAX, 0], [0, u64::MAX]] {
        guest.put_words(time, &bad);
        assert_eq!(guest.errno(nr::SELECT, [0, 0, 0, 0, time]), libc::EINVAL);
        assert_eq!(guest.errno(nr::PSELECT6, [0, 0, 0, 0, time, 0]), libc::EINVAL);
    }
    let mask = guest.put_words(DATA + 64, &[DATA, 4]);
    assert_eq!(guest.errno(nr::PSELECT6, [0, 0, 0, 0, 0, mask]), libc::EINVAL);
}

fn entry(number: u64, events: i16) -> u64 {
    number | (events as u16 as u64) << 32
}

#[test]
fn poll_finds_what_standard_input_has() {
    let mut guest = Guest::new();
    let wanted = libc::POLLIN | libc::POLLOUT | libc::POLLPRI;
    for (held, expected) in [(Taken::NotYet, 0), (Taken::Bytes(3), libc::POLLIN), (Taken::Bytes(0), libc::POLLHUP)] {
        guest.printed.input = [held].into();
        let at = guest.put_words(DATA, &[entry(0, wanted)]);
        assert_eq!(guest.ok(nr::POLL, [at, 1, 0]), u64::from(expected != 0), "{held:?}");
        assert_eq!(i16::from_le_bytes(guest.bytes(at + 6)), expected, "{held:?}");
        let bytes = if let Taken::Bytes(count) = held { count as u32 } else { 0 };
        guest.ok(nr::IOCTL, [0, FIONREAD.into(), DATA]);
        assert_eq!(guest.half(DATA), bytes, "{held:?}");
    }
}

#[test]
fn a_wait_for_standard_input_is_one_that_the_host_can_end() {
    let mut guest = Guest::new();
    guest.printed.input = [Taken::NotYet].into();
    let instance = guest.ok(nr::EPOLL_CREATE1, [0]);
    guest.put_words(DATA, &[u64::from(libc::EPOLLIN as u32), 0]);
    guest.ok(nr::EPOLL_CTL, [instance, libc::EPOLL_CTL_ADD as u64, 0, DATA]);
    for timeout in [u64::MAX, 60_000] {
        let at = guest.put_words(DATA, &[entry(0, libc::POLLIN)]);
        assert_eq!(guest.call(nr::POLL, [at, 1, timeout]), Outcome::AwaitInput);
        assert_eq!(guest.process.wait_limit().is_some(), timeout != u64::MAX);
        guest.printed.input = [Taken::Bytes(1)].into();
        assert_eq!(guest.call(nr::POLL, [at, 1, timeout]), Outcome::Return(1));
        guest.printed.input = [Taken::NotYet].into();
        assert_eq!(guest.call(nr::EPOLL_WAIT, [instance, DATA, 5, timeout]), Outcome::AwaitInput);
        // By way of the instance.
        let at = guest.put_words(DATA, &[entry(instance, libc::POLLIN)]);
        assert_eq!(guest.call(nr::POLL, [at, 1, timeout]), Outcome::AwaitInput);
    }
    guest.put_words(DATA, &[1]);
    assert_eq!(guest.call(nr::SELECT, [1, DATA, 0, 0, 0]), Outcome::AwaitInput);
    // Nobody waits for it who waits only for room to write.
    guest.put_words(DATA, &[1]);
    assert_eq!(guest.call(nr::SELECT, [1, 0, DATA, 0, 0]), Outcome::Deadlock(EndlessWait::Files));
    // Another file is ready.
    let at = guest.put_words(DATA, &[entry(0, libc::POLLIN), entry(1, libc::POLLOUT)]);
    assert_eq!(guest.call(nr::POLL, [at, 2, u64::MAX]), Outcome::Return(1));
}

#[test]
fn a_wait_for_standard_input_on_a_clock_that_stands_takes_no_time() {
    let mut guest = Guest::with_clock(Clock::Virtual(SystemTime::UNIX_EPOCH));
    guest.printed.input = [Taken::NotYet].into();
    let at = guest.put_words(DATA, &[entry(0, libc::POLLIN)]);
    assert_eq!(guest.call(nr::POLL, [at, 1, 60_000]), Outcome::Return(0));
    assert_eq!(guest.call(nr::POLL, [at, 1, u64::MAX]), Outcome::AwaitInput);
}

/// What is triggered by the edge is news once, and again when more comes.
#[test]
fn more_input_is_news_to_epoll() {
    let mut guest = Guest::new();
    guest.printed.input = [Taken::NotYet].into();
    let instance = guest.ok(nr::EPOLL_CREATE1, [0]);
    guest.put_words(DATA, &[u64::from((libc::EPOLLIN | libc::EPOLLET) as u32), 0]);
    guest.ok(nr::EPOLL_CTL, [instance, libc::EPOLL_CTL_ADD as u64, 0, DATA]);
    for (held, found) in [
        (Taken::NotYet, 0),
        (Taken::Bytes(3), 1),
        (Taken::Bytes(3), 0),
        (Taken::Bytes(4), 1),
        (Taken::Bytes(4), 0),
        (Taken::Bytes(0), 1),
        (Taken::Bytes(0), 0),
    ] {
        guest.printed.input = [held].into();
        assert_eq!(guest.ok(nr::EPOLL_WAIT, [instance, DATA, 5, 0]), found, "{held:?}");
    }
    guest.printed.input = [Taken::Bytes(4)].into();
    guest.ok(nr::EPOLL_WAIT, [instance, DATA, 5, 0]);
    guest.ok(nr::READ, [0, DATA, 4]);
    guest.printed.input = [Taken::Bytes(4)].into();
    assert_eq!(guest.ok(nr::EPOLL_WAIT, [instance, DATA, 5, 0]), 1);
}
