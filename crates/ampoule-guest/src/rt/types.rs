//! The types of this program's functions, described to the host when the program is ready.
//!
//! Only functions that have types with names of their own are described: of the standard library's types the signature says
//! everything, and a program that has no others pays nothing. Types are traced ([`Tracer`]) where they can be read. Of those
//! that can only be written nothing is known before there is a value.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};

use ampoule_abi::schema::{FunctionTypes, Schema, Tracer, UNKNOWN};
use serde::Deserialize;

use super::fallible::{Fallible, Required};
use super::record::{Record, number_of};

/// How a function describes its types, as the section `ampoule_types` lists it. A function that has nothing to describe is
/// listed too.
#[derive(Debug)]
#[repr(C)]
pub struct Types {
    record: *const (),
    describe: Option<fn(&mut Description<'_>)>,
}

// SAFETY: the pointer is to a record, which is `Sync`, and is only compared.
unsafe impl Sync for Types {}

impl Types {
    /// The types of the function of this record. `is_needed` says whether there is something to describe.
    pub const fn of<F, const N: usize>(
        record: &'static Record<F, N>,
        is_needed: bool,
        describe: fn(&mut Description<'_>),
    ) -> Self {
        Self { record: std::ptr::from_ref(record).cast(), describe: if is_needed { Some(describe) } else { None } }
    }
}

/// The types of one function, to which its attribute's code adds.
#[derive(Debug)]
pub struct Description<'a> {
    tracer: &'a mut Tracer,
    types: FunctionTypes,
}

impl Description<'_> {
    /// The next parameter of an export.
    pub fn parameter<T: Deserialize<'static>>(&mut self) {
        let parameter = self.tracer.trace::<T>();
        self.types.parameters.push(parameter);
    }

    /// The next parameter of an import, which the function traces if it can be.
    pub fn parameter_if(&mut self, trace: impl FnOnce(&mut Tracer) -> u32) {
        let parameter = trace(self.tracer);
        self.types.parameters.push(parameter);
    }

    /// What the function returns, where it can be traced.
    pub fn returns(&mut self, result: impl FnOnce(&mut Tracer) -> u32, error: impl FnOnce(&mut Tracer) -> u32) {
        self.types.result = result(self.tracer);
        self.types.error = error(self.tracer);
    }
}

/// A type that may be one that can be read. `(&&traceable).trace(tracer)` traces it if it is.
#[derive(Debug)]
pub struct Traceable<T>(PhantomData<T>);

impl<T> Traceable<T> {
    /// Asks for this type.
    pub const NEW: Self = Self(PhantomData);
}

/// Traces a type that can be read.
pub trait TraceRead {
    /// The place of the type.
    fn trace(&self, tracer: &mut Tracer) -> u32;
}

/// Traces a type that cannot be read.
pub trait TraceUnread {
    /// The place of an unknown type.
    fn trace(&self, tracer: &mut Tracer) -> u32;
}

impl<T: Deserialize<'static>> TraceRead for &Traceable<T> {
    fn trace(&self, tracer: &mut Tracer) -> u32 {
        tracer.trace::<T>()
    }
}

impl<T> TraceUnread for Traceable<T> {
    fn trace(&self, _: &mut Tracer) -> u32 {
        UNKNOWN
    }
}

impl<T, E> Fallible<T, E> {
    /// The type of the value.
    pub fn value(&self) -> Traceable<T> {
        Traceable::NEW
    }

    /// The type of the error.
    pub fn error(&self) -> Traceable<E> {
        Traceable::NEW
    }
}

impl<T> Required<T> {
    /// The type of the value.
    pub fn value(&self) -> Traceable<T> {
        Traceable::NEW
    }

    /// There is no error.
    pub fn error(&self) -> Traceable<super::fallible::Unhandled> {
        Traceable::NEW
    }
}

/// The types of the functions of this program; `None` where there is nothing to describe.
///
/// A function whose types panic when they are read is left out.
pub(super) fn schema() -> Option<Schema> {
    let mut tracer = Tracer::new();
    let mut functions = Vec::new();
    for types in section() {
        let Some(describe) = types.describe else { continue };
        let function = number_of(types.record);
        let described = panic::catch_unwind(AssertUnwindSafe(|| {
            let types = FunctionTypes { function, parameters: Vec::new(), result: UNKNOWN, error: UNKNOWN };
            let mut description = Description { tracer: &mut tracer, types };
            describe(&mut description);
            description.types
        }));
        functions.extend(described.ok());
    }
    (!functions.is_empty()).then(|| Schema { types: tracer.finish(), functions })
}

/// What the linker has collected between the symbols that it defines for a section whose name is an identifier.
fn section() -> &'static [Types] {
    unsafe extern "C" {
        #[link_name = "__start_ampoule_types"]
        static START: UnsafeCell<u8>;
        #[link_name = "__stop_ampoule_types"]
        static STOP: UnsafeCell<u8>;
    }

    let start = (&raw const START).cast::<Types>();
    let count = ((&raw const STOP).addr() - start.addr()) / size_of::<Types>();
    // SAFETY: all between the two symbols is the section, which is there while the program runs, and which nothing but
    // statics of this type are put into. There is one at least, `NOTHING`.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// Without an entry there would be no section, and no symbols.
#[used]
#[unsafe(link_section = "ampoule_types")]
static NOTHING: Types = Types::of(&super::record::ABI_RECORD, false, |_| {});
