//! How the stack grows, and how page faults are resolved.

use super::*;

#[test]
fn the_stack_grows_down_to_its_limit_and_not_beyond() {
    let mut space = space(512, 16);
    let top = space.map_stack(1 << 20, 8 << 10).unwrap();
    assert_eq!(space.memory_free(), 510 * PAGE);
    let deep = GuestVirt(top.0 - 100 * PAGE);
    assert_eq!(space.resolve_fault(deep, FaultAccess::Write), FaultResolution::Grown);
    space.write(deep, b"deep").unwrap();
    let last = GuestVirt(top.0 - (1 << 20));
    assert_eq!(space.resolve_fault(last, FaultAccess::Read), FaultResolution::Grown);
    let guard = GuestVirt(last.0 - 1);
    assert_eq!(space.resolve_fault(guard, FaultAccess::Write), FaultResolution::Denied);
    assert!(space.is_stack_overflow(guard, last));
    assert_eq!(space.memory_free(), 256 * PAGE);
    assert_eq!(space.read_array(deep), Ok(*b"deep"));
}

#[test]
fn the_stack_grows_by_more_than_the_fault_asks_for() {
    let mut space = space(512, 16);
    let top = space.map_stack(1 << 20, PAGE).unwrap();
    assert_eq!(space.resolve_fault(GuestVirt(top.0 - 2 * PAGE), FaultAccess::Write), FaultResolution::Grown);
    assert_eq!(space.memory_free(), (512 - 33) * PAGE);
}

#[test]
fn where_memory_is_short_the_stack_grows_by_what_it_takes() {
    let mut space = space(4, 16);
    let top = space.map_stack(1 << 20, PAGE).unwrap();
    assert_eq!(space.resolve_fault(GuestVirt(top.0 - 3 * PAGE), FaultAccess::Write), FaultResolution::Grown);
    assert_eq!(space.memory_free(), PAGE);
    assert!(!space.ran_out_of_memory());
    let deeper = GuestVirt(top.0 - 5 * PAGE);
    assert_eq!(space.resolve_fault(deeper, FaultAccess::Write), FaultResolution::OutOfMemory);
    assert!(space.ran_out_of_memory());
}

#[test]
fn the_host_writes_to_a_stack_that_has_yet_to_grow() {
    let mut space = space(64, 16);
    let top = space.map_stack(64 << 10, PAGE).unwrap();
    let at = GuestVirt(top.0 - 6 * PAGE - 2);
    space.write(at, b"text").unwrap();
    assert_eq!(space.read_array(at), Ok(*b"text"));
}

#[test]
fn nothing_is_placed_in_the_room_of_the_stack_unless_the_guest_insists() {
    let mut space = space(256, 32);
    let top = space.map_stack(1 << 20, PAGE).unwrap();
    let room = GuestVirt(top.0 - (1 << 19));
    let hinted = space.map_anonymous(PAGE, Placement::Hint(room), Protection::ReadWrite).unwrap();
    assert_eq!(hinted, GuestVirt(GAP - PAGE));
    let in_gap = GuestVirt(top.0 - (1 << 30));
    assert_eq!(space.map_anonymous(PAGE, Placement::Hint(in_gap), Protection::ReadWrite).unwrap(), in_gap);
    let insisted = space.map_anonymous(PAGE, Placement::Fixed(room), Protection::ReadWrite).unwrap();
    assert_eq!(insisted, room);
    assert_eq!(space.resolve_fault(GuestVirt(room.0 + PAGE), FaultAccess::Write), FaultResolution::Grown);
    assert_eq!(space.resolve_fault(GuestVirt(room.0 - PAGE), FaultAccess::Write), FaultResolution::Denied);
}

#[test]
fn an_access_between_the_stack_pointer_and_the_stack_is_an_overflow_however_far_it_is() {
    let mut space = space(64, 32);
    let top = space.map_stack(1 << 20, PAGE).unwrap();
    let below = |bytes| GuestVirt(top.0 - (1 << 20) - bytes);
    for far in [1, PAGE, 1 << 20, 8 << 20, 1 << 30, 1 << 40, 1 << 45] {
        let stack_pointer = below(far);
        for at in [stack_pointer, GuestVirt(stack_pointer.0 - 8), below(far / 2 + 1), below(1)] {
            assert!(space.is_stack_overflow(at, stack_pointer), "{at} with {stack_pointer}");
        }
    }
    let on_the_stack = GuestVirt(top.0 - 8);
    assert!(space.is_stack_overflow(below(PAGE), on_the_stack), "in the guard");
    for stray in [below(8 << 20), GuestVirt(GAP), GuestVirt(GAP - 1), GuestVirt(8), on_the_stack] {
        assert!(!space.is_stack_overflow(stray, on_the_stack), "{stray}");
    }
    assert!(!space.is_stack_overflow(below(2 << 30), below(1 << 30)), "below the stack pointer");

    let others =
        space.map_anonymous(PAGE, Placement::Fixed(below(1 << 30).page_start()), Protection::ReadWrite).unwrap();
    assert!(!space.is_stack_overflow(GuestVirt(others.0 + PAGE), others), "a stack of the guest's own");
    assert!(!space.is_stack_overflow(others, below(1 << 40)), "mapped");
}

#[test]
fn the_gap_is_used_where_nothing_else_is_left() {
    let mut space = space(64, 32);
    let top = space.map_stack(1 << 20, PAGE).unwrap();
    let mut room = || space.map_anonymous(1 << 45, Placement::Anywhere, Protection::None);
    assert_eq!(room().unwrap(), GuestVirt(GAP - (1 << 45)));
    assert_eq!(room().unwrap(), GuestVirt(top.0 - (1 << 21) - (1 << 45)));
    assert!(matches!(room(), Err(MapError::NoRoom)));
}

#[test]
fn an_image_may_lie_in_the_gap_with_its_heap() {
    let mut space = space(64, 32);
    space.map_stack(1 << 20, PAGE).unwrap();
    let at = GuestVirt(0x7000_0000_0000);
    space.map_image(at, PAGE, Protection::Read).unwrap();
    space.place_heap(GuestVirt(at.0 + PAGE));
    assert_eq!(space.move_heap_end(GuestVirt(at.0 + 3 * PAGE)), GuestVirt(at.0 + 3 * PAGE));
}

#[test]
fn a_fault_is_spurious_when_the_access_is_allowed() {
    let mut space = space(4, 16);
    let at = space.map_anonymous(PAGE, Placement::Anywhere, Protection::Read).unwrap();
    assert_eq!(space.resolve_fault(at, FaultAccess::Read), FaultResolution::Allowed);
    assert_eq!(space.resolve_fault(at, FaultAccess::Write), FaultResolution::Denied);
    space.protect(at, PAGE, Protection::ReadWrite).unwrap();
    assert_eq!(space.resolve_fault(at, FaultAccess::Write), FaultResolution::Allowed);
    assert_eq!(space.resolve_fault(at, FaultAccess::Execute), FaultResolution::Denied);
    assert_eq!(space.resolve_fault(GuestVirt(0), FaultAccess::Read), FaultResolution::Denied);
    assert_eq!(space.resolve_fault(GuestVirt(u64::MAX), FaultAccess::Write), FaultResolution::Denied);
}

/// Where the gap below the stack begins.
const GAP: u64 = 0x3fc0_0000_0000;
