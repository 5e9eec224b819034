//! Taking turns: the guest runs until it waits for a call again, and its host calls are served meanwhile.

use ampoule_abi::codec::{EncodeError, decode};
use ampoule_abi::layout::{FailureStatus, PanicRecord, ReturnStatus};
use ampoule_abi::schema::{self, DataType, Schema};

use super::Conversation;
use super::imports::Imports;
use super::mailbox::{GuestMessage, OutputRecord, ProtocolViolation};
use crate::error::FunctionValue;
use crate::fault::{GuestPanic, Position};
use crate::guest_log::Moment;
use crate::host_function::{CallData, HostFunctionFailure};
use crate::interrupt::LimitsUnwatched;
use crate::limits::Limits;
use crate::machine::{Served, Stop};
use crate::spans;
use crate::stream::Streams;
use crate::termination::Termination;

/// Why a guest has not become ready for calls.
#[derive(Debug)]
pub(crate) enum StartError {
    /// It has not run, because the limits of its start could not be watched.
    Unwatched(LimitsUnwatched),
    /// It has ended, and where it was if that was not its own doing.
    Ended(Termination, Option<Position>),
    /// What it says of its types does not fit the mailbox.
    SchemaTooLarge { needed: u64 },
}

/// What a guest waits for between two turns of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// It is ready for its first call.
    Ready { length: usize, needed: u64 },
    /// It has returned from a call, and is ready for the next.
    Returned { status: ReturnStatus, length: usize, needed: u64 },
}

impl Conversation {
    /// Runs a new guest until it is ready for its first call: what it says of its types, if it does. Where a host function or
    /// the writer of an output panics, the guest never becomes ready.
    pub(crate) fn await_ready(&mut self, imports: &mut Imports, limits: Limits) -> Result<Option<Schema>, StartError> {
        let _span = spans::start(self.machine.origin()).entered();
        let in_spans = InGuestSpans(self);
        let Self { machine, .. } = &mut *in_spans.0;
        let guard = machine.begin_call(limits).map_err(StartError::Unwatched)?;
        let pause = in_spans.0.run_to_pause(imports, None, &mut Streams::of_call(0));
        let pause = in_spans.0.machine.end_call(guard, pause);
        drop(in_spans);
        let ended = match pause {
            Ok(Pause::Ready { length: 0, needed: 0 }) => return Ok(None),
            Ok(Pause::Ready { length: 0, needed }) => return Err(StartError::SchemaTooLarge { needed }),
            Ok(Pause::Ready { length, .. }) => match self.schema(length) {
                Some(schema) => return Ok(Some(schema)),
                None => ProtocolViolation::Schema.into(),
            },
            // The mailbox accepts no return before the first call.
            Ok(Pause::Returned { .. }) => ProtocolViolation::ReturnWithoutCall { sequence: 0 }.into(),
            Err(cause) => cause,
        };
        Err(StartError::Ended(ended, self.machine.ended_at()))
    }

    /// What the guest, which is ready, says of its types.
    fn schema(&self, length: usize) -> Option<Schema> {
        let payload = (length <= schema::MAX_LEN).then(|| self.mailbox.payload(length))?;
        payload.whole::<Schema>().ok().filter(|schema| schema.check().is_ok())
    }

    /// What values show of their types, in a description of this size behind the payload; nothing where there is none.
    pub(super) fn shown(&self, length: usize, size: u64) -> Result<Vec<Vec<DataType>>, ProtocolViolation> {
        if size == 0 {
            return Ok(Vec::new());
        }
        let payload = self.mailbox.behind_payload(length, size)?;
        if size > schema::MAX_LEN as u64 {
            return Err(ProtocolViolation::Schema);
        }
        let values: Vec<Vec<DataType>> = decode(payload).map_err(|_| ProtocolViolation::Schema)?;
        let are_sound = values.iter().all(|types| schema::check(types).is_ok());
        if are_sound { Ok(values) } else { Err(ProtocolViolation::Schema) }
    }

    /// Runs the guest, serving its host calls, until it waits for the application.
    #[inline]
    pub(super) fn run_to_pause(
        &mut self,
        imports: &mut Imports,
        mut data: Option<CallData<'_>>,
        streams: &mut Streams<'_>,
    ) -> Result<Pause, Termination> {
        loop {
            match self.run_to_message()? {
                GuestMessage::Ready { length, needed } => return Ok(Pause::Ready { length, needed }),
                GuestMessage::Return { status, length, needed } => {
                    return Ok(Pause::Returned { status, length, needed });
                }
                GuestMessage::HostCall { function, length, needed } => {
                    let served = self.serve_host_call(imports, data.as_mut(), (function, length, needed));
                    served.map_err(|termination| self.machine.ended(termination))?;
                }
                GuestMessage::ReadStream { stream, most } => {
                    let served = self.read_stream(streams, stream, most);
                    served.map_err(|termination| self.machine.ended(termination))?;
                }
                GuestMessage::WriteStream { stream, length, flush } => {
                    let served = self.write_stream(streams, stream, (length, flush));
                    served.map_err(|termination| self.machine.ended(termination))?;
                }
            }
        }
    }

    /// Runs the guest until it rings, serving its system calls. What it has printed is passed on, even when it ends.
    #[inline]
    fn run_to_message(&mut self) -> Result<GuestMessage, Termination> {
        self.machine.answered();
        self.run_to_doorbell().map_err(|termination| {
            // The guest ended for another reason, which is the one to report.
            self.pass_on_output().ok();
            self.machine.ended(termination)
        })
    }

    #[inline]
    fn run_to_doorbell(&mut self) -> Result<GuestMessage, Termination> {
        loop {
            match self.machine.run()? {
                Stop::Doorbell => {
                    self.pass_on_output()?;
                    return Ok(self.mailbox.receive()?);
                }
                Stop::SystemCall(call) => {
                    let passed_on = self.pass_on_output();
                    passed_on.map_err(|end| self.machine.fault_before(end))?;
                    if let Served::Abort { signal } = self.machine.serve(&call)? {
                        let panic = self.staged_panic()?;
                        return Err(self.machine.aborted(signal, panic));
                    }
                }
            }
        }
    }

    /// Passes on what the guest has printed, logged and recorded since this was last done. It waits in the doorbell or in a system call: where it
    /// is interrupted or faults it may be about to print, and does not expect a change.
    #[inline]
    fn pass_on_output(&mut self) -> Result<(), Termination> {
        let mut taken = None;
        for record in self.mailbox.take_printed()? {
            match record? {
                OutputRecord::Text(to, text) => self.machine.print(to, text)?,
                OutputRecord::Log(level, record, len) => self.machine.log(level, &record, len)?,
                OutputRecord::Span(level, record, len) => {
                    let now = *taken.get_or_insert_with(Moment::now);
                    self.machine.log_step(level, &record, (now, len))?;
                }
                OutputRecord::Allocation(record) => self.machine.note_allocation(&record),
            }
        }
        Ok(())
    }

    /// The panic that the guest reported before it aborted, if it did.
    fn staged_panic(&self) -> Result<Option<GuestPanic>, ProtocolViolation> {
        let Some(record) = self.mailbox.staged_panic() else { return Ok(None) };
        Ok(Some(record.whole::<PanicRecord<String>>()?.into()))
    }

    fn serve_host_call(
        &mut self,
        imports: &mut Imports,
        data: Option<&mut CallData<'_>>,
        (number, length, described): (u32, usize, u64),
    ) -> Result<(), Termination> {
        let compared =
            if imports.asks() { imports.compare_arguments(number, &self.shown(length, described)?) } else { Ok(()) };
        let Self { machine, mailbox } = self;
        let Some(mut import) = imports.by_number(number) else {
            return Err(ProtocolViolation::UnknownImport { function: number }.into());
        };
        let traced = machine.trace_host_call(|| import.shown(mailbox.payload(length)));
        let span = import.span(length).entered();
        let called = machine.host_call(|| match compared {
            Ok(()) => import.call(mailbox.payload(length), mailbox.outbound(), data),
            Err(failure) => Err(failure),
        });
        drop(span);
        machine.trace_answer(traced, || match &called {
            Ok(given) => import.shown_result(given, mailbox.payload(mailbox.capacity())),
            // The guest does not go on.
            Err(_) => "?".to_owned(),
        });
        machine.streams_mut().log_mut().goes_on();
        let called = called?;
        match called {
            Ok(length) => mailbox.send_reply(length),
            Err(HostFunctionFailure::Error { text, value }) => {
                mailbox.send_error(text, if import.takes_errors() { value } else { 0 });
            }
            Err(HostFunctionFailure::ArgumentTypes { index, difference }) => {
                let value = FunctionValue::Argument(index);
                let message = format!("{value} is of another type than the host reads: {difference}");
                mailbox.send_failure(FailureStatus::BadArguments, 0, &message);
            }
            Err(HostFunctionFailure::Types(difference)) => {
                let message = format!("its result is of another type than the guest reads: {difference}");
                mailbox.send_failure(FailureStatus::Failed, 0, &message);
            }
            Err(HostFunctionFailure::Function(message)) => mailbox.send_failure(FailureStatus::Failed, 0, &message),
            Err(HostFunctionFailure::Arguments(error)) => {
                mailbox.send_failure(FailureStatus::BadArguments, 0, &error.to_string());
            }
            Err(HostFunctionFailure::Result(EncodeError::TooLarge { needed, .. })) => {
                mailbox.send_failure(FailureStatus::TooLarge, needed as u64, "");
            }
            Err(HostFunctionFailure::Result(error)) => {
                mailbox.send_failure(FailureStatus::Failed, 0, &error.to_string());
            }
        }
        Ok(())
    }
}

/// A turn of the guest's, in which this thread enters its spans. It has left them when this is dropped, even by unwinding.
pub(super) struct InGuestSpans<'conversation>(pub(super) &'conversation mut Conversation);

impl Drop for InGuestSpans<'_> {
    fn drop(&mut self) {
        self.0.machine.streams_mut().log_mut().leave();
    }
}
