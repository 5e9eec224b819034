//! Panics: recorded when they begin, reported when nobody caught them or they cannot be caught.

use std::any::Any;
use std::cell::Cell;
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
            Some(mailbox) => begin(mailbox, record(info)),
            None => previous(info),
        }));
    });
}

/// Forgets the panics that were caught before. Where there are none, this writes nothing: memory that a call writes has to be
/// put back when the host restores the guest.
pub(super) fn forget() {
    if HAS_LAST.get() {
        set_last(None);
    }
}

/// The record of a panic that was caught with this payload.
pub(super) fn take(payload: &(dyn Any + Send)) -> PanicRecord<String> {
    // A panic that was resumed and not begun has no record.
    set_last(None).unwrap_or_else(|| PanicRecord { message: message(payload), file: String::new(), line: 0, column: 0 })
}

/// Writes a record, as much of it as fits, and returns its length.
pub(super) fn write(record: &PanicRecord<String>, outbound: &mut Outbound<'_>) -> usize {
    let room = outbound.capacity().saturating_sub(FIXED_LEN);
    let file = if record.file.len() <= room { record.file.as_str() } else { "" };
    let message = &record.message[..record.message.floor_char_boundary(room - file.len())];
    let fitting = PanicRecord { message, file, line: record.line, column: record.column };
    codec::encode(&fitting, outbound).unwrap_or(0)
}

/// Leaves the record where the host finds it if the program ends.
pub(super) fn leave(mailbox: &Mailbox, record: &PanicRecord<String>) {
    // A value is on its way through the area if it is not free. If nobody catches the panic, the area gets free again, and
    // the panic is reported in the answer to the call.
    if let Some(mut outbound) = mailbox.outbound() {
        let length = write(record, &mut outbound) as u32;
        mailbox.leave(MessageLine { kind: GuestMessageKind::Panic as u32, length, ..MessageLine::default() });
    }
}

fn begin(mailbox: &Mailbox, mut record: PanicRecord<String>) {
    let cannot_unwind = cfg!(panic = "abort") || record.file.ends_with(CORE_PANICKING);
    if cannot_unwind && ENDS_OF_OTHERS.contains(&record.message.as_str()) {
        // Not a panic of the guest's, but the end of one that must not unwind further, and which says more.
        record = set_last(None).unwrap_or(record);
    }
    if cannot_unwind {
        // Any other may be caught, and is then no reason for an end that comes later.
        leave(mailbox, &record);
    }
    set_last(Some(record));
}

fn record(info: &PanicHookInfo<'_>) -> PanicRecord<String> {
    let (file, line, column) = info.location().map_or(("", 0, 0), |at| (at.file(), at.line(), at.column()));
    PanicRecord { message: message(info.payload()), file: file.to_owned(), line, column }
}

fn message(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "Box<dyn Any>".to_owned(),
    }
}

fn set_last(record: Option<PanicRecord<String>>) -> Option<PanicRecord<String>> {
    HAS_LAST.set(record.is_some());
    // The thread's local values are gone when a panic begins in the destructor of another one. Nobody asks for it then.
    LAST.try_with(|last| last.replace(record)).ok().flatten()
}

/// Bytes of a panic record beside its texts: two lengths, line and column.
const FIXED_LEN: usize = 16;

/// Where the standard library's own panics are that it aborts after.
const CORE_PANICKING: &str = "core/src/panicking.rs";

/// Those that come where another one must not unwind further.
const ENDS_OF_OTHERS: [&str; 2] = ["panic in a function that cannot unwind", "panic in a destructor during cleanup"];

thread_local! {
    static LAST: Cell<Option<PanicRecord<String>>> = const { Cell::new(None) };
    static HAS_LAST: Cell<bool> = const { Cell::new(false) };
}
