//! Address spaces of one lineage in which anything is mapped, changed, accessed, kept and put back.

use ampoule_vmm::address_map::USER_END;
use ampoule_vmm::{FaultAccess, GuestVirt, PAGE_SIZE};

use crate::address_space::model::{
    AMPLE_TABLES, ARENA, Change, HEAP, LONGEST, MapShared, Operation, STACK, Settings, Step, TestFile, World,
};
use crate::address_space::{Movement, Placement, Protection};
use crate::executable_memory::ExecutableMemory;

use super::take;

/// Takes the steps that the bytes describe, and compares after each with what it should lead to.
///
/// # Panics
/// Where an address space is not what it should be.
pub fn address_space(steps: &[u8]) {
    let mut rest = steps;
    let settings = byte(&mut rest);
    let spare_tables = usize::from(settings) % 8;
    let mut world = World::new(Settings {
        spare_tables: if spare_tables < 6 { spare_tables } else { AMPLE_TABLES },
        executable_memory: ExecutableMemory::ALL[usize::from(settings >> 4) % 3],
    });
    for _ in 0..MOST_STEPS {
        if rest.is_empty() {
            break;
        }
        let which = byte(&mut rest);
        let step = step(&mut rest, which >> 2);
        world.perform(usize::from(which & 3), &step);
    }
    world.compare();
}

fn step(rest: &mut &[u8], kind: u8) -> Step {
    let operation = match kind % 32 {
        0..=13 => Operation::Change(change(rest, kind)),
        14 | 15 => Operation::MoveHeapEnd { to: heap_end(rest) },
        16 => Operation::Fault { at: place(rest), access: access(byte(rest)) },
        17..=19 => Operation::GuestWrite { at: place(rest), byte: byte(rest) },
        20 | 21 => {
            let (at, len) = (place(rest), access_len(rest));
            let mut bytes = take(rest, 8).to_vec();
            bytes.resize(len, 0xa5);
            Operation::Write { at, bytes }
        }
        22 | 23 => Operation::Read { at: place(rest), len: access_len(rest) },
        24 => match byte(rest) {
            choice if choice & 3 == 0 => Operation::ForgetRefusals,
            choice if choice & 3 == 1 => Operation::ResizeFile { len: file_place(rest) },
            choice if choice & 3 == 2 => Operation::ReadFile { offset: file_place(rest), len: access_len(rest) },
            _ => Operation::WriteFile { offset: file_place(rest), bytes: vec![byte(rest); access_len(rest)] },
        },
        25 => return Step::Checkpoint,
        26..=28 => return Step::Restore { checkpoint: byte(rest).into() },
        29 => {
            let (kind, allowed, checkpoint) = (byte(rest), byte(rest).into(), byte(rest).into());
            return Step::Interrupt { change: change(rest, kind), allowed, checkpoint };
        }
        30 => return Step::Spawn { checkpoint: byte(rest).into() },
        _ => return Step::DropCheckpoint { checkpoint: byte(rest).into() },
    };
    Step::Operation(operation)
}

fn change(rest: &mut &[u8], kind: u8) -> Change {
    match kind % 14 {
        0..=3 => {
            let how = byte(rest);
            let at = page(rest);
            let placement = match how & 3 {
                0 if how & 4 == 0 => Placement::Anywhere,
                0 => Placement::Low,
                1 => Placement::Hint(at),
                2 => Placement::Fixed(at),
                _ => Placement::FixedVacant(at),
            };
            let (len, protection) = (len(rest), protection(how >> 2));
            match how >> 5 {
                0..=2 => Change::Map { placement, len, protection },
                3 | 4 => {
                    let (first, may_write) = (u64::from(byte(rest) % 9), how & 4 == 0);
                    Change::MapShared(MapShared { placement, len, protection, first, may_write })
                }
                kind => {
                    let (file, first) = (TestFile::PRIVATE[usize::from(kind - 5)], u64::from(byte(rest) % 9));
                    Change::MapFile { file, placement, len, protection, first }
                }
            }
        }
        4 | 5 => Change::Unmap { at: page(rest), len: len(rest) },
        6..=8 => Change::Protect { protection: protection(byte(rest)), at: page(rest), len: len(rest) },
        9..=11 => {
            let movement = match byte(rest) & 3 {
                0 => Movement::Stay,
                1 => Movement::MayMove,
                _ => Movement::To(page(rest)),
            };
            Change::Remap { at: page(rest), old_len: len(rest), new_len: len(rest), movement }
        }
        _ => Change::Discard { at: page(rest), len: len(rest) },
    }
}

/// Where a page of the arena or of the stack begins, as a rule.
fn page(rest: &mut &[u8]) -> GuestVirt {
    let byte = byte(rest);
    match byte {
        0..0xa0 => GuestVirt((ARENA.start + u64::from(byte) % (ARENA.end - ARENA.start)) * PAGE),
        0xa0..0xe0 => GuestVirt((STACK.end - u64::from(byte - 0x9f)) * PAGE),
        0xe0..0xf0 => GuestVirt(ARENA.start * PAGE + u64::from(byte & 15) * 0x777),
        _ => GuestVirt(number(rest)),
    }
}

/// An address within a page, as a rule.
fn place(rest: &mut &[u8]) -> GuestVirt {
    let at = page(rest);
    GuestVirt(at.0.wrapping_add(u64::from(byte(rest)) * 16))
}

/// A place in the file that is shared.
fn file_place(rest: &mut &[u8]) -> u64 {
    u64::from(byte(rest)) * (LONGEST / 0xff)
}

/// Few pages, or more than there can be: many that there can be would be too many for the model.
fn len(rest: &mut &[u8]) -> u64 {
    let byte = byte(rest);
    let pages = u64::from(byte & 15) + 1;
    match byte >> 4 {
        0..=13 => pages * PAGE,
        14 => pages * 0x333,
        _ => [0, 1, USER_END.0, USER_END.0 - PAGE, 1 << 47, 1 << 63, u64::MAX - PAGE, u64::MAX][usize::from(byte & 7)],
    }
}

fn access_len(rest: &mut &[u8]) -> usize {
    1 + 41 * usize::from(byte(rest))
}

fn heap_end(rest: &mut &[u8]) -> GuestVirt {
    match byte(rest) {
        byte @ 0..0xf0 => GuestVirt(HEAP + u64::from(byte) * (PAGE / 4)),
        _ => GuestVirt(number(rest)),
    }
}

fn protection(choice: u8) -> Protection {
    match choice % 7 {
        0 => Protection::None,
        1 => Protection::Read,
        2 => Protection::ReadExecute,
        3 => Protection::ReadWriteExecute,
        _ => Protection::ReadWrite,
    }
}

fn access(choice: u8) -> FaultAccess {
    match choice % 3 {
        0 => FaultAccess::Read,
        1 => FaultAccess::Write,
        _ => FaultAccess::Execute,
    }
}

fn byte(rest: &mut &[u8]) -> u8 {
    take(rest, 1).first().copied().unwrap_or(0)
}

fn number(rest: &mut &[u8]) -> u64 {
    u64::from_le_bytes([(); 8].map(|()| byte(rest)))
}

/// So many take far less time than an input may.
const MOST_STEPS: usize = 200;

const PAGE: u64 = PAGE_SIZE as u64;
