//! How the stack grows, and how page faults are resolved.

use super::*;

#[test]
fn the_stack_grows_down_to_its_limit_and_not_beyond() {
    let mut space = space(512, 16);
    let top = space.map_stack(1 << 20, 8 << 10).unwrap();
    assert_eq!(space.memory_free(), 510 * PAGE);
    let deep = GuestVirt(top.0 - 100 * PAGE);
    assert_eq!(space.resolve_fault(deep, FaultAccess::Write), FaultResolution::Resume);
    space.write(deep, b"deep").unwrap();
    let last = GuestVirt(top.0 - (1 << 20));
    assert_eq!(space.resolve_fault(last, FaultAccess::Read), FaultResolution::Resume);
    let guard = GuestVirt(last.0 - 1);
    assert_eq!(space.resolve_fault(guard, FaultAccess::Write), FaultResolution::Denied);
    assert_eq!(space.describe(guard), Location::StackGuard);
    assert_eq!(space.memory_free(), 256 * PAGE);
    assert_eq!(space.read_array(deep), Ok(*b"deep"));
}

#[test]
fn the_stack_grows_by_more_than_the_fault_asks_for() {
    let mut space = space(512, 16);
    let top = space.map_stack(1 << 20, PAGE).unwrap();
    assert_eq!(space.resolve_fault(GuestVirt(top.0 - 2 * PAGE), FaultAccess::Write), FaultResolution::Resume);
    assert_eq!(space.memory_free(), (512 - 33) * PAGE);
}

#[test]
fn where_memory_is_short_the_stack_grows_by_what_it_takes() {
    let mut space = space(4, 16);
    let top = space.map_stack(1 << 20, PAGE).unwrap();
    assert_eq!(space.resolve_fault(GuestVirt(top.0 - 3 * PAGE), FaultAccess::Write), FaultResolution::Resume);
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
    let stack_and_guard = (1 << 20) + (1 << 20);
    let hinted = space.map_anonymous(PAGE, Placement::Hint(room), Protection::ReadWrite).unwrap();
    assert_eq!(hinted, GuestVirt(top.0 - stack_and_guard - PAGE));
    let insisted = space.map_anonymous(PAGE, Placement::Fixed(room), Protection::ReadWrite).unwrap();
    assert_eq!(insisted, room);
    assert_eq!(space.resolve_fault(GuestVirt(room.0 + PAGE), FaultAccess::Write), FaultResolution::Resume);
    assert_eq!(space.resolve_fault(GuestVirt(room.0 - PAGE), FaultAccess::Write), FaultResolution::Denied);
}

#[test]
fn a_fault_is_spurious_when_the_access_is_allowed() {
    let mut space = space(4, 16);
    let at = space.map_anonymous(PAGE, Placement::Anywhere, Protection::Read).unwrap();
    assert_eq!(space.resolve_fault(at, FaultAccess::Read), FaultResolution::Resume);
    assert_eq!(space.resolve_fault(at, FaultAccess::Write), FaultResolution::Denied);
    space.protect(at, PAGE, Protection::ReadWrite).unwrap();
    assert_eq!(space.resolve_fault(at, FaultAccess::Write), FaultResolution::Resume);
    assert_eq!(space.resolve_fault(at, FaultAccess::Execute), FaultResolution::Denied);
    assert_eq!(space.resolve_fault(GuestVirt(0), FaultAccess::Read), FaultResolution::Denied);
    assert_eq!(space.resolve_fault(GuestVirt(u64::MAX), FaultAccess::Write), FaultResolution::Denied);
}
