//! Functions of the application that await something, on the thread of a call.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use super::shared::Shared;
use super::state::{CallNumber, Phase};

/// Polls futures for a function of the application that runs in a call. Between two polls the thread sleeps, which a waker ends,
/// and whatever ends the call.
pub(crate) struct Awaiting<'call> {
    shared: &'call Arc<Shared>,
    /// Made when it is first needed.
    waker: Option<Waker>,
}

impl<'call> Awaiting<'call> {
    pub(super) fn new(shared: &'call Arc<Shared>) -> Self {
        Self { shared, waker: None }
    }

    /// Returns when the future is ready, or the call is to end.
    pub(crate) fn until_ready(&mut self, mut future: Pin<&mut dyn Future<Output = ()>>) {
        let Some((call, _)) = self.shared.running() else { return };
        let shared = self.shared;
        let waker =
            self.waker.get_or_insert_with(|| Waker::from(Arc::new(OfCall { shared: Arc::clone(shared), call })));
        loop {
            // What wakes the thread up from here on is about what the poll has not seen.
            shared.state.forget_wake();
            if future.as_mut().poll(&mut Context::from_waker(waker)).is_ready() || shared.enter(Phase::Asleep).is_err()
            {
                return;
            }
            shared.state.wait_for_wake();
            if shared.enter(Phase::Host).is_err() {
                return;
            }
        }
    }
}

/// Wakes the thread of a call up, as long as that call takes.
struct OfCall {
    shared: Arc<Shared>,
    call: CallNumber,
}

impl Wake for OfCall {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.shared.state.wake_up(self.call);
    }
}

impl fmt::Debug for Awaiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaiting").field("shared", self.shared).finish_non_exhaustive()
    }
}
