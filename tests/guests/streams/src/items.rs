//! Streams of values.

use std::io;

use ampoule_guest::{Items, Sink, export};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Order {
    Pieces { item: String, pieces: u32 },
    Everything,
}

/// How many orders there are, of how many pieces in all, and the item of the last one, of which no more than a part.
#[export]
fn orders(orders: Items<'_, Order>) -> io::Result<(u64, u32, String)> {
    let (mut count, mut total, mut last) = (0, 0, String::new());
    for order in orders {
        count += 1;
        last = match order? {
            Order::Pieces { item, pieces } => {
                total += pieces;
                item
            }
            Order::Everything => "*".to_owned(),
        };
    }
    last.truncate(20);
    Ok((count, total, last))
}

/// The first of them.
#[export]
fn take_items(numbers: Items<'_, u32>, count: u32) -> io::Result<Vec<u32>> {
    numbers.take(count as usize).collect()
}

/// Items and errors, as they come, until there is nothing.
#[export]
fn items_and_errors(numbers: Items<'_, u32>) -> Vec<Result<u32, String>> {
    numbers.map(|number| number.map_err(|error| format!("{:?}: {error}", error.kind()))).collect()
}

#[export]
fn double(numbers: Items<'_, u64>, mut doubled: Sink<'_, u64>) -> io::Result<u64> {
    let mut count = 0;
    for number in numbers {
        doubled.send(2 * number?)?;
        count += 1;
    }
    doubled.flush()?;
    Ok(count)
}

/// Sends texts of these lengths, and returns which could not be sent.
#[export]
fn send_texts(lengths: Vec<u32>, mut texts: Sink<'_, String>) -> Vec<(u32, String)> {
    let mut failed = Vec::new();
    for length in lengths {
        if let Err(error) = texts.send("x".repeat(length as usize)) {
            failed.push((length, error.to_string()));
        }
    }
    failed
}

/// Sends orders, and leaves it to the end of the call to send them.
#[export]
fn send_orders(pieces: u32, mut orders: Sink<'_, Order>) -> io::Result<()> {
    orders.send(Order::Everything)?;
    orders.send(Order::Pieces { item: "lamp".to_owned(), pieces })
}

/// How sending fails, before and after.
#[export]
fn failures_of_sending(mut numbers: Sink<'_, u32>) -> Vec<String> {
    let mut outcomes = Vec::new();
    for piece in 0..3 {
        for number in 0..3 {
            numbers.send(10 * piece + number).expect("it gathers");
        }
        outcomes.push(numbers.flush().map_or_else(|error| error.to_string(), |()| "sent".to_owned()));
    }
    outcomes
}
