//! A sandbox on loan.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::Poolable;
use super::lease::Lease;
use super::poolable::Recyclable;
use crate::program::ProgramSnapshot;
use crate::sandbox::Snapshot;

/// A sandbox that was taken from a [`Pool`](crate::Pool), and goes back to it when it is dropped.
pub type PooledSandbox = Pooled<Snapshot>;

/// A program that was taken from a [`Pool`](crate::Pool), and goes back to it when it is dropped.
pub type PooledProgram = Pooled<ProgramSnapshot>;

/// What was taken from a [`Pool`](crate::Pool), and goes back to it when this is dropped: a [`Sandbox`](crate::Sandbox) or an
/// [`IdleProgram`](crate::IdleProgram).
///
/// It can be used like any other one. What goes back is its virtual machine and its host functions, with their state. The
/// guest's state does not stay, poisoned or not; neither do outputs that were set ([`Sandbox::set_stdout`](crate::Sandbox::set_stdout)), and an
/// [`InterruptHandle`](crate::InterruptHandle) that was kept has no effect on later calls.
///
/// A sandbox that is swapped for another one behind this (`std::mem::swap`) goes to the pool in its place, with its own host
/// functions and limits. A program of another snapshot does not: the pool makes one.
pub struct Pooled<S: Poolable> {
    /// None only while it goes away.
    lease: Option<Lease<S>>,
}

impl<S: Poolable> Pooled<S> {
    pub(super) fn new(lease: Lease<S>) -> Self {
        Self { lease: Some(lease) }
    }

    /// Keeps the sandbox for good, as it is. The pool makes another one in its place when it is needed.
    pub fn detach(mut self) -> S::Member {
        self.lease.take().expect(HELD).detach()
    }

    pub(super) fn lease_mut(&mut self) -> &mut Lease<S> {
        self.lease.as_mut().expect(HELD)
    }
}

impl<S: Poolable> Deref for Pooled<S> {
    type Target = S::Member;

    fn deref(&self) -> &S::Member {
        self.lease.as_ref().expect(HELD).sandbox().member()
    }
}

impl<S: Poolable> DerefMut for Pooled<S> {
    fn deref_mut(&mut self) -> &mut S::Member {
        self.lease_mut().sandbox_mut().member_mut()
    }
}

impl<S: Poolable> Drop for Pooled<S> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl<S: Poolable> fmt::Debug for Pooled<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pooled").field(&**self).finish()
    }
}

const HELD: &str = "the sandbox is there until the guard goes away";
