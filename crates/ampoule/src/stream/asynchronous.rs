//! Streams whose ends are asynchronous.
//!
//! The thread of the call polls them, and sleeps where they are not ready: a waker, or whoever ends the call, wakes it up. So no
//! runtime is entered or blocked, and a call that is to end does not wait for a connection.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::ready;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reader::Source;
use super::writer::Destination;
use super::{Reader, Wait, Writer};

impl<'data> Reader<'data> {
    /// What this reads, for a call that is made where Tokio's tasks are not blocked, as by
    /// [`Pool::run`](crate::Pool::run).
    ///
    /// While it has nothing, the thread of the call sleeps, and the executor does not. A kill, a deadline, or dropping the future
    /// of `Pool::run` ends the call at once. Nothing is read ahead, so what the reader has given by then has gone to the guest.
    ///
    /// ```no_run
    /// # async fn serve(pool: ampoule::Pool, body: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
    /// use ampoule::Reader;
    ///
    /// let digest = pool.run(move |sandbox| sandbox.call::<u64>("digest", (Reader::asynchronous(body),))).await??;
    /// # Ok(()) }
    /// ```
    pub fn asynchronous(reader: impl AsyncRead + Unpin + 'data) -> Self {
        Self::of_source(Asynchronous(reader))
    }
}

impl<'data> Writer<'data> {
    /// What writes to this; see [`Reader::asynchronous`]. A call that is ended while this is not ready has written a part.
    pub fn asynchronous(writer: impl AsyncWrite + Unpin + 'data) -> Self {
        Self::of_destination(Asynchronous(writer))
    }
}

struct Asynchronous<T>(T);

impl<R: AsyncRead + Unpin> Source for Asynchronous<R> {
    fn read(&mut self, buffer: &mut [u8], waiter: &mut dyn Wait) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        wait_for(waiter, poll_fn(|context| Pin::new(&mut self.0).poll_read(context, &mut buffer)))?;
        Ok(buffer.filled().len())
    }
}

impl<W: AsyncWrite + Unpin> Destination for Asynchronous<W> {
    fn write_all(&mut self, bytes: &[u8], waiter: &mut dyn Wait) -> io::Result<()> {
        let mut rest = bytes;
        let written = poll_fn(|context| {
            while !rest.is_empty() {
                let written = ready!(Pin::new(&mut self.0).poll_write(context, rest))?;
                rest = rest.get(written..).filter(|_| written > 0).ok_or(io::ErrorKind::WriteZero)?;
            }
            Ok(()).into()
        });
        wait_for(waiter, written)
    }

    fn flush(&mut self, waiter: &mut dyn Wait) -> io::Result<()> {
        wait_for(waiter, poll_fn(|context| Pin::new(&mut self.0).poll_flush(context)))
    }
}

/// Waits for what the future gives. Where the call ends before that, an error that nobody sees.
fn wait_for<T>(waiter: &mut dyn Wait, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut result = None;
    waiter.until_ready(pin!(async { result = Some(future.await) }));
    result.unwrap_or_else(|| Err(io::Error::other("the call has ended")))
}
