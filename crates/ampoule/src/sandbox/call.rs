//! One call: arguments in, host calls served, result out.

use ampoule_abi::codec::{Decoder, EncodeError, Encoder};
use ampoule_abi::layout::{FailureStatus, ReturnStatus};
use serde::de::DeserializeOwned;

use super::Sandbox;
use super::condition::Condition;
use super::imports::Imports;
use crate::arguments::Arguments;
use crate::error::{CallError, Payload};
use crate::fault::GuestPanic;
use crate::host_function::HostFunctionFailure;
use crate::image::Function;
use crate::interrupt::LimitsUnwatched;
use crate::limits::Limits;
use crate::machine::Machine;
use crate::mailbox::{GuestMessage, ProtocolViolation};
use crate::termination::Termination;

impl Sandbox {
    /// Calls a function whose types are known to be right.
    pub(super) fn invoke<R: DeserializeOwned>(
        &mut self,
        function: &Function,
        arguments: &impl Arguments,
        limits: Limits,
    ) -> Result<R, CallError> {
        if let Some(cause) = self.condition.cause() {
            return Err(CallError::Poisoned { cause: cause.clone() });
        }
        let mut encoder = Encoder::new(self.machine.mailbox.inbound());
        let encoded = arguments.encode(&mut encoder).and_then(|()| encoder.finish());
        let length = encoded.map_err(|error| self.encoding_failed(function, error))?;
        let returned = self.exchange(function, length, limits)?;
        let mut decoder = Decoder::new(self.machine.mailbox.payload(returned));
        let decoded = decoder.value().and_then(|value| decoder.finish().map(|()| value));
        decoded.map_err(|reason| CallError::Decode { function: function.name().to_owned(), reason })
    }

    /// Makes the call whose arguments stand in the inbound area: the length of its result, in the outbound area.
    fn exchange(&mut self, function: &Function, length: usize, limits: Limits) -> Result<usize, CallError> {
        let guard = self.machine.begin_call(limits.or(self.limits)).map_err(|LimitsUnwatched { reason }| {
            CallError::LimitsUnwatched { function: function.name().to_owned(), reason }
        })?;
        self.machine.mailbox.send_call(function.number(), length);
        let pause = run(&mut self.machine, &mut self.imports, &mut self.condition).and_then(|pause| {
            guard.finish().map_err(|interruption| self.machine.budget.interrupted(interruption))?;
            Ok(pause)
        });
        match pause {
            Ok(Pause::Returned { status: ReturnStatus::Done, length, .. }) => Ok(length),
            Ok(Pause::Returned { status, length, needed }) => Err(self.unsuccessful(function, status, length, needed)),
            Ok(Pause::Ready) => Err(self.terminated(function, ProtocolViolation::ReadyTwice.into())),
            Err(cause) => Err(self.terminated(function, cause)),
        }
    }

    /// What a return with another status than `Done` means to the caller.
    fn unsuccessful(&mut self, function: &Function, status: ReturnStatus, length: usize, needed: u64) -> CallError {
        let name = function.name().to_owned();
        let payload = self.machine.mailbox.payload(length);
        let mailbox_size = self.machine.mailbox.capacity();
        let understood = match status {
            ReturnStatus::Failed => payload.whole().map(|message| CallError::Function { function: name, message }),
            ReturnStatus::BadArguments => {
                payload.whole().map(|message| CallError::ArgumentsRefused { function: name, message })
            }
            ReturnStatus::Panicked => {
                GuestPanic::read(payload).map(|panic| CallError::Panicked { function: name, panic })
            }
            ReturnStatus::TooLarge => {
                Ok(CallError::PayloadTooLarge { function: name, what: Payload::Result, needed, mailbox_size })
            }
            ReturnStatus::UnknownFunction | ReturnStatus::Done => Err(ProtocolViolation::Text),
        };
        understood.unwrap_or_else(|violation| self.terminated(function, violation.into()))
    }

    fn terminated(&mut self, function: &Function, cause: Termination) -> CallError {
        self.condition = Condition::Ended(cause.clone());
        CallError::Terminated { function: function.name().to_owned(), cause }
    }

    fn encoding_failed(&self, function: &Function, error: EncodeError) -> CallError {
        let name = function.name().to_owned();
        match error {
            EncodeError::TooLarge { needed, capacity } => CallError::PayloadTooLarge {
                function: name,
                what: Payload::Arguments,
                needed: needed as u64,
                mailbox_size: capacity,
            },
            reason => CallError::Encode { function: name, reason },
        }
    }
}

/// Why a guest stands still between two turns of the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// It is ready for its first call.
    Ready,
    /// It has returned from a call.
    Returned { status: ReturnStatus, length: usize, needed: u64 },
}

/// Runs the guest, serving its host calls, until it pauses. Where code of the application panics (a host function, an output's
/// writer), the condition and the imports say so.
pub(super) fn run(
    machine: &mut Machine,
    imports: &mut Imports,
    condition: &mut Condition,
) -> Result<Pause, Termination> {
    let running = condition.enter(imports);
    machine.streams_mut().call_begins();
    let pause = run_to_pause(machine, running.imports);
    machine.streams_mut().call_ended();
    running.leave();
    pause
}

fn run_to_pause(machine: &mut Machine, imports: &mut Imports) -> Result<Pause, Termination> {
    loop {
        match machine.resume()? {
            GuestMessage::Ready => return Ok(Pause::Ready),
            GuestMessage::Return { status, length, needed } => return Ok(Pause::Returned { status, length, needed }),
            GuestMessage::HostCall { function, length } => serve_host_call(machine, imports, function, length)?,
        }
    }
}

fn serve_host_call(
    machine: &mut Machine,
    imports: &mut Imports,
    number: u32,
    length: usize,
) -> Result<(), Termination> {
    machine.budget.host_call()?;
    let entry = imports.by_number(number).ok_or(ProtocolViolation::UnknownImport { function: number })?;
    let Machine { mailbox, interruptor, budget, .. } = machine;
    let called = interruptor.in_host_function(|| entry.call(mailbox.payload(length), mailbox.outbound()));
    match called.map_err(|interruption| budget.interrupted(interruption))? {
        Ok(length) => mailbox.send_reply(length),
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
