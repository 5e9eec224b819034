//! The code of the guide. Each block of Rust in `docs/guide/pages` is a piece of these files, of the guest in `rules`, or of
//! the examples; `tests/book.rs` holds that.

mod asynchronous;
mod costs;
mod errors;
mod first_call;
mod guests;
mod host_data;
mod host_memory;
mod limits;
mod logs;
mod pools;
mod programs;
mod readme;
mod reload;
mod snapshots;
mod streams;
mod types;

use ampoule::{Builder, Image, Sandbox, Snapshot};
use shop_types::Refusal;

fn image() -> Image {
    Image::embedded(ampoule::include_guest!("rules")).expect("the image of the guest `rules` is sound")
}

/// Settings for the shop, with its list of prices.
fn shop() -> Builder {
    Sandbox::builder(&image()).host_fn("list_price", list_price)
}

/// A shop that is ready for calls, to spawn others from.
fn ready() -> Snapshot {
    shop().build().expect("a sandbox").snapshot().expect("a snapshot")
}

fn list_price(item: String) -> Result<u64, Refusal> {
    if item == "lamp" { Ok(250) } else { Err(Refusal::Unknown(item)) }
}
