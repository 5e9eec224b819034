//! What types are made of is found out by reading them, and compared by name and order.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ampoule_abi::codec;
use ampoule_abi::schema::{
    Checker, Content, Coverage, DataType, Observed, Schema, SchemaError, Tracer, UNKNOWN, Variant, difference, shown,
    untransferable,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The types of `T`, and which of them it is.
fn traced<'de, T: Deserialize<'de>>() -> (Vec<DataType>, u32) {
    let mut tracer = Tracer::new();
    let root = tracer.trace::<T>();
    (tracer.finish(), root)
}

/// How `Guest` and `Host` differ where both sides can read them.
fn differ<Guest: DeserializeOwned, Host: DeserializeOwned>() -> Option<String> {
    let ((guest, guest_root), (host, host_root)) = (traced::<Guest>(), traced::<Host>());
    difference((&guest, guest_root), (&host, host_root)).map(|difference| difference.to_string())
}

/// How a value of the host differs from what `Guest` reads, and whether all of its type was seen.
fn differs_from<Guest: DeserializeOwned, Host: Serialize>(values: &[Host]) -> Result<bool, String> {
    let (types, root) = traced::<Guest>();
    let mut coverage = Coverage::new();
    for value in values {
        let mut checker = Checker::new(&types, &mut coverage);
        checker.value(root, value).map_err(|difference| difference.to_string())?;
        checker.finish();
    }
    Ok(coverage.is_complete())
}

mod guest {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Order {
        pub(super) quantity: u64,
        pub(super) price: u64,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Cart {
        pub(super) orders: Vec<Order>,
        pub(super) note: Option<Note>,
        pub(super) by_name: HashMap<String, Method>,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Note(pub(super) String, pub(super) u8);

    #[derive(Serialize, Deserialize)]
    pub(super) enum Method {
        Get,
        Put(u32),
        Post { body: String },
    }
}

mod swapped {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Order {
        pub(super) price: u64,
        pub(super) quantity: u64,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Cart {
        pub(super) orders: Vec<Order>,
        pub(super) note: Option<guest::Note>,
        pub(super) by_name: HashMap<String, guest::Method>,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) enum Method {
        Get,
        Post { body: String },
        Put(u32),
    }
}

mod changed {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Order {
        pub(super) quantity: u64,
        pub(super) price: f64,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Extended {
        pub(super) quantity: u64,
        pub(super) price: u64,
        pub(super) note: String,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) enum Method {
        Get,
        Put(i32),
        Post { text: String },
    }

    #[derive(Serialize, Deserialize)]
    pub(super) enum Longer {
        Get,
        Put(u32),
        Post { body: String },
        Delete,
    }
}

#[test]
fn fields_in_another_order_are_named() {
    let message = "`Order.quantity` is the field `quantity` in the guest and the field `price` in the host";
    assert_eq!(differ::<guest::Order, swapped::Order>().as_deref(), Some(message));
    let order = swapped::Order { price: 1, quantity: 2 };
    assert_eq!(differs_from::<guest::Order, _>(&[order]), Err(message.to_owned()));

    let message = "`Cart.orders[].quantity` is the field `quantity` in the guest and the field `price` in the host";
    assert_eq!(differ::<guest::Cart, swapped::Cart>().as_deref(), Some(message));
    let orders = vec![swapped::Order { price: 1, quantity: 2 }];
    let cart = swapped::Cart { orders, note: None, by_name: HashMap::new() };
    assert_eq!(differs_from::<guest::Cart, _>(&[cart]), Err(message.to_owned()));
}

#[test]
fn a_field_of_another_type_is_named() {
    let message = "`Order.price` is `u64` in the guest and `f64` in the host";
    assert_eq!(differ::<guest::Order, changed::Order>().as_deref(), Some(message));
    let order = changed::Order { quantity: 1, price: 2.0 };
    assert_eq!(differs_from::<guest::Order, _>(&[order]), Err(message.to_owned()));
}

#[test]
fn a_field_that_one_side_does_not_have_is_named() {
    let message = "`Order.note` is no field in the guest and the field `note` in the host";
    let extended = || changed::Extended { quantity: 1, price: 2, note: String::new() };
    assert_eq!(differs_from::<guest::Order, _>(&[extended()]), Err(message.to_owned()));
    let message = "`Extended.note` is no field in the guest and the field `note` in the host";
    assert_eq!(differ::<guest::Order, changed::Extended>().as_deref(), Some(message));

    let message = "`Extended.note` is the field `note` in the guest and no field in the host";
    assert_eq!(differ::<changed::Extended, guest::Order>().as_deref(), Some(message));
    let order = guest::Order { quantity: 1, price: 2 };
    assert_eq!(differs_from::<changed::Extended, _>(&[order]), Err(message.to_owned()));
}

#[test]
fn variants_in_another_order_and_with_other_fields_are_named() {
    let message =
        "`Method` is an enum whose variant 1 is `Put` in the guest and one whose variant 1 is `Post` in the host";
    assert_eq!(differ::<guest::Method, swapped::Method>().as_deref(), Some(message));
    let methods = [swapped::Method::Get, swapped::Method::Post { body: String::new() }];
    assert_eq!(differs_from::<guest::Method, _>(&methods), Err(message.to_owned()));

    let message = "`Method::Put.0` is `u32` in the guest and `i32` in the host";
    assert_eq!(differs_from::<guest::Method, _>(&[changed::Method::Put(1)]), Err(message.to_owned()));
    let message = "`Method::Post.body` is the field `body` in the guest and the field `text` in the host";
    assert_eq!(differ::<guest::Method, changed::Method>().as_deref(), Some(message));
    let post = changed::Method::Post { text: String::new() };
    assert_eq!(differs_from::<guest::Method, _>(&[post]), Err(message.to_owned()));
}

#[test]
fn an_enum_may_have_more_variants_at_its_end_on_one_side() {
    assert_eq!(differ::<guest::Method, changed::Longer>(), None);
    assert_eq!(differ::<changed::Longer, guest::Method>(), None);
    assert_eq!(differs_from::<changed::Longer, _>(&[guest::Method::Put(1)]), Ok(false));
    let message =
        "`Method` is an enum with fewer variants in the guest and one whose variant 3 is `Delete` in the host";
    assert_eq!(differs_from::<guest::Method, _>(&[changed::Longer::Delete]), Err(message.to_owned()));
}

#[test]
fn a_type_has_been_seen_when_all_of_its_variants_and_options_were() {
    use guest::{Cart, Method, Note, Order};

    let cart = |note: Option<Note>, method: Method| Cart {
        orders: vec![Order { quantity: 1, price: 2 }],
        note,
        by_name: HashMap::from([("a".to_owned(), method)]),
    };
    let note = || Some(Note("n".to_owned(), 1));
    let post = || Method::Post { body: "b".to_owned() };
    assert_eq!(differs_from::<Order, _>(&[Order { quantity: 1, price: 2 }]), Ok(true));
    assert_eq!(differs_from::<Cart, _>(&[cart(None, Method::Get), cart(None, post())]), Ok(false));
    let all = [cart(note(), Method::Get), cart(None, post()), cart(None, Method::Put(1))];
    assert_eq!(differs_from::<Cart, _>(&all), Ok(true));
    assert_eq!(differs_from::<Vec<Order>, Vec<Order>>(&[vec![]]), Ok(false));
}

#[test]
fn what_was_seen_beside_a_refused_value_counts_when_the_next_one_is_looked_at() {
    let (types, root) = traced::<Vec<guest::Method>>();
    let mut coverage = Coverage::new();
    let all = || vec![changed::Longer::Get, changed::Longer::Put(1), changed::Longer::Post { body: String::new() }];
    let mut refused = all();
    refused.push(changed::Longer::Delete);
    let mut checker = Checker::new(&types, &mut coverage);
    assert_eq!(checker.value(root, &all()), Ok(()));
    assert!(checker.value(root, &refused).is_err());
    let mut checker = Checker::new(&types, &mut coverage);
    assert_eq!(checker.value(root, &all()), Ok(()));
    checker.finish();
    assert!(coverage.is_complete());
}

#[test]
fn variants_that_only_the_guest_knows_are_not_remembered() {
    let unit = |name: usize| Variant { name: name.to_string(), content: Content::Unnamed(vec![]) };
    let one_of =
        |count: usize| vec![DataType::Enum { name: "Method".to_owned(), variants: (0..count).map(unit).collect() }];
    let mut observed = Observed::new(one_of(2), 0);
    assert_eq!(observed.compare(&one_of(1), 0), Ok(false));
    let before = format!("{observed:?}").len();
    assert_eq!(observed.compare(&one_of(10_000), 0), Ok(true));
    assert!(format!("{observed:?}").len() < before + 20, "one more variant is known");
}

#[test]
fn what_a_guest_only_writes_shows_itself_in_its_values() {
    use guest::{Cart, Method, Note, Order};

    let ((types, root), (swapped, swapped_root)) = (traced::<Cart>(), traced::<swapped::Cart>());
    let mut observed = Observed::new(types, root);
    assert!(observed.is_needed());
    let mut compare = |cart: &Cart| {
        let shown = shown(cart).unwrap();
        observed.compare(&shown, shown.len() as u32 - 1)
    };
    let cart = |orders: usize, note: Option<Note>, methods: Vec<Method>| Cart {
        orders: (0..orders as u64).map(|number| Order { quantity: number, price: 2 }).collect(),
        note,
        by_name: methods.into_iter().enumerate().map(|(index, method)| (index.to_string(), method)).collect(),
    };
    assert_eq!(compare(&cart(0, None, vec![])), Ok(false));
    assert_eq!(compare(&cart(3, Some(Note(String::new(), 1)), vec![Method::Put(1), Method::Get])), Ok(false));
    assert_eq!(compare(&cart(0, None, vec![Method::Post { body: String::new() }])), Ok(true));

    let cart = shown(&cart(1, None, vec![])).unwrap();
    let mut observed = Observed::new(swapped, swapped_root);
    let message = "`Cart.orders[].quantity` is the field `quantity` in the guest and the field `price` in the host";
    let difference = observed.compare(&cart, cart.len() as u32 - 1).unwrap_err();
    assert_eq!(difference.to_string(), message);

    let (types, root) = traced::<Vec<Option<(u8, String)>>>();
    assert!(!Observed::new(types, root).is_needed());
}

#[test]
fn a_type_that_has_itself_in_it_is_seen_too() {
    #[derive(Serialize, Deserialize)]
    struct Tree {
        name: String,
        children: Vec<Tree>,
    }

    let leaf = || Tree { name: "leaf".to_owned(), children: vec![] };
    assert_eq!(differs_from::<Tree, _>(&[leaf()]), Ok(false));
    assert_eq!(differs_from::<Tree, _>(&[Tree { name: "root".to_owned(), children: vec![leaf()] }]), Ok(true));
    assert_eq!(differ::<Tree, Tree>(), None);
}

#[test]
fn every_variant_of_a_recursive_enum_is_found() {
    #[derive(Serialize, Deserialize)]
    enum Expression {
        Add(Box<Expression>, Box<Expression>),
        Call { name: String, arguments: Vec<Expression> },
        Negate(Box<Expression>),
        Number(f64),
        Of(Kind),
    }

    #[derive(Serialize, Deserialize)]
    enum Kind {
        Nothing,
        Expression(Box<Expression>),
        Last(u8),
    }

    let (types, root) = traced::<Expression>();
    let DataType::Enum { name, variants } = &types[root as usize] else { panic!("{types:?}") };
    assert_eq!((name.as_str(), variants.len()), ("Expression", 5));
    assert_eq!(variants[0].content, Content::Unnamed(vec![root, root]));
    assert!(
        types.iter().all(|data_type| !format!("{data_type:?}").contains("Unknown") || *data_type == DataType::Unknown)
    );
    let Content::Unnamed(kind) = &variants[4].content else { panic!("{variants:?}") };
    let DataType::Enum { variants, .. } = &types[kind[0] as usize] else { panic!("{types:?}") };
    assert_eq!(variants[1].content, Content::Unnamed(vec![root]));
}

#[test]
fn types_that_travel_alike_are_alike() {
    assert_eq!(differ::<Vec<u8>, Vec<u8>>(), None);
    assert_eq!(differ::<(u8, u8), [u8; 2]>(), None);
    assert_eq!(differ::<BTreeMap<u8, String>, HashMap<u8, Box<str>>>(), None);
    assert_eq!(differ::<std::num::Wrapping<u32>, u32>(), None);
    assert_eq!(differ::<usize, u64>(), None);
    assert!(differ::<(u8, u16), [u8; 2]>().is_some());
    assert!(differ::<Option<u8>, u8>().is_some());
    assert_eq!(differs_from::<Vec<u8>, _>(&[[1u8, 2].as_slice()]), Ok(true));
    assert!(differs_from::<Vec<u8>, _>(&[vec![1u16]]).is_err());
    assert_eq!(differs_from::<[u8; 3], _>(&[(1u8, 2u8, 3u8)]), Ok(true));
}

#[test]
fn types_that_check_their_values_are_traced_with_values_that_they_accept() {
    #[derive(Serialize, Deserialize)]
    struct Checked {
        number: NonZeroU32,
        address: IpAddr,
        time: Duration,
        even: Even,
        last: u8,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(try_from = "u32", into = "u32")]
    #[derive(Clone)]
    struct Even(u32);

    impl TryFrom<u32> for Even {
        type Error = String;

        fn try_from(number: u32) -> Result<Self, String> {
            if number > 0 && number.is_multiple_of(2) { Ok(Self(number)) } else { Err(format!("{number} is odd")) }
        }
    }

    impl From<Even> for u32 {
        fn from(Even(number): Even) -> Self {
            number
        }
    }

    let (types, root) = traced::<Checked>();
    let DataType::Struct { fields, .. } = &types[root as usize] else { panic!("{types:?}") };
    assert_eq!(types[fields[3].data_type as usize], DataType::U32);
    assert_eq!(types[fields[4].data_type as usize], DataType::U8);
    let value = Checked {
        number: NonZeroU32::MIN,
        address: IpAddr::from([127, 0, 0, 1]),
        time: Duration::from_secs(1),
        even: Even(2),
        last: 1,
    };
    assert!(differs_from::<Checked, _>(&[value]).is_ok());
}

#[test]
fn what_no_made_up_value_reaches_is_unknown_and_is_not_compared() {
    #[derive(Serialize, Deserialize)]
    #[serde(try_from = "String")]
    struct Password(#[allow(dead_code, reason = "it is only read")] String);

    impl TryFrom<String> for Password {
        type Error = String;

        fn try_from(text: String) -> Result<Self, String> {
            if text == "open sesame" { Ok(Self(text)) } else { Err("no".to_owned()) }
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Login {
        password: Password,
        name: String,
    }

    let (types, root) = traced::<Login>();
    let DataType::Struct { fields, .. } = &types[root as usize] else { panic!("{types:?}") };
    assert_eq!((fields[0].name.as_str(), fields[1].name.as_str()), ("password", "name"));
    assert_eq!(types[fields[0].data_type as usize], DataType::String);
    assert_eq!(fields[1].data_type, UNKNOWN);

    #[derive(Serialize)]
    struct Sent {
        password: &'static str,
        name: u8,
    }
    assert_eq!(differs_from::<Login, _>(&[Sent { password: "p", name: 1 }]), Ok(true));
}

#[test]
fn names_are_those_that_serde_gives() {
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Renamed {
        first_field: u8,
        #[serde(skip)]
        _skipped: u8,
        #[serde(rename = "other")]
        second_field: u8,
    }

    let (types, root) = traced::<Renamed>();
    let DataType::Struct { fields, .. } = &types[root as usize] else { panic!("{types:?}") };
    let names: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["firstField", "other"]);
}

#[test]
fn names_that_have_aliases_are_not_compared() {
    #[derive(Serialize, Deserialize)]
    struct Aliased {
        #[serde(alias = "amount", alias = "number")]
        quantity: u64,
        price: u64,
    }

    #[derive(Serialize, Deserialize)]
    enum AliasedMethod {
        Get,
        #[serde(alias = "Insert")]
        Put(u32),
        Post {
            body: String,
        },
    }

    assert_eq!(differ::<Aliased, guest::Order>(), None);
    assert!(differ::<Aliased, changed::Order>().is_some(), "their types are");
    assert_eq!(differ::<AliasedMethod, guest::Method>(), None);
    assert_eq!(differs_from::<AliasedMethod, _>(&[guest::Method::Put(1)]), Ok(false));
}

#[test]
fn what_cannot_travel_is_named() {
    #[derive(Deserialize)]
    struct Flat {
        #[allow(dead_code, reason = "it is only read")]
        id: u8,
        #[allow(dead_code, reason = "it is only read")]
        #[serde(flatten)]
        rest: HashMap<String, u8>,
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        #[allow(dead_code, reason = "it is only read")]
        Number(u8),
    }

    #[derive(Deserialize)]
    struct Outer {
        #[allow(dead_code, reason = "it is only read")]
        name: String,
        #[allow(dead_code, reason = "it is only read")]
        either: Option<Either>,
    }

    let place = |(types, root): (Vec<DataType>, u32)| untransferable(&types, root);
    assert_eq!(place(traced::<Outer>()).as_deref(), Some("Outer.either"));
    assert!(place(traced::<Flat>()).is_some());
    assert_eq!(place(traced::<guest::Cart>()), None);
}

#[test]
fn a_schema_travels_as_a_value_and_is_checked() {
    let (types, _) = traced::<guest::Cart>();
    let schema = Schema { types, functions: vec![] };
    let mut payload = Vec::new();
    codec::encode(&schema, &mut payload).unwrap();
    assert_eq!(codec::decode::<Schema>(&payload[..]).as_ref(), Ok(&schema));
    assert_eq!(schema.check(), Ok(()));

    let wrong = Schema { types: vec![DataType::Option(1)], functions: vec![] };
    assert_eq!(wrong.check(), Err(SchemaError::MissingType { named: 1, types: 1 }));
    let named = DataType::Struct { name: "x".repeat(5000), fields: vec![] };
    let long = Schema { types: vec![named], functions: vec![] };
    assert_eq!(long.check(), Err(SchemaError::NameTooLong { length: 5000 }));
    let many = Schema { types: vec![DataType::Unit; (1 << 14) + 1], functions: vec![] };
    assert!(matches!(many.check(), Err(SchemaError::TooManyTypes { .. })));
}

#[test]
fn a_type_of_an_attacker_is_compared_without_recursion_and_within_bounds() {
    let mut types: Vec<_> = (1..10_000).map(DataType::Sequence).collect();
    types.push(DataType::U8);
    assert_eq!(difference((&types, 0), (&types, 0)), None);
    assert_eq!(untransferable(&types, 0), None);

    let (guest, host) = (vec![DataType::Sequence(0)], vec![DataType::Sequence(1), DataType::Sequence(0)]);
    assert_eq!(difference((&guest, 0), (&host, 0)), None);
}
