//! Finds out how guests behave on the hypervisor at hand, by running one.
//!
//! Hypervisors differ in what the I/O bitmap of the task state segment does, in which ring `syscall` arrives, in whether
//! `wrfsbase` works, in what they remember of page tables, and in which counter ring 3 reads. Asking a tiny guest is safer
//! than knowing hypervisors by name.

mod trial;

use std::arch::x86_64::CpuidResult;
use std::io;
use std::sync::Arc;

use crate::address::{GuestPhys, GuestVirt, PAGE_SIZE};
use crate::hypervisor::{HypervisorError, Vcpu, Vm, WriteTracking};
use crate::linux::advice::{WithAdvice, is_shortage};
use crate::memory::{Region, RevokeError};
use crate::x86_64::capabilities::{Capabilities, Paging, SyscallRing};
use crate::x86_64::features::FeatureSet;
use crate::x86_64::paging::{Access, PageTables};
use crate::x86_64::registers::Regs;
use crate::x86_64::shim::{
    DOORBELL_PORT, OWN_TABLES, SYSCALL_PORT, SYSTEM_BASE, SYSTEM_END, System, initial_flags, syscall_return,
};
use crate::x86_64::vdso;

pub use trial::{CounterTrial, Outcome, SyscallTrial, Trial, Trials};

/// Runs a guest on virtual machines that `create_vm` makes for supposed capabilities, of which the processor's features are
/// known, and reports what it can do. What was tried stands in `trials` however it ends.
pub(crate) fn probe(
    features: Features,
    trials: &mut Trials,
    create_vm: impl Fn(Capabilities) -> Result<Box<dyn Vm>, HypervisorError>,
) -> Result<Capabilities, ProbeError> {
    for ports in trial::WAYS {
        let Features { fsgsbase, umip, xcr0, steady_counter } = features;
        let supposed = Capabilities {
            ports,
            syscall: SyscallRing::Ring0,
            fsgsbase,
            base_instructions: false,
            umip,
            paging: Paging::Shadowed,
            protection_keys: false,
            counter: false,
            xcr0,
            baseline: None,
        };
        trials.begin(ports);
        let before = vdso::counter();
        let mut guest = Guest::new(create_vm(supposed)?, &supposed)?;
        let outcome = run(&mut *guest.vcpu, DOORBELL_PORT)?;
        trials.end(outcome);
        if outcome == Outcome::Left {
            let syscall = syscall_ring(&mut *guest.vcpu, trials, supposed)?;
            let base_instructions = base_instructions(&mut *guest.vcpu, trials)?;
            let paging = *trials.paging.insert(guest.paging()?);
            let protection_keys = guest.protection_keys(trials)?;
            let counter = steady_counter && guest.shares_counter(before, trials)?;
            return Ok(Capabilities { syscall, base_instructions, paging, protection_keys, counter, ..supposed });
        }
    }
    Err(ProbeError::NoPort)
}

/// What a guest of this virtual machine, which behaves in this way, finds of the processor.
pub(crate) fn found_features(vm: Box<dyn Vm>, capabilities: &Capabilities) -> Result<FeatureSet, ProbeError> {
    let mut guest = Guest::new(vm, capabilities)?;
    FeatureSet::found_by(|leaf, subleaf| guest.cpuid(leaf, subleaf))
}

/// What is known about the processor beforehand.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Features {
    pub(crate) fsgsbase: bool,
    pub(crate) umip: bool,
    pub(crate) xcr0: u64,
    /// Whether the host's own clocks go by its time-stamp counter.
    pub(crate) steady_counter: bool,
}

/// Why a hypervisor cannot run guests. What led to it is in the [`Trials`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The trial guest could not be set up or run.
    #[error("a trial guest could not be run: {0}")]
    Hypervisor(HypervisorError),
    /// There was no memory for the trial guest.
    #[error("there is no memory for a trial guest: {}", WithAdvice(.0))]
    Memory(io::Error),
    /// Nothing makes an `out` in ring 3 leave the guest.
    #[error("ring 3 of a guest cannot reach its I/O ports in any way")]
    NoPort,
    /// A system call does not arrive at the host.
    #[error("a guest's system call does not arrive: {outcome}")]
    SystemCall {
        /// What came instead.
        outcome: Outcome,
    },
    /// A guest does not go on after its system call.
    #[error("a guest's system call does not return: {outcome}")]
    SystemCallReturn {
        /// What came instead of the instruction behind the system call.
        outcome: Outcome,
    },
    /// A guest cannot ask what the processor has.
    #[error("a guest cannot execute `cpuid`: {outcome}")]
    Cpuid {
        /// What came instead.
        outcome: Outcome,
    },
    /// A guest cannot read its own memory.
    #[error("a guest cannot read memory that its page tables show: {outcome}")]
    Read {
        /// What came instead.
        outcome: Outcome,
    },
    /// The trial guest's memory could not be revoked.
    #[error("translations of a trial guest's memory could not be revoked: {0}")]
    Revoke(RevokeError),
    /// A guest is shown what its page tables said before they were edited, and a flush does not help.
    #[error("a guest sees outdated page tables, even after a flush of all translations")]
    PageTables,
}

impl ProbeError {
    /// Whether it is for lack of something that the host could not try the hypervisor out, which says nothing about that.
    pub(crate) fn is_shortage(&self) -> bool {
        match self {
            ProbeError::Hypervisor(HypervisorError::Refused { reason, .. })
            | ProbeError::Memory(reason)
            | ProbeError::Revoke(RevokeError::Protect(reason)) => is_shortage(reason),
            _ => false,
        }
    }

    /// What the operating system answered, where it has refused something.
    pub(crate) fn into_refusal(self) -> Option<io::Error> {
        match self {
            ProbeError::Hypervisor(HypervisorError::Refused { reason, .. })
            | ProbeError::Memory(reason)
            | ProbeError::Revoke(RevokeError::Protect(reason)) => Some(reason),
            _ => None,
        }
    }
}

impl From<HypervisorError> for ProbeError {
    fn from(error: HypervisorError) -> Self {
        Self::Hypervisor(error)
    }
}

/// A guest about to execute [`CODE`].
struct Guest {
    vcpu: Box<dyn Vcpu>,
    vm: Box<dyn Vm>,
    system: System,
    tables: PageTables,
    /// Its code, and two pages of data that each hold their own number.
    memory: Arc<Region>,
    rflags: u64,
}

impl Guest {
    fn new(mut vm: Box<dyn Vm>, capabilities: &Capabilities) -> Result<Guest, ProbeError> {
        let (system, mut tables) = System::new(3 * OWN_TABLES).map_err(ProbeError::Memory)?;
        let memory = Region::anonymous(3 * PAGE_SIZE).map_err(ProbeError::Memory)?;
        memory.write(0, &CODE).expect("the guest fits a page");
        DATA.iter().for_each(|page| memory.write_u64(page * PAGE_SIZE, *page as u64).expect("there are three pages"));
        let user = Access { write: false, execute: true, user: true };
        tables.map(START, SYSTEM_END, 1, user).expect(TABLES);
        vm.map(SYSTEM_SLOT, SYSTEM_BASE, system.region().clone(), WriteTracking::Off)?;
        vm.map(MEMORY_SLOT, SYSTEM_END, memory.clone(), WriteTracking::Off)?;
        let mut vcpu = vm.create_vcpu(&system.syscall_entry())?;
        vcpu.set_special_regs(&system.initial_special_regs(capabilities, tables.root()))?;
        let rflags = initial_flags(capabilities);
        vcpu.set_regs(&Regs { rip: START.0, rflags, ..Regs::default() });
        Ok(Guest { vcpu, vm, system, tables, memory, rflags })
    }

    /// Puts the table of one place to use at another, and a new one in its old place. Who sees that without a flush walks
    /// the tables himself.
    fn paging(&mut self) -> Result<Paging, ProbeError> {
        let [one, other] = DATA;
        self.map(FIRST_PLACE, one);
        self.read(FIRST_PLACE)?;
        self.tables.unmap(FIRST_PLACE, 1);
        self.tables.give_up_places();
        self.map(SECOND_PLACE, other);
        self.map(FIRST_PLACE, one);
        for region in [&self.memory, self.system.region()] {
            region.revoke(0, region.len()).map_err(ProbeError::Revoke)?;
        }
        let found = [self.read(SECOND_PLACE)?, self.read(FIRST_PLACE)?];
        let expected = [other, one].map(|page| page as u64);
        if found == expected {
            return Ok(Paging::Nested);
        }
        self.vm.flush_translations(SYSTEM_SLOT)?;
        let found = [self.read(SECOND_PLACE)?, self.read(FIRST_PLACE)?];
        if found == expected { Ok(Paging::Shadowed) } else { Err(ProbeError::PageTables) }
    }

    /// Whether the guest can read its protection keys, and so set them.
    fn protection_keys(&mut self, trials: &mut Trials) -> Result<bool, ProbeError> {
        let rip = START.0 + READ_KEYS as u64;
        self.vcpu.set_regs(&Regs { rip, rflags: self.rflags, ..Regs::default() });
        let outcome = run(&mut *self.vcpu, DOORBELL_PORT)?;
        trials.protection_keys = Some(outcome);
        Ok(outcome == Outcome::Left)
    }

    /// Whether the guest, which was made after the host's counter stood at `before`, reads the same counter.
    fn shares_counter(&mut self, before: u64, trials: &mut Trials) -> Result<bool, ProbeError> {
        let rip = START.0 + READ_COUNTER as u64;
        self.vcpu.set_regs(&Regs { rip, rflags: self.rflags, ..Regs::default() });
        let outcome = run(&mut *self.vcpu, DOORBELL_PORT)?;
        let read = self.vcpu.regs().rax;
        let shared = outcome == Outcome::Left && (before..=vdso::counter()).contains(&read);
        trials.counter = Some(CounterTrial { outcome, shared });
        Ok(shared)
    }

    /// What the guest finds.
    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> Result<CpuidResult, ProbeError> {
        let (rip, rax, rcx) = (START.0 + ASK as u64, leaf.into(), subleaf.into());
        self.vcpu.set_regs(&Regs { rip, rax, rcx, rflags: self.rflags, ..Regs::default() });
        match run(&mut *self.vcpu, DOORBELL_PORT)? {
            Outcome::Left => {
                let Regs { rax, rbx, rcx, rdx, .. } = self.vcpu.regs();
                Ok(CpuidResult { eax: rax as u32, ebx: rbx as u32, ecx: rcx as u32, edx: rdx as u32 })
            }
            outcome => Err(ProbeError::Cpuid { outcome }),
        }
    }

    fn map(&mut self, at: GuestVirt, page: usize) {
        let to = GuestPhys(SYSTEM_END.0 + (page * PAGE_SIZE) as u64);
        self.tables.map(at, to, 1, Access { write: false, execute: false, user: true }).expect(TABLES);
    }

    /// What the guest reads at an address.
    fn read(&mut self, at: GuestVirt) -> Result<u64, ProbeError> {
        let rip = START.0 + READ as u64;
        self.vcpu.set_regs(&Regs { rip, rdx: at.0, rflags: self.rflags, ..Regs::default() });
        match run(&mut *self.vcpu, DOORBELL_PORT)? {
            Outcome::Left => Ok(self.vcpu.regs().rax),
            outcome => Err(ProbeError::Read { outcome }),
        }
    }
}

/// Goes on from the guest's first exit.
fn syscall_ring(vcpu: &mut dyn Vcpu, trials: &mut Trials, supposed: Capabilities) -> Result<SyscallRing, ProbeError> {
    let outcome = run(vcpu, SYSCALL_PORT)?;
    let trial = trials.syscall(outcome);
    if outcome != Outcome::Left {
        return Err(ProbeError::SystemCall { outcome });
    }
    let syscall = match vcpu.special_regs()?.cs.selector & 3 {
        0 => SyscallRing::Ring0,
        _ => SyscallRing::Ring3,
    };
    trial.ring = Some(syscall);
    let capabilities = Capabilities { syscall, ..supposed };
    let outcome = match syscall_return(&capabilities, &vcpu.regs(), 0) {
        Ok(resumed) => {
            vcpu.set_regs(&resumed);
            run(vcpu, DOORBELL_PORT)?
        }
        Err(bad) => Outcome::Elsewhere { rip: bad.rip },
    };
    trial.back = Some(outcome);
    if outcome != Outcome::Left {
        return Err(ProbeError::SystemCallReturn { outcome });
    }
    Ok(syscall)
}

/// Goes on from the exit behind the system call: whether a base that the guest sets is there.
fn base_instructions(vcpu: &mut dyn Vcpu, trials: &mut Trials) -> Result<bool, ProbeError> {
    let outcome = run(vcpu, DOORBELL_PORT)?;
    trials.base_instructions = Some(outcome);
    Ok(outcome == Outcome::Left && vcpu.regs().rax == BASE.into())
}

/// Runs until an exit that should be an `out` to `port`.
fn run(vcpu: &mut dyn Vcpu, port: u16) -> Result<Outcome, HypervisorError> {
    Ok(Outcome::of(&vcpu.run()?, port))
}

const TABLES: &str = "there are tables for three pages";

const SYSTEM_SLOT: u32 = 0;
const MEMORY_SLOT: u32 = 1;

/// Where the trial guest's code lies.
const START: GuestVirt = GuestVirt(0x1_0000);

/// Two addresses that differ in the table of the lowest level.
const FIRST_PLACE: GuestVirt = GuestVirt(0x40_0000);
const SECOND_PLACE: GuestVirt = GuestVirt(0x60_0000);

/// The pages of data in the trial guest's memory.
const DATA: [usize; 2] = [1, 2];

/// What the trial guest makes the base of FS.
const BASE: u32 = 0x1234_5000;

const CODE: [u8; 48] = [
    // out DOORBELL_PORT, al
    0xe6,
    DOORBELL_PORT as u8,
    // syscall
    0x0f,
    0x05,
    // out DOORBELL_PORT, al
    0xe6,
    DOORBELL_PORT as u8,
    // mov edx, BASE
    0xba,
    BASE.to_le_bytes()[0],
    BASE.to_le_bytes()[1],
    BASE.to_le_bytes()[2],
    BASE.to_le_bytes()[3],
    // wrfsbase rdx
    0xf3,
    0x48,
    0x0f,
    0xae,
    0xd2,
    // rdfsbase rax
    0xf3,
    0x48,
    0x0f,
    0xae,
    0xc0,
    // out DOORBELL_PORT, al
    0xe6,
    DOORBELL_PORT as u8,
    // mov rax, [rdx]
    0x48,
    0x8b,
    0x02,
    // out DOORBELL_PORT, al
    0xe6,
    DOORBELL_PORT as u8,
    // rdpkru, with RCX 0
    0x0f,
    0x01,
    0xee,
    // out DOORBELL_PORT, al
    0xe6,
    DOORBELL_PORT as u8,
    // rdtsc
    0x0f,
    0x31,
    // shl rdx, 32
    0x48,
    0xc1,
    0xe2,
    0x20,
    // or rax, rdx
    0x48,
    0x09,
    0xd0,
    // out DOORBELL_PORT, al
    0xe6,
    DOORBELL_PORT as u8,
    // cpuid
    0x0f,
    0xa2,
    // out DOORBELL_PORT, al
    0xe6,
    DOORBELL_PORT as u8,
];

/// Where the trial guest reads what lies at RDX.
const READ: usize = 23;

/// Where the trial guest reads its protection keys.
const READ_KEYS: usize = 28;

/// Where the trial guest reads the time-stamp counter.
const READ_COUNTER: usize = 33;

/// Where the trial guest asks what the processor has.
const ASK: usize = 44;

#[cfg(test)]
mod tests;
