//! The guest of the guide: a shop's pricing rules, written by somebody whom the shop does not trust.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::time::{Instant, SystemTime};

use ampoule_guest::{export, import};
use shop_types::{Offer, Order, Refusal};

#[import]
fn list_price(item: &str) -> Result<u64, Refusal>;

/// Greets by name.
#[export]
fn greet(name: &str) -> String {
    format!("Hello, {name}!")
}

/// Adds up all bytes.
#[export]
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte)).sum()
}

/// What an order costs, with the discount that is in force.
#[export]
fn offer(order: Order) -> Result<Offer, Refusal> {
    if order.pieces > 100 {
        return Err(Refusal::TooMany { most: 100 });
    }
    let cents = list_price(&order.item)? * u64::from(order.pieces);
    Ok(Offer { cents: cents - cents * PERCENT.get() / 100 })
}

thread_local! {
    static PERCENT: Cell<u64> = const { Cell::new(0) };
}

/// Sets the discount for the orders that follow.
#[export]
fn set_discount(percent: u64) {
    PERCENT.set(percent.min(100));
}

/// Reserves pieces of an item, as far as there are any.
#[export]
fn reserve(item: &str, pieces: u32) -> u32 {
    log::debug!("{pieces} of {item} are asked for");
    let reserved = pieces.min(5);
    if reserved < pieces {
        log::warn!(item, reserved; "not enough pieces");
    }
    reserved
}

thread_local! {
    static TICKET: Cell<u64> = const { Cell::new(0) };
}

/// A number that no other customer gets.
#[export]
fn ticket() -> u64 {
    TICKET.set(TICKET.get() + 1);
    TICKET.get()
}

fn renew_tickets() {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .expect("the host has random numbers");
    TICKET.set(u64::from_ne_bytes(bytes) >> 1);
}

ampoule_guest::main!(|| {
    renew_tickets();
    ampoule_guest::on_restore(renew_tickets);
});

/// Looks up an item that is not there.
#[export]
fn panics(index: usize) -> u64 {
    let prices = [5, 7];
    prices[index]
}

/// Gives up.
#[export]
fn aborts() {
    eprintln!("the rules make no sense");
    std::process::abort();
}

/// Says something to whoever listens.
#[export]
fn says(text: &str) {
    print!("{text}");
}

/// Days since 1970.
#[export]
fn today() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400)
}

/// Never returns.
#[export]
fn spins() {
    loop {
        std::hint::spin_loop();
    }
}

/// Takes a mebibyte at a time until this many are taken.
#[export]
fn takes_memory(mebibytes: usize) -> usize {
    (0..mebibytes).map(|_| vec![1u8; 1 << 20]).collect::<Vec<_>>().len()
}

/// Whether a thread can be started, a file be opened, and a clock be read.
#[export]
fn finds() -> (bool, bool, bool) {
    let thread = std::thread::Builder::new().spawn(|| ()).is_ok();
    let file = File::open("/etc/hostname").is_ok();
    let clock = Instant::now().elapsed().as_secs() < 3600;
    (thread, file, clock)
}

#[cfg(test)]
mod tests {
    use ampoule_guest::testing;

    use super::*;

    #[test]
    fn a_discount_is_taken_off() {
        let _list_price = testing::provide("list_price", |_: String| Ok::<u64, Refusal>(250));
        set_discount(10);
        let order = Order { item: "lamp".to_owned(), pieces: 4 };
        assert_eq!(offer(order).unwrap(), Offer { cents: 900 });
    }
}
