//! A slot of a pool in the hands of somebody: whatever becomes of them, it goes back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ampoule_abi::text::printable_name;

use super::slots::Slot;
use super::{PoolError, PooledSandbox, Shared};
use crate::metrics::{self, Level, Share};
use crate::sandbox::Sandbox;
use crate::sandbox::recycle::Recyclable;

/// A slot that was taken, and the sandbox in it, if there is one. The slot goes back when this is dropped: with the sandbox if
/// that is ready for anyone, otherwise vacant.
pub(super) struct Lease {
    shared: Arc<Shared>,
    sandbox: Option<Box<Recyclable>>,
    /// Whether the sandbox is as the snapshot is, and nobody has got hold of it since.
    is_ready: bool,
    _taken: Share,
}

impl Lease {
    /// Of a slot of this pool that was just taken.
    pub(super) fn new(shared: &Arc<Shared>, slot: Slot<Box<Recyclable>>) -> Self {
        let sandbox = match slot {
            Slot::Idle(sandbox) => Some(sandbox),
            Slot::Vacant => None,
        };
        let _taken = Share::of(Level::PoolTaken, 1);
        Self { shared: Arc::clone(shared), is_ready: sandbox.is_some(), sandbox, _taken }
    }

    /// Whether a sandbox has to be made, which takes a moment.
    #[cfg(feature = "tokio")]
    pub(super) fn is_vacant(&self) -> bool {
        self.sandbox.is_none()
    }

    /// Makes a sandbox, unless there is one.
    pub(super) fn fill(&mut self) -> Result<(), PoolError> {
        if self.sandbox.is_none() {
            self.sandbox = Some(self.shared.settings.make()?);
            self.is_ready = true;
        }
        Ok(())
    }

    /// Gives the sandbox, with which the slot is [filled](Self::fill), to somebody.
    pub(super) fn hand_out(mut self) -> PooledSandbox {
        self.is_ready = false;
        PooledSandbox::new(self)
    }

    pub(super) fn sandbox(&self) -> &Recyclable {
        self.sandbox.as_ref().expect(FILLED)
    }

    pub(super) fn sandbox_mut(&mut self) -> &mut Recyclable {
        self.sandbox.as_mut().expect(FILLED)
    }

    /// The sandbox, for good. The slot becomes vacant.
    pub(super) fn detach(mut self) -> Sandbox {
        self.sandbox.take().expect(FILLED).sandbox
    }

    /// Gives the sandbox back in the state of its snapshot: at once where that takes microseconds, as it does unless the guest
    /// has ended, and otherwise off the caller's path. In a forked child it just goes.
    pub(super) fn give_back(mut self) {
        if self.shared.check().is_err() {
            return;
        }
        let is_sound = self.sandbox().sandbox.poisoned().is_none() && !self.sandbox().needs_new_host_side();
        if !(is_sound && self.recycle()) {
            let shared = Arc::clone(&self.shared);
            shared.upkeep.hand_over(self);
        }
    }

    /// Gives the sandbox back in the state of its snapshot, or another one in its stead, whatever that takes.
    pub(super) fn renovate(mut self) {
        if !self.sandbox().is_spoiled() && self.renew_host_side() && self.recycle() {
            return;
        }
        let spoiled = self.sandbox.take();
        match self.fill() {
            Ok(()) => {
                self.shared.replaced.fetch_add(1, Ordering::Relaxed);
                metrics::replaced();
            }
            Err(error) => {
                let image = self.shared.settings.image_name();
                tracing::warn!(%error, %image, "a sandbox of a pool could not be replaced; who needs one in its place tries again");
            }
        }
        // Nobody waits for what drops with the spoiled one, which is foreign code.
        drop(self);
        drop(spoiled);
    }

    /// Gives the sandbox new host functions and outputs where one of them has panicked, and says whether it has sound ones.
    fn renew_host_side(&mut self) -> bool {
        if !self.sandbox().needs_new_host_side() {
            return true;
        }
        let spawn = self.shared.settings.spawn();
        self.sandbox_mut().renew_host_side(spawn).is_ok()
    }

    /// Makes the sandbox ready for somebody else, and says whether it is.
    fn recycle(&mut self) -> bool {
        // The writers of outputs are foreign code, and this thread may be unwinding.
        let recycled = catch_unwind(AssertUnwindSafe(|| self.sandbox_mut().recycle()));
        self.is_ready = match recycled {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                let (image, sandbox) = (self.shared.settings.image_name(), self.sandbox().sandbox.name());
                tracing::warn!(%error, %image, sandbox = %printable_name(sandbox), "a sandbox of a pool could not be reset; it is replaced");
                false
            }
            Err(_) => false,
        };
        if self.is_ready {
            self.shared.recycled.fetch_add(1, Ordering::Relaxed);
            metrics::recycled();
        }
        self.is_ready
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.shared.check().is_ok() {
            let ready = self.sandbox.take_if(|_| self.is_ready);
            self.shared.slots.give_back(ready.map_or(Slot::Vacant, Slot::Idle));
        }
    }
}

const FILLED: &str = "a slot that is handed out has a sandbox";
