//! Streams: data that a call passes piece by piece, and how the errors of their ends travel.

use alloc::vec::Vec;
use core::iter;

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Decoder};

/// A stream of items, as the value of an argument: its number, and a place that says what the items are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "Items")]
pub struct NumberedItems<T> {
    /// The number of the stream.
    pub number: u64,
    /// None of them: they follow one after another in the pieces of the stream.
    pub items: Vec<T>,
}

impl<T> NumberedItems<T> {
    /// That of the stream of this number.
    pub fn new(number: u64) -> Self {
        Self { number, items: Vec::new() }
    }
}

/// The items of one piece of a stream. Behind an error there are no more.
pub fn items<'de, T: Deserialize<'de>>(piece: &'de [u8]) -> impl Iterator<Item = Result<T, DecodeError>> {
    let mut decoder = Some(Decoder::new(piece));
    iter::from_fn(move || {
        let item = decoder.as_mut().filter(|decoder| !decoder.is_at_end())?.value();
        if item.is_err() {
            decoder = None;
        }
        Some(item)
    })
}

/// How many bytes of items travel at once where one of them is not larger: enough that the exit for a piece is a small part of
/// what its items cost.
pub const ITEMS_AT_ONCE: usize = 64 << 10;

/// Calls the macro of this name with the kinds of `std::io::ErrorKind` that travel, each with its number. Everything else is 0.
#[macro_export]
macro_rules! io_error_kinds {
    ($callback:ident) => {
        $callback! {
            NotFound = 1,
            PermissionDenied = 2,
            ConnectionRefused = 3,
            ConnectionReset = 4,
            ConnectionAborted = 5,
            NotConnected = 6,
            BrokenPipe = 7,
            AlreadyExists = 8,
            WouldBlock = 9,
            InvalidInput = 10,
            InvalidData = 11,
            TimedOut = 12,
            WriteZero = 13,
            Interrupted = 14,
            Unsupported = 15,
            UnexpectedEof = 16,
            OutOfMemory = 17,
            StorageFull = 18,
            FileTooLarge = 19,
            QuotaExceeded = 20,
            HostUnreachable = 21,
            NetworkUnreachable = 22,
            NetworkDown = 23,
            IsADirectory = 24,
            NotADirectory = 25,
            ReadOnlyFilesystem = 26,
            ResourceBusy = 27,
        }
    };
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use super::*;
    use crate::codec::{Encoder, encode};

    #[test]
    fn items_follow_one_after_another() {
        let mut piece = Vec::new();
        let mut encoder = Encoder::new(&mut piece);
        for item in [(1_u8, "one"), (2, "two")] {
            encoder.value(&item).unwrap();
        }
        encoder.finish().unwrap();
        let all: Result<Vec<(u8, &str)>, _> = items(&piece).collect();
        assert_eq!(all.unwrap(), [(1, "one"), (2, "two")]);
        piece.pop();
        let cut: Vec<_> = items::<(u8, String)>(&piece).map(|item| item.is_ok()).collect();
        assert_eq!(cut, [true, false]);
        assert_eq!(items::<u8>(&[]).count(), 0);
        assert_eq!(items::<()>(&[0, 0, 0]).count(), 3);
    }

    #[test]
    fn the_value_of_the_argument_is_a_number_and_no_items() {
        let mut bytes = vec![];
        encode(&NumberedItems::<String>::new(0x0102), &mut bytes).unwrap();
        assert_eq!(bytes, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
