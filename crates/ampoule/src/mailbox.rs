//! The memory through which host and guest talk: the host's side of `docs/abi.md`.
//!
//! The guest can write its message line, the output area and the outbound area at any time that it runs, so nothing there is
//! trusted: a message is copied out once, then checked against what the host knows itself (which call is being made, how
//! many host calls have come), printed text is copied out once, then taken apart, and a payload is read through a bounded
//! [`PayloadSource`].

mod output;
mod payload;
#[cfg(test)]
mod tests;
mod violation;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ampoule_abi::layout::{
    ABI_MAJOR, ABI_MINOR, FailureStatus, GuestMessageKind, HostMessageKind, INFO_MAGIC, InfoPage, MESSAGE_LEN,
    MESSAGE_LINE_LEN, MessageLine, ReturnStatus,
};
use ampoule_vmm::{GuestVirt, PAGE_SIZE, Region};

pub(crate) use output::Printed;
pub(crate) use payload::{PayloadSink, PayloadSource};
pub use violation::ProtocolViolation;

/// A sandbox's mailbox, at the start of a region: the info page, the message lines with the output area behind them, and the
/// two payload areas.
pub(crate) struct Mailbox {
    region: Arc<Region>,
    /// How far the host has written in the payload areas since that was last [forgotten](Self::forget_sent).
    inbound_written: AtomicUsize,
    outbound_written: AtomicUsize,
    /// The host's copy of printed text, kept so that there is memory for it the next time.
    printed: Vec<u8>,
    /// Bytes of each payload area; what the user asked for.
    capacity: usize,
    phase: Phase,
    /// Sequence number of the last call that was sent.
    calls: u64,
    /// Sequence number of the last host call that came.
    host_calls: u64,
}

/// A guest's message, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GuestMessage {
    Ready,
    Return { status: ReturnStatus, length: usize, needed: u64 },
    HostCall { function: u32, length: usize },
}

/// A part of the mailbox's region, all of which the guest sees with the same permissions.
pub(crate) struct Area {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) writable: bool,
}

impl Mailbox {
    /// Bytes, in whole pages, of a mailbox whose payload areas have `capacity` bytes each.
    pub(crate) fn len(capacity: usize) -> usize {
        PAYLOADS + 2 * capacity.next_multiple_of(PAGE_SIZE)
    }

    /// A mailbox whose payload areas have `capacity` bytes each, in the first [`len`](Self::len) bytes of a region.
    pub(crate) fn new(region: Arc<Region>, capacity: usize) -> Self {
        let written = AtomicUsize::default;
        Self {
            region,
            inbound_written: written(),
            outbound_written: written(),
            printed: Vec::new(),
            capacity,
            phase: Phase::Starting,
            calls: 0,
            host_calls: 0,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// How the guest may see the parts of the region.
    pub(crate) fn areas(&self) -> [Area; 4] {
        let area_len = self.capacity.next_multiple_of(PAGE_SIZE);
        [
            Area { offset: INFO_PAGE, len: PAGE_SIZE, writable: false },
            Area { offset: HOST_LINE, len: PAYLOADS - HOST_LINE, writable: true },
            Area { offset: self.inbound_offset(), len: area_len, writable: false },
            Area { offset: self.outbound_offset(), len: area_len, writable: true },
        ]
    }

    /// Where the guest finds the info page of a mailbox that it sees at `at`.
    pub(crate) fn info_page(at: GuestVirt) -> GuestVirt {
        GuestVirt(at.0 + INFO_PAGE as u64)
    }

    /// Writes the info page of a mailbox that the guest sees at `at`, with the doorbell at `entry` and a generation number that
    /// is new. It is to be written anew whenever the guest is put back: it is the host's, and no part of what a guest's memory
    /// holds.
    pub(crate) fn publish(&self, at: GuestVirt, entry: GuestVirt) {
        let address = |offset: usize| at.0 + offset as u64;
        let page = InfoPage {
            magic: INFO_MAGIC,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            entry: entry.0,
            host_line: address(HOST_LINE),
            guest_line: address(GUEST_LINE),
            inbound: address(self.inbound_offset()),
            inbound_len: self.capacity as u64,
            outbound: address(self.outbound_offset()),
            outbound_len: self.capacity as u64,
            generation: next_generation(),
            output: address(OUTPUT),
            output_len: OUTPUT_LEN as u64,
        };
        self.write(INFO_PAGE, &page.to_bytes());
    }

    /// Where the arguments of the next call go.
    pub(crate) fn inbound(&self) -> PayloadSink<'_> {
        PayloadSink::new(&self.region, self.inbound_offset(), self.capacity, &self.inbound_written)
    }

    /// Where the result of a host function goes.
    pub(crate) fn outbound(&self) -> PayloadSink<'_> {
        PayloadSink::new(&self.region, self.outbound_offset(), self.capacity, &self.outbound_written)
    }

    /// The payload of the guest's last message, whose length [`receive`](Self::receive) has checked.
    pub(crate) fn payload(&self, length: usize) -> PayloadSource<'_> {
        PayloadSource::new(&self.region, self.outbound_offset(), length.min(self.capacity))
    }

    /// Tells the guest to run a function whose arguments stand in the inbound area.
    pub(crate) fn send_call(&mut self, function: u32, length: usize) {
        self.calls += 1;
        self.phase = Phase::InCall;
        self.send(MessageLine {
            sequence: self.calls,
            kind: HostMessageKind::Call as u32,
            function,
            length: length as u32,
            ..MessageLine::default()
        });
    }

    /// Answers the last host call; the result stands in the outbound area.
    pub(crate) fn send_reply(&mut self, length: usize) {
        self.send(MessageLine {
            sequence: self.host_calls,
            kind: HostMessageKind::Reply as u32,
            length: length as u32,
            ..MessageLine::default()
        });
    }

    /// Answers the last host call with an error; the message is cut to what fits.
    pub(crate) fn send_failure(&mut self, status: FailureStatus, needed: u64, message: &str) {
        let length = payload::encode_truncated(message, self.outbound());
        self.send(MessageLine {
            sequence: self.host_calls,
            kind: HostMessageKind::Failure as u32,
            length: length as u32,
            status: status as u32,
            needed,
            ..MessageLine::default()
        });
    }

    /// Takes what the guest has printed. It waits in the doorbell or in a system call, or has ended.
    ///
    /// # Errors
    /// Where the guest claims more than the area has. What it printed is lost then.
    pub(crate) fn take_printed(&mut self) -> Result<Printed<'_>, ProtocolViolation> {
        output::take(&self.region, &mut self.printed)
    }

    /// Takes the message for which the guest rang.
    ///
    /// # Errors
    /// Where the message is not one that the guest may send now.
    pub(crate) fn receive(&mut self) -> Result<GuestMessage, ProtocolViolation> {
        let line = self.guest_line();
        let length = line.length as usize;
        if length > self.capacity {
            return Err(ProtocolViolation::Length { length: line.length, capacity: self.capacity });
        }
        match (GuestMessageKind::from_u32(line.kind), self.phase) {
            (Some(GuestMessageKind::Ready), Phase::Starting) => {
                self.phase = Phase::Idle;
                Ok(GuestMessage::Ready)
            }
            (Some(GuestMessageKind::Ready), _) => Err(ProtocolViolation::ReadyTwice),
            (Some(GuestMessageKind::Return), Phase::InCall) if line.sequence == self.calls => {
                let status = ReturnStatus::from_u32(line.status)
                    .ok_or(ProtocolViolation::UnknownStatus { status: line.status })?;
                self.phase = Phase::Idle;
                Ok(GuestMessage::Return { status, length, needed: line.needed })
            }
            (Some(GuestMessageKind::Return), Phase::InCall) => {
                Err(ProtocolViolation::WrongReturn { sequence: line.sequence, expected: self.calls })
            }
            (Some(GuestMessageKind::Return), _) => {
                Err(ProtocolViolation::ReturnWithoutCall { sequence: line.sequence })
            }
            (Some(GuestMessageKind::HostCall), _) if line.sequence == self.host_calls + 1 => {
                self.host_calls += 1;
                Ok(GuestMessage::HostCall { function: line.function, length })
            }
            (Some(GuestMessageKind::HostCall), _) => {
                Err(ProtocolViolation::WrongHostCall { sequence: line.sequence, expected: self.host_calls + 1 })
            }
            (Some(GuestMessageKind::Panic) | None, _) => Err(ProtocolViolation::UnknownKind { kind: line.kind }),
        }
    }

    /// The panic record that a guest has left before it aborted, if it has.
    pub(crate) fn staged_panic(&self) -> Option<PayloadSource<'_>> {
        let line = self.guest_line();
        let length = line.length as usize;
        (line.kind == GuestMessageKind::Panic as u32 && length <= self.capacity).then(|| self.payload(length))
    }

    /// How far the talk has come.
    pub(crate) fn progress(&self) -> Progress {
        Progress { phase: self.phase, calls: self.calls, host_calls: self.host_calls }
    }

    /// Goes back to where the talk once was. What was said is not gone thereby.
    pub(crate) fn restore(&mut self, progress: Progress) {
        Progress { phase: self.phase, calls: self.calls, host_calls: self.host_calls } = progress;
    }

    /// Makes zero what only the host can have written since this was last done, and returns the bytes that both can have
    /// written, as far as the host has.
    pub(crate) fn forget_sent(&mut self) -> [Range<usize>; 2] {
        let inbound = std::mem::take(self.inbound_written.get_mut());
        self.region.fill_zero(self.inbound_offset(), inbound).expect("the mailbox lies in the region");
        let written = self.sent();
        *self.outbound_written.get_mut() = 0;
        written
    }

    /// The bytes of the lines and the outbound area that the host may have written.
    pub(crate) fn sent(&self) -> [Range<usize>; 2] {
        let outbound = self.outbound_offset();
        [HOST_LINE..OUTPUT, outbound..outbound + self.outbound_written.load(Ordering::Relaxed)]
    }

    /// Makes zero all that was said, and returns where that was.
    pub(crate) fn wipe(&mut self) -> Range<usize> {
        self.forget_sent();
        let said = HOST_LINE..Self::len(self.capacity);
        self.region.discard(said.start, said.len()).expect("the mailbox lies in the region");
        said
    }

    fn guest_line(&self) -> MessageLine {
        let mut bytes = [0; MESSAGE_LEN];
        self.region.read(GUEST_LINE, &mut bytes).expect("the lines lie in the region");
        MessageLine::from_bytes(&bytes)
    }

    fn send(&self, line: MessageLine) {
        self.write(HOST_LINE, &line.to_bytes());
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        self.region.write(offset, bytes).expect("the lines lie in the region");
    }

    fn inbound_offset(&self) -> usize {
        PAYLOADS
    }

    fn outbound_offset(&self) -> usize {
        PAYLOADS + self.capacity.next_multiple_of(PAGE_SIZE)
    }
}

/// A number that no other state of a guest in this process has, or has had.
fn next_generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// How far the talk between host and guest has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    phase: Phase,
    calls: u64,
    host_calls: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Idle,
    InCall,
}

/// Offsets in the region. The output area begins in the page of the message lines, which is written in every call anyway: a
/// guest that prints little writes no other page.
const INFO_PAGE: usize = 0;
const HOST_LINE: usize = PAGE_SIZE;
const GUEST_LINE: usize = HOST_LINE + MESSAGE_LINE_LEN;
const OUTPUT: usize = GUEST_LINE + MESSAGE_LINE_LEN;
const PAYLOADS: usize = 5 * PAGE_SIZE;

/// Bytes of the output area: enough for the text of an ordinary call, and little to copy and to write back.
const OUTPUT_LEN: usize = PAYLOADS - OUTPUT;
