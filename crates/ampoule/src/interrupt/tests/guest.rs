//! A sandbox reduced to what interruption needs: a vCPU whose guest rings or spins.

use std::sync::mpsc;
use std::thread;

use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::paging::Access;
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{DOORBELL, SYSTEM_BASE, System, Trap, initial_flags};
use ampoule_vmm::{Exit, GuestPhys, GuestVirt, Hypervisor, PAGE_SIZE, Region, Vcpu, Vm};

use crate::interrupt::{InterruptHandle, Interruption, Interruptor, TimeLimits};

pub(super) struct Guest {
    pub(super) interruptor: Interruptor,
    vcpu: Box<dyn Vcpu>,
    /// Keep the guest's memory.
    _vm: Box<dyn Vm>,
    _system: System,
    flags: u64,
}

/// What a guest does in a call, one after the other.
pub(super) enum Step<'a> {
    /// It calls a host function.
    Host(&'a mut dyn FnMut()),
    Sleep(std::time::Duration),
    /// It never ends by itself.
    Spin,
}

impl Guest {
    pub(super) fn new() -> Guest {
        let kvm = Kvm::shared().expect("these tests need KVM");
        let (system, mut tables) = System::new(16).unwrap();
        let ram = Region::anonymous(PAGE_SIZE).unwrap();
        ram.write(0, &RING).unwrap();
        ram.write((SPIN.0 - CODE.0) as usize, &[0xeb, 0xfe]).unwrap(); // jmp $
        tables.map(CODE, RAM, 1, Access { write: false, execute: true, user: true }).unwrap();

        let mut vm = kvm.create_vm().unwrap();
        vm.map(0, SYSTEM_BASE, system.region().clone()).unwrap();
        vm.map(1, RAM, ram).unwrap();
        let mut vcpu = vm.create_vcpu(&system.syscall_entry()).unwrap();
        vcpu.set_special_regs(&system.initial_special_regs(kvm.capabilities(), tables.root())).unwrap();
        let interruptor = Interruptor::new(vcpu.interrupter()).unwrap();
        Guest { interruptor, vcpu, _vm: vm, _system: system, flags: initial_flags(kvm.capabilities()) }
    }

    pub(super) fn handle(&self) -> InterruptHandle {
        self.interruptor.handle()
    }

    /// A call that takes these steps and then returns.
    pub(super) fn call(&mut self, limits: TimeLimits, steps: &mut [Step<'_>]) -> Result<(), Interruption> {
        let call = self.interruptor.begin(limits).unwrap();
        let served = self.run(steps);
        let finished = call.finish();
        assert!(served.is_ok() || finished == served, "{served:?} {finished:?}");
        finished
    }

    fn run(&mut self, steps: &mut [Step<'_>]) -> Result<(), Interruption> {
        for step in steps {
            match step {
                Step::Host(function) => {
                    self.resume(CODE)?;
                    self.interruptor.in_host_function(function)?;
                }
                Step::Sleep(duration) => {
                    self.resume(CODE)?;
                    self.interruptor.sleep(*duration)?;
                }
                Step::Spin => self.resume(SPIN)?,
            }
        }
        self.resume(CODE)
    }

    /// Runs the guest from here until it rings.
    fn resume(&mut self, rip: GuestVirt) -> Result<(), Interruption> {
        self.vcpu.set_regs(&Regs { rip: rip.0, rflags: self.flags, ..Regs::default() });
        loop {
            self.interruptor.check()?;
            match self.vcpu.run().unwrap() {
                Exit::Interrupted => {}
                Exit::IoOut { port, .. } => {
                    assert_eq!(Trap::identify(port, self.vcpu.regs().rip).unwrap(), Trap::Doorbell);
                    return Ok(());
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

pub(super) const NO_LIMITS: TimeLimits = TimeLimits { deadline: None, cpu_time: None };

/// A thread that acts on the call of `guest` when the guest spins or sleeps, or a little earlier.
///
/// `act` is called again and again until it says that it has done its work.
pub(super) fn meanwhile(guest: &Guest, mut act: impl FnMut(&InterruptHandle) -> bool + Send + 'static) -> Meanwhile {
    let handle = guest.handle();
    let (done, is_done) = mpsc::channel();
    let thread = thread::spawn(move || {
        while !act(&handle) {
            thread::yield_now();
        }
        done.send(()).unwrap();
    });
    Meanwhile { thread, is_done }
}

pub(super) struct Meanwhile {
    thread: thread::JoinHandle<()>,
    is_done: mpsc::Receiver<()>,
}

impl Meanwhile {
    pub(super) fn join(self) {
        self.is_done.recv().expect("the other thread panicked");
        self.thread.join().unwrap();
    }
}

const RAM: GuestPhys = GuestPhys(0x1_0000_0000);
const CODE: GuestVirt = GuestVirt(0x40_0000);
const SPIN: GuestVirt = GuestVirt(CODE.0 + 0x100);

/// `mov rax, DOORBELL; jmp rax`
const RING: [u8; 12] = {
    let address = DOORBELL.0.to_le_bytes();
    [
        0x48, 0xb8, address[0], address[1], address[2], address[3], address[4], address[5], address[6], address[7],
        0xff, 0xe0,
    ]
};
