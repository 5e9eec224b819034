//! The terminal that the process has been lent: what it asks of it by `ioctl`, as in ioctl_tty(2).
//!
//! The process is alone in its session, and always in the foreground. How the terminal treats lines is the terminal's own
//! business, and what the process sets goes there.

use std::io;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{TCIFLUSH, TCIOFLUSH, TCOFLUSH, termios, termios2};
use linux_raw_sys::ioctl::{
    TCFLSH, TCGETS, TCGETS2, TCSBRK, TCSBRKP, TCSETS, TCSETS2, TCSETSF, TCSETSF2, TCSETSW, TCSETSW2, TCXONC, TIOCEXCL,
    TIOCGPGRP, TIOCGSID, TIOCGWINSZ, TIOCNXCL, TIOCOUTQ, TIOCSCTTY, TIOCSPGRP, TIOCSTI, TIOCSWINSZ,
};

use crate::address_space::AddressSpace;
use crate::terminal::{Attributes, Terminal};

use super::errno::Errno;
use super::process::ProcessId;
use super::{int, uint};

/// Serves a request that only terminals know.
pub(super) fn ioctl(
    terminal: &Terminal,
    own: ProcessId,
    space: &mut AddressSpace,
    command: u32,
    argument: u64,
) -> Result<u64, Errno> {
    let at = GuestVirt(argument);
    match command {
        TCGETS => space.write(at, &attributes(terminal)?)?,
        TCGETS2 => space.write(at, &[&attributes(terminal)?[..], &SPEEDS].concat())?,
        TCSETS | TCSETSW | TCSETSF | TCSETS2 | TCSETSW2 | TCSETSF2 => {
            let wanted = Attributes(space.read_array(at)?);
            if matches!(command, TCSETSF | TCSETSF2) {
                terminal.drop_input().map_err(refused)?;
            }
            terminal.set_attributes(&wanted).map_err(refused)?;
        }
        TIOCGWINSZ => space.write(at, &terminal.window_size().map_err(refused)?.0)?,
        TIOCGPGRP | TIOCGSID => space.write(at, &own.number().to_le_bytes())?,
        TIOCSPGRP if own.is(space.read_u32(at)? as i32) => {}
        TIOCSPGRP | TIOCSWINSZ | TIOCSTI => return Err(Errno::EPERM),
        TCFLSH => match uint(argument) {
            TCIFLUSH | TCIOFLUSH => terminal.drop_input().map_err(refused)?,
            TCOFLUSH => {}
            _ => return Err(Errno::EINVAL),
        },
        // What is printed is on its way, and is neither held up nor known of.
        TCXONC if (0..4).contains(&int(argument)) => {}
        TCXONC => return Err(Errno::EINVAL),
        TIOCOUTQ => space.write(at, &[0; 4])?,
        TCSBRK | TCSBRKP | TIOCEXCL | TIOCNXCL | TIOCSCTTY => {}
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

fn attributes(terminal: &Terminal) -> Result<[u8; size_of::<termios>()], Errno> {
    terminal.attributes().map(|attributes| attributes.0).map_err(refused)
}

/// Where the terminal is gone, it is as if it were hung up.
fn refused(_: io::Error) -> Errno {
    Errno::EIO
}

/// What `struct termios2` has behind `struct termios`: the speeds in both directions, which a line has that is no wire.
const SPEEDS: [u8; size_of::<termios2>() - size_of::<termios>()] = {
    let [a, b, c, d] = 38400_u32.to_le_bytes();
    [a, b, c, d, a, b, c, d]
};
