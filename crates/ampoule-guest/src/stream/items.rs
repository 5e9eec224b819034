//! Values that the host gives one after the other.

use std::fmt;
use std::io::{self, ErrorKind};
use std::vec;

use ampoule_abi::stream::{self as wire, NumberedItems};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::rt::stream;

/// Values that the host gives while the function runs, as a parameter: the host passes an `ampoule::Items`.
///
/// ```
/// use std::io;
///
/// use ampoule_guest::{Items, export};
///
/// #[export]
/// fn total(prices: Items<'_, u64>) -> io::Result<u64> {
///     let mut total = 0;
///     for price in prices {
///         total += price?;
///     }
///     Ok(total)
/// }
///
/// ampoule_guest::main!();
/// # assert_eq!(total(Items::new([20, 22])).unwrap(), 42);
/// ```
///
/// It is an iterator of results. The host takes as many items from its own as fit 64 KiB when the first of them is asked for here,
/// unless it is told to take fewer, and they come with one exit of the guest. What fails on the host is an error of the same kind
/// with the same text, behind which there may be further items. The iterator ends with the call, so it cannot be kept.
pub struct Items<'call, T> {
    source: Source<'call, T>,
}

enum Source<'call, T> {
    Host {
        /// The stream's.
        number: u64,
        /// Those that have come already.
        ready: vec::IntoIter<T>,
        /// An error behind them.
        failed: Option<io::Error>,
    },
    Own(Box<dyn Iterator<Item = io::Result<T>> + 'call>),
}

impl<'call, T: 'call> Items<'call, T> {
    /// What gives the items of something of the program's own, for tests without a host.
    pub fn new(items: impl IntoIterator<Item = T, IntoIter: 'call>) -> Self {
        Self { source: Source::Own(Box::new(items.into_iter().map(Ok))) }
    }
}

impl<T: DeserializeOwned> Iterator for Items<'_, T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<io::Result<T>> {
        match &mut self.source {
            Source::Own(items) => items.next(),
            Source::Host { number, ready, failed } => {
                if let Some(item) = ready.next() {
                    return Some(Ok(item));
                }
                if let Some(error) = failed.take() {
                    return Some(Err(error));
                }
                let mut items = Vec::new();
                let piece = stream::read(*number, usize::MAX, |piece| {
                    for item in wire::items(piece) {
                        items.push(item?);
                    }
                    Ok(())
                });
                *failed = piece.and_then(|piece| piece.map_err(malformed)).err();
                *ready = items.into_iter();
                ready.next().map(Ok).or_else(|| failed.take().map(Err))
            }
        }
    }
}

fn malformed(error: ampoule_abi::codec::DecodeError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("an item could not be decoded: {error}"))
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<'_, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let NumberedItems { number, items } = NumberedItems::deserialize(deserializer)?;
        Ok(Self { source: Source::Host { number, ready: items.into_iter(), failed: None } })
    }
}

impl<T> fmt::Debug for Items<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").finish_non_exhaustive()
    }
}
