//! A guest of two functions, in a sandbox like any other: what runs it can run guests.

use std::sync::Arc;
use std::time::Duration;

use ampoule::{CallError, ExceededLimit, Image, Limits, Output, Sandbox, Termination};
use ampoule_vmm::Hypervisor;

use super::Examination;
use crate::guest;

/// Builds a sandbox, calls the guest, ends a call that never would, and calls the guest again.
pub(super) fn run(examination: &mut Examination, hypervisor: Arc<dyn Hypervisor>) {
    let image = match Image::from_bytes(guest::image()) {
        Ok(image) => image,
        Err(error) => return examination.fail("trial", error),
    };
    let limits = Limits::new().deadline(PATIENCE);
    let builder = Sandbox::builder(&image).name("trial").limits(limits).hypervisor(hypervisor);
    let mut sandbox = match builder.stdout(Output::discard()).stderr(Output::discard()).build() {
        Ok(sandbox) => sandbox,
        Err(error) => return examination.fail("trial", error),
    };
    match sandbox.call::<u32>("add", (2u32, 3u32)) {
        Ok(5) => examination.ok("trial", "a guest ran and returned what it should"),
        Ok(other) => return examination.fail("trial", format!("a guest ran and added 2 and 3 to {other}")),
        Err(error) => return examination.fail("trial", error),
    }
    let spin = sandbox.typed_fn::<(), ()>("spin");
    match spin.and_then(|spin| spin.call_with(&mut sandbox, (), Limits::new().deadline(SHORT))) {
        Err(CallError::Terminated { cause: Termination::LimitExceeded(ExceededLimit::Deadline(_)), .. }) => {
            examination.ok("limits", "a guest that never returns was ended at its deadline")
        }
        Err(error) => return examination.fail("limits", error),
        Ok(()) => return examination.fail("limits", "a guest that never returns has returned"),
    }
    match sandbox.reset().map_err(|error| error.to_string()) {
        Ok(()) => match sandbox.call::<u32>("add", (2u32, 2u32)) {
            Ok(4) => examination.ok("reset", "the guest went back to its first state, and ran again"),
            Ok(other) => examination.fail("reset", format!("a guest ran again and added 2 and 2 to {other}")),
            Err(error) => examination.fail("reset", error),
        },
        Err(error) => examination.fail("reset", error),
    }
}

/// How long a call of the guest may take on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// After which time a call that never returns is ended.
const SHORT: Duration = Duration::from_millis(50);
