//! Contexts of user code, and what the vCPU's registers say of them at each kind of stop.

use crate::address::GuestVirt;
use crate::processor::{Entry, Registers};
use crate::x86_64::capabilities::Capabilities;
use crate::x86_64::registers::{FpuState, Regs, SpecialRegs};
use crate::x86_64::shim::{GUEST_MAY_SET, Resumption, System, Trap, initial_flags};

use super::signal_frame::RaisedException;

/// All registers of user code.
#[derive(Clone, Debug)]
pub(crate) struct UserContext {
    pub(super) regs: Regs,
    pub(super) fs_base: u64,
    pub(super) gs_base: u64,
    pub(super) fpu: FpuState,
    /// For reports: a processor that [loads](crate::Processor::load) the context has those with which user code starts.
    pub(super) selectors: Selectors,
    /// The number of the system call that the code was making.
    pub(super) system_call: Option<u64>,
    /// The register state of which `fpu` may hold something, as bits of XCR0; 0 when the processor has no XSAVE.
    pub(super) xcr0: u64,
    /// The exception that the code has raised, where that was the last event.
    pub(super) raised: Option<RaisedException>,
}

/// The visible parts of the segment registers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Selectors {
    pub(super) cs: u16,
    pub(super) ds: u16,
    pub(super) es: u16,
    pub(super) fs: u16,
    pub(super) gs: u16,
    pub(super) ss: u16,
}

impl UserContext {
    pub(crate) fn new(entry: Entry) -> UserContext {
        let regs = Regs { rip: entry.instruction.0, rsp: entry.stack_pointer.0, ..Regs::default() };
        let selectors = Selectors::default();
        UserContext {
            regs,
            fs_base: 0,
            gs_base: 0,
            fpu: FpuState::initial(),
            selectors,
            system_call: None,
            xcr0: 0,
            raised: None,
        }
    }

    pub(crate) fn registers(&self) -> Registers {
        Registers(self.regs)
    }

    pub(crate) fn set_instruction_pointer(&mut self, at: GuestVirt) {
        self.regs.rip = at.0;
    }

    pub(crate) fn set_stack_pointer(&mut self, to: GuestVirt) {
        self.regs.rsp = to.0;
    }

    pub(crate) fn repeat_system_call(&mut self) {
        if let Some(number) = self.system_call.take() {
            self.regs.rax = number;
            self.regs.rip = self.regs.rip.wrapping_sub(SYSCALL_LEN);
        }
    }

    pub(crate) fn set_result(&mut self, result: u64) {
        self.regs.rax = result;
    }
}

impl Selectors {
    /// Those of user code that has these special registers, wherever the vCPU is: in ring 0 the two that say so are others.
    pub(super) fn of_user(special: &SpecialRegs, initial: &SpecialRegs) -> Selectors {
        let SpecialRegs { ds, es, fs, gs, .. } = special;
        Selectors {
            cs: initial.cs.selector,
            ds: ds.selector,
            es: es.selector,
            fs: fs.selector,
            gs: gs.selector,
            ss: initial.ss.selector,
        }
    }
}

/// The state of a vCPU whose guest waits in the doorbell, or behind a system call that has no result yet.
#[derive(Debug)]
pub(crate) struct WaitingContext {
    pub(super) regs: Regs,
    pub(super) special: SpecialRegs,
    pub(super) fpu: FpuState,
    /// The register state of which `fpu` may hold something, as bits of XCR0.
    pub(super) xcr0: u64,
    /// How the vCPU restores its floating-point state itself, where it can.
    pub(super) resume: Option<Resumption>,
    /// The number of the system call, where it waits for one.
    pub(super) system_call: Option<u64>,
}

impl WaitingContext {
    pub(crate) fn is_in_system_call(&self) -> bool {
        self.system_call.is_some()
    }

    /// The context of the user code that waits.
    pub(crate) fn context(&self) -> UserContext {
        let WaitingContext { regs, special, fpu, xcr0, system_call, .. } = self;
        UserContext {
            regs: *regs,
            fs_base: special.fs.base,
            gs_base: special.gs.base,
            fpu: fpu.clone(),
            selectors: Selectors::of_user(special, special),
            system_call: *system_call,
            xcr0: *xcr0,
            raised: None,
        }
    }
}

/// Where a vCPU stands, which decides where the registers of the user code are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// In user code, whose registers the vCPU has.
    User,
    /// In the doorbell, at its `out` or behind it.
    Doorbell,
    /// In user code, at an `out` or `in` of its own or behind it.
    Forged,
    /// In the stub of system calls, at its `out` or behind it: the call waits for its result.
    SystemCall,
    /// In that stub before its `out`: interrupted before anybody has seen the call.
    SystemCallBegun,
    /// In that stub on the way back, with the result in RAX.
    SystemCallOver,
    /// In user code, behind a system call of this number that has no result yet.
    AwaitsResult(u64),
    /// In the stub of an exception. The user code's registers that it has changed are in its frame.
    Exception(u8),
    /// In that stub before its `out`: interrupted before anybody has seen the exception.
    ExceptionBegun(u8),
}

impl Stop {
    /// Where a vCPU stands that was interrupted.
    pub(super) fn interrupted_at(rip: u64) -> Stop {
        match Trap::in_progress(rip) {
            Some(Trap::SystemCall) if Trap::SystemCall.begins_at(rip) => Stop::SystemCallBegun,
            Some(Trap::SystemCall) => Stop::SystemCallOver,
            Some(trap @ Trap::Exception(vector)) if trap.begins_at(rip) => Stop::ExceptionBegun(vector),
            Some(Trap::Exception(vector)) => Stop::Exception(vector),
            // The doorbell is user code up to its `out` and behind it.
            Some(Trap::Doorbell) | None => Stop::User,
        }
    }

    /// The registers of the user code, as of the instruction that led here.
    pub(super) fn user_regs(self, regs: Regs, system: &System) -> Regs {
        match self {
            Stop::User | Stop::Forged | Stop::AwaitsResult(_) => regs,
            Stop::Doorbell => Regs { rip: Trap::behind_doorbell(), ..regs },
            Stop::SystemCall | Stop::SystemCallBegun | Stop::SystemCallOver => {
                Regs { rip: regs.rcx, rflags: regs.r11, ..regs }
            }
            Stop::Exception(vector) | Stop::ExceptionBegun(vector) => {
                let frame = system.exception_frame(vector);
                Regs { rip: frame.rip, rsp: frame.rsp, rflags: frame.rflags, ..regs }
            }
        }
    }

    /// The registers with which the user code continues in ring 3, wherever the vCPU is now.
    ///
    /// An exception that was interrupted on its way out is forgotten, since the instruction raises it again; but a single step
    /// is one step longer then.
    pub(super) fn resumed_regs(self, regs: Regs, system: &System, capabilities: &Capabilities) -> Regs {
        let user = self.user_regs(regs, system);
        let resumed = match self {
            Stop::User | Stop::Doorbell | Stop::Forged | Stop::SystemCallOver | Stop::AwaitsResult(_) => user,
            Stop::Exception(_) => user,
            // The instruction raises it again, if it is made again.
            Stop::ExceptionBegun(BREAKPOINT) => Regs { rip: user.rip.wrapping_sub(1), ..user },
            Stop::ExceptionBegun(_) => user,
            Stop::SystemCall => Regs { rax: 0, ..user },
            // The instruction is two bytes long, and made again.
            Stop::SystemCallBegun => Regs { rip: user.rip.wrapping_sub(SYSCALL_LEN), ..user },
        };
        let rflags = resumed.rflags & GUEST_MAY_SET | initial_flags(capabilities);
        Regs { rflags, ..resumed }
    }
}

/// `syscall` is two bytes long (AMD64 Architecture Programmer's Manual, volume 3, `SYSCALL`).
const SYSCALL_LEN: u64 = 2;

/// The vector of `int3`, which is one byte long and reported behind the instruction.
const BREAKPOINT: u8 = 3;
