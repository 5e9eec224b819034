//! A sandbox and what its memory should be.

use std::rc::Rc;
use std::time::Duration;

use ampoule::{
    Arguments, Call, CallError, Captured, ExceededLimit, FaultAccess, FaultKind, FaultTarget, RestoreError, Sandbox,
    Snapshot, Termination,
};
use ampoule_memory_model::{Model, Page, Place, Random};
use serde::de::DeserializeOwned;

use crate::once::{Forbidden, Once, any_forbidden};

/// A snapshot, and what it holds.
pub(crate) struct Kept {
    pub(crate) snapshot: Snapshot,
    pub(crate) model: Model,
}

pub(crate) struct Tenant {
    sandbox: Sandbox,
    stdout: Captured,
    model: Model,
    /// What it goes back to when it is reset.
    initial: Model,
    /// The snapshot that it went back to last, or that was taken of it last, unless that was a reset.
    base: Option<Rc<Kept>>,
    /// What could be accessed since it last went back, and before that.
    recently: Once,
    before: Once,
    ever: Once,
}

/// How the model and the sandbox differ.
pub(crate) type Difference = String;

impl Tenant {
    pub(crate) fn new(sandbox: Sandbox, stdout: Captured, model: Model) -> Self {
        let initial = model.clone();
        let (recently, before, ever) = Default::default();
        Self { sandbox, stdout, model, initial, base: None, recently, before, ever }
    }

    /// The guest performs operations.
    pub(crate) fn run(&mut self, seed: u64, operations: u32) -> Result<(), Difference> {
        self.replay(seed, operations);
        let digest = self.sandbox.call("run", (seed, operations));
        self.compare(digest)
    }

    /// The same, but the call may end before it is complete. Returns whether it did.
    pub(crate) fn run_for(&mut self, seed: u64, operations: u32, time: Duration) -> Result<bool, Difference> {
        self.replay(seed, operations);
        match self.sandbox.call_with(Call::new("run", (seed, operations)).deadline(time)) {
            Err(CallError::Terminated { cause: Termination::LimitExceeded(ExceededLimit::Deadline(_)), .. }) => {
                Ok(true)
            }
            other => self.compare(other).map(|()| false),
        }
    }

    pub(crate) fn snapshot(&mut self) -> Result<Rc<Kept>, Difference> {
        let snapshot = self.sandbox.snapshot().map_err(|error| format!("no snapshot: {error}"))?;
        let kept = Rc::new(Kept { snapshot, model: self.model.clone() });
        self.base = Some(Rc::clone(&kept));
        self.verify()?;
        Ok(kept)
    }

    /// Goes back to a snapshot. One that was loaded from another file than the sandbox is refused; the sandbox goes back to where it
    /// went back to last.
    pub(crate) fn restore(&mut self, kept: &Rc<Kept>) -> Result<(), Difference> {
        if self.sandbox.image().is_same(kept.snapshot.image()) {
            self.restore_unseen(kept)?;
        } else {
            match self.sandbox.restore(&kept.snapshot) {
                Err(RestoreError::ForeignImage { .. }) => self.go_back_unseen()?,
                other => return Err(format!("a snapshot of another image: {other:?}")),
            }
        }
        self.verify()
    }

    pub(crate) fn reset(&mut self) -> Result<(), Difference> {
        self.reset_unseen()?;
        self.verify()
    }

    /// Goes back to where it went back to last.
    pub(crate) fn go_back(&mut self) -> Result<(), Difference> {
        self.go_back_unseen()?;
        self.verify()
    }

    /// Tries to access what must not be accessed: perhaps once where the guest is, and then where it went back to last,
    /// before anything else is accessed there.
    pub(crate) fn probe(&mut self, random: &mut Random, times: u32) -> Result<(), Difference> {
        let mut has_gone_back = false;
        for _ in 0..times {
            if !has_gone_back && random.percent(50) {
                self.go_back_unseen()?;
                has_gone_back = true;
            }
            let lately = if has_gone_back { &self.before } else { &self.recently };
            let forbidden = match random.below(10) {
                0..7 => lately.forbidden(&self.model, random),
                7..9 => self.ever.forbidden(&self.model, random),
                _ => any_forbidden(&self.model, random),
            };
            if let Some(forbidden) = forbidden {
                self.attempt(&forbidden)?;
                self.go_back_unseen()?;
                has_gone_back = true;
            }
        }
        self.verify()
    }

    /// The host reads and writes pages on the guest's behalf: those that the guest could read or write itself.
    pub(crate) fn use_host(&mut self, random: &mut Random, times: u32) -> Result<(), Difference> {
        for _ in 0..times {
            let places: Vec<_> =
                self.model.places().filter(|(place, page)| page.is_some() || !place.window.floats()).collect();
            let (place, page) = match random.below(3) {
                0 => random.pick(&places),
                1 => random.pick(&places.iter().copied().filter(|(_, page)| page.is_some()).collect::<Vec<_>>()),
                _ => random.pick(&places.iter().copied().filter(|(_, page)| is_closed(*page)).collect::<Vec<_>>()),
            }
            .unwrap_or(places[0]);
            self.show(place, page)?;
            if !page.is_some_and(|page| page.protection.is_writable()) {
                self.receive(place)?;
            }
        }
        Ok(())
    }

    /// Makes the guest compare all memory with its model, and compares that with the host's.
    pub(crate) fn verify(&mut self) -> Result<(), Difference> {
        let digest = self.sandbox.call("verify", ());
        self.compare(digest)
    }

    fn compare(&self, digest: Result<u64, CallError>) -> Result<(), Difference> {
        match digest {
            Ok(digest) if digest == self.model.digest() => Ok(()),
            Ok(_) => Err("guest and host have different models".to_owned()),
            Err(error) => Err(format!("in the guest: {error}")),
        }
    }

    /// The host reads a page, where the guest can.
    fn show(&mut self, place: Place, page: Option<Page>) -> Result<(), Difference> {
        let readable = page.filter(|page| page.protection.is_readable());
        let expected = readable.map_or((EFAULT, Vec::new()), |page| (PAGE as i64, page.contents.bytes()));
        let returned = self.call("show", (place.window.0 as u32, place.page as u32))?;
        let shown = self.stdout.take();
        if (returned, &shown) == (expected.0, &expected.1) {
            return Ok(());
        }
        let at = (0..shown.len().min(expected.1.len())).find(|at| shown[*at] != expected.1[*at]);
        Err(format!(
            "the host returns {returned} and {} bytes for {place:?}, which is {page:?}; they differ at {at:?}",
            shown.len()
        ))
    }

    /// The host does not write a page that the guest cannot.
    fn receive(&mut self, place: Place) -> Result<(), Difference> {
        match self.call("receive", (place.window.0 as u32, place.page as u32))? {
            EFAULT => Ok(()),
            other => Err(format!("the host returns {other} where it was to write to {place:?}")),
        }
    }

    fn call<R: DeserializeOwned>(&mut self, function: &str, arguments: impl Arguments) -> Result<R, Difference> {
        self.sandbox.call(function, arguments).map_err(|error| format!("in the guest: {error}"))
    }

    fn attempt(&mut self, forbidden: &Forbidden) -> Result<(), Difference> {
        let Forbidden { place, access, page } = *forbidden;
        let at = self.address(place)?;
        let touched = match access {
            FaultAccess::Read => self.sandbox.call::<u8>("probe_read", (at,)).map(drop),
            FaultAccess::Write => self.sandbox.call("probe_write", (at, 1_u8)),
            FaultAccess::Execute => self.sandbox.call("probe_execute", (at,)),
        };
        let target = page.map_or(FaultTarget::Unmapped, |page| FaultTarget::Protected {
            writable: page.protection.is_writable(),
            executable: page.protection.is_executable(),
            readable: page.protection.is_readable(),
        });
        let expected = FaultKind::PageFault { address: at, access, target };
        match touched {
            Err(CallError::Terminated { cause: Termination::Fault(fault), .. }) if *fault.kind() == expected => Ok(()),
            other => Err(format!("{access} {target} {at:#x} ({place:?}) did not fault: {other:?}")),
        }
    }

    fn address(&mut self, place: Place) -> Result<u64, Difference> {
        let start = match place.window.address() {
            Some(at) => at,
            None => self.call("window_address", (place.window.0 as u32,))?,
        };
        Ok(start + place.page as u64 * PAGE)
    }

    fn go_back_unseen(&mut self) -> Result<(), Difference> {
        match self.base.clone() {
            Some(kept) => self.restore_unseen(&kept),
            None => self.reset_unseen(),
        }
    }

    fn restore_unseen(&mut self, kept: &Rc<Kept>) -> Result<(), Difference> {
        self.sandbox.restore(&kept.snapshot).map_err(|error| format!("no restore: {error}"))?;
        self.is_back_at(kept.model.clone());
        self.base = Some(Rc::clone(kept));
        Ok(())
    }

    fn reset_unseen(&mut self) -> Result<(), Difference> {
        self.sandbox.reset().map_err(|error| format!("no reset: {error}"))?;
        self.is_back_at(self.initial.clone());
        self.base = None;
        Ok(())
    }

    fn is_back_at(&mut self, model: Model) {
        self.stdout.take();
        self.model = model;
        let recently = std::mem::take(&mut self.recently);
        if !recently.is_empty() {
            self.before = recently;
        }
    }

    fn replay(&mut self, seed: u64, operations: u32) {
        let Self { model, recently, ever, .. } = self;
        recently.note(model);
        replay(model, seed, operations, |model| {
            recently.note(model);
            ever.note(model);
        });
    }
}

fn is_closed(page: Option<Page>) -> bool {
    page.is_some_and(|page| !page.protection.is_readable())
}

/// Makes a model do what the guest does in a call of `run`; `see` sees the model after each operation.
pub(crate) fn replay(model: &mut Model, seed: u64, operations: u32, mut see: impl FnMut(&Model)) {
    model.reseed(seed);
    for _ in 0..operations {
        for action in model.draw() {
            // Guest and host expect the same errors.
            let _ = model.apply(&action);
        }
        see(model);
    }
}

const PAGE: u64 = 4096;

/// Linux's error number, negated.
const EFAULT: i64 = -14;
