//! Why KVM cannot be used, in words that help.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr;

use crate::x86_64::probe::ProbeError;

use super::detection::Detection;

/// Why KVM cannot be used. Where KVM is there and does not suffice, the text ends with a list of all that was found out.
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
    #[error("{}: permission denied; {group}", path.display())]
    PermissionDenied {
        /// The device's path.
        path: PathBuf,
        /// The group that owns the device, and how the process stands to it.
        group: DeviceGroup,
    },
    /// The device is something else.
    #[error("{}: not a KVM device", path.display())]
    NotKvm {
        /// The device's path.
        path: PathBuf,
    },
    /// The kernel's KVM is not the one that all kernels since 2.6.22 have.
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
        /// The kernel's name of the first that is missing.
        capability: &'static str,
        /// What was found out.
        detection: Box<Detection>,
    },
    /// KVM is there, but cannot run guests as they have to be run.
    #[error("{}: KVM does not run a trial guest: {source}{}", path.display(), Findings(detection))]
    Unusable {
        /// The device's path.
        path: PathBuf,
        /// What was found out.
        detection: Box<Detection>,
        /// What went wrong.
        #[source]
        source: ProbeError,
    },
    /// KVM is there, but does not tell what it offers to guests.
    #[error("{}: KVM does not tell what it offers to guests{}", path.display(), Findings(detection))]
    Undescribed {
        /// The device's path.
        path: PathBuf,
        /// What was found out.
        detection: Box<Detection>,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("{}: cannot be used", path.display())]
    Failed {
        /// The device's path.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

/// The group that owns a device which the process may not open.
#[derive(Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub struct DeviceGroup {
    /// The group's name, or its number when it has none.
    pub name: String,
    /// Whether the process runs with this group.
    pub effective: bool,
    /// Whether the group database lists the process's user in it.
    pub listed: bool,
}

impl DeviceGroup {
    fn of(path: &Path) -> io::Result<DeviceGroup> {
        let gid = path.metadata()?.gid();
        let (name, members) = group_entry(gid).unwrap_or_default();
        Ok(DeviceGroup {
            name: if name.is_empty() { gid.to_string() } else { name },
            effective: process_groups()?.contains(&gid),
            listed: user_name().is_some_and(|user| members.contains(&user)),
        })
    }
}

impl fmt::Display for DeviceGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        write!(f, "the device belongs to group `{name}`")?;
        if self.effective {
            f.write_str(", which this process is in: the group needs permission to read and write it")
        } else if self.listed {
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
pub(super) fn diagnose(path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => OpenError::Missing { path },
        io::ErrorKind::PermissionDenied => match DeviceGroup::of(&path) {
            Ok(group) => OpenError::PermissionDenied { path, group },
            Err(_) => OpenError::Failed { path, source },
        },
        // The device node is there, but no driver behind it.
        _ if matches!(source.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => OpenError::Missing { path },
        _ => OpenError::Failed { path, source },
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

/// The name of the process's user, if the user database has it.
fn user_name() -> Option<String> {
    let mut buffer = [0; DATABASE_BUFFER];
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut found = ptr::null_mut();
    // SAFETY: all pointers are to live objects of the sizes stated.
    let result =
        unsafe { libc::getpwuid_r(libc::geteuid(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found) };
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

/// Room for one entry of the user or group database; more members than fit are as good as none.
const DATABASE_BUFFER: usize = 16 << 10;

#[cfg(test)]
mod tests;
