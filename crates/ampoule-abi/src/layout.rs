//! Structures and numbers of the ABI, which the [guest ABI](https://github.com/ampoule-rs/ampoule/blob/main/docs/abi.md)
//! explains.

mod allocation;
mod log;
mod message;
mod output;
mod record;
mod span;

pub use allocation::{
    ALLOCATION_HEADER_LEN, AllocationHeader, AllocationKind, AllocationRecord, CALLERS_MISSING, Callers, MAX_CALLERS,
    RECORD_ALLOCATIONS,
};
pub use log::{
    LOG_LEVEL_MASK, LOG_LEVEL_SHIFT, LogField, LogLevel, LogRecord, LogValue, MAX_LOG_FIELDS, MAX_LOG_SPANS,
};
pub use message::{
    DESCRIBE_ARGUMENTS, DESCRIBE_RESULT, FLUSH_STREAM, FailureStatus, GuestMessageKind, HostMessageKind, MessageLine,
    PanicRecord, ReturnStatus,
};
pub use output::{OutputHeader, OutputKind, OutputStream};
pub use record::{Record, RecordHeader, RecordKind, padded_text_len, record_text};
pub use span::{OpenedSpan, SpanField, SpanParent, SpanRecord, SpanStep};

/// Major version of this ABI: a host runs guests of its own major version only.
pub const ABI_MAJOR: u32 = 1;

/// Minor version of this ABI: a host runs guests of its own minor version and older ones.
pub const ABI_MINOR: u32 = 6;

/// The section of a guest image that holds its function records.
pub const FUNCTIONS_SECTION: &str = "ampoule_fns";

/// Records begin at addresses that are multiples of this many bytes.
pub const RECORD_ALIGN: usize = 8;

/// Bytes of a record before its text.
pub const RECORD_HEADER_LEN: usize = 24;

/// Longest name of a function, in bytes.
pub const MAX_NAME_LEN: usize = 255;

/// Longest signature of a function, in bytes.
pub const MAX_SIGNATURE_LEN: usize = 4096;

/// Type of the auxiliary vector's entry whose value is the address of the [`InfoPage`].
///
/// Linux's own types are small numbers; this one is out of their way.
pub const AT_AMPOULE: u64 = 0x414d_5001;

/// First word of the [`InfoPage`]: the bytes `AMPOULE\0`.
pub const INFO_MAGIC: u64 = u64::from_le_bytes(*b"AMPOULE\0");

/// Bytes of a [`MessageLine`]: one cache line.
pub const MESSAGE_LINE_LEN: usize = 64;

/// Bytes at the start of a line that hold its message. The others are no part of a message, and whoever writes one leaves
/// them as they are.
pub const MESSAGE_LEN: usize = 32;

/// Where in the guest's line the number stands (a `u32`) that says how many bytes of the output area hold records.
///
/// Since minor version [`InfoPage::OUTPUT_MINOR`].
pub const PRINTED_OFFSET: usize = 32;

/// Bytes of an [`OutputHeader`].
pub const OUTPUT_HEADER_LEN: usize = 4;

/// What the host tells a guest about itself, at the address that [`AT_AMPOULE`] gives.
///
/// A minor version of the ABI may add fields at the end. A guest must not read a field that is newer than its host's
/// [`abi_minor`](Self::abi_minor): there the structure ends before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct InfoPage {
    /// [`INFO_MAGIC`].
    pub magic: u64,
    /// The host's [`ABI_MAJOR`].
    pub abi_major: u32,
    /// The host's [`ABI_MINOR`].
    pub abi_minor: u32,
    /// Address of the doorbell: a System V function without arguments or result.
    pub entry: u64,
    /// Address of the host's [`MessageLine`].
    pub host_line: u64,
    /// Address of the guest's [`MessageLine`].
    pub guest_line: u64,
    /// Address of the inbound payload area (host to guest).
    pub inbound: u64,
    /// Bytes of the inbound payload area.
    pub inbound_len: u64,
    /// Address of the outbound payload area (guest to host, and the replies to host calls).
    pub outbound: u64,
    /// Bytes of the outbound payload area.
    pub outbound_len: u64,
    /// The guest's generation: another one whenever the host has put the guest back to an earlier state, never 0. The only
    /// field that changes.
    ///
    /// Since minor version [`GENERATION_MINOR`](Self::GENERATION_MINOR).
    pub generation: u64,
    /// Address of the output area, in which printed text waits for the guest's next exit.
    ///
    /// Since minor version [`OUTPUT_MINOR`](Self::OUTPUT_MINOR).
    pub output: u64,
    /// Bytes of the output area.
    ///
    /// Since minor version [`OUTPUT_MINOR`](Self::OUTPUT_MINOR).
    pub output_len: u64,
    /// The greatest level ([`LogLevel`]) of which the host wants log records until the first call; 0 for none. Each call has a
    /// level of its own.
    ///
    /// Since minor version [`LOG_MINOR`](Self::LOG_MINOR).
    pub log_level: u64,
    /// What else the host asks for until the first call: [`RECORD_ALLOCATIONS`], or 0. Each call asks for itself.
    ///
    /// Since minor version [`ALLOCATION_MINOR`](Self::ALLOCATION_MINOR).
    pub asked: u64,
}

impl InfoPage {
    /// Bytes of the structure.
    pub const LEN: usize = size_of::<Self>();

    /// The minor version of the ABI with which [`generation`](Self::generation) came.
    pub const GENERATION_MINOR: u32 = 1;

    /// The minor version of the ABI with which [`output`](Self::output) and [`output_len`](Self::output_len) came.
    pub const OUTPUT_MINOR: u32 = 2;

    /// The minor version of the ABI with which a guest that is ready can describe the types of its functions.
    pub const SCHEMA_MINOR: u32 = 3;

    /// The minor version of the ABI with which log records came, and [`log_level`](Self::log_level).
    pub const LOG_MINOR: u32 = 4;

    /// The minor version of the ABI with which span records came.
    pub const SPAN_MINOR: u32 = 5;

    /// The minor version of the ABI with which allocation records came, and [`asked`](Self::asked).
    pub const ALLOCATION_MINOR: u32 = 5;

    /// The minor version of the ABI with which streams came.
    pub const STREAM_MINOR: u32 = 6;

    /// The structure as it stands in memory.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let words = [
            self.magic,
            u64::from(self.abi_minor) << 32 | u64::from(self.abi_major),
            self.entry,
            self.host_line,
            self.guest_line,
            self.inbound,
            self.inbound_len,
            self.outbound,
            self.outbound_len,
            self.generation,
            self.output,
            self.output_len,
            self.log_level,
            self.asked,
        ];
        let mut bytes = [0; Self::LEN];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn info_page_bytes_follow_the_documented_offsets() {
        let page = InfoPage {
            magic: INFO_MAGIC,
            abi_major: 1,
            abi_minor: 2,
            entry: 3,
            host_line: 4,
            guest_line: 5,
            inbound: 6,
            inbound_len: 7,
            outbound: 8,
            outbound_len: 9,
            generation: 10,
            output: 11,
            output_len: 12,
            log_level: 13,
            asked: 14,
        };
        let bytes = page.to_bytes();
        assert_eq!(&bytes[..8], b"AMPOULE\0");
        assert_eq!(bytes[8..12], 1u32.to_le_bytes());
        assert_eq!(bytes[12..16], 2u32.to_le_bytes());
        for (offset, value) in (16..112).step_by(8).zip(3u64..) {
            assert_eq!(bytes[offset..offset + 8], value.to_le_bytes());
        }
        assert_eq!(bytes.len(), 112);
        assert_eq!((offset_of!(InfoPage, generation), offset_of!(InfoPage, output)), (72, 80));
    }
}
