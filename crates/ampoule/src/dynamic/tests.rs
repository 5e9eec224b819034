//! Values of types that are known only at run time, beside those of the same types in Rust.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ampoule_abi::codec::{DecodeError, encode};
use ampoule_abi::schema::{Content, DataType, Field, Tracer, Variant};
use ampoule_error_rule::{check, each_variant};
use proptest::prelude::*;
use serde::de::{DeserializeOwned, IntoDeserializer, Visitor, value};
use serde::ser::{Impossible, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer, forward_to_deserialize_any};

use super::*;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    item: String,
    price: u64,
    discount: Option<i8>,
    lines: Vec<Line>,
    payment: Payment,
    labels: BTreeMap<u16, char>,
    shape: (u8, [f64; 2], f32, ()),
    nothing: Nothing,
    marker: Marker,
    digest: Vec<u8>,
    wide: (i128, u128),
    is_open: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    pieces: u32,
    note: Option<Box<Line>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Payment {
    Cash,
    Card { number: String, holder: Option<String> },
    Voucher(u32),
    Split(f32, Vec<Payment>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Nothing {}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Marker;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_value_looks_as_the_same_value_in_rust_does_and_is_read_from_that_again(order in order()) {
        let (types, place) = types_of::<Order>();
        let bytes = encoded(&order);
        let value = Value::new(Arc::clone(&types), place, bytes.clone()).unwrap();
        let text = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(&text, &serde_json::to_string(&order).unwrap());
        prop_assert_eq!(written(&types, place, &text).unwrap(), bytes);
    }

    #[test]
    fn whatever_types_and_bytes_a_guest_sends_they_are_an_error_or_a_value_that_can_be_shown(
        types in any_types(),
        bytes in prop::collection::vec(prop_oneof![3 => 0..3u8, 1 => any::<u8>()], 0..64),
    ) {
        if let Ok(value) = Value::new(types.into(), 0, bytes) {
            // Keys are not all text, and then they are no JSON.
            if let Err(error) = serde_json::to_string(&value) {
                prop_assert_eq!(error.to_string(), "key must be a string");
            }
        }
    }

    #[test]
    fn whatever_types_a_guest_names_any_argument_is_taken_or_refused(
        types in any_types(),
        bytes in prop::collection::vec(prop_oneof![3 => 0..3u8, 1 => any::<u8>()], 0..64),
    ) {
        let types: Arc<[DataType]> = types.into();
        for text in ["null", "[[0,1],[],{}]", r#"{"a":{"a":{}},"b":[1]}"#, r#""a""#] {
            let _ = written(&types, 0, text);
        }
        // What can be shown can be read again, as far as JSON has it.
        if let Ok(value) = Value::new(Arc::clone(&types), 0, bytes.clone())
            && let Ok(text) = serde_json::to_string(&value)
            && let Ok(again) = written(&types, 0, &text)
        {
            let again = Value::new(types, 0, again).unwrap();
            prop_assert_eq!(serde_json::to_string(&again).unwrap(), text);
        }
    }
}

#[test]
fn fields_are_taken_in_any_order_and_options_may_be_left_out() {
    let (types, place) = types_of::<(Line, Payment)>();
    let given = r#"[{"note":{"pieces":2},"pieces":1},{"Card":{"number":"12"}}]"#;
    let expected = (
        Line { pieces: 1, note: Some(Box::new(Line { pieces: 2, note: None })) },
        Payment::Card { number: "12".to_owned(), holder: None },
    );
    assert_eq!(written(&types, place, given).unwrap(), encoded(&expected));
}

#[test]
fn bytes_may_be_given_as_text() {
    let (types, place) = types_of::<Vec<u8>>();
    assert_eq!(written(&types, place, "\"abc\"").unwrap(), encoded(&b"abc".to_vec()));
    let types: Arc<[DataType]> = [DataType::Bytes].into();
    assert_eq!(written(&types, 0, "[97, 98, 99]").unwrap(), encoded(&b"abc".to_vec()));
}

#[test]
fn an_error_of_an_argument_names_the_place_and_what_is_expected_there() {
    let refused = |text: &str| {
        let (types, place) = types_of::<Order>();
        let (path, reason) = written(&types, place, text).unwrap_err();
        ArgumentError::Refused { index: 1, path, reason }.to_string()
    };
    for (given, message) in [
        (r#"{"price":"x"}"#, "argument 2, .price: invalid type: string \"x\", expected u64 at line 1 column 12"),
        (r#"{"price":-1}"#, "argument 2, .price: invalid value: integer `-1`, expected u64 at line 1 column 11"),
        (r#"{"discount":200}"#, "argument 2, .discount: invalid value: integer `200`, expected i8 at line 1 column 15"),
        (
            r#"{"price":1.5}"#,
            "argument 2, .price: invalid type: floating point `1.5`, expected u64 at line 1 column 12",
        ),
        (
            r#"{"lines":[{"pieces":1},{"pieces":[]}]}"#,
            "argument 2, .lines[1].pieces: invalid type: sequence, expected u32 at line 1 column 33",
        ),
        (r#"{"lines":[{"note":null}]}"#, "argument 2, .lines[0]: missing field `pieces` at line 1 column 23"),
        (r#"{"lines":7}"#, "argument 2, .lines: invalid type: integer `7`, expected Vec<Line> at line 1 column 10"),
        (r#"{"pirce":1}"#, "argument 2: unknown field `pirce`; did you mean `price`? at line 1 column 8"),
        (r#"{"price":1,"price":2}"#, "argument 2: duplicate field `price` at line 1 column 18"),
        (
            r#"{"payment":"Cheque"}"#,
            "argument 2, .payment: unknown variant `Cheque`; there is `Cash`, `Card`, `Voucher`, `Split` at line 1 column 19",
        ),
        (
            r#"{"payment":{"Voucher":"x"}}"#,
            "argument 2, .payment::Voucher: invalid type: string \"x\", expected u32 at line 1 column 25",
        ),
        (
            r#"{"payment":{"Split":[1,["Cash",{"Card":{"number":4}}]]}}"#,
            "argument 2, .payment::Split[1][1]::Card.number: invalid type: integer `4`, expected String at line 1 column 50",
        ),
        (
            r#"{"payment":{"Split":[1]}}"#,
            "argument 2, .payment::Split: invalid length 1, expected 2 values at line 1 column 23",
        ),
        (
            r#"{"shape":[1,[1,2],3,null,5]}"#,
            "argument 2, .shape: invalid length 5, expected 4 values at line 1 column 27",
        ),
        (
            r#"{"labels":{"1":"ab"}}"#,
            "argument 2, .labels[value]: invalid value: string \"ab\", expected char at line 1 column 19",
        ),
        (
            r#"{"labels":{"x":"a"}}"#,
            "argument 2, .labels[key]: invalid value: expected key to be a number in quotes at line 1 column 12",
        ),
        ("7", "argument 2: invalid type: integer `7`, expected struct Order at line 1 column 1"),
        ("{", "argument 2: EOF while parsing an object at line 1 column 1"),
    ] {
        assert_eq!(refused(given), message, "{given}");
    }
}

#[test]
fn an_argument_is_nested_no_deeper_than_a_value_can_be() {
    // A struct that has itself in it, with no way out.
    let types: Arc<[DataType]> = [structure(&[("a", 0)])].into();
    let (_, reason) = Writer::new(&types).value(0, Endless).unwrap_err();
    assert_eq!(reason, "it is nested more than 128 levels deep");
}

#[test]
fn what_nothing_is_known_of_cannot_be_given_or_shown() {
    let types: Arc<[DataType]> = [DataType::Sequence(1), DataType::Unknown].into();
    let (path, reason) = written(&types, 0, "[1]").unwrap_err();
    assert_eq!(path, "[0]");
    assert!(reason.starts_with("the guest does not say what its type is made of"), "{reason}");
    assert_eq!(written(&types, 0, "[]").unwrap(), [0; 4]);
    assert_eq!(shown(&types, &[1, 0, 0, 0, 7]), Err(ReadError::Undescribed));
    assert_eq!(shown(&types, &[0; 4]).unwrap(), "[]");
}

#[test]
fn a_result_that_is_not_of_its_type_is_an_error_that_says_where() {
    let of = |data_type: DataType| -> Arc<[DataType]> { [data_type, DataType::U8].into() };
    for (types, bytes, error) in [
        (of(DataType::Bool), &[2][..], DecodeError::InvalidBool { offset: 0, value: 2 }),
        (of(DataType::Unit), &[1], DecodeError::InvalidUnit { offset: 0, value: 1 }),
        (of(DataType::Option(1)), &[3], DecodeError::InvalidOption { offset: 0, value: 3 }),
        (of(DataType::Char), &[0, 0xd8, 0, 0], DecodeError::InvalidChar { offset: 0, value: 0xd800 }),
        (of(DataType::String), &[2, 0, 0, 0, b'a', 0xff], DecodeError::InvalidUtf8 { offset: 5 }),
        (of(DataType::Sequence(1)), &[2, 0, 0, 0, 7], DecodeError::CountTooLarge { offset: 0, count: 2, remaining: 1 }),
        (of(DataType::U32), &[1, 2, 3], DecodeError::UnexpectedEnd { offset: 0, needed: 4, remaining: 3 }),
        (of(DataType::U8), &[1, 2], DecodeError::LeftOver { offset: 1, bytes: 1 }),
        (
            of(DataType::Array(1, u32::MAX)),
            &[1, 2],
            DecodeError::UnexpectedEnd { offset: 0, needed: u32::MAX as usize, remaining: 2 },
        ),
        (of(DataType::Tuple(Vec::new())), &[5], DecodeError::InvalidUnit { offset: 0, value: 5 }),
        (of(structure(&[("a", 0)])), &[0], DecodeError::TooDeep { offset: 0 }),
    ] {
        assert_eq!(shown(&types, bytes), Err(ReadError::Malformed(error)), "{types:?}");
    }
    let types = of(enumeration(&[("A", Content::Unnamed(Vec::new()))]));
    let error = shown(&types, &[1, 0, 0, 0]).unwrap_err().to_string();
    assert_eq!(error, "enum `E` has no variant 1 (at offset 0)");
}

#[test]
fn what_a_serializer_leaves_out_does_not_move_what_follows() {
    let (types, place) = types_of::<(String, u8, Payment, u16, Vec<u32>, bool)>();
    let given = ("left out", 1u8, Payment::Voucher(7), 2u16, vec![3u32], true);
    let value = Value::new(types, place, encoded(&given)).unwrap();
    assert_eq!(value.serialize(EverySecond(Vec::new())).unwrap(), ["1", "2", "true"]);
}

#[test]
fn fields_and_variants_without_names_of_their_own_are_shown_by_their_places() {
    for names in [["", ""], ["a", "a"]] {
        let types: Arc<[DataType]> = [structure(&[(names[0], 1), (names[1], 1)]), DataType::U8].into();
        assert_eq!(shown(&types, &[1, 2]).unwrap(), "[1,2]");
        assert_eq!(written(&types, 0, "[1,2]").unwrap(), [1, 2]);
    }
    let types: Arc<[DataType]> = [enumeration(&[("", Content::Unnamed(Vec::new()))])].into();
    assert_eq!(shown(&types, &[0; 4]).unwrap(), "\"0\"");
}

#[test]
fn a_type_is_displayed_as_rust_writes_it_and_defined_as_far_as_anybody_reads() {
    let (types, place) = types_of::<(Vec<Option<Order>>, BTreeMap<u8, [char; 3]>, (u8,), ())>();
    let all = Type::new(&types, place);
    assert_eq!(all.to_string(), "(Vec<Option<Order>>, HashMap<u8, [char; 3]>, (u8,), ())");
    assert_eq!(all.definition(), None);
    let definitions = Type::definitions(&types, types.len());
    let definitions: Vec<String> = definitions.iter().filter_map(Type::definition).collect();
    assert_eq!(
        definitions[1..],
        [
            "struct Line { pieces: u32, note: Option<Line> }",
            "enum Payment { Cash, Card { number: String, holder: Option<String> }, Voucher(u32), Split(f32, Vec<Payment>) }",
            "struct Nothing { }",
        ]
    );

    // Types that have themselves in them, wide ones, and long names.
    let types: Arc<[DataType]> = [DataType::Option(0), DataType::Tuple(vec![1; 1000])].into();
    assert_eq!(Type::new(&types, 0).to_string(), format!("{}…{}", "Option<".repeat(9), ">".repeat(9)));
    assert!(Type::new(&types, 1).to_string().len() < 300);
    let types: Arc<[DataType]> = [structure(&[("a\x1b", 0), (&"b".repeat(5000), 0)])].into();
    let definition = Type::new(&types, 0).definition().unwrap();
    assert!(definition.starts_with("struct S { a\\u{1b}: S, bbb") && definition.ends_with('…'), "{definition}");
    assert!(definition.len() < 4200);
}

#[test]
fn errors_of_arguments_say_everything_once() {
    each_variant!(ArgumentError {
        ArgumentError::Refused { .. } =>
            ArgumentError::Refused { index: 0, path: ".price".to_owned(), reason: "expected u64".to_owned() },
        ArgumentError::TooMany { .. } => ArgumentError::TooMany { index: 2, function: "add".to_owned(), parameters: 2 },
    });
    let (path, reason) = (".price".to_owned(), "expected u64".to_owned());
    check(&AnswerError { function: "weekday".to_owned(), path, reason });
}

fn types_of<T: DeserializeOwned>() -> (Arc<[DataType]>, u32) {
    let mut tracer = Tracer::new();
    let place = tracer.trace::<T>();
    (tracer.finish().into(), place)
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes).unwrap();
    bytes
}

fn written(types: &[DataType], place: u32, text: &str) -> Result<Vec<u8>, (String, String)> {
    let mut writer = Writer::new(types);
    writer.value(place, &mut serde_json::Deserializer::from_str(text))?;
    Ok(writer.finish())
}

fn shown(types: &Arc<[DataType]>, bytes: &[u8]) -> Result<String, ReadError> {
    Value::new(Arc::clone(types), 0, bytes.to_vec()).map(|value| serde_json::to_string(&value).unwrap())
}

fn structure(fields: &[(&str, u32)]) -> DataType {
    let fields = fields.iter().map(|(name, data_type)| Field { name: (*name).to_owned(), data_type: *data_type });
    DataType::Struct { name: "S".to_owned(), fields: fields.collect() }
}

fn enumeration(variants: &[(&str, Content)]) -> DataType {
    let variants =
        variants.iter().map(|(name, content)| Variant { name: (*name).to_owned(), content: content.clone() });
    DataType::Enum { name: "E".to_owned(), variants: variants.collect() }
}

/// `{"a":{"a":{"a":`, and so on.
struct Endless;

impl<'de> Deserializer<'de> for Endless {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_map(value::MapDeserializer::new(std::iter::once(("a", Endless))))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_> for Endless {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Shows every second element of a tuple as JSON.
struct EverySecond(Vec<Option<String>>);

impl SerializeTuple for EverySecond {
    type Ok = Vec<String>;
    type Error = serde_json::Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), serde_json::Error> {
        let is_shown = self.0.len() % 2 == 1;
        self.0.push(is_shown.then(|| serde_json::to_string(value)).transpose()?);
        Ok(())
    }

    fn end(self) -> Result<Vec<String>, serde_json::Error> {
        Ok(self.0.into_iter().flatten().collect())
    }
}

macro_rules! nothing_else {
    ($($method:ident($($argument:ty),*) -> $result:ty;)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<$result, serde_json::Error> {
            Err(serde::ser::Error::custom("it is no tuple"))
        })*
    };
}

impl Serializer for EverySecond {
    type Ok = Vec<String>;
    type Error = serde_json::Error;
    type SerializeSeq = Impossible<Vec<String>, serde_json::Error>;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Impossible<Vec<String>, serde_json::Error>;
    type SerializeTupleVariant = Impossible<Vec<String>, serde_json::Error>;
    type SerializeMap = Impossible<Vec<String>, serde_json::Error>;
    type SerializeStruct = Impossible<Vec<String>, serde_json::Error>;
    type SerializeStructVariant = Impossible<Vec<String>, serde_json::Error>;

    fn serialize_tuple(self, _: usize) -> Result<Self, serde_json::Error> {
        Ok(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Self::Ok, serde_json::Error> {
        self.serialize_none()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<Self::Ok, serde_json::Error> {
        self.serialize_none()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Self::Ok, serde_json::Error> {
        self.serialize_none()
    }

    nothing_else! {
        serialize_bool(bool) -> Self::Ok;
        serialize_i8(i8) -> Self::Ok;
        serialize_i16(i16) -> Self::Ok;
        serialize_i32(i32) -> Self::Ok;
        serialize_i64(i64) -> Self::Ok;
        serialize_u8(u8) -> Self::Ok;
        serialize_u16(u16) -> Self::Ok;
        serialize_u32(u32) -> Self::Ok;
        serialize_u64(u64) -> Self::Ok;
        serialize_f32(f32) -> Self::Ok;
        serialize_f64(f64) -> Self::Ok;
        serialize_char(char) -> Self::Ok;
        serialize_str(&str) -> Self::Ok;
        serialize_bytes(&[u8]) -> Self::Ok;
        serialize_none() -> Self::Ok;
        serialize_unit() -> Self::Ok;
        serialize_unit_struct(&'static str) -> Self::Ok;
        serialize_unit_variant(&'static str, u32, &'static str) -> Self::Ok;
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }
}

fn order() -> impl Strategy<Value = Order> {
    let pieces = (any::<String>(), any::<u64>(), any::<Option<i8>>(), prop::collection::vec(line(), 0..4), payment());
    let labels = prop::collection::btree_map(any::<u16>(), any::<char>(), 0..4);
    let rest = (
        labels,
        any::<u8>(),
        (finite(), finite()),
        any::<f32>(),
        any::<Vec<u8>>(),
        any::<(i128, u128)>(),
        any::<bool>(),
    );
    (pieces, rest).prop_map(
        |((item, price, discount, lines, payment), (labels, byte, numbers, small, digest, wide, is_open))| {
            let (numbers, small) = (<[f64; 2]>::from(numbers), if small.is_finite() { small } else { 0.0 });
            Order {
                item,
                price,
                discount,
                lines,
                payment,
                labels,
                shape: (byte, numbers, small, ()),
                nothing: Nothing {},
                marker: Marker,
                digest,
                wide,
                is_open,
            }
        },
    )
}

/// A number that JSON has.
fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_map(|number| if number.is_finite() { number } else { 0.0 })
}

fn line() -> impl Strategy<Value = Line> {
    let leaf = any::<u32>().prop_map(|pieces| Line { pieces, note: None });
    leaf.prop_recursive(4, 8, 1, |inner| {
        (any::<u32>(), inner).prop_map(|(pieces, note)| Line { pieces, note: Some(Box::new(note)) })
    })
}

fn payment() -> impl Strategy<Value = Payment> {
    let leaf = prop_oneof![
        Just(Payment::Cash),
        (any::<String>(), any::<Option<String>>()).prop_map(|(number, holder)| Payment::Card { number, holder }),
        any::<u32>().prop_map(Payment::Voucher),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        (any::<i16>(), prop::collection::vec(inner, 0..3))
            .prop_map(|(part, others)| Payment::Split(f32::from(part) / 4.0, others))
    })
}

/// Types that name each other.
fn any_types() -> impl Strategy<Value = Vec<DataType>> {
    (1..8u32).prop_flat_map(|count| prop::collection::vec(any_type(0..count), count as usize))
}

fn any_type(place: Range<u32>) -> impl Strategy<Value = DataType> {
    let name = prop_oneof![Just(""), Just("a"), Just("b")];
    let field = (name, place.clone()).prop_map(|(name, data_type)| Field { name: name.to_owned(), data_type });
    let fields = prop::collection::vec(field, 0..3);
    let places = prop::collection::vec(place.clone(), 0..3);
    let content = prop_oneof![
        Just(Content::Unknown),
        places.clone().prop_map(Content::Unnamed),
        fields.clone().prop_map(Content::Named),
    ];
    let variants = prop::collection::vec((any::<bool>(), content), 0..3).prop_map(|variants| {
        // Of two variants with one name only the first could be read.
        let name = |index: usize, is_named| if is_named { format!("v{index}") } else { String::new() };
        let variants = variants.into_iter().enumerate();
        variants.map(|(index, (is_named, content))| Variant { name: name(index, is_named), content }).collect()
    });
    prop_oneof![
        4 => prop::sample::select(LEAVES.to_vec()),
        1 => place.clone().prop_map(DataType::Option),
        1 => place.clone().prop_map(DataType::Sequence),
        1 => (place.clone(), place.clone()).prop_map(|(key, value)| DataType::Map(key, value)),
        1 => places.prop_map(DataType::Tuple),
        1 => (place, 0..3u32).prop_map(|(element, count)| DataType::Array(element, count)),
        1 => fields.prop_map(|fields| DataType::Struct { name: "S".to_owned(), fields }),
        1 => variants.prop_map(|variants| DataType::Enum { name: "E".to_owned(), variants }),
    ]
}

const LEAVES: [DataType; 12] = [
    DataType::Unknown,
    DataType::Untransferable,
    DataType::Unit,
    DataType::Bool,
    DataType::I16,
    DataType::U8,
    DataType::U128,
    DataType::F32,
    DataType::F64,
    DataType::Char,
    DataType::String,
    DataType::Bytes,
];
