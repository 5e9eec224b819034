//! Reading an image file.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::error::ImageProblem;

/// Reads a file whose size is bounded, even when it grows while it is read.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ImageProblem> {
    // Before it is opened: opening a pipe waits for a writer.
    let metadata = fs::metadata(path).map_err(|reason| ImageProblem::Read { reason })?;
    if !metadata.is_file() {
        return Err(ImageProblem::NotAFile);
    }
    check_size(metadata.len())?;
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes))
        .map_err(|reason| ImageProblem::Read { reason })?;
    Ok(bytes)
}

/// Refuses images that are too large.
pub(super) fn check_size(size: u64) -> Result<(), ImageProblem> {
    if size > MAX_FILE_SIZE {
        let limit = MAX_FILE_SIZE;
        return Err(ImageProblem::TooLarge { limit });
    }
    Ok(())
}

/// The largest image file, in bytes.
pub(super) const MAX_FILE_SIZE: u64 = 1 << 30;
