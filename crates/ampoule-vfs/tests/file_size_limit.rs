//! The limit of this process's for the size of files, beyond which the kernel sends it a signal that ends it (`SIGXFSZ`). It is
//! a test by itself, since the limit is that of the whole process.

mod common;

use std::fs;

use ampoule_vfs::{Allocation, Builder, Errno};
use linux_raw_sys::general::{O_CREAT, O_RDWR};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use common::{CONTEXT, SMALL, open};

/// Limits the size of files until it is dropped: what this process prints may go to a file that is larger by now.
struct Limited(Rlimit);

impl Limited {
    fn to(most: u64) -> Self {
        let before = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current: Some(most), maximum: before.maximum }).unwrap();
        Self(before)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        setrlimit(Resource::Fsize, Rlimit { current: self.0.current, maximum: self.0.maximum }).unwrap();
    }
}

#[test]
fn no_file_of_the_hosts_becomes_larger_than_this_process_may_make_one() {
    let host = tempfile::tempdir().unwrap();
    let most = 3 * 4096 + 100;
    let _limited = Limited::to(most);
    let mut vfs = Builder::new().memory("/", SMALL).host_read_write("/host", host.path()).build().unwrap();
    let root = vfs.root();
    let file = open(&mut vfs, "/host/file", O_RDWR | O_CREAT);
    assert_eq!(vfs.write_at(&CONTEXT, &file, &[1; 200], most - 150), Ok(150), "as much as there is room for");
    assert_eq!(vfs.write_at(&CONTEXT, &file, &[1], most), Err(Errno::EFBIG));
    assert_eq!(vfs.append(&CONTEXT, &file, &[1]), Err(Errno::EFBIG));
    assert_eq!(vfs.set_len(&CONTEXT, &file, most + 1), Err(Errno::EFBIG));
    assert_eq!(vfs.truncate(&CONTEXT, file.location(), i64::MAX as u64), Err(Errno::EFBIG));
    for allocation in [Allocation::Reserve { keep_size: false }, Allocation::Zero { keep_size: false }] {
        assert_eq!(vfs.allocate(&CONTEXT, &file, allocation, [most - 10, 11]), Err(Errno::EFBIG));
    }
    assert_eq!(fs::metadata(host.path().join("file")).unwrap().len(), most);
    assert_eq!(vfs.set_len(&CONTEXT, &file, 0), Ok(()));
    assert_eq!(vfs.append(&CONTEXT, &file, &[1; 100]), Ok((100, 0)));

    // What is in memory has its quota alone.
    let memory = vfs.open(&CONTEXT, &root, b"/file", O_RDWR | O_CREAT, 0o644).unwrap();
    assert_eq!(vfs.write_at(&CONTEXT, &memory, &[1; 100], 2 * most), Ok(100));
}
