//! A log record as an event.

use std::fmt::{self, Display, Write};

use ampoule_abi::layout::{LogLevel, LogRecord, LogValue, MAX_LOG_FIELDS};
use ampoule_abi::text::{printable_line, printable_name};
use tracing::field::{DisplayValue, display};
use tracing::{Event, Level, Value};

use super::callsite::{GuestCallsite, HOST_FIELDS};
use super::level;
use crate::output::Origin;

/// Logs a record with the callsite of its place.
pub(super) fn log(callsite: &'static GuestCallsite, origin: &Origin, record: &LogRecord<'_>) {
    if !callsite.is_wanted() {
        return;
    }
    let guests: Vec<Given> = record.fields.iter().map(|field| Given::new(&field.value)).collect();
    let message = display(printable_line(record.message));
    let spans = display(Spans(&record.spans));
    let (image, sandbox, function) = (display(origin.image()), display(origin.sandbox()), origin.function());
    // In the order of `HOST_FIELDS`.
    let hosts: [Option<&dyn Value>; HOST_FIELDS.len()] = [
        (!record.spans.is_empty()).then_some(&spans),
        Some(&image),
        Some(&sandbox),
        function.as_ref().map(|function| function as &dyn Value),
    ];
    let message = (!record.message.is_empty()).then_some(&message as &dyn Value);
    let values = [message].into_iter().chain(guests.iter().map(|given| Some(given.value()))).chain(hosts);
    let fields = callsite.fields();
    // Those that are left over have no value, which is no entry.
    let mut entries = [(&fields[0], None); 1 + MAX_LOG_FIELDS + HOST_FIELDS.len()];
    for (entry, given) in entries.iter_mut().zip(fields.iter().zip(values)) {
        *entry = given;
    }
    let metadata = callsite.described();
    Event::dispatch(metadata, &metadata.fields().value_set(&entries));
}

/// Logs a record whose place has no callsite of its own.
pub(super) fn log_without_callsite(origin: &Origin, number: LogLevel, record: &LogRecord<'_>) {
    macro_rules! log {
        ($level:expr) => {
            tracing::event!(
                target: "ampoule::guest",
                $level,
                guest.target = %printable_name(record.target),
                guest.module = %printable_name(record.module),
                guest.file = %printable_name(record.file),
                guest.line = record.line,
                guest.fields = %Fields(record),
                spans = %Spans(&record.spans),
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
}

/// The value of a guest's field, printable.
enum Given {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    Formatted(DisplayValue<String>),
}

impl Given {
    fn new(value: &LogValue<'_>) -> Self {
        match *value {
            LogValue::Bool(value) => Self::Bool(value),
            LogValue::Signed(value) => Self::Signed(value),
            LogValue::Unsigned(value) => Self::Unsigned(value),
            LogValue::Float(value) => Self::Float(value),
            LogValue::Text(text) => Self::Text(printable_line(text).to_string()),
            LogValue::Formatted(text) => Self::Formatted(display(printable_line(text).to_string())),
        }
    }

    fn value(&self) -> &dyn Value {
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
struct Fields<'record>(&'record LogRecord<'record>);

impl Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, field) in self.0.fields.iter().enumerate() {
            if index > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{}=", printable_name(field.name))?;
            match field.value {
                LogValue::Bool(value) => write!(f, "{value}")?,
                LogValue::Signed(value) => write!(f, "{value}")?,
                LogValue::Unsigned(value) => write!(f, "{value}")?,
                LogValue::Float(value) => write!(f, "{value}")?,
                LogValue::Text(text) => write!(f, "{:?}", printable_line(text).to_string())?,
                LogValue::Formatted(text) => write!(f, "{}", printable_line(text))?,
            }
        }
        Ok(())
    }
}
