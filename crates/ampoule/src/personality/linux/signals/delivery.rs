//! How a process comes into the handlers of its signals, and out of them again.

use ampoule_vmm::address_map::HOST_END;
use ampoule_vmm::{Context, GuestVirt, SignalHandler, SignalReturn};
use linux_raw_sys::general::{
    BUS_ADRALN, BUS_ADRERR, FPE_FLTDIV, FPE_FLTINV, FPE_FLTOVF, FPE_FLTRES, FPE_FLTUND, FPE_INTDIV, ILL_ILLOPN,
    SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SA_RESTORER, SEGV_ACCERR, SEGV_MAPERR, SI_KERNEL, SIGBUS, SIGFPE,
    SIGILL, SIGSEGV, SIGTRAP, SS_AUTODISARM, TRAP_TRACE, stack_t,
};

use super::info::Info;
use super::{Action, AlternateStack, Meaning, SIG_DFL, Signals, UNBLOCKABLE, bit, index};
use crate::address_space::AddressSpace;
use crate::fault::{FaultKind, FaultTarget};
use crate::personality::SignalEnd;
use crate::personality::linux::structure::{from_bytes, to_bytes};
use crate::personality::linux::timers::{Now, Timers};

impl Signals {
    /// Whether a signal is to be delivered before the process goes on.
    pub(in crate::personality::linux) fn has_deliverable(&self) -> bool {
        !self.pending.is_empty() && self.pending.set() & !self.blocked != 0
    }

    /// Lets the process continue in the handlers of the signals that are pending and not blocked: in that of the last one first.
    /// Returns whether there is any.
    pub(in crate::personality::linux) fn deliver(
        &mut self,
        context: &mut Context,
        space: &mut AddressSpace,
        timers: &mut Timers,
        now: Now,
    ) -> Result<bool, SignalEnd> {
        let mut has_handler = false;
        while let Some(info) = self.take(!self.blocked, timers, now) {
            let signal = info.signal();
            match self.meaning(signal) {
                Meaning::Nothing => {}
                Meaning::Stop => return Err(SignalEnd::Stops),
                Meaning::End => return Err(SignalEnd::Ends { signal }),
                Meaning::Handler => {
                    let action = self.actions[index(signal).unwrap_or_default()];
                    // Only the first one has interrupted the call.
                    if std::mem::take(&mut self.may_repeat) && action.flags & u64::from(SA_RESTART) != 0 {
                        context.repeat_system_call();
                    }
                    if let Err(no_room) = self.enter(info, context, space) {
                        self.force(Info::from_kernel(SIGSEGV as i32), signal, context, space).map_err(|_| no_room)?;
                    }
                    has_handler = true;
                }
            }
        }
        Ok(has_handler)
    }

    /// Lets the process, which has ended itself in this way, continue in the handler of the signal by which it learns that, if
    /// it has one. Returns where the handler's frame is.
    pub(in crate::personality::linux) fn raise(
        &mut self,
        kind: &FaultKind,
        context: &mut Context,
        space: &mut AddressSpace,
    ) -> Option<GuestVirt> {
        let info = info_of(kind, context)?;
        self.force(info, 0, context, space).ok()
    }

    /// Whether there is a handler that a fault of this kind would be left to.
    pub(in crate::personality::linux) fn handles(&self, kind: &FaultKind) -> bool {
        let signal = signal_of_fault(kind).map(|signal| signal as i32);
        signal.is_some_and(|signal| self.meaning(signal) == Meaning::Handler && self.blocked & bit(signal) == 0)
    }

    /// `rt_sigreturn`: goes back to what the process was doing. Returns the frame from which it does. Where there is none that
    /// it could come from, it gets a signal instead.
    pub(in crate::personality::linux) fn leave(
        &mut self,
        context: &mut Context,
        space: &mut AddressSpace,
    ) -> Result<GuestVirt, SignalEnd> {
        // Linux sets the alternate stack while the handler is still on its own.
        let stack_pointer = context.registers().stack_pointer();
        match context.leave_signal_handler(|at, into| space.read(at, into).is_ok()) {
            Ok(SignalReturn { frame, mask, alternate_stack }) => {
                self.blocked = mask & !UNBLOCKABLE;
                let (start, flags, size) = from_bytes!(&alternate_stack, stack_t { ss_sp, ss_flags, ss_size });
                // What cannot be set is left as it is.
                let _ = self.alternate_stack.set(start, flags as u32, size, stack_pointer);
                Ok(frame)
            }
            Err(bad) => {
                let info = Info::from_kernel(SIGSEGV as i32);
                let entered = self.force(info, 0, context, space);
                entered.map_err(|_| SignalEnd::BadFrame { at: bad.at })
            }
        }
    }

    /// Delivers a signal that cannot wait. Where it is blocked, ignored or not handled, the process ends. So it does when the
    /// signal comes because of itself, whose frame found no room: of a handler `of`.
    fn force(
        &mut self,
        info: Info,
        of: i32,
        context: &mut Context,
        space: &mut AddressSpace,
    ) -> Result<GuestVirt, SignalEnd> {
        let signal = info.signal();
        if signal == of || self.blocked & bit(signal) != 0 || self.meaning(signal) != Meaning::Handler {
            return Err(SignalEnd::Ends { signal });
        }
        self.enter(info, context, space)
    }

    /// Lets the process continue in a handler. Returns where its frame is. Nothing has changed where there is no room for it.
    fn enter(&mut self, info: Info, context: &mut Context, space: &mut AddressSpace) -> Result<GuestVirt, SignalEnd> {
        let signal = info.signal();
        let place = index(signal).unwrap_or_default();
        let Action { handler, flags, restorer, mask } = self.actions[place];
        let has = |flag: u32| flags & u64::from(flag) != 0;
        let no_room = |at| SignalEnd::NoRoom { signal, at };
        if !has(SA_RESTORER) || handler >= HOST_END.0 {
            return Err(no_room(GuestVirt(handler)));
        }
        let stack = self.alternate_stack;
        let stack_pointer = context.registers().stack_pointer();
        let changes = has(SA_ONSTACK) && stack.is_free(stack_pointer.wrapping_sub(RED_ZONE));
        let mut entered = context.clone();
        let frame = entered.enter_signal_handler(&SignalHandler {
            handler: GuestVirt(handler),
            restorer: GuestVirt(restorer),
            signal,
            info: info.to_bytes(),
            mask: self.saved_mask.unwrap_or(self.blocked),
            stack_end: changes.then(|| GuestVirt(stack.start.wrapping_add(stack.size))),
            alternate_stack: stack.to_bytes(),
        });
        let is_within = !(changes || stack.holds(stack_pointer)) || stack.covers(frame.at.0);
        if !is_within || space.write(frame.at, &frame.bytes).is_err() {
            return Err(no_room(frame.at));
        }
        *context = entered;
        self.saved_mask = None;
        self.blocked = (self.blocked | mask | if has(SA_NODEFER) { 0 } else { bit(signal) }) & !UNBLOCKABLE;
        if has(SA_RESETHAND) {
            self.actions[place].handler = SIG_DFL;
        }
        if stack.flags & SS_AUTODISARM != 0 {
            self.alternate_stack = AlternateStack::none();
        }
        Ok(frame.at)
    }
}

impl AlternateStack {
    /// Whether code with this stack pointer is on it, for all that the kernel knows.
    pub(super) fn holds(self, stack_pointer: u64) -> bool {
        self.flags & SS_AUTODISARM == 0 && self.covers(stack_pointer)
    }

    /// Whether there is one, and code with this stack pointer is not on it.
    fn is_free(self, stack_pointer: u64) -> bool {
        self.size != 0 && !self.holds(stack_pointer)
    }

    fn covers(self, stack_pointer: u64) -> bool {
        stack_pointer > self.start && stack_pointer - self.start <= self.size
    }

    fn to_bytes(self) -> [u8; size_of::<stack_t>()] {
        to_bytes!(stack_t { ss_sp: self.start, ss_flags: self.flags as i32, ss_size: self.size })
    }
}

/// The signal by which a process learns of its fault.
fn signal_of_fault(kind: &FaultKind) -> Option<u32> {
    match kind {
        FaultKind::PageFault { target: FaultTarget::BehindFile, .. } => Some(SIGBUS),
        kind => super::signal_of(kind.vector()?),
    }
}

/// What is to be known of the signal by which a process learns of its fault (Linux's `arch/x86/kernel/traps.c` and
/// `arch/x86/mm/fault.c`).
fn info_of(kind: &FaultKind, context: &Context) -> Option<Info> {
    let signal = signal_of_fault(kind)?;
    let here = context.registers().instruction_pointer();
    let (code, address) = match *kind {
        FaultKind::PageFault { address, target: FaultTarget::BehindFile, .. } => (BUS_ADRERR, address),
        FaultKind::PageFault { address, target: FaultTarget::Protected { .. }, .. } => (SEGV_ACCERR, address),
        FaultKind::MappedMemory { address, .. } => (SEGV_ACCERR, address),
        FaultKind::PageFault { address, .. } | FaultKind::StackOverflow { address } => (SEGV_MAPERR, address),
        FaultKind::Exception { vector: DEBUG, .. } => (TRAP_TRACE, here),
        FaultKind::Exception { vector: DIVIDE_ERROR, .. } => (FPE_INTDIV, here),
        FaultKind::Exception { vector: ALIGNMENT_CHECK, .. } => (BUS_ADRALN, 0),
        _ if signal == SIGFPE => (floating_point_code(context.floating_point_exceptions()), here),
        _ if signal == SIGILL => (ILL_ILLOPN, here),
        _ => (SI_KERNEL, 0),
    };
    debug_assert!(matches!(signal, SIGSEGV | SIGBUS | SIGFPE | SIGILL | SIGTRAP));
    Some(Info::of_fault(signal as i32, code as i32, address))
}

/// The code for these exceptions (Linux's `fpu__exception_code`).
fn floating_point_code(exceptions: u32) -> u32 {
    match exceptions {
        flags if flags & INVALID_OPERATION != 0 => FPE_FLTINV,
        flags if flags & DIVISION_BY_ZERO != 0 => FPE_FLTDIV,
        flags if flags & OVERFLOW != 0 => FPE_FLTOVF,
        flags if flags & (DENORMAL_OPERAND | UNDERFLOW) != 0 => FPE_FLTUND,
        flags if flags & INEXACT != 0 => FPE_FLTRES,
        // Nobody knows why.
        _ => 0,
    }
}

// The exceptions of `Context::floating_point_exceptions`.
const INVALID_OPERATION: u32 = 1;
const DENORMAL_OPERAND: u32 = 1 << 1;
const DIVISION_BY_ZERO: u32 = 1 << 2;
const OVERFLOW: u32 = 1 << 3;
const UNDERFLOW: u32 = 1 << 4;
const INEXACT: u32 = 1 << 5;

// Vectors, as in `signal_of`.
const DIVIDE_ERROR: u8 = 0;
const DEBUG: u8 = 1;
const ALIGNMENT_CHECK: u8 = 17;

/// How far below the stack pointer the kernel looks whether the code is on the alternate stack, in bytes.
const RED_ZONE: u64 = 128;
