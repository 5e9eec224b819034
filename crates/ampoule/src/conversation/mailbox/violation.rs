//! What a guest can do wrong.

use thiserror::Error;

/// How a guest broke the rules of the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolViolation {
    /// The guest rang with a message of unknown kind.
    #[error("a message of unknown kind {kind}")]
    UnknownKind {
        /// What stood in its place.
        kind: u32,
    },
    /// The guest returned with an unknown status.
    #[error("a return with unknown status {status}")]
    UnknownStatus {
        /// What stood in its place.
        status: u32,
    },
    /// The guest claimed a payload beyond its area.
    #[error("a payload of {length} bytes in an area of {capacity}")]
    Length {
        /// Bytes that the guest claimed.
        length: u32,
        /// Bytes of the area.
        capacity: usize,
    },
    /// The guest claimed an error's value, or a description, beyond its area.
    #[error("{length} bytes behind a payload where {left} are left in the area")]
    ExtraLength {
        /// Bytes that the guest claimed.
        length: u64,
        /// Bytes of the area behind the payload.
        left: usize,
    },
    /// The guest described its types in a way that cannot be understood.
    #[error("a description of types that is malformed")]
    Schema,
    /// The guest sent `ready` a second time.
    #[error("a second `ready`")]
    ReadyTwice,
    /// The guest answered before it was called.
    #[error("a return to call {sequence}, though no call is being made")]
    ReturnWithoutCall {
        /// The call that it claimed to answer.
        sequence: u64,
    },
    /// The guest answered a call other than the one being made.
    #[error("a return to call {sequence}, though call {expected} is being made")]
    WrongReturn {
        /// The call that it claimed to answer.
        sequence: u64,
        /// The call being made.
        expected: u64,
    },
    /// The guest's host calls are out of sequence.
    #[error("host call {sequence} where host call {expected} was expected")]
    WrongHostCall {
        /// The number that the guest gave.
        sequence: u64,
        /// The number that was expected.
        expected: u64,
    },
    /// The guest called a host function by a number that none of its imports has.
    #[error("a host call to function number {function}, which is not an import of the image")]
    UnknownImport {
        /// The number that the guest gave.
        function: u32,
    },
    /// The guest claimed more printed text than its area holds.
    #[error("{length} bytes of printed text in an area of {capacity}")]
    OutputLength {
        /// Bytes that the guest claimed.
        length: u32,
        /// Bytes of the area.
        capacity: usize,
    },
    /// A record of printed text does not end where the text ends.
    #[error("a record of printed text at {offset} that takes {needed} bytes, of which {left} are there")]
    OutputRecord {
        /// Where the record begins, in bytes from the start of the area.
        offset: usize,
        /// Bytes of the record, or of its header if even that is cut off.
        needed: usize,
        /// Bytes that are left for it.
        left: usize,
    },
    /// The guest's log record cannot be understood.
    #[error("a log record at {offset} that is malformed")]
    LogRecord {
        /// Where the record begins, in bytes from the start of the area.
        offset: usize,
    },
    /// The guest's span record cannot be understood.
    #[error("a span record at {offset} that is malformed")]
    SpanRecord {
        /// Where the record begins, in bytes from the start of the area.
        offset: usize,
    },
    /// The guest's allocation record cannot be understood.
    #[error("an allocation record at {offset} that is malformed")]
    AllocationRecord {
        /// Where the record begins, in bytes from the start of the area.
        offset: usize,
    },
    /// The guest printed to an unknown stream.
    #[error("text printed to unknown stream {stream}")]
    UnknownStream {
        /// What stood in its place.
        stream: u16,
    },
    /// The guest's error or panic text could not be decoded.
    #[error("a message text that cannot be decoded")]
    Text,
}
