//! Records of printed text, of the log, of spans and of allocations, one after another in the output area.

use super::OUTPUT_HEADER_LEN;

/// What stands before the content of a record. The content follows at once, and the next record follows that, whatever their
/// addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputHeader {
    /// An [`OutputKind`]. A plain number here: what a guest wrote is not to be trusted before it is converted.
    pub stream: u16,
    /// Bytes of the content.
    pub length: u16,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// Text that is printed to this stream.
    Text(OutputStream),
    /// A [`LogRecord`](super::LogRecord), since minor version [`InfoPage::LOG_MINOR`](super::InfoPage::LOG_MINOR).
    Log,
    /// A [`SpanRecord`](super::SpanRecord), since minor version [`InfoPage::SPAN_MINOR`](super::InfoPage::SPAN_MINOR).
    Span,
    /// An allocation record ([`AllocationHeader`](super::AllocationHeader)), since minor version
    /// [`InfoPage::ALLOCATION_MINOR`](super::InfoPage::ALLOCATION_MINOR).
    Allocation,
}

/// Where text is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum OutputStream {
    /// Standard output: what file descriptor 1 stands for.
    Stdout = 1,
    /// Standard error: what file descriptor 2 stands for.
    Stderr = 2,
}

impl OutputHeader {
    /// The header as it stands in memory.
    pub fn to_bytes(self) -> [u8; OUTPUT_HEADER_LEN] {
        let ([s0, s1], [l0, l1]) = (self.stream.to_le_bytes(), self.length.to_le_bytes());
        [s0, s1, l0, l1]
    }

    /// Reads a header from a copy of its bytes.
    pub fn from_bytes([s0, s1, l0, l1]: [u8; OUTPUT_HEADER_LEN]) -> Self {
        Self { stream: u16::from_le_bytes([s0, s1]), length: u16::from_le_bytes([l0, l1]) }
    }
}

impl OutputStream {
    /// The meaning of a number, if it has one.
    pub fn from_u16(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            _ => None,
        }
    }
}

impl OutputKind {
    /// The number that stands for it in a header.
    pub fn number(self) -> u16 {
        match self {
            Self::Text(stream) => stream as u16,
            Self::Log => LOG,
            Self::Span => SPAN,
            Self::Allocation => ALLOCATION,
        }
    }

    /// The meaning of a number, if it has one.
    pub fn from_u16(number: u16) -> Option<Self> {
        match number {
            LOG => Some(Self::Log),
            SPAN => Some(Self::Span),
            ALLOCATION => Some(Self::Allocation),
            _ => OutputStream::from_u16(number).map(Self::Text),
        }
    }
}

/// The number of log records: `docs/abi.md`, section 4, "Log records".
const LOG: u16 = 3;

/// The number of span records: `docs/abi.md`, section 4, "Span records".
const SPAN: u16 = 4;

/// The number of allocation records: the same, "Allocation records".
const ALLOCATION: u16 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_way_through_its_bytes() {
        let header = OutputHeader { stream: OutputStream::Stderr as u16, length: 0x0304 };
        assert_eq!(header.to_bytes(), [2, 0, 4, 3]);
        assert_eq!(OutputHeader::from_bytes(header.to_bytes()), header);
    }

    #[test]
    fn streams_without_a_meaning_are_refused() {
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            assert_eq!(OutputStream::from_u16(stream as u16), Some(stream));
        }
        for number in [0, 3, 0x101, u16::MAX] {
            assert_eq!(OutputStream::from_u16(number), None);
        }
        let text = [OutputStream::Stdout, OutputStream::Stderr].map(OutputKind::Text);
        for kind in text.into_iter().chain([OutputKind::Log, OutputKind::Span, OutputKind::Allocation]) {
            assert_eq!(OutputKind::from_u16(kind.number()), Some(kind));
        }
        assert_eq!((OutputKind::from_u16(0), OutputKind::from_u16(6)), (None, None));
    }
}
