//! The signals by which guests end, as Linux would report them of a process.

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    __sifields__bindgen_ty_1, __sifields__bindgen_ty_5, BUS_ADRALN, BUS_ADRERR, FPE_INTDIV, ILL_ILLOPN, SEGV_ACCERR,
    SEGV_MAPERR, SI_KERNEL, SI_TKILL, SI_USER, SIGABRT, SIGALRM, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSYS,
    SIGTRAP, SIGXCPU, SIGXFSZ, TRAP_TRACE, siginfo__bindgen_ty_1__bindgen_ty_1, siginfo_t,
};
use std::mem::offset_of;

use crate::fault::{FaultKind, FaultTarget};
use crate::limits::ExceededLimit;
use crate::personality::linux::structure::to_bytes;
use crate::personality::linux::{USER_ID, signal_of};
use crate::termination::Termination;

/// A signal that has ended a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    pub(super) number: i32,
    pub(super) code: i32,
    detail: Detail,
}

/// What a signal has beside its number and its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    Nothing,
    /// The address that it is about.
    Address(GuestVirt),
    /// The guest has sent it itself.
    OwnSignal,
}

impl Signal {
    /// The signal that a process on Linux would have ended by, where its code was at `at`. A guest that has exited has none.
    pub(crate) fn of(termination: &Termination, at: GuestVirt) -> Option<Self> {
        match termination {
            Termination::Fault(fault) => Self::of_fault(fault.kind(), at),
            Termination::LimitExceeded(limit) => Some(Self::sent(match limit {
                ExceededLimit::Deadline(_) => SIGALRM,
                ExceededLimit::CpuTime(_) => SIGXCPU,
                ExceededLimit::Output(_) => SIGXFSZ,
                ExceededLimit::SystemCalls(_) => SIGSYS,
                ExceededLimit::HostCalls(_) => SIGKILL,
            })),
            Termination::Protocol(_) | Termination::Killed | Termination::Hypervisor(_) => Some(Self::sent(SIGKILL)),
        }
    }

    fn of_fault(kind: &FaultKind, at: GuestVirt) -> Option<Self> {
        Some(match kind {
            FaultKind::StackOverflow { address } => Self::about(SIGSEGV, SEGV_MAPERR, GuestVirt(*address)),
            FaultKind::PageFault { address, target: FaultTarget::BehindFile, .. } => {
                Self::about(SIGBUS, BUS_ADRERR, GuestVirt(*address))
            }
            FaultKind::PageFault { address, target, .. } => {
                let code = if let FaultTarget::Protected { .. } = target { SEGV_ACCERR } else { SEGV_MAPERR };
                Self::about(SIGSEGV, code, GuestVirt(*address))
            }
            FaultKind::MappedMemory { address, .. } => Self::about(SIGSEGV, SEGV_ACCERR, GuestVirt(*address)),
            FaultKind::LostMemory { .. } | FaultKind::LostSnapshot => Self::raised(SIGBUS as i32),
            FaultKind::Exception { vector, .. } => Self::of_exception(*vector, at),
            FaultKind::OutOfMemory { .. } | FaultKind::Panicked(_) => Self::raised(SIGABRT as i32),
            FaultKind::Aborted { signal } => Self::raised(*signal),
            FaultKind::SignalStack { .. } | FaultKind::SignalReturn { .. } => Self::raised(SIGSEGV as i32),
            FaultKind::Exited { .. } => return None,
            FaultKind::ForgedExit { .. } | FaultKind::SystemCallReturn { .. } => Self::by_kernel(SIGSEGV),
            FaultKind::Deadlocked(_) | FaultKind::Shutdown | FaultKind::UnexpectedExit { .. } => Self::sent(SIGKILL),
        })
    }

    /// What Linux makes of an exception (its `arch/x86/kernel/traps.c`).
    fn of_exception(vector: u8, at: GuestVirt) -> Self {
        match signal_of(vector).unwrap_or(SIGKILL) {
            SIGFPE if vector == DIVIDE_ERROR => Self::about(SIGFPE, FPE_INTDIV, at),
            SIGTRAP if vector == DEBUG => Self::about(SIGTRAP, TRAP_TRACE, at),
            SIGILL => Self::about(SIGILL, ILL_ILLOPN, at),
            SIGBUS if vector == ALIGNMENT_CHECK => Self::about(SIGBUS, BUS_ADRALN, GuestVirt(0)),
            number => Self::by_kernel(number),
        }
    }

    fn about(number: u32, code: u32, address: GuestVirt) -> Self {
        Self { number: number as i32, code: code as i32, detail: Detail::Address(address) }
    }

    fn by_kernel(number: u32) -> Self {
        Self { number: number as i32, code: SI_KERNEL as i32, detail: Detail::Nothing }
    }

    /// From outside.
    fn sent(number: u32) -> Self {
        Self { number: number as i32, code: SI_USER as i32, detail: Detail::Nothing }
    }

    fn raised(number: i32) -> Self {
        Self { number, code: SI_TKILL, detail: Detail::OwnSignal }
    }

    /// The signal's `siginfo_t`, in a process of this number.
    pub(super) fn info(&self, process: i32) -> Vec<u8> {
        let fields = offset_of!(siginfo__bindgen_ty_1__bindgen_ty_1, _sifields);
        let common = to_bytes!(siginfo__bindgen_ty_1__bindgen_ty_1 { si_signo: self.number, si_code: self.code });
        let mut info = vec![0; size_of::<siginfo_t>()];
        info[..common.len()].copy_from_slice(&common);
        let mut put = |detail: &[u8]| info[fields..fields + detail.len()].copy_from_slice(detail);
        match self.detail {
            Detail::Nothing => {}
            Detail::Address(address) => put(&to_bytes!(__sifields__bindgen_ty_5 { _addr: address.0 })),
            Detail::OwnSignal => put(&to_bytes!(__sifields__bindgen_ty_1 { _pid: process, _uid: USER_ID })),
        }
        info
    }
}

// Vectors (AMD64 Architecture Programmer's Manual, volume 2, section 8.2).
const DIVIDE_ERROR: u8 = 0;
const DEBUG: u8 = 1;
const ALIGNMENT_CHECK: u8 = 17;
