//! Random steps against the model.

use proptest::prelude::*;

use super::*;
use crate::address_space::model::{
    AMPLE_TABLES, ARENA, Change, HEAP, LONGEST, MapShared, Operation, STACK, Settings, Step, TestFile, World,
};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_address_space_behaves_like_a_table_of_pages(
        operations in prop::collection::vec(operation(), 1..40),
        settings in settings(),
    ) {
        let mut world = World::new(settings);
        for operation in operations {
            world.perform(0, &Step::Operation(operation));
        }
    }

    #[test]
    fn address_spaces_go_back_to_their_checkpoints(
        steps in prop::collection::vec((0_usize..3, step()), 1..40),
        settings in settings(),
    ) {
        let mut world = World::new(settings);
        for (which, step) in steps {
            world.perform(which, &step);
        }
        world.compare();
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let spare_tables = prop_oneof![0_usize..6, Just(AMPLE_TABLES)];
    (spare_tables, prop::sample::select(ExecutableMemory::ALL.to_vec()))
        .prop_map(|(spare_tables, executable_memory)| Settings { spare_tables, executable_memory })
}

fn step() -> impl Strategy<Value = Step> {
    let checkpoint = any::<usize>;
    prop_oneof![
        10 => operation().prop_map(Step::Operation),
        2 => Just(Step::Checkpoint),
        3 => checkpoint().prop_map(|checkpoint| Step::Restore { checkpoint }),
        1 => (change(), 0_u64..4, checkpoint())
            .prop_map(|(change, allowed, checkpoint)| Step::Interrupt { change, allowed, checkpoint }),
        1 => checkpoint().prop_map(|checkpoint| Step::Spawn { checkpoint }),
        1 => checkpoint().prop_map(|checkpoint| Step::DropCheckpoint { checkpoint }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let place = || (page(), 0..PAGE).prop_map(|(page, offset)| GuestVirt(page.0 + offset));
    let bytes = prop::collection::vec(any::<u8>(), 1..10_000);
    prop_oneof![
        10 => change().prop_map(Operation::Change),
        1 => (0..20 * PAGE).prop_map(|bytes| Operation::MoveHeapEnd { to: GuestVirt(HEAP + bytes) }),
        1 => (place(), access()).prop_map(|(at, access)| Operation::Fault { at, access }),
        3 => (place(), any::<u8>()).prop_map(|(at, byte)| Operation::GuestWrite { at, byte }),
        1 => (place(), bytes).prop_map(|(at, bytes)| Operation::Write { at, bytes }),
        1 => (place(), 1_usize..10_000).prop_map(|(at, len)| Operation::Read { at, len }),
        1 => Just(Operation::ForgetRefusals),
        1 => (0..LONGEST, prop::collection::vec(any::<u8>(), 1..6000))
            .prop_map(|(offset, bytes)| Operation::WriteFile { offset, bytes }),
        1 => (0..LONGEST, 1_usize..6000).prop_map(|(offset, len)| Operation::ReadFile { offset, len }),
        1 => (0..=LONGEST).prop_map(|len| Operation::ResizeFile { len }),
    ]
}

/// Boxed, since it is part of others, and takes much of the stack by itself.
fn change() -> BoxedStrategy<Change> {
    let len = || prop_oneof![9 => (1_u64..10).prop_map(|pages| pages * PAGE), 1 => 0..10 * PAGE];
    prop_oneof![
        3 => (placement(), len(), protection())
            .prop_map(|(placement, len, protection)| Change::Map { placement, len, protection }),
        3 => (file(), placement(), len(), protection(), 0_u64..9).prop_map(
            |(file, placement, len, protection, first)| Change::MapFile { file, placement, len, protection, first }
        ),
        3 => (placement(), len(), protection(), 0_u64..9, any::<bool>()).prop_map(
            |(placement, len, protection, first, may_write)| {
                Change::MapShared(MapShared { placement, len, protection, first, may_write })
            }
        ),
        2 => (page(), len()).prop_map(|(at, len)| Change::Unmap { at, len }),
        2 => (page(), len(), protection()).prop_map(|(at, len, protection)| Change::Protect { at, len, protection }),
        2 => (page(), len(), len(), movement())
            .prop_map(|(at, old_len, new_len, movement)| Change::Remap { at, old_len, new_len, movement }),
        1 => (page(), len()).prop_map(|(at, len)| Change::Discard { at, len }),
    ]
    .boxed()
}

fn page() -> impl Strategy<Value = GuestVirt> {
    prop_oneof![6 => ARENA, 1 => STACK].prop_map(|page| GuestVirt(page * PAGE))
}

fn file() -> impl Strategy<Value = TestFile> {
    prop::sample::select(TestFile::PRIVATE.to_vec())
}

fn placement() -> impl Strategy<Value = Placement> {
    prop_oneof![
        Just(Placement::Anywhere),
        Just(Placement::Low),
        page().prop_map(Placement::Hint),
        page().prop_map(Placement::Fixed),
        page().prop_map(Placement::FixedVacant),
    ]
}

fn movement() -> impl Strategy<Value = Movement> {
    prop_oneof![1 => Just(Movement::Stay), 1 => Just(Movement::MayMove), 2 => page().prop_map(Movement::To)]
}

fn protection() -> impl Strategy<Value = Protection> {
    prop_oneof![
        1 => Just(Protection::None),
        1 => Just(Protection::Read),
        3 => Just(Protection::ReadWrite),
        1 => Just(Protection::ReadExecute),
        1 => Just(Protection::ReadWriteExecute),
    ]
}

fn access() -> impl Strategy<Value = FaultAccess> {
    prop_oneof![Just(FaultAccess::Read), Just(FaultAccess::Write), Just(FaultAccess::Execute)]
}
