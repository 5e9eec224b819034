//! Compares the values that the host writes with the type that the guest reads.
//!
//! Of a type that can only be written, a value shows the variants and options that it has, and no others. So a type has to
//! be looked at until all that the guest knows of was seen; until then each value is walked through before it is written,
//! but for the parts whose types were seen as a whole.

mod parts;
mod value;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::any::TypeId;
use core::fmt::{self, Display};

use serde::de::DeserializeOwned;
use serde::{Serialize, ser};

use super::path::{Difference, Step, path};
use super::{Coverage, DataType, Tracer, difference};
use crate::codec::MAX_DEPTH;
use value::Value;

/// Looks at the values that stand side by side, such as the arguments of a call.
#[derive(Debug)]
pub struct Checker<'a> {
    types: &'a [DataType],
    coverage: &'a mut Coverage,
    /// The types around the value that is looked at, and the value's own.
    path: Vec<(u32, Step)>,
    /// The places of the values so far, but for those without parts.
    roots: Vec<usize>,
}

impl<'a> Checker<'a> {
    /// Begins with the first of the values. `coverage` is what was seen of the same types before.
    pub fn new(types: &'a [DataType], coverage: &'a mut Coverage) -> Self {
        Self { types, coverage, path: Vec::new(), roots: Vec::new() }
    }

    /// Looks at the next value, which the guest reads as this type.
    ///
    /// A value that its `Serialize` cannot write passes: the encoder reports it.
    ///
    /// # Errors
    ///
    /// Where the value is not of the type.
    ///
    /// # Panics
    ///
    /// Where there is no such type.
    pub fn value<T: Serialize + ?Sized>(&mut self, data_type: u32, value: &T) -> Result<(), Difference> {
        self.path.clear();
        match self.part(None, data_type, Step::Root, value) {
            Err(Stop::Differs(difference)) => Err(*difference),
            Err(Stop::NotWritten) | Ok(()) => Ok(()),
        }
    }

    /// Compares the type that the guest reads with all that there can be of one that the host reads and writes.
    ///
    /// # Errors
    ///
    /// Where they differ.
    ///
    /// # Panics
    ///
    /// Where there is no such type.
    pub fn type_of<T: DeserializeOwned>(&mut self, data_type: u32) -> Result<(), Difference> {
        let mut tracer = Tracer::new();
        let root = tracer.trace::<T>();
        difference((self.types, data_type), (&tracer.finish(), root)).map_or(Ok(()), Err)
    }

    /// Ends: all values were looked at, and are of their types.
    pub fn finish(self) {
        self.coverage.find_done();
        self.coverage.is_complete = self.roots.iter().all(|place| self.coverage.seen[*place].is_done);
    }

    /// Looks at a part of a value, unless it was seen as a whole. `within` is the place of what it is a part of.
    fn part<T: Serialize + ?Sized>(
        &mut self,
        within: Option<usize>,
        data_type: u32,
        step: Step,
        value: &T,
    ) -> Result<(), Stop> {
        let is = &self.types[data_type as usize];
        if matches!(is, DataType::Unknown | DataType::Untransferable) {
            return Ok(());
        }
        let mut place = None;
        if is.has_parts() {
            let at = self.coverage.place(self.types, data_type, typeid::of::<T>());
            place = Some(at);
            match within {
                Some(within) => self.coverage.add_part(within, at),
                None => self.roots.push(at),
            }
            if self.coverage.seen[at].is_done {
                return Ok(());
            }
        }
        if self.path.len() > MAX_DEPTH {
            return Ok(());
        }
        self.path.push((data_type, step));
        value.serialize(Value { checker: self, is, place })?;
        self.path.pop();
        Ok(())
    }

    /// Whether values in this place, of this type, need not be looked at any more once one was.
    fn is_settled(&self, data_type: u32, id: TypeId) -> bool {
        if !self.types[data_type as usize].has_parts() {
            return true;
        }
        let place = self.coverage.places.get(&(data_type, id));
        place.is_some_and(|place| self.coverage.seen[*place].is_done)
    }

    fn seen(&mut self, place: Option<usize>, variant: u32) {
        if let Some(place) = place {
            self.coverage.add_variant(place, variant);
        }
    }

    fn differs(&self, part: Option<Step>, guest: String, host: String) -> Stop {
        let mut chain = self.path.clone();
        if let (Some(step), Some((last, _))) = (part, chain.last().copied()) {
            chain.push((last, step));
        }
        Stop::Differs(Box::new(Difference { path: path(self.types, &chain), guest, host }))
    }
}

/// Why a value was not looked at to its end.
#[derive(Debug)]
enum Stop {
    Differs(Box<Difference>),
    /// Its own `Serialize` failed.
    NotWritten,
}

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value is being looked at")
    }
}

impl core::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: Display>(_: T) -> Self {
        Self::NotWritten
    }
}
