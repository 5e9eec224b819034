//! The memory that guest and host share, and the doorbell: all raw memory of this crate but the output area, which is
//! [`OutputArea`]'s.
//!
//! Who may touch what follows `docs/abi.md`, section 4, and is kept by two types:
//!
//! 1. [`Calls`] is the only one to ring for the next call, and an [`Incoming`] borrows it. So the inbound area can be
//!    borrowed for the duration of a call: the host writes there only when it is rung for the next one.
//! 2. An [`Outbound`] is the only access to the outbound area, and there is one at a time. A host call takes it and gives
//!    it back with the reply, so nobody has a hand in that area while the host has it.

use std::cell::Cell;
use std::ptr;
use std::slice;

use ampoule_abi::codec::{self, Sink};
use ampoule_abi::layout::{
    FLUSH_STREAM, GuestMessageKind, HostMessageKind, InfoPage, LOG_LEVEL_MASK, LOG_LEVEL_SHIFT, MESSAGE_LEN,
    MessageLine, RECORD_ALLOCATIONS,
};
use ampoule_abi::schema::DataType;

use super::allocations;
use super::log;
use super::output::OutputArea;

/// The shared memory as an [`InfoPage`] describes it.
#[derive(Debug)]
pub(super) struct Mailbox {
    entry: extern "C" fn(),
    /// The messages in the two lines; the rest of the guest's line is not written with them.
    host_line: *const [u8; MESSAGE_LEN],
    guest_line: *mut [u8; MESSAGE_LEN],
    inbound: *const u8,
    inbound_len: usize,
    outbound: *mut u8,
    outbound_len: usize,
    generation: *const u64,
    /// Lives as long as the [`Calls`], and so as long as anybody has the mailbox.
    session: *const Session,
    /// Where printed text waits, if the host looks there.
    output: Option<OutputArea>,
    /// Whether the host knows what becomes of spans.
    #[cfg(any(feature = "log", feature = "tracing"))]
    knows_spans: bool,
}

/// What changes from call to call. It is meant to lie on the stack from which calls are served: in a page that is written in
/// every call anyway, since each written page has to be copied back when the host restores the guest.
#[derive(Debug)]
pub(super) struct Session {
    outbound_is_free: Cell<bool>,
    host_calls: Cell<u64>,
    /// What the host asks for in the present call: what is to be described, the greatest level of log records, and whether
    /// allocations are recorded.
    asked: Cell<u32>,
}

impl Session {
    pub(super) fn new() -> Self {
        Self { outbound_is_free: Cell::new(true), host_calls: Cell::new(0), asked: Cell::new(0) }
    }
}

/// What the info page says of the guest's generation, if this thread runs in a sandbox.
#[inline]
pub(crate) fn generation() -> Option<u64> {
    Mailbox::current().map(Mailbox::generation)
}

impl Mailbox {
    /// The mailbox of this thread, if it runs in a sandbox. It is not to be kept for longer than a function of this crate
    /// runs: it can be used until the [`Calls`] are dropped.
    pub(super) fn current() -> Option<&'static Self> {
        CURRENT.get()
    }

    /// Takes over the mailbox, for this thread and until the calls are dropped.
    ///
    /// # Safety
    ///
    /// The page describes a doorbell, lines and areas as `docs/abi.md` defines them, which exist as long as the program
    /// and are nobody else's but the host's, who writes to them only while it is rung. So does the page itself, as far as
    /// its minor version has fields.
    pub(super) unsafe fn open(page: *const InfoPage, session: &Session) -> Calls<'_> {
        // SAFETY: the caller promises a page with these fields, which are in every minor version. No other is read.
        let InfoPage { abi_minor, entry, host_line, guest_line, inbound, inbound_len, outbound, outbound_len, .. } =
            unsafe { *page };
        let entry = ptr::with_exposed_provenance::<()>(entry as usize);
        let mailbox: &'static Self = Box::leak(Box::new(Self {
            // SAFETY: the caller promises that the address is that of such a function.
            entry: unsafe { std::mem::transmute::<*const (), extern "C" fn()>(entry) },
            host_line: ptr::with_exposed_provenance(host_line as usize),
            guest_line: ptr::with_exposed_provenance_mut(guest_line as usize),
            inbound: ptr::with_exposed_provenance(inbound as usize),
            inbound_len: inbound_len as usize,
            outbound: ptr::with_exposed_provenance_mut(outbound as usize),
            outbound_len: outbound_len as usize,
            session,
            generation: if abi_minor < InfoPage::GENERATION_MINOR {
                &raw const NO_GENERATION
            } else {
                // SAFETY: from this version on the page has the field.
                unsafe { &raw const (*page).generation }
            },
            output: (abi_minor >= InfoPage::OUTPUT_MINOR).then(|| {
                // SAFETY: from this version on the page has the fields, and they describe such an area, as the caller promises.
                // Messages are all that this module writes into the line.
                unsafe { OutputArea::new((*page).output, (*page).output_len, guest_line) }
            }),
            #[cfg(any(feature = "log", feature = "tracing"))]
            knows_spans: abi_minor >= InfoPage::SPAN_MINOR,
        }));
        if abi_minor >= InfoPage::LOG_MINOR {
            // SAFETY: from this version on the page has the field.
            let level = unsafe { (*page).log_level } as u32;
            session.asked.set((level & LOG_LEVEL_MASK) << LOG_LEVEL_SHIFT);
        }
        if abi_minor >= InfoPage::ALLOCATION_MINOR {
            // SAFETY: from this version on the page has the field.
            let asked = unsafe { (*page).asked } as u32 & RECORD_ALLOCATIONS;
            session.asked.set(session.asked.get() | asked);
        }
        allocations::set_asked(session.asked.get());
        CURRENT.set(Some(mailbox));
        Calls { mailbox, _session: session }
    }

    fn session(&self) -> &Session {
        // SAFETY: the session outlives the `Calls`, which borrow it. Without them, nobody has the mailbox: it is not `current`,
        // and what else lends it (`Calls::mailbox`, `Incoming`) is used in the course of a call only.
        unsafe { &*self.session }
    }

    /// The outbound area, unless someone has it already.
    pub(super) fn outbound(&self) -> Option<Outbound<'_>> {
        self.session().outbound_is_free.replace(false).then(|| Outbound { mailbox: self })
    }

    /// The outbound area after a panic, which may leak an [`Outbound`].
    ///
    /// # Safety
    ///
    /// No [`Outbound`] of this mailbox, and nothing borrowed from one, is used any more.
    pub(super) unsafe fn reclaim_outbound(&self) -> Outbound<'_> {
        self.session().outbound_is_free.set(false);
        Outbound { mailbox: self }
    }

    /// Whether the host asks for a description of this ([`DESCRIBE_RESULT`](ampoule_abi::layout::DESCRIBE_RESULT)) in the
    /// present call.
    pub(super) fn is_described(&self, what: u32) -> bool {
        self.session().asked.get() & what != 0
    }

    /// The greatest level of which the host wants log records at present.
    pub(super) fn log_level(&self) -> u32 {
        log_level(self.session().asked.get())
    }

    /// Calls a host function whose arguments are the first `length` bytes of the outbound area. Behind them is a description
    /// of `described` bytes.
    pub(super) fn host_call<'m>(
        &'m self,
        function: u32,
        outbound: Outbound<'m>,
        length: usize,
        described: usize,
    ) -> Reply<'m> {
        self.ask(
            MessageLine {
                kind: GuestMessageKind::HostCall as u32,
                function,
                length: length as u32,
                needed: described as u64,
                ..MessageLine::default()
            },
            outbound,
        )
    }

    /// Asks for the next bytes of a stream of the host's, `most` at most.
    pub(super) fn read_stream<'m>(&'m self, stream: u64, most: usize, outbound: Outbound<'m>) -> Reply<'m> {
        self.ask(
            MessageLine {
                kind: GuestMessageKind::ReadStream as u32,
                status: u32::try_from(most).unwrap_or(u32::MAX),
                needed: stream,
                ..MessageLine::default()
            },
            outbound,
        )
    }

    /// Gives a stream of the host's the first `length` bytes of the outbound area.
    pub(super) fn write_stream<'m>(
        &'m self,
        stream: u64,
        outbound: Outbound<'m>,
        length: usize,
        flush: bool,
    ) -> Reply<'m> {
        self.ask(
            MessageLine {
                kind: GuestMessageKind::WriteStream as u32,
                length: length as u32,
                status: if flush { FLUSH_STREAM } else { 0 },
                needed: stream,
                ..MessageLine::default()
            },
            outbound,
        )
    }

    /// Rings with a message for which the next number is due.
    fn ask<'m>(&'m self, message: MessageLine, outbound: Outbound<'m>) -> Reply<'m> {
        let sequence = self.session().host_calls.get() + 1;
        self.session().host_calls.set(sequence);
        Reply { message: self.ring(MessageLine { sequence, ..message }), outbound }
    }

    /// Leaves a message for a host that looks for it when the program has ended.
    pub(super) fn leave(&self, message: MessageLine) {
        // SAFETY: the line is this side's while the host is not rung.
        unsafe { self.guest_line.write(message.to_bytes()) }
    }

    /// An address of the stack on which calls are served, farther out than the frame of any function that is called.
    pub(super) fn stack_base(&self) -> usize {
        self.session.addr()
    }

    /// Where printed text waits, if the host looks there.
    pub(super) fn output(&self) -> Option<&OutputArea> {
        self.output.as_ref()
    }

    /// Whether the host takes span records.
    #[cfg(any(feature = "log", feature = "tracing"))]
    pub(super) fn knows_spans(&self) -> bool {
        self.knows_spans
    }

    fn generation(&self) -> u64 {
        // SAFETY: the pointer is to a constant or to the page's field, which exist as long as the program. The host changes
        // the field while it is rung, never during the read; it is volatile because nothing in this program changes it.
        unsafe { self.generation.read_volatile() }
    }

    fn ring(&self, message: MessageLine) -> MessageLine {
        self.leave(message);
        (self.entry)();
        // SAFETY: the doorbell has returned, so the host's line holds its answer and does not change any more.
        let line = unsafe { self.host_line.read() };
        MessageLine::from_bytes(&line)
    }
}

/// The greatest level of log records that this asks for.
fn log_level(asked: u32) -> u32 {
    asked >> LOG_LEVEL_SHIFT & LOG_LEVEL_MASK
}

/// The calls of the host, one after another.
#[derive(Debug)]
pub(super) struct Calls<'session> {
    mailbox: &'static Mailbox,
    _session: &'session Session,
}

impl Drop for Calls<'_> {
    fn drop(&mut self) {
        allocations::set_asked(0);
        CURRENT.set(None);
    }
}

impl Calls<'_> {
    pub(super) fn mailbox(&self) -> &'static Mailbox {
        self.mailbox
    }

    /// Hands over the answer to the last call and waits for the next one.
    ///
    /// # Errors
    ///
    /// The host's message where it is no call.
    pub(super) fn next(&mut self, answer: MessageLine) -> Result<Incoming<'_>, MessageLine> {
        let message = self.mailbox.ring(answer);
        let length = message.length as usize;
        if message.kind != HostMessageKind::Call as u32 || length > self.mailbox.inbound_len {
            return Err(message);
        }
        // SAFETY: the area has that many bytes. The host does not write to it before `ring` is called for the next call,
        // which takes this `Calls` by a mutable reference and so ends the borrow.
        let arguments = unsafe { slice::from_raw_parts(self.mailbox.inbound, length) };
        // As a rule it is the same. Memory that a call writes has to be copied back when the host restores the guest.
        let before = self.mailbox.session().asked.get();
        if before != message.status {
            self.mailbox.session().asked.set(message.status);
            if before & RECORD_ALLOCATIONS != message.status & RECORD_ALLOCATIONS {
                allocations::set_asked(message.status);
            }
            if log_level(before) != log_level(message.status) {
                log::set_level(log_level(message.status));
            }
        }
        Ok(Incoming { sequence: message.sequence, function: message.function, arguments, mailbox: self.mailbox })
    }
}

/// A call of the host.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    pub(super) sequence: u64,
    pub(super) function: u32,
    pub(super) arguments: &'a [u8],
    pub(super) mailbox: &'a Mailbox,
}

/// The outbound area. There cannot be a second one while this one exists.
#[derive(Debug)]
pub(super) struct Outbound<'m> {
    mailbox: &'m Mailbox,
}

impl Sink for Outbound<'_> {
    #[inline]
    fn capacity(&self) -> usize {
        self.mailbox.outbound_len
    }

    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let fits = at.checked_add(bytes.len()).is_some_and(|end| end <= self.capacity());
        assert!(fits, "an encoder keeps to the capacity");
        // SAFETY: the bytes are within the area, as checked. The host has left the area to this side, and there is no
        // reference to it: `Reply::bytes`, which gives one, borrows the only `Outbound`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.mailbox.outbound.add(at), bytes.len()) }
    }
}

impl Outbound<'_> {
    /// Writes a description behind a payload of `length` bytes, if there is room: how many bytes it takes.
    pub(super) fn describe(&mut self, length: usize, values: &[Option<Vec<DataType>>]) -> usize {
        // What shows nothing is no type.
        let types: Vec<&[DataType]> = values.iter().map(|types| types.as_deref().unwrap_or_default()).collect();
        let mut bytes = Vec::new();
        match codec::encode(&types, &mut bytes) {
            Ok(size) if size <= self.capacity().saturating_sub(length) => {
                self.put(length, &bytes);
                size
            }
            _ => 0,
        }
    }
}

impl Drop for Outbound<'_> {
    fn drop(&mut self) {
        self.mailbox.session().outbound_is_free.set(true);
    }
}

/// The host's answer to a host call.
#[derive(Debug)]
pub(super) struct Reply<'m> {
    message: MessageLine,
    outbound: Outbound<'m>,
}

impl Reply<'_> {
    pub(super) fn message(&self) -> &MessageLine {
        &self.message
    }

    pub(super) fn capacity(&self) -> usize {
        self.outbound.capacity()
    }

    /// The payload.
    ///
    /// # Panics
    ///
    /// Where the host says that it is larger than the area.
    pub(super) fn bytes(&self) -> &[u8] {
        let length = self.message.length as usize;
        assert!(length <= self.capacity(), "the host's reply has {length} bytes and the mailbox {}", self.capacity());
        self.first(length)
    }

    /// The value of the host function's error, behind the payload, which is its text. Nothing if there is none.
    pub(super) fn error_value(&self) -> &[u8] {
        let length = self.message.length as usize;
        let end = usize::try_from(self.message.needed).ok().and_then(|size| length.checked_add(size));
        end.filter(|end| *end <= self.capacity()).map_or(&[], |end| &self.first(end)[length..])
    }

    /// The beginning of the area, which has that many bytes at least.
    fn first(&self, length: usize) -> &[u8] {
        assert!(length <= self.capacity(), "both callers have compared it");
        // SAFETY: the area has that many bytes, and nobody writes to it while the only `Outbound` is borrowed.
        unsafe { slice::from_raw_parts(self.outbound.mailbox.outbound, length) }
    }
}

/// Stands in for the field that hosts of older minor versions do not have.
static NO_GENERATION: u64 = 0;

thread_local! {
    static CURRENT: Cell<Option<&'static Mailbox>> = const { Cell::new(None) };
}
