//! Settings of a pool.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use super::error::PoolError;
use super::place::Shared;
use super::source::Source;
use super::{Pool, PooledSandbox};
use crate::error::CallError;
use crate::sandbox::{Sandbox, Snapshot, Spawn};

/// Settings of a new [`Pool`]; made by [`Pool::builder`].
#[must_use = "a builder makes a pool only when `build` is called"]
pub struct PoolBuilder {
    source: Source,
    size: usize,
    ready: usize,
}

impl PoolBuilder {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let size = thread::available_parallelism().map_or(1, NonZero::get);
        Self { source: Source::new(snapshot.clone()), size, ready: usize::MAX }
    }

    /// How many sandboxes there may be, at most. Each costs a virtual machine, and the memory that guests have written in it.
    ///
    /// Default: as many as there are processors for the process, so that all can run at once.
    pub fn size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// How many of them [`build`](Self::build) makes; the others are made when they are first needed, by the thread that
    /// needs them.
    ///
    /// Default: all.
    pub fn ready(mut self, sandboxes: usize) -> Self {
        self.ready = sandboxes;
        self
    }

    /// How a sandbox is made from the snapshot: with which host functions, outputs and limits. Called for each sandbox, and
    /// also later and on other threads, when a sandbox is replaced; it has new host functions then.
    ///
    /// Host functions keep their state from one user of a sandbox to the next.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// # let snapshot = ampoule::Sandbox::builder(&image).build()?.snapshot()?;
    /// use ampoule::{Output, Pool};
    ///
    /// let pool = Pool::builder(&snapshot)
    ///     .size(16)
    ///     .spawn_with(|spawn| spawn.host_fn("weekday", || "Monday".to_string()).stderr(Output::discard()))
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn spawn_with(mut self, configure: impl Fn(Spawn) -> Spawn + Send + Sync + 'static) -> Self {
        self.source.configure = Box::new(configure);
        self
    }

    /// What each new sandbox does once, before it goes back to the snapshot and is given to anyone: calls that use the
    /// memory that later calls will use. The first write to a page costs more than any later one, even with a reset in
    /// between, and this gets it done beforehand.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// # let snapshot = ampoule::Sandbox::builder(&image).build()?.snapshot()?;
    /// use ampoule::Pool;
    ///
    /// let pool = Pool::builder(&snapshot).warm_up(|sandbox| sandbox.call("render", ("a typical page",))).build()?;
    /// # Ok(()) }
    /// ```
    pub fn warm_up(mut self, warm_up: impl Fn(&mut Sandbox) -> Result<(), CallError> + Send + Sync + 'static) -> Self {
        self.source.warm_up = Some(Box::new(warm_up));
        self
    }

    /// Makes the pool, and the sandboxes that are to be ready.
    ///
    /// # Errors
    /// [`PoolError::Spawn`], [`PoolError::WarmUp`] and [`PoolError::Restore`] when a sandbox cannot be made;
    /// [`PoolError::NoSize`].
    pub fn build(self) -> Result<Pool, PoolError> {
        let Self { source, size, ready } = self;
        if size == 0 {
            return Err(PoolError::NoSize);
        }
        let pool = Pool(Arc::new(Shared::new(source, size)?));
        let made: Vec<_> = (0..ready.min(size)).map(|_| pool.try_take()).collect::<Result<_, _>>()?;
        made.into_iter().for_each(PooledSandbox::put_back);
        Ok(pool)
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("source", &self.source)
            .field("size", &self.size)
            .field("ready", &self.ready)
            .finish()
    }
}
