//! Pipes, event counters, pairs of sockets and `epoll`, compared with those of the host's kernel.

use std::time::Duration;

use super::*;
use crate::fault::EndlessWait;
use crate::personality::linux::descriptors::OPEN_MAX;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 256 } else { 4096 }))]

    /// Whatever a program does with them, it finds what it would find on Linux.
    #[test]
    fn they_behave_as_the_kernels_do(steps in prop::collection::vec(step(), 1..80)) {
        let mut both = Both::new();
        for (index, step) in steps.iter().enumerate() {
            let [guest, host] = both.perform(*step);
            prop_assert_eq!(guest, host, "step {} of {:?}", index, &steps[..=index]);
        }
    }
}

#[test]
fn who_waits_for_what_only_it_can_do_waits_for_ever() {
    let mut guest = Guest::new();
    guest.ok(nr::PIPE, [DATA]);
    let (reader, writer) = (u64::from(guest.half(DATA)), u64::from(guest.half(DATA + 4)));
    let for_ever = Outcome::Deadlock(EndlessWait::Files);
    assert_eq!(guest.call(nr::READ, [reader, DATA, 1]), for_ever);
    let large = guest.ok(nr::MMAP, [0, 1 << 17, 3, 0x22, u64::MAX, 0]);
    assert_eq!(guest.ok(nr::WRITE, [writer, large, 1 << 17]), 1 << 16, "as much as one call transfers");
    assert_eq!(guest.call(nr::WRITE, [writer, large, 1]), for_ever);
    let counter = guest.ok(nr::EVENTFD2, [0, 0]);
    assert_eq!(guest.call(nr::READ, [counter, DATA, 8]), for_ever);
    let epoll = guest.ok(nr::EPOLL_CREATE1, [0]);
    assert_eq!(guest.call(nr::EPOLL_WAIT, [epoll, DATA, 1, u64::MAX]), for_ever);
    assert_eq!(guest.call(nr::EPOLL_PWAIT2, [epoll, DATA, 1, 0, 0, 8]), for_ever);
}

#[test]
fn a_wait_for_nothing_sleeps_for_its_time() {
    let mut guest = Guest::new();
    let epoll = guest.ok(nr::EPOLL_CREATE1, [0]);
    let sleep = Outcome::Sleep { duration: Duration::from_millis(20), result: 0 };
    assert_eq!(guest.call(nr::EPOLL_WAIT, [epoll, DATA, 1, 20]), sleep);
    assert_eq!(guest.call(nr::EPOLL_PWAIT, [epoll, DATA, 1, 20, 0, 8]), sleep);
    let time = guest.put_words(DATA, &[0, 20_000_000]);
    assert_eq!(guest.call(nr::EPOLL_PWAIT2, [epoll, DATA, 1, time, 0, 8]), sleep);
    assert_eq!(guest.ok(nr::EPOLL_WAIT, [epoll, DATA, 1, 0]), 0);
}

#[test]
fn writing_to_a_pipe_that_nobody_reads_is_a_signal_unless_it_is_ignored() {
    let mut guest = Guest::new();
    guest.ok(nr::PIPE, [DATA]);
    let (reader, writer) = (u64::from(guest.half(DATA)), u64::from(guest.half(DATA + 4)));
    guest.ok(nr::CLOSE, [reader]);
    assert_eq!(guest.ok(nr::WRITE, [writer, DATA, 0]), 0);
    let ended = Outcome::Abort { signal: libc::SIGPIPE };
    assert_eq!(guest.call(nr::WRITE, [writer, DATA, 1]), ended);
    ignore_broken_pipes(&mut guest);
    assert_eq!(guest.errno(nr::WRITE, [writer, DATA, 1]), libc::EPIPE);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut guest = Guest::new();
    assert_eq!(guest.errno(nr::PIPE2, [DATA, libc::O_DIRECT as u64]), libc::EINVAL);
    assert_eq!(guest.errno(nr::PIPE2, [READ_ONLY, 0]), libc::EFAULT);
    assert_eq!(guest.errno(nr::EVENTFD2, [0, 2]), libc::EINVAL);
    assert_eq!(guest.errno(nr::EPOLL_CREATE, [0]), libc::EINVAL);
    assert_eq!(guest.errno(nr::EPOLL_CREATE1, [1]), libc::EINVAL);
    let epoll = guest.ok(nr::EPOLL_CREATE, [1]);
    assert_eq!(epoll, 3, "what was refused has left nothing open");
    guest.put(DATA, b"/dev/null\0");
    let null = guest.ok(nr::OPEN, [DATA]);
    guest.put_words(DATA, &[0, 0]);
    let add = libc::EPOLL_CTL_ADD as u64;
    assert_eq!(guest.errno(nr::EPOLL_CTL, [epoll, add, null, DATA]), libc::EPERM);
    assert_eq!(guest.errno(nr::EPOLL_CTL, [epoll, add, epoll, DATA]), libc::EINVAL);
    assert_eq!(guest.errno(nr::EPOLL_CTL, [0, add, epoll, DATA]), libc::EINVAL);
    assert_eq!(guest.errno(nr::EPOLL_CTL, [epoll, add, 9, DATA]), libc::EBADF);
    assert_eq!(guest.errno(nr::EPOLL_CTL, [epoll, add, 0, UNMAPPED]), libc::EFAULT);
    assert_eq!(guest.errno(nr::EPOLL_CTL, [epoll, 7, 0, DATA]), libc::EINVAL);
    for most in [0, u64::MAX, i32::MAX as u64] {
        assert_eq!(guest.errno(nr::EPOLL_WAIT, [epoll, DATA, most, 0]), libc::EINVAL);
    }
    assert_eq!(guest.errno(nr::EPOLL_WAIT, [0, DATA, 1, 0]), libc::EINVAL);
    assert_eq!(guest.errno(nr::EPOLL_PWAIT, [epoll, DATA, 1, 0, DATA, 4]), libc::EINVAL);
    guest.ok(nr::EPOLL_CTL, [epoll, add, 0, DATA]);
    guest.put_words(DATA, &[u64::from(libc::EPOLLIN as u32), 0]);
    guest.ok(nr::EPOLL_CTL, [epoll, libc::EPOLL_CTL_MOD as u64, 0, DATA]);
    assert_eq!(guest.errno(nr::EPOLL_WAIT, [epoll, READ_ONLY, 1, 0]), libc::EFAULT);
    assert_eq!(guest.ok(nr::EPOLL_WAIT, [epoll, DATA, 1, 0]), 1, "an event that was not written is not lost");
}

#[test]
fn sockets_are_asked_and_told_as_on_linux() {
    let mut guest = Guest::new();
    let pair = [libc::AF_UNIX as u64, libc::SOCK_STREAM as u64, 0];
    assert_eq!(guest.errno(nr::SOCKETPAIR, [libc::AF_INET as u64, pair[1], 0, DATA]), libc::EAFNOSUPPORT);
    assert_eq!(guest.errno(nr::SOCKETPAIR, [pair[0], libc::SOCK_DGRAM as u64, 0, DATA]), libc::ESOCKTNOSUPPORT);
    assert_eq!(guest.errno(nr::SOCKETPAIR, [pair[0], pair[1], 7, DATA]), libc::EPROTONOSUPPORT);
    assert_eq!(guest.errno(nr::SOCKETPAIR, [pair[0], pair[1], 0, READ_ONLY]), libc::EFAULT);
    guest.ok(nr::SOCKETPAIR, [pair[0], pair[1], 0, DATA]);
    let (one, other) = (u64::from(guest.half(DATA)), u64::from(guest.half(DATA + 4)));
    assert_eq!((one, other), (3, 4), "what was refused has left nothing open");

    guest.put(DATA, b"some text");
    assert_eq!(guest.ok(nr::SENDTO, [one, DATA, 9, 0, 0, 0]), 9);
    assert_eq!(guest.errno(nr::SENDTO, [one, DATA, 9, 0, DATA, 2]), libc::EISCONN);
    let length = guest.put_words(DATA + 64, &[16]);
    assert_eq!(guest.ok(nr::RECVFROM, [other, DATA + 32, 4, libc::MSG_PEEK as u64, DATA + 96, length]), 4);
    assert_eq!((guest.bytes(DATA + 32), guest.half(length)), (*b"some", 0));
    let vector = guest.put_words(DATA + 128, &[DATA + 32, 5, DATA + 48, 100]);
    let message = guest.put_words(DATA + 192, &[0, 0, vector, 2, 0, 0, 0]);
    assert_eq!(guest.ok(nr::RECVMSG, [other, message, 0]), 9);
    assert_eq!((guest.bytes(DATA + 32), guest.bytes(DATA + 48)), (*b"some ", *b"text"));
    guest.put_words(DATA + 128, &[DATA + 32, 5, DATA + 48, 4]);
    guest.put_words(message, &[0, 0, vector, 2, 0, 0, 0]);
    assert_eq!(guest.ok(nr::SENDMSG, [other, message, 0]), 9);
    guest.put_words(message, &[0, 0, vector, 2, DATA, 16, 0]);
    assert_eq!(guest.errno(nr::SENDMSG, [other, message, 0]), libc::EINVAL, "what carries descriptors");
    let all = libc::MSG_WAITALL as u64;
    assert_eq!(guest.call(nr::RECVFROM, [one, DATA, 10, all, 0, 0]), Outcome::Deadlock(EndlessWait::Files));
    assert_eq!(guest.ok(nr::RECVFROM, [one, DATA, 9, all, 0, 0]), 9);
    assert_eq!(guest.errno(nr::RECVFROM, [one, DATA, 1, libc::MSG_DONTWAIT as u64, 0, 0]), libc::EAGAIN);
    assert_eq!(guest.call(nr::READ, [one, DATA, 1]), Outcome::Deadlock(EndlessWait::Files));

    let option = |guest: &mut Guest, option: i32| {
        let length = guest.put_words(DATA + 64, &[4]);
        guest.ok(nr::GETSOCKOPT, [one, libc::SOL_SOCKET as u64, option as u64, DATA, length]);
        guest.half(DATA) as i32
    };
    assert_eq!(option(&mut guest, libc::SO_TYPE), libc::SOCK_STREAM);
    assert_eq!(option(&mut guest, libc::SO_ERROR), 0);
    guest.ok(nr::WRITE, [one, DATA, 1]);
    guest.ok(nr::CLOSE, [other]);
    assert_eq!(option(&mut guest, libc::SO_ERROR), libc::ECONNRESET);
    assert_eq!(option(&mut guest, libc::SO_ERROR), 0);
    assert_eq!(guest.errno(nr::SENDTO, [one, DATA, 1, libc::MSG_NOSIGNAL as u64, 0, 0]), libc::EPIPE);
    let ended = Outcome::Abort { signal: libc::SIGPIPE };
    assert_eq!(guest.call(nr::WRITE, [one, DATA, 1]), ended);
    guest.put_words(DATA + 64, &[16]);
    guest.ok(nr::GETSOCKNAME, [one, DATA, DATA + 64]);
    assert_eq!((guest.bytes(DATA), guest.half(DATA + 64)), ((libc::AF_UNIX as u16).to_le_bytes(), 2));
    assert_eq!(guest.errno(nr::SHUTDOWN, [1, 0]), libc::ENOTSOCK);
    assert_eq!(guest.errno(nr::RECVFROM, [9, DATA, 1, 0, 0, 0]), libc::EBADF);
}

/// Linux counts what it takes to remember a write, so that a socket is full of single bytes sooner than of large writes. With
/// its usual settings it takes as many as here.
#[test]
fn a_socket_takes_so_many_small_writes_and_no_more() {
    let mut guest = Guest::new();
    let kind = (libc::SOCK_STREAM | libc::SOCK_NONBLOCK) as u64;
    guest.ok(nr::SOCKETPAIR, [libc::AF_UNIX as u64, kind, 0, DATA]);
    let (one, other) = (u64::from(guest.half(DATA)), u64::from(guest.half(DATA + 4)));
    for _ in 0..278 {
        assert_eq!(guest.ok(nr::WRITE, [one, DATA, 1]), 1);
    }
    let entry = guest.put_words(DATA, &[one | u64::from(libc::POLLOUT as u16) << 32]);
    assert_eq!(guest.errno(nr::WRITE, [one, DATA, 1]), libc::EAGAIN);
    assert_eq!(guest.ok(nr::POLL, [entry, 1, 0]), 0);
    assert_eq!(guest.ok(nr::READ, [other, DATA + 64, 1]), 1);
    assert_eq!(guest.ok(nr::POLL, [entry, 1, 0]), 1);
    assert_eq!(guest.ok(nr::WRITE, [one, DATA, 1]), 1);
    assert_eq!(guest.errno(nr::WRITE, [one, DATA, 1]), libc::EAGAIN);
}

#[test]
fn instances_that_wait_for_each_other_are_refused() {
    let mut guest = Guest::new();
    let instances: Vec<u64> = (0..7).map(|_| guest.ok(nr::EPOLL_CREATE1, [0])).collect();
    let add = libc::EPOLL_CTL_ADD as u64;
    for pair in instances[..5].windows(2) {
        guest.ok(nr::EPOLL_CTL, [pair[0], add, pair[1], DATA]);
    }
    assert_eq!(guest.errno(nr::EPOLL_CTL, [instances[4], add, instances[0], DATA]), libc::ELOOP);
    assert_eq!(guest.errno(nr::EPOLL_CTL, [instances[1], add, instances[0], DATA]), libc::ELOOP);
    assert_eq!(guest.errno(nr::EPOLL_CTL, [instances[4], add, instances[5], DATA]), libc::ELOOP, "too deep");
    assert_eq!(guest.errno(nr::EPOLL_CTL, [instances[6], add, instances[0], DATA]), libc::ELOOP, "too deep");
    guest.ok(nr::EPOLL_CTL, [instances[6], add, instances[1], DATA]);
}

/// Each instance of a layer waits for all of the next: there are a hundred thousand ways from the first to the last.
#[test]
fn many_ways_to_one_file_cost_no_more_than_one() {
    let mut guest = Guest::new();
    let counter = guest.ok(nr::EVENTFD2, [0, libc::EFD_NONBLOCK as u64]);
    let layers: Vec<Vec<u64>> = (0..5).map(|_| (0..11).map(|_| guest.ok(nr::EPOLL_CREATE1, [0])).collect()).collect();
    let event = guest.put(DATA, &[libc::EPOLLIN as u8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    let add = |guest: &mut Guest, own: u64, number: u64| {
        guest.ok(nr::EPOLL_CTL, [own, libc::EPOLL_CTL_ADD as u64, number, event]);
    };
    for pair in layers.windows(2) {
        pair[0].iter().for_each(|own| pair[1].iter().for_each(|number| add(&mut guest, *own, *number)));
    }
    layers[4].iter().for_each(|own| add(&mut guest, *own, counter));
    guest.put_words(DATA + 64, &[1]);
    for _ in 0..100 {
        guest.ok(nr::WRITE, [counter, DATA + 64, 8]);
        assert_eq!(guest.ok(nr::EPOLL_WAIT, [layers[0][0], DATA + 128, 20, 0]), 11);
        guest.ok(nr::READ, [counter, DATA + 128, 8]);
        assert_eq!(guest.ok(nr::EPOLL_WAIT, [layers[0][0], DATA + 128, 20, 0]), 0);
    }
}

/// Each instance waits for the next one by many numbers of it, but by all of them except the last for what never happens. So
/// it looks at the next one again and again, which is ready each time.
#[test]
fn many_ways_to_a_file_that_is_ready_cost_no_more_than_one() {
    let mut guest = Guest::new();
    let counter = guest.ok(nr::EVENTFD2, [1, 0]);
    let instances: Vec<u64> = (0..5).map(|_| guest.ok(nr::EPOLL_CREATE1, [0])).collect();
    let chain = [&[counter], instances.as_slice()].concat();
    let event = |guest: &mut Guest, events: i32| guest.put(DATA, &[events as u8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    // The five together have nearly as many watches as a process can have.
    let last = 199;
    for pair in chain.windows(2) {
        let (watched, own) = (pair[0], pair[1]);
        for number in 10..=last {
            guest.ok(nr::DUP2, [watched, number]);
            let operation = libc::EPOLL_CTL_ADD as u64;
            let event = event(&mut guest, libc::EPOLLIN);
            guest.ok(nr::EPOLL_CTL, [own, operation, number, event]);
        }
        let event = event(&mut guest, libc::EPOLLPRI);
        for number in 10..last {
            guest.ok(nr::EPOLL_CTL, [own, libc::EPOLL_CTL_MOD as u64, number, event]);
        }
    }
    let events = u64::from(libc::POLLIN as u16) << 32;
    let entry = guest.put_words(DATA, &[instances[4] | events]);
    assert_eq!(guest.ok(nr::POLL, [entry, 1, 0]), 1);
    assert_eq!(guest.ok(nr::EPOLL_WAIT, [instances[4], DATA + 64, 60, 0]), 1);
}

#[test]
fn what_pipes_hold_is_bounded() {
    let mut guest = Guest::new();
    let resize = |guest: &mut Guest, size: u64| {
        guest.ok(nr::PIPE, [DATA]);
        guest.call(nr::FCNTL, [guest.half(DATA).into(), libc::F_SETPIPE_SZ as u64, size])
    };
    let refused = Outcome::Return(-i64::from(libc::EPERM) as u64);
    assert_eq!(resize(&mut guest, (1 << 20) + 1), refused, "more than Linux allows a process without privileges");
    let grown = (0..100).take_while(|_| resize(&mut guest, 1 << 20) == Outcome::Return(1 << 20)).count();
    assert_eq!(grown, 63, "64 MiB for all pipes of a user");
    assert_eq!(resize(&mut guest, 1 << 20), refused);
    assert_eq!(resize(&mut guest, 1), Outcome::Return(4096), "they can become smaller");
}

#[test]
fn watches_are_bounded() {
    let mut guest = Guest::new();
    let files: Vec<u64> = (0..60).map(|_| guest.ok(nr::EPOLL_CREATE1, [0])).collect();
    let (instances, watched) = files.split_at(30);
    let last = OPEN_MAX as u64 - 1;
    let mut added = 0;
    // Each is watched by its own number, and by one that is then another's.
    for (own, other) in instances.iter().flat_map(|own| watched.iter().map(move |other| (*own, *other))) {
        guest.ok(nr::DUP2, [other, last]);
        for number in [other, last] {
            match guest.call(nr::EPOLL_CTL, [own, libc::EPOLL_CTL_ADD as u64, number, DATA]) {
                Outcome::Return(0) => added += 1,
                Outcome::Return(result) => {
                    assert_eq!((result as i64, added), (-i64::from(libc::ENOSPC), 1024));
                    return;
                }
                outcome => panic!("{outcome:?}"),
            }
        }
    }
    panic!("{added} watches");
}

#[test]
fn a_snapshot_holds_what_waits() {
    let mut guest = Guest::new();
    guest.ok(nr::PIPE, [DATA]);
    let (reader, writer) = (u64::from(guest.half(DATA)), u64::from(guest.half(DATA + 4)));
    guest.put(DATA, b"before");
    guest.ok(nr::WRITE, [writer, DATA, 6]);
    let snapshot = guest.process.suspended();
    guest.ok(nr::READ, [reader, DATA, 3]);
    guest.ok(nr::WRITE, [writer, DATA, 3]);
    guest.ok(nr::CLOSE, [writer]);
    guest.process.restore(&snapshot);
    assert_eq!(guest.ok(nr::READ, [reader, DATA + 64, 100]), 6);
    assert_eq!(guest.bytes(DATA + 64), *b"before");
    assert_eq!(
        guest.call(nr::READ, [reader, DATA, 1]),
        Outcome::Deadlock(EndlessWait::Files),
        "it can be written again"
    );
}

fn ignore_broken_pipes(guest: &mut Guest) {
    let action = guest.put_words(DATA + 1024, &[libc::SIG_IGN as u64, 0, 0, 0]);
    guest.ok(nr::RT_SIGACTION, [libc::SIGPIPE as u64, action, 0, 8]);
}

/// A step of a program; `of` and `by` are places in its list of open files.
#[derive(Clone, Copy, Debug)]
enum Step {
    Pipe,
    Counter { count: u32, is_semaphore: bool },
    Epoll,
    Sockets,
    Shutdown { of: usize, how: u64 },
    Duplicate { of: usize },
    Close { of: usize },
    Write { of: usize, len: usize },
    Add { of: usize, value: u64 },
    Read { of: usize, len: usize },
    Held { of: usize },
    Resize { of: usize, size: u64 },
    Capacity { of: usize },
    Control { by: usize, operation: i32, of: usize, events: u32 },
    Wait { by: usize, most: u64 },
    Poll { of: usize, events: i16 },
}

fn step() -> impl Strategy<Value = Step> {
    let file = || 0_usize..FILES;
    let len = || prop_oneof![0_usize..10, 4000_usize..4200, 0_usize..=65_536, Just(65_536), Just(4096)];
    let value = prop_oneof![0_u64..4, Just(u64::MAX), Just(u64::MAX - 1), Just(u64::MAX - 2)];
    let size = prop_oneof![0_u64..10, 4000_u64..20_000, 16_000_u64..300_000, Just(1 << 20), Just(1 << 32)];
    let event = [
        libc::EPOLLIN,
        libc::EPOLLOUT,
        libc::EPOLLRDNORM,
        libc::EPOLLRDHUP,
        libc::EPOLLET,
        libc::EPOLLET,
        libc::EPOLLONESHOT,
    ];
    let events = prop::sample::subsequence(event.to_vec(), 0..=event.len())
        .prop_map(|events| events.into_iter().fold(0, |all, event| all | event as u32));
    let operation =
        prop::sample::select(vec![libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_DEL]);
    let polled = prop::sample::select(vec![0, libc::POLLIN, libc::POLLOUT, libc::POLLIN | libc::POLLOUT]);
    prop_oneof![
        3 => Just(Step::Pipe),
        2 => (0_u32..3, any::<bool>()).prop_map(|(count, is_semaphore)| Step::Counter { count, is_semaphore }),
        2 => Just(Step::Epoll),
        2 => Just(Step::Sockets),
        1 => (file(), 0_u64..4).prop_map(|(of, how)| Step::Shutdown { of, how }),
        1 => file().prop_map(|of| Step::Duplicate { of }),
        2 => file().prop_map(|of| Step::Close { of }),
        8 => (file(), len()).prop_map(|(of, len)| Step::Write { of, len }),
        4 => (file(), value).prop_map(|(of, value)| Step::Add { of, value }),
        8 => (file(), len()).prop_map(|(of, len)| Step::Read { of, len }),
        1 => file().prop_map(|of| Step::Held { of }),
        2 => (file(), size).prop_map(|(of, size)| Step::Resize { of, size }),
        1 => file().prop_map(|of| Step::Capacity { of }),
        12 => (file(), operation, file(), events)
            .prop_map(|(by, operation, of, events)| Step::Control { by, operation, of, events }),
        10 => (file(), 1_u64..4).prop_map(|(by, most)| Step::Wait { by, most }),
        3 => (file(), polled).prop_map(|(of, events)| Step::Poll { of, events }),
    ]
}

/// What a step comes to: the result or the negated error number, and what was written to memory.
type Found = (i64, Vec<u8>);

/// A guest and this process, which do the same.
struct Both {
    guest: Guest,
    buffer: u64,
    /// The numbers that each has for what is open.
    files: Vec<[u64; 2]>,
    /// The guest's numbers of what is to be written to in small pieces.
    small: Vec<u64>,
}

impl Both {
    fn new() -> Self {
        let mut guest = Guest::new();
        ignore_broken_pipes(&mut guest);
        let buffer = guest.ok(nr::MMAP, [0, BUFFER as u64, 3, 0x22, u64::MAX, 0]);
        Self { guest, buffer, files: Vec::new(), small: Vec::new() }
    }

    fn perform(&mut self, step: Step) -> [Found; 2] {
        let number = |of: usize| self.files.get(of % self.files.len().max(1)).copied().unwrap_or([99, 99_999]);
        let nonblocking = libc::O_NONBLOCK as u64;
        let is_full = self.files.len() + 2 > FILES;
        match step {
            Step::Pipe | Step::Sockets | Step::Counter { .. } | Step::Epoll | Step::Duplicate { .. } if is_full => {
                [(0, Vec::new()), (0, Vec::new())]
            }
            Step::Pipe => self.opened_both(nr::PIPE2, [BUFFER_AT, nonblocking, 0, 0]),
            Step::Sockets => {
                let kind = libc::SOCK_STREAM as u64 | nonblocking;
                let found = self.opened_both(nr::SOCKETPAIR, [libc::AF_UNIX as u64, kind, 0, BUFFER_AT]);
                let opened = self.files[self.files.len() - 2..].iter().map(|file| file[0]);
                self.small.extend(opened);
                found
            }
            Step::Shutdown { of, how } => self.both(nr::SHUTDOWN, number(of).map(|number| [number, how, 0, 0]), &[], 0),
            Step::Counter { count, is_semaphore } => {
                let flags = nonblocking | u64::from(is_semaphore);
                let found = self.opened(nr::EVENTFD2, [[count.into(), flags, 0, 0]; 2]);
                self.small.extend(self.files.last().map(|file| file[0]));
                found
            }
            Step::Epoll => self.opened(nr::EPOLL_CREATE1, [[0; 4]; 2]),
            Step::Duplicate { of } => {
                let numbers = number(of);
                let found = self.opened(nr::DUP, numbers.map(|number| [number, 0, 0, 0]));
                if self.small.contains(&numbers[0]) {
                    self.small.extend(self.files.last().map(|file| file[0]));
                }
                found
            }
            Step::Close { of } => {
                let numbers = number(of);
                self.files.retain(|file| *file != numbers);
                self.small.retain(|number| *number != numbers[0]);
                self.both(nr::CLOSE, numbers.map(|number| [number, 0, 0, 0]), &[], 0)
            }
            Step::Write { of, len } => {
                // Kernels since 6.9 refuse to write more than a number to a counter, and earlier ones write that. How much a
                // socket holds depends on the kernel's settings.
                let len = if self.small.contains(&number(of)[0]) { len.min(8) } else { len };
                let arguments = number(of).map(|number| [number, BUFFER_AT, len as u64, 0]);
                let pattern: Vec<u8> = (0..len).map(|index| (index / 3) as u8).collect();
                self.both(nr::WRITE, arguments, &pattern, 0)
            }
            Step::Add { of, value } => {
                let arguments = number(of).map(|number| [number, BUFFER_AT, 8, 0]);
                self.both(nr::WRITE, arguments, &value.to_le_bytes(), 0)
            }
            Step::Read { of, len } => {
                let arguments = number(of).map(|number| [number, BUFFER_AT, len as u64, 0]);
                self.both(nr::READ, arguments, &[], len)
            }
            Step::Held { of } => {
                let arguments = number(of).map(|number| [number, libc::FIONREAD, BUFFER_AT, 0]);
                // What has no such number is refused by different errors, depending on the kernel's version.
                self.both(nr::IOCTL, arguments, &[], 4).map(|(result, bytes)| (result.max(-1), bytes))
            }
            Step::Resize { of, size } => {
                let arguments = number(of).map(|number| [number, libc::F_SETPIPE_SZ as u64, size, 0]);
                self.both(nr::FCNTL, arguments, &[], 0)
            }
            Step::Capacity { of } => {
                let arguments = number(of).map(|number| [number, libc::F_GETPIPE_SZ as u64, 0, 0]);
                self.both(nr::FCNTL, arguments, &[], 0)
            }
            Step::Control { by, operation, of, events } => {
                let (instances, numbers) = (number(by), number(of));
                let event = [events.to_le_bytes().as_slice(), &(of as u64).to_le_bytes()].concat();
                let arguments = [0, 1].map(|side| [instances[side], operation as u64, numbers[side], BUFFER_AT]);
                self.both(nr::EPOLL_CTL, arguments, &event, 0)
            }
            Step::Wait { by, most } => {
                let arguments = number(by).map(|number| [number, BUFFER_AT, most, 0]);
                self.both(nr::EPOLL_WAIT, arguments, &[], 12 * most as usize)
            }
            Step::Poll { of, events } => {
                let numbers = number(of);
                let arguments = [[BUFFER_AT, 1, 0, 0]; 2];
                let entry =
                    |number: u64| [(number as u32).to_le_bytes().as_slice(), &events.to_le_bytes(), &[0; 2]].concat();
                let guest = self.by_guest(nr::POLL, arguments[0], &entry(numbers[0]), 8);
                let host = by_host(nr::POLL, arguments[1], &entry(numbers[1]), 8);
                [guest, host].map(|(result, bytes)| (result, bytes[4..].to_vec()))
            }
        }
    }

    /// A step that opens two files and writes their numbers.
    fn opened_both(&mut self, number: u64, arguments: [u64; 4]) -> [Found; 2] {
        let found = self.both(number, [arguments; 2], &[], 8);
        let numbers = |found: &Found| {
            let number = |at: usize| u64::from(u32::from_le_bytes(found.1[at..at + 4].try_into().unwrap()));
            [number(0), number(4)]
        };
        let [guest, host] = [numbers(&found[0]), numbers(&found[1])];
        self.files.extend([[guest[0], host[0]], [guest[1], host[1]]]);
        found.map(|(result, _)| (result, Vec::new()))
    }

    /// A step that opens a file.
    fn opened(&mut self, number: u64, arguments: [[u64; 4]; 2]) -> [Found; 2] {
        let found = self.both(number, arguments, &[], 0);
        if let [(guest @ 0.., _), (host @ 0.., _)] = &found {
            self.files.push([*guest as u64, *host as u64]);
        }
        found.map(|(result, bytes)| (result.min(0), bytes))
    }

    /// A system call, with these bytes in the buffer before it, and what is there after it.
    fn both(&mut self, number: u64, arguments: [[u64; 4]; 2], before: &[u8], after: usize) -> [Found; 2] {
        [self.by_guest(number, arguments[0], before, after), by_host(number, arguments[1], before, after)]
    }

    fn by_guest(&mut self, number: u64, arguments: [u64; 4], before: &[u8], after: usize) -> Found {
        let mut bytes = vec![0; after.max(before.len())];
        bytes[..before.len()].copy_from_slice(before);
        self.guest.put(self.buffer, &bytes);
        let at = self.buffer;
        let Outcome::Return(result) = self.guest.call(number, arguments.map(|argument| at_buffer(argument, at))) else {
            panic!("a call that cannot wait")
        };
        let mut bytes = vec![0; after];
        self.guest.space.read(GuestVirt(at), &mut bytes).unwrap();
        (result as i64, bytes)
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        for [_, host] in &self.files {
            // SAFETY: it was opened here, and nobody else has the number.
            unsafe { libc::close(*host as i32) };
        }
    }
}

fn by_host(number: u64, arguments: [u64; 4], before: &[u8], after: usize) -> Found {
    let mut bytes = vec![0_u8; after.max(before.len()).max(1)];
    bytes[..before.len()].copy_from_slice(before);
    let [a, b, c, d] = arguments.map(|argument| at_buffer(argument, bytes.as_mut_ptr().expose_provenance() as u64));
    // SAFETY: the call reads what is in the buffer, and writes no more than fits there.
    let result = unsafe { libc::syscall(number as i64, a, b, c, d) };
    let result = if result < 0 { -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap()) } else { result };
    bytes.truncate(after);
    (result, bytes)
}

fn at_buffer(argument: u64, at: u64) -> u64 {
    if argument == BUFFER_AT { at } else { argument }
}

/// How many files a program has open at once.
const FILES: usize = 12;

const BUFFER: usize = 1 << 17;

/// Stands for the address of the buffer.
const BUFFER_AT: u64 = 0xb0ff_e4b0_ff00;
