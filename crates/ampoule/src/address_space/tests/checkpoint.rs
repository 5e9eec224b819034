//! Going back and forth between checkpoints, and on from one in another space, against copies of the model.

use ampoule_vmm::x86_64::registers::SyscallEntry;
use ampoule_vmm::x86_64::shim::{OWN_TABLES, System, SystemCheckpoint};
use ampoule_vmm::{Contents, HypervisorError, PageSet, Vcpu, Vm, WriteTracking};
use proptest::prelude::*;
use proptest::sample::Index;

use super::model::{FRAMES, HEAP, Model, Step, step};
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
    /// Goes on in a space that is made from a checkpoint.
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

/// An address space with the system that its page tables belong to.
struct Whole {
    system: System,
    space: AddressSpace,
}

struct Checkpoint {
    system: SystemCheckpoint,
    space: SpaceCheckpoint,
}

impl Whole {
    fn new(spare_tables: usize, allow_executable_memory: bool) -> Self {
        let (system, tables) = System::new(OWN_TABLES + spare_tables).unwrap();
        let memory = GuestMemory::new(Region::anonymous(FRAMES * PAGE_SIZE).unwrap(), RAM_BASE, 0);
        let mut space = AddressSpace::new(Parts { memory, tables, allow_executable_memory });
        space.place_heap(address(HEAP));
        Self { system, space }
    }

    fn of_checkpoint(checkpoint: &Checkpoint) -> Self {
        let (system, tables) = System::of_checkpoint(&checkpoint.system).unwrap();
        let contents: &Arc<Contents> = checkpoint.space.contents();
        let region = Region::of_contents(contents).unwrap();
        let memory = GuestMemory::of_contents(region, RAM_BASE, 0, contents);
        Self { system, space: AddressSpace::of_checkpoint(&checkpoint.space, memory, tables) }
    }

    fn checkpoint(&mut self) -> Checkpoint {
        let system = self.system.checkpoint(self.space.tables_mut()).unwrap();
        Checkpoint { system, space: self.space.checkpoint(&mut IdleVm, 0, 0..0).unwrap() }
    }

    fn restore(&mut self, checkpoint: &Checkpoint) {
        self.system.restore(self.space.tables_mut(), &checkpoint.system);
        self.space.restore(&checkpoint.space, &mut IdleVm, 0).unwrap();
    }
}

/// A virtual machine whose guest writes nothing.
pub(super) struct IdleVm;

impl Vm for IdleVm {
    fn map(&mut self, _: u32, _: GuestPhys, _: Arc<Region>, _: WriteTracking) -> Result<(), HypervisorError> {
        unreachable!("the memory is in its slot")
    }

    fn unmap(&mut self, _: u32) -> Result<(), HypervisorError> {
        unreachable!("the memory stays in its slot")
    }

    fn collect_written(&mut self, _: u32, _: &mut PageSet) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn forget_written(&mut self, _: u32, _: &PageSet) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn flush_translations(&mut self, _: u32) -> Result<(), HypervisorError> {
        unreachable!("nothing has run that could be flushed")
    }

    fn create_vcpu(&mut self, _: &SyscallEntry) -> Result<Box<dyn Vcpu>, HypervisorError> {
        unreachable!("nothing runs")
    }
}

/// More than the arena can take.
const AMPLE_TABLES: usize = 16;
