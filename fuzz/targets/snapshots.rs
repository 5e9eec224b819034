//! Any sequence of calls, snapshots, restores, spawns, ends and drops: every sandbox holds what plain copies would.

#![no_main]

use ampoule_fuzz::input::Input;
use ampoule_tests::snapshot_model::{Change, End, Step, World};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let mut world = World::new();
    for _ in 0..MOST_STEPS {
        if input.0.is_empty() {
            break;
        }
        world.perform(&step(&mut input));
        world.compare();
    }
});

fn step(input: &mut Input<'_>) -> Step {
    let [kind, names] = input.array();
    let (sandbox, snapshot) = (usize::from(names & 15), usize::from(names >> 4));
    match kind % 32 {
        0..=12 => Step::Change { sandbox, change: change(input, kind) },
        13..=15 => Step::Snapshot { sandbox },
        16..=20 => Step::Restore { sandbox, snapshot },
        21 => Step::RestoreOften { sandbox, snapshot, times: 2 + (kind >> 5) * 2 },
        22 => Step::RestoreForeign { sandbox },
        23 | 24 => Step::Reset { sandbox },
        25 | 26 => Step::End { sandbox, how: end(input) },
        27 | 28 => Step::Spawn { snapshot },
        29 => Step::DropSandbox { sandbox },
        _ => Step::DropSnapshot { snapshot },
    }
}

fn change(input: &mut Input<'_>, kind: u8) -> Change {
    let [choice, size, value] = input.array();
    let (slot, value) = (choice % 3, u64::from(value) * 0x0101_0101);
    match kind % 32 {
        0 => Change::SetValue { key: choice & 3, words: u32::from(size) * 12, value },
        1 => Change::RemoveValue { key: choice & 3 },
        2 => Change::AddToVariable { value },
        3 | 4 => Change::MapRegion { slot, pages: pages(size), value },
        5 => Change::UnmapRegion { slot },
        6 => Change::ProtectRegion { slot, writable: choice & 4 == 0 },
        7..=9 => Change::WriteRegion { slot, page: u32::from(size), value },
        10 => Change::GrowHeap { pages: 1 + u32::from(size & 3), value },
        11 => match size {
            0..=8 => Change::Panic,
            _ => Change::AskHost { step: value },
        },
        _ => Change::Print { text: String::from_utf8_lossy(input.bytes(usize::from(size & 31))).into_owned() },
    }
}

/// Few; enough for unchanged pages to be looked for; enough for a restore to map anew instead of copying.
fn pages(size: u8) -> u32 {
    let rest = u32::from(size & 31);
    match size >> 5 {
        0..=6 => 1 + rest,
        _ if rest < 24 => 270 + rest,
        _ => 1006 + rest,
    }
}

fn end(input: &mut Input<'_>) -> End {
    let [choice, value] = input.array();
    match choice % 6 {
        0 => End::Fault,
        1 => End::Deadline,
        2 => End::Kill,
        3 => End::Exit,
        4 => End::WriteProtected { slot: value % 3 },
        _ => End::ChangeAndFault { value: value.into() },
    }
}

/// So many take far less time than an input may, and far less memory than a guest has.
const MOST_STEPS: usize = 24;
