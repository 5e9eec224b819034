//! Running a guest: what the processor's events mean, and what a call may use up.

use ampoule_abi::layout::{LogLevel, LogRecord, OutputStream};
use ampoule_vmm::processor::{BadReturn, End};
use ampoule_vmm::{Event, SystemCall};

use super::{Budget, Machine};
use crate::fault::{FaultKind, Position};
use crate::input::Wait;
use crate::interrupt::{CallGuard, Interruption, LimitsUnwatched, TimeLimits};
use crate::limits::Limits;
use crate::personality::{Outcome, Personality, Streams};
use crate::termination::Termination;

/// Why a guest has stopped. It waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// It has rung the doorbell.
    Doorbell,
    /// It has made a system call, to be [served](Machine::serve).
    SystemCall(SystemCall),
}

/// What has become of a system call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Served {
    /// It is answered, with this result.
    Answered { result: u64 },
    /// The guest has ended itself, with a signal for which it may have installed a handler: see [`Machine::aborted`].
    Abort { signal: i32, handled: bool },
}

impl Machine {
    /// Begins a call, or the guest's start, which can be interrupted until it is [ended](Self::end_call). What it may use up
    /// is counted from here.
    #[inline]
    pub(crate) fn begin_call(&mut self, limits: Limits) -> Result<CallGuard, LimitsUnwatched> {
        self.budget = Budget::new(limits);
        self.ended_at = None;
        self.process.resume(&self.space);
        self.space.forget_refusals();
        self.streams.call_begins();
        self.interruptor.begin(TimeLimits { deadline: limits.deadline, cpu_time: limits.cpu_time })
    }

    /// Ends a call. If it was interrupted, its outcome does not count.
    #[inline]
    pub(crate) fn end_call<T>(&mut self, guard: CallGuard, outcome: Result<T, Termination>) -> Result<T, Termination> {
        self.streams.call_ended();
        self.exits.publish();
        let outcome = outcome?;
        self.in_budget(guard.finish())?;
        Ok(outcome)
    }

    /// Runs the guest until it stops.
    #[inline]
    pub(crate) fn run(&mut self) -> Result<Stop, Termination> {
        loop {
            self.in_budget(self.interruptor.check())?;
            if self.space.needs_flush() {
                self.processor.flush_translations()?;
                self.space.mark_flushed();
            }
            let event = match self.tracer {
                None => self.processor.run()?,
                Some(_) => self.run_traced()?,
            };
            self.exits.count(&event);
            match event {
                Event::Doorbell => return Ok(Stop::Doorbell),
                Event::SystemCall(call) => return Ok(Stop::SystemCall(call)),
                Event::Interrupted => {}
                Event::ManyWritten => self.space.populate_ahead(&mut *self.processor)?,
                Event::PageFault(fault) => {
                    if let Err(termination) = self.page_fault(fault) {
                        self.ends(termination)?;
                    }
                }
                event => {
                    let termination = self.fault(fault_kind(event));
                    self.ends(termination)?;
                }
            }
        }
    }

    /// Answers the system call for which the guest has stopped.
    pub(super) fn answer(&mut self, call: &SystemCall) -> Result<Served, Termination> {
        self.budget.system_call()?;
        let outcome = loop {
            let mut streams = self.streams.within(&mut self.budget);
            let mut space = self.space.watched(self.interruptor.watch());
            match self.process.system_call(call, &mut space, &mut streams) {
                Outcome::AwaitInput => {}
                outcome => break outcome,
            }
            drop(space);
            self.await_input()?;
        };
        let result = match outcome {
            Outcome::Return(result) => result,
            Outcome::SetThreadRegister { register, value } => {
                self.processor.set_thread_register(register, value)?;
                0
            }
            Outcome::Sleep { duration, result } => {
                self.in_budget(self.interruptor.sleep(duration))?;
                result
            }
            Outcome::Exit { code } => return Err(self.fault(FaultKind::Exited { code })),
            Outcome::Abort { signal, handled } => return Ok(Served::Abort { signal, handled }),
            Outcome::Deadlock(wait) => {
                let deadlocked = self.fault(FaultKind::Deadlocked(wait));
                return Err(self.ends(deadlocked.clone()).err().unwrap_or(deadlocked));
            }
            Outcome::OutputLimit => return Err(self.budget.output_exceeded().into()),
            Outcome::AwaitInput => unreachable!("it was waited for"),
        };
        let finished = self.processor.finish_system_call(result);
        finished.map_err(|BadReturn { address }| self.fault(FaultKind::SystemCallReturn { address: address.0 }))?;
        Ok(Served::Answered { result })
    }

    /// Waits until there may be something to read from standard input.
    fn await_input(&mut self) -> Result<(), Termination> {
        let Self { interruptor, streams, .. } = self;
        let waited = match streams.stdin_mut().wait() {
            Wait::Readable(file) => interruptor.await_readable(file),
            Wait::Asking => interruptor.in_host_function(|| streams.stdin_mut().ask()),
        };
        self.in_budget(waited)
    }

    /// Runs a function of the application's that the guest has called.
    pub(crate) fn host_call<R>(&mut self, function: impl FnOnce() -> R) -> Result<R, Termination> {
        self.budget.host_call()?;
        self.in_budget(self.interruptor.in_host_function(function))
    }

    /// Records that the doorbell is answered, and the guest continues.
    #[inline]
    pub(crate) fn answered(&mut self) {
        self.process.answered();
    }

    /// Prints a text as if the guest had written it to this descriptor, if that is one of its streams.
    pub(crate) fn print(&mut self, to: OutputStream, text: &[u8]) -> Result<(), Termination> {
        if let Some(stream) = self.process.standard_stream(to)
            && self.streams.within(&mut self.budget).write(stream, text).is_err()
        {
            return Err(self.budget.output_exceeded().into());
        }
        Ok(())
    }

    /// Passes on a log record that takes this many bytes. It counts as printed text.
    pub(crate) fn log(&mut self, level: LogLevel, record: &LogRecord<'_>, len: usize) -> Result<(), Termination> {
        // That records were lost is an event of its own.
        self.budget.log(len, if record.lost > 0 { 2 } else { 1 })?;
        self.streams.log(level, record);
        Ok(())
    }

    /// The greatest level of log records that anybody wants at present, as the guest is told.
    #[inline]
    pub(crate) fn log_level(&self) -> u32 {
        self.streams.log_level()
    }

    /// Adds to the report of the guest's end what is known of the call in which it ended.
    pub(crate) fn ended(&mut self, mut termination: Termination) -> Termination {
        self.streams.flush();
        if let Some(tracer) = &mut self.tracer {
            tracer.ended(&termination);
        }
        match &mut termination {
            Termination::Fault(fault) => {
                let refused = self.space.ran_out_of_memory().then(|| self.space.memory_total());
                let handled = fault.kind().vector().and_then(|vector| self.process.handled_signal(vector));
                fault.add_circumstances(self.streams.last_of_stderr(), refused, handled);
            }
            Termination::Killed | Termination::LimitExceeded(_) | Termination::Protocol(_) => {
                self.ended_at = Some(self.position());
            }
            // What the hypervisor says of a guest on which it has failed is not to be trusted.
            Termination::Hypervisor(_) => {}
        }
        self.trace_end(&termination);
        termination
    }

    /// Where the guest was when its call was ended from outside or by a limit, unless it had come to its end by then.
    pub(crate) fn ended_at(&self) -> Option<Position> {
        self.ended_at.clone()
    }

    /// What an interruption means depends on what the call was allowed.
    #[inline]
    fn in_budget<T>(&self, outcome: Result<T, Interruption>) -> Result<T, Termination> {
        outcome.map_err(|interruption| self.budget.interrupted(interruption))
    }
}

/// How the guest has ended by an event after which it does not continue.
fn fault_kind(event: Event) -> FaultKind {
    match event {
        Event::Exception(exception) => {
            FaultKind::Exception { vector: exception.vector, error_code: exception.error_code }
        }
        Event::Forged { port } => FaultKind::ForgedExit { port },
        Event::Ended(End::Shutdown) => FaultKind::Shutdown,
        Event::Ended(End::Unexpected(exit)) => FaultKind::UnexpectedExit { exit },
        _ => FaultKind::UnexpectedExit { exit: "an event that was not asked for" },
    }
}
