//! Files of the file system as they are mapped.

use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use ampoule_vfs::{Context, Errno, File, FileType, MountKind, Special, Vfs};
use ampoule_vmm::{FrozenFile, PagedFile};

use crate::address_space::MappedFile;

/// How pages of a file are had that the program can only read on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// They are copied, as those of any other file.
    Copies,
    /// They are frozen, where the file is not too large for that.
    Frozen,
    /// They are read when they are touched, as those of a file that is too large.
    Paged,
}

/// What is to be known of an open file in order to map it.
///
/// What the program can only read of the host can be executed. Everything else is copied.
///
/// # Errors
///
/// `ENODEV` where it is no regular file, and what the host says.
pub(crate) fn mapped_file(vfs: &Vfs, context: &Context<'_>, file: &File, keep: Keep) -> Result<MappedFile, Errno> {
    let metadata = vfs.metadata(file.location())?;
    let special = vfs.special(file.location()).filter(|special| !matches!(special, Special::Mapping(_)));
    if metadata.file_type != FileType::Regular || special.is_some() {
        return Err(Errno::ENODEV);
    }
    let is_unchanged = matches!(vfs.mount_kind(file.location()), MountKind::HostReadOnly | MountKind::Overlay);
    let host = vfs.host_file(file).filter(|_| is_unchanged);
    let (frozen, paged) = host.map_or((None, None), |host| kept(host.descriptor, keep));
    let kept_size = frozen.as_ref().map(|file| file.size()).or(paged.as_ref().map(|file| file.size()));
    Ok(MappedFile {
        path: vfs.path_of(context, file).into(),
        device: (metadata.device.major, metadata.device.minor),
        inode: metadata.inode,
        size: kept_size.unwrap_or(metadata.size),
        executable: host.is_some(),
        frozen,
        paged,
    })
}

/// The pages of a file of the host's.
fn kept(file: BorrowedFd<'_>, keep: Keep) -> (Option<Arc<FrozenFile>>, Option<Arc<PagedFile>>) {
    let frozen = match keep {
        Keep::Copies => return (None, None),
        Keep::Frozen => FrozenFile::open(file),
        Keep::Paged => Err(ErrorKind::FileTooLarge.into()),
    };
    let error = match frozen {
        Ok(frozen) => return (Some(frozen), None),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => match PagedFile::open(file) {
            Ok(paged) => return (None, Some(Arc::new(paged))),
            Err(error) => error,
        },
        Err(error) => error,
    };
    tracing::debug!(%error, "a file is copied by a guest that maps it, and not shared");
    (None, None)
}
