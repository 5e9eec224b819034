//! A record on its way into the output area.
//!
//! Everything is formatted before the area is touched: that runs code of the program, which may itself print, log, or leave for
//! the host. What a record takes is bounded, whatever the program's values are like.

use std::cell::Cell;
use std::fmt::{self, Display, Write};

use ampoule_abi::codec;
use ampoule_abi::layout::{
    LogField, LogLevel, LogRecord, LogValue, MAX_LOG_FIELDS, MAX_LOG_SPANS, OutputKind, SpanParent, SpanRecord,
    SpanStep,
};
use serde::Serialize;

use crate::rt::counter::counter;
use crate::rt::mailbox::Mailbox;

/// Where a record comes from.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) level: LogLevel,
    pub(super) target: &'a str,
    pub(super) module: &'a str,
    pub(super) file: &'a str,
    pub(super) line: u32,
}

impl Source<'_> {
    /// Logs something about a span, with the names of the spans around it, from the outermost.
    pub(super) fn log(&self, content: &Content, parent: SpanParent, spans: &[&str]) {
        let innermost = &spans[spans.len().saturating_sub(MAX_LOG_SPANS)..];
        let record = LogRecord {
            level: self.level as u32,
            target: cut(self.target, LONGEST_NAME),
            module: cut(self.module, LONGEST_NAME),
            file: cut(self.file, LONGEST_NAME),
            line: self.line,
            message: &content.message,
            fields: content.shared(),
            spans: innermost.iter().map(|name| cut(name, LONGEST_FIELD_NAME)).collect(),
            lost: LOST.get(),
        };
        let is_sent = match knows_spans() {
            true => send(OutputKind::Span, &SpanRecord { time: counter(), step: SpanStep::Log { parent, record } }),
            false => send(OutputKind::Log, &record),
        };
        if is_sent {
            LOST.set(0);
        }
    }
}

/// Whether the host knows of spans.
pub(super) fn knows_spans() -> bool {
    Mailbox::current().is_some_and(Mailbox::knows_spans)
}

/// Puts a record into the output area: whether there was room for it. One that has none is counted, and a later one says so.
pub(super) fn send(kind: OutputKind, record: &impl Serialize) -> bool {
    let Some(area) = Mailbox::current().and_then(Mailbox::output) else { return false };
    let mut bytes = Vec::new();
    let is_sent = codec::encode(record, &mut bytes).is_ok() && area.append_or_wait(kind, &bytes);
    if !is_sent {
        LOST.set(LOST.get().saturating_add(1));
    }
    is_sent
}

/// What a record says.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) message: String,
    pub(super) fields: Vec<Field>,
    /// Bytes that the fields take.
    fields_len: usize,
}

/// A named value of it.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    value: FieldValue,
}

/// The value of a field.
#[derive(Debug)]
pub(super) enum FieldValue {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    Formatted(String),
}

impl Content {
    pub(super) fn set_message(&mut self, message: &dyn Display) {
        self.message = formatted(message, LONGEST_MESSAGE);
    }

    /// Adds a field as it is formatted.
    pub(super) fn add_formatted(&mut self, name: &str, value: &dyn Display) {
        let room = self.room();
        if room > 0 {
            self.add(name, FieldValue::Formatted(formatted(value, room)));
        }
    }

    /// Adds a field that is a text.
    pub(super) fn add_text(&mut self, name: &str, value: &str) {
        let room = self.room();
        if room > 0 {
            self.add(name, FieldValue::Text(formatted(&value, room)));
        }
    }

    /// Adds a field, if there is room for one more.
    pub(super) fn add(&mut self, name: &str, value: FieldValue) {
        if self.room() > 0 {
            let name = cut(name, LONGEST_FIELD_NAME).to_owned();
            self.fields_len += name.len() + value.len();
            self.fields.push(Field { name, value });
        }
    }

    /// The fields as they travel.
    pub(super) fn shared(&self) -> Vec<LogField<'_>> {
        self.fields.iter().map(Field::shared).collect()
    }

    /// Bytes that the value of one more field may have; 0 if there is to be none.
    fn room(&self) -> usize {
        if self.fields.len() < MAX_LOG_FIELDS { LONGEST_FIELDS.saturating_sub(self.fields_len) } else { 0 }
    }
}

impl Field {
    pub(super) fn shared(&self) -> LogField<'_> {
        let value = match &self.value {
            FieldValue::Bool(value) => LogValue::Bool(*value),
            FieldValue::Signed(value) => LogValue::Signed(*value),
            FieldValue::Unsigned(value) => LogValue::Unsigned(*value),
            FieldValue::Float(value) => LogValue::Float(*value),
            FieldValue::Text(text) => LogValue::Text(text),
            FieldValue::Formatted(text) => LogValue::Formatted(text),
        };
        LogField { name: &self.name, value }
    }
}

impl FieldValue {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) | Self::Formatted(text) => text.len(),
            Self::Bool(_) | Self::Signed(_) | Self::Unsigned(_) | Self::Float(_) => 8,
        }
    }
}

/// The text of a value. What exceeds so many bytes is cut off, and [`MARK`] stands for it. A value that fails to be formatted
/// has the text up to there.
fn formatted(value: &dyn Display, most: usize) -> String {
    let mut text = Bounded { text: String::new(), most, is_cut: false };
    let _ = write!(text, "{value}");
    let Bounded { mut text, is_cut, .. } = text;
    if is_cut {
        text.truncate(text.floor_char_boundary(most.saturating_sub(MARK.len())));
        text.push_str(MARK);
    }
    text
}

/// A text that stops growing.
struct Bounded {
    text: String,
    most: usize,
    is_cut: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let fitting = &more[..more.floor_char_boundary(self.most - self.text.len())];
        self.text.push_str(fitting);
        self.is_cut |= fitting.len() < more.len();
        // The rest need not be formatted.
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The beginning of a name.
pub(super) fn cut(name: &str, most: usize) -> &str {
    &name[..name.floor_char_boundary(most)]
}

/// Stands at the end of a text that was cut.
const MARK: &str = "…";

/// The longest message, in bytes. Everything together fits into the output area of a host that has four pages.
const LONGEST_MESSAGE: usize = 4096;

/// The longest names and values of all fields together, in bytes.
const LONGEST_FIELDS: usize = 4096;

/// The longest name of a field or a span, in bytes.
pub(super) const LONGEST_FIELD_NAME: usize = 64;

/// The longest target, module and file, in bytes.
pub(super) const LONGEST_NAME: usize = 255;

thread_local! {
    /// Records that had no room since the last one that had.
    pub(super) static LOST: Cell<u64> = const { Cell::new(0) };
}
