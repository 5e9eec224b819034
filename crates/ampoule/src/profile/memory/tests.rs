//! The accounts against a model, and records that no sound guest makes. What comes out is tested with real guests.

use std::collections::{BTreeMap, HashMap};

use ampoule_abi::layout::{AllocationHeader, AllocationKind, AllocationRecord, CALLERS_MISSING, MAX_CALLERS};
use proptest::prelude::*;

use super::super::stacks::MAX_STACKS;
use super::allocations::{Allocations, Amount, LARGEST, LiveBlocks, MAX_BLOCKS};
use super::{MemoryMeasure, MemoryProfile, is_file_of_allocator, is_name_of_allocator};
use crate::image::tests::image;

fn allocated(allocations: &mut Allocations, address: u64, size: u64, callers: &[u64]) {
    noted(allocations, AllocationKind::Allocated, 0, (address, size), callers);
}

fn freed(allocations: &mut Allocations, address: u64) {
    noted(allocations, AllocationKind::Freed, 0, (address, 0), &[]);
}

fn noted(
    allocations: &mut Allocations,
    kind: AllocationKind,
    flags: u32,
    (address, size): (u64, u64),
    callers: &[u64],
) {
    let header = AllocationHeader { kind: kind as u32, flags, address, size };
    let callers: Vec<u8> = callers.iter().flat_map(|caller| caller.to_le_bytes()).collect();
    let content = [&header.to_bytes()[..], &callers].concat();
    allocations.note(&AllocationRecord::from_bytes(&content).expect("a record"));
}

fn profile(allocations: &Allocations) -> MemoryProfile {
    allocations.profile(image().executable().clone())
}

/// Live, peak and total, each as blocks and bytes.
fn amounts(profile: &MemoryProfile) -> [(u64, u64); 3] {
    MEASURES.map(|measure| (profile.blocks(measure), profile.bytes(measure)))
}

const MEASURES: [MemoryMeasure; 3] = [MemoryMeasure::Live, MemoryMeasure::Peak, MemoryMeasure::Total];

/// The same by the innermost instruction of each stack.
fn by_stack(profile: &MemoryProfile) -> BTreeMap<u64, [(u64, u64); 3]> {
    let amount = |Amount { blocks, bytes }: Amount| (blocks, bytes);
    let stacks =
        profile.stacks.iter().map(|(stack, it)| (stack.instructions[0], [it.live, it.peak, it.total].map(amount)));
    stacks.collect()
}

#[test]
fn a_peak_is_of_one_moment_in_all_stacks() {
    let mut allocations = Allocations::new();
    allocated(&mut allocations, 0x1000, 100, &[11]);
    allocated(&mut allocations, 0x2000, 50, &[21]);
    freed(&mut allocations, 0x1000);
    allocated(&mut allocations, 0x3000, 90, &[21]);
    freed(&mut allocations, 0x2000);
    allocated(&mut allocations, 0x4000, 10, &[31]);
    let profile = profile(&allocations);
    assert_eq!(amounts(&profile), [(2, 100), (2, 150), (4, 250)]);
    let expected =
        [(10, [(0, 0), (1, 100), (1, 100)]), (20, [(1, 90), (1, 50), (2, 140)]), (30, [(1, 10), (0, 0), (1, 10)])];
    assert_eq!(by_stack(&profile), BTreeMap::from(expected));
}

#[test]
fn what_was_allocated_before_is_not_known_when_it_is_freed() {
    let mut allocations = Allocations::new();
    for address in [0, 0x1000, 0x1000, u64::MAX] {
        freed(&mut allocations, address);
    }
    allocated(&mut allocations, 0x1000, 8, &[]);
    freed(&mut allocations, 0x1000);
    freed(&mut allocations, 0x1000);
    assert_eq!(amounts(&profile(&allocations)), [(0, 0), (1, 8), (1, 8)]);
    assert_eq!(profile(&allocations).unknown_frees(), 5);
}

#[test]
fn a_block_that_takes_the_place_of_another_one_has_ended_it() {
    let mut allocations = Allocations::new();
    for size in [10, 20, 5] {
        allocated(&mut allocations, 0x1000, size, &[1]);
    }
    assert_eq!(amounts(&profile(&allocations)), [(1, 5), (1, 20), (3, 35)]);
}

#[test]
fn sizes_that_cannot_be_add_up_within_numbers() {
    let mut allocations = Allocations::new();
    for address in 0..100 {
        allocated(&mut allocations, address, u64::MAX - address, &[1]);
    }
    (0..50).for_each(|address| freed(&mut allocations, address));
    assert_eq!(amounts(&profile(&allocations)), [(50, 50 * LARGEST), (100, 100 * LARGEST), (100, 100 * LARGEST)]);
    assert!((MAX_BLOCKS as u64).checked_mul(LARGEST).is_some());
}

#[test]
fn blocks_that_are_too_many_are_counted_and_not_followed() {
    let mut allocations = Allocations::new();
    let all = MAX_BLOCKS as u64 + 1000;
    (0..all).for_each(|address| allocated(&mut allocations, address, 1, &[1]));
    let full = profile(&allocations);
    assert_eq!(amounts(&full), [(all - 1000, all - 1000), (all - 1000, all - 1000), (all, all)]);
    assert_eq!(full.untracked_blocks(), 1000);
    (0..all).for_each(|address| freed(&mut allocations, address));
    let empty = profile(&allocations);
    assert_eq!((empty.blocks(MemoryMeasure::Live), empty.unknown_frees()), (0, 1000));
}

#[test]
fn stacks_that_are_too_many_are_counted_together_and_deep_ones_say_so() {
    let mut allocations = Allocations::new();
    let all = MAX_STACKS as u64 + 10;
    (0..all).for_each(|index| allocated(&mut allocations, index, 3, &[index + 1]));
    noted(&mut allocations, AllocationKind::Allocated, CALLERS_MISSING, (all, 3), &[1; MAX_CALLERS]);
    (0..all).for_each(|index| freed(&mut allocations, index));
    let profile = profile(&allocations);
    assert_eq!(profile.blocks_without_stack(), 11);
    assert_eq!(profile.truncated_blocks(), 0, "it has no stack either");
    assert_eq!(amounts(&profile), [(1, 3), (all + 1, 3 * (all + 1)), (all + 1, 3 * (all + 1))]);

    let mut allocations = Allocations::new();
    noted(&mut allocations, AllocationKind::Allocated, CALLERS_MISSING, (1, 3), &[1; MAX_CALLERS]);
    assert_eq!(self::profile(&allocations).truncated_blocks(), 1);
}

#[test]
fn blocks_of_other_accounts_are_not_live_after_a_restore() {
    let [mut first, mut second] = [Allocations::new(), Allocations::new()];
    allocated(&mut first, 0x1000, 10, &[1]);
    allocated(&mut second, 0x2000, 20, &[1]);
    second.restore(Some(&first.live_blocks()));
    assert_eq!(amounts(&profile(&second)), [(0, 0), (1, 20), (1, 20)]);
    first.restore(None);
    assert_eq!(amounts(&profile(&first)), [(0, 0), (1, 10), (1, 10)]);
}

#[test]
fn only_the_functions_between_an_allocation_and_its_report_are_left_out() {
    for name in [
        "__rust_alloc",
        "__rustc::__rust_realloc",
        "__rustc[4425a7e20b4c9619]::__rust_alloc_zeroed",
        "ampoule_guest::rt::allocations::allocated",
        "<ampoule_guest::allocator::Profiled as core::alloc::global::GlobalAlloc>::alloc",
        "<ampoule_guest::allocator::Profiled<mine::Mine> as core::alloc::global::GlobalAlloc>::realloc",
    ] {
        assert!(is_name_of_allocator(name), "{name}");
    }
    for name in ["alloc::raw_vec::finish_grow", "main", "ampoule_guest::rt::serve::run", "my::__rust_alloc_x", ""] {
        assert!(!is_name_of_allocator(name), "{name}");
    }
    for file in ["crates/ampoule-guest/src/allocator.rs", "ampoule-guest-0.1.0/src/rt/allocations.rs"] {
        assert!(is_file_of_allocator(file), "{file}");
    }
    for file in ["ampoule-guest-0.1.0/src/rt/serve.rs", "mine/src/allocator.rs", "src/main.rs", "", "/src/"] {
        assert!(!is_file_of_allocator(file), "{file}");
    }
}

/// What a guest and its host do.
#[derive(Clone, Debug)]
enum Step {
    Allocate { address: u64, size: u64, caller: u64 },
    Free { address: u64 },
    Snapshot,
    Restore { which: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..20u64, 0..1000u64, 1..5u64).prop_map(|(address, size, caller)| Step::Allocate { address, size, caller }),
        6 => (0..20u64).prop_map(|address| Step::Free { address }),
        1 => Just(Step::Snapshot),
        1 => any::<usize>().prop_map(|which| Step::Restore { which }),
    ];
    prop::collection::vec(step, 0..100)
}

/// By address: size and caller.
type Blocks = HashMap<u64, (u64, u64)>;

/// The same accounts, each time from the beginning.
#[derive(Default)]
struct Model {
    live: Blocks,
    peak: Blocks,
    /// Of each block its size and caller.
    total: Vec<(u64, u64)>,
}

impl Model {
    fn of<'a>(blocks: impl Iterator<Item = &'a (u64, u64)>, caller: Option<u64>) -> (u64, u64) {
        let blocks = blocks.filter(|block| caller.is_none_or(|caller| block.1 == caller));
        blocks.fold((0, 0), |(count, bytes), block| (count + 1, bytes + block.0))
    }

    fn amounts(&self, caller: Option<u64>) -> [(u64, u64); 3] {
        let [live, peak] = [&self.live, &self.peak].map(|blocks| Self::of(blocks.values(), caller));
        [live, peak, Self::of(self.total.iter(), caller)]
    }
}

proptest! {
    #[test]
    fn the_accounts_are_those_of_a_model_that_keeps_everything(steps in steps()) {
        let mut allocations = Allocations::new();
        let mut model = Model::default();
        let mut snapshots: Vec<(LiveBlocks, Blocks)> = Vec::new();
        for step in steps {
            match step {
                Step::Allocate { address, size, caller } => {
                    allocated(&mut allocations, address, size, &[caller]);
                    model.live.insert(address, (size, caller));
                    model.total.push((size, caller));
                    if Model::of(model.live.values(), None).1 > Model::of(model.peak.values(), None).1 {
                        model.peak.clone_from(&model.live);
                    }
                }
                Step::Free { address } => {
                    freed(&mut allocations, address);
                    model.live.remove(&address);
                }
                Step::Snapshot => snapshots.push((allocations.live_blocks(), model.live.clone())),
                Step::Restore { which } => {
                    let snapshot = which.checked_rem(snapshots.len() + 1).and_then(|which| snapshots.get(which));
                    allocations.restore(snapshot.map(|(blocks, _)| blocks));
                    model.live = snapshot.map(|(_, live)| live.clone()).unwrap_or_default();
                }
            }
            let profile = profile(&allocations);
            prop_assert_eq!(amounts(&profile), model.amounts(None));
            for (instruction, counted) in by_stack(&profile) {
                prop_assert_eq!(counted, model.amounts(Some(instruction + 1)));
            }
        }
    }
}
