//! The process's open files, and its descriptor numbers for them.

use linux_raw_sys::general::{O_ACCMODE, O_RDONLY, O_RDWR, O_WRONLY};

use crate::output::Stream;

use super::errno::Errno;
use super::paths::Device;

/// The table of descriptors.
#[derive(Clone, Debug)]
pub(super) struct Descriptors {
    numbers: [Option<Descriptor>; OPEN_MAX],
    /// There is room for one file per number. A file to which no number refers any more is gone.
    files: [Option<OpenFile>; OPEN_MAX],
}

/// What a number refers to.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    /// Where in the table the open file is.
    file: usize,
    close_on_exec: bool,
}

/// An open file. Numbers that were duplicated share it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFile {
    pub(super) object: Object,
    /// The flags that it was opened with, as changed since, and as `F_GETFL` reports them.
    pub(super) flags: u32,
    /// Where the next read begins, if the file can be read at positions.
    pub(super) position: u64,
}

/// What can be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// Standard input, a pipe that is at its end.
    Input,
    /// Standard output or standard error, a pipe.
    Output(Stream),
    Device(Device),
    /// The list of the process's mappings.
    Maps,
}

impl Descriptors {
    /// The three standard streams.
    pub(super) fn standard() -> Self {
        let mut descriptors = Self { numbers: [None; OPEN_MAX], files: [None; OPEN_MAX] };
        let streams = [
            (Object::Input, O_RDONLY),
            (Object::Output(Stream::Stdout), O_WRONLY),
            (Object::Output(Stream::Stderr), O_WRONLY),
        ];
        for (number, (object, flags)) in streams.into_iter().enumerate() {
            descriptors.files[number] = Some(OpenFile { object, flags, position: 0 });
            descriptors.numbers[number] = Some(Descriptor { file: number, close_on_exec: false });
        }
        descriptors
    }

    pub(super) fn get(&self, number: u64) -> Result<OpenFile, Errno> {
        self.files[self.descriptor(number)?.file].ok_or(Errno::EBADF)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Result<&mut OpenFile, Errno> {
        let file = self.descriptor(number)?.file;
        self.files[file].as_mut().ok_or(Errno::EBADF)
    }

    /// Gives a file that was opened the lowest free number.
    pub(super) fn open(&mut self, opened: OpenFile, close_on_exec: bool) -> Result<u64, Errno> {
        let number = self.free(0)?;
        let file = self.files.iter().position(Option::is_none).ok_or(Errno::EMFILE)?;
        self.files[file] = Some(opened);
        self.numbers[number] = Some(Descriptor { file, close_on_exec });
        Ok(number as u64)
    }

    pub(super) fn close(&mut self, number: u64) -> Result<u64, Errno> {
        let Descriptor { file, .. } = self.descriptor(number)?;
        self.numbers[number as u32 as usize] = None;
        self.forget_unless_meant(file);
        Ok(0)
    }

    /// Gives an open file a second number: the lowest free one from `least` on.
    pub(super) fn duplicate(&mut self, number: u64, least: usize, close_on_exec: bool) -> Result<u64, Errno> {
        let Descriptor { file, .. } = self.descriptor(number)?;
        let free = self.free(least)?;
        self.numbers[free] = Some(Descriptor { file, close_on_exec });
        Ok(free as u64)
    }

    /// Gives an open file this second number, which may have referred to another one so far.
    pub(super) fn duplicate_to(&mut self, number: u64, to: u64, close_on_exec: bool) -> Result<u64, Errno> {
        let Descriptor { file, .. } = self.descriptor(number)?;
        let place = self.numbers.get_mut(to as u32 as usize).ok_or(Errno::EBADF)?;
        if let Some(before) = place.replace(Descriptor { file, close_on_exec }) {
            self.forget_unless_meant(before.file);
        }
        Ok(u64::from(to as u32))
    }

    pub(super) fn closes_on_exec(&self, number: u64) -> Result<bool, Errno> {
        Ok(self.descriptor(number)?.close_on_exec)
    }

    pub(super) fn set_close_on_exec(&mut self, number: u64, close_on_exec: bool) -> Result<(), Errno> {
        self.descriptor(number)?;
        if let Some(descriptor) = &mut self.numbers[number as u32 as usize] {
            descriptor.close_on_exec = close_on_exec;
        }
        Ok(())
    }

    fn descriptor(&self, number: u64) -> Result<Descriptor, Errno> {
        self.numbers.get(number as u32 as usize).copied().flatten().ok_or(Errno::EBADF)
    }

    fn free(&self, least: usize) -> Result<usize, Errno> {
        (least..OPEN_MAX).find(|number| self.numbers[*number].is_none()).ok_or(Errno::EMFILE)
    }

    fn forget_unless_meant(&mut self, file: usize) {
        if !self.numbers.iter().flatten().any(|descriptor| descriptor.file == file) {
            self.files[file] = None;
        }
    }
}

impl OpenFile {
    pub(super) fn is_readable(&self) -> bool {
        matches!(self.flags & O_ACCMODE, O_RDONLY | O_RDWR)
    }

    pub(super) fn is_writable(&self) -> bool {
        matches!(self.flags & O_ACCMODE, O_WRONLY | O_RDWR)
    }
}

/// How many files the process can have open: as many as one word of `select`'s sets has bits.
pub(super) const OPEN_MAX: usize = 64;
