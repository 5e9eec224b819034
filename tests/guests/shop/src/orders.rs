//! Functions with types of the guest's own.

use std::collections::HashMap;

use ampoule_guest::{export, import};
use serde::{Deserialize, Serialize};

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
