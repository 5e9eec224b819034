//! Streams as the mailbox has them: a request for the next piece, or with it.

use std::io::{self, ErrorKind};

use ampoule_abi::codec::Sink;
use ampoule_abi::layout::{FailureStatus, HostMessageKind};

use super::host_call::text;
use super::mailbox::{Mailbox, Outbound, Reply};

/// Has `take` take the next bytes of the host's stream of this number, `most` at most. None are its end.
pub(crate) fn read<R>(stream: u64, most: usize, take: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
    let (mailbox, outbound) = mailbox()?;
    let most = most.min(outbound.capacity());
    let reply = mailbox.read_stream(stream, most, outbound);
    let bytes = answer(&reply)?;
    Ok(take(&bytes[..bytes.len().min(most)]))
}

/// Writes bytes to the host's stream of this number, as many as the mailbox has room for: how many. Where these are all,
/// `flush` has the host flush its end.
pub(crate) fn write(stream: u64, bytes: &[u8], flush: bool) -> io::Result<usize> {
    let (mailbox, mut outbound) = mailbox()?;
    let length = bytes.len().min(outbound.capacity());
    outbound.put(0, &bytes[..length]);
    answer(&mailbox.write_stream(stream, outbound, length, flush && length == bytes.len()))?;
    Ok(length)
}

/// Writes bytes that belong together to the host's stream of this number.
pub(crate) fn write_whole(stream: u64, bytes: &[u8]) -> io::Result<()> {
    let capacity = capacity()?;
    if bytes.len() > capacity {
        let text = format!("an item of {} bytes does not fit the mailbox of {capacity} bytes", bytes.len());
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    write(stream, bytes, false).map(drop)
}

/// How many bytes a piece has at most.
pub(crate) fn capacity() -> io::Result<usize> {
    mailbox().map(|(_, outbound)| outbound.capacity())
}

fn mailbox() -> io::Result<(&'static Mailbox, Outbound<'static>)> {
    let Some(mailbox) = Mailbox::current() else {
        return Err(io::Error::new(ErrorKind::Unsupported, "a stream of the host's, and there is no host"));
    };
    // While a value is encoded or decoded there, its own code may come here.
    let outbound = mailbox.outbound().ok_or_else(|| {
        io::Error::new(ErrorKind::ResourceBusy, "a stream was used while a value was on its way between guest and host")
    })?;
    Ok((mailbox, outbound))
}

fn answer<'a>(reply: &'a Reply<'_>) -> io::Result<&'a [u8]> {
    let message = reply.message();
    match (HostMessageKind::from_u32(message.kind), FailureStatus::from_u32(message.status)) {
        (Some(HostMessageKind::Reply), _) => Ok(reply.bytes()),
        (Some(HostMessageKind::Failure), Some(FailureStatus::Stream)) => {
            Err(io::Error::new(kind_of_number(message.needed), text(reply.bytes())))
        }
        (Some(HostMessageKind::Failure), _) => Err(io::Error::new(ErrorKind::NotConnected, text(reply.bytes()))),
        _ => panic!("the host answered a request for a stream with a message of kind {}", message.kind),
    }
}

/// The kind of error that travels under this number.
fn kind_of_number(number: u64) -> ErrorKind {
    macro_rules! kind {
        ($($name:ident = $number:literal,)*) => {
            match number {
                $($number => ErrorKind::$name,)*
                _ => ErrorKind::Other,
            }
        };
    }
    ampoule_abi::io_error_kinds!(kind)
}
