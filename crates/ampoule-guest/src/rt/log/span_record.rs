//! A record of what becomes of a span.

use ampoule_abi::layout::{
    LogValue, MAX_LOG_FIELDS, OpenedSpan, OutputKind, SpanField, SpanParent, SpanRecord, SpanStep,
};

use super::record::{Content, LONGEST_FIELD_NAME, LONGEST_NAME, LOST, Source, cut, knows_spans, send};
use crate::rt::counter::counter;

impl Source<'_> {
    /// Begins a span, whose fields have these names: whether the host will know it.
    pub(super) fn open(
        &self,
        (span, parent): (u64, SpanParent),
        name: &str,
        fields: impl Iterator<Item = &'static str>,
        content: &Content,
    ) -> bool {
        let opened = OpenedSpan {
            span,
            parent,
            level: self.level as u32,
            name: cut(name, LONGEST_NAME),
            target: cut(self.target, LONGEST_NAME),
            module: cut(self.module, LONGEST_NAME),
            file: cut(self.file, LONGEST_NAME),
            line: self.line,
            fields: fields.take(MAX_LOG_FIELDS).map(|name| content.field(name)).collect(),
            lost: LOST.get(),
        };
        let is_sent = step(SpanStep::Open(opened));
        if is_sent {
            LOST.set(0);
        }
        is_sent
    }
}

/// Puts what becomes of a span into the output area, if the host knows of spans: whether there was room for it.
pub(super) fn step(step: SpanStep<'_>) -> bool {
    knows_spans() && send(OutputKind::Span, &SpanRecord { time: counter(), step })
}

impl Content {
    /// The field of this name, with its value if it has one. A span's may be called what the text of a record is.
    fn field<'a>(&'a self, name: &'a str) -> SpanField<'a> {
        let name = cut(name, LONGEST_FIELD_NAME);
        let value = match name {
            MESSAGE => (!self.message.is_empty()).then_some(LogValue::Formatted(&self.message)),
            _ => self.fields.iter().find(|field| field.name == name).map(|field| field.shared().value),
        };
        SpanField { name, value }
    }
}

/// The name of the field that `tracing`'s macros put the text into.
pub(super) const MESSAGE: &str = "message";
