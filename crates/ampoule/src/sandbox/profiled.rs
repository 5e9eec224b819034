//! Sandboxes whose guest, or whose guest's memory, is profiled.

use super::Sandbox;
use crate::profile::{Frequency, MemoryProfile, Profile, ProfileError};

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

    /// Has the guest's allocator report what it allocates and frees in all following calls, until
    /// [`take_memory_profile`](Self::take_memory_profile). A profile that was begun before is dropped.
    ///
    /// The guest library reports it (`ampoule_guest::Profiled`), and a guest without it that follows the guest ABI can; the
    /// profile of any other guest is empty. Each report takes the guest some time, and room where what it prints waits. It costs an
    /// exit only where there is no more room, and none is lost.
    ///
    /// What the guest has allocated before is not in the profile: a profile from the guest's start is begun by
    /// [`Builder::profile_memory`](crate::Builder::profile_memory). After a restore, those blocks are live that were so when the
    /// snapshot was taken, if this profile had begun by then, and otherwise none; total and peak are of all that the guest has done,
    /// restored or not. Sandboxes made from a [snapshot](Self::snapshot) of this one are not profiled.
    ///
    /// A sandbox whose memory is not profiled pays nothing for it, and its guest a branch for each allocation.
    pub fn profile_memory(&mut self) {
        self.conversation.machine_mut().profile_memory();
    }

    /// The profile of the guest's memory up to now, which goes on. `None` where it was not [begun](Self::profile_memory).
    ///
    /// Two of them, taken at the same place of two rounds, show what was not freed in between (`go tool pprof -diff_base`).
    pub fn memory_profile(&self) -> Option<MemoryProfile> {
        self.conversation.machine().memory_profile()
    }

    /// Ends the profile of the guest's memory, and returns it. `None` where it was not [begun](Self::profile_memory).
    pub fn take_memory_profile(&mut self) -> Option<MemoryProfile> {
        let profile = self.memory_profile();
        self.conversation.machine_mut().forget_allocations();
        profile
    }
}
