//! Finds out how guests behave on the hypervisor at hand, by running one.
//!
//! Hypervisors differ in what the I/O bitmap of the task state segment does and in which ring `syscall` arrives. Asking a
//! tiny guest is safer than knowing hypervisors by name.

use std::io;

use crate::address::{GuestVirt, PAGE_SIZE};
use crate::hypervisor::{Exit, HypervisorError, Vcpu, Vm, WriteTracking};
use crate::memory::Region;
use crate::x86_64::capabilities::{Capabilities, PortAccess, SyscallRing};
use crate::x86_64::paging::Access;
use crate::x86_64::registers::Regs;
use crate::x86_64::shim::{
    DOORBELL_PORT, OWN_TABLES, SHARED_PHYS, SYSCALL_PORT, SYSTEM_BASE, System, initial_flags, syscall_return,
};

/// Runs a guest on virtual machines that `create_vm` makes for supposed capabilities, of which the processor's features are
/// known, and reports what it can do.
pub(crate) fn probe(
    features: Features,
    create_vm: impl Fn(Capabilities) -> Result<Box<dyn Vm>, HypervisorError>,
) -> Result<Capabilities, ProbeError> {
    let mut refusal = String::new();
    for ports in [PortAccess::Bitmap, PortAccess::BitmapOfAvailableTask, PortAccess::PrivilegeLevel] {
        let supposed =
            Capabilities { ports, syscall: SyscallRing::Ring0, fsgsbase: features.fsgsbase, xcr0: features.xcr0 };
        let mut vm = create_vm(supposed)?;
        let mut vcpu = guest(vm.as_mut(), &supposed)?;
        match vcpu.run()? {
            Exit::IoOut { port: DOORBELL_PORT, .. } => return syscall_ring(vcpu.as_mut(), supposed),
            other => refusal = format!("{other:?}"),
        }
    }
    Err(ProbeError::NoPort { exit: refusal })
}

/// What is known about the processor beforehand.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Features {
    pub(crate) fsgsbase: bool,
    pub(crate) xcr0: u64,
}

/// Why a hypervisor cannot run guests.
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
    #[error("ring 3 of a guest cannot reach its I/O ports: the last attempt ended with {exit}")]
    NoPort {
        /// How the last attempt ended.
        exit: String,
    },
    /// A system call does not arrive at the host or does not return.
    #[error("a guest's system call went astray: the guest exited with {exit}")]
    SystemCall {
        /// The exit that came instead.
        exit: String,
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
fn syscall_ring(vcpu: &mut dyn Vcpu, supposed: Capabilities) -> Result<Capabilities, ProbeError> {
    expect_out(vcpu.run()?, SYSCALL_PORT)?;
    let syscall = match vcpu.special_regs()?.cs.selector & 3 {
        0 => SyscallRing::Ring0,
        _ => SyscallRing::Ring3,
    };
    let capabilities = Capabilities { syscall, ..supposed };
    let regs = vcpu.regs();
    let resumed =
        syscall_return(&capabilities, &regs, 0).map_err(|error| ProbeError::SystemCall { exit: error.to_string() })?;
    vcpu.set_regs(&resumed);
    expect_out(vcpu.run()?, DOORBELL_PORT)?;
    Ok(capabilities)
}

fn expect_out(exit: Exit<'_>, expected: u16) -> Result<(), ProbeError> {
    match exit {
        Exit::IoOut { port, .. } if port == expected => Ok(()),
        other => Err(ProbeError::SystemCall { exit: format!("{other:?}") }),
    }
}

/// Where the trial guest's code lies.
const CODE: GuestVirt = GuestVirt(0x1_0000);

const GUEST: [u8; 6] = [
    // out DOORBELL_PORT, al
    0xe6,
    DOORBELL_PORT as u8,
    // syscall
    0x0f,
    0x05,
    // out DOORBELL_PORT, al
    0xe6,
    DOORBELL_PORT as u8,
];
