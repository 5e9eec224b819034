//! One call: arguments in, result out.
//!
//! It has three steps. Code of the application runs in all of them. In the first and the last its types are encoded and
//! decoded, where a panic does no harm; in the second its host functions run, where a panic leaves a guest that waits for an
//! answer.

use ampoule_abi::codec::{DecodeError, Decoder, ERR, EncodeError, Encoder, OK, Sink, Source, fails_with_text};
use ampoule_abi::layout::{DESCRIBE_ARGUMENTS, DESCRIBE_RESULT, PanicRecord, ReturnStatus};
use ampoule_abi::schema::DataType;
use serde::de::DeserializeOwned;

use super::Conversation;
use super::imports::Imports;
use super::mailbox::{PayloadSource, ProtocolViolation};
use super::run::{InGuestSpans, Pause};
use crate::arguments::Arguments;
use crate::error::{CallError, Payload};
use crate::host_function::CallData;
use crate::image::Function;
use crate::interrupt::LimitsUnwatched;
use crate::limits::Limits;
use crate::spans;
use crate::stream::Streams;
use crate::termination::Termination;

/// A function whose arguments are in the mailbox.
#[derive(Debug)]
pub(crate) struct Request<'image, 'call> {
    function: &'image Function,
    length: usize,
    /// Whether the guest is to describe the result.
    asks: bool,
    streams: Streams<'call>,
}

/// A function that is done, and whose result or error is in the mailbox.
#[derive(Debug)]
pub(crate) struct Reply<'image> {
    function: &'image Function,
    answer: Answer,
}

impl Reply<'_> {
    /// Whether the function has returned an error of its own.
    pub(crate) fn is_error(&self) -> bool {
        matches!(self.answer, Answer::Error { .. })
    }

    /// What the result shows of its type, if the guest was asked for it.
    pub(crate) fn shown(&self) -> Option<&[DataType]> {
        match &self.answer {
            Answer::Result { shown, .. } => shown.as_deref().filter(|types| !types.is_empty()),
            Answer::Error { .. } => None,
        }
    }
}

#[derive(Debug)]
enum Answer {
    /// The bytes of the result.
    Result { length: usize, shown: Option<Vec<DataType>> },
    /// The error's text with its bytes, and the bytes of the error's value behind it, of which there are none where the guest
    /// gave only the text.
    Error { message: String, text: usize, value: usize },
}

/// What a function has answered, copied out of the mailbox.
#[derive(Debug)]
pub(crate) enum Copied {
    /// The bytes of the result, and what it shows of its type, if the guest was asked for it and says so.
    Result { bytes: Vec<u8>, shown: Option<Vec<DataType>> },
    /// The error's text, and the bytes of its value, of which there are none where the guest gave only the text.
    Error { message: String, value: Vec<u8> },
}

/// What the caller of a function takes for its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returns {
    /// What the function returns, or the value of the `Result` that it returns: its error is an error of the call.
    Value,
    /// The `Result` that the function returns.
    Outcome,
}

impl Conversation {
    /// Writes the arguments of a call. `asks` says whether the guest is to describe the result.
    pub(crate) fn request<'image, 'call>(
        &mut self,
        function: &'image Function,
        arguments: &'call impl Arguments,
        asks: bool,
    ) -> Result<Request<'image, 'call>, CallError> {
        let mut streams = Streams::of_call(self.mailbox.next_call());
        let mut encoder = Encoder::new(self.mailbox.inbound());
        match arguments.encode(&mut encoder, &mut streams).and_then(|()| encoder.finish()) {
            Ok(length) => Ok(Request { function, length, asks, streams }),
            Err(EncodeError::TooLarge { needed, .. }) => {
                Err(self.too_large(function, Payload::Arguments, needed as u64))
            }
            Err(reason) => Err(CallError::Encode { function: function.name().to_owned(), reason }),
        }
    }

    /// Passes the arguments of a call, which are encoded already.
    pub(crate) fn request_encoded<'image>(
        &mut self,
        function: &'image Function,
        arguments: &[u8],
        asks: bool,
    ) -> Result<Request<'image, 'static>, CallError> {
        let length = arguments.len();
        if length > self.mailbox.capacity() {
            return Err(self.too_large(function, Payload::Arguments, length as u64));
        }
        self.mailbox.inbound().put(0, arguments);
        Ok(Request { function, length, asks, streams: Streams::of_call(self.mailbox.next_call()) })
    }

    /// Runs the guest until the function is done.
    pub(crate) fn exchange<'image>(
        &mut self,
        request: Request<'image, '_>,
        imports: &mut Imports,
        limits: Limits,
        data: Option<CallData<'_>>,
    ) -> Result<Reply<'image>, CallError> {
        self.machine.streams_mut().origin_mut().calls(request.function.name());
        let span = spans::call(self.machine.origin(), request.length).entered();
        let in_spans = InGuestSpans(self);
        let reply = in_spans.0.turns(request, imports, limits, data);
        drop(in_spans);
        spans::failed(&span, &reply);
        reply
    }

    /// What [`exchange`](Self::exchange) does within its span.
    #[inline]
    fn turns<'image>(
        &mut self,
        Request { function, length, asks, mut streams }: Request<'image, '_>,
        imports: &mut Imports,
        limits: Limits,
        data: Option<CallData<'_>>,
    ) -> Result<Reply<'image>, CallError> {
        let guard = self.machine.begin_call(limits).map_err(|LimitsUnwatched { reason }| {
            CallError::LimitsUnwatched { function: function.name().to_owned(), reason }
        })?;
        let described = if asks { DESCRIBE_RESULT } else { 0 } | if imports.asks() { DESCRIBE_ARGUMENTS } else { 0 };
        self.mailbox.send_call(function.number(), length, described, self.wanted_records());
        let pause = self.run_to_pause(imports, data, &mut streams);
        match self.machine.end_call(guard, pause) {
            Ok(Pause::Returned { status: ReturnStatus::Done, length, needed }) => {
                let shown = if asks { self.shown(length, needed) } else { Ok(Vec::new()) };
                let shown = shown.map_err(|violation| self.terminated(function, violation.into()))?.pop();
                Ok(Reply { function, answer: Answer::Result { length, shown } })
            }
            Ok(Pause::Returned { status: ReturnStatus::Failed, length, needed }) => {
                let answer =
                    self.error(length, needed).map_err(|violation| self.terminated(function, violation.into()))?;
                Ok(Reply { function, answer })
            }
            Ok(Pause::Returned { status, length, needed }) => Err(self.unsuccessful(function, status, length, needed)),
            Ok(Pause::Ready { .. }) => Err(self.terminated(function, ProtocolViolation::ReadyTwice.into())),
            Err(cause) => Err(self.terminated(function, cause)),
        }
    }

    /// Reads the result of a call.
    pub(crate) fn result<R: DeserializeOwned>(&self, reply: Reply<'_>, returns: Returns) -> Result<R, CallError> {
        let Reply { function, answer } = reply;
        let decoded = match (answer, returns) {
            (Answer::Result { length, .. }, Returns::Value) => self.read(length, |decoder| decoder.value()),
            (Answer::Result { length, .. }, Returns::Outcome) => self.read(length, |decoder| decoder.content(OK)),
            (Answer::Error { text, value: 0, .. }, Returns::Outcome) if fails_with_text::<R>() => {
                self.read(text, |decoder| decoder.content(ERR))
            }
            (Answer::Error { text, value: value @ 1.., .. }, Returns::Outcome) => self.read(text + value, |decoder| {
                decoder.value::<String>()?;
                decoder.content(ERR)
            }),
            (Answer::Error { message, .. }, _) => {
                return Err(CallError::Function { function: function.name().to_owned(), message });
            }
        };
        decoded.map_err(|reason| CallError::Decode { function: function.name().to_owned(), reason })
    }

    /// Copies the result of a call, or its error.
    pub(crate) fn copied(&self, Reply { answer, .. }: Reply<'_>) -> Copied {
        let copy = |start, end| self.mailbox.payload(end).block(start, end - start).into_owned();
        match answer {
            Answer::Result { length, shown } => {
                Copied::Result { bytes: copy(0, length), shown: shown.filter(|types| !types.is_empty()) }
            }
            Answer::Error { message, text, value } => Copied::Error { message, value: copy(text, text + value) },
        }
    }

    /// Reads a payload of this length, all of it.
    fn read<R>(
        &self,
        length: usize,
        read: impl FnOnce(&mut Decoder<PayloadSource<'_>>) -> Result<R, DecodeError>,
    ) -> Result<R, DecodeError> {
        let mut decoder = Decoder::new(self.mailbox.payload(length));
        let value = read(&mut decoder)?;
        decoder.finish()?;
        Ok(value)
    }

    /// An error of the function's own, of whose value the guest gives the size.
    fn error(&self, text: usize, value: u64) -> Result<Answer, ProtocolViolation> {
        let left = self.mailbox.capacity() - text;
        match usize::try_from(value).ok().filter(|value| *value <= left) {
            Some(value) => Ok(Answer::Error { message: self.mailbox.payload(text).whole()?, text, value }),
            None => Err(ProtocolViolation::ExtraLength { length: value, left }),
        }
    }

    /// What a return means to the caller that is neither a result nor an error of the function's own.
    fn unsuccessful(&self, function: &Function, status: ReturnStatus, length: usize, needed: u64) -> CallError {
        let name = function.name().to_owned();
        let payload = self.mailbox.payload(length);
        let understood = match status {
            ReturnStatus::BadArguments => {
                payload.whole().map(|message| CallError::ArgumentsRefused { function: name, message })
            }
            ReturnStatus::Panicked => payload
                .whole::<PanicRecord<String>>()
                .map(|record| CallError::Panicked { function: name, panic: record.into() }),
            ReturnStatus::TooLarge => Ok(self.too_large(function, Payload::Result, needed)),
            ReturnStatus::UnknownFunction | ReturnStatus::Done | ReturnStatus::Failed => Err(ProtocolViolation::Text),
        };
        understood.unwrap_or_else(|violation| self.terminated(function, violation.into()))
    }

    fn too_large(&self, function: &Function, what: Payload, needed: u64) -> CallError {
        let function = function.name().to_owned();
        CallError::PayloadTooLarge { function, what, needed, mailbox_size: self.mailbox.capacity() }
    }

    fn terminated(&self, function: &Function, cause: Termination) -> CallError {
        let sandbox = self.machine.origin().name().to_owned();
        CallError::Terminated {
            function: function.name().to_owned(),
            sandbox,
            cause,
            position: self.machine.ended_at(),
            core_dump: None,
        }
    }
}
