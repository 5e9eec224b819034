//! The kernel as an oracle: the same random operations on a virtual file system and on a directory, with the same results.
//!
//! The native side runs as a user without privileges where the tests run as root. Both sides start deep in a tree of
//! directories, so that no `..` leads to a place that they do not have in common.

mod native;
mod steps;
mod tree;
mod virtual_files;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ampoule_vfs::{Builder, Quota, USER_ID};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rustix::process::{Gid, Uid};
use tempfile::TempDir;

use native::Native;
use steps::{Limits, Side, Step};
use tree::Tree;
use virtual_files::Virtual;

#[test]
fn memory_behaves_like_a_directory_of_the_kernel() {
    check(Limits::NONE, |_, steps| {
        let plain = scratch();
        let native = Native::new(make_base(plain.path()));
        let mut vfs = Virtual::new(Builder::new().memory("/", ENOUGH).build().unwrap());
        vfs.make_base(&base_path());
        compare(native, &mut vfs, steps)?;
        vfs.check_account();
        Ok(())
    });
}

#[test]
fn an_overlay_behaves_like_a_copy_of_its_directory_and_leaves_that_as_it_is() {
    check(Limits::NONE, |setup, steps| {
        let (lower, plain) = (scratch(), scratch());
        for directory in [&lower, &plain] {
            let mut native = Native::new(make_base(directory.path()));
            setup.iter().for_each(|step| drop(native.run(step)));
        }
        let before = Tree::of_host(lower.path());
        let vfs = Builder::new().overlay("/", lower.path(), ENOUGH).without_devices().without_processes();
        let mut vfs = Virtual::at(vfs.build().unwrap(), &base_path());
        let native = Native::new(plain.path().join(&base_path()[1..]));
        compare(native, &mut vfs, steps)?;
        vfs.check_account();
        prop_assert_eq!(Tree::of_host(lower.path()), before);
        Ok(())
    });
}

#[test]
fn a_host_directory_behaves_like_any_other_and_nothing_beside_it_changes() {
    check(Limits::UNPRIVILEGED, |_, steps| {
        let (parent, plain) = (scratch(), scratch());
        fs::create_dir(parent.path().join("granted")).unwrap();
        fs::write(parent.path().join("beside"), "untouched").unwrap();
        let native = Native::new(make_base(plain.path()));
        make_base(&parent.path().join("granted"));
        let vfs = Builder::new().host_read_write("/", parent.path().join("granted"));
        let mut vfs = Virtual::at(vfs.without_devices().without_processes().build().unwrap(), &base_path());
        compare(native, &mut vfs, steps)?;
        let mut names: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        prop_assert_eq!(names, ["beside", "granted"]);
        prop_assert_eq!(fs::read_to_string(parent.path().join("beside")).unwrap(), "untouched");
        Ok(())
    });
}

#[test]
fn a_clone_stays_as_it_was_whatever_happens_to_the_other() {
    check(Limits::NONE, |setup, steps| {
        let lower = scratch();
        let mut native = Native::new(make_base(lower.path()));
        setup.iter().for_each(|step| drop(native.run(step)));
        drop(native);
        let vfs = Builder::new().overlay("/", lower.path(), ENOUGH).without_devices().without_processes();
        let mut first = Virtual::at(vfs.build().unwrap(), &base_path());
        let (common, steps) = steps.split_at(steps.len() / 2);
        common.iter().for_each(|step| drop(first.run(step)));

        let mut second = first.clone();
        let before = first.tree();
        let outcomes: Vec<_> = steps.iter().map(|step| second.run(step)).collect();
        prop_assert_eq!(first.tree(), before);
        let after = second.tree();
        // What has happened to the other is as if it had not.
        let again: Vec<_> = steps.iter().map(|step| first.run(step)).collect();
        prop_assert_eq!(again, outcomes);
        prop_assert_eq!(first.tree(), after);
        Ok(())
    });
}

/// Runs the steps on both sides, and compares each result and what there is in the end.
fn compare(mut native: Native, vfs: &mut Virtual, steps: &[Step]) -> Result<(), TestCaseError> {
    for (index, step) in steps.iter().enumerate() {
        let (expected, found) = (native.run(step), vfs.run(step));
        prop_assert_eq!(&found, &expected, "step {}: {:?}", index, step);
    }
    let expected = native.tree();
    prop_assert_eq!(vfs.tree(), expected);
    Ok(())
}

/// `test` gets steps to prepare a host directory with, and those to compare.
fn check(limits: Limits, test: impl Fn(&[Step], &[Step]) -> Result<(), TestCaseError> + Send + Sync) {
    rustix::process::umask(rustix::fs::Mode::empty());
    std::thread::scope(|scope| {
        let run = || {
            become_user();
            let steps = |limits, most| proptest::collection::vec(steps::step(limits), 0..most);
            let strategy = (steps(Limits::READABLE, 30), steps(limits, 60));
            let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
            if let Err(failure) = runner.run(&strategy, |(setup, steps)| test(&setup, &steps)) {
                panic!("{failure}");
            }
        };
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Makes this thread the guest's user, if it may.
fn become_user() {
    if rustix::process::geteuid().is_root() {
        let (user, group) = (Uid::from_raw(USER_ID), Gid::from_raw(USER_ID));
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(group, group, group).unwrap();
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
    }
}

/// A directory that is removed in the end, whatever its permissions have become.
struct Scratch(TempDir);

impl Scratch {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut pending = vec![self.path().to_path_buf()];
        while let Some(directory) = pending.pop() {
            let _ = fs::set_permissions(&directory, fs::Permissions::from_mode(0o700));
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir()));
            pending.extend(directories.map(|entry| entry.path()));
        }
    }
}

fn scratch() -> Scratch {
    Scratch(tempfile::Builder::new().prefix("ampoule-vfs-").tempdir().unwrap())
}

/// Where the steps begin.
fn base_path() -> String {
    "/d".repeat(DEPTH)
}

fn make_base(directory: &Path) -> PathBuf {
    let base = directory.join(&base_path()[1..]);
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&base).unwrap();
    base
}

/// More than the steps climb: a path has one `..` at most, and so has a symbolic link.
const DEPTH: usize = 12;

const ENOUGH: Quota = Quota { bytes: 1 << 30, inodes: 1 << 20 };
