//! A place of a pool in the hands of somebody: whatever becomes of them, it goes back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ampoule_vmm::hypervisor::Operation;
use ampoule_vmm::{HypervisorError, Process};

use super::PooledSandbox;
use super::error::PoolError;
use super::slots::{Slot, Slots};
use super::source::Source;
use super::upkeep::Upkeep;
use crate::error::BuildError;
use crate::sandbox::Sandbox;
use crate::sandbox::recycle::Recyclable;

/// What all handles, places and sandboxes of a pool share.
pub(super) struct Shared {
    pub(super) slots: Slots<Box<Recyclable>>,
    pub(super) size: usize,
    pub(super) source: Source,
    pub(super) upkeep: Upkeep,
    /// How many times a sandbox was made ready for somebody else.
    pub(super) recycled: AtomicU64,
    /// How many sandboxes were given up, and others made in their place.
    pub(super) replaced: AtomicU64,
    /// Whose sandboxes, waiting threads and upkeep these are.
    process: Process,
}

impl Shared {
    pub(super) fn new(source: Source, size: usize) -> Result<Self, PoolError> {
        let process = Process::current().map_err(|reason| {
            let refused = HypervisorError::Refused { operation: Operation::CreateVm, reason };
            PoolError::Spawn(BuildError::Hypervisor(Arc::new(refused)))
        })?;
        Ok(Self {
            slots: Slots::new(size),
            size,
            source,
            upkeep: Upkeep::default(),
            recycled: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            process,
        })
    }

    /// Makes sure that this process is the one that made the pool. In one that was forked from it nobody gives back what is
    /// taken, nor the lock of the places where another thread held it.
    pub(super) fn check(&self) -> Result<(), PoolError> {
        if self.process.is_current() { Ok(()) } else { Err(PoolError::Forked) }
    }
}

/// A place that was taken. It goes back when this is dropped: idle if it was filled, otherwise vacant.
pub(super) struct Place {
    shared: Arc<Shared>,
    filled_with: Option<Box<Recyclable>>,
}

/// A place that was taken and the sandbox that stood in it, or does now.
pub(super) struct Taken {
    pub(super) sandbox: Box<Recyclable>,
    place: Place,
}

/// What is given to whoever's turn it is.
pub(super) enum Offer {
    Ready(PooledSandbox),
    /// A place without a sandbox: making one takes a moment.
    Vacant(Place),
}

impl Place {
    fn fill(mut self, sandbox: Box<Recyclable>) {
        self.filled_with = Some(sandbox);
    }

    /// Makes a sandbox in this place.
    fn occupy(self) -> Result<PooledSandbox, PoolError> {
        let sandbox = self.shared.source.make()?;
        Ok(PooledSandbox::new(Taken { sandbox, place: self }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.shared.check().is_ok() {
            self.shared.slots.give_back(self.filled_with.take().map_or(Slot::Vacant, Slot::Idle));
        }
    }
}

impl Offer {
    /// What the slot of this pool that was just taken offers.
    pub(super) fn of(shared: &Arc<Shared>, slot: Slot<Box<Recyclable>>) -> Self {
        let place = Place { shared: Arc::clone(shared), filled_with: None };
        match slot {
            Slot::Idle(sandbox) => Self::Ready(PooledSandbox::new(Taken { sandbox, place })),
            Slot::Vacant => Self::Vacant(place),
        }
    }

    /// The sandbox, which is made if it has to be.
    pub(super) fn accept(self) -> Result<PooledSandbox, PoolError> {
        match self {
            Self::Ready(sandbox) => Ok(sandbox),
            Self::Vacant(place) => place.occupy(),
        }
    }
}

impl Taken {
    /// The sandbox, for good. Its place becomes vacant.
    pub(super) fn into_sandbox(self) -> Sandbox {
        self.sandbox.sandbox
    }

    /// Gives a sandbox back that nobody has used.
    pub(super) fn put_back(self) {
        self.place.fill(self.sandbox);
    }

    /// Gives the sandbox back in the state of its snapshot: at once where that takes microseconds, as it does unless the guest
    /// has ended, and otherwise off the caller's path. In a forked child it just goes.
    pub(super) fn give_back(mut self) {
        if self.place.shared.check().is_err() {
            return;
        }
        let is_sound = self.sandbox.sandbox.poisoned().is_none() && !self.sandbox.needs_refit();
        if is_sound && self.recycle() {
            self.put_back();
        } else {
            let shared = Arc::clone(&self.place.shared);
            shared.upkeep.hand_over(self);
        }
    }

    /// Gives a sandbox back in the state of its snapshot, or another one in its stead, whatever that takes.
    pub(super) fn renovate(mut self) {
        if !self.sandbox.is_spoiled() && self.refit() && self.recycle() {
            self.put_back();
            return;
        }
        let Self { sandbox: spoiled, place } = self;
        match place.shared.source.make() {
            Ok(sandbox) => {
                place.shared.replaced.fetch_add(1, Ordering::Relaxed);
                place.fill(sandbox);
            }
            Err(error) => {
                tracing::warn!(%error, "a sandbox of a pool could not be replaced; who needs its place tries again");
                drop(place);
            }
        }
        drop(spoiled);
    }

    /// Gives the sandbox new host functions and outputs where one of them has panicked, and says whether it has sound ones.
    fn refit(&mut self) -> bool {
        if !self.sandbox.needs_refit() {
            return true;
        }
        let settings = self.place.shared.source.settings();
        self.sandbox.refit(settings).is_ok()
    }

    /// Makes the sandbox ready for somebody else, and says whether it is.
    fn recycle(&mut self) -> bool {
        // The writers of outputs are foreign code, and this thread may be unwinding.
        let recycled = catch_unwind(AssertUnwindSafe(|| self.sandbox.recycle()));
        let is_ready = match recycled {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a sandbox of a pool could not be reset; it is replaced");
                false
            }
            Err(_) => false,
        };
        if is_ready {
            self.place.shared.recycled.fetch_add(1, Ordering::Relaxed);
        }
        is_ready
    }
}
