//! A sandbox on loan.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::lease::Lease;
use crate::sandbox::Sandbox;

/// A sandbox that was taken from a [`Pool`](crate::Pool), and goes back to it when this is dropped.
///
/// It can be used like any [`Sandbox`]. What goes back is its virtual machine and its host functions, with their state. The
/// guest's state does not stay, poisoned or not; neither do outputs that were set ([`Sandbox::set_stdout`]), and an
/// [`InterruptHandle`](crate::InterruptHandle) that was kept has no effect on later calls.
///
/// A sandbox that is swapped for another one behind this (`std::mem::swap`) goes to the pool in its place, with its own host
/// functions and limits.
pub struct PooledSandbox {
    /// None only while it goes away.
    lease: Option<Lease>,
}

impl PooledSandbox {
    pub(super) fn new(lease: Lease) -> Self {
        Self { lease: Some(lease) }
    }

    /// Keeps the sandbox for good, as it is. The pool makes another one in its place when it is needed.
    pub fn detach(mut self) -> Sandbox {
        self.lease.take().expect(HELD).detach()
    }

    pub(super) fn lease_mut(&mut self) -> &mut Lease {
        self.lease.as_mut().expect(HELD)
    }
}

impl Deref for PooledSandbox {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.lease.as_ref().expect(HELD).sandbox().sandbox
    }
}

impl DerefMut for PooledSandbox {
    fn deref_mut(&mut self) -> &mut Sandbox {
        &mut self.lease_mut().sandbox_mut().sandbox
    }
}

impl Drop for PooledSandbox {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl fmt::Debug for PooledSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PooledSandbox").field(&**self).finish()
    }
}

const HELD: &str = "the sandbox is there until the guard goes away";
