//! Going back and forth between checkpoints, and continuing from one in another space, against copies of the model.

use ampoule_vmm::x86_64::shim::{OWN_TABLES, System};
use ampoule_vmm::{Contents, HypervisorError, MapCheckpoint, PageSet, WrittenPages};
use proptest::prelude::*;
use proptest::sample::Index;

use super::model::{FRAMES, HEAP, Model, Step, address, step};
use super::*;

proptest! {
    #[test]
    fn an_address_space_goes_back_to_its_checkpoints(
        moves in prop::collection::vec(a_move(), 1..40),
        spare_tables in prop_oneof![1_usize..6, Just(AMPLE_TABLES)],
        allow_executable_memory: bool,
    ) {
        let mut whole = Whole::new(spare_tables, allow_executable_memory);
        let mut model = Model::new(allow_executable_memory, spare_tables == AMPLE_TABLES);
        let mut taken: Vec<(Checkpoint, Model)> = Vec::new();
        for next in moves {
            match next {
                Move::Step(step) => model.perform(&mut whole.space, &step),
                Move::Checkpoint => taken.push((whole.checkpoint(), model.clone())),
                Move::Restore(index) if !taken.is_empty() => {
                    let (checkpoint, then) = index.get(&taken);
                    whole.restore(checkpoint);
                    model = then.clone();
                }
                Move::Sibling(index) if !taken.is_empty() => {
                    let (checkpoint, then) = index.get(&taken);
                    whole = Whole::of_checkpoint(checkpoint);
                    model = then.clone();
                }
                Move::Restore(_) | Move::Sibling(_) => {}
            }
            model.compare(&whole.space);
        }
    }
}

#[derive(Clone, Debug)]
enum Move {
    Step(Step),
    Checkpoint,
    Restore(Index),
    /// Continues in a space that is made from a checkpoint.
    Sibling(Index),
}

fn a_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        10 => step().prop_map(Move::Step),
        2 => Just(Move::Checkpoint),
        3 => any::<Index>().prop_map(Move::Restore),
        1 => any::<Index>().prop_map(Move::Sibling),
    ]
}

/// An address space with the map of its pages.
struct Whole {
    space: AddressSpace,
}

struct Checkpoint {
    pages: MapCheckpoint,
    space: SpaceCheckpoint,
}

impl Whole {
    fn new(spare_tables: usize, allow_executable_memory: bool) -> Self {
        let (_, tables) = System::new(OWN_TABLES + spare_tables).unwrap();
        let memory =
            GuestMemory::new(TrackedRegion::anonymous(FRAMES * PAGE_SIZE, HostOnly::default()).unwrap(), RAM_BASE, 0);
        let mut space = AddressSpace::new(Parts { memory, tables: Box::new(tables), allow_executable_memory });
        space.place_heap(address(HEAP));
        Self { space }
    }

    fn of_checkpoint(checkpoint: &Checkpoint) -> Self {
        let (_, tables) = System::of_checkpoint(&checkpoint.pages).unwrap();
        let contents: &Arc<Contents> = checkpoint.space.contents();
        let region = TrackedRegion::of_contents(contents, HostOnly::default()).unwrap();
        let memory = GuestMemory::of_contents(region, RAM_BASE, 0, contents);
        Self { space: AddressSpace::of_checkpoint(&checkpoint.space, memory, Box::new(tables)) }
    }

    fn checkpoint(&mut self) -> Checkpoint {
        let pages = self.space.tables_mut().checkpoint().unwrap();
        Checkpoint { pages, space: self.space.checkpoint(&mut IdleGuest, 0..0).unwrap() }
    }

    fn restore(&mut self, checkpoint: &Checkpoint) {
        self.space.tables_mut().restore(&checkpoint.pages);
        self.space.restore(&checkpoint.space, &mut IdleGuest).unwrap();
    }
}

/// A guest that writes nothing.
pub(super) struct IdleGuest;

impl WrittenPages for IdleGuest {
    fn collect_written(&mut self, _: &mut PageSet) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn forget_written(&mut self, _: &PageSet) -> Result<(), HypervisorError> {
        Ok(())
    }
}

/// More than the arena can take.
const AMPLE_TABLES: usize = 16;
