//! Functions that fail with errors of every kind.

use std::fmt::{self, Display};

use ampoule_guest::{HostError, export, import};
use serde::{Deserialize, Serialize};

/// An error that serde knows and that can be displayed.
#[derive(Debug, Serialize, Deserialize)]
enum ShopError {
    SoldOut { left: u32 },
    Unknown(String),
    Closed,
}

impl Display for ShopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SoldOut { left } => write!(f, "only {left} are left"),
            Self::Unknown(item) => write!(f, "there is no {item}"),
            Self::Closed => f.write_str("the shop is closed"),
        }
    }
}

/// An error that serde knows and that has no text.
#[derive(Serialize)]
struct Code(u16);

/// An error that can only be displayed.
struct Sentence;

impl Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is all that there is to say")
    }
}

type ShopResult<T> = Result<T, ShopError>;

fn price_of(item: &str) -> ShopResult<u64> {
    match item {
        "lamp" => Ok(30),
        "chair" => Err(ShopError::SoldOut { left: 2 }),
        "" => Err(ShopError::Closed),
        item => Err(ShopError::Unknown(item.to_owned())),
    }
}

#[export]
fn price(item: &str) -> Result<u64, ShopError> {
    price_of(item)
}

#[export]
fn price_by_alias(item: &str) -> ShopResult<u64> {
    price_of(item)
}

#[export]
fn fail_with_code(code: u16) -> Result<(), Code> {
    Err(Code(code))
}

#[export]
fn fail_with_sentence() -> Result<(), Sentence> {
    Err(Sentence)
}

#[export]
fn fail_with_text(text: String) -> Result<(), String> {
    Err(text)
}

/// A host function whose errors are values.
#[import]
fn stock(item: &str) -> Result<u32, ShopError>;

/// The same, by an alias.
#[import("stock.by_alias")]
fn stock_by_alias(item: &str) -> ShopResult<u32>;

/// A host function whose errors are text here, whatever they are on the host.
#[import("stock.or_text")]
fn stock_or_text(item: &str) -> Result<u32, HostError>;

#[export]
fn stock_or_left(item: &str) -> u32 {
    let [first, second] = [stock(item), stock_by_alias(item)].map(|stock| match stock {
        Ok(number) => number,
        Err(ShopError::SoldOut { left }) => 1000 + left,
        Err(_) => 0,
    });
    assert_eq!(first, second);
    first
}

#[export]
fn stock_or_reason(item: &str) -> String {
    stock_or_text(item).map_or_else(|error| error.message().to_owned(), |number| number.to_string())
}
