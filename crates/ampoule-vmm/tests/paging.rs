//! The page tables against a model: a map from page to page.

use std::collections::BTreeMap;

use ampoule_vmm::x86_64::paging::{Access, OutOfTables, PageTables};
use ampoule_vmm::{GuestPhys, GuestVirt, PAGE_SIZE, Region};
use proptest::prelude::*;

const PAGE: u64 = PAGE_SIZE as u64;
const BASE: GuestPhys = GuestPhys(0x10_0000);

fn tables(pages: usize) -> PageTables {
    let region = Region::anonymous((pages + 2) * PAGE_SIZE).unwrap();
    // One foreign page before and one behind.
    PageTables::new(region, BASE, PAGE_SIZE..(pages + 1) * PAGE_SIZE).unwrap()
}

fn access() -> impl Strategy<Value = Access> {
    any::<(bool, bool, bool)>().prop_map(|(write, execute, user)| Access { write, execute, user })
}

/// Pages around the boundaries of tables of all levels, so that mappings meet, overlap and span them.
fn page() -> impl Strategy<Value = u64> {
    let places = prop::sample::select(vec![0, 1 << 9, 7 << 9, 1 << 18, (1 << 18) + (1 << 9), 1 << 27, (1 << 35) - 600]);
    (places, -300..300i64).prop_map(|(place, offset): (u64, i64)| place.saturating_add_signed(offset))
}

#[derive(Clone, Debug)]
enum Step {
    Map(u64, u64, usize, Access),
    Unmap(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (page(), 0..1u64 << 36, 0..700usize, access())
            .prop_map(|(at, to, pages, access)| Step::Map(at, to, pages, access)),
        2 => (page(), 0..700u64).prop_map(|(at, pages)| Step::Unmap(at, pages)),
        1 => (page(), 0..1u64 << 35).prop_map(|(at, pages)| Step::Unmap(at, pages)),
    ]
}

fn clamp(at: u64, pages: u64) -> u64 {
    pages.min((1 << 35) - at)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn translation_follows_the_mappings(
        steps in prop::collection::vec(step(), 1..16),
        table_pages in prop::sample::select(vec![8, 12, 64]),
    ) {
        let mut tables = tables(table_pages);
        let mut model: BTreeMap<u64, (u64, Access)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Map(at, to, pages, access) => {
                    let pages = clamp(at, pages as u64);
                    let (virt, phys) = (GuestVirt(at * PAGE), GuestPhys(to * PAGE));
                    let free = tables.free_tables();
                    match tables.map(virt, phys, pages as usize, access) {
                        Ok(()) => {
                            model.extend((0..pages).map(|page| (at + page, (to + page, access))));
                        }
                        Err(OutOfTables { needed, available }) => {
                            prop_assert!(needed > available);
                            prop_assert_eq!(tables.free_tables(), free);
                        }
                    }
                }
                Step::Unmap(at, pages) => {
                    let pages = clamp(at, pages);
                    tables.unmap(GuestVirt(at * PAGE), pages as usize);
                    let gone: Vec<u64> = model.range(at..at + pages).map(|(page, _)| *page).collect();
                    for page in gone {
                        model.remove(&page);
                    }
                }
            }
            prop_assert_eq!(tables.free_tables(), table_pages - needed(&model));
        }
        for (page, (to, access)) in &model {
            let found = tables.translate(GuestVirt(page * PAGE + 0x123));
            prop_assert_eq!(found, Some((GuestPhys(to * PAGE + 0x123), *access)));
            for neighbour in [page.wrapping_sub(1), page + 1] {
                let expected = model.get(&neighbour).map(|(to, access)| (GuestPhys(to * PAGE), *access));
                prop_assert_eq!(tables.translate(GuestVirt(neighbour.wrapping_mul(PAGE))), expected);
            }
        }
        tables.unmap(GuestVirt(0), 1 << 35);
        prop_assert_eq!(tables.free_tables(), table_pages - 1);
    }
}

/// How many tables it takes to map what the model holds.
fn needed(model: &BTreeMap<u64, (u64, Access)>) -> usize {
    let per_level = |bits: u32| {
        let mut prefixes: Vec<u64> = model.keys().map(|page| page >> bits).collect();
        prefixes.dedup();
        prefixes.len()
    };
    1 + per_level(9) + per_level(18) + per_level(27)
}

const ALL: Access = Access { write: true, execute: true, user: true };

#[test]
fn the_root_is_where_the_guest_sees_it() {
    assert_eq!(tables(4).root(), GuestPhys(BASE.0 + PAGE));
}

#[test]
fn without_room_for_the_root_there_are_no_tables() {
    let region = Region::anonymous(PAGE_SIZE).unwrap();
    let error = PageTables::new(region, BASE, 0..0).unwrap_err();
    assert_eq!(error, OutOfTables { needed: 1, available: 0 });
}

#[test]
fn a_mapping_that_does_not_fit_changes_nothing() {
    let mut tables = tables(4);
    let at = GuestVirt(0x1f_f000);
    let error = tables.map(at, GuestPhys(0), 2, ALL).unwrap_err();
    assert_eq!(error, OutOfTables { needed: 4, available: 3 });
    assert_eq!(tables.translate(at), None);
    tables.map(at, GuestPhys(0), 1, ALL).unwrap();
    assert_eq!(tables.free_tables(), 0);
}

#[test]
fn mapping_all_over_the_address_space_does_not_use_up_the_tables() {
    let mut tables = tables(4);
    for place in 0..10_000 {
        let at = GuestVirt((place * 0x3_1234_5000) % (1 << 47));
        tables.map(at, GuestPhys(PAGE), 1, ALL).unwrap();
        tables.unmap(at, 1);
    }
    assert_eq!(tables.free_tables(), 3);
}

#[test]
fn no_address_beyond_the_lower_half_is_mapped() {
    let mut tables = tables(8);
    let last = GuestVirt((1 << 47) - PAGE);
    tables.map(last, GuestPhys(0), 1, ALL).unwrap();
    assert!(tables.translate(last).is_some());
    for address in [1 << 47, u64::MAX, u64::MAX << 47, last.0 | 0xffff << 48] {
        assert_eq!(tables.translate(GuestVirt(address)), None);
    }
}

#[test]
#[should_panic(expected = "lower half")]
fn a_mapping_that_leaves_the_lower_half_is_a_mistake() {
    let last = GuestVirt((1 << 47) - PAGE);
    tables(8).map(last, GuestPhys(0), 2, ALL).ok();
}
