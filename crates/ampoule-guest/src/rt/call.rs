//! One call of the host, as an export's shim sees it.

use std::fmt::{self, Display};

use ampoule_abi::codec::{self, DecodeError, Decoder, EncodeError, Encoder, Sink};
use ampoule_abi::layout::{DESCRIBE_RESULT, GuestMessageKind, MessageLine, PanicRecord, ReturnStatus};
use ampoule_abi::schema::shown;
use serde::{Deserialize, Serialize};

use super::mailbox::{Incoming, Outbound};
use super::panics;

/// A call of the host.
#[derive(Debug)]
pub struct Call<'a> {
    incoming: Incoming<'a>,
}

impl<'a> Call<'a> {
    pub(super) fn new(incoming: Incoming<'a>) -> Self {
        Self { incoming }
    }

    pub(super) fn function(&self) -> u32 {
        self.incoming.function
    }

    /// The arguments, to be read once.
    pub fn arguments(&self) -> Arguments<'a> {
        Arguments { decoder: Decoder::new(self.incoming.arguments) }
    }

    /// Answers with a value.
    pub fn done<T: Serialize + ?Sized>(&self, value: &T) -> Return<'a> {
        let mut outbound = self.outbound();
        match codec::encode(value, &mut outbound) {
            Ok(length) => {
                let is_described = self.incoming.mailbox.is_described(DESCRIBE_RESULT);
                let needed = if is_described { outbound.describe(length, &[shown(value)]) } else { 0 };
                Return { status: ReturnStatus::Done, length, needed, outbound }
            }
            Err(EncodeError::TooLarge { needed, .. }) => {
                Return { status: ReturnStatus::TooLarge, length: 0, needed, outbound }
            }
            Err(error) => {
                drop(outbound);
                self.text(ReturnStatus::Failed, &format!("the result has no encoding: {error}"))
            }
        }
    }

    /// Answers with an error's text.
    pub(super) fn failed(&self, text: &str) -> Return<'a> {
        self.text(ReturnStatus::Failed, text)
    }

    /// Answers with an error's text and, if both fit, its value.
    pub(super) fn failed_with<E: Serialize>(&self, text: &str, error: &E) -> Return<'a> {
        let mut outbound = self.outbound();
        let mut encoder = Encoder::new(&mut outbound);
        let length = TEXT_LENGTH_LEN + text.len();
        match encoder.value(text).and_then(|()| encoder.value(error)).and_then(|()| encoder.finish()) {
            Ok(both) => Return { status: ReturnStatus::Failed, length, needed: both - length, outbound },
            Err(_) => {
                drop(outbound);
                self.failed(text)
            }
        }
    }

    pub(super) fn bad_arguments(&self, reason: &BadArguments) -> Return<'a> {
        self.text(ReturnStatus::BadArguments, &reason.to_string())
    }

    pub(super) fn unknown_function(&self) -> Return<'a> {
        Return { status: ReturnStatus::UnknownFunction, length: 0, needed: 0, outbound: self.outbound() }
    }

    /// Answers with a panic that came out of the shim.
    ///
    /// # Safety
    ///
    /// No [`Return`] of this call is used any more.
    pub(super) unsafe fn panicked(&self, record: &PanicRecord<String>) -> Return<'a> {
        // SAFETY: besides a `Return`, as the caller promises, only a host call holds the area, and the panic has ended it.
        let mut outbound = unsafe { self.incoming.mailbox.reclaim_outbound() };
        let length = panics::write(record, &mut outbound);
        Return { status: ReturnStatus::Panicked, length, needed: 0, outbound }
    }

    /// The message that hands the answer, and with it the outbound area, over to the host.
    pub(super) fn message(&self, answer: Return<'a>) -> MessageLine {
        let Return { status, length, needed, outbound } = answer;
        drop(outbound);
        MessageLine {
            sequence: self.incoming.sequence,
            kind: GuestMessageKind::Return as u32,
            function: 0,
            length: length as u32,
            status: status as u32,
            needed: needed as u64,
        }
    }

    /// As much of the text as fits.
    fn text(&self, status: ReturnStatus, text: &str) -> Return<'a> {
        let mut outbound = self.outbound();
        let room = outbound.capacity().saturating_sub(TEXT_LENGTH_LEN);
        let fitting = &text[..text.floor_char_boundary(room)];
        let length = codec::encode(fitting, &mut outbound).unwrap_or(0);
        Return { status, length, needed: 0, outbound }
    }

    fn outbound(&self) -> Outbound<'a> {
        self.incoming.mailbox.outbound().expect("a function has returned, so its host calls have ended")
    }
}

/// How a call went. Its payload is in the outbound area, which it keeps: what is dropped after the result was encoded
/// must not call the host.
#[derive(Debug)]
pub struct Return<'a> {
    status: ReturnStatus,
    length: usize,
    needed: usize,
    outbound: Outbound<'a>,
}

/// The arguments of a call, from the first to the last.
#[derive(Debug)]
pub struct Arguments<'a> {
    decoder: Decoder<&'a [u8]>,
}

impl<'a> Arguments<'a> {
    /// The next argument. Its parameter's name is for the error.
    pub fn next<T: Deserialize<'a>>(&mut self, name: &'static str) -> Result<T, BadArguments> {
        self.decoder.value().map_err(|source| BadArguments { parameter: Some(name), source })
    }

    /// There are no more arguments.
    pub fn end(self) -> Result<(), BadArguments> {
        self.decoder.finish().map_err(|source| BadArguments { parameter: None, source })
    }
}

/// Why the arguments of a call could not be decoded.
#[derive(Debug)]
pub struct BadArguments {
    parameter: Option<&'static str>,
    source: DecodeError,
}

impl Display for BadArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parameter {
            Some(name) => write!(f, "argument `{name}`: {}", self.source),
            None => write!(f, "after the last argument: {}", self.source),
        }
    }
}

/// Bytes of the length before a string: `docs/abi.md`, section 5.
const TEXT_LENGTH_LEN: usize = 4;
