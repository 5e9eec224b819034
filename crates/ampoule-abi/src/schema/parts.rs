//! The parts of a value that is made up for a type that is traced.

use serde::de::{DeserializeSeed, MapAccess, SeqAccess};

use super::reader::Reader;
use super::trace::{Stop, Tracer};

/// Elements, fields, or the key and the value of one entry.
pub(super) struct Parts<'a> {
    tracer: &'a mut Tracer,
    place: usize,
    variant: usize,
    next: usize,
    count: usize,
}

impl<'a> Parts<'a> {
    pub(super) fn new(tracer: &'a mut Tracer, place: usize, variant: usize, count: usize) -> Self {
        Self { tracer, place, variant, next: 0, count }
    }

    /// How many were taken.
    pub(super) fn taken(&self) -> usize {
        self.next
    }

    /// Reads one, and notes its type even when it is not read to its end.
    pub(super) fn part<'de, T: DeserializeSeed<'de>>(&mut self, part: usize, seed: T) -> Result<T::Value, Stop> {
        let edge = (self.place, self.variant, part);
        let mut found = None;
        let value = seed.deserialize(Reader::new(self.tracer, &mut found, edge));
        self.tracer.link(edge, found);
        value
    }

    fn next<'de, T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        if self.next == self.count {
            return Ok(None);
        }
        self.next += 1;
        self.part(self.next - 1, seed).map(Some)
    }
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        self.next(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.count - self.next)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        self.next(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        self.next += 1;
        self.part(1, seed)
    }
}
