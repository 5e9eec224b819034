//! Where the sandboxes of a pool come from.

use std::fmt;

use super::error::PoolError;
use crate::error::CallError;
use crate::sandbox::recycle::Recyclable;
use crate::sandbox::{Sandbox, Snapshot, Spawn};

pub(super) type Configure = Box<dyn Fn(Spawn) -> Spawn + Send + Sync>;

pub(super) type WarmUp = Box<dyn Fn(&mut Sandbox) -> Result<(), CallError> + Send + Sync>;

/// Makes sandboxes that are all alike.
pub(super) struct Source {
    snapshot: Snapshot,
    pub(super) configure: Configure,
    pub(super) warm_up: Option<WarmUp>,
}

impl Source {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        Self { snapshot, configure: Box::new(|spawn| spawn), warm_up: None }
    }

    /// A new sandbox, ready for anyone.
    pub(super) fn make(&self) -> Result<Box<Recyclable>, PoolError> {
        let mut made = Recyclable::spawn(self.settings()).map_err(PoolError::Spawn)?;
        if let Some(warm_up) = &self.warm_up {
            warm_up(&mut made.sandbox).map_err(PoolError::WarmUp)?;
            made.recycle().map_err(PoolError::Restore)?;
        }
        Ok(Box::new(made))
    }

    /// Settings of one sandbox, with host functions and outputs of its own.
    pub(super) fn settings(&self) -> Spawn {
        (self.configure)(self.snapshot.builder())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}
