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

/// What an order costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// For all pieces together.
    pub cents: u64,
}

/// Why there is no offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Nobody sells this many.
    TooMany {
        /// How many there can be.
        most: u32,
    },
    /// Nobody sells the item.
    Unknown(String),
    /// The price is not known at the moment.
    TryLater,
}
