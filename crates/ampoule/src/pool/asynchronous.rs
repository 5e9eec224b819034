//! A pool for Tokio tasks.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::{self, JoinError};
use tracing::Instrument;

use super::lease::Lease;
use super::poolable::Recyclable;
use super::{Pool, PoolError, Poolable, Pooled};
use crate::interrupt::InterruptHandle;
use crate::metrics::{PoolWait, Taken};

impl<S: Poolable> Pool<S> {
    /// Takes a sandbox, runs `work` with it on one of Tokio's threads for blocking work, and gives what `work` returned. No
    /// thread is blocked while all sandboxes are taken.
    ///
    /// When the future is dropped, `work` has lost its sandbox: the call that it is making ends as if it were
    /// [killed](InterruptHandle::kill), and so does every later one, before the guest is entered. The sandbox goes back to
    /// the pool when `work` returns, which nobody waits for. If `work` has not begun, it never does.
    ///
    /// ```no_run
    /// # async fn serve(pool: ampoule::Pool) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let page = pool.run(|sandbox| sandbox.call::<String>("render", ("index",)));
    /// let page = tokio::time::timeout(Duration::from_millis(50), page).await???;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`take`](Self::take); [`PoolError::RuntimeStopped`].
    ///
    /// # Panics
    /// When `work` does; the sandbox has gone back by then. Outside of a Tokio runtime.
    pub async fn run<W, R>(&self, work: W) -> Result<R, PoolError>
    where
        W: FnOnce(&mut S::Member) -> R + Send + 'static,
        R: Send + 'static,
    {
        let mut lease = self.lease().await?;
        let cancellation = Arc::new(Cancellation::default());
        let _cancel = CancelOnDrop(Arc::clone(&cancellation));
        let done = task::spawn_blocking(move || {
            if cancellation.is_cancelled() {
                return None;
            }
            if let Err(error) = lease.fill() {
                return Some(Err(error));
            }
            if cancellation.is_cancelled() {
                // It was, while the sandbox was made, which goes back unused.
                return None;
            }
            let mut sandbox = Cancellable::new(lease.hand_out(), cancellation);
            Some(Ok(work(&mut sandbox.sandbox)))
        });
        done.await.unwrap_or_else(|error| Some(Err(stopped(error)))).expect("nobody waits for cancelled work")
    }

    /// Takes a sandbox; where all are taken, the task waits for one. When the future is dropped, nothing has been taken.
    ///
    /// The calls of the sandbox block their thread like any others: [`run`](Self::run) makes them where that does no harm.
    ///
    /// # Errors
    /// As for [`take`](Self::take); [`PoolError::RuntimeStopped`].
    ///
    /// # Panics
    /// Outside of a Tokio runtime, when a sandbox has to be made.
    pub async fn take_async(&self) -> Result<Pooled<S>, PoolError> {
        let mut lease = self.lease().await?;
        if lease.is_vacant() {
            let filled = task::spawn_blocking(move || lease.fill().map(|()| lease));
            lease = filled.await.unwrap_or_else(|error| Err(stopped(error)))?;
        }
        Ok(lease.hand_out())
    }

    async fn lease(&self) -> Result<Lease<S>, PoolError> {
        self.0.check()?;
        let slot = match self.0.slots.take_or_queue() {
            Ok(slot) => {
                Taken::at_once();
                slot
            }
            Err(turn) => {
                let wait = PoolWait::begin();
                let slot = turn.instrument(self.0.wait_span()).await;
                wait.ended(true);
                slot
            }
        };
        Ok(Lease::new(&self.0, slot))
    }
}

/// Why work has no result: it panicked, which is resumed here, or it was never begun.
fn stopped(error: JoinError) -> PoolError {
    match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_) => PoolError::RuntimeStopped,
    }
}

/// Ends the calls of one piece of work: all that are made from one moment on.
#[derive(Default)]
struct Cancellation {
    is_cancelled: Arc<AtomicBool>,
    /// That of the sandbox, while the work has one.
    handle: Mutex<Option<InterruptHandle>>,
}

impl Cancellation {
    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        // See `Interruptor::cancel_by`.
        fence(Ordering::SeqCst);
        // The lock is held so that the sandbox does not go to somebody else meanwhile.
        if let Some(handle) = &*self.handle() {
            handle.kill();
        }
    }

    fn handle(&self) -> MutexGuard<'_, Option<InterruptHandle>> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct CancelOnDrop(Arc<Cancellation>);

impl Drop for CancelOnDrop {
    /// Does nothing once the work is over.
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A sandbox whose calls can be cancelled. Gives it back when it is dropped, out of reach of the cancellation.
struct Cancellable<S: Poolable> {
    sandbox: Pooled<S>,
    cancellation: Arc<Cancellation>,
}

impl<S: Poolable> Cancellable<S> {
    fn new(mut sandbox: Pooled<S>, cancellation: Arc<Cancellation>) -> Self {
        let recyclable = sandbox.lease_mut().sandbox_mut();
        recyclable.cancel_by(Arc::clone(&cancellation.is_cancelled));
        *cancellation.handle() = Some(recyclable.interrupt_handle());
        Self { sandbox, cancellation }
    }
}

impl<S: Poolable> Drop for Cancellable<S> {
    fn drop(&mut self) {
        *self.cancellation.handle() = None;
    }
}
