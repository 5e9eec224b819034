//! Message lines: 64 bytes each way, written by one side and read by the other.

use serde::{Deserialize, Serialize};

use super::MESSAGE_LEN;

/// One side's message, as it stands in its line. Fields that a kind does not use are zero. The structure is as large as the
/// line, of which the message is the first [`MESSAGE_LEN`] bytes.
///
/// Kinds and statuses are plain numbers here: what the other side wrote is not to be trusted before it is converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct MessageLine {
    /// Which call, or which host call or request for a stream, the message belongs to.
    pub sequence: u64,
    /// A [`HostMessageKind`] or [`GuestMessageKind`].
    pub kind: u32,
    /// A function number.
    pub function: u32,
    /// Bytes of the payload.
    pub length: u32,
    /// A [`ReturnStatus`] or [`FailureStatus`]; in a call, what is to be described ([`DESCRIBE_RESULT`],
    /// [`DESCRIBE_ARGUMENTS`]), and the greatest level of log records, from the bit
    /// [`LOG_LEVEL_SHIFT`](super::LOG_LEVEL_SHIFT) on; in a read of a stream, how many bytes there may be at most; in a write to
    /// one, [`FLUSH_STREAM`] or 0.
    pub status: u32,
    /// Bytes of a payload that did not fit; or of what stands behind the payload: the value of a function's own error behind its
    /// text, a description behind a result or behind the arguments of a host call. In a read of a stream and in a write to one, the
    /// stream's number; where it has failed, the kind of the error ([`io_error_kinds!`](crate::io_error_kinds)).
    pub needed: u64,
}

/// In the status of a call: the host asks for a description of the result.
pub const DESCRIBE_RESULT: u32 = 1;

/// In the status of a call: the host asks for a description of the arguments of all host calls within it.
pub const DESCRIBE_ARGUMENTS: u32 = 2;

/// In the status of a write to a stream: what the host holds back of the stream is to go where it belongs.
pub const FLUSH_STREAM: u32 = 1;

impl MessageLine {
    /// The message as it stands in memory.
    #[inline]
    pub fn to_bytes(&self) -> [u8; MESSAGE_LEN] {
        let mut bytes = [0; MESSAGE_LEN];
        bytes[0..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.kind.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.function.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.length.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.status.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.needed.to_le_bytes());
        bytes
    }

    /// Reads a message from a copy of its bytes.
    #[inline]
    pub fn from_bytes(bytes: &[u8; MESSAGE_LEN]) -> Self {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        Self {
            sequence: u64_at(0),
            kind: u32_at(8),
            function: u32_at(12),
            length: u32_at(16),
            status: u32_at(20),
            needed: u64_at(24),
        }
    }
}

/// Declares an enum of the ABI whose numbers come from the other side and are checked on the way in.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $number,)*
        }

        impl $name {
            /// The meaning of a number, if it has one.
            #[inline]
            pub fn from_u32(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

pub(super) use wire_enum;

wire_enum! {
    /// What the host's message is.
    HostMessageKind {
        /// Call the export; arguments in the inbound area.
        Call = 1,
        /// The host function's result, or what was read of a stream, in the outbound area.
        Reply = 2,
        /// The host call failed, or the read or write of a stream; message in the outbound area, reason in the status ([`FailureStatus`]).
        Failure = 3,
    }
}

wire_enum! {
    /// What the guest's message is.
    GuestMessageKind {
        /// The guest has prepared itself and waits for the first call.
        Ready = 1,
        /// The answer to a call; how it went is in the status ([`ReturnStatus`]).
        Return = 2,
        /// Call the import; arguments in the outbound area.
        HostCall = 3,
        /// A [`PanicRecord`] in the outbound area, left before the guest aborts.
        Panic = 4,
        /// Give the next bytes of a stream, in the outbound area. None are its end.
        ///
        /// Since minor version [`InfoPage::STREAM_MINOR`](super::InfoPage::STREAM_MINOR).
        ReadStream = 5,
        /// Take the next bytes of a stream, which are in the outbound area.
        ///
        /// Since minor version [`InfoPage::STREAM_MINOR`](super::InfoPage::STREAM_MINOR).
        WriteStream = 6,
    }
}

wire_enum! {
    /// How a call went.
    ReturnStatus {
        /// The result is in the outbound area.
        Done = 0,
        /// The function returned an error. Its text is in the outbound area, and behind it, if `needed` is not 0, the error's
        /// value, which takes `needed` bytes.
        Failed = 1,
        /// The arguments could not be decoded; the reason is in the outbound area.
        BadArguments = 2,
        /// The result takes `needed` bytes and the outbound area has fewer.
        TooLarge = 3,
        /// The guest has no such function.
        UnknownFunction = 4,
        /// The function panicked; a [`PanicRecord`] is in the outbound area.
        Panicked = 5,
    }
}

wire_enum! {
    /// Why a host call, or a read or write of a stream, failed.
    FailureStatus {
        /// The host function returned an error. Behind the text is the error's value if `needed` is not 0.
        Failed = 1,
        /// The host function's arguments could not be decoded.
        BadArguments = 2,
        /// The host function's result takes `needed` bytes and the outbound area has fewer.
        TooLarge = 3,
        /// The stream could not be read or written. The message is the error's text, and `needed` its kind.
        Stream = 4,
        /// The call has no such stream, or not one of that direction.
        UnknownStream = 5,
    }
}

/// A guest's panic: what it said and where it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PanicRecord<Text> {
    /// The panic's message.
    pub message: Text,
    /// Source file, as the guest's compiler named it.
    pub file: Text,
    /// Line, counted from 1; 0 where it is not known.
    pub line: u32,
    /// Column, counted from 1; 0 where it is not known.
    pub column: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{MESSAGE_LINE_LEN, PRINTED_OFFSET};

    #[test]
    fn a_message_survives_the_way_through_its_bytes() {
        let line = MessageLine {
            sequence: 0x0102_0304_0506_0708,
            kind: 2,
            function: 24,
            length: 7,
            status: 5,
            needed: 1 << 40,
        };
        let bytes = line.to_bytes();
        assert_eq!(MessageLine::from_bytes(&bytes), line);
        assert_eq!(bytes[0..8], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes[24..32], [0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(bytes.len(), PRINTED_OFFSET);
        assert_eq!(size_of::<MessageLine>(), MESSAGE_LINE_LEN);
    }

    #[test]
    fn numbers_without_a_meaning_are_refused() {
        assert_eq!(GuestMessageKind::from_u32(3), Some(GuestMessageKind::HostCall));
        assert_eq!(GuestMessageKind::from_u32(0), None);
        assert_eq!(ReturnStatus::from_u32(6), None);
        assert_eq!(FailureStatus::from_u32(u32::MAX), None);
        assert_eq!(GuestMessageKind::from_u32(7), None);
        assert_eq!(HostMessageKind::from_u32(4), None);
    }
}
