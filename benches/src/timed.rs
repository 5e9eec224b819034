//! When guests ran, so that the rest of a call's time is the host's share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ampoule_vmm::interpose::{Interposed, Interposer, Method};
use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::{Hypervisor, HypervisorError, Vcpu};

/// What is known of the runs of a hypervisor's vCPUs. One thread at a time uses it.
#[derive(Default)]
pub(crate) struct Runs(Mutex<Times>);

#[derive(Default)]
struct Times {
    entered: Option<Instant>,
    total: Duration,
    left: Option<Instant>,
    mark: Option<Instant>,
    entered_after: Option<Duration>,
}

impl Runs {
    /// KVM, whose runs are timed here.
    pub(crate) fn on(self: &Arc<Self>, kvm: Arc<Kvm>) -> Arc<dyn Hypervisor> {
        Arc::new(Interposed::with(kvm, self.clone()))
    }

    /// How long something takes beside the runs in it, and the time of reading the clock for each of them.
    pub(crate) fn share<R>(&self, operation: impl FnOnce() -> R) -> (R, Duration) {
        let before = self.times().total;
        let start = Instant::now();
        let result = operation();
        let time = start.elapsed();
        let runs = self.times().total - before;
        (result, time.saturating_sub(runs))
    }

    /// How long ago a guest was left for the last time.
    pub(crate) fn since_left(&self) -> Option<Duration> {
        let now = Instant::now();
        self.times().left.map(|left| now - left)
    }

    /// Remembers this instant until a guest is entered.
    pub(crate) fn mark(&self) {
        self.times().mark = Some(Instant::now());
    }

    /// How long after the last mark a guest was entered.
    pub(crate) fn entered_after_mark(&self) -> Option<Duration> {
        self.times().entered_after
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interposer for Runs {
    type OfVcpu = ();

    fn vcpu_created(&self, _: &dyn Vcpu) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn before(&self, method: Method) {
        if method == Method::Run {
            let now = Instant::now();
            let mut times = self.times();
            if let Some(mark) = times.mark.take() {
                times.entered_after = Some(now - mark);
            }
            times.entered = Some(now);
        }
    }

    fn after(&self, method: Method) {
        if method == Method::Run {
            // What it takes to note the time is not the host's share.
            let mut times = self.times();
            let now = Instant::now();
            if let Some(entered) = times.entered.take() {
                times.total += now - entered;
            }
            times.left = Some(now);
        }
    }
}
