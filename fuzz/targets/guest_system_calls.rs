//! Any system calls of a real guest, with snapshots and restores between them. Whatever it does, it can be put back.

#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use ampoule::fuzzing::address_map;
use ampoule::{Call, CallError, Image, Limits, Output, Sandbox, Snapshot};
use ampoule_abi::layout::RecordKind;
use ampoule_fuzz::guest::Guest;
use ampoule_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;

thread_local! {
    /// One sandbox for all inputs: each begins with a reset.
    static SANDBOX: RefCell<Sandbox> = RefCell::new(sandbox());
}

fuzz_target!(|input: &[u8]| SANDBOX.with_borrow_mut(|sandbox| perform(sandbox, Input(input))));

fn perform(sandbox: &mut Sandbox, mut input: Input<'_>) {
    let mut snapshots: Vec<Snapshot> = Vec::new();
    let mut ends = 0;
    for _ in 0..MOST_STEPS {
        if input.0.is_empty() || ends == MOST_ENDS {
            break;
        }
        let [step] = input.array();
        let index = usize::from(step >> 3);
        match step % 8 {
            0 if sandbox.poisoned().is_none() && snapshots.len() < MAX_SNAPSHOTS => {
                snapshots.push(sandbox.snapshot().expect("a sandbox that waits can be kept"));
            }
            1 if index < snapshots.len() => sandbox.restore(&snapshots[index]).expect("it is of this sandbox"),
            2 if index < snapshots.len() => drop(snapshots.swap_remove(index)),
            3 => sandbox.reset().expect("a reset is always possible"),
            _ => {
                let was_poisoned = sandbox.poisoned().is_some();
                call(sandbox, &mut input, 1 + index);
                ends += u32::from(!was_poisoned && sandbox.poisoned().is_some());
            }
        }
    }
    sandbox.reset().expect("a reset is always possible");
    let nothing: &[u64] = &[];
    // The guest's own deadline is too short where the machine has much to do.
    let answer = sandbox.call_with::<u64, _>(Call::new("run", (nothing,)).deadline(Duration::from_secs(10)));
    assert!(matches!(answer, Ok(0)), "after a reset: {answer:?}");
}

fn call(sandbox: &mut Sandbox, input: &mut Input<'_>, calls: usize) {
    let mut words = Vec::new();
    for _ in 0..calls {
        words.push(u64::from(u16::from_le_bytes(input.array())) % NUMBERS);
        words.extend([(); 6].map(|()| argument(input)));
    }
    let was_poisoned = sandbox.poisoned().is_some();
    match sandbox.call::<u64>("run", (&words[..],)) {
        Ok(_) => assert!(!was_poisoned),
        Err(CallError::Poisoned { .. }) => assert!(was_poisoned),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// An argument, most of which are a byte: small numbers, or places in the guest's image, heap and mappings.
fn argument(input: &mut Input<'_>) -> u64 {
    let [byte] = input.array();
    let low = u64::from(byte & 0x1f);
    match byte >> 5 {
        0 => low,
        1 => low.wrapping_sub(32),
        2 => 1 << low,
        3 => IMAGE + 0x800 * low,
        4 => MAPPINGS + PAGE * low,
        5 => STACK - PAGE * low,
        6 => MAILBOX + 0x400 * low,
        _ => input.u64(),
    }
}

fn sandbox() -> Sandbox {
    let source = concat!(include_str!("../guests/abi.h"), include_str!("../guests/system_calls.c"));
    let guest = Guest::new(source, &[(RecordKind::Export, "run", "fn(Vec<u64>) -> u64")]).expect("it can be written");
    let image = Image::from_bytes(guest.compile(&[]).expect("it can be compiled")).expect("it is a guest");
    let limits = Limits::new().deadline(Duration::from_millis(100)).output(1 << 20);
    let builder = Sandbox::builder(&image).memory_limit(4 << 20).stack_size(1 << 20).limits(limits);
    builder.stdout(Output::discard()).stderr(Output::discard()).build().expect("this target needs /dev/kvm")
}

const MAX_SNAPSHOTS: usize = 4;

/// So many take less time than an input may, even when each end is that of the deadline.
const MOST_STEPS: usize = 600;
const MOST_ENDS: u32 = 50;

/// Linux has fewer system calls.
const NUMBERS: u64 = 512;

const PAGE: u64 = 4096;

// Where the linker puts an executable, an address that nothing is at, the end of the guest's addresses, and the mailbox.
const IMAGE: u64 = 0x40_0000;
const MAPPINGS: u64 = 0x1000_0000;
const STACK: u64 = address_map::USER_END.0;
const MAILBOX: u64 = address_map::SHARED_BASE.0;
