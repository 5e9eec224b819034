//! A guest that makes any system calls with any arguments, on any memory, without a virtual machine.

use ampoule_vmm::x86_64::paging::PageTables;
use ampoule_vmm::{GuestPhys, GuestVirt, HostOnly, PAGE_SIZE, Region, TrackedRegion};

use crate::address_space::{AddressSpace, Parts, Placement, Protection};
use crate::clock::Clock;
use crate::executable_memory::ExecutableMemory;
use crate::files::Files;
use crate::guest_memory::GuestMemory;
use crate::output::Stream;
use crate::personality::linux::{ClockConfig, LinuxProcess, ProcessConfig};
use crate::personality::{Behind, Held, Outcome, Personality, Streams, SystemCall, Taken, Unprinted};
use crate::policy::Policy;
use crate::terminal::Terminal;

use super::take;

/// Makes the system calls that the bytes describe, with writes of the guest's own between them, and checks after each that
/// memory is still as it has to be.
///
/// # Panics
/// Where it is not, or a call has an outcome that no call can have.
pub fn system_calls(steps: &[u8]) {
    let tables = Region::anonymous(TABLES * PAGE_SIZE).expect("there is memory");
    let memory = TrackedRegion::anonymous(FRAMES * PAGE_SIZE, HostOnly::default()).expect("there is memory");
    let tables = PageTables::new(tables, GuestPhys(0), 0..TABLES * PAGE_SIZE).expect("there is room for the tables");
    let executable_memory = ExecutableMemory::ALL[steps.len() % 3];
    let mut space = AddressSpace::new(Parts {
        memory: GuestMemory::new(memory, GuestPhys(MEMORY), 0),
        tables: Box::new(tables),
        executable_memory,
    });
    space.place_heap(GuestVirt(HEAP));
    space.map_stack(STACK_SIZE, PAGE_SIZE as u64).expect("there is room for the stack");
    let data = Placement::FixedVacant(GuestVirt(DATA));
    space.map_anonymous(PAGE_SIZE as u64, data, Protection::ReadWrite).expect("there is room for a page");
    let clock = ClockConfig { clock: Clock::Real, page: None, shares_counter: false };
    let mut process = LinuxProcess::new(
        ProcessConfig { stack_size: STACK_SIZE, chance: *b"dice", clock, policy: Policy::all() },
        Files::of_none(),
    );

    let mut rest = steps;
    let mut last = 0;
    while let Some((&step, more)) = rest.split_first() {
        rest = more;
        match step % 32 {
            0..=7 => {
                let at = argument(&mut rest, last);
                // The guest could not write there, perhaps.
                let _ = space.write(GuestVirt(at), take(&mut rest, usize::from(step)));
            }
            8 => process = process.suspended(),
            9 => process.resume(&space),
            _ => {
                let number = take(&mut rest, 2).iter().fold(0, |number, &byte| number << 8 | u64::from(byte)) % NUMBERS;
                let arguments = [(); 6].map(|()| argument(&mut rest, last));
                let outcome = process.system_call(&SystemCall { number, arguments }, &mut space, &mut Nowhere);
                assert!(is_possible(outcome), "{number} {arguments:x?}: {outcome:?}");
                if let Outcome::Return(result) = outcome {
                    last = result;
                }
            }
        }
        check(&mut space, executable_memory);
    }
}

/// An argument, most of which are a byte: numbers as calls take them, or a place in one of the guest's mappings.
fn argument(rest: &mut &[u8], last: u64) -> u64 {
    let [byte] = *take(rest, 1) else { return 0 };
    let low = u64::from(byte & 0x1f);
    match byte >> 5 {
        0 => low,
        1 => low.wrapping_sub(0x20),
        2 => 1 << low,
        3 => DATA + 64 * low,
        4 => DATA + PAGE_SIZE as u64 * low,
        5 => HEAP + PAGE_SIZE as u64 * low,
        6 => last.wrapping_add(PAGE_SIZE as u64 * (low & 7)).wrapping_add(low >> 3),
        _ => u64::from_le_bytes([(); 8].map(|()| take(rest, 1).first().copied().unwrap_or(0))),
    }
}

fn is_possible(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Return(result) => result as i64 >= -4095,
        Outcome::Sleep { duration, .. } => !duration.is_zero(),
        Outcome::Exit { code } => (0..256).contains(&code),
        Outcome::Abort { signal } => (1..=64).contains(&signal),
        Outcome::OutputLimit | Outcome::AwaitInput => false,
        _ => true,
    }
}

/// Layout and page tables say the same, and no memory is both writable and executable unless that is granted.
fn check(space: &mut AddressSpace, executable_memory: ExecutableMemory) {
    assert!(space.memory_free() <= space.memory_total());
    let mappings: Vec<_> = space.mappings().collect();
    let mut end = 0;
    for (range, _, protection) in mappings {
        assert!(range.start.0 >= end && range.end.0 > range.start.0, "{range:x?} begins before {end:x}");
        end = range.end.0;
        let is_apart = !(protection.is_writable() && protection.is_executable());
        assert!(is_apart || executable_memory == ExecutableMemory::Unrestricted);
        for at in [range.start, GuestVirt(range.end.0 - PAGE_SIZE as u64)] {
            let entry = space.tables_mut().translate(at);
            let access = entry.map(|(_, access)| (access.write, access.execute));
            let allowed = (protection.is_writable(), protection.is_executable());
            assert_eq!(access, protection.is_readable().then_some(allowed), "{at:?} {protection:?}");
        }
    }
}

/// What the guest prints is of no interest.
struct Nowhere;

impl Streams for Nowhere {
    fn read(&mut self, into: &mut [u8]) -> Taken {
        into.fill(b'x');
        Taken::Bytes(into.len().min(5))
    }

    fn terminal(&self) -> Option<&Terminal> {
        None
    }

    fn look(&mut self) -> Held {
        Held { bytes: 5, behind: Behind::Later }
    }

    fn write(&mut self, _: Stream, _: &[u8]) -> Result<(), Unprinted> {
        Ok(())
    }

    fn printed_to_stderr(&self) -> u64 {
        0
    }
}

/// Linux has fewer system calls.
const NUMBERS: u64 = 512;

const TABLES: usize = 48;
const FRAMES: usize = 128;
const MEMORY: u64 = 1 << 32;
const STACK_SIZE: u64 = 1 << 16;
const HEAP: u64 = 0x60_0000;
const DATA: u64 = 0x20_0000;
