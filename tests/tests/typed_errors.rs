//! Errors of functions reach the other side as the values that they are, where serde knows them, and as text otherwise.

use std::fmt;

use ampoule::{BuildError, Builder, CallError, Sandbox};
use ampoule_tests::shop_image;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum ShopError {
    SoldOut { left: u32 },
    Unknown(String),
    Closed,
}

#[derive(Serialize, Deserialize)]
struct Order {
    quantity: u64,
    price: u64,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "nobody reads them")]
struct Sale {
    item: String,
    pieces: u64,
    price: u64,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Code(u16);

#[derive(Debug, PartialEq, Deserialize)]
struct Sentence;

fn stock(item: String) -> Result<u32, ShopError> {
    match item.as_str() {
        "lamp" => Ok(7),
        "chair" => Err(ShopError::SoldOut { left: 2 }),
        _ => Err(ShopError::Closed),
    }
}

fn shop() -> Builder {
    let discount = |order: Order| order;
    Sandbox::builder(&shop_image())
        .host_fn("stock", stock)
        .host_fn("stock.by_alias", stock)
        .host_fn("discount", discount)
        .host_fn("record", |_: Sale| 0u64)
}

fn sandbox() -> Sandbox {
    shop().host_fn("stock.or_text", stock).build().unwrap()
}

#[test]
fn an_error_that_serde_knows_reaches_the_host_as_that_type() {
    let mut sandbox = sandbox();
    for function in ["price", "price_by_alias"] {
        let mut price = |item| sandbox.call::<Result<u64, ShopError>>(function, (item,)).unwrap();
        assert_eq!(price("lamp"), Ok(30));
        assert_eq!(price("chair"), Err(ShopError::SoldOut { left: 2 }));
        assert_eq!(price("boat"), Err(ShopError::Unknown("boat".to_owned())));
        assert_eq!(price(""), Err(ShopError::Closed));
    }
    let price = sandbox.typed_fn::<(&str,), Result<u64, ShopError>>("price").unwrap();
    assert_eq!(price.call(&mut sandbox, ("chair",)).unwrap(), Err(ShopError::SoldOut { left: 2 }));
}

#[test]
fn a_caller_who_asks_for_the_value_gets_the_error_as_text() {
    let mut sandbox = sandbox();
    for function in ["price", "price_by_alias"] {
        assert_eq!(sandbox.call::<u64>(function, ("lamp",)).unwrap(), 30);
        let error = sandbox.call::<u64>(function, ("chair",)).unwrap_err();
        assert_eq!(error.to_string(), format!("guest function `{function}` failed: only 2 are left"));
    }
    let error = sandbox.call::<()>("fail_with_code", (404u16,)).unwrap_err();
    assert!(matches!(error, CallError::Function { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("error of the type `shop::errors::Code`, which has no text: ask for a `Result` with that type"),
        "{text}"
    );
}

#[test]
fn an_error_without_a_text_reaches_the_host_as_its_value() {
    assert_eq!(sandbox().call::<Result<(), Code>>("fail_with_code", (404u16,)).unwrap(), Err(Code(404)));
}

#[test]
fn an_error_that_only_displays_travels_as_text() {
    let mut sandbox = sandbox();
    let error = sandbox.call::<Result<(), Sentence>>("fail_with_sentence", ()).unwrap_err();
    assert!(matches!(&error, CallError::Function { message, .. } if message == "this is all that there is to say"));

    let text = "no".to_owned();
    assert_eq!(sandbox.call::<Result<(), String>>("fail_with_text", (&text,)).unwrap(), Err(text));
}

#[test]
fn an_error_of_another_type_is_refused_before_the_guest_runs() {
    #[derive(Debug, Deserialize)]
    struct OtherError;

    let error = sandbox().call::<Result<u64, OtherError>>("price", ("lamp",)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest function `price` is (&str) -> Result<u64, ShopError>, its result was asked for as Result<u64, OtherError>; \
         ask for `Result<u64, ShopError>`, or for `u64` to have its error as text, in `CallError::Function`"
    );
}

#[test]
fn the_error_of_a_host_function_reaches_the_guest_as_that_type() {
    let mut sandbox = sandbox();
    let mut stock = |item| sandbox.call::<u32>("stock_or_left", (item,)).unwrap();
    assert_eq!((stock("lamp"), stock("chair"), stock("boat")), (7, 1002, 0));
}

#[test]
fn a_guest_that_takes_text_gets_the_error_of_a_host_function_as_text() {
    let mut sandbox = sandbox();
    let reason = sandbox.call::<String>("stock_or_reason", ("chair",)).unwrap();
    assert_eq!(reason, "it returned an error of the type `ShopError`");

    let text = |item: String| -> Result<u32, String> { Err(format!("no {item}")) };
    let mut sandbox = shop().host_fn("stock.or_text", text).build().unwrap();
    assert_eq!(sandbox.call::<String>("stock_or_reason", ("chair",)).unwrap(), "no chair");

    let text = |item: String| -> Result<u32, fmt::Error> { if item == "lamp" { Ok(1) } else { Err(fmt::Error) } };
    let mut sandbox = shop().try_host_fn("stock.or_text", text).build().unwrap();
    assert_eq!(sandbox.call::<String>("stock_or_reason", ("lamp",)).unwrap(), "1");
}

#[test]
fn a_host_function_whose_value_is_of_another_type_is_refused() {
    let other = |item: String| -> Result<u64, ShopError> { stock(item).map(u64::from) };
    let error = shop().host_fn("stock.or_text", other).build().unwrap_err();
    assert!(matches!(error, BuildError::HostFunctionMismatch { .. }), "{error}");
}
