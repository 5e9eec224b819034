//! Processes that are forked while there are virtual machines.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::paging::Access;
use ampoule_vmm::x86_64::registers::{Regs, SpecialRegs};
use ampoule_vmm::x86_64::shim::{DOORBELL, SYSTEM_BASE, System, Trap, initial_flags};
use ampoule_vmm::{
    Exit, GuestPhys, GuestVirt, Hypervisor, HypervisorError, PAGE_SIZE, PageSet, Region, Vcpu, Vm, WriteTracking,
};

#[test]
fn a_request_of_a_child_does_not_end_the_parents_runs() {
    let mut guest = Guest::new();
    let interrupter = guest.vcpu.interrupter();
    let child = in_child(|| {
        interrupter.request();
        true
    });
    assert_eq!(child, 0);
    assert!(guest.rings());
}

#[test]
fn a_request_of_the_parent_is_not_withdrawn_by_a_child() {
    let mut guest = Guest::new();
    let interrupter = guest.vcpu.interrupter();
    interrupter.request();
    let child = in_child(|| {
        interrupter.clear();
        interrupter.is_inherited()
    });
    assert_eq!(child, 0);
    assert!(!interrupter.is_inherited());
    assert_eq!(guest.vcpu.run().unwrap(), Exit::Interrupted);
}

#[test]
fn a_child_can_do_nothing_with_its_parents_machine() {
    let mut guest = Guest::new();
    let state = guest.vcpu.special_regs().unwrap();
    let fpu = guest.vcpu.fpu().unwrap();
    let child = in_child(|| {
        let region = Region::anonymous(PAGE_SIZE).unwrap();
        let mut pages = PageSet::new(DATA_PAGES);
        let Guest { vm, vcpu, system, .. } = &mut guest;
        let refused = [
            vm.map(9, GuestPhys(1 << 40), region, WriteTracking::Off),
            vm.unmap(1),
            vm.collect_written(DATA_SLOT, &mut pages),
            vm.forget_written(DATA_SLOT, &pages),
            vm.create_vcpu(&system.syscall_entry()).map(drop),
            vcpu.run().map(drop),
            vcpu.special_regs().map(drop),
            vcpu.set_special_regs(&state),
            vcpu.settle(),
            vcpu.abandon(),
            vcpu.fpu().map(drop),
            vcpu.set_fpu(&fpu),
            vcpu.statistics().map(drop),
        ];
        refused.iter().all(|result| matches!(result, Err(HypervisorError::Forked)))
    });
    assert_eq!(child, 0);
    assert!(guest.rings());
}

#[test]
fn registers_that_a_child_sets_are_not_the_parents() {
    let mut guest = Guest::new();
    let state = guest.vcpu.special_regs().unwrap();
    guest.go_to(CODE);
    let child = in_child(|| {
        guest.vcpu.set_regs(&Regs { rip: 0xbad, ..Regs::default() });
        guest.vcpu.set_special_regs(&SpecialRegs { cr3: 0, ..state }).is_err()
    });
    assert_eq!(guest.vcpu.regs().rip, CODE.0);
    assert!(guest.rings_from_here());
    assert_eq!(child, 0);
}

#[test]
fn a_page_that_the_guest_wrote_is_told_to_the_parent_whatever_a_child_does() {
    let mut guest = Guest::new();
    assert!(guest.rings());
    let child = in_child(|| {
        let mut pages = PageSet::new(DATA_PAGES);
        let collected = guest.vm.collect_written(DATA_SLOT, &mut pages);
        pages.insert(WRITTEN);
        let forgotten = guest.vm.forget_written(DATA_SLOT, &pages);
        collected.is_err() && forgotten.is_err()
    });
    let mut pages = PageSet::new(DATA_PAGES);
    guest.vm.collect_written(DATA_SLOT, &mut pages).unwrap();
    assert!(pages.contains(WRITTEN));
    assert_eq!(child, 0);
}

#[test]
fn a_child_that_drops_its_parents_machine_leaves_it_alone() {
    let mut guest = Guest::new();
    let mut copy = Some(guest);
    let child = in_child(|| {
        drop(copy.take());
        true
    });
    assert_eq!(child, 0);
    guest = copy.unwrap();
    assert!(guest.rings());
}

#[test]
fn a_child_makes_machines_of_its_own() {
    let mut guest = Guest::new();
    let child = in_child(|| {
        let mut own = Guest::new();
        let interrupter = own.vcpu.interrupter();
        interrupter.request();
        let interrupted = own.vcpu.run().unwrap() == Exit::Interrupted;
        interrupter.clear();
        // To a child of the child, they are its parent's in turn.
        let grandchild = in_child(|| {
            interrupter.request();
            matches!(own.vcpu.run(), Err(HypervisorError::Forked))
                && matches!(guest.vcpu.run(), Err(HypervisorError::Forked))
                && Guest::new().rings()
        });
        interrupted && grandchild == 0 && own.rings() && matches!(guest.vcpu.run(), Err(HypervisorError::Forked))
    });
    assert_eq!(child, 0);
    assert!(guest.rings());
}

/// A guest that writes to a page and rings.
struct Guest {
    vcpu: Box<dyn Vcpu>,
    vm: Box<dyn Vm>,
    system: System,
    flags: u64,
}

impl Guest {
    fn new() -> Guest {
        let kvm = Kvm::shared().expect("these tests need KVM");
        let (system, mut tables) = System::new(16).unwrap();
        let code = Region::anonymous(PAGE_SIZE).unwrap();
        code.write(0, &program()).unwrap();
        tables.map(CODE, CODE_AT, 1, Access { write: false, execute: true, user: true }).unwrap();
        let data = Region::anonymous(DATA_PAGES * PAGE_SIZE).unwrap();
        tables.map(DATA, DATA_AT, DATA_PAGES, Access { write: true, execute: false, user: true }).unwrap();

        let mut vm = kvm.create_vm().unwrap();
        vm.map(0, SYSTEM_BASE, Arc::clone(system.region()), WriteTracking::Off).unwrap();
        vm.map(1, CODE_AT, code, WriteTracking::Off).unwrap();
        vm.map(DATA_SLOT, DATA_AT, data, WriteTracking::On).unwrap();
        let mut vcpu = vm.create_vcpu(&system.syscall_entry()).unwrap();
        vcpu.set_special_regs(&system.initial_special_regs(kvm.capabilities(), tables.root())).unwrap();
        Guest { vcpu, vm, system, flags: initial_flags(kvm.capabilities()) }
    }

    /// Whether the guest does what it is there for.
    fn rings(&mut self) -> bool {
        self.go_to(CODE);
        self.rings_from_here()
    }

    fn go_to(&mut self, rip: GuestVirt) {
        self.vcpu.set_regs(&Regs { rip: rip.0, rflags: self.flags, ..Regs::default() });
    }

    fn rings_from_here(&mut self) -> bool {
        let Exit::IoOut { port, .. } = self.vcpu.run().unwrap() else { return false };
        Trap::identify(port, self.vcpu.regs().rip) == Ok(Trap::Doorbell)
    }
}

/// `mov rax, written; mov byte [rax], 1; mov rax, DOORBELL; jmp rax`
fn program() -> Vec<u8> {
    let written = DATA.0 + (WRITTEN * PAGE_SIZE) as u64;
    [&[0x48, 0xb8][..], &written.to_le_bytes(), &[0xc6, 0, 1, 0x48, 0xb8], &DOORBELL.0.to_le_bytes(), &[0xff, 0xe0]]
        .concat()
}

/// The wait status of a child process that exits with status 0 if `body` says so.
fn in_child(body: impl FnOnce() -> bool) -> libc::c_int {
    // SAFETY: the child's only thread runs `body`, which uses nothing that another thread may have locked but for the C
    // library's memory, which can be used in a child, and never returns into the test harness. It ends after a minute at the
    // latest.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::alarm(60);
            let is_right = catch_unwind(AssertUnwindSafe(body)).unwrap_or(false);
            libc::_exit((!is_right).into());
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    }
}

const CODE: GuestVirt = GuestVirt(0x40_0000);
const CODE_AT: GuestPhys = GuestPhys(0x1_0000_0000);
const DATA: GuestVirt = GuestVirt(0x50_0000);
const DATA_AT: GuestPhys = GuestPhys(0x2_0000_0000);
const DATA_SLOT: u32 = 2;
const DATA_PAGES: usize = 4;

/// The page that the guest writes.
const WRITTEN: usize = 3;
