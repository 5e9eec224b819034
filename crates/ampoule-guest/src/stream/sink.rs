//! Values that the host takes one after the other.

use std::fmt;
use std::io::{self, ErrorKind};

use ampoule_abi::codec::encode;
use ampoule_abi::stream::{ITEMS_AT_ONCE, NumberedItems};
use serde::{Deserialize, Deserializer, Serialize};

use crate::rt::stream;

/// Takes values to the host while the function runs, as a parameter: the host passes an `ampoule::Sink`.
///
/// ```
/// use std::io::{self, BufRead};
///
/// use ampoule_guest::{Reader, Sink, export};
///
/// #[export]
/// fn matches(text: Reader<'_>, pattern: &str, mut found: Sink<'_, (u64, String)>) -> io::Result<()> {
///     for (number, line) in (1..).zip(text.lines()) {
///         let line = line?;
///         if line.contains(pattern) {
///             found.send((number, line))?;
///         }
///     }
///     found.flush()
/// }
///
/// ampoule_guest::main!();
/// # let mut lines = Vec::new();
/// # matches(Reader::new(&b"one\ntwo\nthree"[..]), "t", Sink::new(|found| lines.push(found))).unwrap();
/// # assert_eq!(lines, [(2, "two".to_owned()), (3, "three".to_owned())]);
/// ```
///
/// Items gather until they are 64 KiB, and go to the host together with one exit of the guest; the program continues when the host
/// has taken them. What fails on the host is an error of the same kind with the same text. Dropping it sends what has gathered,
/// and nobody sees an error then: [`flush`](Self::flush) shows it. It ends with the call, so it cannot be kept.
pub struct Sink<'call, T> {
    destination: Destination<'call, T>,
    /// Items that have gathered, one after another.
    gathered: Vec<u8>,
}

enum Destination<'call, T> {
    /// The host's, of this number.
    Host(u64),
    Own(Box<dyn FnMut(T) + 'call>),
}

impl<'call, T> Sink<'call, T> {
    /// What gives the items to a closure of the program's own, for tests without a host.
    pub fn new(take: impl FnMut(T) + 'call) -> Self {
        Self { destination: Destination::Own(Box::new(take)), gathered: Vec::new() }
    }

    /// Sends what has gathered.
    ///
    /// # Errors
    /// What fails on the host. What it has not taken is lost, so that nothing is sent twice.
    pub fn flush(&mut self) -> io::Result<()> {
        let Destination::Host(number) = self.destination else { return Ok(()) };
        if self.gathered.is_empty() {
            return Ok(());
        }
        let sent = stream::write_whole(number, &self.gathered);
        self.gathered.clear();
        sent
    }
}

impl<T: Serialize> Sink<'_, T> {
    /// Adds an item to those that have gathered, and sends them where they are enough.
    ///
    /// # Errors
    /// As for [`flush`](Self::flush); [`ErrorKind::InvalidInput`] where the item alone does not fit the mailbox or has no encoding,
    /// and the others are still to be sent.
    pub fn send(&mut self, item: T) -> io::Result<()> {
        let number = match &mut self.destination {
            Destination::Own(take) => {
                take(item);
                return Ok(());
            }
            Destination::Host(number) => *number,
        };
        let mut bytes = Vec::new();
        encode(&item, &mut bytes).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error.to_string()))?;
        let most = ITEMS_AT_ONCE.min(stream::capacity()?);
        if self.gathered.len() + bytes.len() > most {
            self.flush()?;
        }
        if bytes.len() >= most {
            return stream::write_whole(number, &bytes);
        }
        self.gathered.append(&mut bytes);
        Ok(())
    }
}

impl<T> Drop for Sink<'_, T> {
    fn drop(&mut self) {
        // An error is seen by who flushes.
        let _ = self.flush();
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Sink<'_, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let NumberedItems { number, items: _ } = NumberedItems::<T>::deserialize(deserializer)?;
        Ok(Self { destination: Destination::Host(number), gathered: Vec::new() })
    }
}

impl<T> fmt::Debug for Sink<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("gathered", &self.gathered.len()).finish_non_exhaustive()
    }
}
