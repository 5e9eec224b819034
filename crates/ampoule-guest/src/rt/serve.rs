//! The life of a guest: find the host, prepare, then answer call after call.

use std::fmt::{self, Display};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::{env, mem, process, ptr};

use ampoule_abi::codec::{self, EncodeError};
use ampoule_abi::layout::{ABI_MAJOR, AT_AMPOULE, GuestMessageKind, INFO_MAGIC, InfoPage, MessageLine};

use super::call::{Call, Return};
use super::held_text::HeldText;
use super::log;
use super::mailbox::{Mailbox, Session};
use super::output;
use super::panics;
use super::record::{Exports, NEEDED_MINOR, Shim};
use super::types;
use crate::restore::Watch;

/// Runs the program as a guest.
///
/// Started as an ordinary process, it says how it is meant to be run and exits with the code 2. If `init` panics, it aborts
/// and leaves the panic to the host.
pub fn run(init: impl FnOnce()) -> ! {
    let Some(page) = info_page() else {
        eprintln!(
            "`{}` is an Ampoule guest: it runs inside a micro-VM; load it from a host application with \
             `ampoule::Image::from_file`",
            program_name()
        );
        process::exit(EXIT_NOT_A_SANDBOX);
    };
    // SAFETY: the host passed the page, and every version has these fields.
    let (major, minor) = unsafe { ((*page).abi_major, (*page).abi_minor) };
    if major != ABI_MAJOR || !(NEEDED_MINOR..).contains(&minor) {
        eprintln!(
            "this guest needs version {ABI_MAJOR}.{NEEDED_MINOR} of the guest ABI and the host has {major}.{minor}: build \
             both with the same version of Ampoule"
        );
        process::exit(EXIT_NOT_A_SANDBOX);
    }
    // SAFETY: the host passed the page, and the mailbox is used by nothing else in this program.
    let unexpected = unsafe { serve(page, init) };
    eprintln!("{unexpected}");
    process::abort()
}

/// Prepares the program and answers calls for as long as the host sends some.
///
/// # Safety
///
/// As for `Mailbox::open`: the page describes a host as `docs/abi.md` defines it.
pub unsafe fn serve(page: *const InfoPage, init: impl FnOnce()) -> UnexpectedMessage {
    let session = Session::new();
    // SAFETY: as the caller promises.
    let mut calls = unsafe { Mailbox::open(page, &session) };
    let mut watch = Watch::start();
    panics::install_hook();
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(init)) {
        panics::leave(calls.mailbox(), &panics::take(&*payload));
        process::abort();
    }
    // The program has had the opportunity to use a logger of its own.
    log::install();
    let exports = Exports::of_this_program();
    let held = HeldText::examine();
    output::flush(&held);
    // SAFETY: the caller promises a page, and every version has this field.
    let mut message = ready(calls.mailbox(), unsafe { (*page).abi_minor });
    loop {
        message = match calls.next(message) {
            Ok(incoming) => answer(&exports, &mut watch, &held, &Call::new(incoming)),
            Err(message) => return UnexpectedMessage { message },
        };
    }
}

/// The message that the program is ready, with the types of its functions if the host looks for them.
///
/// Not inlined: what it needs of the stack would lie between the two parts that every call writes, which so take one page.
#[inline(never)]
fn ready(mailbox: &Mailbox, minor: u32) -> MessageLine {
    let ready = MessageLine { kind: GuestMessageKind::Ready as u32, ..MessageLine::default() };
    let schema = if minor < InfoPage::SCHEMA_MINOR { None } else { types::schema() };
    let (Some(schema), Some(mut outbound)) = (schema, mailbox.outbound()) else { return ready };
    match codec::encode(&schema, &mut outbound) {
        Ok(length) => MessageLine { length: length as u32, ..ready },
        Err(EncodeError::TooLarge { needed, .. }) => MessageLine { needed: needed as u64, ..ready },
        Err(_) => ready,
    }
}

/// The host sent something that is no call when one was due.
#[derive(Debug)]
pub struct UnexpectedMessage {
    message: MessageLine,
}

impl Display for UnexpectedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MessageLine { kind, length, .. } = self.message;
        write!(f, "the host sent no call to its guest, but a message of kind {kind} with {length} bytes")
    }
}

fn answer(exports: &Exports, watch: &mut Watch, held: &HeldText, call: &Call<'_>) -> MessageLine {
    let answer = match exports.find(call.function()) {
        Some(shim) => respond(shim, watch, call),
        None => call.unknown_function(),
    };
    output::flush(held);
    call.message(answer)
}

fn respond<'a>(shim: Shim, watch: &mut Watch, call: &Call<'a>) -> Return<'a> {
    panics::forget();
    let returned = panic::catch_unwind(AssertUnwindSafe(|| {
        watch.settle();
        shim(call).unwrap_or_else(|reason| call.bad_arguments(&reason))
    }));
    returned.unwrap_or_else(|payload| {
        let record = panics::take(&*payload);
        // A payload may be of any type, so its destructor may panic, and so on.
        if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            mem::forget(second);
        }
        // SAFETY: hooks make no `Return`, and the shim has ended without one. One that it had made is leaked if a destructor
        // panicked after it.
        unsafe { call.panicked(&record) }
    })
}

/// The page that the host put in place, if there is one.
fn info_page() -> Option<*const InfoPage> {
    // SAFETY: reads the auxiliary vector.
    let address = unsafe { libc::getauxval(AT_AMPOULE) };
    if address == 0 {
        return None;
    }
    let page = ptr::with_exposed_provenance::<InfoPage>(address as usize);
    // SAFETY: the entry of this type is the address of an info page, or else the program was started by someone who may
    // do with it as he likes anyway.
    let magic = unsafe { (*page).magic };
    (magic == INFO_MAGIC).then_some(page)
}

fn program_name() -> String {
    let path = env::args_os().next().unwrap_or_default();
    Path::new(&path).file_name().unwrap_or(&path).to_string_lossy().into_owned()
}

const EXIT_NOT_A_SANDBOX: i32 = 2;
