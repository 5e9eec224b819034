//! What a panicking guest said.

use std::fmt;

use ampoule_abi::layout::PanicRecord;

use crate::mailbox::{PayloadSource, ProtocolViolation};

/// What a panicking guest said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestPanic {
    /// The panic's message.
    pub message: String,
    /// Source file, as the guest's compiler named it.
    pub file: String,
    /// Line, counted from 1.
    pub line: u32,
    /// Column, counted from 1.
    pub column: u32,
}

impl GuestPanic {
    /// Reads the record that a guest has left.
    pub(crate) fn read(record: PayloadSource<'_>) -> Result<Self, ProtocolViolation> {
        let PanicRecord { message, file, line, column } = record.whole::<PanicRecord<String>>()?;
        Ok(Self { message, file, line, column })
    }
}

impl fmt::Display for GuestPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}:{}:{}", self.message, self.file, self.line, self.column)
    }
}
