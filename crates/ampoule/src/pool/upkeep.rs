//! What a pool does off its users' paths: work on virtual machines that takes a long time.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, SendError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::Poolable;
use super::lease::Lease;

/// A thread of the pool, started when it is first needed. It ends when the pool does.
pub(super) struct Upkeep<S: Poolable> {
    jobs: Mutex<Option<Sender<Lease<S>>>>,
}

impl<S: Poolable> Upkeep<S> {
    /// No thread yet.
    pub(super) fn new() -> Self {
        Self { jobs: Mutex::new(None) }
    }

    /// Has a sandbox renovated soon. Where no thread can be started, now.
    pub(super) fn hand_over(&self, lease: Lease<S>) {
        if let Err(SendError(lease)) = self.send(lease) {
            renovate(lease);
        }
    }

    fn send(&self, lease: Lease<S>) -> Result<(), SendError<Lease<S>>> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_none() {
            match start() {
                Ok(sender) => *jobs = Some(sender),
                Err(error) => tracing::warn!(%error, "a pool resets its sandboxes without a thread of its own"),
            }
        }
        match &*jobs {
            Some(sender) => sender.send(lease),
            None => Err(SendError(lease)),
        }
    }
}

fn start<S: Poolable>() -> io::Result<Sender<Lease<S>>> {
    let (sender, receiver) = mpsc::channel::<Lease<S>>();
    thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(move || receiver.into_iter().for_each(renovate))?;
    Ok(sender)
}

/// Foreign code that panics here (what makes sandboxes, what drops with them) has been reported by the panic hook; the slot
/// goes back vacant, and who takes it meets the same panic where it can be handled.
fn renovate<S: Poolable>(lease: Lease<S>) {
    let _ = catch_unwind(AssertUnwindSafe(|| lease.renovate()));
}

/// At most 15 bytes: the kernel cuts off the rest.
const THREAD_NAME: &str = "ampoule-pool";
