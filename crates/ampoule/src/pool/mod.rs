//! Sandboxes of one snapshot, kept ready: those that are called, and those of programs that wait for their input.

#[cfg(feature = "tokio")]
mod asynchronous;
mod builder;
mod error;
mod lease;
mod poolable;
mod pooled;
mod slots;
mod upkeep;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ampoule_vmm::hypervisor::Operation;
use ampoule_vmm::{HypervisorError, Process};
use tracing::Span;

use crate::error::BuildError;
use crate::metrics::{Level, PoolWait, Share, Taken};
use crate::sandbox::Snapshot;
use crate::spans;
use lease::Lease;
use slots::{Counts, Slot, Slots};
use upkeep::Upkeep;

pub use builder::PoolBuilder;
pub use error::PoolError;
pub use poolable::Poolable;
pub use pooled::{Pooled, PooledProgram, PooledSandbox};

/// Sandboxes of one [`Snapshot`], kept ready: take one, call it, and give it back by dropping it.
///
/// Whoever takes a sandbox finds it in the state of the snapshot. Going back to that state is part of giving a sandbox back,
/// and takes a few microseconds on the thread that does it. Where the guest has ended (it was killed, or faulted), it takes
/// longer, and a thread of the pool does it; that thread also replaces sandboxes that cannot be reset, or whose host
/// function has panicked. Virtual machines are made once and reused.
///
/// There are never more sandboxes than the pool's size. When all are taken, [`take`](Self::take) waits,
/// [`take_timeout`](Self::take_timeout) waits for a limited time, and [`try_take`](Self::try_take) fails at once. Whoever has waited
/// longest is served first, be it a thread or a task.
///
/// Clones share the pool; it can be used from any thread. It goes away with its last clone and its last sandbox. A child
/// that is forked cannot use it, but can make one of its own from the same snapshot.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// use ampoule::{Pool, Sandbox};
///
/// let snapshot = Sandbox::builder(&image).build()?.snapshot()?;
/// let pool = Pool::new(&snapshot, 64)?;
///
/// let mut sandbox = pool.take()?;
/// let greeting: String = sandbox.call("greet", ("World",))?;
/// drop(sandbox); // is reset, and ready for somebody else
/// # Ok(()) }
/// ```
///
/// In the same way it keeps programs that wait for their input ([`ProgramSnapshot`](crate::ProgramSnapshot)), whose machines are
/// sandboxes too:
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ampoule::{Pool, Program};
///
/// let ready = Program::new("./filter").start()?.run_until_input()?.snapshot()?;
/// let pool = Pool::new(&ready, 8)?;
/// let answer = pool.take()?.input("some text").run()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Pool<S: Poolable = Snapshot>(Arc<Shared<S>>);

/// What a pool is doing, and has done; see [`Pool::stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// How many sandboxes there may be.
    pub size: usize,
    /// Sandboxes that are ready to be taken.
    pub idle: usize,
    /// Sandboxes that somebody has, or that are being made or restored. The rest, up to [`size`](Self::size), have not been
    /// made.
    pub taken: usize,
    /// Threads and tasks that wait for a sandbox.
    pub waiting: usize,
    /// Times that a sandbox was reset for whoever comes next.
    pub recycled: u64,
    /// Times that a sandbox was given up and another one made in its place.
    pub replaced: u64,
}

impl<S: Poolable> Pool<S> {
    /// A pool of `size` sandboxes, made from a snapshot. They are all made here.
    ///
    /// Where the guest imports host functions, use [`builder`](Self::builder).
    ///
    /// # Errors
    /// [`PoolError::Spawn`] or [`PoolError::SpawnProgram`] when a sandbox cannot be made; [`PoolError::NoSize`].
    pub fn new(snapshot: &S, size: usize) -> Result<Self, PoolError> {
        Self::builder(snapshot).size(size).build()
    }

    /// Settings of a new pool.
    pub fn builder(snapshot: &S) -> PoolBuilder<S> {
        PoolBuilder::new(snapshot)
    }

    /// Takes a sandbox, and waits for one when all are taken. A thread that waits while holding the last sandbox deadlocks.
    ///
    /// # Errors
    /// [`PoolError::Spawn`], [`PoolError::WarmUp`] or [`PoolError::Restore`], or their likes for programs, when one has to be made
    /// and that fails; [`PoolError::Forked`].
    pub fn take(&self) -> Result<Pooled<S>, PoolError> {
        self.0.check()?;
        self.hand_out(self.wait(None).expect("a wait without an end ends with a slot"))
    }

    /// Takes a sandbox, and waits for one until `timeout` has passed when all are taken.
    ///
    /// # Errors
    /// [`PoolError::TimedOut`], and as for [`take`](Self::take).
    pub fn take_timeout(&self, timeout: Duration) -> Result<Pooled<S>, PoolError> {
        self.0.check()?;
        let start = Instant::now();
        let slot = self.wait(start.checked_add(timeout));
        self.hand_out(slot.ok_or(PoolError::TimedOut { size: self.0.settings.size, waited: start.elapsed() })?)
    }

    /// Takes a sandbox, unless all are taken.
    ///
    /// # Errors
    /// [`PoolError::Exhausted`], and as for [`take`](Self::take).
    pub fn try_take(&self) -> Result<Pooled<S>, PoolError> {
        self.0.check()?;
        let Some(slot) = self.0.slots.try_take() else {
            Taken::exhausted();
            return Err(PoolError::Exhausted { size: self.0.settings.size });
        };
        Taken::at_once();
        self.hand_out(slot)
    }

    /// What the pool is doing, and has done.
    pub fn stats(&self) -> PoolStats {
        let Counts { idle, vacant, waiting } = self.0.slots.counts();
        PoolStats {
            size: self.0.settings.size,
            idle,
            taken: self.0.settings.size - idle - vacant,
            waiting,
            recycled: self.0.recycled.load(Ordering::Relaxed),
            replaced: self.0.replaced.load(Ordering::Relaxed),
        }
    }

    /// A slot, for which is waited until then at most.
    fn wait(&self, until: Option<Instant>) -> Option<Slot<Box<S::Recyclable>>> {
        match self.0.slots.take_or_queue() {
            Ok(slot) => {
                Taken::at_once();
                Some(slot)
            }
            Err(turn) => {
                let _span = self.0.wait_span().entered();
                let wait = PoolWait::begin();
                let slot = turn.wait(until);
                wait.ended(slot.is_some());
                slot
            }
        }
    }

    fn hand_out(&self, slot: Slot<Box<S::Recyclable>>) -> Result<Pooled<S>, PoolError> {
        let mut lease = Lease::new(&self.0, slot);
        lease.fill()?;
        Ok(lease.hand_out())
    }
}

impl<S: Poolable> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("settings", &self.0.settings).field("stats", &self.stats()).finish()
    }
}

/// What the handles and the sandboxes of a pool share.
struct Shared<S: Poolable> {
    settings: PoolBuilder<S>,
    slots: Slots<Box<S::Recyclable>>,
    upkeep: Upkeep<S>,
    /// How many times a sandbox was made ready for somebody else.
    recycled: AtomicU64,
    /// How many sandboxes were given up, and others made in their place.
    replaced: AtomicU64,
    /// Whose sandboxes, waiting threads and upkeep these are.
    process: Process,
    _size: Share,
}

impl<S: Poolable> Shared<S> {
    /// Makes the sandboxes that are to be ready.
    fn new(settings: PoolBuilder<S>) -> Result<Self, PoolError> {
        let process = Process::current().map_err(|reason| {
            let refused = HypervisorError::Refused { operation: Operation::CreateVm, reason };
            PoolError::Spawn(BuildError::Hypervisor(Arc::new(refused)))
        })?;
        let ready = settings.ready.min(settings.size);
        let idle = (0..ready).map(|_| settings.make()).collect::<Result<_, _>>()?;
        Ok(Self {
            slots: Slots::new(idle, settings.size - ready),
            _size: Share::of(Level::PoolSize, settings.size),
            settings,
            upkeep: Upkeep::new(),
            recycled: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            process,
        })
    }

    /// The span of a wait for a sandbox.
    fn wait_span(&self) -> Span {
        spans::pool_wait(self.settings.image_name(), self.settings.size)
    }

    /// Makes sure that this process is the one that made the pool. In one that was forked from it nobody gives back what is
    /// taken, nor the lock of the slots where another thread held it.
    fn check(&self) -> Result<(), PoolError> {
        if self.process.is_current() { Ok(()) } else { Err(PoolError::Forked) }
    }
}
