//! The memory through which host and guest exchange messages and payloads: the host's side of `docs/abi.md`.
//!
//! The guest can write its message line, the output area and the outbound area whenever it runs, so nothing there is
//! trusted: a message is copied out once, then checked against the host's own records (which call is being made, how many
//! host calls there have been), printed text is copied out once, then parsed, and a payload is read through a bounded
//! [`PayloadSource`].

mod layout;
mod output;
mod payload;
#[cfg(test)]
mod tests;
mod violation;

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ampoule_abi::layout::{
    ABI_MAJOR, ABI_MINOR, FLUSH_STREAM, FailureStatus, GuestMessageKind, HostMessageKind, INFO_MAGIC, InfoPage,
    LOG_LEVEL_SHIFT, MESSAGE_LEN, MessageLine, RECORD_ALLOCATIONS, ReturnStatus,
};
use ampoule_vmm::{GuestVirt, HostOnly, PAGE_SIZE, TrackedRegion};

use crate::guest_memory::{GuestMemory, SharedMemory};
use layout::Layout;

pub(crate) use output::{OutputRecord, Printed};
pub(crate) use payload::{PayloadArea, PayloadSink, PayloadSource};
pub use violation::ProtocolViolation;

/// A sandbox's mailbox, at the start of a region: the info page, what the host says, and what the guest says.
pub(crate) struct Mailbox {
    region: Arc<TrackedRegion>,
    /// The host's copy of printed text. The buffer is kept for the next time.
    printed: Vec<u8>,
    layout: Layout,
    phase: Phase,
    /// Sequence number of the last call that was sent.
    calls: u64,
    /// Sequence number of the last host call, or request for a stream, that arrived.
    host_calls: u64,
    /// Generation numbers that are the mailbox's own.
    generations: Range<u64>,
}

/// A guest's message, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GuestMessage {
    Ready { length: usize, needed: u64 },
    Return { status: ReturnStatus, length: usize, needed: u64 },
    HostCall { function: u32, length: usize, needed: u64 },
    ReadStream { stream: u64, most: usize },
    WriteStream { stream: u64, length: usize, flush: bool },
}

impl Mailbox {
    /// The payload areas that a mailbox can have, in bytes each.
    pub(crate) const SIZES: RangeInclusive<usize> = PAGE_SIZE..=LARGEST_MAILBOX;

    /// The memory that a guest shares with the host for such a mailbox.
    pub(crate) fn shared_memory(capacity: usize) -> SharedMemory {
        let layout = Layout::new(capacity);
        SharedMemory {
            len: layout.len(),
            // The arguments of a call are wiped, what is in front of them is rewritten.
            host_only: HostOnly { len: layout.guest_line(), kept: Layout::INBOUND },
            areas: layout.areas(),
            description: Some(Layout::INFO_PAGE),
            time_page: Layout::TIME_PAGE,
        }
    }

    /// A mailbox whose payload areas have `capacity` bytes each, at the start of a region: in its [shared
    /// memory](Self::shared_memory).
    pub(crate) fn new(region: Arc<TrackedRegion>, capacity: usize) -> Self {
        Self {
            region,
            printed: Vec::new(),
            layout: Layout::new(capacity),
            phase: Phase::Starting,
            calls: 0,
            host_calls: 0,
            generations: 0..0,
        }
    }

    /// Bytes of each payload area, as set by the user.
    pub(crate) fn capacity(&self) -> usize {
        self.layout.capacity
    }

    /// Writes the info page of a mailbox that the guest sees at `at`, with the doorbell at `entry`, a new generation number, and
    /// which records are wanted, and clears the host's message line behind it.
    ///
    /// All of it must be written again after every restore. The page is the host's and part of no snapshot, but where the
    /// hypervisor reports pages that were only read as written, it is written back like any other.
    pub(crate) fn publish(&mut self, at: GuestVirt, entry: GuestVirt, wanted: WantedRecords) {
        let generation = self.next_generation();
        let address = |offset: usize| at.0 + offset as u64;
        let page = InfoPage {
            magic: INFO_MAGIC,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            entry: entry.0,
            host_line: address(Layout::HOST_LINE),
            guest_line: address(self.layout.guest_line()),
            inbound: address(self.layout.inbound().start),
            inbound_len: self.capacity() as u64,
            outbound: address(self.layout.outbound().start),
            outbound_len: self.capacity() as u64,
            generation,
            output: address(self.layout.output().start),
            output_len: Layout::OUTPUT_LEN as u64,
            log_level: wanted.log_level.into(),
            asked: wanted.asked().into(),
        };
        let mut bytes = [0; Layout::TIME_PAGE];
        bytes[..InfoPage::LEN].copy_from_slice(&page.to_bytes());
        self.write(Layout::INFO_PAGE, &bytes);
    }

    /// Where the arguments of the next call go.
    #[inline]
    pub(crate) fn inbound(&self) -> PayloadSink<'_> {
        PayloadArea::new(&self.region, self.layout.inbound()).sink()
    }

    /// Where the result of a host function goes.
    pub(crate) fn outbound(&self) -> PayloadArea<'_> {
        PayloadArea::new(&self.region, self.layout.outbound())
    }

    /// The payload of the guest's last message, whose length [`receive`](Self::receive) has checked.
    #[inline]
    pub(crate) fn payload(&self, length: usize) -> PayloadSource<'_> {
        PayloadSource::new(&self.region, self.layout.outbound().start, length.min(self.capacity()))
    }

    /// What stands behind the payload of the guest's last message, whose length [`receive`](Self::receive) has checked.
    ///
    /// # Errors
    /// Where the guest claims more than the area has.
    pub(crate) fn behind_payload(&self, length: usize, size: u64) -> Result<PayloadSource<'_>, ProtocolViolation> {
        let left = self.capacity() - length.min(self.capacity());
        match usize::try_from(size).ok().filter(|size| *size <= left) {
            Some(size) => Ok(PayloadSource::new(&self.region, self.layout.outbound().start + length, size)),
            None => Err(ProtocolViolation::ExtraLength { length: size, left }),
        }
    }

    /// Tells the guest to run a function whose arguments are in the inbound area. `described` says what it is to describe:
    /// [`DESCRIBE_RESULT`](ampoule_abi::layout::DESCRIBE_RESULT).
    #[inline]
    pub(crate) fn send_call(&mut self, function: u32, length: usize, described: u32, wanted: WantedRecords) {
        self.calls += 1;
        self.phase = Phase::InCall;
        self.send(MessageLine {
            sequence: self.calls,
            kind: HostMessageKind::Call as u32,
            function,
            length: length as u32,
            status: described | wanted.asked() | wanted.log_level << LOG_LEVEL_SHIFT,
            ..MessageLine::default()
        });
    }

    /// The number that the next call gets.
    #[inline]
    pub(super) fn next_call(&self) -> u64 {
        self.calls + 1
    }

    /// Answers the last host call; the result is in the outbound area.
    pub(crate) fn send_reply(&mut self, length: usize) {
        self.send(MessageLine {
            sequence: self.host_calls,
            kind: HostMessageKind::Reply as u32,
            length: length as u32,
            ..MessageLine::default()
        });
    }

    /// Answers the last host call with the host function's own error, whose text stands in the outbound area, and behind it
    /// the error's value, of this many bytes.
    pub(crate) fn send_error(&mut self, text: usize, value: usize) {
        self.send(MessageLine {
            sequence: self.host_calls,
            kind: HostMessageKind::Failure as u32,
            length: text as u32,
            status: FailureStatus::Failed as u32,
            needed: value as u64,
            ..MessageLine::default()
        });
    }

    /// Answers the last host call with an error; the message is cut to what fits.
    pub(crate) fn send_failure(&mut self, status: FailureStatus, needed: u64, message: &str) {
        let length = payload::encode_truncated(message, self.outbound().sink());
        self.send(MessageLine {
            sequence: self.host_calls,
            kind: HostMessageKind::Failure as u32,
            length: length as u32,
            status: status as u32,
            needed,
            ..MessageLine::default()
        });
    }

    /// Takes what the guest has printed, logged and recorded. The guest waits in the doorbell or in a system call, or has ended.
    ///
    /// # Errors
    /// When the guest claims more than the area holds. What it printed is then lost.
    #[inline]
    pub(crate) fn take_printed(&mut self) -> Result<Printed<'_>, ProtocolViolation> {
        output::take(&self.region, &self.layout, &mut self.printed)
    }

    /// Takes the message for which the guest rang.
    ///
    /// # Errors
    /// When the message is not one that the guest may send now.
    #[inline]
    pub(crate) fn receive(&mut self) -> Result<GuestMessage, ProtocolViolation> {
        let line = self.guest_line();
        let length = line.length as usize;
        if length > self.capacity() {
            return Err(ProtocolViolation::Length { length: line.length, capacity: self.capacity() });
        }
        match (GuestMessageKind::from_u32(line.kind), self.phase) {
            (Some(GuestMessageKind::Ready), Phase::Starting) => {
                self.phase = Phase::Idle;
                Ok(GuestMessage::Ready { length, needed: line.needed })
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
            (Some(GuestMessageKind::HostCall | GuestMessageKind::ReadStream | GuestMessageKind::WriteStream), _)
                if line.sequence != self.host_calls + 1 =>
            {
                Err(ProtocolViolation::WrongHostCall { sequence: line.sequence, expected: self.host_calls + 1 })
            }
            (Some(GuestMessageKind::HostCall), _) => {
                self.host_calls += 1;
                Ok(GuestMessage::HostCall { function: line.function, length, needed: line.needed })
            }
            (Some(GuestMessageKind::ReadStream), _) => {
                self.host_calls += 1;
                Ok(GuestMessage::ReadStream { stream: line.needed, most: self.capacity().min(line.status as usize) })
            }
            (Some(GuestMessageKind::WriteStream), _) => {
                self.host_calls += 1;
                let flush = line.status & FLUSH_STREAM != 0;
                Ok(GuestMessage::WriteStream { stream: line.needed, length, flush })
            }
            (Some(GuestMessageKind::Panic) | None, _) => Err(ProtocolViolation::UnknownKind { kind: line.kind }),
        }
    }

    /// The panic record that a guest has left before it aborted, if it has.
    pub(crate) fn staged_panic(&self) -> Option<PayloadSource<'_>> {
        let line = self.guest_line();
        let length = line.length as usize;
        (line.kind == GuestMessageKind::Panic as u32 && length <= self.capacity()).then(|| self.payload(length))
    }

    /// How far the conversation has come.
    pub(crate) fn progress(&self) -> Progress {
        Progress { phase: self.phase, calls: self.calls, host_calls: self.host_calls }
    }

    /// Takes the conversation back to where it once was. That does not remove what was said: see [`wipe`](Self::wipe).
    #[inline]
    pub(crate) fn restore(&mut self, progress: Progress) {
        Progress { phase: self.phase, calls: self.calls, host_calls: self.host_calls } = progress;
    }

    /// Zeroes everything that was exchanged, and returns the range that the guest may have written.
    pub(crate) fn wipe(&mut self, memory: &mut GuestMemory) -> Range<usize> {
        let by_both = self.layout.guest_line()..self.layout.len();
        for said in [&(Layout::HOST_LINE..Layout::TIME_PAGE), &self.layout.inbound(), &by_both] {
            memory.clear_reserved(said).expect(WITHIN);
        }
        by_both
    }

    /// A number that no other state of a guest in this process has, or has had.
    fn next_generation(&mut self) -> u64 {
        /// From here on they are nobody's.
        static REST: AtomicU64 = AtomicU64::new(1);
        self.generations.next().unwrap_or_else(|| {
            // Many at once, so that sandboxes that are restored on several processors do not wait for each other.
            let first = REST.fetch_add(GENERATIONS, Ordering::Relaxed);
            self.generations = first + 1..first + GENERATIONS;
            first
        })
    }

    #[inline]
    fn guest_line(&self) -> MessageLine {
        let mut bytes = [0; MESSAGE_LEN];
        self.region.read(self.layout.guest_line(), &mut bytes).expect(WITHIN);
        MessageLine::from_bytes(&bytes)
    }

    #[inline]
    fn send(&self, line: MessageLine) {
        self.write(Layout::HOST_LINE, &line.to_bytes());
    }

    #[inline]
    fn write(&self, offset: usize, bytes: &[u8]) {
        self.region.write(offset, bytes).expect(WITHIN);
    }
}

/// Which records the host wants of what the guest does, beside the text that it prints.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WantedRecords {
    /// The greatest level of log records.
    pub(crate) log_level: u32,
    /// Whether allocations are recorded.
    pub(crate) allocations: bool,
}

impl WantedRecords {
    #[inline]
    fn asked(self) -> u32 {
        if self.allocations { RECORD_ALLOCATIONS } else { 0 }
    }
}

/// How far the conversation of host and guest has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    phase: Phase,
    calls: u64,
    host_calls: u64,
}

impl Progress {
    /// How many calls and host calls there have been.
    pub(super) fn calls(self) -> [u64; 2] {
        [self.calls, self.host_calls]
    }

    /// That of a guest that waits for a call, after so many calls and host calls.
    pub(super) fn idle_after([calls, host_calls]: [u64; 2]) -> Self {
        Self { phase: Phase::Idle, calls, host_calls }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Idle,
    InCall,
}

/// The largest payload area, in bytes.
pub(crate) const LARGEST_MAILBOX: usize = 256 << 20;

/// How many generation numbers a mailbox takes at once.
const GENERATIONS: u64 = 1 << 10;

const WITHIN: &str = "the mailbox lies in the region";
