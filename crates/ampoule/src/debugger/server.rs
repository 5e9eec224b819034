//! The thread that waits for debuggers, and what belongs to it.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ampoule_vmm::Process;

use super::address::DebuggerAddress;
use super::link::Link;
use super::listener::{ListenError, Listener, Stream, wait_readable};
use super::session::Session;
use super::tracer::GdbTracer;
use crate::interrupt::block_all;
use crate::machine::{Subject, Tracer};

/// Listens for a debugger of one guest; see [`Builder::gdb`](crate::Builder::gdb).
///
/// One debugger is served at a time, and others wait for it to go. It belongs to the sandbox from then on: where that is
/// dropped, the debugger is told that its program has exited.
pub struct GdbServer {
    server: Server,
    waits: bool,
}

impl GdbServer {
    /// Listens at this address.
    ///
    /// # Errors
    ///
    /// [`ListenError`] when the address is in use, or the host refuses it.
    pub fn listen(address: &DebuggerAddress) -> Result<Self, ListenError> {
        Ok(Self { server: Server::start(address)?, waits: true })
    }

    /// Whether the guest does not run before a debugger lets it. Without, a debugger can attach while a call runs.
    ///
    /// Default: it waits.
    pub fn wait(mut self, wait: bool) -> Self {
        self.waits = wait;
        self
    }

    /// Where it listens, with the port that was free.
    pub fn address(&self) -> &DebuggerAddress {
        &self.server.address
    }

    pub(crate) fn into_tracer(self) -> Box<dyn Tracer> {
        Box::new(GdbTracer::new(self.server, self.waits))
    }
}

/// The thread, until this is dropped.
pub(super) struct Server {
    pub(super) link: Arc<Link>,
    address: DebuggerAddress,
    process: Process,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(address: &DebuggerAddress) -> Result<Self, ListenError> {
        let refused = |reason| ListenError::Address { address: address.clone(), reason };
        let process = Process::current().map_err(refused)?;
        let (wake, woken) = UnixStream::pair().map_err(refused)?;
        woken.set_nonblocking(true).map_err(refused)?;
        let link = Arc::new(Link::new(wake).map_err(refused)?);
        let (listener, address) = Listener::bind(address).map_err(refused)?;
        // From here on the file of the socket is removed, even where the thread cannot be started.
        let mut server = Self { link: Arc::clone(&link), address, process, thread: None };
        let thread = thread::Builder::new().name(THREAD_NAME.to_owned());
        let started = thread.spawn(move || serve(&link, &listener, &woken));
        server.thread = Some(started.map_err(|reason| ListenError::Thread { reason })?);
        Ok(server)
    }

    /// Whether this is a child that was forked from the server's process, and has neither the thread nor what it holds.
    pub(super) fn is_inherited(&self) -> bool {
        !self.process.is_current()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_inherited() {
            return;
        }
        self.link.finish();
        if let Some(thread) = self.thread.take() {
            // It has only reported to the log where it has panicked. It ends soon, whatever its client does.
            let _ = thread.join();
        }
        if let DebuggerAddress::Unix(path) = &self.address {
            // Somebody may have removed it.
            let _ = fs::remove_file(path);
        }
    }
}

/// Serves one debugger after another.
fn serve(link: &Link, listener: &Listener, woken: &UnixStream) {
    block_all();
    let Some(subject) = link.await_subject() else { return };
    while !link.is_over() {
        match wait_readable([listener.as_fd(), woken.as_fd()]) {
            Ok([_, true]) => drain(woken),
            Ok(_) => match listener.accept() {
                Ok(stream) => attend(link, subject, stream, woken),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    tracing::warn!(%error, "a debugger could not be let in");
                    thread::sleep(PAUSE);
                }
            },
            Err(error) => return tracing::error!(%error, "debuggers can no longer be waited for"),
        }
    }
}

/// Serves a debugger until it goes, or the sandbox does.
fn attend(link: &Link, subject: &Subject, stream: Stream, woken: &UnixStream) {
    link.attach();
    // What a debugger sends is to end its session at most, even if the implementation of the protocol has an error.
    let session = AssertUnwindSafe(|| Session::new(link, subject, &stream, woken).run());
    match panic::catch_unwind(session) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error, "the session with a debugger has failed"),
        Err(_) => tracing::error!("the session with a debugger has panicked"),
    }
    link.detach();
    stream.close();
}

/// Forgets how often the thread was woken.
pub(super) fn drain(mut woken: &UnixStream) {
    while woken.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
}

impl fmt::Debug for GdbServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GdbServer").field("address", self.address()).field("waits", &self.waits).finish_non_exhaustive()
    }
}

/// At most 15 bytes, or the kernel shortens it.
const THREAD_NAME: &str = "ampoule-gdb";

/// How long the thread waits where the host is out of resources for another connection.
const PAUSE: Duration = Duration::from_millis(100);
