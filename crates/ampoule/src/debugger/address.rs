//! Where a debugger finds its guest.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// Where a debugger finds its guest.
///
/// As text it is `unix:PATH`, `tcp:PORT` or `tcp:IP:PORT`. A port without an address is one of this machine's alone
/// (127.0.0.1). Whoever reaches the address can read and change everything of the guest, and nobody is asked who he is: a
/// socket in the file system admits only the user who has made it, a TCP port everybody who can connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DebuggerAddress {
    /// A socket in the file system, with the mode 0600. It is made, and must not be there before.
    Unix(PathBuf),
    /// A TCP port. Port 0 is any that is free.
    Tcp(SocketAddr),
}

impl DebuggerAddress {
    /// A port of this machine's alone. Port 0 is any that is free.
    pub fn local_port(port: u16) -> Self {
        Self::Tcp((Ipv4Addr::LOCALHOST, port).into())
    }
}

/// A text is no address of a debugger.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is no address for a debugger; use `unix:PATH`, `tcp:PORT` or `tcp:IP:PORT`", .text.escape_debug())]
pub struct AddressError {
    /// The text.
    pub text: String,
}

impl FromStr for DebuggerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError { text: text.to_owned() };
        match text.split_once(':').ok_or_else(error)? {
            ("unix", path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            ("tcp", place) => match place.parse() {
                Ok(port) => Ok(Self::local_port(port)),
                Err(_) => place.parse().map(Self::Tcp).map_err(|_| error()),
            },
            _ => Err(error()),
        }
    }
}

impl fmt::Display for DebuggerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written_and_a_port_alone_is_local() {
        for (text, written) in [
            ("unix:/run/guest.sock", "unix:/run/guest.sock"),
            ("unix:a:b", "unix:a:b"),
            ("tcp:1234", "tcp:127.0.0.1:1234"),
            ("tcp:0.0.0.0:1234", "tcp:0.0.0.0:1234"),
            ("tcp:[::1]:1234", "tcp:[::1]:1234"),
        ] {
            let address: DebuggerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "unix:", "tcp:", "tcp:70000", "tcp:host:1", "1234", "/run/guest.sock", "udp:1"] {
            assert_eq!(text.parse::<DebuggerAddress>(), Err(AddressError { text: text.to_owned() }));
        }
    }
}
