//! System calls as a guest would make them, without a virtual machine.

mod clocks;
mod documented;
mod files;
mod granted;
mod memory;
mod paths;
mod policy;
mod poll;
mod process;
mod queues;
mod shown;
mod signals;
mod time;

use std::collections::VecDeque;
use std::io::ErrorKind;

use ampoule_vmm::address_map::USER_END;
use ampoule_vmm::x86_64::paging::PageTables;
use ampoule_vmm::{GuestPhys, GuestVirt, HostOnly, PAGE_SIZE, Region, TrackedRegion};
use proptest::prelude::*;

use crate::address_space::{Parts, Placement, Protection};
use crate::clock::Clock;
use crate::executable_memory::ExecutableMemory;
use crate::files::Files;
use crate::output::Stream;
use crate::personality::{Behind, Held, Taken, Unprinted};
use crate::terminal::Terminal;
use crate::test_log::events_of;

use super::*;
use crate::guest_memory::GuestMemory;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No argument makes the host panic, hang, or fail to continue.
    #[test]
    fn every_number_survives_every_argument(arguments: Vec<[Argument; 6]>) {
        let mut guest = Guest::new();
        for arguments in arguments {
            for number in 0..512 {
                let (outcome, line) = guest.traced(number, arguments.map(|argument| argument.0));
                prop_assert!(is_plausible(outcome), "{number}: {outcome:?}");
                prop_assert!(line.len() < 2048 && line.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{line:?}");
            }
        }
    }
}

#[test]
fn names_and_numbers_are_those_of_the_host() {
    for (number, name) in [
        (libc::SYS_read, "read"),
        (libc::SYS_mmap, "mmap"),
        (libc::SYS_mremap, "mremap"),
        (libc::SYS_exit_group, "exit_group"),
        (libc::SYS_clock_nanosleep, "clock_nanosleep"),
        (libc::SYS_prlimit64, "prlimit64"),
        (libc::SYS_statx, "statx"),
        (libc::SYS_faccessat2, "faccessat2"),
    ] {
        assert_eq!(groups::name(number as u64), Some(name));
    }
    assert_eq!(groups::name(u64::MAX), None);
}

#[test]
fn what_is_not_there_is_not_implemented() {
    let mut guest = Guest::new();
    for number in [nr::FORK, nr::SOCKET, nr::RSEQ, 511, u64::MAX] {
        assert_eq!(guest.errno(number, [0; 6]), libc::ENOSYS, "{number}");
    }
}

/// What Rayon takes as a reason to continue with one thread, whereas it panics at `EAGAIN`. The C library tries the second
/// call when the first gives this.
#[test]
fn threads_are_not_implemented() {
    let mut guest = Guest::new();
    for number in [nr::CLONE3, nr::CLONE] {
        let errno = guest.errno(number, [0; 6]);
        assert_eq!(std::io::Error::from_raw_os_error(errno).kind(), std::io::ErrorKind::Unsupported);
        assert_eq!(errno, libc::ENOSYS);
    }
}

/// A guest with one page to read and write, another that it can only read, and what it has printed.
struct Guest {
    space: AddressSpace,
    process: LinuxProcess,
    printed: Printed,
}

#[derive(Default)]
struct Printed {
    bytes: Vec<(Stream, Vec<u8>)>,
    full: bool,
    broken: Option<ErrorKind>,
    /// What standard input gives, one time after the other. Then it is at its end.
    input: VecDeque<Taken>,
}

impl Guest {
    fn new() -> Self {
        Self::with_clock(Clock::Real)
    }

    fn with_clock(clock: Clock) -> Self {
        let tables = Region::anonymous(64 * PAGE_SIZE).unwrap();
        let mut space = AddressSpace::new(Parts {
            memory: GuestMemory::new(
                TrackedRegion::anonymous(FRAMES * PAGE_SIZE, HostOnly::default()).unwrap(),
                GuestPhys(0x1_0000_0000),
                0,
            ),
            tables: Box::new(PageTables::new(tables, GuestPhys(0), 0..64 * PAGE_SIZE).unwrap()),
            executable_memory: ExecutableMemory::Refused,
        });
        space.place_heap(GuestVirt(HEAP));
        space.map_stack(STACK_SIZE, PAGE).unwrap();
        for (at, protection) in [(DATA, Protection::ReadWrite), (READ_ONLY, Protection::Read)] {
            space.map_anonymous(PAGE, Placement::FixedVacant(GuestVirt(at)), protection).unwrap();
        }
        let mut process = LinuxProcess::new(
            ProcessConfig {
                stack_size: STACK_SIZE,
                chance: *b"dice",
                clock: by_system_calls(clock),
                policy: Policy::all(),
            },
            Files::of_none(),
        );
        process.started(Started { program: "/bin/guest".into(), ..Started::default() });
        Self { space, process, printed: Printed::default() }
    }

    fn call(&mut self, number: u64, arguments: impl Into<Vec<u64>>) -> Outcome {
        let mut given: Vec<u64> = arguments.into();
        given.resize(6, 0);
        let arguments = given.try_into().unwrap();
        let call = SystemCall { number, arguments };
        match self.process.system_call(&call, &mut self.space, &mut self.printed) {
            Outcome::NeedsStackPointer => {
                Outcome::Return(self.process.system_call_on_stack(&call, STACK_POINTER, &mut self.space))
            }
            outcome => outcome,
        }
    }

    /// The result of a call that succeeds.
    #[track_caller]
    fn ok(&mut self, number: u64, arguments: impl Into<Vec<u64>>) -> u64 {
        match self.call(number, arguments) {
            Outcome::Return(result) if (result as i64) >= 0 => result,
            outcome => panic!("{outcome:?}"),
        }
    }

    /// The error number of a call that fails.
    #[track_caller]
    fn errno(&mut self, number: u64, arguments: impl Into<Vec<u64>>) -> i32 {
        match self.call(number, arguments) {
            Outcome::Return(result) if (-4095..0).contains(&(result as i64)) => -(result as i64) as i32,
            outcome => panic!("{outcome:?}"),
        }
    }

    fn id(&mut self) -> u64 {
        self.ok(nr::GETPID, [])
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> u64 {
        self.space.write(GuestVirt(at), bytes).unwrap();
        at
    }

    fn put_words(&mut self, at: u64, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(at, &bytes)
    }

    fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        self.space.read_array(GuestVirt(at)).unwrap()
    }

    fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    fn half(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }
}

impl Streams for Printed {
    fn read(&mut self, into: &mut [u8]) -> Taken {
        let taken = self.input.pop_front().unwrap_or(Taken::Bytes(0));
        if let Taken::Bytes(count) = taken {
            into[..count].fill(b'i');
        }
        taken
    }

    fn terminal(&self) -> Option<&Terminal> {
        None
    }

    fn look(&mut self) -> Held {
        match self.input.front() {
            None | Some(Taken::Bytes(0)) => Held { bytes: 0, behind: Behind::End },
            Some(Taken::Bytes(bytes)) => Held { bytes: *bytes, behind: Behind::Later },
            Some(Taken::NotYet) => Held::default(),
            Some(Taken::Failed) => Held { bytes: 0, behind: Behind::Failure },
        }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Unprinted> {
        if self.full {
            return Err(Unprinted::LimitReached);
        }
        if let Some(kind) = self.broken {
            return Err(Unprinted::Failed(kind));
        }
        self.bytes.push((stream, bytes.to_vec()));
        Ok(())
    }

    fn printed_to_stderr(&self) -> u64 {
        self.text(Stream::Stderr).len() as u64
    }
}

impl Printed {
    fn text(&self, wanted: Stream) -> Vec<u8> {
        self.bytes.iter().filter(|(stream, _)| *stream == wanted).flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}

/// An argument that is usually more interesting than a random number.
#[derive(Clone, Copy, Debug)]
struct Argument(u64);

impl Arbitrary for Argument {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        prop_oneof![
            any::<u64>(),
            0_u64..64,
            (0_u64..64).prop_map(|bit| 1 << bit),
            (0_u64..64).prop_map(|bit| (1_u64 << bit).wrapping_neg()),
            (0_u64..64).prop_map(|pages| pages * PAGE),
            (DATA - 16..READ_ONLY + PAGE + 16),
            Just(HEAP),
            Just(ampoule_vmm::address_map::USER_END.0 - PAGE),
            Just(libc::AT_FDCWD as u64),
        ]
        .prop_map(Self)
        .boxed()
    }
}

/// A clock that is read by system calls only.
fn by_system_calls(clock: Clock) -> ClockConfig {
    ClockConfig { clock, page: None, shares_counter: false }
}

/// An error number, an address, or one of the other outcomes.
fn is_plausible(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Return(result) => (result as i64) >= -4095,
        Outcome::Exit { code } => (0..256).contains(&code),
        Outcome::Abort { signal } => (1..=64).contains(&signal),
        Outcome::SetThreadRegister { value, .. } => value < 1 << 47,
        Outcome::Sleep { duration, .. } => !duration.is_zero(),
        Outcome::Deadlock(_) | Outcome::Pause { .. } | Outcome::SignalReturn | Outcome::NeedsStackPointer => true,
        Outcome::OutputLimit | Outcome::AwaitInput => false,
    }
}

const PAGE: u64 = PAGE_SIZE as u64;
const FRAMES: usize = 256;
const STACK_SIZE: u64 = 1 << 20;
const HEAP: u64 = 0x60_0000;
const DATA: u64 = 0x20_0000;
const READ_ONLY: u64 = DATA + PAGE;
const STACK_POINTER: u64 = USER_END.0 - PAGE - 256;
const UNMAPPED: u64 = READ_ONLY + PAGE;
