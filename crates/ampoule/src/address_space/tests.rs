//! The address space by itself, without a virtual machine.

mod access;
mod bounds;
mod model;
mod paged;
mod stack;

use std::sync::Arc;

use ampoule_vmm::x86_64::paging::PageTables;
use ampoule_vmm::{HostOnly, Region};

use super::*;
use ampoule_vmm::FaultAccess;

#[test]
fn address_space_alone_costs_no_memory() {
    let mut space = space(4, 16);
    let at = space.map_anonymous(1 << 40, Placement::Anywhere, Protection::None).unwrap();
    assert_eq!(space.memory_free(), space.memory_total());
    assert_eq!(space.tables.translate(at), None);
}

#[test]
fn memory_that_the_guest_does_not_have_is_refused_and_remembered() {
    let mut space = space(4, 16);
    assert!(!space.ran_out_of_memory());
    let refused = space.map_anonymous(5 * PAGE, Placement::Anywhere, Protection::ReadWrite);
    assert!(matches!(refused, Err(MapError::OutOfFrames { needed: 5, free: 4 })));
    assert!(space.ran_out_of_memory());
    assert_eq!(space.memory_free(), 4 * PAGE);
    space.map_anonymous(4 * PAGE, Placement::Anywhere, Protection::ReadWrite).unwrap();
    assert_eq!(space.memory_free(), 0);
}

#[test]
fn all_memory_can_be_mapped_again_in_place() {
    let mut space = space(4, 16);
    let at = space.map_anonymous(4 * PAGE, Placement::Anywhere, Protection::ReadWrite).unwrap();
    space.write(at, b"old").unwrap();
    space.map_anonymous(4 * PAGE, Placement::Fixed(at), Protection::ReadWrite).unwrap();
    assert_eq!(space.read_array(at), Ok([0; 3]));
}

#[test]
fn moving_to_a_certain_address_needs_memory_only_for_what_is_added() {
    let mut space = space(4, 16);
    let at = space.map_anonymous(3 * PAGE, Placement::Anywhere, Protection::ReadWrite).unwrap();
    space.write(at, b"moved").unwrap();
    let to = GuestVirt(at.0 - 64 * PAGE);
    assert_eq!(space.remap(at, 3 * PAGE, 4 * PAGE, Movement::To(to)).unwrap(), to);
    assert_eq!(space.read_array(to), Ok(*b"moved"));
    assert!(!space.ran_out_of_memory());
}

#[test]
fn mappings_are_bounded_like_linux_bounds_them() {
    let mut space = space(1, 1024);
    let at = |index: u64| GuestVirt(0x10_0000 + 2 * index * PAGE);
    for index in 0..MAX_MAPPINGS as u64 {
        space.map_anonymous(PAGE, Placement::FixedVacant(at(index)), Protection::None).unwrap();
    }
    let one_more = space.map_anonymous(PAGE, Placement::Anywhere, Protection::None);
    assert!(matches!(one_more, Err(MapError::TooManyMappings { limit: MAX_MAPPINGS })));
    space.unmap(at(0), PAGE).unwrap();
    space.map_anonymous(3 * PAGE, Placement::Anywhere, Protection::None).unwrap();
}

#[test]
fn a_hole_that_makes_one_mapping_too_many_is_refused() {
    let mut space = space(1, 1024);
    let whole = GuestVirt(0x10_0000);
    space.map_anonymous(3 * PAGE, Placement::FixedVacant(whole), Protection::None).unwrap();
    for index in 1..MAX_MAPPINGS as u64 {
        let at = GuestVirt(0x20_0000 + 2 * index * PAGE);
        space.map_anonymous(PAGE, Placement::FixedVacant(at), Protection::None).unwrap();
    }
    let hole = GuestVirt(whole.0 + PAGE);
    assert!(matches!(space.unmap(hole, PAGE), Err(MapError::TooManyMappings { .. })));
    assert_eq!(space.is_mapped(hole, PAGE), Some(true));
    space.unmap(whole, 2 * PAGE).unwrap();
}

#[test]
fn without_tables_a_mapping_fails_and_leaves_nothing_behind() {
    let mut space = space(8, 5);
    let near = GuestVirt(0x10_0000);
    space.map_anonymous(PAGE, Placement::FixedVacant(near), Protection::ReadWrite).unwrap();
    let far = GuestVirt(0x10_0000_0000);
    let refused = space.map_anonymous(2 * PAGE, Placement::FixedVacant(far), Protection::ReadWrite);
    assert!(matches!(refused, Err(MapError::OutOfTables(_))));
    assert_eq!(space.memory_free(), 7 * PAGE);
    assert_eq!(space.describe(far), Location::Unmapped);
}

#[test]
fn a_protection_that_runs_out_of_tables_half_way_leaves_everything_as_it_was() {
    let mut space = space(520, 5);
    let low = GuestVirt(0x10_0000);
    space.map_anonymous(101 * PAGE, Placement::FixedVacant(low), Protection::ReadWrite).unwrap();
    space.unmap(low, 100 * PAGE).unwrap();
    // Its frames lie in two runs, and its pages in the ranges of three tables, of which one can be made.
    let (reserved, len) = (GuestVirt(0x1f_f000), 514 * PAGE);
    space.map_anonymous(len, Placement::FixedVacant(reserved), Protection::None).unwrap();
    for _ in 0..3 {
        assert!(matches!(space.protect(reserved, len, Protection::ReadWrite), Err(MapError::OutOfTables(_))));
        assert_eq!(space.memory_free(), 519 * PAGE);
        assert_eq!(space.tables.translate(reserved), None);
        assert!(space.read_u64(reserved).is_err());
    }
    space.protect(reserved, 2 * PAGE, Protection::ReadWrite).unwrap();
    assert_eq!(space.read_u64(reserved), Ok(0));
}

#[test]
fn only_the_image_is_executable() {
    let mut space = space(4, 16);
    let text = GuestVirt(0x40_0000);
    space.map_image(text, PAGE, Protection::ReadExecute).unwrap();
    let data = space.map_anonymous(PAGE, Placement::Anywhere, Protection::ReadWrite).unwrap();
    let refused = space.map_anonymous(PAGE, Placement::Anywhere, Protection::ReadExecute);
    assert!(matches!(refused, Err(MapError::ExecutableRefused)));
    assert!(matches!(space.protect(data, PAGE, Protection::ReadExecute), Err(MapError::ExecutableRefused)));
    space.protect(text, PAGE, Protection::ReadExecute).unwrap();
    space.protect(text, PAGE, Protection::ReadWrite).unwrap();
    assert!(matches!(space.protect(text, PAGE, Protection::ReadExecute), Err(MapError::ExecutableRefused)));
}

#[test]
fn the_image_keeps_its_contents_when_it_is_called_unneeded() {
    let mut space = space(4, 16);
    let text = GuestVirt(0x40_0000);
    space.map_image(text, PAGE, Protection::Read).unwrap();
    space.initialize(text, b"code").unwrap();
    assert!(matches!(space.discard(text, PAGE), Err(MapError::InvalidRange)));
    assert_eq!(space.read_array(text), Ok(*b"code"));
}

#[test]
fn ranges_beyond_the_guests_addresses_are_refused() {
    let mut space = space(4, 16);
    for (at, len) in
        [(USER_END.0, PAGE), (USER_END.0 - PAGE, 2 * PAGE), (0, PAGE), (USER_START.0, u64::MAX), (0x10_0001, PAGE)]
    {
        let at = GuestVirt(at);
        assert!(matches!(space.unmap(at, len), Err(MapError::InvalidRange)), "{at} {len:#x}");
        assert!(matches!(space.protect(at, len, Protection::Read), Err(MapError::InvalidRange)), "{at} {len:#x}");
        let mapped = space.map_anonymous(len, Placement::Fixed(at), Protection::None);
        assert!(matches!(mapped, Err(MapError::InvalidRange)), "{at} {len:#x}");
    }
}

#[test]
fn the_heap_grows_until_something_is_in_its_way() {
    let mut space = space(8, 16);
    let start = GuestVirt(0x50_0000);
    space.place_heap(start);
    let byte_more = GuestVirt(start.0 + 1);
    assert_eq!(space.move_heap_end(byte_more), byte_more);
    assert_eq!(space.describe(start), Location::Mapped { kind: MappingKind::Heap, protection: Protection::ReadWrite });
    let in_the_way = GuestVirt(start.0 + 2 * PAGE);
    space.map_anonymous(PAGE, Placement::FixedVacant(in_the_way), Protection::ReadWrite).unwrap();
    assert_eq!(space.move_heap_end(in_the_way), in_the_way);
    assert_eq!(space.move_heap_end(GuestVirt(in_the_way.0 + 1)), in_the_way);
    assert_eq!(space.move_heap_end(GuestVirt(start.0 - 1)), in_the_way);
    assert_eq!(space.move_heap_end(GuestVirt(u64::MAX)), in_the_way);
    assert_eq!(space.move_heap_end(start), start);
    assert_eq!(space.memory_free(), 7 * PAGE);
}

/// An address space with this many frames and room for this many page tables.
fn space(frames: usize, tables: usize) -> AddressSpace {
    space_that_allows(frames, tables, ExecutableMemory::Refused)
}

fn space_that_allows(frames: usize, tables: usize, executable_memory: ExecutableMemory) -> AddressSpace {
    let table_bytes = tables * PAGE_SIZE;
    let table_region = Region::anonymous(table_bytes).unwrap();
    AddressSpace::new(Parts {
        memory: GuestMemory::new(
            TrackedRegion::anonymous(frames * PAGE_SIZE, HostOnly::default()).unwrap(),
            RAM_BASE,
            0,
        ),
        tables: Box::new(PageTables::new(table_region, GuestPhys(0), 0..table_bytes).unwrap()),
        executable_memory,
    })
}

fn window(at: u64, pages: usize, writable: bool) -> (Window, Arc<TrackedRegion>) {
    let region = TrackedRegion::anonymous((pages + 1) * PAGE_SIZE, HostOnly::default()).unwrap();
    let window = Window {
        at: GuestVirt(at),
        to: GuestPhys(0x4000_0000),
        region: Arc::clone(&region),
        offset: PAGE_SIZE,
        len: pages * PAGE_SIZE,
        writable,
    };
    (window, region)
}

const RAM_BASE: GuestPhys = GuestPhys(0x1_0000_0000);
