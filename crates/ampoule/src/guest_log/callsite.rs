//! Callsites for places in the sources of guests.
//!
//! `tracing` asks each subscriber once what it wants of a callsite, and keeps callsites for ever. They are made here when a
//! record first comes from a place, are shared by all sandboxes, and never freed. A hostile guest names any number of places:
//! so the process makes at most [`MOST`] callsites, of which one sandbox causes at most [`MOST_OF_SANDBOX`], and none for a
//! place with long names. Records from all other places share a callsite for each level, and say the place in fields.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use ampoule_abi::codec::encode;
use ampoule_abi::layout::{LogLevel, LogRecord, MAX_LOG_FIELDS, OpenedSpan};
use ampoule_abi::text::printable_name;
use tracing::Value;
use tracing::field::{Field, FieldSet, ValueSet};
use tracing::subscriber::Interest;
use tracing_core::callsite::{Callsite, Identifier, register};
use tracing_core::{Kind, Metadata, dispatcher};

use super::{TARGET, level};

/// What the records of one callsite have in common.
#[derive(Debug)]
pub(super) struct Place<'record> {
    /// The name of the span that begins here; none where something is logged.
    span: Option<&'record str>,
    level: LogLevel,
    target: &'record str,
    module: &'record str,
    file: &'record str,
    line: u32,
    fields: Vec<&'record str>,
}

impl<'record> Place<'record> {
    pub(super) fn of(level: LogLevel, record: &LogRecord<'record>) -> Self {
        let LogRecord { target, module, file, line, ref fields, .. } = *record;
        let fields = fields.iter().map(|field| field.name).collect();
        Self { span: None, level, target, module, file, line, fields }
    }

    pub(super) fn of_span(level: LogLevel, opened: &OpenedSpan<'record>) -> Self {
        let OpenedSpan { name, target, module, file, line, ref fields, .. } = *opened;
        let fields = fields.iter().map(|field| field.name).collect();
        Self { span: Some(name), level, target, module, file, line, fields }
    }

    /// Tells this place from all others, if it is short enough for a callsite of its own.
    fn key(&self) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        let Self { span, target, module, file, line, ref fields, .. } = *self;
        encode(&(span, self.level as u32, target, module, file, line, fields), &mut key).ok()?;
        (key.len() <= LONGEST_KEY).then_some(key)
    }
}

/// The callsites of the places from which one sandbox has logged.
#[derive(Debug, Default)]
pub(super) struct Callsites(BTreeMap<Vec<u8>, &'static GuestCallsite>);

impl Callsites {
    /// The callsite of a place, if it has one of its own. Only the first time does this take a lock.
    pub(super) fn of(&mut self, place: &Place<'_>) -> Option<&'static GuestCallsite> {
        let key = place.key()?;
        if let Some(callsite) = self.0.get(&key) {
            return Some(callsite);
        }
        if self.0.len() == MOST_OF_SANDBOX {
            return None;
        }
        let callsite = of_process(&key, place)?;
        self.0.insert(key, callsite);
        Some(callsite)
    }
}

/// The callsite of a place, for all sandboxes.
fn of_process(key: &[u8], place: &Place<'_>) -> Option<&'static GuestCallsite> {
    static MADE: Mutex<BTreeMap<Vec<u8>, &'static GuestCallsite>> = Mutex::new(BTreeMap::new());
    // A child that is forked while another thread is here waits for ever, as in `tracing`, which has a lock of its own for the
    // registration of a callsite.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(callsite) = made.get(key) {
        return Some(callsite);
    }
    if made.len() == MOST {
        return None;
    }
    let callsite = GuestCallsite::leak(place);
    made.insert(key.to_vec(), callsite);
    drop(made);
    // A subscriber may do anything when it is asked, so the lock is free by now. Until it has answered, it is asked for each
    // event.
    register(callsite);
    Some(callsite)
}

/// A place in a guest's source, as `tracing` knows it.
pub(super) struct GuestCallsite {
    interest: AtomicU8,
    /// Refers to the callsite, and so is made after it.
    description: OnceLock<(Metadata<'static>, Vec<Field>)>,
}

impl GuestCallsite {
    fn leak(place: &Place<'_>) -> &'static Self {
        let callsite: &Self =
            Box::leak(Box::new(Self { interest: AtomicU8::new(SOMETIMES), description: OnceLock::new() }));
        callsite.description.get_or_init(|| {
            let &Place { span, target, module, file, line, .. } = place;
            let target = if target.is_empty() { TARGET.to_owned() } else { format!("{TARGET}::{target}") };
            let own = place.fields.iter().map(|name| leaked(&field_name(name)));
            let names: Vec<&'static str> = match span {
                None => [MESSAGE].into_iter().chain(own).chain(HOST_FIELDS).collect(),
                Some(_) => own.chain(SPAN_FIELDS).collect(),
            };
            let fields = FieldSet::new(Vec::leak(names), Identifier(callsite));
            let known = |text: &str| (!text.is_empty()).then(|| leaked(text));
            let (name, kind) = match span {
                None => (format!("event {file}:{line}"), Kind::EVENT),
                Some(span) => (span.to_owned(), Kind::SPAN),
            };
            let metadata = Metadata::new(
                leaked(&name),
                leaked(&target),
                level(place.level),
                known(file),
                (line > 0).then_some(line),
                known(module),
                fields,
                kind,
            );
            let fields = metadata.fields().iter().collect();
            (metadata, fields)
        });
        callsite
    }

    /// Whether a subscriber wants the event that is due.
    pub(super) fn is_wanted(&'static self) -> bool {
        match self.interest.load(Ordering::Relaxed) {
            NEVER => false,
            ALWAYS => true,
            _ => dispatcher::get_default(|subscriber| subscriber.enabled(self.described())),
        }
    }

    pub(super) fn described(&self) -> &Metadata<'static> {
        &self.description().0
    }

    /// Does something with values for the fields: of an event its message, the fields of the place's records in order, and
    /// behind them [`HOST_FIELDS`]; of a span its fields in order, and behind them [`SPAN_FIELDS`].
    pub(super) fn with_values<'value, R>(
        &self,
        values: impl Iterator<Item = Option<&'value dyn Value>>,
        action: impl FnOnce(&ValueSet<'_>) -> R,
    ) -> R {
        let (metadata, fields) = self.description();
        // Those that are left over have no value, which is no entry.
        let mut entries = [(&fields[0], None); MOST_FIELDS];
        for (entry, given) in entries.iter_mut().zip(fields.iter().zip(values)) {
            *entry = given;
        }
        action(&metadata.fields().value_set(&entries))
    }

    fn description(&self) -> &(Metadata<'static>, Vec<Field>) {
        self.description.get().expect("a callsite is given to nobody before it has its description")
    }
}

impl Callsite for GuestCallsite {
    fn set_interest(&self, interest: Interest) {
        let interest = if interest.is_never() {
            NEVER
        } else if interest.is_always() {
            ALWAYS
        } else {
            SOMETIMES
        };
        self.interest.store(interest, Ordering::Relaxed);
    }

    fn metadata(&self) -> &Metadata<'_> {
        self.described()
    }
}

impl fmt::Debug for GuestCallsite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestCallsite").field("target", &self.described().target()).finish_non_exhaustive()
    }
}

/// The name of a guest's field as the log has it. None is taken for one of the host's.
pub(super) fn field_name(name: &str) -> String {
    let name = printable_name(name);
    let name = name.to_string();
    if name == MESSAGE || HOST_FIELDS.contains(&name.as_str()) || name.starts_with("guest.") {
        format!("guest.{name}")
    } else {
        name
    }
}

/// The text, printable and for ever.
fn leaked(text: &str) -> &'static str {
    printable_name(text).to_string().leak()
}

/// The field with a record's text, before all others, as `tracing`'s macros have it.
const MESSAGE: &str = "message";

/// The fields that every event has behind those of the guest.
pub(super) const HOST_FIELDS: [&str; 4] = ["spans", "image", "sandbox", "function"];

/// The fields that every span has behind those of the guest: when it began and when it ended, in nanoseconds since 1970, and
/// whether the guest had no part in the latter; and those that say who has made it, of a span that is in no other.
pub(super) const SPAN_FIELDS: [&str; 6] =
    ["guest.start_ns", "guest.end_ns", "guest.unfinished", "image", "sandbox", "function"];

/// The most fields of a callsite. `tracing` has a limit of 32.
const MOST_FIELDS: usize = MAX_LOG_FIELDS + SPAN_FIELDS.len();

const _: () = assert!(1 + MAX_LOG_FIELDS + HOST_FIELDS.len() <= MOST_FIELDS && MOST_FIELDS <= 32);

/// How many callsites there are for all guests. With all that belongs to them they take some megabytes at most.
pub(super) const MOST: usize = 2048;

/// How many of them one sandbox uses, in all its calls.
pub(super) const MOST_OF_SANDBOX: usize = 256;

/// The longest texts of a place that has a callsite, in bytes together. Paths and names are much shorter.
const LONGEST_KEY: usize = 1024;

const NEVER: u8 = 0;
const SOMETIMES: u8 = 1;
const ALWAYS: u8 = 2;
