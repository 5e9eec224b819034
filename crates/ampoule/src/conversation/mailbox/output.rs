//! Printed text that waits in the output area for the guest's next exit.

use ampoule_abi::layout::{OUTPUT_HEADER_LEN, OutputHeader, OutputStream, PRINTED_OFFSET};
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

/// Text that a guest has printed, record by record. The records are checked as they are reached, and nothing follows a
/// malformed one.
#[derive(Debug)]
pub(crate) struct Printed<'copy> {
    records: &'copy [u8],
    at: usize,
}

impl Printed<'_> {
    fn nothing() -> Self {
        Self { records: &[], at: 0 }
    }
}

impl<'copy> Iterator for Printed<'copy> {
    type Item = Result<(OutputStream, &'copy [u8]), ProtocolViolation>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.records[self.at..];
        if rest.is_empty() {
            return None;
        }
        let record = record(rest, self.at);
        self.at = record.map_or(self.records.len(), |(_, text)| self.at + OUTPUT_HEADER_LEN + text.len());
        Some(record)
    }
}

/// The first of these records, the one at `offset`.
fn record(records: &[u8], offset: usize) -> Result<(OutputStream, &[u8]), ProtocolViolation> {
    let cut = |needed| ProtocolViolation::OutputRecord { offset, needed, left: records.len() };
    let (header, rest) = records.split_first_chunk().ok_or(cut(OUTPUT_HEADER_LEN))?;
    let OutputHeader { stream, length } = OutputHeader::from_bytes(*header);
    let stream = OutputStream::from_u16(stream).ok_or(ProtocolViolation::UnknownStream { stream })?;
    let text = rest.get(..usize::from(length)).ok_or(cut(OUTPUT_HEADER_LEN + usize::from(length)))?;
    Ok((stream, text))
}

const IN_REGION: &str = "the output area and its number lie in the region";

#[cfg(test)]
mod tests;
