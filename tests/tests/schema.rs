//! Types that have one name on both sides are compared by what they are made of, before the guest runs.

use std::collections::HashMap;

use ampoule::{Blame, BuildError, Builder, CallError, Sandbox};
use ampoule_tests::shop_image;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    quantity: u64,
    price: u64,
}

#[derive(Serialize, Deserialize)]
enum ShopError {
    SoldOut { left: u32 },
    Unknown(String),
    Closed,
}

/// Types by the names of the guest's with their parts in another order.
mod swapped {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct Order {
        pub(super) price: u64,
        pub(super) quantity: u64,
    }

    #[derive(Serialize)]
    #[expect(dead_code, reason = "not all variants are sent")]
    pub(super) enum Payment {
        Cash,
        Voucher(u32),
        Card { number: String },
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) enum ShopError {
        SoldOut { right: u32 },
        Unknown(String),
        Closed,
    }
}

#[derive(Serialize)]
enum Payment {
    Cash,
    Card { number: String },
    Voucher(u32),
    Credit,
}

#[derive(Serialize)]
struct Shelf {
    items: Vec<String>,
    shelves: Vec<Shelf>,
}

#[derive(Deserialize)]
struct Sale {
    #[expect(dead_code, reason = "nobody reads it")]
    item: String,
    pieces: u64,
    price: u64,
}

/// All host functions but two.
fn books() -> Builder {
    let stock = |_: String| -> Result<u32, ShopError> { Err(ShopError::Closed) };
    Sandbox::builder(&shop_image())
        .host_fn("stock", stock)
        .host_fn("stock.by_alias", stock)
        .host_fn("stock.or_text", stock)
}

/// All host functions but `discount`.
fn shop() -> Builder {
    books().host_fn("record", |sale: Sale| sale.price * sale.pieces)
}

fn sandbox() -> Sandbox {
    shop().host_fn("discount", |order: Order| Order { price: order.price / 2, ..order }).build().unwrap()
}

const SWAPPED: &str = "`Order.quantity` is the field `quantity` in the guest and the field `price` in the host";

#[test]
fn arguments_whose_fields_have_another_order_are_refused_before_the_guest_runs() {
    let mut sandbox = sandbox();
    let exits = sandbox.stats().unwrap().exits;
    let orders = vec![swapped::Order { price: 5, quantity: 2 }];
    let error = sandbox.call::<u64>("total", (&orders,)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "guest function `total`: argument 1 has another type in the guest: {SWAPPED}; build both from one definition"
        )
    );
    assert!(matches!(error, CallError::DifferentTypes { .. }) && error.blame() == Blame::Caller && !error.poisons());
    assert_eq!(sandbox.stats().unwrap().exits, exits);

    let total = sandbox.typed_fn::<(Vec<swapped::Order>,), u64>("total").unwrap();
    let error = total.call(&mut sandbox, (orders,)).unwrap_err();
    assert!(error.to_string().contains(SWAPPED), "{error}");
    assert_eq!(sandbox.call::<u64>("total", (vec![Order { quantity: 2, price: 5 }],)).unwrap(), 10);
}

#[test]
fn a_result_whose_fields_have_another_order_is_refused_when_the_function_is_resolved() {
    let mut sandbox = sandbox();
    let exits = sandbox.stats().unwrap().exits;
    let error = sandbox.typed_fn::<(Vec<Order>,), Option<swapped::Order>>("cheapest").unwrap_err();
    assert!(error.to_string().contains(SWAPPED) && error.to_string().contains("the result"), "{error}");
    let error = sandbox.call::<Option<swapped::Order>>("cheapest", (Vec::<Order>::new(),)).unwrap_err();
    assert!(error.to_string().contains(SWAPPED), "{error}");
    assert_eq!(sandbox.stats().unwrap().exits, exits);

    let orders = vec![Order { quantity: 1, price: 7 }, Order { quantity: 1, price: 3 }];
    assert_eq!(sandbox.call::<Option<Order>>("cheapest", (&orders,)).unwrap(), Some(orders[1].clone()));
}

#[test]
fn an_error_with_another_field_is_refused() {
    let mut sandbox = sandbox();
    let error = sandbox.call::<Result<u64, swapped::ShopError>>("price_by_alias", ("chair",)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest function `price_by_alias`: the error has another type in the guest: `ShopError::SoldOut.left` is the field \
         `left` in the guest and the field `right` in the host; build both from one definition"
    );
    assert!(sandbox.call::<Result<u64, ShopError>>("price_by_alias", ("chair",)).unwrap().is_err());
}

#[test]
fn a_variant_is_compared_when_it_is_first_sent() {
    let mut sandbox = sandbox();
    let mut pay = |payment| sandbox.call::<String>("pay", (payment,));
    assert_eq!(pay(swapped::Payment::Cash).unwrap(), "cash");
    let error = pay(swapped::Payment::Voucher(7)).unwrap_err();
    assert!(
        error.to_string().contains("variant 1 is `Card` in the guest and one whose variant 1 is `Voucher`"),
        "{error}"
    );

    let mut pay = |payment| sandbox.call::<String>("pay", (payment,));
    for _ in 0..2 {
        assert_eq!(pay(Payment::Card { number: "1".to_owned() }).unwrap(), "card 1");
        assert_eq!(pay(Payment::Voucher(7)).unwrap(), "voucher 7");
        assert_eq!(pay(Payment::Cash).unwrap(), "cash");
    }
    let error = pay(Payment::Credit).unwrap_err();
    assert!(matches!(error, CallError::ArgumentsRefused { .. }), "{error}");
}

#[test]
fn a_type_that_has_itself_in_it_can_be_compared() {
    let leaf = |name: &str| Shelf { items: vec![name.to_owned()], shelves: vec![] };
    let shelf = Shelf { items: vec![], shelves: vec![leaf("a"), Shelf { items: vec![], shelves: vec![leaf("b")] }] };
    assert_eq!(sandbox().call::<usize>("count_items", (shelf,)).unwrap(), 2);
}

#[test]
fn what_cannot_travel_is_refused_when_the_function_is_resolved() {
    #[derive(Serialize)]
    struct Extended {
        id: u32,
        #[serde(flatten)]
        extra: HashMap<String, String>,
    }

    let mut sandbox = sandbox();
    let extended = Extended { id: 1, extra: HashMap::new() };
    let error = sandbox.call::<()>("extended", (extended,)).unwrap_err();
    assert!(matches!(error, CallError::Untransferable { .. }) && error.to_string().contains("flatten"), "{error}");
    let error = sandbox.typed_fn::<(Extended,), ()>("extended").unwrap_err();
    assert!(matches!(error, CallError::Untransferable { .. }), "{error}");
}

#[test]
fn a_result_that_the_guest_only_writes_is_compared_by_what_it_shows() {
    #[derive(Deserialize)]
    struct Receipt {
        total: u64,
        pieces: u64,
        notes: Vec<Note>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    enum Note {
        Gift,
        Text(String),
    }

    mod other {
        use serde::Deserialize;

        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "they are only decoded")]
        pub(super) struct Receipt {
            total: u64,
            pieces: u64,
            notes: Vec<Note>,
        }

        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "they are only decoded")]
        pub(super) enum Note {
            Text(String),
            Gift,
        }
    }

    let mut sandbox = sandbox();
    for text in ["", "", "for you", "for you"] {
        let receipt: Receipt = sandbox.call("receipt", (7u64, 2u64, vec![text])).unwrap();
        assert_eq!((receipt.total, receipt.pieces), (7, 2));
        assert_eq!(receipt.notes, [if text.is_empty() { Note::Gift } else { Note::Text(text.to_owned()) }]);
    }
    let mut receipt = |notes: Vec<&str>| sandbox.call::<other::Receipt>("receipt", (7u64, 2u64, notes));
    assert!(receipt(vec![]).is_ok(), "what does not travel is not compared");
    let error = receipt(vec!["for you"]).unwrap_err();
    assert!(matches!(error, CallError::DifferentTypes { .. }), "{error}");
    assert!(error.to_string().contains("is an enum whose variant 1 is `Text` in the guest"), "{error}");
    assert!(sandbox.call::<Receipt>("receipt", (7u64, 2u64, vec!["for you"])).is_ok());
}

#[test]
fn an_argument_that_the_guest_only_writes_is_compared_by_what_it_shows() {
    mod swapped {
        #[derive(serde::Deserialize)]
        pub(super) struct Sale {
            #[expect(dead_code, reason = "nobody reads it")]
            pub(super) item: String,
            pub(super) price: u64,
            pub(super) pieces: u64,
        }
    }

    let discount = |order: Order| order;
    let record = |sale: Sale| sale.price / sale.pieces;
    let mut sandbox = books().host_fn("discount", discount).host_fn("record", record).build().unwrap();
    for _ in 0..2 {
        assert_eq!(sandbox.call::<u64>("sell", ("lamp", 2u64, 10u64)).unwrap(), 5);
    }
    let record = |sale: swapped::Sale| sale.price / sale.pieces;
    let mut sandbox = books().host_fn("discount", discount).host_fn("record", record).build().unwrap();
    let error = sandbox.call::<u64>("sell", ("lamp", 2u64, 10u64)).unwrap_err();
    assert!(error.to_string().contains("`Sale.pieces` is the field `pieces` in the guest"), "{error}");
}

#[test]
fn a_host_function_whose_parameter_has_other_fields_is_refused_when_the_sandbox_is_built() {
    for _ in 0..2 {
        let discount = |order: swapped::Order| Order { quantity: order.quantity, price: order.price };
        let error = shop().host_fn("discount", discount).build().unwrap_err();
        assert!(matches!(error, BuildError::DifferentTypes { .. }), "{error}");
        assert!(error.to_string().contains(SWAPPED), "{error}");
    }
}

#[test]
fn a_host_function_whose_result_has_other_fields_fails() {
    let discount = |order: Order| swapped::Order { quantity: order.quantity, price: order.price };
    let mut sandbox = shop().host_fn("discount", discount).build().unwrap();
    let error = sandbox.call::<u64>("discounted", (2u64, 10u64)).unwrap_err();
    assert!(matches!(error, CallError::Panicked { .. }) && error.to_string().contains(SWAPPED), "{error}");
    assert_eq!(self::sandbox().call::<u64>("discounted", (2u64, 10u64)).unwrap(), 10);
}

#[test]
fn a_spawned_sandbox_compares_types_as_the_first_one_does() {
    let mut original = sandbox();
    let snapshot = original.snapshot().unwrap();
    let stock = |_: String| -> Result<u32, ShopError> { Err(ShopError::Closed) };
    let spawn = || {
        let spawn = snapshot.builder().host_fn("stock", stock).host_fn("stock.by_alias", stock);
        spawn.host_fn("stock.or_text", stock).host_fn("record", |_: Sale| 0u64)
    };
    let mut spawned = spawn().host_fn("discount", |order: Order| order).build().unwrap();
    let error = spawned.call::<u64>("total", (vec![swapped::Order { price: 5, quantity: 2 }],)).unwrap_err();
    assert!(error.to_string().contains(SWAPPED), "{error}");
    let discount = |order: swapped::Order| Order { quantity: order.quantity, price: order.price };
    let error = spawn().host_fn("discount", discount).build().unwrap_err();
    assert!(matches!(error, BuildError::DifferentTypes { .. }), "{error}");
}

#[test]
fn a_mailbox_that_the_guests_types_do_not_fit_is_too_small() {
    let sized = |size| shop().host_fn("discount", |order: Order| order).mailbox_size(size).build();
    let needed = match sized(4096).unwrap_err() {
        BuildError::SchemaTooLarge { needed } => needed as usize,
        error => panic!("{error}"),
    };
    assert!(matches!(sized(needed - 1), Err(BuildError::SchemaTooLarge { .. })));
    sized(needed).unwrap();
}
