//! Values that a guest takes one after the other.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use ampoule_abi::codec::encode;
use ampoule_abi::stream::ITEMS_AT_ONCE;
use serde::Serialize;

use super::{Direction, HostStream, Wait};

/// An argument whose values a guest takes one after the other while it runs, as its own `Items<'_, T>`: rows, messages, files of
/// a directory.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
/// use ampoule::Items;
///
/// // In the guest: fn total(prices: Items<'_, u64>) -> io::Result<u64>
/// let total: u64 = sandbox.call("total", (Items::new((1..=1_000_000_u64).map(|price| price * 3)),))?;
/// # Ok(()) }
/// ```
///
/// `T` can be written and read, so that its type is compared with the guest's before anything is sent. What has been said of a
/// [`Reader`](crate::Reader) holds for these too, but that a piece is as many items as fit 64 KiB, or one that is larger, up to
/// the size of the mailbox. So some items are taken ahead of the guest; [`at_once`](Self::at_once) says how many at most.
pub struct Items<'data, T>(RefCell<Feed<'data, T>>);

/// Polls for the next item.
type Next<'data, T> = Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<io::Result<T>>> + 'data>;

struct Feed<'data, T> {
    next: Next<'data, T>,
    at_once: usize,
    /// What was taken and not sent: an item in its encoding, or an error.
    held: Option<io::Result<Vec<u8>>>,
    /// The application has said that there are no more. Many streams panic when they are polled after that.
    is_over: bool,
}

impl<'data, T: Serialize + 'data> Items<'data, T> {
    /// What these give.
    pub fn new(items: impl IntoIterator<Item = T, IntoIter: 'data>) -> Self {
        Self::fallible(items.into_iter().map(Ok))
    }

    /// What these give, and their errors, which are errors of the guest with the same kind and text.
    pub fn fallible(items: impl IntoIterator<Item = io::Result<T>, IntoIter: 'data>) -> Self {
        let mut items = items.into_iter();
        Self::of_feed(move |_| Poll::Ready(items.next()))
    }

    /// What is polled for, such as `|context| receiver.poll_recv(context)`, until there is `None`. While there is nothing, the
    /// thread of the call sleeps, and the executor does not; a kill or a deadline ends the call all the same.
    pub fn asynchronous(mut poll_next: impl FnMut(&mut Context<'_>) -> Poll<Option<T>> + 'data) -> Self {
        Self::of_feed(move |context| poll_next(context).map(|item| item.map(Ok)))
    }

    fn of_feed(next: impl FnMut(&mut Context<'_>) -> Poll<Option<io::Result<T>>> + 'data) -> Self {
        Self(RefCell::new(Feed { next: Box::new(next), at_once: usize::MAX, held: None, is_over: false }))
    }

    /// How many items are taken at once at most, which is how many the guest may not get to. One is an exit for each.
    pub fn at_once(self, most: usize) -> Self {
        self.0.borrow_mut().at_once = most.max(1);
        self
    }
}

impl<T: Serialize> Feed<'_, T> {
    /// The next item in its encoding. Where others are to be sent already, only if it is there.
    fn take(&mut self, is_first: bool, waiter: &mut dyn Wait) -> Option<io::Result<Vec<u8>>> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        if self.is_over {
            return None;
        }
        let polled = if is_first {
            // It stays so where the wait is ended.
            let mut polled = Poll::Pending;
            waiter.until_ready(pin!(async { polled = Poll::Ready(poll_fn(&mut self.next).await) }));
            polled
        } else {
            (self.next)(&mut Context::from_waker(Waker::noop()))
        };
        self.is_over = matches!(polled, Poll::Ready(None));
        let Poll::Ready(Some(item)) = polled else { return None };
        Some(item.and_then(|item| {
            let mut bytes = Vec::new();
            encode(&item, &mut bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            Ok(bytes)
        }))
    }
}

impl<T: Serialize> HostStream for Items<'_, T> {
    fn read(&self, buffer: &mut Vec<u8>, most: usize, waiter: &mut dyn Wait) -> io::Result<usize> {
        let mut feed = self.0.borrow_mut();
        let mut length = 0;
        for count in 0..feed.at_once {
            let Some(item) = feed.take(count == 0, waiter) else { break };
            let room = if count == 0 { most } else { most.min(ITEMS_AT_ONCE) };
            match item {
                Ok(bytes) if bytes.len() <= room - length.min(room) => {
                    buffer.truncate(length);
                    buffer.extend(bytes);
                    length = buffer.len();
                }
                Ok(bytes) if count == 0 => {
                    let needed = bytes.len();
                    let text = format!("an item of {needed} bytes does not fit a piece, which has {most} at most");
                    return Err(io::Error::new(ErrorKind::InvalidData, text));
                }
                Err(error) if count == 0 => return Err(error),
                held => {
                    feed.held = Some(held);
                    break;
                }
            }
        }
        Ok(length)
    }

    fn write(&self, _: &[u8], _: bool, _: &mut dyn Wait) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn direction(&self) -> Direction {
        Direction::Read
    }
}

impl<T> fmt::Debug for Items<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").finish_non_exhaustive()
    }
}
