//! Memory of the host's in a sandbox: what is mapped until it is unmapped, and what is lent for a call.

use std::ops::RangeBounds;
use std::os::fd::AsFd;

use serde::de::DeserializeOwned;

use super::settings::Call;
use super::{Builder, Sandbox};
use crate::arguments::Arguments;
use crate::error::CallError;
use crate::host_memory::{HostMapping, HostMemory, MapAccess, MapAt, MapMemoryError, Mapped, Source};
use crate::machine::ToMap;
use crate::metrics::CallMeter;

impl Sandbox {
    /// Maps a range of bytes of a file for the guest, without a copy: all sandboxes and processes that map the file share its
    /// pages in the host's cache. The range begins on a page (4,096 bytes).
    ///
    /// The guest sees it at `at`, an address on a page between 0x7ff0_0000_0000 and 0x7fff_ffe0_0000, or else where there is room.
    /// It learns of it by an argument:
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
    /// use std::fs::File;
    ///
    /// use ampoule::MapAccess;
    ///
    /// // In the guest: fn load(model: Mapped<'_>) -> u32
    /// let model = sandbox.map_file(&File::open("model.bin")?, .., None, MapAccess::Read)?;
    /// let layers: u32 = sandbox.call("load", (model.bytes(),))?;
    /// # Ok(()) }
    /// ```
    ///
    /// It stays until it is [unmapped](Self::unmap), or until the sandbox is restored to a moment at which it was not mapped. A
    /// snapshot keeps what is mapped: a restore brings it back, and a spawned sandbox has it too, with what the guest had
    /// written where it could. It does not count to [`Builder::memory_limit`].
    ///
    /// The file is not copied: who changes it changes what the guest sees. A guest that touches a page that the file no longer
    /// has ends ([`FaultKind::LostMemory`](crate::FaultKind::LostMemory)), and a system call with an address there fails.
    ///
    /// # Errors
    /// A [`MapMemoryError`]; nothing has changed then.
    pub fn map_file(
        &mut self,
        file: impl AsFd,
        range: impl RangeBounds<u64>,
        at: impl Into<MapAt>,
        access: MapAccess,
    ) -> Result<HostMapping, MapMemoryError> {
        self.map_source(ToMap { source: Source::of_file(file.as_fd(), range), at: at.into(), access })
    }

    /// Maps memory of the application's for the guest, without a copy; otherwise like [`map_file`](Self::map_file).
    ///
    /// # Errors
    /// As for [`map_file`](Self::map_file).
    pub fn map_memory(
        &mut self,
        memory: &HostMemory,
        at: impl Into<MapAt>,
        access: MapAccess,
    ) -> Result<HostMapping, MapMemoryError> {
        self.map_source(ToMap { source: Source::of_memory(memory), at: at.into(), access })
    }

    /// Maps memory for the guest that lies at an address of this process, in whole pages, to be read or executed only; otherwise
    /// like [`map_file`](Self::map_file). Where the memory can be a [`HostMemory`], [`map_memory`](Self::map_memory) needs no
    /// promise.
    ///
    /// # Errors
    /// As for [`map_file`](Self::map_file).
    ///
    /// # Safety
    /// All of it stays mapped in this process, and may be read by anybody, until the mapping is unmapped and every snapshot
    /// that was taken before, with all that come from it, is dropped. What changes meanwhile is seen by the guest, at any time
    /// and in any mixture; nothing may rely on the guest not seeing it.
    pub unsafe fn map_addresses(
        &mut self,
        start: *const u8,
        len: usize,
        at: impl Into<MapAt>,
        access: MapAccess,
    ) -> Result<HostMapping, MapMemoryError> {
        // SAFETY: the caller's promise.
        let source = unsafe { Source::of_addresses(start, len) };
        self.map_source(ToMap { source, at: at.into(), access })
    }

    /// Takes a mapping away from the guest. What the guest has written of it is gone, unless a snapshot has it.
    ///
    /// # Errors
    /// [`MapMemoryError::NotMapped`] where this sandbox does not have it.
    pub fn unmap(&mut self, mapping: &HostMapping) -> Result<(), MapMemoryError> {
        self.conversation.machine_mut().unmap_host_memory(mapping)
    }

    /// The memory of the host's that the guest sees.
    pub fn mappings(&self) -> impl Iterator<Item = &HostMapping> {
        self.conversation.machine().host_mappings()
    }

    /// Calls a function that reads slices of the application's, which are lent to the guest while the call takes: large ones are
    /// not copied. When the call is over, however it ends, the guest sees nothing of them any more.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
    /// use ampoule::Call;
    ///
    /// // In the guest: fn thumbnail(photo: Mapped<'_>, width: u32) -> Vec<u8>
    /// let photo = std::fs::read("photo.raw")?;
    /// let small: Vec<u8> = sandbox.call_lending([&photo], |[photo]| Call::new("thumbnail", (photo, 160u32)))?;
    /// # Ok(()) }
    /// ```
    ///
    /// Slices that together take no more than half of the mailbox ([`Builder::mailbox_size`]), or 16 MiB, are copied there with
    /// the other arguments: to map them would cost more, since the guest pays for the first access to each page. Of larger ones
    /// the pages that lie within the slice are shown to the guest, and only what is left at either end is copied. At most 16
    /// slices can be lent at once.
    ///
    /// # Errors
    /// As for [`call_with`](Self::call_with), and [`CallError::Lending`].
    pub fn call_lending<'call, R, A, const N: usize>(
        &mut self,
        slices: [&'call [u8]; N],
        call: impl FnOnce([Mapped<'call>; N]) -> Call<'call, A>,
    ) -> Result<R, CallError>
    where
        R: DeserializeOwned,
        A: Arguments,
    {
        let lending = Lending(self);
        let mut room = MOST_COPIED.min(lending.0.conversation.mailbox_size() / 2);
        let machine = lending.0.conversation.machine_mut();
        let mut lent = slices.map(Mapped::copy);
        for (lent, slice) in lent.iter_mut().zip(slices) {
            if let Some(left) = room.checked_sub(slice.len()) {
                room = left;
                continue;
            }
            // SAFETY: `lending` takes it back before this function returns, even when it unwinds, and the slices live longer.
            let mapped = unsafe { machine.lend(slice) };
            *lent = mapped.map_err(|reason| CallError::Lending { reason }).inspect_err(CallMeter::refused)?;
        }
        lending.0.call_with(call(lent))
    }

    fn map_source(&mut self, to_map: ToMap) -> Result<HostMapping, MapMemoryError> {
        if self.condition.poison().is_some() {
            return Err(MapMemoryError::Poisoned);
        }
        to_map.map(self.conversation.machine_mut())
    }
}

impl Builder {
    /// Maps a range of bytes of a file for the guest, which it finds there when it starts; otherwise like
    /// [`Sandbox::map_file`]. [`Sandbox::reset`] keeps it.
    ///
    /// What cannot be mapped is an error of [`build`](Self::build). A guest finds it at an address that is agreed on, or by an
    /// argument: [`Sandbox::mappings`] shows what is mapped where.
    pub fn map_file(
        mut self,
        file: impl AsFd,
        range: impl RangeBounds<u64>,
        at: impl Into<MapAt>,
        access: MapAccess,
    ) -> Self {
        self.mapped.push(ToMap { source: Source::of_file(file.as_fd(), range), at: at.into(), access });
        self
    }

    /// Maps memory of the application's for the guest, like [`map_file`](Self::map_file).
    pub fn map_memory(mut self, memory: &HostMemory, at: impl Into<MapAt>, access: MapAccess) -> Self {
        self.mapped.push(ToMap { source: Source::of_memory(memory), at: at.into(), access });
        self
    }

    /// Maps memory at an address of this process for the guest, like [`map_file`](Self::map_file).
    ///
    /// # Safety
    /// As for [`Sandbox::map_addresses`].
    pub unsafe fn map_addresses(
        mut self,
        start: *const u8,
        len: usize,
        at: impl Into<MapAt>,
        access: MapAccess,
    ) -> Self {
        // SAFETY: the caller's promise.
        let source = unsafe { Source::of_addresses(start, len) };
        self.mapped.push(ToMap { source, at: at.into(), access });
        self
    }
}

/// Takes back what is lent, whatever happens.
struct Lending<'sandbox>(&'sandbox mut Sandbox);

impl Drop for Lending<'_> {
    fn drop(&mut self) {
        let machine = self.0.conversation.machine_mut();
        machine.end_lending();
        // What was copied lies among the arguments.
        machine.region().wipe_host_only();
    }
}

/// How many bytes are copied at most. Measured on a KVM in software, where the pages that the guest touches first are faults, with
/// a guest that reads all of a slice: 16 MiB that are shown take twice as long as a copy, and 64 MiB 0.9 times
/// (`ampoule-bench host-memory`).
const MOST_COPIED: usize = 16 << 20;
