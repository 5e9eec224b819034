//! Core dumps of machines and of their checkpoints: where what is in them comes from.

use std::io::Write;

use ampoule_vmm::{Contents, Context, GuestVirt, PAGE_SIZE, PageSet, TrackedRegion};

use super::{Checkpoint, Machine};
use crate::address_space::Run;
use crate::core_dump::{Dumped, Memory, Process, Signal};
use crate::image::Executable;
use crate::loader::StartRecord;
use crate::personality::linux::LinuxProcess;
use crate::termination::Termination;

impl Machine {
    /// Writes a core dump of at most `limit` bytes of the guest, which has ended for this reason, if for any. Nobody interrupts
    /// it.
    ///
    /// # Errors
    ///
    /// What the hypervisor or the writer reports. The guest is as it was.
    pub(crate) fn core_dump(&mut self, ended: Option<&Termination>, limit: u64, sink: &mut dyn Write) -> Dumped {
        let context = self.processor.save()?;
        let touched = self.space.memory_mut().touched_pages(&mut *self.processor)?;
        let memory = PresentMemory { region: self.space.memory().region(), touched };
        let (process, started) = (&self.process, &self.started);
        self::process(&context, process, started, &self.executable, self.space.runs(), &memory, ended)
            .write(limit, sink)
    }
}

impl Checkpoint {
    /// Writes a core dump of what the guest of this executable was. The memory that it shared with the host is not in it.
    ///
    /// # Errors
    ///
    /// What the writer reports.
    pub(crate) fn core_dump(&self, executable: &Executable, sink: &mut dyn Write) -> Dumped {
        let runs = self.space.runs(self.shape.shared_pages());
        let memory = &**self.space.contents();
        process(&self.waiting.context(), &self.process, &self.started, executable, runs, memory, None)
            .write(u64::MAX, sink)
    }
}

fn process<'guest>(
    context: &Context,
    process: &LinuxProcess,
    started: &'guest StartRecord,
    executable: &'guest Executable,
    runs: Vec<Run>,
    memory: &'guest dyn Memory,
    ended: Option<&Termination>,
) -> Process<'guest> {
    let registers = context.registers();
    let at = GuestVirt(registers.instruction_pointer());
    Process {
        registers: context.core_registers(),
        stack_pointer: GuestVirt(registers.stack_pointer()),
        id: process.id(),
        started,
        executable,
        runs,
        memory,
        signal: ended.and_then(|termination| Signal::of(termination, at)),
    }
}

/// The memory of a machine as it is now.
struct PresentMemory<'guest> {
    region: &'guest TrackedRegion,
    touched: PageSet,
}

impl Memory for PresentMemory<'_> {
    fn is_touched(&self, page: usize) -> bool {
        self.touched.contains(page)
    }

    fn read(&self, page: usize, into: &mut [u8]) {
        self.region.read(page * PAGE_SIZE, into).expect("frames and windows lie within the region");
    }
}

impl Memory for Contents {
    fn is_touched(&self, page: usize) -> bool {
        self.page(page).is_some()
    }

    fn read(&self, page: usize, into: &mut [u8]) {
        match self.page(page) {
            Some(bytes) => into.copy_from_slice(bytes),
            None => into.fill(0),
        }
    }
}
