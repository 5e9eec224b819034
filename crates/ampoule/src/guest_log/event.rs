//! A log record as an event.

use std::fmt::{self, Display, Write};

use ampoule_abi::layout::{LogField, LogLevel, LogRecord, LogValue, SpanField};
use ampoule_abi::text::{printable_line, printable_name};
use tracing::field::{DisplayValue, display};
use tracing::span::Id;
use tracing::{Dispatch, Event, Level, Span, Value, dispatcher};

use super::callsite::{GuestCallsite, HOST_FIELDS};
use super::level;
use crate::output::Origin;

/// Which span of the log something is a part of.
#[derive(Clone, Debug)]
pub(super) enum Parent {
    /// The one that this thread is in, if it is in any.
    Current,
    /// This one.
    Span(Span),
}

impl Parent {
    /// Does something with the parent's number, for its subscriber. That of this thread may be another one by now, and knows
    /// no spans but its own.
    pub(super) fn with<R>(&self, action: impl FnOnce(Option<Id>) -> R) -> R {
        match self {
            Self::Current => action(Span::current().id()),
            Self::Span(span) => with_subscriber(span, |known| action(known.map(|(id, _)| id.clone()))),
        }
    }
}

/// Does something with a span, for its subscriber, if it has one.
pub(super) fn with_subscriber<R>(span: &Span, action: impl FnOnce(Option<(&Id, &Dispatch)>) -> R) -> R {
    match span.with_subscriber(|(id, subscriber)| (id.clone(), subscriber.clone())) {
        Some((id, subscriber)) => dispatcher::with_default(&subscriber, || action(Some((&id, &subscriber)))),
        None => action(None),
    }
}

/// Where in the log an event belongs.
#[derive(Debug)]
pub(super) struct Within {
    /// The span that it is about.
    pub(super) parent: Parent,
    /// Whether that is the guest's, so that its name need not be said.
    pub(super) has_span: bool,
}

impl Within {
    /// In what this thread is in, which is no span of the guest's.
    pub(super) fn host() -> Self {
        Self { parent: Parent::Current, has_span: false }
    }
}

/// Logs a record with the callsite of its place.
pub(super) fn log(callsite: &'static GuestCallsite, origin: &Origin, within: Within, record: &LogRecord<'_>) {
    if !callsite.is_wanted() {
        return;
    }
    let guests: Vec<Given> = record.fields.iter().map(|field| Given::new(&field.value)).collect();
    let message = display(printable_line(record.message));
    let spans = display(Spans(&record.spans));
    let (image, sandbox, function) = (display(origin.image()), display(origin.sandbox()), origin.function());
    // In the order of `HOST_FIELDS`.
    let hosts: [Option<&dyn Value>; HOST_FIELDS.len()] = [
        within.names(record).map(|_| &spans as &dyn Value),
        Some(&image),
        Some(&sandbox),
        function.as_ref().map(|function| function as &dyn Value),
    ];
    let message = (!record.message.is_empty()).then_some(&message as &dyn Value);
    let values = [message].into_iter().chain(guests.iter().map(|given| Some(given.value()))).chain(hosts);
    let metadata = callsite.described();
    callsite.with_values(values, |values| match &within.parent {
        Parent::Current => Event::dispatch(metadata, values),
        parent => parent.with(|id| Event::child_of(id, metadata, values)),
    });
}

/// Logs a record whose place has no callsite of its own.
pub(super) fn log_without_callsite(origin: &Origin, number: LogLevel, within: Within, record: &LogRecord<'_>) {
    within.parent.with(|parent| {
        macro_rules! log {
            ($level:expr) => {
                tracing::event!(
                    target: "ampoule::guest",
                    parent: parent.clone(),
                    $level,
                    guest.target = %printable_name(record.target),
                    guest.module = %printable_name(record.module),
                    guest.file = %printable_name(record.file),
                    guest.line = record.line,
                    guest.fields = %Fields(&record.fields),
                    spans = within.names(record).map(|names| display(Spans(names))),
                    image = %origin.image(),
                    sandbox = %origin.sandbox(),
                    function = origin.function(),
                    "{}",
                    printable_line(record.message)
                )
            };
        }
        match level(number) {
            Level::ERROR => log!(Level::ERROR),
            Level::WARN => log!(Level::WARN),
            Level::INFO => log!(Level::INFO),
            Level::DEBUG => log!(Level::DEBUG),
            Level::TRACE => log!(Level::TRACE),
        }
    });
}

impl Within {
    /// The names of the spans around a record, where the log does not show them.
    fn names<'record>(&self, record: &'record LogRecord<'record>) -> Option<&'record [&'record str]> {
        (!self.has_span && !record.spans.is_empty()).then_some(&record.spans)
    }
}

/// The value of a guest's field, printable.
pub(super) enum Given {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    Formatted(DisplayValue<String>),
}

impl Given {
    pub(super) fn new(value: &LogValue<'_>) -> Self {
        match *value {
            LogValue::Bool(value) => Self::Bool(value),
            LogValue::Signed(value) => Self::Signed(value),
            LogValue::Unsigned(value) => Self::Unsigned(value),
            LogValue::Float(value) => Self::Float(value),
            LogValue::Text(text) => Self::Text(printable_line(text).to_string()),
            LogValue::Formatted(text) => Self::Formatted(display(printable_line(text).to_string())),
        }
    }

    pub(super) fn value(&self) -> &dyn Value {
        match self {
            Self::Bool(value) => value,
            Self::Signed(value) => value,
            Self::Unsigned(value) => value,
            Self::Float(value) => value,
            Self::Text(value) => value,
            Self::Formatted(value) => value,
        }
    }
}

/// The names of spans, from the outermost.
struct Spans<'record>(&'record [&'record str]);

impl Display for Spans<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_char(':')?;
            }
            printable_name(name).fmt(f)?;
        }
        Ok(())
    }
}

/// All fields of a record in one text.
struct Fields<'record>(&'record [LogField<'record>]);

impl Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, field) in self.0.iter().enumerate() {
            write_field(f, index, field.name, &field.value)?;
        }
        Ok(())
    }
}

/// All fields that a span has at its beginning in one text.
pub(super) struct SpanFields<'record>(pub(super) &'record [SpanField<'record>]);

impl Display for SpanFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.0.iter().filter_map(|field| Some((field.name, field.value.as_ref()?)));
        for (index, (name, value)) in given.enumerate() {
            write_field(f, index, name, value)?;
        }
        Ok(())
    }
}

fn write_field(f: &mut fmt::Formatter<'_>, index: usize, name: &str, value: &LogValue<'_>) -> fmt::Result {
    if index > 0 {
        f.write_char(' ')?;
    }
    write!(f, "{}=", printable_name(name))?;
    match value {
        LogValue::Bool(value) => write!(f, "{value}"),
        LogValue::Signed(value) => write!(f, "{value}"),
        LogValue::Unsigned(value) => write!(f, "{value}"),
        LogValue::Float(value) => write!(f, "{value}"),
        LogValue::Text(text) => write!(f, "{:?}", printable_line(text).to_string()),
        LogValue::Formatted(text) => write!(f, "{}", printable_line(text)),
    }
}
