//! A sandbox reduced to what interruption needs: a vCPU whose guest rings or spins.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::paging::Access;
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{DOORBELL, SYSTEM_BASE, System, Trap, initial_flags};
use ampoule_vmm::{Exit, GuestPhys, GuestVirt, Hypervisor, PAGE_SIZE, Region, Vcpu, Vm, WriteTracking};

use crate::interrupt::{InterruptHandle, Interruption, Interruptor, Phase, Rest, TimeLimits};

pub(super) struct Guest {
    pub(super) interruptor: Interruptor,
    vcpu: Box<dyn Vcpu>,
    /// Keep the guest's memory.
    _vm: Box<dyn Vm>,
    _system: System,
    flags: u64,
    /// What it was doing when each of its samples fell due.
    pub(super) samples: Vec<Phase>,
}

/// What a guest does in a call, one after the other.
pub(super) enum Step<'a> {
    /// It calls a host function.
    Host(&'a mut dyn FnMut()),
    Sleep(Duration),
    /// It never ends by itself.
    Spin,
    /// It spins until that many samples have been taken in all.
    SpinUntilSampled(usize),
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
        vm.map(0, SYSTEM_BASE, system.region().clone(), WriteTracking::Off).unwrap();
        vm.map(1, RAM, ram, WriteTracking::Off).unwrap();
        let mut vcpu = vm.create_vcpu(&system.syscall_entry()).unwrap();
        vcpu.set_special_regs(&system.initial_special_regs(kvm.capabilities(), tables.root())).unwrap();
        let interruptor = Interruptor::new(vcpu.interrupter()).unwrap();
        Guest {
            interruptor,
            vcpu,
            _vm: vm,
            _system: system,
            flags: initial_flags(kvm.capabilities()),
            samples: Vec::new(),
        }
    }

    /// How often the guest has been entered.
    pub(super) fn runs(&self) -> u64 {
        self.vcpu.counters().runs
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
                    self.ring()?;
                    self.interruptor.in_host_function(function)?;
                }
                Step::Sleep(duration) => {
                    self.ring()?;
                    assert_eq!(self.interruptor.sleep(*duration)?, Rest::Over);
                }
                Step::Spin => self.spin()?,
                Step::SpinUntilSampled(samples) => self.resume(SPIN, Some(*samples))?,
            }
        }
        self.ring()
    }

    /// Runs the guest until it rings, which it does at once.
    pub(super) fn ring(&mut self) -> Result<(), Interruption> {
        self.resume(CODE, None)
    }

    /// Runs the guest without end.
    pub(super) fn spin(&mut self) -> Result<(), Interruption> {
        self.resume(SPIN, None)
    }

    /// Whether a guest that would spin is left when it is entered, without a look at the state of the call.
    pub(super) fn is_left_at_once(&mut self) -> bool {
        self.set_instruction_pointer(SPIN);
        self.vcpu.run().unwrap() == Exit::Interrupted
    }

    /// Runs the guest from here until it rings, or that many samples have been taken.
    fn resume(&mut self, rip: GuestVirt, samples: Option<usize>) -> Result<(), Interruption> {
        self.set_instruction_pointer(rip);
        loop {
            self.interruptor.check()?;
            match self.vcpu.run().unwrap() {
                Exit::Interrupted => {
                    self.interruptor.take_due(|phase| self.samples.push(phase));
                    if samples.is_some_and(|samples| self.samples.len() >= samples) {
                        return Ok(());
                    }
                }
                Exit::IoOut { port, .. } => {
                    assert_eq!(Trap::identify(port, self.vcpu.regs().rip).unwrap(), Trap::Doorbell);
                    return Ok(());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn set_instruction_pointer(&mut self, rip: GuestVirt) {
        self.vcpu.set_regs(&Regs { rip: rip.0, rflags: self.flags, ..Regs::default() });
    }
}

pub(super) const NO_LIMITS: TimeLimits = TimeLimits { deadline: None, cpu_time: None };

/// Another thread, which has a handle to the guest.
pub(super) fn meanwhile<R: Send + 'static>(
    guest: &Guest,
    act: impl FnOnce(InterruptHandle) -> R + Send + 'static,
) -> JoinHandle<R> {
    let handle = guest.handle();
    thread::spawn(move || act(handle))
}

pub(super) fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
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
