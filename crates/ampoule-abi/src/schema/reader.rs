//! The values that are made up for a type that is traced.

use serde::Deserializer;
use serde::de::{DeserializeSeed, EnumAccess, IntoDeserializer, VariantAccess, Visitor};

use super::DataType;
use super::parts::Parts;
use super::trace::{Edge, Form, Kind, Stop, Tracer, VariantForm, VariantNode};

/// Gives one value to the type that is read, and notes which it is.
pub(super) struct Reader<'a> {
    tracer: &'a mut Tracer,
    /// Where the place of the type goes.
    found: &'a mut Option<usize>,
    edge: Edge,
}

impl<'a> Reader<'a> {
    pub(super) fn new(tracer: &'a mut Tracer, found: &'a mut Option<usize>, edge: Edge) -> Self {
        Self { tracer, found, edge }
    }

    /// The type, which is known by its visitor.
    fn place<V>(&mut self, kind: Kind, form: impl FnOnce() -> Form) -> usize {
        let place = self.tracer.place((typeid::of::<V>(), kind), form);
        *self.found = Some(place);
        place
    }

    /// A type whose values have no parts: which of its values is wanted.
    fn leaf<V>(mut self, kind: Kind, data_type: DataType) -> Result<usize, Stop> {
        self.place::<V>(kind, || Form::Leaf(data_type));
        self.tracer.choice(self.edge)
    }

    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let choice = self.leaf::<V>(STRING, DataType::String)?;
        visitor.visit_borrowed_str(TEXTS[choice % TEXTS.len()])
    }

    fn bytes<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let choice = self.leaf::<V>(BYTES, DataType::Bytes)?;
        visitor.visit_borrowed_bytes(&[0; 64][..LENGTHS[choice % LENGTHS.len()]])
    }

    fn unit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf::<V>(UNIT, DataType::Unit)?;
        visitor.visit_unit()
    }

    fn tuple<'de, V: Visitor<'de>>(mut self, length: usize, visitor: V) -> Result<V::Value, Stop> {
        let place = self.place::<V>(TUPLE, || Form::Tuple { length });
        let depth = self.tracer.open(place, 0)?;
        let value = visitor.visit_seq(&mut Parts::new(self.tracer, place, 0, length))?;
        self.tracer.close(depth);
        Ok(value)
    }

    fn untransferable(self) -> Stop {
        *self.found = Some(UNTRANSFERABLE);
        Stop::Impossible
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $number:ident $data_type:ident $kind:literal)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
                let choice = self.leaf::<V>($kind, DataType::$data_type)?;
                visitor.$visit(choice as u8 as $number)
            }
        )*
    };
}

macro_rules! not_self_describing {
    ($($method:ident)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
                Err(self.untransferable())
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Stop;

    numbers! {
        deserialize_i8 visit_i8 i8 I8 1
        deserialize_i16 visit_i16 i16 I16 2
        deserialize_i32 visit_i32 i32 I32 3
        deserialize_i64 visit_i64 i64 I64 4
        deserialize_i128 visit_i128 i128 I128 5
        deserialize_u8 visit_u8 u8 U8 6
        deserialize_u16 visit_u16 u16 U16 7
        deserialize_u32 visit_u32 u32 U32 8
        deserialize_u64 visit_u64 u64 U64 9
        deserialize_u128 visit_u128 u128 U128 10
        deserialize_f32 visit_f32 f32 F32 11
        deserialize_f64 visit_f64 f64 F64 12
    }

    not_self_describing! { deserialize_any deserialize_identifier deserialize_ignored_any }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let choice = self.leaf::<V>(BOOL, DataType::Bool)?;
        visitor.visit_bool(choice % 2 == 1)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let choice = self.leaf::<V>(CHAR, DataType::Char)?;
        visitor.visit_char(['a', '0', 'A', ' '][choice % 4])
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.text(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.bytes(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        let place = self.place::<V>(OPTION, || Form::Option);
        if self.tracer.is_open(place) || self.tracer.node(place).avoid {
            return visitor.visit_none();
        }
        let depth = self.tracer.open(place, 0)?;
        let edge = (place, 0, 0);
        let mut inner = None;
        let value = visitor.visit_some(Reader::new(self.tracer, &mut inner, edge));
        self.tracer.link(edge, inner);
        let value = value?;
        self.tracer.close(depth);
        Ok(value)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.unit(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        self.unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        let place = self.place::<V>(SEQUENCE, || Form::Sequence);
        let is_empty = self.tracer.is_open(place) || self.tracer.node(place).avoid;
        let depth = self.tracer.open(place, 0)?;
        let value = visitor.visit_seq(&mut Parts::new(self.tracer, place, 0, usize::from(!is_empty)))?;
        self.tracer.close(depth);
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Stop> {
        self.tuple(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        let place = self.place::<V>(MAP, || Form::Map);
        let is_empty = self.tracer.is_open(place) || self.tracer.node(place).avoid;
        let depth = self.tracer.open(place, 0)?;
        let value = visitor.visit_map(&mut Parts::new(self.tracer, place, 0, if is_empty { 0 } else { 2 }))?;
        self.tracer.close(depth);
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let place = self.place::<V>(STRUCT, || Form::Struct { name, fields, taken: None });
        let depth = self.tracer.open(place, 0)?;
        let mut parts = Parts::new(self.tracer, place, 0, fields.len());
        let value = visitor.visit_seq(&mut parts)?;
        let count = parts.taken();
        if let Form::Struct { taken, .. } = &mut self.tracer.node(place).form {
            *taken = Some(count);
        }
        self.tracer.close(depth);
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let form = || {
            let variants = variants.iter().map(|name| VariantNode::new(name)).collect();
            Form::Enum { name, variants, least: None }
        };
        let place = self.place::<V>(ENUM, form);
        let variant = self.tracer.choose(place)?;
        let depth = self.tracer.open(place, variant)?;
        let value = visitor.visit_enum(VariantReader { tracer: self.tracer, place, variant })?;
        self.tracer.seen(place, variant);
        self.tracer.close(depth);
        Ok(value)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Gives one variant of an enum.
struct VariantReader<'a> {
    tracer: &'a mut Tracer,
    place: usize,
    variant: usize,
}

impl VariantReader<'_> {
    fn note(&mut self, form: VariantForm) {
        let Self { variant, place, .. } = *self;
        if let Form::Enum { variants, .. } = &mut self.tracer.node(place).form {
            variants[variant].form = Some(form);
        }
    }
}

impl<'de> EnumAccess<'de> for VariantReader<'_> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Stop> {
        match seed.deserialize(IntoDeserializer::<Stop>::into_deserializer(self.variant as u32)) {
            Ok(variant) => Ok((variant, self)),
            Err(_) => {
                self.tracer.absent(self.place, self.variant);
                Err(Stop::Absent)
            }
        }
    }
}

impl<'de> VariantAccess<'de> for VariantReader<'_> {
    type Error = Stop;

    fn unit_variant(mut self) -> Result<(), Stop> {
        self.note(VariantForm::Unnamed { length: 0 });
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(mut self, seed: T) -> Result<T::Value, Stop> {
        self.note(VariantForm::Unnamed { length: 1 });
        Parts::new(self.tracer, self.place, self.variant, 1).part(0, seed)
    }

    fn tuple_variant<V: Visitor<'de>>(mut self, length: usize, visitor: V) -> Result<V::Value, Stop> {
        self.note(VariantForm::Unnamed { length });
        visitor.visit_seq(&mut Parts::new(self.tracer, self.place, self.variant, length))
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.note(VariantForm::Named { fields, taken: None });
        let mut parts = Parts::new(self.tracer, self.place, self.variant, fields.len());
        let value = visitor.visit_seq(&mut parts)?;
        let taken = Some(parts.taken());
        self.note(VariantForm::Named { fields, taken });
        Ok(value)
    }
}

/// The place of what cannot travel, which a tracer has from the beginning.
const UNTRANSFERABLE: usize = 1;

const BOOL: Kind = 20;
const CHAR: Kind = 21;
const STRING: Kind = 22;
const BYTES: Kind = 23;
const UNIT: Kind = 24;
const OPTION: Kind = 25;
const SEQUENCE: Kind = 26;
const TUPLE: Kind = 27;
const MAP: Kind = 28;
const STRUCT: Kind = 29;
const ENUM: Kind = 30;

/// Texts, one of which most types accept that are read from text: numbers, versions, times, addresses, identifiers.
const TEXTS: [&str; 12] = [
    "",
    "0",
    "a",
    "0.0.0",
    "127.0.0.1",
    "1970-01-01T00:00:00Z",
    "1970-01-01",
    "00:00:00",
    "1970-01-01T00:00:00",
    "http://a/",
    "00000000-0000-0000-0000-000000000000",
    "UTC",
];

/// Lengths of byte strings: of identifiers, addresses and digests.
const LENGTHS: [usize; 8] = [0, 1, 16, 4, 8, 32, 20, 64];
