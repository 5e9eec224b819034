//! A guest that can fill all of its registers and store them.

use std::sync::Arc;

use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::capabilities::Capabilities;
use ampoule_vmm::x86_64::paging::{Access, PageTables};
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{self, Forgery, SYSTEM_BASE, System, Trap};
use ampoule_vmm::{Exit, GuestPhys, GuestVirt, Hypervisor, PAGE_SIZE, Region, Vcpu, Vm, WriteTracking};

use crate::FLAGS;
use crate::program::{self, Image, Place, Program, Width};

const CODE: GuestVirt = GuestVirt(0x40_0000);
pub(crate) const STACK_TOP: GuestVirt = GuestVirt(0x7f7f_ffff_f000);

/// Where the guest stores its state, as an offset in [`Guest::ram`].
pub(crate) const IMAGE: usize = 3 * PAGE_SIZE;

pub(crate) struct Guest {
    pub(crate) capabilities: Capabilities,
    pub(crate) system: System,
    pub(crate) ram: Arc<Region>,
    pub(crate) vcpu: Box<dyn Vcpu>,
    pub(crate) width: Width,
    program: Program,
    tables: PageTables,
    _vm: Box<dyn Vm>,
}

impl Guest {
    pub(crate) fn new() -> Guest {
        let kvm = Kvm::shared().expect("these tests need KVM");
        let capabilities = *kvm.capabilities();
        let has_avx = capabilities.xcr0 & 1 << 2 != 0;
        let wider = if has_avx { Width::Avx } else { Width::Sse };
        let mut guest = Guest::with_registers(&kvm, Width::Avx512);
        guest.go(Place::Load, Guest::regs(1));
        match guest.exit() {
            Ok(Trap::Doorbell) => guest,
            Ok(Trap::Exception(6)) => Guest::with_registers(&kvm, wider),
            other => panic!("{other:?}"),
        }
    }

    fn with_registers(kvm: &Kvm, width: Width) -> Guest {
        let program = Program::new(width);
        let (system, mut tables) = System::new(64).unwrap();
        let ram = Region::anonymous(4 * PAGE_SIZE).unwrap();
        ram.write(0, &program.page).unwrap();
        let (code, stack, data) = (RAM, RAM.0 + 0x1000, RAM.0 + 0x2000);
        tables.map(CODE, code, 1, Access { execute: true, ..READ }).unwrap();
        let bottom = STACK_TOP.checked_sub(PAGE_SIZE as u64).unwrap();
        tables.map(bottom, GuestPhys(stack), 1, Access { write: true, ..READ }).unwrap();
        tables.map(DATA, GuestPhys(data), 2, Access { write: true, ..READ }).unwrap();

        let mut vm = kvm.create_vm().unwrap();
        vm.map(0, SYSTEM_BASE, system.region().clone(), WriteTracking::Off).unwrap();
        vm.map(1, RAM, ram.clone(), WriteTracking::On).unwrap();
        let vcpu = vm.create_vcpu(&system.syscall_entry()).unwrap();
        let capabilities = *kvm.capabilities();
        Guest { capabilities, system, ram, vcpu, width, program, tables, _vm: vm }
    }

    /// General registers and flags that differ from those of another `seed` in every one that the guest does not need.
    pub(crate) fn regs(seed: u8) -> Regs {
        let register = |number: u64| u64::from(seed) << 56 | number << 32 | u64::from(seed) << 8 | number;
        let kvm = Kvm::shared().unwrap();
        let initial = shim::initial_flags(kvm.capabilities());
        Regs {
            rax: register(1),
            rbx: register(2),
            rcx: register(3),
            rdx: register(4),
            rsi: register(5),
            rdi: DATA.0,
            rsp: STACK_TOP.0 - 8 * u64::from(seed),
            rbp: register(8),
            r8: register(9),
            r9: register(10),
            r10: register(11),
            r11: register(12),
            r12: register(13),
            r13: register(14),
            r14: register(15),
            r15: register(16),
            rip: 0,
            rflags: if seed % 2 == 1 { initial | FLAGS } else { initial },
        }
    }

    /// Fills all registers and rings.
    pub(crate) fn load(&mut self, seed: u8) {
        self.ram.write(2 * PAGE_SIZE, &program::source(seed)).unwrap();
        self.go(Place::Load, Guest::regs(seed));
        assert_eq!(self.exit(), Ok(Trap::Doorbell));
    }

    /// Stores the state for [`stored`](Guest::stored) and rings.
    pub(crate) fn store(&mut self) {
        self.ram.fill_zero(IMAGE, PAGE_SIZE).unwrap();
        self.go(Place::Store, Guest::regs(1));
        assert_eq!(self.exit(), Ok(Trap::Doorbell));
    }

    pub(crate) fn stored(&self) -> Image {
        let mut page = [0; PAGE_SIZE];
        self.ram.read(IMAGE, &mut page).unwrap();
        Image::stored(&page)
    }

    pub(crate) fn place(&self, place: Place) -> GuestVirt {
        CODE.checked_add(self.program.offset(place)).unwrap()
    }

    /// Prepares to go on at a place.
    pub(crate) fn go(&mut self, place: Place, regs: Regs) {
        let rip = self.place(place).0;
        self.enter(&Regs { rip, ..regs });
    }

    /// Prepares to go on in ring 3 with these registers, whatever the guest did before.
    pub(crate) fn enter(&mut self, regs: &Regs) {
        let special = self.system.initial_special_regs(&self.capabilities, self.tables.root());
        self.vcpu.set_special_regs(&special).unwrap();
        self.vcpu.set_regs(regs);
    }

    /// Runs until the guest leaves by an `out`.
    pub(crate) fn exit(&mut self) -> Result<Trap, Forgery> {
        let exit = self.vcpu.run().unwrap();
        let Exit::IoOut { port, .. } = exit else {
            panic!("{exit:?}");
        };
        Trap::identify(port, self.vcpu.regs().rip)
    }

    pub(crate) fn stack(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE_SIZE];
        self.ram.read(PAGE_SIZE, &mut page).unwrap();
        page
    }

    pub(crate) fn set_stack(&self, contents: &[u8]) {
        self.ram.write(PAGE_SIZE, contents).unwrap();
    }
}

/// A page to load registers from, and behind it one to store them to.
const DATA: GuestVirt = GuestVirt(0x50_0000);

const RAM: GuestPhys = GuestPhys(0x1_0000_0000);

const READ: Access = Access { write: false, execute: false, user: true };
