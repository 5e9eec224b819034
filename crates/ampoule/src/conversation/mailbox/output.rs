//! Printed text and the records of the log, of spans and of allocations that wait in the output area for the guest's next exit.

use ampoule_abi::codec::decode;
use ampoule_abi::layout::{
    AllocationRecord, LogLevel, LogRecord, MAX_LOG_FIELDS, MAX_LOG_SPANS, OUTPUT_HEADER_LEN, OutputHeader, OutputKind,
    OutputStream, PRINTED_OFFSET, SpanRecord, SpanStep,
};
use ampoule_vmm::TrackedRegion;

use super::{Layout, ProtocolViolation};

/// Takes what waits: copies it into `copy`, which then has at most [`Layout::OUTPUT_LEN`] bytes, and sets the guest's count
/// of waiting bytes to 0.
///
/// The guest must wait in the doorbell or in a system call, or have ended: between two of its own instructions it would not
/// notice.
#[inline]
pub(super) fn take<'copy>(
    region: &TrackedRegion,
    layout: &Layout,
    copy: &'copy mut Vec<u8>,
) -> Result<Printed<'copy>, ProtocolViolation> {
    copy.clear();
    let number = layout.guest_line() + PRINTED_OFFSET;
    let waiting = region.read_u64(number).expect(IN_REGION) as u32;
    if waiting == 0 {
        return Ok(Printed::nothing());
    }
    region.write(number, &0u32.to_le_bytes()).expect(IN_REGION);
    if waiting as usize > Layout::OUTPUT_LEN {
        return Err(ProtocolViolation::OutputLength { length: waiting, capacity: Layout::OUTPUT_LEN });
    }
    copy.resize(waiting as usize, 0);
    region.read(layout.output().start, copy).expect(IN_REGION);
    Ok(Printed { records: copy, at: 0 })
}

/// What a guest has printed and logged, record by record. The records are checked as they are reached, and nothing follows a
/// malformed one.
#[derive(Debug)]
pub(crate) struct Printed<'copy> {
    records: &'copy [u8],
    at: usize,
}

/// One of the records.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OutputRecord<'copy> {
    /// Text that is printed to this stream.
    Text(OutputStream, &'copy [u8]),
    /// What the guest has logged at this level, in so many bytes.
    Log(LogLevel, LogRecord<'copy>, usize),
    /// What has become of a span, in so many bytes; with a level where one begins, or something is logged.
    Span(Option<LogLevel>, SpanRecord<'copy>, usize),
    /// What the guest has allocated or freed.
    Allocation(AllocationRecord<'copy>),
}

impl Printed<'_> {
    fn nothing() -> Self {
        Self { records: &[], at: 0 }
    }
}

impl<'copy> Iterator for Printed<'copy> {
    type Item = Result<OutputRecord<'copy>, ProtocolViolation>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.records[self.at..];
        if rest.is_empty() {
            return None;
        }
        let record = record(rest, self.at).and_then(|(kind, content)| {
            let end = self.at + OUTPUT_HEADER_LEN + content.len();
            let record = match kind {
                OutputKind::Text(stream) => OutputRecord::Text(stream, content),
                OutputKind::Log => {
                    let (level, record) =
                        log_record(content).ok_or(ProtocolViolation::LogRecord { offset: self.at })?;
                    OutputRecord::Log(level, record, content.len())
                }
                OutputKind::Span => {
                    let (level, record) =
                        span_record(content).ok_or(ProtocolViolation::SpanRecord { offset: self.at })?;
                    OutputRecord::Span(level, record, content.len())
                }
                OutputKind::Allocation => {
                    let record = AllocationRecord::from_bytes(content);
                    OutputRecord::Allocation(record.ok_or(ProtocolViolation::AllocationRecord { offset: self.at })?)
                }
            };
            Ok((record, end))
        });
        let (record, end) =
            record.map_or_else(|violation| (Err(violation), self.records.len()), |(record, end)| (Ok(record), end));
        self.at = end;
        Some(record)
    }
}

/// The first of these records, the one at `offset`.
fn record(records: &[u8], offset: usize) -> Result<(OutputKind, &[u8]), ProtocolViolation> {
    let cut = |needed| ProtocolViolation::OutputRecord { offset, needed, left: records.len() };
    let (header, rest) = records.split_first_chunk().ok_or(cut(OUTPUT_HEADER_LEN))?;
    let OutputHeader { stream, length } = OutputHeader::from_bytes(*header);
    let kind = OutputKind::from_u16(stream).ok_or(ProtocolViolation::UnknownStream { stream })?;
    let content = rest.get(..usize::from(length)).ok_or(cut(OUTPUT_HEADER_LEN + usize::from(length)))?;
    Ok((kind, content))
}

/// The log record that this is, if it is one. Its texts are within the content, and so bounded.
fn log_record(content: &[u8]) -> Option<(LogLevel, LogRecord<'_>)> {
    let record: LogRecord<'_> = decode(content).ok()?;
    Some((log_level(&record)?, record))
}

/// The span record that this is, if it is one.
fn span_record(content: &[u8]) -> Option<(Option<LogLevel>, SpanRecord<'_>)> {
    let record: SpanRecord<'_> = decode(content).ok()?;
    let has_room = |fields: usize| (fields <= MAX_LOG_FIELDS).then_some(());
    let level = match &record.step {
        SpanStep::Open(opened) => {
            has_room(opened.fields.len())?;
            Some(LogLevel::from_u32(opened.level)?)
        }
        SpanStep::Log { record, .. } => Some(log_level(record)?),
        SpanStep::Record { fields, .. } => {
            has_room(fields.len())?;
            None
        }
        SpanStep::Enter(_) | SpanStep::Exit(_) | SpanStep::Close(_) => None,
    };
    Some((level, record))
}

/// The level of a log record that has one, and has no more than it may have.
fn log_level(record: &LogRecord<'_>) -> Option<LogLevel> {
    let level = LogLevel::from_u32(record.level)?;
    (record.fields.len() <= MAX_LOG_FIELDS && record.spans.len() <= MAX_LOG_SPANS).then_some(level)
}

const IN_REGION: &str = "the output area and its number lie in the region";

#[cfg(test)]
mod tests;
