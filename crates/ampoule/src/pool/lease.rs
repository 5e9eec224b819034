//! A slot of a pool in the hands of somebody: whatever becomes of them, it goes back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ampoule_abi::text::printable_name;

use super::poolable::Recyclable;
use super::slots::Slot;
use super::{PoolError, Poolable, Pooled, Shared};
use crate::metrics::{self, Level, Share};

/// A slot that was taken, and the sandbox in it, if there is one. The slot goes back when this is dropped: with the sandbox if
/// that is ready for anyone, otherwise vacant.
pub(super) struct Lease<S: Poolable> {
    shared: Arc<Shared<S>>,
    sandbox: Option<Box<S::Recyclable>>,
    /// Whether the sandbox is as the snapshot is, and nobody has got hold of it since.
    is_ready: bool,
    _taken: Share,
}

impl<S: Poolable> Lease<S> {
    /// Of a slot of this pool that was just taken.
    pub(super) fn new(shared: &Arc<Shared<S>>, slot: Slot<Box<S::Recyclable>>) -> Self {
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
    pub(super) fn hand_out(mut self) -> Pooled<S> {
        self.is_ready = false;
        Pooled::new(self)
    }

    pub(super) fn sandbox(&self) -> &S::Recyclable {
        self.sandbox.as_ref().expect(FILLED)
    }

    pub(super) fn sandbox_mut(&mut self) -> &mut S::Recyclable {
        self.sandbox.as_mut().expect(FILLED)
    }

    /// The sandbox, for good. The slot becomes vacant.
    pub(super) fn detach(mut self) -> S::Member {
        self.sandbox.take().expect(FILLED).into_member()
    }

    /// Gives the sandbox back in the state of its snapshot: at once where that takes microseconds, as it does unless the guest
    /// has ended, and otherwise off the caller's path. In a forked child it just goes.
    pub(super) fn give_back(mut self) {
        if self.shared.check().is_err() {
            return;
        }
        if !(self.sandbox().is_sound() && self.recycle()) {
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
        let shared = Arc::clone(&self.shared);
        self.sandbox_mut().renew_host_side(|| shared.settings.spawn())
    }

    /// Makes the sandbox ready for somebody else, and says whether it is.
    fn recycle(&mut self) -> bool {
        // The writers of outputs are foreign code, and this thread may be unwinding.
        let recycled = catch_unwind(AssertUnwindSafe(|| self.sandbox_mut().recycle()));
        self.is_ready = match recycled {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                let (image, sandbox) = (self.shared.settings.image_name(), self.sandbox().name());
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

impl<S: Poolable> Drop for Lease<S> {
    fn drop(&mut self) {
        if self.shared.check().is_ok() {
            let ready = self.sandbox.take_if(|_| self.is_ready);
            self.shared.slots.give_back(ready.map_or(Slot::Vacant, Slot::Idle));
        }
    }
}

const FILLED: &str = "a slot that is handed out has a sandbox";
