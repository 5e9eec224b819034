//! Values that a guest gives one after the other.

use std::cell::RefCell;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind};
use std::pin::pin;

use ampoule_abi::stream::items;
use serde::de::DeserializeOwned;

use super::{Direction, HostStream, Wait};

/// An argument to which a guest gives values while it runs, as its own `Sink<'_, T>`: a result whose parts are wanted one by one.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
/// use ampoule::{Reader, Sink};
///
/// // In the guest: fn matches(text: Reader<'_>, pattern: &str, found: Sink<'_, (u64, String)>) -> io::Result<()>
/// let text = std::fs::File::open("log")?;
/// let show = Sink::new(|(line, text): (u64, String)| println!("{line}: {text}"));
/// let () = sandbox.call("matches", (Reader::new(text), "error", show))?;
/// # Ok(()) }
/// ```
///
/// `T` can be read and written, so that its type is compared with the guest's before it runs. The closure runs on the thread of the
/// call, like a host function, for each item of a piece that the guest has gathered; the guest continues when it has returned.
pub struct Sink<'data, T>(RefCell<Box<dyn Taker<T> + 'data>>);

/// What takes items.
trait Taker<T> {
    fn take(&mut self, item: T, waiter: &mut dyn Wait) -> io::Result<()>;
}

impl<'data, T: 'data> Sink<'data, T> {
    /// Gives the items to a closure.
    pub fn new(mut take: impl FnMut(T) + 'data) -> Self {
        Self::of_taker(Closure(move |item| {
            take(item);
            Ok(())
        }))
    }

    /// Gives the items to a closure that may refuse one, which is an error of the guest with the same text. What the guest has sent
    /// together with it is dropped; it may send others.
    pub fn fallible<E: Display>(mut take: impl FnMut(T) -> Result<(), E> + 'data) -> Self {
        Self::of_taker(Closure(move |item| take(item).map_err(|error| io::Error::other(format!("{error:#}")))))
    }

    /// Gives the items to a closure that awaits something for each, such as room in a channel. Meanwhile the thread of the call
    /// sleeps, and the executor does not; a kill or a deadline ends the call all the same.
    pub fn asynchronous(take: impl AsyncFnMut(T) + 'data) -> Self {
        Self::of_taker(Asynchronous(take))
    }

    fn of_taker(taker: impl Taker<T> + 'data) -> Self {
        Self(RefCell::new(Box::new(taker)))
    }
}

struct Closure<F>(F);

impl<T, F: FnMut(T) -> io::Result<()>> Taker<T> for Closure<F> {
    fn take(&mut self, item: T, _: &mut dyn Wait) -> io::Result<()> {
        (self.0)(item)
    }
}

struct Asynchronous<F>(F);

impl<T, F: AsyncFnMut(T)> Taker<T> for Asynchronous<F> {
    fn take(&mut self, item: T, waiter: &mut dyn Wait) -> io::Result<()> {
        let mut is_taken = false;
        waiter.until_ready(pin!(async {
            (self.0)(item).await;
            is_taken = true;
        }));
        // Otherwise the call is to end, and nobody sees this.
        if is_taken { Ok(()) } else { Err(io::Error::other("the call has ended")) }
    }
}

impl<T: DeserializeOwned> HostStream for Sink<'_, T> {
    fn read(&self, _: &mut Vec<u8>, _: usize, _: &mut dyn Wait) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    fn write(&self, bytes: &[u8], _: bool, waiter: &mut dyn Wait) -> io::Result<()> {
        let mut taker = self.0.borrow_mut();
        for item in items(bytes) {
            let item = item.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            taker.take(item, waiter)?;
        }
        Ok(())
    }

    fn direction(&self) -> Direction {
        Direction::Write
    }
}

impl<T> fmt::Debug for Sink<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}
