//! A guest with a page of code, one of stack and one of data.

use std::sync::Arc;

use ampoule_vmm::address_map::MEMORY_BASE;
use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::{
    Backend, Entry, Event, GuestPhys, GuestVirt, HostOnly, Hypervisor, HypervisorError, PAGE_SIZE, PageAccess, PageMap,
    Prepared, Processor, TrackedRegion, VirtualMachines,
};

pub(crate) struct Guest {
    pub(crate) memory: Arc<TrackedRegion>,
    pub(crate) pages: Box<dyn PageMap>,
    pub(crate) processor: Box<dyn Processor>,
}

impl Guest {
    /// Ready to execute `code`.
    pub(crate) fn new(code: &[u8]) -> Guest {
        Guest::on(&backend(), code).unwrap()
    }

    pub(crate) fn on(backend: &dyn Backend, code: &[u8]) -> Result<Guest, HypervisorError> {
        Guest::with_pages(backend, code, PAGES)
    }

    /// The same with so many pages of memory, those behind the first three unmapped.
    pub(crate) fn with_pages(backend: &dyn Backend, code: &[u8], count: usize) -> Result<Guest, HypervisorError> {
        let memory = TrackedRegion::anonymous(count * PAGE_SIZE, HostOnly::default()).unwrap();
        memory.write(0, code).unwrap();
        let Prepared { mut pages, processor } = backend.prepare(memory.len(), 0).unwrap();
        pages.map(CODE, phys(0), 1, PageAccess { write: false, execute: true }).unwrap();
        pages.map(STACK, phys(1), 1, WRITE).unwrap();
        pages.map(DATA, phys(2), 1, WRITE).unwrap();
        let processor = processor.start(&memory, entry(0))?;
        Ok(Guest { memory, pages, processor })
    }

    /// Runs, with the translations in order.
    pub(crate) fn run(&mut self) -> Event {
        if self.pages.is_stale() {
            self.processor.flush_translations().unwrap();
            self.pages.mark_flushed();
        }
        self.processor.run().unwrap()
    }

    pub(crate) fn register(&self, name: &str) -> u64 {
        self.processor.registers().get(name).unwrap()
    }

    pub(crate) fn pc(&self) -> u64 {
        self.processor.registers().instruction_pointer()
    }

    /// Goes on `bytes` behind where it would.
    pub(crate) fn skip(&mut self, bytes: u64) {
        let mut context = self.processor.save().unwrap();
        let at = context.registers().instruction_pointer();
        context.set_instruction_pointer(GuestVirt(at + bytes));
        self.processor.load(&context).unwrap();
    }

    /// A word of the page of data.
    pub(crate) fn data(&self, offset: usize) -> u64 {
        self.memory.read_u64(2 * PAGE_SIZE + offset).unwrap()
    }

    pub(crate) fn set_data(&self, offset: usize, value: u64) {
        self.memory.write_u64(2 * PAGE_SIZE + offset, value).unwrap();
    }
}

pub(crate) fn backend() -> VirtualMachines {
    VirtualMachines::new(kvm())
}

pub(crate) fn kvm() -> Arc<dyn Hypervisor> {
    Kvm::shared().expect("these tests need KVM")
}

/// Where code at this offset begins.
pub(crate) fn entry(offset: usize) -> Entry {
    Entry {
        instruction: GuestVirt(CODE.0 + offset as u64),
        stack_pointer: GuestVirt(STACK.0 + PAGE_SIZE as u64 - 0x100),
    }
}

pub(crate) fn phys(page: u64) -> GuestPhys {
    GuestPhys(MEMORY_BASE.0 + page * PAGE_SIZE as u64)
}

pub(crate) const CODE: GuestVirt = GuestVirt(0x40_0000);
pub(crate) const STACK: GuestVirt = GuestVirt(0x50_0000);
pub(crate) const DATA: GuestVirt = GuestVirt(0x60_0000);

/// An address at which nothing is mapped.
pub(crate) const NOWHERE: GuestVirt = GuestVirt(0x70_0000);

pub(crate) const WRITE: PageAccess = PageAccess { write: true, execute: false };

pub(crate) const PAGES: usize = 8;
