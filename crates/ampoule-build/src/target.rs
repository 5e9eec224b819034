use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::script::BuildScript;
use crate::{BuildError, NoGlibc};

pub(crate) const MUSL: &str = "x86_64-unknown-linux-musl";
pub(crate) const GLIBC: &str = "x86_64-unknown-linux-gnu";

/// What makes rustc link a static PIE for either target. rustc asks the linker by itself for a stack that is not executable
/// and for relocations that are read-only after start-up, and no linker makes a segment writable and executable unless told.
pub(crate) const RUSTFLAGS: [&str; 4] = ["-C", "target-feature=+crt-static", "-C", "relocation-model=pie"];

/// Chooses the target triple to build guests for: musl's if it is installed, otherwise glibc's.
pub(crate) fn choose(script: &BuildScript) -> Result<&'static str, BuildError> {
    if has_std(&script.rustc, MUSL)? {
        return Ok(MUSL);
    }
    if !has_std(&script.rustc, GLIBC)? {
        return Err(BuildError::NoStaticLibc { glibc: NoGlibc::NoStd });
    }
    check_static_glibc(script).map_err(|glibc| BuildError::NoStaticLibc { glibc })?;
    Ok(GLIBC)
}

/// rustc names a directory for every target it knows, installed or not.
fn has_std(rustc: &Path, target: &str) -> Result<bool, BuildError> {
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|reason| BuildError::Run { program: rustc.to_owned(), reason })?;
    let dir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end());
    let Ok(entries) = dir.read_dir() else {
        return Ok(false);
    };
    Ok(entries.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("libstd-") && Path::new(&name).extension().is_some_and(|end| end == "rlib")
    }))
}

fn check_static_glibc(script: &BuildScript) -> Result<(), NoGlibc> {
    let linker = match &script.glibc_linker {
        Some(linker) => linker.to_string_lossy().into_owned(),
        None if script.machine == GLIBC => DEFAULT_LINKER.to_owned(),
        None => return Err(NoGlibc::NoCrossLinker),
    };
    for file in ["rcrt1.o", "libc.a"] {
        let Ok(output) = Command::new(&linker).arg(format!("-print-file-name={file}")).output() else {
            return Err(NoGlibc::NoLinker { linker });
        };
        // A file that the linker does not find is printed as it was asked for, without a directory.
        if !Path::new(String::from_utf8_lossy(&output.stdout).trim_end()).is_absolute() {
            return Err(NoGlibc::NoFile { linker, file });
        }
    }
    Ok(())
}

/// What rustc links with on Linux; it does not look at `CC`.
const DEFAULT_LINKER: &str = "cc";

#[cfg(test)]
mod tests;
