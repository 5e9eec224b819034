//! A guest that executes a few instructions and rings.

use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::capabilities::Capabilities;
use ampoule_vmm::x86_64::paging::{Access, PageTables};
use ampoule_vmm::x86_64::registers::{Regs, SpecialRegs};
use ampoule_vmm::x86_64::shim::{self, ExceptionFrame, SYSTEM_BASE, System, Trap};
use ampoule_vmm::{Exit, GuestPhys, GuestVirt, Hypervisor, PAGE_SIZE, Region, Statistics, Vcpu, Vm, WriteTracking};

pub(crate) struct Guest {
    pub(crate) capabilities: Capabilities,
    pub(crate) vcpu: Box<dyn Vcpu>,
    system: System,
    tables: PageTables,
    _vm: Box<dyn Vm>,
}

/// How the code ended.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum End {
    /// It was executed to its end.
    Rang,
    SystemCall,
    Exception(u8),
    /// An `out` of its own left the guest, with so many elements.
    Out {
        elements: usize,
    },
    /// An `in` of its own left the guest.
    In,
    Shutdown,
    Other,
}

impl Guest {
    /// Ready to execute `code`, and then to ring.
    pub(crate) fn new(code: &[u8]) -> Guest {
        let kvm = Kvm::shared().expect("these tests need KVM");
        let (system, mut tables) = System::new(64).unwrap();
        let ram = Region::anonymous(2 * PAGE_SIZE).unwrap();
        ram.write(0, &[code, &RING].concat()).unwrap();
        let code_page = Access { write: false, execute: true, user: true };
        tables.map(CODE, RAM, 1, code_page).unwrap();
        let stack = Access { write: true, execute: false, user: true };
        tables.map(STACK, RAM.checked_add(PAGE_SIZE as u64).unwrap(), 1, stack).unwrap();

        let mut vm = kvm.create_vm().unwrap();
        vm.map(0, SYSTEM_BASE, system.region().clone(), WriteTracking::On).unwrap();
        vm.map(1, RAM, ram, WriteTracking::On).unwrap();
        let vcpu = vm.create_vcpu(&system.syscall_entry()).unwrap();
        let capabilities = *kvm.capabilities();
        let mut guest = Guest { capabilities, vcpu, system, tables, _vm: vm };
        guest.set_special(|_| ());
        let rsp = STACK.0 + PAGE_SIZE as u64 / 2;
        let rflags = shim::initial_flags(&capabilities);
        guest.vcpu.set_regs(&Regs { rip: CODE.0, rsp, rdi: rsp, rflags, ..Regs::default() });
        guest
    }

    pub(crate) fn set(&mut self, change: impl FnOnce(&mut Regs)) {
        let mut regs = self.vcpu.regs();
        change(&mut regs);
        self.vcpu.set_regs(&regs);
    }

    /// Starts in ring 3 with special registers that differ from the usual ones.
    pub(crate) fn set_special(&mut self, change: impl FnOnce(&mut SpecialRegs)) {
        let mut special = self.system.initial_special_regs(&self.capabilities, self.tables.root());
        change(&mut special);
        self.vcpu.set_special_regs(&special).unwrap();
    }

    /// Runs until the first exit.
    pub(crate) fn end(&mut self) -> End {
        let (port, elements) = match self.vcpu.run().unwrap() {
            Exit::IoOut { port, data } => (port, data.len()),
            Exit::IoIn { .. } => return End::In,
            Exit::Shutdown => return End::Shutdown,
            _ => return End::Other,
        };
        match Trap::identify(port, self.vcpu.regs().rip) {
            Ok(Trap::Doorbell) => End::Rang,
            Ok(Trap::SystemCall) => End::SystemCall,
            Ok(Trap::Exception(vector)) => End::Exception(vector),
            Err(_) => End::Out { elements },
        }
    }

    pub(crate) fn frame(&self, vector: u8) -> ExceptionFrame {
        self.system.exception_frame(vector)
    }

    /// What the kernel counts while the guest rings so many times; `None` where it has no statistics.
    pub(crate) fn statistics_of_rings(&mut self, times: u32) -> Option<Statistics> {
        let reader = self.vcpu.statistics().unwrap()?;
        assert_eq!(self.end(), End::Rang);
        let before = reader.read().unwrap();
        for _ in 0..times {
            self.set(|regs| regs.rip = CODE.0);
            assert_eq!(self.end(), End::Rang);
        }
        Some(reader.read().unwrap().since(&before))
    }
}

const CODE: GuestVirt = GuestVirt(0x40_0000);
const STACK: GuestVirt = GuestVirt(0x50_0000);
const RAM: GuestPhys = GuestPhys(0x1_0000_0000);

/// `mov r9, DOORBELL; call r9`
const RING: [u8; 13] = {
    let address = shim::DOORBELL.0.to_le_bytes();
    [
        0x49, 0xb9, address[0], address[1], address[2], address[3], address[4], address[5], address[6], address[7],
        0x41, 0xff, 0xd1,
    ]
};
