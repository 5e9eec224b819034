//! Address spaces of one lineage and their checkpoints, each beside what it should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ampoule_vmm::x86_64::shim::{OWN_TABLES, System};
use ampoule_vmm::{
    FaultAccess, GuestVirt, HostOnly, HypervisorError, MapCheckpoint, PAGE_SIZE, PageSet, TrackedRegion, WrittenPages,
};

use super::{Change, FRAMES, HEAP, IMAGE, Model, Operation, PAGE, RAM_BASE, STACK, STACK_USED, Settings, Step};
use crate::address_space::{AddressSpace, FaultResolution, Parts, SpaceCheckpoint, Watch};
use crate::guest_memory::GuestMemory;

/// All there is.
pub(crate) struct World {
    spaces: Vec<Modelled>,
    checkpoints: Vec<Checkpoint>,
}

struct Modelled {
    space: AddressSpace,
    guest: Guest,
    model: Model,
}

struct Checkpoint {
    pages: MapCheckpoint,
    space: SpaceCheckpoint,
    model: Model,
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { spaces: vec![Modelled::new(settings)], checkpoints: Vec::new() }
    }

    /// Performs a step in one of the spaces, and compares with what it should lead to.
    pub(crate) fn perform(&mut self, which: usize, step: &Step) {
        let Self { spaces, checkpoints } = self;
        let which = which % spaces.len();
        match *step {
            Step::Operation(ref operation) => spaces[which].perform(operation),
            Step::Checkpoint => {
                let checkpoint = spaces[which].checkpoint();
                if checkpoints.len() < MOST_CHECKPOINTS {
                    checkpoints.push(checkpoint);
                }
            }
            Step::Restore { checkpoint } => {
                if let Some(checkpoint) = chosen(checkpoints, checkpoint) {
                    spaces[which].restore(checkpoint);
                }
            }
            Step::Interrupt { change, allowed, checkpoint } => {
                if let Some(checkpoint) = chosen(checkpoints, checkpoint) {
                    spaces[which].interrupt(&change, allowed);
                    spaces[which].restore(checkpoint);
                }
            }
            Step::Spawn { checkpoint } => {
                if let Some(spawned) = chosen(checkpoints, checkpoint).map(Modelled::of_checkpoint) {
                    if spaces.len() < MOST_SPACES { spaces.push(spawned) } else { spaces[which] = spawned }
                }
            }
            Step::DropCheckpoint { checkpoint } => {
                if !checkpoints.is_empty() {
                    checkpoints.swap_remove(checkpoint % checkpoints.len());
                }
            }
        }
        let Modelled { space, model, .. } = &mut spaces[which];
        model.compare(space);
    }

    /// Compares all spaces.
    pub(crate) fn compare(&mut self) {
        for Modelled { space, model, .. } in &mut self.spaces {
            model.compare(space);
        }
    }
}

impl Modelled {
    fn new(settings: Settings) -> Self {
        let (_, tables) = System::new(OWN_TABLES + BEGUN_TABLES + settings.spare_tables).expect("there is memory");
        let region = TrackedRegion::anonymous(FRAMES * PAGE_SIZE, HostOnly::default()).expect("there is memory");
        let memory = GuestMemory::new(region, RAM_BASE, 0);
        let executable_memory = settings.executable_memory;
        let mut space = AddressSpace::new(Parts { memory, tables: Box::new(tables), executable_memory });
        for (page, protection) in IMAGE {
            space.map_image(GuestVirt(page * PAGE), PAGE, protection).expect("there is room for the image");
        }
        space.place_heap(GuestVirt(HEAP));
        let stack = STACK.end - STACK.start;
        space.map_stack(stack * PAGE, STACK_USED * PAGE).expect("there is room for the stack");
        Self { space, guest: Guest::new(), model: Model::new(settings) }
    }

    fn of_checkpoint(checkpoint: &Checkpoint) -> Self {
        let (_, tables) = System::of_checkpoint(&checkpoint.pages).expect("there is memory");
        let contents = checkpoint.space.contents();
        let region = TrackedRegion::of_contents(contents, HostOnly::default()).expect("there is memory");
        let memory = GuestMemory::of_contents(region, RAM_BASE, 0, contents);
        let space = AddressSpace::of_checkpoint(&checkpoint.space, memory, Box::new(tables));
        Self { space, guest: Guest::new(), model: Model { ran_out: false, ..checkpoint.model.clone() } }
    }

    fn checkpoint(&mut self) -> Checkpoint {
        self.model.write_back(&mut self.space, &mut self.guest);
        let pages = self.space.tables_mut().checkpoint().expect("there is memory");
        let space = self.space.checkpoint(&mut self.guest, 0..0).expect("there is memory");
        Checkpoint { pages, space, model: self.model.clone() }
    }

    /// Goes back. What the guest was refused is remembered all the same.
    fn restore(&mut self, checkpoint: &Checkpoint) {
        self.space.tables_mut().restore(&checkpoint.pages);
        self.space.restore(&checkpoint.space, &mut self.guest).expect("there is memory");
        self.model = Model { ran_out: self.model.ran_out, ..checkpoint.model.clone() };
    }

    /// Changes something in a call that is interrupted. What has come of it is unspecified, but for what was refused.
    fn interrupt(&mut self, change: &Change, allowed: u64) {
        self.model.write_back(&mut self.space, &mut self.guest);
        let _ = change.apply(&mut self.space.watched(After::new(allowed)), &self.model.shared.held);
        self.model.ran_out = self.space.ran_out_of_memory();
    }

    fn perform(&mut self, operation: &Operation) {
        let Self { space, model, guest } = self;
        match operation {
            Operation::Change(change) => {
                model.write_back(space, guest);
                let found = change.apply(space, &model.shared.held);
                model.change(change, found);
            }
            Operation::MoveHeapEnd { to } => {
                model.write_back(space, guest);
                model.move_heap_end(*to, space.move_heap_end(*to));
            }
            Operation::Fault { at, access } => model.fault(*at, *access, space.resolve_fault(*at, *access)),
            Operation::GuestWrite { at, byte } => self.guest_writes(*at, *byte),
            Operation::Write { at, bytes } => model.write(*at, bytes, space.write(*at, bytes)),
            Operation::Read { at, len } => {
                let mut bytes = vec![0; *len];
                let read = space.read(*at, &mut bytes);
                model.read(*at, &bytes, read);
            }
            Operation::WriteFile { offset, bytes } => model.write_file(space, *offset, bytes),
            Operation::ReadFile { offset, len } => model.read_file(space, *offset, *len),
            // Without tables for what is shown again, addresses are left that say nothing of their frames.
            Operation::ResizeFile { len } if model.has_ample_tables() => model.resize_file(space, *len),
            Operation::ResizeFile { .. } => {}
            Operation::ForgetRefusals => {
                space.forget_refusals();
                model.ran_out = false;
            }
        }
    }

    /// The guest writes, as far as the page tables let it, and after a page fault where they do not at first.
    fn guest_writes(&mut self, at: GuestVirt, byte: u8) {
        let writable = |space: &AddressSpace| space.tables.translate(at).filter(|(_, access)| access.write);
        let mut translated = writable(&self.space);
        if translated.is_none() {
            let found = self.space.resolve_fault(at, FaultAccess::Write);
            self.model.fault(at, FaultAccess::Write, found);
            translated = writable(&self.space);
            let allowed = matches!(found, FaultResolution::Allowed | FaultResolution::Grown);
            assert_eq!(allowed, translated.is_some());
        }
        assert_eq!(self.model.is_writable(at), translated.is_some());
        if let Some((to, _)) = translated {
            let offset = (to.0 - RAM_BASE.0) as usize;
            self.guest.write(&mut self.space, offset, byte);
            self.model.store(at, &[byte]);
        }
    }
}

/// What runs in an address space, with the hypervisor's note of what it has written.
pub(super) struct Guest {
    written: PageSet,
}

impl Guest {
    fn new() -> Self {
        Self { written: PageSet::new(FRAMES) }
    }

    fn write(&mut self, space: &mut AddressSpace, offset: usize, byte: u8) {
        // The guest does not write through the host's door: what that notes of this write is not to be known.
        space.memory_mut().dirty_pages(self).expect("the guest has pages that are written");
        let region = space.memory().region();
        region.write(offset, &[byte]).expect("the page is in the region");
        region.take_written(&mut PageSet::new(FRAMES));
        self.written.insert(offset / PAGE_SIZE);
    }
}

impl WrittenPages for Guest {
    fn collect_written(&mut self, pages: &mut PageSet) -> Result<(), HypervisorError> {
        pages.insert_all(&self.written);
        Ok(())
    }

    fn forget_written(&mut self, pages: &PageSet) -> Result<(), HypervisorError> {
        pages.iter().for_each(|page| self.written.remove(page));
        Ok(())
    }
}

/// Interrupts the call after so many looks.
#[derive(Debug)]
pub(in crate::address_space) struct After {
    pub(in crate::address_space) looks: AtomicU64,
    allowed: u64,
}

impl After {
    pub(in crate::address_space) fn new(allowed: u64) -> Arc<Self> {
        Arc::new(Self { looks: AtomicU64::new(0), allowed })
    }
}

impl Watch for After {
    fn is_interrupted(&self) -> bool {
        self.looks.fetch_add(1, Ordering::Relaxed) >= self.allowed
    }
}

fn chosen(checkpoints: &[Checkpoint], number: usize) -> Option<&Checkpoint> {
    checkpoints.get(number.checked_rem(checkpoints.len())?)
}

/// Tables that the image and the start of the stack need: three below the root for either.
const BEGUN_TABLES: usize = 6;

const MOST_SPACES: usize = 3;
const MOST_CHECKPOINTS: usize = 8;
