//! Snapshots in registries and image layouts: what is pushed answers wherever it is pulled, only what is missing travels, and
//! nothing that a registry sends does harm.

mod command_line;
mod fake_registry;
mod hostile;
mod layout;
mod login;
mod real;
mod registry;

use std::path::{Path, PathBuf};

use ampoule::{SaveOptions, Snapshot};
use ampoule_oci::{Options, Pulled, PulledLayer, Pushed};
use ampoule_tests::{calls_sandbox, calls_spawn};
use tempfile::TempDir;

/// Three snapshots of one guest, each stored as a difference from the one before it.
struct Chain {
    directory: TempDir,
}

impl Chain {
    fn new() -> Self {
        let chain = Self { directory: TempDir::new().unwrap() };
        let mut sandbox = calls_sandbox();
        sandbox.snapshot().unwrap().save(chain.path(0)).unwrap();
        for number in 1..3 {
            sandbox.call::<u32>("increment", ()).unwrap();
            let options = SaveOptions::new().parent(chain.path(number - 1));
            sandbox.snapshot().unwrap().save_with(chain.path(number), &options).unwrap();
        }
        chain
    }

    /// The file of the snapshot in which so many calls have been counted.
    fn path(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("{number}.snap"))
    }
}

/// What the guest in a file answers, which counts from 100 on.
fn answer(path: &Path) -> u32 {
    let loaded = Snapshot::load(path).unwrap();
    calls_spawn(loaded.builder()).build().unwrap().call("increment", ()).unwrap()
}

/// The options for a registry on this machine.
fn plain() -> Options {
    Options::new().plain_http(true).anonymous()
}

/// Which layers were sent.
fn sent(pushed: &Pushed) -> Vec<bool> {
    pushed.layers.iter().map(|layer| !layer.was_there).collect()
}

/// Which layers were received.
fn received(pulled: &Pulled) -> Vec<bool> {
    pulled.layers.iter().map(|layer| !layer.was_there).collect()
}

/// The names of the files that were pulled.
fn names(pulled: &Pulled) -> Vec<String> {
    let name = |layer: &PulledLayer| layer.path.file_name().unwrap().to_str().unwrap().to_owned();
    pulled.layers.iter().map(name).collect()
}

/// The names of all files in a directory.
fn files(directory: &Path) -> Vec<String> {
    let entries = directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort_unstable();
    names
}
