//! Panics: recorded when they begin, reported when nobody caught them or they cannot be caught.

use std::any::Any;
use std::cell::Cell;
use std::hint::black_box;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

use ampoule_abi::codec::{self, Sink};
use ampoule_abi::layout::{GuestMessageKind, MessageLine, PanicRecord};

use super::mailbox::{Mailbox, Outbound};

/// Has the panics of a thread in a sandbox recorded and not printed. Those of other threads are left as they are.
pub(super) fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| match Mailbox::current() {
            Some(mailbox) => begin(mailbox, &record(info)),
            None => previous(info),
        }));
    });
}

/// Forgets the panics that were caught before. Where there are none, this writes nothing: memory that a call writes has to be
/// copied back when the host restores the guest.
pub(super) fn forget() {
    if HAS_LAST.get() {
        set_last(None);
    }
}

/// The record of a panic that was caught with this payload.
pub(super) fn take(payload: &(dyn Any + Send)) -> PanicRecord<String> {
    // A panic that was resumed and not begun has no record.
    set_last(None).unwrap_or_else(|| PanicRecord {
        message: message(payload).to_owned(),
        file: String::new(),
        line: 0,
        column: 0,
    })
}

/// Writes a record, as much of it as fits, and returns its length.
pub(super) fn write<Text: AsRef<str>>(record: &PanicRecord<Text>, outbound: &mut Outbound<'_>) -> usize {
    let room = outbound.capacity().saturating_sub(FIXED_LEN);
    let (message, file) = (record.message.as_ref(), record.file.as_ref());
    let file = if file.len() <= room { file } else { "" };
    let message = &message[..message.floor_char_boundary(room - file.len())];
    let fitting = PanicRecord { message, file, line: record.line, column: record.column };
    codec::encode(&fitting, outbound).unwrap_or(0)
}

/// Leaves the record where the host finds it if the program ends. This takes no memory.
pub(super) fn leave<Text: AsRef<str>>(mailbox: &Mailbox, record: &PanicRecord<Text>) {
    // A value is on its way through the area if it is not free. If nobody catches the panic, the area gets free again, and
    // the panic is reported in the answer to the call.
    if let Some(mut outbound) = mailbox.outbound() {
        let length = write(record, &mut outbound) as u32;
        mailbox.leave(MessageLine { kind: GuestMessageKind::Panic as u32, length, ..MessageLine::default() });
    }
}

fn begin(mailbox: &Mailbox, record: &PanicRecord<&str>) {
    let cannot_unwind = cfg!(panic = "abort") || record.file.ends_with(CORE_PANICKING);
    // The end of one that must not unwind further is not a panic of the guest's, and says less than that one.
    let ended = if cannot_unwind && ENDS_OF_OTHERS.contains(&record.message) { set_last(None) } else { None };
    let kept = ended.or_else(|| keep(record));
    match &kept {
        Some(kept) if cannot_unwind => leave(mailbox, kept),
        // It may be caught, and is then no reason for an end that comes later.
        Some(_) => {}
        // Unwinding takes memory too, so this is usually the end.
        None => leave(mailbox, record),
    }
    set_last(kept);
}

fn record<'info>(info: &'info PanicHookInfo<'_>) -> PanicRecord<&'info str> {
    let (file, line, column) = info.location().map_or(("", 0, 0), |at| (at.file(), at.line(), at.column()));
    PanicRecord { message: message(info.payload()), file, line, column }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "Box<dyn Any>",
    }
}

/// A copy that lasts, if there is memory for it and for the unwinding.
fn keep(record: &PanicRecord<&str>) -> Option<PanicRecord<String>> {
    let copied = |text: &str| {
        let mut copy = String::new();
        copy.try_reserve_exact(text.len()).ok()?;
        copy.push_str(text);
        Some(copy)
    };
    let kept = PanicRecord {
        message: copied(record.message)?,
        file: copied(record.file)?,
        line: record.line,
        column: record.column,
    };
    let mut unwinding = Vec::<u8>::new();
    let has_room = unwinding.try_reserve_exact(UNWINDING_LEN).is_ok();
    // An allocation without a use need not happen.
    black_box(&mut unwinding);
    has_room.then_some(kept)
}

fn set_last(record: Option<PanicRecord<String>>) -> Option<PanicRecord<String>> {
    HAS_LAST.set(record.is_some());
    // The thread's local values are gone when a panic begins in the destructor of another one. Nobody asks for it then.
    LAST.try_with(|last| last.replace(record)).ok().flatten()
}

/// Bytes of a panic record beside its texts: two lengths, line and column.
const FIXED_LEN: usize = 16;

/// More than what the standard library allocates to unwind: the panic's message in a box, and the exception.
const UNWINDING_LEN: usize = 256;

/// Where the standard library's own panics are that it aborts after.
const CORE_PANICKING: &str = "core/src/panicking.rs";

/// Those that come where another one must not unwind further.
const ENDS_OF_OTHERS: [&str; 2] = ["panic in a function that cannot unwind", "panic in a destructor during cleanup"];

thread_local! {
    static LAST: Cell<Option<PanicRecord<String>>> = const { Cell::new(None) };
    static HAS_LAST: Cell<bool> = const { Cell::new(false) };
}
