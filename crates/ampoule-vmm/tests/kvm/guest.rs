//! A guest small enough to be written down in machine code.

use std::sync::Arc;

use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::capabilities::Capabilities;
use ampoule_vmm::x86_64::paging::{Access, PageTables};
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{self, ExceptionFrame, SYSTEM_BASE, System, Trap};
use ampoule_vmm::{Exit, GuestPhys, GuestVirt, Hypervisor, PAGE_SIZE, Region, Vcpu, Vm, WriteTracking};

pub(crate) const CODE: GuestVirt = GuestVirt(0x40_0000);
pub(crate) const STACK_TOP: GuestVirt = GuestVirt(0x7f7f_ffff_f000);
/// Sixteen pages that are mapped nowhere at first.
const DATA: GuestPhys = GuestPhys(RAM.0 + 2 * PAGE_SIZE as u64);

pub(crate) const READ: Access = Access { write: false, execute: false, user: true };
pub(crate) const WRITE: Access = Access { write: true, ..READ };
pub(crate) const EXECUTE: Access = Access { execute: true, ..READ };

pub(crate) struct Guest {
    pub(crate) capabilities: Capabilities,
    pub(crate) system: System,
    pub(crate) tables: PageTables,
    pub(crate) ram: Arc<Region>,
    pub(crate) vm: Box<dyn Vm>,
    pub(crate) vcpu: Box<dyn Vcpu>,
}

impl Guest {
    /// Ready to execute `code` at [`CODE`], with one page of stack.
    pub(crate) fn new(code: &[u8]) -> Guest {
        let kvm = Kvm::shared().expect("these tests need KVM");
        let (system, mut tables) = System::new(64).unwrap();
        let ram = Region::anonymous(18 * PAGE_SIZE).unwrap();
        ram.write(0, code).unwrap();
        tables.map(CODE, RAM, 1, EXECUTE).unwrap();
        let stack = STACK_TOP.checked_sub(PAGE_SIZE as u64).unwrap();
        let second_page = RAM.checked_add(PAGE_SIZE as u64).unwrap();
        tables.map(stack, second_page, 1, WRITE).unwrap();

        let mut vm = kvm.create_vm().unwrap();
        vm.map(0, SYSTEM_BASE, system.region().clone(), WriteTracking::On).unwrap();
        vm.map(1, RAM, ram.clone(), WriteTracking::On).unwrap();
        let mut vcpu = vm.create_vcpu(&system.syscall_entry()).unwrap();
        let capabilities = *kvm.capabilities();
        vcpu.set_special_regs(&system.initial_special_regs(&capabilities, tables.root())).unwrap();
        let mut guest = Guest { capabilities, system, tables, ram, vm, vcpu };
        guest.go(CODE);
        guest
    }

    /// Continues at `rip`, with all other registers as at the start.
    pub(crate) fn go(&mut self, rip: GuestVirt) {
        self.vcpu.set_regs(&Regs {
            rip: rip.0,
            rsp: STACK_TOP.0,
            rflags: shim::initial_flags(&self.capabilities),
            ..Regs::default()
        });
    }

    pub(crate) fn with_regs(&mut self, change: impl FnOnce(&mut Regs)) {
        let mut regs = self.vcpu.regs();
        change(&mut regs);
        self.vcpu.set_regs(&regs);
    }

    pub(crate) fn map(&mut self, at: GuestVirt, to: GuestPhys, access: Access) {
        self.tables.map(at, to, 1, access).unwrap();
    }

    pub(crate) fn unmap(&mut self, at: GuestVirt) {
        self.tables.unmap(at, 1);
    }

    /// Runs until a stub leaves the guest.
    pub(crate) fn trap(&mut self) -> Trap {
        let exit = self.vcpu.run().unwrap();
        let Exit::IoOut { port, .. } = exit else {
            panic!("{exit:?}");
        };
        Trap::identify(port, self.vcpu.regs().rip).unwrap()
    }

    /// Runs until an exception with this vector arrives.
    pub(crate) fn exception(&mut self, vector: u8) -> ExceptionFrame {
        let trap = self.trap();
        let frame = match trap {
            Trap::Exception(arrived) => Some(self.system.exception_frame(arrived)),
            _ => None,
        };
        assert_eq!(trap, Trap::Exception(vector), "{frame:x?}");
        let frame = frame.unwrap();
        assert!(frame.from_user());
        frame
    }

    /// Runs until a page fault arrives: its address and error code.
    pub(crate) fn page_fault(&mut self) -> (GuestVirt, u64) {
        let frame = self.exception(14);
        let address = self.vcpu.special_regs().unwrap().cr2;
        (GuestVirt(address), frame.error_code.unwrap())
    }

    /// Where the `page`th page of data lies in [`Guest::ram`].
    pub(crate) fn data_offset(page: usize) -> usize {
        (2 + page) * PAGE_SIZE
    }
}

/// The guest-physical address of the `page`th page of data.
pub(crate) fn data(page: usize) -> GuestPhys {
    DATA.checked_add((page * PAGE_SIZE) as u64).unwrap()
}

/// An address where nothing is mapped at first.
pub(crate) const SOMEWHERE: GuestVirt = GuestVirt(0x1234_5000);

// Error code of a page fault.
pub(crate) const PRESENT: u64 = 1;
pub(crate) const WRITING: u64 = 2;
pub(crate) const USER: u64 = 4;
pub(crate) const FETCH: u64 = 16;

/// `mov rax, [rdi]`, then the doorbell.
pub(crate) fn load_and_ring() -> Vec<u8> {
    [&[0x48, 0x8b, 0x07][..], &RING].concat()
}

/// `mov [rdi], rax`, then the doorbell.
pub(crate) fn store_and_ring() -> Vec<u8> {
    [&[0x48, 0x89, 0x07][..], &RING].concat()
}

const RAM: GuestPhys = GuestPhys(0x1_0000_0000);

/// `mov rax, DOORBELL; call rax`
pub(crate) const RING: [u8; 12] = {
    let address = shim::DOORBELL.0.to_le_bytes();
    [
        0x48, 0xb8, address[0], address[1], address[2], address[3], address[4], address[5], address[6], address[7],
        0xff, 0xd0,
    ]
};
