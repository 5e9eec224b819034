//! Log records: what a guest's program logs, as it travels in the output area.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::message::wire_enum;

wire_enum! {
    /// How much a log record matters. A level wants the records of its own number and of all lower ones; 0 wants none.
    LogLevel {
        /// Something has failed.
        Error = 1,
        /// Something may be wrong.
        Warn = 2,
        /// Something worth knowing has happened.
        Info = 3,
        /// Something that helps to find an error.
        Debug = 4,
        /// Every step.
        Trace = 5,
    }
}

/// The content of a record of the output area that is a log record ([`OutputKind::Log`](super::OutputKind::Log)).
///
/// A text that is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogRecord<'a> {
    /// A [`LogLevel`]. A plain number here: what a guest wrote is not to be trusted before it is converted.
    pub level: u32,
    /// What the record is about, by default the module.
    pub target: &'a str,
    /// The path of the module.
    pub module: &'a str,
    /// Source file, as the guest's compiler named it.
    pub file: &'a str,
    /// Line, counted from 1; 0 where it is not known.
    pub line: u32,
    /// The text.
    pub message: &'a str,
    /// What else it says, at most [`MAX_LOG_FIELDS`].
    #[serde(borrow)]
    pub fields: Vec<LogField<'a>>,
    /// The names of the spans in which it was made, from the outermost, at most [`MAX_LOG_SPANS`].
    pub spans: Vec<&'a str>,
    /// How many records before it the guest could not place.
    pub lost: u64,
}

/// A named value of a log record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogField<'a> {
    /// The name.
    pub name: &'a str,
    /// The value.
    #[serde(borrow)]
    pub value: LogValue<'a>,
}

/// The value of a [`LogField`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LogValue<'a> {
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Signed(i64),
    /// An unsigned integer.
    Unsigned(u64),
    /// A floating-point number.
    Float(f64),
    /// A string.
    Text(&'a str),
    /// Any other value, as it is formatted.
    Formatted(&'a str),
}

/// The most fields that a log record has.
pub const MAX_LOG_FIELDS: usize = 24;

/// The most spans that a log record has.
pub const MAX_LOG_SPANS: usize = 16;

/// Where the greatest level that the host asks for stands in the status of a call: from this bit on, [`LOG_LEVEL_MASK`] wide.
pub const LOG_LEVEL_SHIFT: u32 = 8;

/// The bits of a level.
pub const LOG_LEVEL_MASK: u32 = 7;

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::codec;

    #[test]
    fn a_record_survives_the_way_through_its_encoding() {
        let record = LogRecord {
            level: LogLevel::Warn as u32,
            target: "shop::orders",
            module: "shop::orders::check",
            file: "src/orders.rs",
            line: 17,
            message: "out of stock",
            fields: vec![
                LogField { name: "item", value: LogValue::Text("lamp") },
                LogField { name: "left", value: LogValue::Signed(-1) },
                LogField { name: "price", value: LogValue::Float(2.5) },
            ],
            spans: vec!["order", "check"],
            lost: 3,
        };
        let mut bytes = Vec::new();
        codec::encode(&record, &mut bytes).unwrap();
        assert_eq!(codec::decode::<LogRecord<'_>>(&bytes[..]).unwrap(), record);
    }

    #[test]
    fn an_empty_record_has_the_documented_size() {
        let mut bytes = Vec::new();
        assert_eq!(codec::encode(&LogRecord::default(), &mut bytes), Ok(40));
        assert!(LogLevel::Trace as u32 <= LOG_LEVEL_MASK);
    }

    #[test]
    fn levels_without_a_meaning_are_refused() {
        assert_eq!(LogLevel::from_u32(5), Some(LogLevel::Trace));
        assert_eq!((LogLevel::from_u32(0), LogLevel::from_u32(6)), (None, None));
    }
}
