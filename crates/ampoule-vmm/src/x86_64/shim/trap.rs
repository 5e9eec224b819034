//! How the exits that the stubs make are told apart and answered.

use crate::memory::Region;
use crate::x86_64::address_map::is_user_code;
use crate::x86_64::capabilities::{Capabilities, SyscallRing};
use crate::x86_64::registers::Regs;

use super::code::{OUT_SIZE, STUB_SIZE, VECTORS, has_error_code};
use super::{DOORBELL, DOORBELL_PORT, EXCEPTION_PORT, STUBS, SYSCALL_PORT, SYSCALL_STUB, virt};

/// What brought the guest to the host.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Trap {
    /// A `syscall` instruction. Answer with [`syscall_return`].
    SystemCall,
    /// A call of the doorbell. It returns to its caller when the vCPU is run again.
    Doorbell,
    /// An exception, by its vector (below 32). The interrupted instruction is retried (for a fault), or the next one
    /// executed (for a trap), when the vCPU is run again.
    Exception(u8),
}

impl Trap {
    /// The trap that leaves through `port`, if there is one.
    pub fn from_port(port: u16) -> Option<Trap> {
        match port {
            SYSCALL_PORT => Some(Trap::SystemCall),
            DOORBELL_PORT => Some(Trap::Doorbell),
            _ => {
                let vector = u8::try_from(port.checked_sub(EXCEPTION_PORT)?).ok()?;
                (vector < VECTORS).then_some(Trap::Exception(vector))
            }
        }
    }

    /// The trap that made an exit by `out` to `port` with the instruction pointer `rip`.
    ///
    /// # Errors
    ///
    /// [`Forgery`] when no stub made this exit: the guest executed an `out` of its own.
    pub fn identify(port: u16, rip: u64) -> Result<Trap, Forgery> {
        Trap::from_port(port).filter(|trap| trap.left_from(rip)).ok_or(Forgery { port, rip })
    }

    /// The port through which this trap leaves.
    pub fn port(self) -> u16 {
        match self {
            Trap::SystemCall => SYSCALL_PORT,
            Trap::Doorbell => DOORBELL_PORT,
            Trap::Exception(vector) => EXCEPTION_PORT + u16::from(vector),
        }
    }

    /// The trap whose stub has `rip`: it is about to make the trap, or has made it and not returned yet.
    pub(in crate::x86_64) fn in_progress(rip: u64) -> Option<Trap> {
        let exceptions = (0..VECTORS).map(Trap::Exception);
        let mut all = [Trap::SystemCall, Trap::Doorbell].into_iter().chain(exceptions);
        all.find(|trap| (trap.stub()..trap.stub() + STUB_SIZE as u64).contains(&rip))
    }

    /// Whether its stub begins here, where the host has not seen the trap yet.
    pub(in crate::x86_64) fn begins_at(self, rip: u64) -> bool {
        rip == self.stub()
    }

    /// Where the user code that called the doorbell continues: at the stub's return.
    pub(in crate::x86_64) fn behind_doorbell() -> u64 {
        DOORBELL.0 + OUT_SIZE
    }

    /// Hypervisors differ in whether the instruction pointer has passed the `out` when they exit. No other instruction ends
    /// or begins at these addresses: the guest can write neither the pages of the stubs nor those before them. The resume
    /// stub, which shares the doorbell's page, lies behind it and holds no `out`.
    fn left_from(self, rip: u64) -> bool {
        rip == self.stub() || rip == self.stub() + OUT_SIZE
    }

    /// The address of its stub, which begins with the `out`.
    fn stub(self) -> u64 {
        match self {
            Trap::SystemCall => SYSCALL_STUB.0,
            Trap::Doorbell => DOORBELL.0,
            Trap::Exception(vector) => virt(STUBS).0 + u64::from(vector) * STUB_SIZE as u64,
        }
    }
}

/// The guest executed an `out` that is not part of the host's stubs.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("the guest wrote to I/O port {port:#x} with an instruction of its own at {rip:#x}")]
pub struct Forgery {
    /// The port that was written.
    pub port: u16,
    /// The instruction pointer at the exit.
    pub rip: u64,
}

/// What the processor pushed for an exception.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[expect(missing_docs, reason = "the fields are the registers they name")]
pub struct ExceptionFrame {
    /// For the exceptions that have one.
    pub error_code: Option<u64>,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl ExceptionFrame {
    /// Whether user code was interrupted, as opposed to a stub.
    pub fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }

    /// Reads the frame from the stack that ends at the offset `top` of the system's region.
    pub(super) fn read(region: &Region, top: usize, vector: u8) -> ExceptionFrame {
        let word = |below_top: usize| {
            region
                .read_u64(top - below_top * size_of::<u64>())
                .expect("the exception stack lies within the system's region")
        };
        ExceptionFrame {
            ss: word(1),
            rsp: word(2),
            rflags: word(3),
            cs: word(4),
            rip: word(5),
            error_code: has_error_code(vector).then(|| word(6)),
        }
    }

    /// Writes the flags of the frame that ends at the offset `top` of the system's region.
    pub(super) fn write_flags(region: &Region, top: usize, flags: u64) {
        region
            .write_u64(top - 3 * size_of::<u64>(), flags)
            .expect("the exception stack lies within the system's region");
    }
}

/// The flags with which user code starts.
pub fn initial_flags(capabilities: &Capabilities) -> u64 {
    ALWAYS | capabilities.user_flags()
}

/// The registers with which to continue after [`Trap::SystemCall`], given those at the exit: the caller continues behind its
/// `syscall` with `result` in RAX.
///
/// # Errors
///
/// [`BadReturn`] when the return address is not the guest's. The guest chooses it when it jumps to the stub.
pub fn syscall_return(capabilities: &Capabilities, regs: &Regs, result: u64) -> Result<Regs, BadReturn> {
    let (rip, flags) = (regs.rcx, regs.r11);
    if !is_user_code(rip) {
        return Err(BadReturn { rip });
    }
    let flags = flags & GUEST_MAY_SET | ALWAYS | capabilities.user_flags();
    let resumed = Regs { rax: result, ..*regs };
    Ok(match capabilities.syscall {
        // The stub's `sysretq` takes instruction pointer and flags from RCX and R11.
        SyscallRing::Ring0 => Regs { r11: flags, ..resumed },
        SyscallRing::Ring3 => Regs { rip, rflags: flags, ..resumed },
    })
}

/// A system call whose return address is not the guest's.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("the system call would return to {rip:#x}, which is not an address of the guest's")]
pub struct BadReturn {
    /// The return address.
    pub rip: u64,
}

/// The flags that user code can set by itself: CF, PF, AF, ZF, SF, TF, DF, OF, AC, ID.
pub(in crate::x86_64) const GUEST_MAY_SET: u64 =
    1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11 | 1 << 18 | 1 << 21;

/// The reserved bit that is always set, and IF.
pub(in crate::x86_64) const ALWAYS: u64 = 1 << 1 | 1 << 9;
