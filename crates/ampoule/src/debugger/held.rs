//! A guest that is held: what can be read of it and changed in it.

use ampoule_vmm::{BadRegister, Behaviour, Context, GuestVirt};
use gdbstub::target::ext::breakpoints::WatchKind;

use super::breakpoints::Breakpoints;
use super::watchpoints::Watchpoints;
use crate::machine::Tracee;

/// A guest that does not run, all of whose registers are in its context.
pub(super) struct Held<'a, 'machine> {
    pub(super) guest: &'a mut Tracee<'machine>,
    pub(super) context: Context,
    pub(super) behaviour: Behaviour,
    pub(super) breakpoints: &'a mut Breakpoints,
    pub(super) watchpoints: &'a mut Watchpoints,
}

impl Held<'_, '_> {
    /// All registers, in the order of the target description.
    pub(super) fn registers(&self) -> Vec<u8> {
        self.context.debugger_registers(self.behaviour)
    }

    pub(super) fn set_registers(&mut self, registers: &[u8]) -> Result<(), BadRegister> {
        self.context.set_debugger_registers(self.behaviour, registers)
    }

    /// The bytes from `at` on, fewer where the guest's memory ends.
    pub(super) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let read = self.guest.space.inspect(GuestVirt(at), &mut bytes);
        bytes.truncate(read);
        bytes
    }

    /// Writes all of it, unless the guest has no memory of its own there. Returns whether it was written.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> bool {
        self.guest.space.patch(GuestVirt(at), bytes).is_ok()
    }

    pub(super) fn add_breakpoint(&mut self, at: u64) -> bool {
        self.breakpoints.add(at, self.guest.space)
    }

    pub(super) fn remove_breakpoint(&mut self, at: u64) -> bool {
        self.breakpoints.remove(at)
    }

    pub(super) fn add_watchpoint(&mut self, kind: WatchKind, at: u64, len: u64) -> bool {
        self.watchpoints.add(kind, at, len, self.guest.space)
    }

    pub(super) fn remove_watchpoint(&mut self, kind: WatchKind, at: u64, len: u64) -> bool {
        self.watchpoints.remove(kind, at, len)
    }

    /// Forgets what another debugger has set.
    pub(super) fn forget(&mut self) {
        self.breakpoints.clear();
        self.watchpoints.clear();
    }
}
