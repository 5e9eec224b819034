//! The limits of a process (getrlimit(2)). It lowers them as it likes, and finds them as it has set them.
//!
//! That of descriptors holds. What the others would keep from growing is bounded by what the application grants anyway, so they
//! are told back and have no effect.

use linux_raw_sys::general::{
    RLIMIT_CORE, RLIMIT_CPU, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_RTPRIO,
    RLIMIT_RTTIME, RLIMIT_STACK, rlimit64,
};
use serde::{Deserialize, Serialize};

use ampoule_vmm::GuestVirt;

use crate::address_space::AddressSpace;

use super::State;
use super::errno::Errno;
use super::structure::{read_fields, to_bytes};
use super::uint;

/// The limits of a process, by their number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ResourceLimits([Limit; LIMITS]);

/// What holds, and what that can be set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Limit {
    pub(super) soft: u64,
    pub(super) hard: u64,
}

impl ResourceLimits {
    /// Those of a process whose stack may grow to so many bytes, and that may have so many descriptors.
    pub(super) fn new(stack: u64, descriptors: usize) -> Self {
        let mut limits = [RLIM_INFINITY; LIMITS];
        for none in [RLIMIT_CORE, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO] {
            limits[none as usize] = 0;
        }
        limits[RLIMIT_STACK as usize] = stack;
        limits[RLIMIT_NOFILE as usize] = descriptors as u64;
        limits[RLIMIT_NPROC as usize] = 1;
        Self(limits.map(|limit| Limit { soft: limit, hard: limit }))
    }

    /// Whether a process can have come to them.
    pub(super) fn are_sound(&self) -> bool {
        self.0.iter().all(|limit| limit.soft <= limit.hard)
    }

    /// # Errors
    ///
    /// `EINVAL` where Linux knows no such resource.
    pub(super) fn get(&self, resource: u32) -> Result<Limit, Errno> {
        self.0.get(resource as usize).copied().ok_or(Errno::EINVAL)
    }

    fn set(&mut self, resource: u32, new: Limit) -> Result<(), Errno> {
        let limit = self.0.get_mut(resource as usize).ok_or(Errno::EINVAL)?;
        if new.soft > new.hard {
            return Err(Errno::EINVAL);
        }
        if new.hard > limit.hard {
            return Err(Errno::EPERM);
        }
        *limit = new;
        Ok(())
    }
}

impl State {
    /// `prlimit64`, of the process itself. As on Linux the new limit is set even where the old one cannot be written.
    pub(super) fn prlimit(&mut self, space: &mut AddressSpace, [resource, new, old]: [u64; 3]) -> Result<u64, Errno> {
        let wanted = match new {
            0 => None,
            at => Some(read_fields!(space, at, rlimit64 { rlim_cur, rlim_max })?),
        };
        let before = self.limits.get(uint(resource))?;
        if let Some((soft, hard)) = wanted {
            self.limits.set(uint(resource), Limit { soft, hard })?;
            if uint(resource) == RLIMIT_NOFILE {
                self.descriptors.set_most(usize::try_from(soft).unwrap_or(usize::MAX));
            }
        }
        if old != 0 {
            let Limit { soft, hard } = before;
            space.write(GuestVirt(old), &to_bytes!(rlimit64 { rlim_cur: soft, rlim_max: hard }))?;
        }
        Ok(0)
    }
}

/// `RLIM_NLIMITS` of Linux's `include/uapi/asm-generic/resource.h`.
const LIMITS: usize = RLIMIT_RTTIME as usize + 1;

const RLIM_INFINITY: u64 = u64::MAX;

const _: () = assert!(RLIMIT_CPU == 0, "the limits are counted from that of processor time");
