//! What gdb can do with a guest, in the terms of `gdbstub`.

use std::convert::Infallible;
use std::path::Path;

use gdbstub::arch::{Arch, Registers};
use gdbstub::common::{Pid, Signal};
use gdbstub::target::ext::auxv::{Auxv, AuxvOps};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::singlethread::{
    SingleThreadBase, SingleThreadRangeStepping, SingleThreadRangeSteppingOps, SingleThreadResume,
    SingleThreadResumeOps, SingleThreadSingleStep, SingleThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::exec_file::{ExecFile, ExecFileOps};
use gdbstub::target::ext::host_io::{
    FsKind, HostIo, HostIoClose, HostIoCloseOps, HostIoErrno, HostIoError, HostIoFstat, HostIoFstatOps, HostIoOpen,
    HostIoOpenFlags, HostIoOpenMode, HostIoOpenOps, HostIoOps, HostIoPread, HostIoPreadOps, HostIoResult, HostIoSetfs,
    HostIoSetfsOps, HostIoStat,
};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::{Target, TargetError, TargetResult};

use super::held::Held;
use super::link::{Link, Resumption};
use crate::image::Executable;
use crate::loader;
use crate::machine::Subject;

/// The guest behind a link.
pub(super) struct GuestTarget<'a> {
    link: &'a Link,
    executable: &'a Executable,
    description: String,
    /// Where gdb finds the executable: a path that is the target's own, with the name of the image's file.
    path: String,
    auxiliary: Vec<u8>,
}

impl<'a> GuestTarget<'a> {
    pub(super) fn new(link: &'a Link, subject: &'a Subject) -> Self {
        let executable = &subject.executable;
        let name = Path::new(executable.name()).file_name().unwrap_or_else(|| executable.name().as_ref());
        Self {
            link,
            executable,
            description: subject.behaviour.target_description(),
            path: format!("/guest/{}", name.to_string_lossy()),
            auxiliary: loader::auxiliary_vector(executable),
        }
    }

    /// Asks the guest. gdb is told of an error where it has ended.
    fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Held<'_, '_>) -> R + Send + 'static,
    ) -> TargetResult<R, Self> {
        self.link.ask(question).ok_or(TargetError::NonFatal)
    }

    /// Sets or removes a breakpoint. A guest that has ended takes all: gdb then has it continue, and learns of its end.
    fn set(&self, change: impl FnOnce(&mut Held<'_, '_>) -> bool + Send + 'static) -> TargetResult<bool, Self> {
        Ok(self.link.ask(change).unwrap_or(true))
    }
}

impl Target for GuestTarget<'_> {
    type Arch = GuestArch;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, GuestArch, Infallible> {
        BaseOps::SingleThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(&mut self) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }

    fn support_host_io(&mut self) -> Option<HostIoOps<'_, Self>> {
        Some(self)
    }

    fn support_exec_file(&mut self) -> Option<ExecFileOps<'_, Self>> {
        Some(self)
    }

    fn support_auxv(&mut self) -> Option<AuxvOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadBase for GuestTarget<'_> {
    fn read_registers(&mut self, registers: &mut RegisterBytes) -> TargetResult<(), Self> {
        registers.0 = self.ask(|held| held.registers())?;
        Ok(())
    }

    fn write_registers(&mut self, registers: &RegisterBytes) -> TargetResult<(), Self> {
        let registers = registers.0.clone();
        let written = self.ask(move |held| held.set_registers(&registers))?;
        written.map_err(|_| TargetError::NonFatal)
    }

    fn read_addrs(&mut self, at: u64, data: &mut [u8]) -> TargetResult<usize, Self> {
        let len = data.len();
        let read = self.ask(move |held| held.read(at, len))?;
        if read.is_empty() && len > 0 {
            return Err(TargetError::Errno(EFAULT));
        }
        data[..read.len()].copy_from_slice(&read);
        Ok(read.len())
    }

    fn write_addrs(&mut self, at: u64, data: &[u8]) -> TargetResult<(), Self> {
        let data = data.to_vec();
        let is_written = self.ask(move |held| held.write(at, &data))?;
        if is_written { Ok(()) } else { Err(TargetError::Errno(EFAULT)) }
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadResume for GuestTarget<'_> {
    fn resume(&mut self, signal: Option<Signal>) -> Result<(), Infallible> {
        self.link.resume(Resumption { steps: None, signal });
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_range_step(&mut self) -> Option<SingleThreadRangeSteppingOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadSingleStep for GuestTarget<'_> {
    fn step(&mut self, signal: Option<Signal>) -> Result<(), Infallible> {
        self.link.resume(Resumption { steps: Some(0..0), signal });
        Ok(())
    }
}

impl SingleThreadRangeStepping for GuestTarget<'_> {
    fn resume_range_step(&mut self, start: u64, end: u64) -> Result<(), Infallible> {
        self.link.resume(Resumption { steps: Some(start..end), signal: None });
        Ok(())
    }
}

impl Breakpoints for GuestTarget<'_> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for GuestTarget<'_> {
    fn add_sw_breakpoint(&mut self, at: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.set(move |held| held.add_breakpoint(at))
    }

    fn remove_sw_breakpoint(&mut self, at: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.set(move |held| held.remove_breakpoint(at))
    }
}

/// Where a debugger asks for the processor's own breakpoints, it gets the same as otherwise.
impl HwBreakpoint for GuestTarget<'_> {
    fn add_hw_breakpoint(&mut self, at: u64, kind: usize) -> TargetResult<bool, Self> {
        self.add_sw_breakpoint(at, kind)
    }

    fn remove_hw_breakpoint(&mut self, at: u64, kind: usize) -> TargetResult<bool, Self> {
        self.remove_sw_breakpoint(at, kind)
    }
}

impl HwWatchpoint for GuestTarget<'_> {
    fn add_hw_watchpoint(&mut self, at: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        self.set(move |held| held.add_watchpoint(kind, at, len))
    }

    fn remove_hw_watchpoint(&mut self, at: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        self.set(move |held| held.remove_watchpoint(kind, at, len))
    }
}

impl TargetDescriptionXmlOverride for GuestTarget<'_> {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        into: &mut [u8],
    ) -> TargetResult<usize, Self> {
        match annex {
            b"target.xml" => Ok(part(self.description.as_bytes(), offset, length, into)),
            _ => Err(TargetError::NonFatal),
        }
    }
}

impl Auxv for GuestTarget<'_> {
    fn get_auxv(&self, offset: u64, length: usize, into: &mut [u8]) -> TargetResult<usize, Self> {
        Ok(part(&self.auxiliary, offset, length, into))
    }
}

impl ExecFile for GuestTarget<'_> {
    fn get_exec_file(
        &self,
        _process: Option<Pid>,
        offset: u64,
        length: usize,
        into: &mut [u8],
    ) -> TargetResult<usize, Self> {
        Ok(part(self.path.as_bytes(), offset, length, into))
    }
}

/// The target has one file, the guest's executable.
impl HostIo for GuestTarget<'_> {
    fn support_open(&mut self) -> Option<HostIoOpenOps<'_, Self>> {
        Some(self)
    }

    fn support_close(&mut self) -> Option<HostIoCloseOps<'_, Self>> {
        Some(self)
    }

    fn support_pread(&mut self) -> Option<HostIoPreadOps<'_, Self>> {
        Some(self)
    }

    fn support_fstat(&mut self) -> Option<HostIoFstatOps<'_, Self>> {
        Some(self)
    }

    fn support_setfs(&mut self) -> Option<HostIoSetfsOps<'_, Self>> {
        Some(self)
    }
}

impl HostIoOpen for GuestTarget<'_> {
    fn open(&mut self, path: &[u8], flags: HostIoOpenFlags, _mode: HostIoOpenMode) -> HostIoResult<u32, Self> {
        if path != self.path.as_bytes() {
            return Err(HostIoError::Errno(HostIoErrno::ENOENT));
        }
        if flags.intersects(HostIoOpenFlags::O_WRONLY | HostIoOpenFlags::O_RDWR | HostIoOpenFlags::O_TRUNC) {
            return Err(HostIoError::Errno(HostIoErrno::EROFS));
        }
        Ok(THE_FILE)
    }
}

impl HostIoClose for GuestTarget<'_> {
    fn close(&mut self, file: u32) -> HostIoResult<(), Self> {
        check_file(file)
    }
}

impl HostIoPread for GuestTarget<'_> {
    fn pread(&mut self, file: u32, count: usize, offset: u64, into: &mut [u8]) -> HostIoResult<usize, Self> {
        check_file(file)?;
        Ok(part(self.executable.file(), offset, count, into))
    }
}

impl HostIoFstat for GuestTarget<'_> {
    fn fstat(&mut self, file: u32) -> HostIoResult<HostIoStat, Self> {
        check_file(file)?;
        let size = self.executable.file().len() as u64;
        Ok(HostIoStat {
            st_dev: 0,
            st_ino: 0,
            st_mode: HostIoOpenMode::S_IFREG | HostIoOpenMode::S_IRUSR | HostIoOpenMode::S_IXUSR,
            st_nlink: 1,
            st_uid: 0,
            st_gid: 0,
            st_rdev: 0,
            st_size: size,
            st_blksize: BLOCK,
            st_blocks: size.div_ceil(BLOCK),
            st_atime: 0,
            st_mtime: 0,
            st_ctime: 0,
        })
    }
}

impl HostIoSetfs for GuestTarget<'_> {
    fn setfs(&mut self, _of: FsKind) -> HostIoResult<(), Self> {
        Ok(())
    }
}

fn check_file<E>(file: u32) -> Result<(), HostIoError<E>> {
    if file == THE_FILE { Ok(()) } else { Err(HostIoError::Errno(HostIoErrno::EBADF)) }
}

/// Copies at most `length` bytes from an offset on, as many as there are and fit.
fn part(of: &[u8], offset: u64, length: usize, into: &mut [u8]) -> usize {
    let rest = usize::try_from(offset).ok().and_then(|offset| of.get(offset..)).unwrap_or_default();
    let len = rest.len().min(length).min(into.len());
    into[..len].copy_from_slice(&rest[..len]);
    len
}

/// An architecture whose registers are described by the processor.
#[derive(Debug)]
pub(super) enum GuestArch {}

impl Arch for GuestArch {
    type Usize = u64;
    type Registers = RegisterBytes;
    type BreakpointKind = usize;
    type RegId = ();
}

/// All registers, in the order of the target description.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct RegisterBytes(Vec<u8>);

impl Registers for RegisterBytes {
    type ProgramCounter = u64;

    /// Not asked for by what this target supports.
    fn pc(&self) -> u64 {
        0
    }

    fn gdb_serialize(&self, mut write: impl FnMut(Option<u8>)) {
        self.0.iter().for_each(|byte| write(Some(*byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0 = bytes.to_vec();
        Ok(())
    }
}

/// The number of the only file.
const THE_FILE: u32 = 3;

/// The unit in which the file's blocks are counted, in bytes.
const BLOCK: u64 = 512;

/// "Bad address", as gdb's protocol has it.
const EFAULT: u8 = 14;
