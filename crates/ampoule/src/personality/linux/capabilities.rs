//! Capabilities (capabilities(7)): the process has none, and can have none.

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    __user_cap_data_struct, __user_cap_header_struct, _LINUX_CAPABILITY_U32S_1, _LINUX_CAPABILITY_U32S_3,
    _LINUX_CAPABILITY_VERSION_1, _LINUX_CAPABILITY_VERSION_2, _LINUX_CAPABILITY_VERSION_3, CAP_LAST_CAP,
};

use crate::address_space::AddressSpace;

use super::errno::Errno;
use super::process::ProcessId;
use super::structure::read_fields;

/// `capget`: zeros for the process itself.
pub(super) fn capget(own: ProcessId, space: &mut AddressSpace, header: u64, data: u64) -> Result<u64, Errno> {
    let words = match version_words(space, header) {
        // Who gives no room for an answer asks for the version.
        Err(Errno::EINVAL) | Ok(_) if data == 0 => return Ok(0),
        words => words?,
    };
    let process = process_of(space, header)?;
    if process < 0 {
        return Err(Errno::EINVAL);
    }
    if !own.is(process) {
        return Err(Errno::ESRCH);
    }
    space.write(GuestVirt(data), &vec![0; words * SET_LEN])?;
    Ok(0)
}

/// `capset`: to what they are, which is none.
pub(super) fn capset(own: ProcessId, space: &mut AddressSpace, header: u64, data: u64) -> Result<u64, Errno> {
    let words = version_words(space, header)?;
    if !own.is(process_of(space, header)?) {
        return Err(Errno::EPERM);
    }
    let mut wanted = 0;
    for word in 0..words {
        let at = data.wrapping_add((word * SET_LEN) as u64);
        let (effective, permitted, inheritable) =
            read_fields!(space, at, __user_cap_data_struct { effective, permitted, inheritable })?;
        wanted |= u64::from(effective | permitted | inheritable) << (32 * word);
    }
    // Linux ignores what it has no meaning for.
    if wanted & KNOWN == 0 { Ok(0) } else { Err(Errno::EPERM) }
}

/// How many words each set has in the version that the program uses. Where Linux does not know it, it says which it prefers.
fn version_words(space: &mut AddressSpace, header: u64) -> Result<usize, Errno> {
    match space.read_u32(GuestVirt(header))? {
        _LINUX_CAPABILITY_VERSION_1 => Ok(_LINUX_CAPABILITY_U32S_1 as usize),
        _LINUX_CAPABILITY_VERSION_2 | _LINUX_CAPABILITY_VERSION_3 => Ok(_LINUX_CAPABILITY_U32S_3 as usize),
        _ => {
            space.write(GuestVirt(header), &_LINUX_CAPABILITY_VERSION_3.to_le_bytes())?;
            Err(Errno::EINVAL)
        }
    }
}

fn process_of(space: &AddressSpace, header: u64) -> Result<i32, Errno> {
    let (process,) = read_fields!(space, header, __user_cap_header_struct { pid })?;
    Ok(process)
}

const SET_LEN: usize = size_of::<__user_cap_data_struct>();

/// The capabilities that there are.
const KNOWN: u64 = (1 << (CAP_LAST_CAP + 1)) - 1;
