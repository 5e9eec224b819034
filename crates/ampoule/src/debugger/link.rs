//! Who has the turn: what the server and the tracer know of each other.

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use gdbstub::common::Signal;
use gdbstub::stub::SingleThreadStopReason;

use super::held::Held;
use crate::interrupt::Reason;
use crate::machine::Subject;

/// Why the guest has stopped, or how it has ended.
pub(super) type StopReason = SingleThreadStopReason<u64>;

/// Something that the server asks of a guest that is held.
pub(super) type Request = Box<dyn FnOnce(&mut Held<'_, '_>) + Send>;

/// See the [module](self).
pub(super) struct Link {
    state: Mutex<State>,
    /// For the tracer: there is something to do. For the server: there is a subject, or none is to come.
    changed: Condvar,
    /// For the server, which waits for its client meanwhile: something has happened.
    wake: UnixStream,
    subject: OnceLock<Subject>,
}

#[derive(Default)]
struct State {
    client: Client,
    /// Which client it is.
    session: u64,
    /// How the guest is to continue, from when the client says so until the tracer knows.
    resumption: Option<Resumption>,
    request: Option<Request>,
    /// What the client is to be told.
    report: Option<StopReason>,
    /// How the guest has ended, until it runs again or the client is told.
    end: Option<StopReason>,
    break_in: bool,
    kill: bool,
    /// Whether the sandbox is gone, and the server is to end.
    is_over: bool,
}

/// What the debugger believes of the guest, which is what the tracer makes true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Client {
    /// There is no debugger.
    #[default]
    Absent,
    /// The guest stands still until the debugger says otherwise.
    Stopped,
    /// The guest runs until something is reported.
    Running,
}

/// How a guest is to continue.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Resumption {
    /// Whether it is to stop after each instruction, except within these addresses.
    pub(super) steps: Option<Range<u64>>,
    /// The signal that it is to be given: that of the fault for which it has stopped, as a rule.
    pub(super) signal: Option<Signal>,
}

/// What the tracer is to know before each run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    pub(super) client: Client,
    pub(super) session: u64,
    pub(super) break_in: bool,
    pub(super) kill: bool,
}

/// What a guest that is held is to do.
pub(super) enum Turn {
    /// Answer this.
    Answer(Request),
    /// Continue, as the debugger says or because it has gone.
    Resume(Resumption),
    /// End.
    Kill,
    /// Look again whether the call may continue.
    Wait,
}

impl Link {
    /// A link of which the server reads the other end of `wake`.
    pub(super) fn new(wake: UnixStream) -> io::Result<Self> {
        wake.set_nonblocking(true)?;
        Ok(Self { state: Mutex::default(), changed: Condvar::new(), wake, subject: OnceLock::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Where there is no room the server has something to read, and looks here then.
        let _ = (&self.wake).write(&[0]);
    }
}

impl State {
    /// Whether a guest that is held has something to do.
    fn has_turn(&self, waits: bool) -> bool {
        let continues = match self.client {
            Client::Absent => !waits,
            Client::Stopped => false,
            Client::Running => true,
        };
        self.kill || self.request.is_some() || continues
    }

    fn take_turn(&mut self, waits: bool) -> Turn {
        if std::mem::take(&mut self.kill) {
            return Turn::Kill;
        }
        if let Some(request) = self.request.take() {
            return Turn::Answer(request);
        }
        match self.client {
            Client::Running => Turn::Resume(self.resumption.take().unwrap_or_default()),
            Client::Absent if !waits => Turn::Resume(Resumption::default()),
            Client::Absent | Client::Stopped => Turn::Wait,
        }
    }
}

/// For the server.
impl Link {
    /// Waits for the guest that it is about; `None` when there will be none.
    pub(super) fn await_subject(&self) -> Option<&Subject> {
        let mut state = self.state();
        while self.subject.get().is_none() && !state.is_over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.subject.get()
    }

    /// Whether the sandbox is gone.
    pub(super) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// A debugger has connected: the guest is to stop.
    pub(super) fn attach(&self) {
        let mut state = self.state();
        state.client = Client::Stopped;
        state.session += 1;
        (state.report, state.resumption, state.request) = (None, None, None);
        (state.break_in, state.kill) = (false, false);
        self.hand_over(state);
    }

    /// The debugger has gone: the guest continues.
    pub(super) fn detach(&self) {
        let mut state = self.state();
        state.client = Client::Absent;
        state.request = None;
        self.hand_over(state);
    }

    /// The debugger ends the guest.
    pub(super) fn kill(&self) {
        let mut state = self.state();
        state.kill = true;
        self.hand_over(state);
    }

    /// The guest is to stop as soon as it can.
    pub(super) fn break_in(&self) {
        let mut state = self.state();
        state.break_in = state.client == Client::Running;
        self.hand_over(state);
    }

    /// The guest is to continue.
    pub(super) fn resume(&self, resumption: Resumption) {
        let mut state = self.state();
        state.client = Client::Running;
        state.resumption = Some(resumption);
        self.changed.notify_all();
    }

    /// What happened since the guest was resumed, if it has stopped or ended.
    pub(super) fn take_report(&self) -> Option<StopReason> {
        let mut state = self.state();
        let end = state.end.filter(|_| state.client == Client::Running);
        state.report.take().or(end)
    }

    /// Asks the guest, which the client believes to be held, and waits until it is. Between two calls that is until the next
    /// one. `None` when the guest has ended.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Held<'_, '_>) -> R + Send + 'static,
    ) -> Option<R> {
        let (answer, answered) = mpsc::sync_channel(1);
        let mut state = self.state();
        if state.end.is_some() || state.is_over {
            return None;
        }
        // Nobody waits for the answer any more where it cannot be sent.
        state.request = Some(Box::new(move |held| answer.send(question(held)).unwrap_or_default()));
        self.changed.notify_all();
        drop(state);
        answered.recv().ok()
    }

    /// Lets the tracer know of a change, wherever it is.
    fn hand_over(&self, state: MutexGuard<'_, State>) {
        self.changed.notify_all();
        drop(state);
        if let Some(subject) = self.subject.get() {
            subject.take_out.now(Reason::BreakIn);
        }
    }
}

/// For the tracer.
impl Link {
    /// Says which guest it is about.
    pub(super) fn begin(&self, subject: Subject) -> &Subject {
        let _state = self.state();
        self.changed.notify_all();
        self.subject.get_or_init(|| subject)
    }

    pub(super) fn subject(&self) -> Option<&Subject> {
        self.subject.get()
    }

    /// The guest is about to run: what the debugger wants of it.
    pub(super) fn before_run(&self) -> Wishes {
        let mut state = self.state();
        state.end = None;
        let State { client, session, break_in, kill, .. } = *state;
        Wishes { client, session, break_in, kill }
    }

    /// Whether there is a debugger.
    pub(super) fn has_client(&self) -> bool {
        self.state().client != Client::Absent
    }

    /// The guest is held from here on. The debugger of this session is told why, unless it has the guest stopped, or there is
    /// nothing to tell: the guest is held only because a debugger had it stopped, or was waited for, when that was
    /// [looked at](Self::before_run), and may have been let go since.
    pub(super) fn hold(&self, session: u64, reason: Option<StopReason>) {
        let Some(reason) = reason else { return };
        let mut state = self.state();
        if state.session == session && state.client == Client::Running {
            state.client = Client::Stopped;
            state.break_in = false;
            state.resumption = None;
            state.report = Some(reason);
            self.wake();
        }
    }

    /// What the guest, which is held, is to do next, and which client says so. Waits a moment for it. A guest that `waits` is
    /// held even while there is no debugger.
    pub(super) fn next_turn(&self, waits: bool) -> (u64, Turn) {
        let mut state = self.state();
        if !state.has_turn(waits) {
            (state, _) = self.changed.wait_timeout(state, A_MOMENT).unwrap_or_else(PoisonError::into_inner);
        }
        (state.session, state.take_turn(waits))
    }

    /// The guest has ended. A debugger that waits for it learns that, even if the guest is restored and runs again before; one
    /// that has it stopped learns it when it lets the guest continue.
    pub(super) fn ended(&self, how: StopReason) {
        let mut state = self.state();
        (state.request, state.kill) = (None, false);
        if state.client == Client::Running {
            state.client = Client::Absent;
            state.report = Some(how);
            self.wake();
        } else {
            state.end = Some(how);
        }
    }

    /// The sandbox is gone.
    pub(super) fn finish(&self) {
        let mut state = self.state();
        state.is_over = true;
        if state.client == Client::Running && state.report.is_none() {
            state.report = state.end.or(Some(StopReason::Exited(0)));
        }
        state.request = None;
        self.changed.notify_all();
        self.wake();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// After how long a guest that is held looks whether its call was killed.
const A_MOMENT: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
