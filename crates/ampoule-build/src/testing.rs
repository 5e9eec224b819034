use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, process};

use crate::script::BuildScript;
use crate::target::GLIBC;

/// A directory that is removed with its contents. Its name has a space in it.
pub(crate) struct TestDir(PathBuf);

impl TestDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("ampoule build {}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// What cargo would pass to the build script of a host package `host` in this directory.
    pub(crate) fn build_script(&self) -> BuildScript {
        let package_dir = self.0.join("host");
        fs::create_dir_all(&package_dir).unwrap();
        let cargo = PathBuf::from(env::var_os("CARGO").expect("tests are run by cargo"));
        BuildScript {
            package_dir,
            out_dir: self.0.join("out"),
            rustc: cargo.with_file_name("rustc"),
            cargo,
            machine: GLIBC.to_owned(),
            glibc_linker: None,
            prebuilt_guests: None,
            save_guests: None,
            docs_rs: false,
        }
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        // A directory that stays behind in the system's temporary directory is no reason to fail a test.
        let _ = fs::remove_dir_all(&self.0);
    }
}
