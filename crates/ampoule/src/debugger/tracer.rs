//! Running a guest as its debugger wants: holding it, stepping, and stopping at breakpoints and faults.

use std::ops::Range;

use ampoule_vmm::{BREAKPOINT_INSTRUCTION, Event, GuestVirt, HypervisorError};
use gdbstub::common::Signal;

use super::breakpoints::Breakpoints;
use super::held::Held;
use super::link::{Client, StopReason, Turn};
use super::server::Server;
use super::watchpoints::Watchpoints;
use crate::fault::FaultKind;
use crate::machine::{Subject, Tracee, Tracer};
use crate::personality::linux;
use crate::termination::Termination;

/// See the [module](self).
pub(super) struct GdbTracer {
    server: Server,
    /// Whether the guest does not run before a debugger lets it.
    waits: bool,
    /// The debugger to which all that follows belongs.
    session: u64,
    breakpoints: Breakpoints,
    watchpoints: Watchpoints,
    /// Within which addresses the guest executes one instruction after another, if it does.
    steps: Option<Range<u64>>,
    /// What has happened in a step and makes its end no event of the processor's.
    served: Option<Served>,
    /// Why the guest is to be held before it runs again.
    pending: Option<StopReason>,
}

/// What the host has done on the guest's behalf in a step.
#[derive(Clone, Copy, Debug)]
enum Served {
    /// A system call, or the doorbell: the guest continues behind the instruction.
    Instruction,
    /// A page fault of the instruction at this address, which is made again, unless it was a system call after all.
    PageFault { at: u64 },
}

impl GdbTracer {
    pub(super) fn new(server: Server, waits: bool) -> Self {
        Self {
            server,
            waits,
            session: 0,
            breakpoints: Breakpoints::default(),
            watchpoints: Watchpoints::default(),
            steps: None,
            served: None,
            pending: None,
        }
    }

    /// Whether this is a forked child, which has neither the guest nor the server's thread.
    fn is_inherited(&self) -> bool {
        self.server.is_inherited()
    }

    /// Forgets what a debugger that has gone has left, down to what the processor is about to report of it. Returns whether there
    /// was something.
    fn forget(&mut self, guest: &mut Tracee<'_>) -> Result<bool, Termination> {
        self.pending = None;
        self.served = None;
        if self.breakpoints.is_empty() && !self.follows() {
            return Ok(false);
        }
        self.breakpoints.clear();
        self.watchpoints.clear();
        self.steps = None;
        let context = guest.processor.save()?;
        guest.processor.set_single_step(false)?;
        guest.processor.load(&context)?;
        Ok(true)
    }

    /// Whether the guest is to stop after the next instruction, in whatever interest.
    fn is_stepping(&self) -> bool {
        self.steps.is_some() || self.watchpoints.steps_over().is_some()
    }

    /// Whether it matters what the host does on the guest's behalf.
    fn follows(&self) -> bool {
        self.steps.is_some() || !self.watchpoints.is_empty()
    }

    /// Holds the guest until the debugger lets it continue. The debugger is told the reason, if there is one, unless it has the
    /// guest stopped anyway. Returns the signal that the guest is given.
    fn hold(&mut self, guest: &mut Tracee<'_>, reason: Option<StopReason>) -> Result<Option<Signal>, Termination> {
        let Some(&Subject { behaviour, .. }) = self.server.link.subject() else { return Ok(None) };
        let context = guest.processor.save()?;
        let (link, waits) = (&self.server.link, self.waits);
        link.hold(self.session, reason);
        let (breakpoints, watchpoints, served) = (&mut self.breakpoints, &mut self.watchpoints, &mut self.session);
        let (resumption, context) = guest.without_deadline(|guest| {
            let mut held = Held { guest, context, behaviour, breakpoints, watchpoints };
            loop {
                held.guest.check()?;
                let (session, turn) = link.next_turn(waits);
                if *served != session {
                    *served = session;
                    held.forget();
                }
                match turn {
                    Turn::Answer(request) => request(&mut held),
                    Turn::Resume(resumption) => return Ok((resumption, held.context)),
                    Turn::Kill => return Err(Termination::Killed),
                    Turn::Wait => {}
                }
            }
        })?;
        self.waits = false;
        self.steps = resumption.steps;
        // Changes of the debugger's own are none.
        self.watchpoints.finish(guest.space);
        guest.processor.set_single_step(self.is_stepping())?;
        guest.processor.load(&context)?;
        Ok(resumption.signal)
    }

    /// The guest has executed an instruction, or the host has on its behalf.
    fn stepped(&mut self, guest: &mut Tracee<'_>) -> Result<(), Termination> {
        let was_stepping = self.is_stepping();
        let watched = self.watchpoints.finish(guest.space);
        if was_stepping != self.is_stepping() {
            guest.processor.set_single_step(self.is_stepping())?;
        }
        if let Some((kind, addr)) = watched {
            self.pending = Some(StopReason::Watch { tid: (), kind, addr });
            return Ok(());
        }
        let at = guest.processor.registers().instruction_pointer();
        if self.steps.as_ref().is_some_and(|within| !within.contains(&at)) {
            self.pending = Some(StopReason::DoneStep);
        }
        Ok(())
    }

    /// Ends a step whose last instruction the host has executed, or whose end was lost because the guest was held right there.
    fn finish_served(&mut self, guest: &mut Tracee<'_>) -> Result<(), Termination> {
        let at = guest.processor.registers().instruction_pointer();
        let is_over = match self.served.take() {
            Some(Served::Instruction) => true,
            Some(Served::PageFault { at: begun }) => begun != at,
            None => self.watchpoints.steps_over().is_some_and(|begun| begun != at),
        };
        if is_over { self.stepped(guest) } else { Ok(()) }
    }

    /// What an event means while there is a debugger.
    fn interpret(&mut self, guest: &mut Tracee<'_>, event: Event) -> Result<Event, Termination> {
        match event {
            Event::Step => {
                self.stepped(guest)?;
                return Ok(Event::Interrupted);
            }
            Event::SystemCall(_) | Event::Doorbell if self.follows() => self.served = Some(Served::Instruction),
            Event::PageFault(fault) if self.follows() => {
                let at = guest.processor.registers().instruction_pointer();
                if self.watchpoints.explains(&fault, at, guest.space) {
                    guest.processor.set_single_step(true)?;
                    return Ok(Event::Interrupted);
                }
                self.served = Some(Served::PageFault { at });
            }
            Event::Exception(exception) if exception.is_breakpoint() => {
                let behind = guest.processor.registers().instruction_pointer();
                let at = behind.wrapping_sub(BREAKPOINT_INSTRUCTION.len() as u64);
                if self.breakpoints.is_at(at) {
                    let mut context = guest.processor.save()?;
                    context.set_instruction_pointer(GuestVirt(at));
                    guest.processor.load(&context)?;
                    self.pending = Some(StopReason::SwBreak(()));
                    return Ok(Event::Interrupted);
                }
            }
            _ => {}
        }
        Ok(event)
    }
}

impl Tracer for GdbTracer {
    fn begin(&mut self, subject: Subject) {
        self.server.link.begin(subject);
    }

    fn run(&mut self, guest: &mut Tracee<'_>) -> Result<Event, Termination> {
        if self.is_inherited() {
            return Ok(guest.run()?);
        }
        let wishes = self.server.link.before_run();
        if wishes.session != self.session || wishes.client == Client::Absent {
            self.session = wishes.session;
            if self.forget(guest)? {
                // To load a context may have withdrawn a request to leave.
                return Ok(Event::Interrupted);
            }
        }
        self.finish_served(guest)?;
        let pending = self.pending.take();
        let (is_held, reason) = match wishes.client {
            Client::Absent => (self.waits, None),
            Client::Stopped => (true, None),
            // Who breaks into steps wants to know that, not that another one is done.
            Client::Running if wishes.break_in && matches!(pending, None | Some(StopReason::DoneStep)) => {
                (true, Some(INTERRUPTED))
            }
            Client::Running => (pending.is_some(), pending),
        };
        if is_held || wishes.kill {
            self.hold(guest, reason)?;
            return Ok(Event::Interrupted);
        }
        self.breakpoints.insert(guest.space);
        self.watchpoints.withhold(guest.space);
        let event = run(guest);
        self.watchpoints.give_back(guest.space);
        self.breakpoints.withdraw(guest.space);
        let event = self.interpret(guest, event?);
        self.watchpoints.forget_withheld();
        event
    }

    fn fault(&mut self, guest: &mut Tracee<'_>, kind: &FaultKind) -> Result<bool, Termination> {
        if self.is_inherited() || !self.server.link.has_client() {
            return Ok(false);
        }
        let Some((signal, is_over)) = signal_of(kind) else { return Ok(false) };
        let given = self.hold(guest, Some(StopReason::Signal(signal)))?;
        Ok(given.is_none() && !is_over)
    }

    fn ended(&mut self, termination: &Termination) {
        if self.is_inherited() {
            return;
        }
        self.server.link.ended(match termination {
            Termination::Fault(fault) => match fault.kind() {
                FaultKind::Exited { code } => StopReason::Exited(*code as u8),
                kind => StopReason::Terminated(signal_of(kind).map_or(Signal::SIGKILL, |(signal, _)| signal)),
            },
            _ => StopReason::Terminated(Signal::SIGKILL),
        });
    }
}

/// Runs the guest, after pages may have been kept from it.
fn run(guest: &mut Tracee<'_>) -> Result<Event, HypervisorError> {
    if guest.space.needs_flush() {
        guest.processor.flush_translations()?;
        guest.space.mark_flushed();
    }
    guest.run()
}

/// The signal by which a debugger is told of a fault, and whether the guest ends then whatever the debugger says. `None` where
/// there is nothing more to look at.
fn signal_of(kind: &FaultKind) -> Option<(Signal, bool)> {
    let (signal, is_over) = match kind {
        FaultKind::Aborted { signal } => (*signal, true),
        FaultKind::SignalStack { .. } | FaultKind::SignalReturn { .. } => (libc::SIGSEGV, true),
        FaultKind::Panicked(_) | FaultKind::OutOfMemory { .. } => (libc::SIGABRT, true),
        FaultKind::Deadlocked(_) => (libc::SIGSTOP, true),
        FaultKind::ForgedExit { .. } => (libc::SIGSEGV, false),
        kind => (linux::signal_of(kind.vector()?)? as i32, false),
    };
    Some((gdb_signal(signal), is_over))
}

/// gdb's number of a signal of Linux. The first fifteen agree, but for one.
fn gdb_signal(signal: i32) -> Signal {
    match signal {
        libc::SIGBUS => Signal::SIGBUS,
        libc::SIGUSR1 => Signal::SIGUSR1,
        libc::SIGUSR2 => Signal::SIGUSR2,
        libc::SIGCHLD => Signal::SIGCHLD,
        libc::SIGCONT => Signal::SIGCONT,
        libc::SIGSTOP => Signal::SIGSTOP,
        libc::SIGTSTP => Signal::SIGTSTP,
        1..=15 => Signal(signal as u8),
        _ => Signal::UNKNOWN,
    }
}

const INTERRUPTED: StopReason = StopReason::Signal(Signal::SIGINT);
