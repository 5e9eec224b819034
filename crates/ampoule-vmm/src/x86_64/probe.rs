//! Finds out how guests behave on the hypervisor at hand, by running one.
//!
//! Hypervisors differ in what the I/O bitmap of the task state segment does, in which ring `syscall` arrives, and in whether
//! `wrfsbase` works. Asking a tiny guest is safer than knowing hypervisors by name.

mod trial;

use std::io;

use crate::address::{GuestVirt, PAGE_SIZE};
use crate::hypervisor::{HypervisorError, Vcpu, Vm, WriteTracking};
use crate::memory::Region;
use crate::x86_64::capabilities::{Capabilities, SyscallRing};
use crate::x86_64::paging::Access;
use crate::x86_64::registers::Regs;
use crate::x86_64::shim::{
    DOORBELL_PORT, OWN_TABLES, SHARED_PHYS, SYSCALL_PORT, SYSTEM_BASE, System, initial_flags, syscall_return,
};

pub use trial::{Outcome, SyscallTrial, Trial, Trials};

/// Runs a guest on virtual machines that `create_vm` makes for supposed capabilities, of which the processor's features are
/// known, and reports what it can do. What was tried stands in `trials` however it ends.
pub(crate) fn probe(
    features: Features,
    trials: &mut Trials,
    create_vm: impl Fn(Capabilities) -> Result<Box<dyn Vm>, HypervisorError>,
) -> Result<Capabilities, ProbeError> {
    for ports in trial::WAYS {
        let Features { fsgsbase, xcr0 } = features;
        let syscall = SyscallRing::Ring0;
        let supposed = Capabilities { ports, syscall, fsgsbase, base_instructions: false, xcr0 };
        trials.begin(ports);
        let mut vm = create_vm(supposed)?;
        let mut vcpu = guest(vm.as_mut(), &supposed)?;
        let outcome = run(vcpu.as_mut(), DOORBELL_PORT)?;
        trials.end(outcome);
        if outcome == Outcome::Left {
            let syscall = syscall_ring(vcpu.as_mut(), trials, supposed)?;
            let base_instructions = base_instructions(vcpu.as_mut(), trials)?;
            return Ok(Capabilities { syscall, base_instructions, ..supposed });
        }
    }
    Err(ProbeError::NoPort)
}

/// What is known about the processor beforehand.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Features {
    pub(crate) fsgsbase: bool,
    pub(crate) xcr0: u64,
}

/// Why a hypervisor cannot run guests. What led to it is in the [`Trials`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The trial guest could not be set up or run.
    #[error("a trial guest could not be run")]
    Hypervisor(#[from] HypervisorError),
    /// There was no memory for the trial guest.
    #[error("there is no memory for a trial guest")]
    Memory(#[source] io::Error),
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
}

/// A vCPU about to execute [`GUEST`].
fn guest(vm: &mut dyn Vm, capabilities: &Capabilities) -> Result<Box<dyn Vcpu>, ProbeError> {
    let (system, mut tables) = System::new(2 * OWN_TABLES).map_err(ProbeError::Memory)?;
    let code = Region::anonymous(PAGE_SIZE).map_err(ProbeError::Memory)?;
    code.write(0, &GUEST).expect("the guest fits a page");
    let user = Access { write: false, execute: true, user: true };
    tables.map(CODE, SHARED_PHYS, 1, user).expect("there are tables for one page");
    vm.map(0, SYSTEM_BASE, system.region().clone(), WriteTracking::Off)?;
    vm.map(1, SHARED_PHYS, code, WriteTracking::Off)?;
    let mut vcpu = vm.create_vcpu(&system.syscall_entry())?;
    vcpu.set_special_regs(&system.initial_special_regs(capabilities, tables.root()))?;
    vcpu.set_regs(&Regs { rip: CODE.0, rflags: initial_flags(capabilities), ..Regs::default() });
    Ok(vcpu)
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

/// Where the trial guest's code lies.
const CODE: GuestVirt = GuestVirt(0x1_0000);

/// What the trial guest makes the base of FS.
const BASE: u32 = 0x1234_5000;

const GUEST: [u8; 23] = [
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
];

#[cfg(test)]
mod tests;
