//! Compares the values that the host writes with the type that the guest reads.
//!
//! Of a type that can only be written, a value shows the variants and options that it has, and no others. So a type has to be
//! looked at until all that the guest knows of was seen; until then each value is walked through before it is written, but
//! for the parts whose types were seen as a whole.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::any::TypeId;
use core::fmt::{self, Display};

use serde::ser::{
    self, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::Coverage;
use super::compare::{MISSING_FIELD, content, is_empty, same_name};
use super::path::{Difference, Step, described, path};
use super::{Content, DataType, Field};
use crate::codec::MAX_DEPTH;
use crate::text::printable_name;

/// Looks at the values that stand side by side, such as the arguments of a call.
#[derive(Debug)]
pub struct Checker<'a> {
    types: &'a [DataType],
    coverage: &'a mut Coverage,
    /// The types around the value that is looked at, and the value's own.
    path: Vec<(u32, Step)>,
    has_new: bool,
    /// Whether all values so far need not be looked at again.
    all_done: Vec<usize>,
}

impl<'a> Checker<'a> {
    /// Begins with the first of the values. `coverage` is what was seen of the same types before.
    pub fn new(types: &'a [DataType], coverage: &'a mut Coverage) -> Self {
        Self { types, coverage, path: Vec::new(), has_new: false, all_done: Vec::new() }
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

    /// Ends: all values were looked at, and are of their types.
    pub fn finish(self) {
        if self.has_new {
            self.coverage.find_done();
        }
        self.coverage.is_complete = self.all_done.iter().all(|place| self.coverage.seen[*place].is_done);
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
                Some(within) => self.has_new |= self.coverage.seen[within].parts.insert(at),
                None => self.all_done.push(at),
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
            self.has_new |= self.coverage.seen[place].variants.insert(variant);
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

/// Takes a value that the guest reads as this type.
struct Value<'c, 'a> {
    checker: &'c mut Checker<'a>,
    is: &'a DataType,
    place: Option<usize>,
}

impl<'c, 'a> Value<'c, 'a> {
    fn differs(&self, host: impl Into<String>) -> Stop {
        self.checker.differs(None, described(self.is), host.into())
    }

    fn leaf(self, data_type: &DataType, name: &str) -> Result<(), Stop> {
        if self.is == data_type { Ok(()) } else { Err(self.differs(format!("`{name}`"))) }
    }

    fn unit(self, host: &str) -> Result<(), Stop> {
        if is_empty(self.is) {
            self.checker.seen(self.place, 0);
            return Ok(());
        }
        Err(self.differs(host))
    }

    fn parts(self, kind: Kind<'a>, variant: Option<u32>) -> Parts<'c, 'a> {
        Parts { checker: self.checker, place: self.place, kind, variant, next: 0, is_skipped: false }
    }

    fn tuple(self, length: usize) -> Result<Parts<'c, 'a>, Stop> {
        let kind = match self.is {
            DataType::Tuple(elements) if elements.len() == length => Kind::Unnamed(elements),
            DataType::Array(element, count) if *count as usize == length => Kind::Elements(*element),
            is if length == 0 && is_empty(is) => Kind::Unnamed(&[]),
            _ => return Err(self.differs(format!("a tuple of {length}"))),
        };
        Ok(self.parts(kind, None))
    }

    /// The content of the variant that the value has.
    fn variant(&self, enum_name: &str, index: u32, name: &str) -> Result<&'a Content, Stop> {
        let DataType::Enum { variants, .. } = self.is else {
            return Err(self.differs(format!("the enum `{enum_name}`")));
        };
        let known = variants.get(index as usize);
        if let Some(variant) = known.filter(|variant| same_name(&variant.name, name)) {
            return Ok(&variant.content);
        }
        let guest = known.map_or("an enum with fewer variants".to_string(), |variant| {
            format!("an enum whose variant {index} is `{}`", printable_name(&variant.name))
        });
        Err(self.checker.differs(None, guest, format!("one whose variant {index} is `{name}`")))
    }

    fn variant_parts(self, enum_name: &str, index: u32, name: &str, host: &Content) -> Result<Parts<'c, 'a>, Stop> {
        let guest = self.variant(enum_name, index, name)?;
        let kind = match (guest, host) {
            (Content::Unknown, _) => Kind::Anything,
            (Content::Unnamed(fields), Content::Unnamed(given)) if fields.len() == given.len() => Kind::Unnamed(fields),
            (Content::Named(fields), Content::Named(_)) => Kind::Named(fields),
            (guest, host) if guest.parts().is_empty() && host.parts().is_empty() => Kind::Unnamed(&[]),
            (guest, host) => return Err(self.checker.differs(None, content(guest), content(host))),
        };
        Ok(self.parts(kind, Some(index)))
    }
}

macro_rules! numbers {
    ($($method:ident $number:ident $data_type:ident)*) => {
        $(
            fn $method(self, _: $number) -> Result<(), Stop> {
                self.leaf(&DataType::$data_type, stringify!($number))
            }
        )*
    };
}

impl<'c, 'a> Serializer for Value<'c, 'a> {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Parts<'c, 'a>;
    type SerializeTuple = Parts<'c, 'a>;
    type SerializeTupleStruct = Parts<'c, 'a>;
    type SerializeTupleVariant = Parts<'c, 'a>;
    type SerializeMap = Parts<'c, 'a>;
    type SerializeStruct = Parts<'c, 'a>;
    type SerializeStructVariant = Parts<'c, 'a>;

    numbers! {
        serialize_bool bool Bool
        serialize_i8 i8 I8
        serialize_i16 i16 I16
        serialize_i32 i32 I32
        serialize_i64 i64 I64
        serialize_i128 i128 I128
        serialize_u8 u8 U8
        serialize_u16 u16 U16
        serialize_u32 u32 U32
        serialize_u64 u64 U64
        serialize_u128 u128 U128
        serialize_f32 f32 F32
        serialize_f64 f64 F64
        serialize_char char Char
    }

    fn serialize_str(self, _: &str) -> Result<(), Stop> {
        self.leaf(&DataType::String, "String")
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Stop> {
        match self.is {
            DataType::Bytes => Ok(()),
            DataType::Sequence(element) if self.checker.types[*element as usize] == DataType::U8 => {
                self.checker.seen(self.place, 0);
                Ok(())
            }
            _ => Err(self.differs("a byte string")),
        }
    }

    fn serialize_none(self) -> Result<(), Stop> {
        match self.is {
            DataType::Option(_) => Ok(()),
            _ => Err(self.differs("an option")),
        }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        let DataType::Option(inner) = self.is else { return Err(self.differs("an option")) };
        self.checker.part(self.place, *inner, Step::Inner, value)?;
        self.checker.seen(self.place, 0);
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), Stop> {
        self.unit("a unit")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), Stop> {
        self.unit(&format!("the unit struct `{name}`"))
    }

    fn serialize_unit_variant(self, enum_name: &'static str, index: u32, name: &'static str) -> Result<(), Stop> {
        self.variant_parts(enum_name, index, name, &Content::Unnamed(Vec::new()))?.finish()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        enum_name: &'static str,
        index: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        let mut parts = self.variant_parts(enum_name, index, name, &Content::Unnamed([0].into()))?;
        parts.unnamed(value)?;
        parts.finish()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'c, 'a>, Stop> {
        match self.is {
            DataType::Sequence(element) => Ok(self.parts(Kind::Elements(*element), None)),
            DataType::Bytes => Ok(self.parts(Kind::Bytes, None)),
            _ => Err(self.differs("a sequence")),
        }
    }

    fn serialize_tuple(self, length: usize) -> Result<Parts<'c, 'a>, Stop> {
        self.tuple(length)
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Parts<'c, 'a>, Stop> {
        self.tuple(length)
    }

    fn serialize_tuple_variant(
        self,
        enum_name: &'static str,
        index: u32,
        name: &'static str,
        length: usize,
    ) -> Result<Parts<'c, 'a>, Stop> {
        self.variant_parts(enum_name, index, name, &Content::Unnamed(alloc::vec![0; length]))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'c, 'a>, Stop> {
        match self.is {
            DataType::Map(key, value) => Ok(self.parts(Kind::Entries(*key, *value), None)),
            _ => Err(self.differs("a map")),
        }
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts<'c, 'a>, Stop> {
        match self.is {
            DataType::Struct { fields, .. } => Ok(self.parts(Kind::Named(fields), None)),
            is if is_empty(is) => Ok(self.parts(Kind::Named(&[]), None)),
            _ => Err(self.differs(format!("the struct `{name}`"))),
        }
    }

    fn serialize_struct_variant(
        self,
        enum_name: &'static str,
        index: u32,
        name: &'static str,
        length: usize,
    ) -> Result<Parts<'c, 'a>, Stop> {
        let unnamed = || Field { name: String::new(), data_type: 0 };
        self.variant_parts(enum_name, index, name, &Content::Named((0..length).map(|_| unnamed()).collect()))
    }

    fn collect_seq<I>(self, sequence: I) -> Result<(), Stop>
    where
        I: IntoIterator<Item: Serialize>,
    {
        let mut parts = self.serialize_seq(None)?;
        for element in sequence {
            parts.element(&element)?;
            if parts.is_settled(typeid::of::<I::Item>()) {
                break;
            }
        }
        parts.finish()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The parts of a value.
struct Parts<'c, 'a> {
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
enum Kind<'a> {
    /// It is not known.
    Anything,
    Elements(u32),
    Bytes,
    Entries(u32, u32),
    Unnamed(&'a [u32]),
    Named(&'a [Field]),
}

impl Parts<'_, '_> {
    fn step(&self) -> Step {
        Step::Field { variant: self.variant.map(|variant| variant as usize), index: self.next }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
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
    fn is_settled(&self, id: TypeId) -> bool {
        match self.kind {
            Kind::Elements(element) => self.checker.is_settled(element, id),
            _ => true,
        }
    }

    fn unnamed<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
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
                let guest = field.map_or(MISSING_FIELD.to_string(), |field| named(&field.name));
                let mut stop = self.checker.differs(field.map(|_| self.step()), guest, named(name));
                if let (Stop::Differs(difference), None) = (&mut stop, field) {
                    difference.path.push_str(&format!(".{name}"));
                }
                return Err(stop);
            }
        }
        self.next += 1;
        Ok(())
    }

    fn finish(self) -> Result<(), Stop> {
        if self.is_skipped {
            return Ok(());
        }
        let is_whole = match self.kind {
            Kind::Elements(_) | Kind::Entries(..) | Kind::Bytes => self.next > 0,
            Kind::Named(fields) => match fields.get(self.next) {
                Some(field) => {
                    let (guest, host) = (named(&field.name), MISSING_FIELD.to_string());
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

fn named(field: &str) -> String {
    format!("the field `{}`", printable_name(field))
}
