//! What a guest says of its types.

use std::collections::HashMap;

use ampoule_abi::layout::{DESCRIBE_ARGUMENTS, InfoPage, RecordKind};
use ampoule_abi::schema::{DataType, FunctionTypes, Schema, UNKNOWN};
use ampoule_guest::{HostError, export, import};
use serde::{Deserialize, Serialize};

use crate::fake_host::{FakeHost, function_number};

#[derive(Serialize, Deserialize)]
struct Order<'a> {
    quantity: u64,
    note: &'a str,
}

/// It can only be written.
#[derive(Serialize)]
struct Bill(u64);

/// It panics when it is read.
struct Trap;

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("it is read")
    }
}

#[derive(Serialize, Deserialize)]
struct Refusal {
    code: u16,
}

/// It has itself in it, and no end.
struct Endless;

impl Serialize for Endless {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct("Endless", self)
    }
}

type Answer<T> = Result<T, Refusal>;

#[export("types.total")]
fn total(orders: Vec<Order<'_>>, named: &HashMap<String, Refusal>) -> Bill {
    Bill(orders.iter().map(|order| order.quantity).sum::<u64>() + named.len() as u64)
}

#[export("types.answer")]
fn answer(order: u64) -> Answer<u64> {
    Err(Refusal { code: order as u16 })
}

#[export("types.trap")]
fn trap(_trap: Trap) {}

#[export("types.plain")]
fn plain(bytes: &[u8], text: Option<String>) -> Result<u64, String> {
    Ok((bytes.len() + text.map_or(0, |text| text.len())) as u64)
}

#[import("types.stock")]
fn stock(order: &Order<'_>, orders: &[Refusal]) -> Answer<Vec<Refusal>>;

#[import("types.take")]
fn take(value: &Endless) -> Result<(), HostError>;

#[export("types.pass")]
fn pass() -> String {
    take(&Endless).unwrap_err().to_string()
}

fn function<'s>(schema: &'s Schema, kind: RecordKind, name: &str) -> Option<&'s FunctionTypes> {
    schema.function(function_number(kind, name))
}

fn struct_fields(schema: &Schema, data_type: u32) -> Vec<&str> {
    let DataType::Struct { fields, .. } = &schema.types[data_type as usize] else { panic!("{schema:?}") };
    fields.iter().map(|field| field.name.as_str()).collect()
}

#[test]
fn a_guest_describes_the_functions_that_have_types_of_their_own() {
    let host = FakeHost::start();
    let schema = host.schema().expect("there are such functions");
    assert_eq!(schema.check(), Ok(()));

    let total = function(&schema, RecordKind::Export, "types.total").expect("it has such types");
    let DataType::Sequence(order) = schema.types[total.parameters[0] as usize] else { panic!("{schema:?}") };
    assert_eq!(struct_fields(&schema, order), ["quantity", "note"]);
    let DataType::Map(_, refusal) = schema.types[total.parameters[1] as usize] else { panic!("{schema:?}") };
    assert_eq!(struct_fields(&schema, refusal), ["code"]);
    assert_eq!((total.result, total.error), (UNKNOWN, UNKNOWN), "what can only be written shows itself in its values");

    let answer = function(&schema, RecordKind::Export, "types.answer").expect("its error is such a type");
    assert_eq!(schema.types[answer.result as usize], DataType::U64);
    assert_eq!(struct_fields(&schema, answer.error), ["code"]);

    let stock = function(&schema, RecordKind::Import, "types.stock").expect("it has such types");
    assert_eq!(struct_fields(&schema, stock.parameters[0]), ["quantity", "note"]);
    assert!(matches!(schema.types[stock.parameters[1] as usize], DataType::Sequence(_)));
    assert!(matches!(schema.types[stock.result as usize], DataType::Sequence(_)));
}

#[test]
fn a_function_is_not_described_without_types_of_its_own_or_where_they_panic() {
    let host = FakeHost::start();
    let schema = host.schema().expect("there are others");
    assert_eq!(function(&schema, RecordKind::Export, "types.plain"), None);
    assert_eq!(function(&schema, RecordKind::Export, "types.trap"), None);
}

#[test]
fn a_host_of_an_older_version_is_told_no_types() {
    let host = FakeHost::start_as(InfoPage::SCHEMA_MINOR - 1, || {});
    assert_eq!(host.schema(), None);
}

#[test]
fn an_argument_that_is_nested_too_deeply_is_refused_even_when_the_host_asks_for_its_type() {
    let mut host = FakeHost::start();
    for asked in [0, DESCRIBE_ARGUMENTS] {
        host.ask(asked);
        let reason: String = host.call("types.pass", |_| {}).result();
        assert!(reason.contains("the arguments have no encoding"), "{reason}");
    }
}
