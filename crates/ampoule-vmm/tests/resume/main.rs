//! Going back to a remembered state: the guest's own processor loads its floating-point and vector registers, and the host
//! calls the kernel for nothing but the run.

mod guest;
mod program;

use ampoule_vmm::x86_64::registers::{FpuState, Regs, SpecialRegs};
use ampoule_vmm::x86_64::shim::{DOORBELL, HOST_BASE, ResumeError, Trap};
use ampoule_vmm::{Counters, PAGE_SIZE};

use guest::{Guest, IMAGE, STACK_TOP};
use program::{Image, Place};

#[test]
fn every_register_is_as_it_was() {
    for [kept, dropped] in [[1, 2], [2, 1]] {
        let Some((mut guest, snapshot)) = snapshot(kept) else { return };
        for round in 0..3 {
            guest.load(dropped);
            let costs = guest.go_back(&snapshot);
            assert_eq!(costs, ONE_RUN, "round {round}");
            assert_eq!(guest.stored(), snapshot.image, "round {round}");
            guest.vcpu.settle().unwrap();
            assert_eq!(guest.vcpu.regs(), snapshot.regs, "round {round}");
        }
    }
}

#[test]
fn the_test_can_tell_two_states_apart() {
    let mut guest = Guest::new();
    let images = [1, 2].map(|seed| {
        guest.load(seed);
        guest.store();
        let image = guest.stored();
        assert_eq!(image, Image::loaded(seed, guest.width));
        image
    });
    assert_ne!(images[0].control, images[1].control);
    assert_ne!(images[0].mxcsr, images[1].mxcsr);
    for number in 0..8 {
        assert_ne!(images[0].x87[number], images[1].x87[number]);
    }
    for number in 0..guest.width.registers() {
        let halves = images.each_ref().map(|image| image.vectors[number][guest.width.bytes() - 16..].to_vec());
        assert_ne!(halves[0], halves[1]);
    }
}

#[test]
fn it_does_not_matter_what_the_guest_did_last() {
    let Some((mut guest, snapshot)) = snapshot(1) else { return };
    let cases: [(Place, Option<Trap>); 5] = [
        (Place::SystemCall, Some(Trap::SystemCall)),
        (Place::Undefined, Some(Trap::Exception(6))),
        (Place::Privileged, Some(Trap::Exception(13))),
        (Place::NullRead, Some(Trap::Exception(14))),
        (Place::ForgedOut, None),
    ];
    for (place, expected) in cases {
        guest.load(2);
        guest.go(place, Guest::regs(2));
        assert_eq!(guest.exit().ok(), expected);
        assert_eq!(guest.go_back(&snapshot), ONE_RUN, "{place:?}");
        assert_eq!(guest.stored(), snapshot.image, "{place:?}");
        guest.vcpu.settle().unwrap();
        assert_eq!(guest.vcpu.regs(), snapshot.regs, "{place:?}");
    }
}

#[test]
fn a_state_set_later_replaces_the_former() {
    let Some((mut guest, _)) = snapshot(1) else { return };
    let later = guest.snapshot(2).expect("the first could be set");
    guest.load(1);
    assert_eq!(guest.go_back(&later), ONE_RUN);
    assert_eq!(guest.stored(), later.image);
}

#[test]
fn resuming_needs_no_stack_and_leaves_the_red_zone_alone() {
    let Some((mut guest, snapshot)) = snapshot(1) else { return };
    let stack = [0xa5; PAGE_SIZE];
    guest.set_stack(&stack);
    for rsp in [STACK_TOP.0 - 0x400, STACK_TOP.0 - 0x3f9, 0, 8, (1 << 47) - 1, u64::MAX << 47, u64::MAX] {
        let regs = Regs { rsp, rip: guest.place(Place::Undefined).0, ..snapshot.regs };
        let start = guest.system.set_resume_state(&guest.capabilities, &snapshot.fpu, &regs, &snapshot.special);
        guest.enter(&start.unwrap().regs);
        assert_eq!(guest.exit(), Ok(Trap::Exception(6)), "{rsp:#x}");
        let frame = guest.system.exception_frame(6);
        assert_eq!((frame.rip, frame.rsp), (regs.rip, rsp));
        assert_eq!(frame.rflags & FLAGS, regs.rflags & FLAGS);
        assert!(guest.stack() == stack, "{rsp:#x}");
    }
}

#[test]
fn a_guest_that_enters_the_stub_itself_gets_the_state_and_nothing_else() {
    let Some((mut guest, snapshot)) = snapshot(1) else { return };
    guest.load(2);
    // The stub goes on behind the doorbell's `out`, which returns to the caller, which rings.
    let own = Regs { rax: snapshot.start.rip, rsp: STACK_TOP.0 - 64, ..Guest::regs(2) };
    guest.go(Place::CallRax, own);
    assert_eq!(guest.exit(), Ok(Trap::Doorbell));
    let regs = guest.vcpu.regs();
    let expected = Regs { rax: snapshot.regs.rax, rdx: snapshot.regs.rdx, rsp: own.rsp - 8, ..own };
    assert_eq!(Regs { rip: own.rip, rflags: own.rflags, ..regs }, Regs { rip: own.rip, ..expected });
    guest.store();
    assert_eq!(guest.stored(), snapshot.image);
}

#[test]
fn a_guest_that_enters_the_stub_before_there_is_a_state_ends_at_address_zero() {
    let Some((_, snapshot)) = snapshot(1) else { return };
    let mut guest = Guest::new();
    guest.go(Place::CallRax, Regs { rax: snapshot.start.rip, ..Guest::regs(1) });
    assert_eq!(guest.exit(), Ok(Trap::Exception(14)));
    assert_eq!(guest.system.exception_frame(14).rip, 0);
}

#[test]
fn no_address_behind_the_doorbell_rings_it() {
    let Some((mut guest, snapshot)) = snapshot(1) else { return };
    let end = snapshot.start.rip + 128;
    for rip in DOORBELL.0 + 1..end {
        let regs = Regs { rip: guest.place(Place::Undefined).0, ..Regs::default() };
        guest.system.set_resume_state(&guest.capabilities, &snapshot.fpu, &regs, &snapshot.special).unwrap();
        guest.go(Place::CallRax, Regs { rax: rip, ..Guest::regs(2) });
        match guest.exit() {
            // `ret`, and the caller rings.
            Ok(Trap::Doorbell) => assert_eq!(rip, DOORBELL.0 + 2),
            other => assert!(matches!(other, Ok(Trap::Exception(_))), "{rip:#x}: {other:?}"),
        }
        assert!(guest.system.exception_frame(6).from_user());
    }
}

#[test]
fn the_guest_can_read_the_state_and_neither_write_nor_execute_it() {
    let mut guest = Guest::new();
    let (present, writing, user, fetch) = (1, 2, 4, 16);
    for page in 0..3 {
        let at = HOST_BASE.0 + 0x7000 + page * PAGE_SIZE as u64;
        guest.go(Place::ReadRax, Regs { rax: at, ..Guest::regs(1) });
        assert_eq!(guest.exit(), Ok(Trap::Doorbell));
        for (place, how) in [(Place::WriteRax, writing), (Place::CallRax, fetch)] {
            guest.go(place, Regs { rax: at, ..Guest::regs(1) });
            assert_eq!(guest.exit(), Ok(Trap::Exception(14)), "{place:?}");
            assert_eq!(guest.system.exception_frame(14).error_code, Some(present | user | how), "{place:?}");
        }
    }
}

/// A state to go back to.
struct Snapshot {
    fpu: FpuState,
    /// As they were when the guest waited.
    regs: Regs,
    special: SpecialRegs,
    /// Those to begin with.
    start: Regs,
    /// What was on the stack, which the guest goes on writing.
    stack: Vec<u8>,
    /// What the guest will store.
    image: Image,
}

/// A guest that waits in the doorbell with the state that `seed` makes. `None` when guests have no XSAVE here: then the only
/// way is the hypervisor's.
fn snapshot(seed: u8) -> Option<(Guest, Snapshot)> {
    let mut guest = Guest::new();
    let snapshot = guest.snapshot(seed);
    match snapshot {
        Ok(snapshot) => Some((guest, snapshot)),
        Err(error) => {
            assert_eq!((error, guest.capabilities.xcr0), (ResumeError::NoXsave, 0));
            None
        }
    }
}

impl Guest {
    fn snapshot(&mut self, seed: u8) -> Result<Snapshot, ResumeError> {
        self.load(seed);
        self.vcpu.settle().unwrap();
        let (fpu, regs) = (self.vcpu.fpu().unwrap(), self.vcpu.regs());
        let special = self.vcpu.special_regs().unwrap();
        let start = self.system.set_resume_state(&self.capabilities, &fpu, &regs, &special)?.regs;
        let image = Image::loaded(seed, self.width).without_hidden();
        Ok(Snapshot { fpu, regs, special, start, stack: self.stack(), image })
    }

    /// Goes back, and on until the guest has stored its state and rings: what that cost.
    fn go_back(&mut self, snapshot: &Snapshot) -> Counters {
        self.ram.fill_zero(IMAGE, PAGE_SIZE).unwrap();
        self.set_stack(&snapshot.stack);
        let before = self.vcpu.counters();
        self.enter(&snapshot.start);
        assert_eq!(self.exit(), Ok(Trap::Doorbell));
        let after = self.vcpu.counters();
        Counters { runs: after.runs - before.runs, ioctls: after.ioctls - before.ioctls }
    }
}

const ONE_RUN: Counters = Counters { runs: 1, ioctls: 0 };

/// CF, PF, AF, ZF, SF, DF, OF, AC, ID.
const FLAGS: u64 = 0x24_0cd5;
