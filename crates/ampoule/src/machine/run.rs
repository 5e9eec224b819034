//! Running a guest: what the processor's events mean, and what a call may use up.

use std::mem;
use std::time::{Duration, Instant};

use ampoule_abi::layout::{LogLevel, LogRecord, OutputStream, SpanRecord, SpanStep};
use ampoule_vmm::processor::{BadReturn, End};
use ampoule_vmm::{Event, SystemCall};

use super::signals::Delivered;
use super::{Budget, Machine};
use crate::fault::{FaultKind, Position};
use crate::guest_log::Moment;
#[cfg(doc)]
use crate::input::Input;
use crate::input::Wait;
use crate::interrupt::{Awaiting, CallGuard, Interruption, LimitsUnwatched, Rest, TimeLimits};
use crate::limits::Limits;
use crate::personality::{Outcome, Personality, Streams, Unprinted};
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
    /// The thread was taken out of the guest while it slept or waited. The guest makes the call again, and it continues.
    Again,
    /// The guest has ended itself, with a signal: see [`Machine::aborted`].
    Abort { signal: i32 },
    /// It is not answered: the guest waits for its input, and that is where it is to come to rest
    /// ([`Input::comes_later`]). When it runs again, it stops for the same call.
    AwaitsInput,
}

/// A system call in which the guest was taken out of its sleep or wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken {
    call: SystemCall,
    /// Behind it.
    at: u64,
    /// What is left of it, where it is a sleep, which has passed on the guest's clock already.
    sleep: Option<Sleep>,
}

/// A sleep of the guest's.
#[derive(Clone, Copy, Debug)]
struct Sleep {
    /// `None` if there is none in this world.
    end: Option<Instant>,
    /// What the system call gives then.
    result: u64,
}

/// How a wait for input has ended.
enum Waited {
    Over,
    /// The thread was taken out of the guest.
    Broken,
    /// There is nothing to wait for: the input comes later.
    Later,
}

impl Machine {
    /// Begins a call, or the guest's start, which can be interrupted until it is [ended](Self::end_call). What it may use up
    /// is counted from here.
    #[inline]
    pub(crate) fn begin_call(&mut self, limits: Limits) -> Result<CallGuard, LimitsUnwatched> {
        self.budget = Budget::new(limits);
        self.ended_at = None;
        self.handled = None;
        self.broken = None;
        self.interruptor.stop_timer();
        self.process.resume(&self.space);
        self.space.forget_refusals();
        self.streams.call_begins();
        self.note_call_begins();
        self.interruptor.begin(TimeLimits { deadline: limits.deadline, cpu_time: limits.cpu_time })
    }

    /// Ends a call. If it was interrupted, its outcome does not count.
    #[inline]
    pub(crate) fn end_call<T>(&mut self, guard: CallGuard, outcome: Result<T, Termination>) -> Result<T, Termination> {
        self.interruptor.serving(|| self.streams.call_ended());
        let written = self.write_back_files();
        self.process.rests();
        let outcome = outcome.and_then(|outcome| written.map(|()| outcome));
        self.note_call_ended();
        self.exits.publish();
        let outcome = outcome.and_then(|outcome| self.in_budget(guard.finish()).map(|()| outcome));
        self.streams.log_call_ended(outcome.is_err());
        outcome
    }

    /// Writes what the guest has stored in files that it shares to these files.
    #[inline]
    fn write_back_files(&mut self) -> Result<(), Termination> {
        if self.space.shares_files() {
            self.space.collect_written(&mut *self.processor)?;
            self.process.write_back_files(&mut self.space);
        }
        Ok(())
    }

    /// Runs the guest until it stops.
    #[inline]
    pub(crate) fn run(&mut self) -> Result<Stop, Termination> {
        if let Some(call) = self.waits_in.take() {
            return Ok(Stop::SystemCall(call));
        }
        loop {
            // The request to leave the guest may be withdrawn by now: to load a context does that.
            if self.interruptor.is_due() {
                self.interrupted();
            }
            self.in_budget(self.interruptor.check())?;
            if self.space.needs_flush() {
                self.processor.flush_translations()?;
                self.space.mark_flushed();
            }
            if self.process.has_signal()
                && let Delivered::End { signal } = self.deliver_signals(None)?
            {
                return Err(self.aborted(signal, None));
            }
            if let Some(left) = self.process.time_to_signal() {
                self.interruptor.set_timer(left);
            }
            self.detach_stuck()?;
            let event = match self.tracer {
                None => self.run_untraced(),
                Some(_) => self.run_traced(),
            };
            let event = event.map_err(|ended| self.or_lost_memory(ended))?;
            match event {
                Event::Doorbell => return Ok(Stop::Doorbell),
                Event::SystemCall(call) => return Ok(Stop::SystemCall(call)),
                Event::Interrupted => self.interrupted(),
                Event::ManyWritten => self.populate_ahead()?,
                Event::PageFault(fault) => {
                    if let Some(kind) = self.page_fault(fault)? {
                        self.faulted(kind)?;
                    }
                }
                event => self.faulted(fault_kind(event))?,
            }
        }
    }

    /// Gives memory to pages that the guest is about to write.
    fn populate_ahead(&mut self) -> Result<(), Termination> {
        let traced = self.trace_first_writes();
        let pages = self.space.populate_ahead(&mut *self.processor)?;
        self.trace_answer(traced, || format!("memory for {pages} more"));
        Ok(())
    }

    /// Does what the guest was interrupted for.
    fn interrupted(&mut self) {
        self.take_due();
        self.process.expire_timers();
        // A system call that is made again takes them itself, and is interrupted by them.
        if self.broken.is_none()
            && let Some(terminal) = self.streams.terminal()
        {
            self.process.send_of_terminal(terminal.take_signals());
        }
    }

    /// Answers the system call for which the guest has stopped.
    pub(super) fn answer(&mut self, call: &SystemCall) -> Result<Served, Termination> {
        let resumed = self.take_broken(call);
        if resumed.is_none() {
            self.budget.system_call()?;
        }
        if let Some(Broken { sleep: Some(sleep), .. }) = resumed {
            return self.sleep(call, sleep);
        }
        if self.space.shares_files() {
            self.space.collect_written(&mut *self.processor)?;
        }
        let mut has_waited = false;
        let outcome = loop {
            let mut streams = self.streams.within(&mut self.budget);
            let mut space = self.space.watched(self.interruptor.watch());
            match self.interruptor.serving(|| self.process.system_call(call, &mut space, &mut streams)) {
                Outcome::AwaitInput => {
                    drop(space);
                    // What a wait was for has not come, though the wait is over: as with a reader that has nothing yet.
                    let waits_again = mem::replace(&mut has_waited, true);
                    if waits_again && self.in_budget(self.interruptor.sleep(BETWEEN_WAITS))? == Rest::Broken {
                        return self.again(call, None);
                    }
                    match self.await_input()? {
                        Waited::Over => {}
                        Waited::Broken => return self.again(call, None),
                        Waited::Later => {
                            self.waits_in = Some(*call);
                            return Ok(Served::AwaitsInput);
                        }
                    }
                }
                Outcome::Pause { duration } => {
                    drop(space);
                    if self.in_budget(self.interruptor.sleep(duration))? == Rest::Broken {
                        return self.again(call, None);
                    }
                }
                outcome => break outcome,
            }
        };
        let result = match outcome {
            Outcome::Return(result) => result,
            Outcome::SetThreadRegister { register, value } => {
                self.processor.set_thread_register(register, value)?;
                0
            }
            Outcome::Sleep { duration, result } => {
                return self.sleep(call, Sleep { end: Instant::now().checked_add(duration), result });
            }
            Outcome::Exit { code } => return Err(self.exited(code)),
            Outcome::NeedsStackPointer => {
                let stack_pointer = self.processor.registers().stack_pointer();
                self.process.system_call_on_stack(call, stack_pointer, &mut self.space)
            }
            Outcome::SignalReturn => {
                self.return_from_signal()?;
                return Ok(Served::Answered { result: 0 });
            }
            Outcome::Abort { signal } => return Ok(Served::Abort { signal }),
            Outcome::Deadlock(wait) => {
                let deadlocked = self.fault(FaultKind::Deadlocked(wait));
                return Err(self.ends(deadlocked.clone()).err().unwrap_or(deadlocked));
            }
            Outcome::OutputLimit => return Err(self.budget.output_exceeded().into()),
            Outcome::AwaitInput | Outcome::Pause { .. } => unreachable!("it was waited for"),
        };
        self.finish(result)
    }

    /// Lets the guest go on with the result of its system call, or in the handler of a signal.
    fn finish(&mut self, result: u64) -> Result<Served, Termination> {
        if self.process.has_signal() {
            match self.deliver_signals(Some(result))? {
                Delivered::Nothing => {}
                Delivered::Handler => return Ok(Served::Answered { result }),
                Delivered::End { signal } => return Ok(Served::Abort { signal }),
            }
        }
        let finished = self.processor.finish_system_call(result);
        finished.map_err(|BadReturn { address }| self.fault(FaultKind::SystemCallReturn { address: address.0 }))?;
        Ok(Served::Answered { result })
    }

    fn sleep(&mut self, call: &SystemCall, sleep: Sleep) -> Result<Served, Termination> {
        let rest = sleep.end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        match self.in_budget(self.interruptor.sleep(rest))? {
            Rest::Over => {
                self.process.slept();
                self.finish(sleep.result)
            }
            Rest::Broken => self.again(call, Some(sleep)),
        }
    }

    /// Waits until there may be something to read from standard input, or the thread was taken out of the guest.
    fn await_input(&mut self) -> Result<Waited, Termination> {
        let Self { interruptor, streams, process, .. } = self;
        let waited = match streams.stdin_mut().wait() {
            Wait::Readable(file) => interruptor.await_readable(file, process.wait_limit()),
            Wait::Asking => interruptor.in_host_function(|| streams.stdin_mut().ask()).map(|()| interruptor.rest()),
            Wait::Later => return Ok(Waited::Later),
        };
        Ok(match self.in_budget(waited)? {
            Rest::Over => Waited::Over,
            Rest::Broken => Waited::Broken,
        })
    }

    /// Lets the guest make a system call again that was broken off.
    fn again(&mut self, call: &SystemCall, sleep: Option<Sleep>) -> Result<Served, Termination> {
        let at = self.processor.registers().instruction_pointer();
        let mut context = self.processor.save()?;
        context.repeat_system_call();
        self.processor.load(&context)?;
        self.broken = Some(Broken { call: *call, at, sleep });
        Ok(Served::Again)
    }

    /// The same system call as it was broken off, if it was.
    #[inline]
    fn take_broken(&mut self, call: &SystemCall) -> Option<Broken> {
        let at = |machine: &Self| machine.processor.registers().instruction_pointer();
        self.broken.is_some_and(|broken| broken.call == *call && broken.at == at(self)).then(|| self.broken.take())?
    }

    /// Runs a function of the application's that the guest has called.
    pub(crate) fn host_call<R>(&mut self, function: impl FnOnce() -> R) -> Result<R, Termination> {
        self.budget.host_call()?;
        self.in_budget(self.interruptor.in_host_function(function))
    }

    /// The same with a function that may await something.
    pub(crate) fn awaiting_host_call<R>(
        &mut self,
        function: impl FnOnce(&mut Awaiting<'_>) -> R,
    ) -> Result<R, Termination> {
        self.budget.host_call()?;
        self.in_budget(self.interruptor.in_awaiting_function(function))
    }

    /// Records that the doorbell is answered, and the guest continues.
    #[inline]
    pub(crate) fn answered(&mut self) {
        self.process.answered();
    }

    /// Prints a text as if the guest had written it to this descriptor, if that is one of its streams.
    pub(crate) fn print(&mut self, to: OutputStream, text: &[u8]) -> Result<(), Termination> {
        let Some(stream) = self.process.standard_stream(to) else { return Ok(()) };
        let written = self.interruptor.serving(|| self.streams.within(&mut self.budget).write(stream, text));
        match written {
            Err(Unprinted::LimitReached) => Err(self.budget.output_exceeded().into()),
            // It was not the guest that has printed, so nobody is there to find the error.
            Err(Unprinted::Failed(_)) | Ok(()) => Ok(()),
        }
    }

    /// Passes on a log record that takes this many bytes. It counts as printed text.
    pub(crate) fn log(&mut self, level: LogLevel, record: &LogRecord<'_>, len: usize) -> Result<(), Termination> {
        // That records were lost is an event of its own.
        self.budget.log(len, if record.lost > 0 { 2 } else { 1 })?;
        self.streams.log(level, record);
        Ok(())
    }

    /// Passes on what has become of a span, or what was logged in one, which takes this many bytes and was taken now. It counts
    /// as printed text.
    pub(crate) fn log_step(
        &mut self,
        level: Option<LogLevel>,
        record: &SpanRecord<'_>,
        (now, len): (Moment, usize),
    ) -> Result<(), Termination> {
        let lost = match &record.step {
            SpanStep::Open(opened) => opened.lost,
            SpanStep::Log { record, .. } => record.lost,
            SpanStep::Enter(_) | SpanStep::Exit(_) | SpanStep::Record { .. } | SpanStep::Close(_) => 0,
        };
        self.budget.log(len, if lost > 0 { 2 } else { 1 })?;
        self.streams.log_step(level, record, (now, len));
        Ok(())
    }

    /// The greatest level of log records that anybody wants at present, as the guest is told.
    #[inline]
    pub(crate) fn log_level(&self) -> u32 {
        self.streams.log_level()
    }

    /// Adds to the report of the guest's end what is known of the call in which it ended.
    pub(crate) fn ended(&mut self, mut termination: Termination) -> Termination {
        self.interruptor.serving(|| self.streams.flush());
        if let Some(tracer) = &mut self.tracer {
            tracer.ended(&termination);
        }
        match &mut termination {
            Termination::Fault(fault) => {
                let refused = self.space.ran_out_of_memory().then(|| self.space.memory_total());
                fault.add_circumstances(self.streams.last_of_stderr(), refused);
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

/// How long the host rests between two waits for the same input.
const BETWEEN_WAITS: Duration = Duration::from_millis(2);
