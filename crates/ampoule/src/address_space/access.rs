//! Reading and writing a guest's memory on its behalf, with its own permissions.

use std::os::fd::BorrowedFd;

use ampoule_vmm::{GuestVirt, TrackedRegion};

use crate::page::Page;

use super::paged::PageIn;
use super::{AddressSpace, BadAddress, PAGE, Protection, StringError};

impl AddressSpace {
    /// Copies what lies from `at` on.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] where the guest itself could not read. What lies before may have been copied.
    pub(crate) fn read(&self, at: GuestVirt, into: &mut [u8]) -> Result<(), BadAddress> {
        let mut done = 0;
        while done < into.len() {
            let here = offset(at, done)?;
            if let Some(read) = self.read_host(here, &mut into[done..])? {
                done += read;
                continue;
            }
            let stretch = match self.stretch(here, Protection::is_readable) {
                Ok(stretch) => stretch,
                Err(bad) => {
                    done += self.read_absent(here, &mut into[done..]).ok_or(bad)?;
                    continue;
                }
            };
            let part = stretch.len.min(into.len() - done);
            stretch.region.read(stretch.offset, &mut into[done..done + part]).expect(WITHIN);
            done += part;
        }
        Ok(())
    }

    /// Copies `from` to `at`. The stack grows for it, and pages of files are read, as for the guest.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] where the guest itself could not write. What lies before may have been written.
    pub(crate) fn write(&mut self, at: GuestVirt, from: &[u8]) -> Result<(), BadAddress> {
        let mut done = 0;
        while done < from.len() {
            let here = offset(at, done)?;
            if let Some(written) = self.write_host(here, &from[done..])? {
                done += written;
                continue;
            }
            if self.stretch(here, Protection::is_writable).is_err() {
                self.touch(here)?;
            }
            let stretch = self.stretch(here, Protection::is_writable)?;
            let part = stretch.len.min(from.len() - done);
            let (offset, part, is_shared) = (stretch.offset, &from[done..done + part], stretch.is_shared);
            stretch.region.write(offset, part).expect(WITHIN);
            if is_shared {
                self.note_store(here, part.len());
            }
            done += part.len();
        }
        Ok(())
    }

    /// Has the host read a file, from its byte `offset` on, straight into the guest's memory from `at` on: as much as lies there
    /// side by side, `len` bytes at most. None where that is no memory of the guest's own that it can write, where it is short
    /// of [`LEAST_FILLED`] bytes, or where the host cannot read the file: then [`write`](Self::write) is the way.
    pub(crate) fn fill(&mut self, at: GuestVirt, len: usize, file: BorrowedFd<'_>, offset: u64) -> Option<Filled> {
        let stretch = self.stretch(at, Protection::is_writable).ok().filter(|stretch| !stretch.is_shared)?;
        let asked = stretch.len.min(len);
        if asked < LEAST_FILLED {
            return None;
        }
        let read = stretch.region.read_file(stretch.offset, asked, file, offset).ok()?;
        Some(Filled { read, asked })
    }

    /// Checks that [`write`](Self::write) would write so many bytes from `at` on.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub(crate) fn check_writable(&mut self, at: GuestVirt, len: usize) -> Result<(), BadAddress> {
        let mut checked = 0;
        while checked < len {
            let here = offset(at, checked)?;
            if let Some(pages) = self.host_pages_at(here).filter(|pages| pages.access.write) {
                checked += (pages.end().0 - here.0) as usize;
                continue;
            }
            if self.stretch(here, Protection::is_writable).is_err() {
                self.touch(here)?;
            }
            checked += self.stretch(here, Protection::is_writable)?.len;
        }
        Ok(())
    }

    /// Writes what lies in a window, whatever the guest may do with it; nothing where there is none.
    pub(crate) fn write_window(&self, at: GuestVirt, from: &[u8]) {
        if let Some(window) = self.window_at(at) {
            let into = (at.0 - window.at.0) as usize;
            window.region.write(window.offset + into, from).expect(WITHIN);
        }
    }

    /// Copies what lies from `at` on, whatever the guest may do with it. Returns how many bytes there are, at most as many as
    /// `into` takes.
    #[cfg_attr(not(feature = "gdb"), expect(dead_code, reason = "only a debugger looks at what the guest cannot read"))]
    pub(crate) fn inspect(&self, at: GuestVirt, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len() {
            let Ok(here) = offset(at, done) else { break };
            if let Ok(Some(read)) = self.read_host(here, &mut into[done..]) {
                done += read;
                continue;
            }
            let Ok(stretch) = self.stretch(here, |_| true) else {
                let Some(read) = self.read_absent(here, &mut into[done..]) else { break };
                done += read;
                continue;
            };
            let part = stretch.len.min(into.len() - done);
            stretch.region.read(stretch.offset, &mut into[done..done + part]).expect(WITHIN);
            done += part;
        }
        done
    }

    /// Writes memory of the guest's own, whatever the guest may do with it, and memory of the host's where the guest may write it.
    /// Windows are not part of it.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] where there is no such memory; nothing was written then.
    #[cfg_attr(not(feature = "gdb"), expect(dead_code, reason = "only a debugger changes what the guest cannot write"))]
    pub(crate) fn patch(&mut self, at: GuestVirt, from: &[u8]) -> Result<(), BadAddress> {
        if let Some(pages) = self.host_pages_at(at) {
            let is_within = from.len() as u64 <= pages.end().0 - at.0;
            let written = if is_within { self.write_host(at, from)? } else { None };
            return written.map(drop).ok_or(BadAddress { address: at });
        }
        let mut checked = 0;
        while checked < from.len() {
            let here = offset(at, checked)?;
            if self.window_at(here).is_some() {
                return Err(BadAddress { address: here });
            }
            self.touch(here)?;
            checked += self.stretch(here, |_| true)?.len;
        }
        self.note_store(at, from.len());
        self.is_patched = true;
        self.initialize(at, from)
    }

    /// Gives fresh pages their contents, whatever the guest may do with them.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] where there is no memory.
    pub(crate) fn initialize(&mut self, at: GuestVirt, from: &[u8]) -> Result<(), BadAddress> {
        let mut done = 0;
        while done < from.len() {
            let stretch = self.stretch(offset(at, done)?, |_| true)?;
            let (offset, part) = (stretch.offset, &from[done..done + stretch.len.min(from.len() - done)]);
            self.memory.write(offset, part).expect(WITHIN);
            done += part.len();
        }
        Ok(())
    }

    /// Does for the host what a page fault does for the guest: the stack grows, and a page of a file is read.
    fn touch(&mut self, at: GuestVirt) -> Result<(), BadAddress> {
        let bad = |_| BadAddress { address: at };
        if self.page_in(Page::of(at)).map_err(bad)? == PageIn::Unneeded {
            self.grow_stack(at).map_err(bad)?;
        }
        Ok(())
    }

    /// Reads `N` bytes.
    pub(crate) fn read_array<const N: usize>(&self, at: GuestVirt) -> Result<[u8; N], BadAddress> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads a little-endian number.
    pub(crate) fn read_u64(&self, at: GuestVirt) -> Result<u64, BadAddress> {
        self.read_array(at).map(u64::from_le_bytes)
    }

    /// Reads a little-endian number.
    pub(crate) fn read_u32(&self, at: GuestVirt) -> Result<u32, BadAddress> {
        self.read_array(at).map(u32::from_le_bytes)
    }

    /// Reads the string at `at`, which ends with a zero byte. The zero is left out.
    ///
    /// # Errors
    ///
    /// [`StringError`], `TooLong` when there is no zero among the first `limit` bytes.
    pub(crate) fn read_c_string(&self, at: GuestVirt, limit: usize) -> Result<Vec<u8>, StringError> {
        let mut string = Vec::new();
        while string.len() < limit {
            let here = offset(at, string.len())?;
            let mut piece = [0; STRING_PIECE];
            let len = STRING_PIECE.min(limit - string.len()).min(PAGE as usize - here.page_offset());
            self.read(here, &mut piece[..len])?;
            if let Some(end) = piece[..len].iter().position(|byte| *byte == 0) {
                string.extend_from_slice(&piece[..end]);
                return Ok(string);
            }
            string.extend_from_slice(&piece[..len]);
        }
        Err(StringError::TooLong { limit })
    }

    /// The bytes from `at` on that are contiguous in one region, in pages whose protection is `suitable`.
    fn stretch(&self, at: GuestVirt, suitable: impl Fn(Protection) -> bool) -> Result<Stretch<'_>, BadAddress> {
        let bad = BadAddress { address: at };
        if let Some(window) = self.window_at(at) {
            let protection = if window.writable { Protection::ReadWrite } else { Protection::Read };
            let into = (at.0 - window.at.0) as usize;
            let stretch = Stretch {
                region: &window.region,
                offset: window.offset + into,
                len: window.len - into,
                is_shared: false,
            };
            return suitable(protection).then_some(stretch).ok_or(bad);
        }
        let page = Page::of(at);
        let (mapped, mapping) = self.layout.mappings.get(page).ok_or(bad)?;
        let (backed, frame) = self.layout.backing.get(page).ok_or(bad)?;
        if !suitable(mapping.protection) {
            return Err(bad);
        }
        let end = mapped.end.min(backed.end).address();
        let offset = self.memory.frame_offset(frame.0 + (page - backed.start)) + at.page_offset();
        let is_shared = mapping.kind.shared().is_some();
        Ok(Stretch { region: self.memory.region(), offset, len: (end.0 - at.0) as usize, is_shared })
    }
}

/// What of a file was read into the guest's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    /// How many bytes.
    pub(crate) read: usize,
    /// How many it was asked for: there are no more in the file where these are fewer.
    pub(crate) asked: usize,
}

/// Contiguous bytes.
struct Stretch<'a> {
    region: &'a TrackedRegion,
    offset: usize,
    len: usize,
    /// Whether they are those of a shared file.
    is_shared: bool,
}

fn offset(at: GuestVirt, by: usize) -> Result<GuestVirt, BadAddress> {
    at.checked_add(by as u64).ok_or(BadAddress { address: at })
}

const WITHIN: &str = "frames and windows lie within their regions";

/// From this many bytes on a file is read straight into the guest's memory, all of whose pages count as written, even where the
/// file ends before. Copying fewer bytes costs less than a system call and a look at the file.
pub(crate) const LEAST_FILLED: usize = 64 << 10;

/// Paths are usually short.
const STRING_PIECE: usize = 128;
