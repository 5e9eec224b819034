//! Functions with types of the guest's own.

use std::collections::HashMap;
use std::fmt;

use ampoule_guest::{export, import};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    quantity: u64,
    price: u64,
}

#[derive(Serialize, Deserialize)]
enum Payment {
    Cash,
    Card { number: String },
    Voucher(u32),
}

/// It has itself in it.
#[derive(Serialize, Deserialize)]
struct Shelf {
    items: Vec<String>,
    shelves: Vec<Shelf>,
}

/// It cannot travel.
#[derive(Deserialize)]
struct Extended {
    #[expect(dead_code, reason = "nobody reads it")]
    id: u32,
    #[expect(dead_code, reason = "nobody reads it")]
    #[serde(flatten)]
    extra: HashMap<String, String>,
}

/// It can only be written.
#[derive(Serialize)]
struct Receipt {
    total: u64,
    pieces: u64,
    notes: Vec<Note>,
}

/// It can only be written.
#[derive(Serialize)]
enum Note {
    Gift,
    Text(String),
}

/// It can only be written.
#[derive(Serialize)]
struct Sale<'a> {
    item: &'a str,
    pieces: u64,
    price: u64,
}

/// The host keeps the books.
#[import]
fn record(sale: &Sale<'_>) -> u64;

/// The host decides.
#[import]
fn discount(order: &Order) -> Order;

#[export]
fn total(orders: Vec<Order>) -> u64 {
    orders.iter().map(|order| order.quantity * order.price).sum()
}

#[export]
fn cheapest(orders: Vec<Order>) -> Option<Order> {
    orders.into_iter().min_by_key(|order| order.price)
}

#[export]
fn pay(payment: Payment) -> String {
    match payment {
        Payment::Cash => "cash".to_owned(),
        Payment::Card { number } => format!("card {number}"),
        Payment::Voucher(number) => format!("voucher {number}"),
    }
}

#[export]
fn count_items(shelf: Shelf) -> usize {
    shelf.items.len() + shelf.shelves.into_iter().map(count_items).sum::<usize>()
}

/// The name of its field alone nearly fills the smallest mailbox.
struct Verbose(#[expect(dead_code, reason = "nobody reads it")] u32);

impl<'de> Deserialize<'de> for Verbose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const NAME: &str = match str::from_utf8(&[b'V'; 4000]) {
            Ok(name) => name,
            Err(_) => panic!("ASCII is UTF-8"),
        };
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Verbose;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Verbose, A::Error> {
                fields.next_element()?.map(Verbose).ok_or_else(|| Error::invalid_length(0, &self))
            }
        }
        deserializer.deserialize_struct("Verbose", &[NAME], Fields)
    }
}

#[export]
fn verbose(_verbose: Verbose) {}

#[export]
fn extended(_extended: Extended) {}

#[export]
fn receipt(total: u64, pieces: u64, notes: Vec<String>) -> Receipt {
    let notes = notes.into_iter().map(|text| if text.is_empty() { Note::Gift } else { Note::Text(text) });
    Receipt { total, pieces, notes: notes.collect() }
}

#[export]
fn sell(item: &str, pieces: u64, price: u64) -> u64 {
    record(&Sale { item, pieces, price })
}

#[export]
fn discounted(quantity: u64, price: u64) -> u64 {
    let order = discount(&Order { quantity, price });
    order.quantity * order.price
}
