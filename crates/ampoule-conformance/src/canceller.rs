//! Ends a guest's run from another thread, as the upper layers do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ampoule_vmm::{Interrupt, Region};

use crate::failure::Failure;
use crate::guest::{Guest, offset};
use crate::signal::{self, Kick};

/// Ends a run of a guest on the thread that made this.
pub(crate) struct Canceller {
    interrupter: Arc<dyn Interrupt>,
    kick: Kick,
    ram: Arc<Region>,
    delay: u64,
    struck: AtomicBool,
}

impl Canceller {
    /// `delay` is how many rounds of a loop it waits.
    pub(crate) fn new(guest: &Guest, delay: u64) -> Result<Canceller, Failure> {
        Ok(Canceller {
            interrupter: guest.vcpu.interrupter(),
            kick: Kick::to_this_thread()?,
            ram: guest.ram.clone(),
            delay,
            struck: AtomicBool::new(false),
        })
    }

    /// Makes the request while `run` is under way, or a little before or after. Clearing it is left to the caller.
    pub(crate) fn strike_during<T>(&self, run: impl FnOnce(&AtomicBool) -> Result<T, Failure>) -> Result<T, Failure> {
        let result = thread::scope(|scope| {
            thread::Builder::new().spawn_scoped(scope, || self.strike())?;
            run(&self.struck)
        });
        signal::handle_pending();
        result
    }

    /// The flag is set once the request has been made, the guest's word once the signal is on its way.
    fn strike(&self) {
        for _ in 0..self.delay {
            std::hint::spin_loop();
        }
        self.interrupter.request();
        self.struck.store(true, Ordering::SeqCst);
        self.kick.send();
        self.ram.write_u64(offset(FLAG), 1).expect("the page lies within the region");
    }
}

/// The page of data whose first word tells the guest that the signal is on its way.
pub(crate) const FLAG: usize = 64;

/// About as long as it takes to start a thread and enter a guest.
pub(crate) const LONGEST_DELAY: u64 = 20_000;
