//! `memfd_create`: files in memory that have no name, and the seals that can be put on them.

use ampoule_vfs::File;
use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    F_ADD_SEALS, F_GET_SEALS, F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE,
    MFD_ALLOW_SEALING, MFD_CLOEXEC, MFD_EXEC, MFD_NOEXEC_SEAL, O_CLOEXEC, O_RDWR,
};

use crate::address_space::AddressSpace;

use super::clocks::Clocks;
use super::errno::Errno;
use super::locks::Identity;
use super::{State, uint};

/// What is about to change in a file, which a seal may forbid.
#[derive(Clone, Copy, Debug)]
pub(super) enum SealedChange {
    /// So many bytes are written from a place on, or at the end.
    Write {
        start: Option<u64>,
        len: u64,
    },
    /// It becomes this long, if it is shorter.
    Grow {
        to: u64,
    },
    Shrink,
}

impl State {
    pub(super) fn memfd_create(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        name: u64,
        flags: u64,
    ) -> Result<u64, Errno> {
        let flags = uint(flags);
        if flags & !(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC) != 0
            || flags & (MFD_NOEXEC_SEAL | MFD_EXEC) == MFD_NOEXEC_SEAL | MFD_EXEC
        {
            return Err(Errno::EINVAL);
        }
        match space.read_c_string(GuestVirt(name), NAME_LEN) {
            Ok(_) => {}
            Err(crate::address_space::StringError::TooLong { .. }) => return Err(Errno::EINVAL),
            Err(error) => return Err(error.into()),
        }
        self.descriptors.has_room()?;
        let mode = if flags & MFD_NOEXEC_SEAL == 0 { 0o777 } else { 0o666 };
        let file = self.with_files(clocks, space, |vfs, context| vfs.open_anonymous(context, mode))?;
        let seals = if flags & (MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL) == 0 { F_SEAL_SEAL } else { 0 };
        self.seals.insert(self.identity(&file)?, seals);
        self.install(file, O_RDWR | if flags & MFD_CLOEXEC == 0 { 0 } else { O_CLOEXEC })
    }

    /// `fcntl` with `F_ADD_SEALS` and `F_GET_SEALS`
    pub(super) fn seal(
        &mut self,
        space: &AddressSpace,
        number: u64,
        command: u32,
        argument: u64,
    ) -> Result<u64, Errno> {
        let open = self.descriptors.get(number)?;
        let identity = self.identity(&self.named(number)?)?;
        let may_be_stored_to = || space.shared_file(identity).is_some_and(|id| space.may_store_in(id));
        let seals = self.seals.get_mut(&identity).ok_or(Errno::EINVAL)?;
        match command {
            F_GET_SEALS => return Ok((*seals).into()),
            F_ADD_SEALS if !open.is_writable() || *seals & F_SEAL_SEAL != 0 => return Err(Errno::EPERM),
            F_ADD_SEALS if uint(argument) & !ALL_SEALS != 0 => return Err(Errno::EINVAL),
            F_ADD_SEALS if uint(argument) & F_SEAL_WRITE & !*seals != 0 && may_be_stored_to() => {
                return Err(Errno::EBUSY);
            }
            F_ADD_SEALS => *seals |= uint(argument),
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }

    /// Fails where a seal forbids a change.
    pub(super) fn check_seals(&self, file: &File, change: SealedChange) -> Result<(), Errno> {
        if self.seals.is_empty() {
            return Ok(());
        }
        let Some(seals) = self.seals.get(&self.identity(file)?) else { return Ok(()) };
        let now = self.vfs.len(file)?;
        let is_forbidden = match change {
            SealedChange::Write { .. } if seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0 => true,
            SealedChange::Write { start, len } => {
                seals & F_SEAL_GROW != 0 && start.unwrap_or(now).saturating_add(len) > now
            }
            SealedChange::Grow { to } => seals & F_SEAL_GROW != 0 && to > now,
            SealedChange::Shrink => seals & F_SEAL_SHRINK != 0,
        };
        if is_forbidden { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Which file it is.
    pub(super) fn identity(&self, file: &File) -> Result<Identity, Errno> {
        let metadata = self.vfs.metadata(file.location())?;
        Ok((metadata.mount, metadata.inode))
    }

    /// Forgets the seals of files that are not open any more.
    pub(super) fn forget_seals(&mut self) {
        if self.seals.is_empty() {
            return;
        }
        let open: Vec<Identity> = self.descriptors.named_files().filter_map(|file| self.identity(file).ok()).collect();
        self.seals.retain(|identity, _| open.contains(identity));
    }
}

const ALL_SEALS: u32 = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;

/// The longest name with its terminating zero (Linux's `mm/memfd.c`).
const NAME_LEN: usize = 250;
