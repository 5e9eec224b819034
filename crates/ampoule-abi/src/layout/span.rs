//! Span records: what becomes of the spans of a guest's program and what it logs in them, each with its time, as they travel
//! in the output area.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{LogField, LogRecord, LogValue};

/// The content of a record of the output area that is a span record ([`OutputKind::Span`](super::OutputKind::Span)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpanRecord<'a> {
    /// When it happened: what the processor's counter showed (`rdtsc`).
    pub time: u64,
    /// What happened.
    #[serde(borrow)]
    pub step: SpanStep<'a>,
}

/// What becomes of a span. A span is named by a number that no other has, as long as the program runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SpanStep<'a> {
    /// A span begins.
    Open(#[serde(borrow)] OpenedSpan<'a>),
    /// The program goes on in this span.
    Enter(u64),
    /// It leaves the span, which need not be the one that was entered last.
    Exit(u64),
    /// Fields of a span get values, at most [`MAX_LOG_FIELDS`](super::MAX_LOG_FIELDS).
    Record {
        /// The span.
        span: u64,
        /// The fields, which it has [from the beginning](OpenedSpan::fields).
        fields: Vec<LogField<'a>>,
    },
    /// The span ends, and so have all spans in it.
    Close(u64),
    /// Something is logged.
    Log {
        /// The span that it is about.
        parent: SpanParent,
        /// What is logged.
        record: LogRecord<'a>,
    },
}

/// A span at its beginning.
///
/// A text that is not known is empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenedSpan<'a> {
    /// The span's number.
    pub span: u64,
    /// The span that it is a part of.
    pub parent: SpanParent,
    /// A [`LogLevel`](super::LogLevel). A plain number here: what a guest wrote is not to be trusted before it is converted.
    pub level: u32,
    /// What the program calls it.
    pub name: &'a str,
    /// What it is about, by default the module.
    pub target: &'a str,
    /// The path of the module.
    pub module: &'a str,
    /// Source file, as the guest's compiler named it.
    pub file: &'a str,
    /// Line, counted from 1; 0 where it is not known.
    pub line: u32,
    /// The fields that it has or will have, at most [`MAX_LOG_FIELDS`](super::MAX_LOG_FIELDS).
    #[serde(borrow)]
    pub fields: Vec<SpanField<'a>>,
    /// How many records before it the guest could not place.
    pub lost: u64,
}

/// A field of a span, which may get its value later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpanField<'a> {
    /// The name.
    pub name: &'a str,
    /// The value, if it has one by now.
    #[serde(borrow)]
    pub value: Option<LogValue<'a>>,
}

/// What a span is a part of, or a log record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpanParent {
    /// The span in which the program is, if it is in any.
    Current,
    /// No span of the program.
    Outside,
    /// This span.
    Span(u64),
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::codec;

    #[test]
    fn every_step_survives_the_way_through_its_encoding() {
        let opened = OpenedSpan {
            span: 7,
            parent: SpanParent::Span(3),
            level: 3,
            name: "check",
            target: "shop::orders",
            module: "shop::orders",
            file: "src/orders.rs",
            line: 17,
            fields: vec![
                SpanField { name: "item", value: Some(LogValue::Text("lamp")) },
                SpanField { name: "left", value: None },
            ],
            lost: 1,
        };
        let fields = vec![LogField { name: "left", value: LogValue::Signed(-1) }];
        let steps = [
            SpanStep::Open(opened),
            SpanStep::Enter(7),
            SpanStep::Exit(7),
            SpanStep::Record { span: 7, fields },
            SpanStep::Close(7),
            SpanStep::Log { parent: SpanParent::Current, record: LogRecord::default() },
            SpanStep::Log { parent: SpanParent::Outside, record: LogRecord::default() },
        ];
        for (index, step) in steps.into_iter().enumerate() {
            let record = SpanRecord { time: 1 << 40, step };
            let mut bytes = Vec::new();
            codec::encode(&record, &mut bytes).unwrap();
            assert_eq!(usize::from(bytes[8]), index.min(5), "the documented number");
            assert_eq!(codec::decode::<SpanRecord<'_>>(&bytes[..]).unwrap(), record);
        }
    }

    #[test]
    fn the_step_into_a_span_has_the_documented_size() {
        let mut bytes = Vec::new();
        assert_eq!(codec::encode(&SpanRecord { time: 1, step: SpanStep::Enter(2) }, &mut bytes), Ok(20));
    }
}
