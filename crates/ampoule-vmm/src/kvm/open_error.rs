//! Why KVM cannot be used, in words that help.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr;

use crate::hypervisor;
use crate::linux::advice::{WithAdvice, is_shortage};
use crate::x86_64::probe::ProbeError;

use super::detection::Detection;

/// Why KVM cannot be used, with all details. Where KVM exists but does not suffice, the text ends with a list of everything
/// that was found out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such device.
    #[error(
        "{}: no such device; load the kernel module `kvm_intel` or `kvm_amd`, and make sure that virtualization is enabled in \
         the firmware (in a virtual machine: nested virtualization; in a container: pass the device in)",
        path.display()
    )]
    Missing {
        /// The device's path.
        path: PathBuf,
    },
    /// The user may not open the device.
    #[error("{}: permission denied; {}", path.display(), Remedy { path, access })]
    PermissionDenied {
        /// The device's path.
        path: PathBuf,
        /// Who may open the device, and how the process relates to that.
        access: DeviceAccess,
    },
    /// The device is not KVM.
    #[error("{}: not a KVM device", path.display())]
    NotKvm {
        /// The device's path.
        path: PathBuf,
    },
    /// The kernel's KVM does not have the interface that all kernels since 2.6.22 have.
    #[error("{}: KVM has API version {found} instead of 12", path.display())]
    ApiVersion {
        /// The device's path.
        path: PathBuf,
        /// The version found.
        found: i32,
    },
    /// The kernel's KVM lacks something.
    #[error(
        "{}: KVM lacks {capability}; Linux 5.11 or newer on x86-64 is needed{}",
        path.display(),
        Findings(detection)
    )]
    MissingCapability {
        /// The device's path.
        path: PathBuf,
        /// The kernel's name for the first capability that is missing.
        capability: &'static str,
        /// What was found out.
        detection: Box<Detection>,
    },
    /// KVM exists, but cannot run guests in the way that they need.
    #[error("{}: KVM does not run a trial guest: {reason}{}", path.display(), Findings(detection))]
    Unusable {
        /// The device's path.
        path: PathBuf,
        /// What was found out.
        detection: Box<Detection>,
        /// What went wrong.
        reason: ProbeError,
    },
    /// KVM exists, but the process or the system lacks the resources to try it out. KVM may be usable.
    #[error("{}: KVM could not be tried out: {reason}", path.display())]
    Exhausted {
        /// The device's path.
        path: PathBuf,
        /// What is lacking.
        reason: ProbeError,
    },
    /// KVM exists, but does not report what it offers to guests.
    #[error("{}: KVM does not report what it offers to guests: {reason}{}", path.display(), Findings(detection))]
    Undescribed {
        /// The device's path.
        path: PathBuf,
        /// What was found out.
        detection: Box<Detection>,
        /// What the kernel answered.
        reason: io::Error,
    },
    /// Anything else.
    #[error("{}: cannot be used: {}", path.display(), WithAdvice(reason))]
    Failed {
        /// The device's path.
        path: PathBuf,
        /// What the kernel answered.
        reason: io::Error,
    },
}

impl From<OpenError> for hypervisor::OpenError {
    fn from(error: OpenError) -> Self {
        let explanation = error.to_string();
        match error {
            OpenError::Missing { .. } => Self::Missing { explanation },
            OpenError::PermissionDenied { .. } => Self::PermissionDenied { explanation },
            OpenError::NotKvm { .. }
            | OpenError::ApiVersion { .. }
            | OpenError::MissingCapability { .. }
            | OpenError::Unusable { .. }
            | OpenError::Undescribed { .. } => Self::Unsuitable { explanation },
            OpenError::Exhausted { reason, .. } => match reason.into_refusal() {
                Some(reason) => Self::Exhausted { explanation, reason },
                None => Self::Unsuitable { explanation },
            },
            OpenError::Failed { reason, .. } if is_shortage(&reason) => Self::Exhausted { explanation, reason },
            OpenError::Failed { reason, .. } => Self::Failed { explanation, reason },
        }
    }
}

/// Who may open a device that the process may not open.
#[derive(Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub struct DeviceAccess {
    /// The permission bits of the device's mode.
    pub mode: u32,
    /// The name of the user who owns the device, or the number of one without a name.
    pub owner: String,
    /// The group that owns the device.
    pub group: DeviceGroup,
    /// Whether owner, group and mode let the process read and write the device, so that something else refuses.
    pub permitted: bool,
}

/// The group that owns a device, and how the process relates to it.
#[derive(Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub struct DeviceGroup {
    /// The group's name, or its number when it has none.
    pub name: String,
    /// The group's number.
    pub id: u32,
    /// Whether the process runs with this group.
    pub effective: bool,
    /// Whether the group database lists the process's user in it.
    pub listed: bool,
}

impl DeviceAccess {
    fn of(path: &Path) -> io::Result<DeviceAccess> {
        let metadata = path.metadata()?;
        let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
        let group = DeviceGroup::of(metadata.gid())?;
        // SAFETY: has no preconditions.
        let user = unsafe { libc::geteuid() };
        // The kernel applies the first class that fits, and no other; the superuser passes.
        let needed = match () {
            () if user == 0 => 0,
            () if user == owner => READ_AND_WRITE << 6,
            () if group.effective => GROUP_READ_AND_WRITE,
            () => READ_AND_WRITE,
        };
        let permitted = mode & needed == needed;
        Ok(DeviceAccess { mode, owner: user_name(owner).unwrap_or_else(|| owner.to_string()), group, permitted })
    }
}

impl DeviceGroup {
    fn of(gid: libc::gid_t) -> io::Result<DeviceGroup> {
        let (name, members) = group_entry(gid).unwrap_or_default();
        // SAFETY: has no preconditions.
        let user = user_name(unsafe { libc::geteuid() });
        Ok(DeviceGroup {
            name: if name.is_empty() { gid.to_string() } else { name },
            id: gid,
            effective: process_groups()?.contains(&gid),
            listed: user.is_some_and(|user| members.contains(&user)),
        })
    }
}

/// What to do about a device that the process may not open. Joining its group helps only where the mode lets the group in.
struct Remedy<'a> {
    path: &'a Path,
    access: &'a DeviceAccess,
}

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeviceAccess { mode, owner, group, permitted } = self.access;
        let DeviceGroup { name, id, effective, listed } = group;
        let path = self.path.display();
        let own_group = |f: &mut fmt::Formatter<'_>| {
            write!(
                f,
                ": let a group of its own in (`sudo chgrp kvm {path} && sudo chmod 660 {path}`, and a rule for udev to keep it \
                 so), add your user to it (`sudo usermod -aG kvm $USER`) and log in again"
            )
        };
        if *permitted {
            return write!(
                f,
                "its mode {mode:04o} lets this process read and write it, so something else refuses: in a container, pass the \
                 device in; otherwise look into the log of the security module"
            );
        }
        if mode & GROUP_READ_AND_WRITE != GROUP_READ_AND_WRITE {
            write!(f, "its mode {mode:04o} lets nobody but its owner `{owner}` read and write it")?;
            return own_group(f);
        }
        write!(f, "the device belongs to group `{name}`")?;
        if *id == 0 {
            f.write_str(", which no user should be added to")?;
            own_group(f)
        } else if *effective {
            write!(f, ", which this process is in, but its owner `{owner}` has no permission to read and write it")
        } else if *listed {
            f.write_str(", to which your user was added after this session began: log in again")
        } else {
            write!(f, ": add your user to it (`sudo usermod -aG {name} $USER`) and log in again")
        }
    }
}

/// What was found out, as the end of a message.
struct Findings<'a>(&'a Detection);

impl fmt::Display for Findings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\n  what was found out:")?;
        self.0.to_string().lines().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// Explains why `path` could not be opened.
pub(super) fn diagnose(path: &Path, reason: io::Error) -> OpenError {
    let path = path.to_owned();
    match reason.kind() {
        io::ErrorKind::NotFound => OpenError::Missing { path },
        io::ErrorKind::PermissionDenied => match DeviceAccess::of(&path) {
            Ok(access) => OpenError::PermissionDenied { path, access },
            Err(_) => OpenError::Failed { path, reason },
        },
        // The device node exists, but there is no driver behind it.
        _ if matches!(reason.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => OpenError::Missing { path },
        _ => OpenError::Failed { path, reason },
    }
}

/// The effective and supplementary groups of the process.
fn process_groups() -> io::Result<Vec<libc::gid_t>> {
    // SAFETY: with a size of zero nothing is written.
    let count = unsafe { libc::getgroups(0, ptr::null_mut()) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let mut groups = vec![0; count];
    // SAFETY: there is room for `count` groups.
    let count = unsafe { libc::getgroups(groups.len() as libc::c_int, groups.as_mut_ptr()) };
    groups.truncate(usize::try_from(count).map_err(|_| io::Error::last_os_error())?);
    // SAFETY: has no preconditions.
    groups.push(unsafe { libc::getegid() });
    Ok(groups)
}

/// Name and members of a group, if the group database has it.
fn group_entry(gid: libc::gid_t) -> Option<(String, Vec<String>)> {
    let mut buffer = [0; DATABASE_BUFFER];
    let mut entry = MaybeUninit::<libc::group>::uninit();
    let mut found = ptr::null_mut();
    // SAFETY: all pointers are to live objects of the sizes stated.
    let result = unsafe { libc::getgrgid_r(gid, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found) };
    if result != 0 || found.is_null() {
        return None;
    }
    // SAFETY: on success `found` points to `entry`, whose strings and null-terminated list of strings lie in `buffer`.
    unsafe {
        let entry = &*found;
        let mut members = Vec::new();
        let mut member = entry.gr_mem;
        while !(*member).is_null() {
            members.push(string(*member));
            member = member.add(1);
        }
        Some((string(entry.gr_name), members))
    }
}

/// The name of a user, if the user database has it.
fn user_name(uid: libc::uid_t) -> Option<String> {
    let mut buffer = [0; DATABASE_BUFFER];
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut found = ptr::null_mut();
    // SAFETY: all pointers are to live objects of the sizes stated.
    let result = unsafe { libc::getpwuid_r(uid, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found) };
    if result != 0 || found.is_null() {
        return None;
    }
    // SAFETY: on success `found` points to `entry`, whose strings lie in `buffer`.
    Some(unsafe { string((*found).pw_name) })
}

/// # Safety
///
/// `text` points to a string that ends with a zero byte.
unsafe fn string(text: *const libc::c_char) -> String {
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

// Bits of a mode: for all others, and for the group.
const READ_AND_WRITE: u32 = 0o6;
const GROUP_READ_AND_WRITE: u32 = READ_AND_WRITE << 3;

/// Room for one entry of the user or group database; a group with more members than fit is treated as unknown.
const DATABASE_BUFFER: usize = 16 << 10;

#[cfg(test)]
mod tests;
