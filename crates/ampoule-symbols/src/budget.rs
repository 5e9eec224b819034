//! Readers that count: whatever a section says, reading it comes to an end.
//!
//! Debug information can refer to itself, and a few bytes of it can ask for the same work again and again. So every read
//! takes something from a [`Budget`], and when that is used up, every read fails.

use std::borrow::Cow;
use std::cell::Cell;

use gimli::{EndianSlice, Error, LittleEndian, Reader, ReaderOffsetId, Result};

/// What may still be read.
#[derive(Debug)]
pub(super) struct Budget(Cell<u64>);

impl Budget {
    pub(super) fn new(steps: u64) -> Self {
        Self(Cell::new(steps))
    }

    /// Whether all of it is gone, so that something was not read.
    pub(super) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    /// Takes `steps` from the budget.
    ///
    /// # Errors
    ///
    /// When they are more than is left. Then nothing is left.
    pub(super) fn spend(&self, steps: usize) -> Result<()> {
        let left = self.0.get().checked_sub(steps as u64);
        self.0.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(Error::UnexpectedEof(ReaderOffsetId(0)))
    }
}

/// A section, or a part of one, each read of which costs a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metered<'a> {
    bytes: EndianSlice<'a, LittleEndian>,
    budget: &'a Budget,
}

impl<'a> Metered<'a> {
    pub(super) fn new(bytes: &'a [u8], budget: &'a Budget) -> Self {
        Self { bytes: EndianSlice::new(bytes, LittleEndian), budget }
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes.slice()
    }
}

impl Reader for Metered<'_> {
    type Endian = LittleEndian;
    type Offset = usize;

    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    fn len(&self) -> usize {
        self.bytes.slice().len()
    }

    fn empty(&mut self) {
        self.bytes.empty();
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.budget.spend(1)?;
        self.bytes.truncate(len)
    }

    fn offset_from(&self, base: &Self) -> usize {
        self.bytes.offset_from(base.bytes)
    }

    fn offset_id(&self) -> ReaderOffsetId {
        self.bytes.offset_id()
    }

    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        self.bytes.lookup_offset_id(id)
    }

    fn find(&self, byte: u8) -> Result<usize> {
        let within = &self.bytes()[..self.len().min(MAX_STRING)];
        let found = within.iter().position(|&candidate| candidate == byte);
        self.budget.spend(1 + found.unwrap_or(within.len()) / BYTES_PER_STEP)?;
        found.ok_or(Error::UnexpectedEof(self.offset_id()))
    }

    fn skip(&mut self, len: usize) -> Result<()> {
        self.budget.spend(1)?;
        self.bytes.skip(len)
    }

    fn split(&mut self, len: usize) -> Result<Self> {
        self.budget.spend(1)?;
        Ok(Self { bytes: self.bytes.split(len)?, budget: self.budget })
    }

    fn to_slice(&self) -> Result<Cow<'_, [u8]>> {
        Ok(self.bytes().into())
    }

    fn to_string(&self) -> Result<Cow<'_, str>> {
        self.budget.spend(1 + self.len() / BYTES_PER_STEP)?;
        str::from_utf8(self.bytes()).map(Cow::from).map_err(|_| Error::BadUtf8)
    }

    fn to_string_lossy(&self) -> Result<Cow<'_, str>> {
        self.budget.spend(1 + self.len() / BYTES_PER_STEP)?;
        Ok(String::from_utf8_lossy(self.bytes()))
    }

    fn read_slice(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.budget.spend(1)?;
        Reader::read_slice(&mut self.bytes, buffer)
    }
}

/// The longest string in a section, in bytes. Names of generic functions have some thousands.
const MAX_STRING: usize = 1 << 16;

/// Bytes of a string that are looked at in about the time of one read.
const BYTES_PER_STEP: usize = 8;
