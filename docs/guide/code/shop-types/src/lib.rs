//! What the shop and its pricing rules tell each other.

use serde::{Deserialize, Serialize};

/// What a customer wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The name of the item.
    pub item: String,
    /// How many of it.
    pub pieces: u32,
}

/// What the rules say about an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offer {
    /// The order costs this much in all.
    Cents(u64),
    /// Nobody sells this many.
    TooMany {
        /// How many there can be.
        most: u32,
    },
}
