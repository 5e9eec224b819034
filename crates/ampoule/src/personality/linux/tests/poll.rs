use std::time::Duration;

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
    assert_eq!(found(&guest, 0), libc::POLLIN | libc::POLLHUP);
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
