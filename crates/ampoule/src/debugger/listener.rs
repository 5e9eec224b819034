//! The socket to which debuggers connect, and the connection to one of them.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use ampoule_vmm::WithAdvice;
use thiserror::Error;

use super::address::DebuggerAddress;

/// Why no debugger can attach.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address could not be listened to.
    #[error("debuggers cannot be listened to at `{address}`: {}", advice(address, reason))]
    Address {
        /// The address.
        address: DebuggerAddress,
        /// What the host reports.
        reason: io::Error,
    },
    /// The thread that speaks with debuggers could not be started.
    #[error("the thread for debuggers could not be started: {}", WithAdvice(reason))]
    Thread {
        /// What the host reports.
        reason: io::Error,
    },
}

fn advice(address: &DebuggerAddress, reason: &io::Error) -> String {
    match (address, reason.kind()) {
        (DebuggerAddress::Unix(_), io::ErrorKind::AddrInUse) => {
            format!("{reason}; remove the file if no other process listens there")
        }
        (DebuggerAddress::Tcp(_), io::ErrorKind::AddrInUse) => format!("{reason}; choose another port, or 0 for any"),
        (DebuggerAddress::Unix(_), io::ErrorKind::InvalidInput) => {
            format!("{reason}; choose a path of at most {MOST_PATH_BYTES} bytes")
        }
        _ => WithAdvice(reason).to_string(),
    }
}

/// Where debuggers connect.
#[derive(Debug)]
pub(super) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Listens at the address, and says what that is where it was for the host to choose.
    pub(super) fn bind(address: &DebuggerAddress) -> io::Result<(Self, DebuggerAddress)> {
        match address {
            DebuggerAddress::Unix(path) => {
                let listener = private_socket(path)?;
                listener.set_nonblocking(true)?;
                Ok((Self::Unix(listener), address.clone()))
            }
            DebuggerAddress::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let address = DebuggerAddress::Tcp(listener.local_addr()?);
                Ok((Self::Tcp(listener), address))
            }
        }
    }

    /// Takes the next debugger; `WouldBlock` where none waits.
    pub(super) fn accept(&self) -> io::Result<Stream> {
        let stream = match self {
            Self::Unix(listener) => Stream::Unix(listener.accept()?.0),
            Self::Tcp(listener) => Stream::Tcp(listener.accept()?.0),
        };
        match &stream {
            Stream::Unix(stream) => stream.set_write_timeout(Some(PATIENCE))?,
            Stream::Tcp(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
            }
        }
        Ok(stream)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// A connection to a debugger. One that does not read what it is sent is given up after a while.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => (&mut &*stream).read(into),
            Self::Tcp(stream) => (&mut &*stream).read(into),
        }
    }

    pub(super) fn write_all(&self, from: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(stream) => (&mut &*stream).write_all(from),
            Self::Tcp(stream) => (&mut &*stream).write_all(from),
        }
    }
}

impl Stream {
    /// Ends the connection when the debugger has had a moment to end it from its side: it may be sending, and what has been sent to
    /// it would be lost with what it has sent in vain.
    pub(super) fn close(self) {
        let closing = match &self {
            Self::Unix(stream) => {
                stream.shutdown(Shutdown::Write).and_then(|()| stream.set_read_timeout(Some(FAREWELL)))
            }
            Self::Tcp(stream) => {
                stream.shutdown(Shutdown::Write).and_then(|()| stream.set_read_timeout(Some(FAREWELL)))
            }
        };
        if closing.is_ok() {
            let mut bytes = [0; 4096];
            for _ in 0..FAREWELL_READS {
                if !self.read(&mut bytes).is_ok_and(|read| read > 0) {
                    break;
                }
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// Waits until something can be read of one of the two, or is at its end, and says of which.
pub(super) fn wait_readable(files: [BorrowedFd<'_>; 2]) -> io::Result<[bool; 2]> {
    let mut waiting = files.map(|file| libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    loop {
        // SAFETY: the array has two elements and is writable, and the files stay open during the call.
        match unsafe { libc::poll(waiting.as_mut_ptr(), 2, -1) } {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
            _ => return Ok(waiting.map(|file| file.revents != 0)),
        }
    }
}

/// A socket at this path that only its user may connect to. It has its mode from the beginning, since the kernel gives the
/// path that of the unbound socket (`unix_bind` in Linux's `net/unix/af_unix.c`).
fn private_socket(path: &Path) -> io::Result<UnixListener> {
    let (address, len) = unix_address(path)?;
    // SAFETY: has no preconditions.
    let fd = checked(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the socket was opened just now, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: changes nothing but the file's mode.
    checked(unsafe { libc::fchmod(fd, 0o600) })?;
    // SAFETY: the address is readable for as many bytes.
    checked(unsafe { libc::bind(fd, (&raw const address).cast(), len) })?;
    // SAFETY: has no preconditions.
    checked(unsafe { libc::listen(fd, BACKLOG) })?;
    Ok(UnixListener::from(socket))
}

fn unix_address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() > MOST_PATH_BYTES || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is too long, or has a zero byte"));
    }
    // SAFETY: numbers and arrays of them may be zero.
    let mut address: libc::sockaddr_un = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok((address, size_of::<libc::sockaddr_un>() as libc::socklen_t))
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// How long a debugger may let the server wait that does not read.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the server waits for a debugger that is to go, each time it sends something.
const FAREWELL: Duration = Duration::from_millis(100);

/// How often it waits.
const FAREWELL_READS: usize = 4;

/// How many debuggers may wait for the one that is connected.
const BACKLOG: libc::c_int = 4;

/// `sun_path` has 108 bytes, and the path ends with a zero (Linux's `include/uapi/linux/un.h`).
const MOST_PATH_BYTES: usize = 107;
