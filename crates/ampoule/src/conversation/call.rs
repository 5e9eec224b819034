//! One call: arguments in, result out.
//!
//! It has three steps. Code of the application runs in the first and the last (its types are encoded and decoded), where a panic
//! does no harm, and in the second (host functions), where it leaves a guest that waits for an answer.

use ampoule_abi::codec::{Decoder, EncodeError, Encoder};
use ampoule_abi::layout::{PanicRecord, ReturnStatus};
use serde::de::DeserializeOwned;

use super::Conversation;
use super::imports::Imports;
use super::mailbox::ProtocolViolation;
use super::run::Pause;
use crate::arguments::Arguments;
use crate::error::{CallError, Payload};
use crate::image::Function;
use crate::interrupt::LimitsUnwatched;
use crate::limits::Limits;
use crate::termination::Termination;

/// A function whose arguments stand in the mailbox.
#[derive(Debug)]
pub(crate) struct Request<'image> {
    function: &'image Function,
    length: usize,
}

/// A function that is done, and whose result stands in the mailbox.
#[derive(Debug)]
pub(crate) struct Reply<'image> {
    function: &'image Function,
    length: usize,
}

impl Conversation {
    /// Writes the arguments of a call.
    pub(crate) fn request<'image>(
        &mut self,
        function: &'image Function,
        arguments: &impl Arguments,
    ) -> Result<Request<'image>, CallError> {
        let mut encoder = Encoder::new(self.mailbox.inbound());
        match arguments.encode(&mut encoder).and_then(|()| encoder.finish()) {
            Ok(length) => Ok(Request { function, length }),
            Err(EncodeError::TooLarge { needed, .. }) => {
                Err(self.too_large(function, Payload::Arguments, needed as u64))
            }
            Err(reason) => Err(CallError::Encode { function: function.name().to_owned(), reason }),
        }
    }

    /// Runs the guest until the function is done.
    pub(crate) fn exchange<'image>(
        &mut self,
        Request { function, length }: Request<'image>,
        imports: &mut Imports,
        limits: Limits,
    ) -> Result<Reply<'image>, CallError> {
        let guard = self.machine.begin_call(limits).map_err(|LimitsUnwatched { reason }| {
            CallError::LimitsUnwatched { function: function.name().to_owned(), reason }
        })?;
        self.mailbox.send_call(function.number(), length);
        let pause = self.run_to_pause(imports);
        match self.machine.end_call(guard, pause) {
            Ok(Pause::Returned { status: ReturnStatus::Done, length, .. }) => Ok(Reply { function, length }),
            Ok(Pause::Returned { status, length, needed }) => Err(self.unsuccessful(function, status, length, needed)),
            Ok(Pause::Ready) => Err(terminated(function, ProtocolViolation::ReadyTwice.into())),
            Err(cause) => Err(terminated(function, cause)),
        }
    }

    /// Reads the result of a call.
    pub(crate) fn result<R: DeserializeOwned>(&self, Reply { function, length }: &Reply<'_>) -> Result<R, CallError> {
        let mut decoder = Decoder::new(self.mailbox.payload(*length));
        let decoded = decoder.value().and_then(|value| decoder.finish().map(|()| value));
        decoded.map_err(|reason| CallError::Decode { function: function.name().to_owned(), reason })
    }

    /// What a return with another status than `Done` means to the caller.
    fn unsuccessful(&self, function: &Function, status: ReturnStatus, length: usize, needed: u64) -> CallError {
        let name = function.name().to_owned();
        let payload = self.mailbox.payload(length);
        let understood = match status {
            ReturnStatus::Failed => payload.whole().map(|message| CallError::Function { function: name, message }),
            ReturnStatus::BadArguments => {
                payload.whole().map(|message| CallError::ArgumentsRefused { function: name, message })
            }
            ReturnStatus::Panicked => payload
                .whole::<PanicRecord<String>>()
                .map(|record| CallError::Panicked { function: name, panic: record.into() }),
            ReturnStatus::TooLarge => Ok(self.too_large(function, Payload::Result, needed)),
            ReturnStatus::UnknownFunction | ReturnStatus::Done => Err(ProtocolViolation::Text),
        };
        understood.unwrap_or_else(|violation| terminated(function, violation.into()))
    }

    fn too_large(&self, function: &Function, what: Payload, needed: u64) -> CallError {
        let function = function.name().to_owned();
        CallError::PayloadTooLarge { function, what, needed, mailbox_size: self.mailbox.capacity() }
    }
}

fn terminated(function: &Function, cause: Termination) -> CallError {
    CallError::Terminated { function: function.name().to_owned(), cause }
}
