//! Core dumps of machines and of their checkpoints: where what is in them comes from.

use std::collections::BTreeMap;
use std::io::Write;

use ampoule_vmm::{Contents, Context, GuestVirt, PAGE_SIZE, PageSet, TrackedRegion};

use super::host_mappings::{HostPart, WithHost};
use super::{Checkpoint, Machine};
use crate::address_space::{FileId, MappedFile, Run};
use crate::core_dump::{CoreDump, CoreDumps, Dumped, Memory, Process, Signal};
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
        let host = self.host_parts()?;
        let own = PresentMemory { region: self.space.memory().region(), touched };
        let memory = WithHost::new(&own, own.region.len() / PAGE_SIZE, &host);
        let space = &self.space;
        let guest = Guest { process: &self.process, started: &self.started, executable: &self.executable };
        guest.describe(&context, space.runs(), (&memory, space.mapped_files().collect()), ended).write(limit, sink)
    }

    /// The same of a guest that has ended for this reason, to where core dumps go, if they are wanted. Where the hypervisor has
    /// failed, nothing that it says of the guest is to be trusted.
    pub(crate) fn dump_ended(&mut self, dumps: Option<&CoreDumps>, cause: &Termination) -> Option<CoreDump> {
        let dumps = dumps.filter(|_| !matches!(cause, Termination::Hypervisor(_)))?;
        let name = self.origin().name().to_owned();
        Some(dumps.write(&name, |sink| self.core_dump(Some(cause), dumps.max_size(), sink)))
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
        let host = HostPart::of_kept(&self.host);
        let own = &**self.space.contents();
        let memory = WithHost::new(own, own.pages(), &host);
        let guest = Guest { process: &self.process, started: &self.started, executable };
        guest
            .describe(&self.waiting.context(), runs, (&memory, self.space.mapped_files().collect()), None)
            .write(u64::MAX, sink)
    }
}

/// What is known of a guest without looking at its memory.
struct Guest<'guest> {
    process: &'guest LinuxProcess,
    started: &'guest StartRecord,
    executable: &'guest Executable,
}

impl<'guest> Guest<'guest> {
    fn describe(
        &self,
        context: &Context,
        mut runs: Vec<Run>,
        (memory, files): (&'guest WithHost<'guest>, BTreeMap<FileId, &'guest MappedFile>),
        ended: Option<&Termination>,
    ) -> Process<'guest> {
        let registers = context.registers();
        let at = GuestVirt(registers.instruction_pointer());
        runs.extend(memory.runs());
        Process {
            registers: context.core_registers(),
            stack_pointer: GuestVirt(registers.stack_pointer()),
            id: self.process.id(),
            started: self.started,
            executable: self.executable,
            runs,
            memory,
            files,
            host_files: memory.files(),
            signal: ended.and_then(|termination| Signal::of(termination, at)),
        }
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
            Some(bytes) => into.copy_from_slice(&bytes),
            None => into.fill(0),
        }
    }
}
