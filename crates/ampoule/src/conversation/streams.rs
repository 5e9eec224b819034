//! A guest asks for the next piece of a stream, or gives one.
//!
//! Any number may be asked for: one that is no stream of the call, and one of the other direction, is an error for the guest. What
//! passes is copied once, into a buffer that is gone when the call is over, and no larger than the mailbox.

use std::io;
use std::pin::Pin;

use ampoule_abi::codec::{Sink, Source};
use ampoule_abi::layout::FailureStatus;

use super::Conversation;
use super::mailbox::Mailbox;
use crate::interrupt::Awaiting;
use crate::spans;
use crate::stream::{Direction, Streams, Wait, kind_number};
use crate::termination::Termination;

/// Why nothing has passed.
enum Refused {
    Failed(io::Error),
    /// The call has no such stream.
    Unknown,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Conversation {
    /// Reads `most` bytes of a stream at most, no more than the mailbox holds.
    pub(super) fn read_stream(
        &mut self,
        streams: &mut Streams<'_>,
        number: u64,
        most: usize,
    ) -> Result<(), Termination> {
        let what = || format!("read(stream {number:#x}, {most})");
        self.pass((Direction::Read, most), what, |mailbox, awaiting| {
            let (stream, buffer) = streams.get(number, Direction::Read).ok_or(Refused::Unknown)?;
            let read = stream.read(buffer, most, awaiting)?;
            mailbox.outbound().sink().put(0, &buffer[..read]);
            Ok(read)
        })
    }

    /// Writes the guest's payload to a stream.
    pub(super) fn write_stream(
        &mut self,
        streams: &mut Streams<'_>,
        number: u64,
        (length, flush): (usize, bool),
    ) -> Result<(), Termination> {
        let what = || format!("write(stream {number:#x}, {length}{})", if flush { ", flush" } else { "" });
        self.pass((Direction::Write, length), what, |mailbox, awaiting| {
            let (stream, buffer) = streams.get(number, Direction::Write).ok_or(Refused::Unknown)?;
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            mailbox.payload(length).read(0, &mut buffer[..length]);
            stream.write(&buffer[..length], flush, awaiting)?;
            Ok(0)
        })
    }

    /// Has a piece pass, of so many bytes, and lets the guest go on. `pass` gives how many bytes are in the mailbox for it.
    fn pass(
        &mut self,
        (direction, bytes): (Direction, usize),
        what: impl FnOnce() -> String,
        pass: impl FnOnce(&Mailbox, &mut Awaiting<'_>) -> Result<usize, Refused>,
    ) -> Result<(), Termination> {
        let Self { machine, mailbox } = self;
        let traced = machine.trace_host_call(what);
        let span = spans::stream(direction, bytes).entered();
        let passed = machine.awaiting_host_call(|awaiting| pass(mailbox, awaiting));
        drop(span);
        machine.trace_answer(traced, || match &passed {
            Ok(Ok(read)) if direction == Direction::Read => format!("{read} bytes"),
            Ok(Ok(_)) => "()".to_owned(),
            Ok(Err(Refused::Failed(error))) => format!("Err({:?})", error.to_string()),
            Ok(Err(Refused::Unknown)) => "Err(no such stream)".to_owned(),
            // The guest does not go on.
            Err(_) => "?".to_owned(),
        });
        machine.streams_mut().log_mut().goes_on();
        match passed? {
            Ok(bytes) => mailbox.send_reply(bytes),
            Err(Refused::Failed(error)) => {
                mailbox.send_failure(FailureStatus::Stream, kind_number(error.kind()), &error.to_string());
            }
            Err(Refused::Unknown) => mailbox.send_failure(FailureStatus::UnknownStream, 0, NO_SUCH_STREAM),
        }
        Ok(())
    }
}

impl Wait for Awaiting<'_> {
    fn until_ready(&mut self, future: Pin<&mut dyn Future<Output = ()>>) {
        Awaiting::until_ready(self, future);
    }
}

const NO_SUCH_STREAM: &str =
    "this call has no such stream in this direction; a stream ends with the call that it was passed to";
