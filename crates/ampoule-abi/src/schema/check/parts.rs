//! The parts of one value of the host, beside those that the guest reads.

use alloc::string::ToString;
use core::any::TypeId;

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::value::Value;
use super::{Checker, Stop};
use crate::schema::compare::{MISSING_FIELD, same_name};
use crate::schema::path::{Step, named_field};
use crate::schema::{DataType, Field};

/// The parts of a value.
pub(super) struct Parts<'c, 'a> {
    checker: &'c mut Checker<'a>,
    place: Option<usize>,
    kind: Kind<'a>,
    variant: Option<u32>,
    next: usize,
    /// Whether a field was left out, which the encoder refuses.
    is_skipped: bool,
}

/// As what the guest reads the parts.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    /// It is not known.
    Anything,
    Elements(u32),
    Bytes,
    Entries(u32, u32),
    Unnamed(&'a [u32]),
    Named(&'a [Field]),
}

impl<'c, 'a> Parts<'c, 'a> {
    pub(super) fn new(
        checker: &'c mut Checker<'a>,
        place: Option<usize>,
        kind: Kind<'a>,
        variant: Option<u32>,
    ) -> Self {
        Self { checker, place, kind, variant, next: 0, is_skipped: false }
    }

    fn step(&self) -> Step {
        Step::Field { variant: self.variant.map(|variant| variant as usize), index: self.next }
    }

    pub(super) fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        match self.kind {
            Kind::Elements(element) if self.next > 0 && self.checker.is_settled(element, typeid::of::<T>()) => {}
            Kind::Elements(element) => self.checker.part(self.place, element, Step::Element, value)?,
            Kind::Bytes if self.next == 0 => {
                value.serialize(Value { checker: self.checker, is: &DataType::U8, place: None })?;
            }
            _ => {}
        }
        self.next += 1;
        Ok(())
    }

    /// Whether the elements that follow need not be looked at.
    pub(super) fn is_settled(&self, id: TypeId) -> bool {
        match self.kind {
            Kind::Elements(element) => self.checker.is_settled(element, id),
            _ => true,
        }
    }

    pub(super) fn unnamed<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        match self.kind {
            Kind::Unnamed(types) => {
                if let Some(data_type) = types.get(self.next) {
                    self.checker.part(self.place, *data_type, self.step(), value)?;
                }
            }
            _ => return self.element(value),
        }
        self.next += 1;
        Ok(())
    }

    fn named<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Stop> {
        if let Kind::Named(fields) = self.kind
            && !self.is_skipped
        {
            let field = fields.get(self.next);
            if let Some(field) = field.filter(|field| same_name(&field.name, name)) {
                self.checker.part(self.place, field.data_type, self.step(), value)?;
            } else {
                let guest = field.map_or(MISSING_FIELD.to_string(), |field| named_field(&field.name));
                let mut stop = self.checker.differs(field.map(|_| self.step()), guest, named_field(name));
                if let (Stop::Differs(difference), None) = (&mut stop, field) {
                    difference.path.extend([".", name]);
                }
                return Err(stop);
            }
        }
        self.next += 1;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), Stop> {
        if self.is_skipped {
            return Ok(());
        }
        let is_whole = match self.kind {
            Kind::Elements(_) | Kind::Entries(..) | Kind::Bytes => self.next > 0,
            Kind::Named(fields) => match fields.get(self.next) {
                Some(field) => {
                    let (guest, host) = (named_field(&field.name), MISSING_FIELD.to_string());
                    return Err(self.checker.differs(Some(self.step()), guest, host));
                }
                None => true,
            },
            Kind::Unnamed(_) | Kind::Anything => true,
        };
        if is_whole {
            self.checker.seen(self.place, self.variant.unwrap_or(0));
        }
        Ok(())
    }
}

macro_rules! parts {
    ($($part:ident::$method:ident => $take:ident($($name:ident: $type:ty)?))*) => {
        $(
            impl $part for Parts<'_, '_> {
                type Ok = ();
                type Error = Stop;

                fn $method<T: Serialize + ?Sized>(&mut self, $($name: $type,)? value: &T) -> Result<(), Stop> {
                    self.$take($($name,)? value)
                }

                parts!(@skip $($name)?);

                fn end(self) -> Result<(), Stop> {
                    self.finish()
                }
            }
        )*
    };
    (@skip) => {};
    (@skip $name:ident) => {
        fn skip_field(&mut self, _: &'static str) -> Result<(), Stop> {
            self.is_skipped = true;
            Ok(())
        }
    };
}

parts! {
    SerializeSeq::serialize_element => element()
    SerializeTuple::serialize_element => unnamed()
    SerializeTupleStruct::serialize_field => unnamed()
    SerializeTupleVariant::serialize_field => unnamed()
    SerializeStruct::serialize_field => named(name: &'static str)
    SerializeStructVariant::serialize_field => named(name: &'static str)
}

impl SerializeMap for Parts<'_, '_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stop> {
        self.next += 1;
        match self.kind {
            Kind::Entries(data_type, _) => self.checker.part(self.place, data_type, Step::Key, key),
            _ => Ok(()),
        }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        match self.kind {
            Kind::Entries(_, data_type) => self.checker.part(self.place, data_type, Step::Value, value),
            _ => Ok(()),
        }
    }

    fn end(self) -> Result<(), Stop> {
        self.finish()
    }
}
