//! Settings of a pool, and the sandboxes that are made by them.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use ampoule_abi::text::printable_name;

use super::poolable::Recyclable;
use super::{Pool, PoolError, Poolable, Shared};
use crate::sandbox::Snapshot;

/// Settings of a new [`Pool`]; made by [`Pool::builder`].
#[must_use = "a builder makes a pool only when `build` is called"]
pub struct PoolBuilder<S: Poolable = Snapshot> {
    snapshot: S,
    configure: Box<dyn Fn(S::Spawn) -> S::Spawn + Send + Sync>,
    warm_up: Option<WarmUp<S>>,
    pub(super) size: usize,
    pub(super) ready: usize,
}

type WarmUp<S> = Box<dyn Fn(&mut <S as Poolable>::Member) -> Result<(), <S as Poolable>::Error> + Send + Sync>;

impl<S: Poolable> PoolBuilder<S> {
    pub(super) fn new(snapshot: &S) -> Self {
        let size = thread::available_parallelism().map_or(1, NonZero::get);
        Self { snapshot: snapshot.clone(), configure: Box::new(|spawn| spawn), warm_up: None, size, ready: usize::MAX }
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
    pub fn spawn_with(mut self, configure: impl Fn(S::Spawn) -> S::Spawn + Send + Sync + 'static) -> Self {
        self.configure = Box::new(configure);
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
    pub fn warm_up(mut self, warm_up: impl Fn(&mut S::Member) -> Result<(), S::Error> + Send + Sync + 'static) -> Self {
        self.warm_up = Some(Box::new(warm_up));
        self
    }

    /// Makes the pool, and the sandboxes that are to be ready.
    ///
    /// # Errors
    /// [`PoolError::Spawn`], [`PoolError::WarmUp`] and [`PoolError::Restore`], and their likes for programs, when a sandbox cannot
    /// be made; [`PoolError::NoSize`].
    pub fn build(self) -> Result<Pool<S>, PoolError> {
        if self.size == 0 {
            return Err(PoolError::NoSize);
        }
        Ok(Pool(Arc::new(Shared::new(self)?)))
    }

    /// A new sandbox, ready for anyone.
    pub(super) fn make(&self) -> Result<Box<S::Recyclable>, PoolError> {
        let mut made = S::Recyclable::spawn(self.spawn())?;
        if let Some(warm_up) = &self.warm_up {
            warm_up(made.member_mut()).map_err(S::not_warmed_up)?;
            made.recycle().map_err(Into::into)?;
        }
        Ok(Box::new(made))
    }

    /// The name of the sandboxes' executable, to be shown.
    pub(super) fn image_name(&self) -> impl fmt::Display {
        printable_name(self.snapshot.executable_name())
    }

    /// Settings of one sandbox, with host functions and outputs of its own.
    pub(super) fn spawn(&self) -> S::Spawn {
        (self.configure)(self.snapshot.settings())
    }
}

impl<S: Poolable> fmt::Debug for PoolBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("snapshot", &self.snapshot)
            .field("size", &self.size)
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}
