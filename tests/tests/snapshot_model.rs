//! Random sequences of calls, snapshots, restores, spawns, faults, kills and drops, on several sandboxes of one lineage, against a
//! model that keeps plain copies. After each step all that can be observed of every sandbox must be what the model says.
//!
//! `AMPOULE_MODEL_CASES` sets how many sequences there are.

use ampoule_tests::snapshot_model::{Change, End, Step, World};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn sandboxes_and_snapshots_are_what_plain_copies_would_be(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.perform(step);
            world.compare();
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..40)
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<usize>;
    prop_oneof![
        12 => (index(), change()).prop_map(|(sandbox, change)| Step::Change { sandbox, change }),
        3 => index().prop_map(|sandbox| Step::Snapshot { sandbox }),
        5 => (index(), index()).prop_map(|(sandbox, snapshot)| Step::Restore { sandbox, snapshot }),
        2 => (index(), index(), 2_u8..20)
            .prop_map(|(sandbox, snapshot, times)| Step::RestoreOften { sandbox, snapshot, times }),
        1 => index().prop_map(|sandbox| Step::RestoreForeign { sandbox }),
        2 => index().prop_map(|sandbox| Step::Reset { sandbox }),
        2 => (index(), end()).prop_map(|(sandbox, how)| Step::End { sandbox, how }),
        2 => index().prop_map(|snapshot| Step::Spawn { snapshot }),
        1 => index().prop_map(|sandbox| Step::DropSandbox { sandbox }),
        1 => index().prop_map(|snapshot| Step::DropSnapshot { snapshot }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let slot = 0_u8..3;
    // Few; enough for unchanged pages to be looked for; enough for a restore to map afresh instead of copying.
    let pages = prop_oneof![8 => 1_u32..20, 2 => 270_u32..300, 1 => 1030_u32..1100];
    prop_oneof![
        2 => (0_u8..4, 0_u32..3000, any::<u64>())
            .prop_map(|(key, words, value)| Change::SetValue { key, words, value }),
        1 => (0_u8..4).prop_map(|key| Change::RemoveValue { key }),
        1 => any::<u64>().prop_map(|value| Change::AddToVariable { value }),
        3 => (slot.clone(), pages, any::<u64>())
            .prop_map(|(slot, pages, value)| Change::MapRegion { slot, pages, value }),
        1 => slot.clone().prop_map(|slot| Change::UnmapRegion { slot }),
        2 => (slot.clone(), any::<bool>()).prop_map(|(slot, writable)| Change::ProtectRegion { slot, writable }),
        3 => (slot, any::<u32>(), any::<u64>())
            .prop_map(|(slot, page, value)| Change::WriteRegion { slot, page, value }),
        1 => (1_u32..5, any::<u64>()).prop_map(|(pages, value)| Change::GrowHeap { pages, value }),
        1 => (1_u64..9).prop_map(|step| Change::AskHost { step }),
        1 => "[a-z]{1,8}\n?".prop_map(|text| Change::Print { text }),
        1 => Just(Change::Panic),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Fault),
        Just(End::Deadline),
        Just(End::Kill),
        Just(End::Exit),
        (0_u8..3).prop_map(|slot| End::WriteProtected { slot }),
        any::<u64>().prop_map(|value| End::ChangeAndFault { value }),
    ]
}

fn cases() -> u32 {
    std::env::var("AMPOULE_MODEL_CASES").map_or(300, |cases| cases.parse().expect("a number of sequences"))
}
