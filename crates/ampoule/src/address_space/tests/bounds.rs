//! How much one operation does, and that it ends when the call is interrupted.

use std::sync::atomic::Ordering;

use ampoule_vmm::{HypervisorError, PageSet, WrittenPages};

use super::*;
use crate::address_space::model::After;

/// Two mappings of `pages` pages each, whose frames alternate.
fn interleaved(pages: u64) -> (AddressSpace, [GuestVirt; 2]) {
    interleaved_beside(pages, 1)
}

/// The same, beside `free` free frames.
fn interleaved_beside(pages: u64, free: usize) -> (AddressSpace, [GuestVirt; 2]) {
    let mut space = space(2 * pages as usize + free, 1024);
    let at = [0x1000_0000, 0x9000_0000].map(GuestVirt);
    for at in at {
        space.map_anonymous(pages * PAGE, Placement::FixedVacant(at), Protection::None).unwrap();
    }
    for page in 0..pages {
        for at in at {
            space.protect(GuestVirt(at.0 + page * PAGE), PAGE, Protection::ReadWrite).unwrap();
        }
    }
    (space, at)
}

#[test]
fn every_operation_on_much_memory_ends_soon_after_an_interruption() {
    let pages = 4 * PORTION_PAGES;
    let len = pages * PAGE;
    type Operation = fn(&mut AddressSpace, GuestVirt, u64) -> Result<(), MapError>;
    let operations: [(&str, Operation); 4] = [
        ("unmap", |space, at, len| space.unmap(at, len)),
        ("discard", |space, at, len| space.discard(at, len)),
        ("replace", |space, at, len| space.map_anonymous(len, Placement::Fixed(at), Protection::ReadWrite).map(drop)),
        ("shrink", |space, at, len| space.remap(at, len, PAGE, Movement::Stay).map(drop)),
    ];
    for (what, operation) in operations {
        let mut space = space(pages as usize, 1024);
        let at = space.map_anonymous(len, Placement::Anywhere, Protection::ReadWrite).unwrap();
        let watch = After::new(1);
        let interrupted = operation(&mut space.watched(watch.clone()), at, len);
        assert!(matches!(interrupted, Err(MapError::Interrupted)), "{what}: {interrupted:?}");
        assert_eq!(watch.looks.load(Ordering::Relaxed), 2, "{what}");
        assert!(space.memory_free() <= 2 * PORTION_PAGES * PAGE, "{what}");
    }
}

#[test]
fn an_operation_on_scattered_memory_ends_soon_after_an_interruption() {
    let pages = 4 * PORTION_RUNS as u64;
    let (mut space, [at, _]) = interleaved(pages);
    let watch = After::new(1);
    let interrupted = space.watched(watch).unmap(at, pages * PAGE);
    assert!(matches!(interrupted, Err(MapError::Interrupted)));
    assert!(space.memory_free() <= (2 * PORTION_RUNS as u64 + 1) * PAGE);
    assert!(space.needs_flush(), "what was unmapped and not revoked must not be found again");
}

#[test]
fn a_protection_that_fails_ends_even_when_the_call_is_interrupted_while_it_is_undone() {
    let outcomes = (0..9).map(|allowed| {
        let mut space = space(520, 5);
        let low = GuestVirt(0x10_0000);
        space.map_anonymous(101 * PAGE, Placement::FixedVacant(low), Protection::ReadWrite).unwrap();
        space.unmap(low, 100 * PAGE).unwrap();
        // A page that can be read, and others that are only reserved and need two tables more, of which one can be made.
        let (readable, reserved) = (GuestVirt(0x1f_f000), GuestVirt(0x20_0000));
        space.map_anonymous(PAGE, Placement::FixedVacant(readable), Protection::Read).unwrap();
        space.map_anonymous(513 * PAGE, Placement::FixedVacant(reserved), Protection::None).unwrap();
        space.watched(After::new(allowed)).protect(readable, 514 * PAGE, Protection::ReadWrite).unwrap_err()
    });
    let interrupted = outcomes.filter(|outcome| matches!(outcome, MapError::Interrupted)).count();
    assert!((4..9).contains(&interrupted), "{interrupted}");
}

#[test]
fn memory_from_many_holes_is_looked_for_no_longer_than_the_call_lasts() {
    let pages = 4 * PORTION_RUNS as u64;
    let (mut space, [at, other]) = interleaved(pages);
    space.unmap(at, pages * PAGE).unwrap();
    let watch = After::new(1);
    let interrupted =
        space.watched(watch.clone()).map_anonymous(pages * PAGE, Placement::Fixed(at), Protection::ReadWrite);
    assert!(matches!(interrupted, Err(MapError::Interrupted)), "{interrupted:?}");
    assert_eq!(watch.looks.load(Ordering::Relaxed), 2);
    assert_eq!(space.read_u64(other), Ok(0));
}

#[test]
fn a_guest_that_is_interrupted_half_way_goes_back_to_what_it_was() {
    let (mut space, [at, other]) = interleaved(2 * PORTION_RUNS as u64);
    space.write(at, b"tenant").unwrap();
    let checkpoint = space.checkpoint(&mut IdleGuest, 0..0).unwrap();
    let interrupted = space.watched(After::new(0)).unmap(at, 2 * PORTION_RUNS as u64 * PAGE);
    assert!(matches!(interrupted, Err(MapError::Interrupted)));
    space.restore(&checkpoint, &mut IdleGuest).unwrap();
    assert_eq!((space.read_array(at), space.read_u64(other)), (Ok(*b"tenant"), Ok(0)));
}

#[test]
fn memory_in_too_many_pieces_is_refused() {
    let (mut space, [at, _]) = interleaved(MAX_RUNS as u64 / 2);
    let far = GuestVirt(0x20_0000_0000);
    let refused = space.map_anonymous(PAGE, Placement::FixedVacant(far), Protection::ReadWrite);
    assert!(matches!(refused, Err(MapError::TooFragmented { limit: MAX_RUNS })), "{refused:?}");
    space.unmap(at, PAGE).unwrap();
    space.map_anonymous(PAGE, Placement::FixedVacant(far), Protection::ReadWrite).unwrap();
}

#[test]
fn neither_holes_nor_moves_bring_memory_into_too_many_pieces() {
    let (mut space, _) = interleaved_beside(MAX_RUNS as u64 / 2 - 1, 10);
    // Reserved pages are one mapping, whatever lies behind them.
    let [large, single, far] = [0x20_0000_0000, 0x30_0000_0000, 0x40_0000_0000].map(GuestVirt);
    space.map_anonymous(9 * PAGE, Placement::FixedVacant(large), Protection::Read).unwrap();
    space.protect(large, 9 * PAGE, Protection::None).unwrap();
    space.map_anonymous(PAGE, Placement::FixedVacant(single), Protection::Read).unwrap();
    let middle = GuestVirt(large.0 + 4 * PAGE);
    let hole = space.map_anonymous(PAGE, Placement::Fixed(middle), Protection::None);
    assert!(matches!(hole, Err(MapError::TooFragmented { limit: MAX_RUNS })), "{hole:?}");
    let moved = space.remap(middle, PAGE, PAGE, Movement::To(far));
    assert!(matches!(moved, Err(MapError::TooFragmented { limit: MAX_RUNS })), "{moved:?}");
    space.unmap(single, PAGE).unwrap();
    space.map_anonymous(PAGE, Placement::Fixed(middle), Protection::None).unwrap();
}

/// A guest that writes nothing.
struct IdleGuest;

impl WrittenPages for IdleGuest {
    fn collect_written(&mut self, _: &mut PageSet) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn forget_written(&mut self, _: &PageSet) -> Result<(), HypervisorError> {
        Ok(())
    }
}
