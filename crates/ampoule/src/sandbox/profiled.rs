//! Sandboxes whose guest is profiled.

use super::Sandbox;
use crate::profile::{Frequency, Profile, ProfileError};

impl Sandbox {
    /// Samples the guest so often in all following calls, until [`take_profile`](Self::take_profile). What was sampled since an
    /// earlier call of this is dropped.
    ///
    /// For a sample the guest is taken out of its run, by the [signal](crate::InterruptSignal) that also ends calls, and goes on
    /// then: an exit, and reading the addresses on its stack. It does not notice, apart from the time that this takes. Calls
    /// end as they do without: by their limits, a kill or a fault. A restore does not concern the profile, which is the
    /// host's, and sandboxes made from a [snapshot](Self::snapshot) of this one are not profiled.
    ///
    /// A sandbox that is not profiled pays nothing for it.
    ///
    /// # Errors
    /// A [`ProfileError`]. The guest is not sampled then, unless it was before.
    pub fn profile(&mut self, frequency: Frequency) -> Result<(), ProfileError> {
        Ok(self.conversation.machine_mut().profile(frequency)?)
    }

    /// Ends the sampling: what was sampled since it began. `None` where it was not [begun](Self::profile).
    pub fn take_profile(&mut self) -> Option<Profile> {
        self.conversation.machine_mut().take_profile()
    }
}
