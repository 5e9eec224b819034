//! One value of the host, beside the type that the guest reads.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::ser::{Serialize, Serializer};

use super::parts::{Kind, Parts};
use super::{Checker, Stop};
use crate::schema::compare::{content, is_empty, same_name};
use crate::schema::path::{Step, described, named_variant};
use crate::schema::{Content, DataType, Field};

/// Takes a value that the guest reads as this type.
pub(super) struct Value<'c, 'a> {
    pub(super) checker: &'c mut Checker<'a>,
    pub(super) is: &'a DataType,
    /// Where what it shows is noted, if it has parts.
    pub(super) place: Option<usize>,
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
        Parts::new(self.checker, self.place, kind, variant)
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
            named_variant("an enum", index as usize, &variant.name)
        });
        Err(self.checker.differs(None, guest, named_variant("one", index as usize, name)))
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
