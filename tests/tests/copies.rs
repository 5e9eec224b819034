//! Several copies of the library in one process: each ends its own calls, and no other's.
//!
//! The copies are shared objects (`tests/plugin`), one file for each, because the dynamic linker loads a file only once; one
//! more is in the test itself.

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, mem, process, thread};

use ampoule::{CallError, KillOutcome, Sandbox, Termination};
use ampoule_tests::child::in_child;
use ampoule_tests::{calls_image, calls_sandbox};

#[test]
fn copies_that_begin_at_the_same_time_end_their_own_calls_and_no_others() {
    let copies = [Copy::load(), Copy::load(), Copy::load()];
    let all = Barrier::new(3 * copies.len());
    thread::scope(|scope| {
        for copy in &copies {
            for check in [Copy::kills, Copy::keeps_deadlines, Copy::returns] {
                let all = &all;
                scope.spawn(move || {
                    all.wait();
                    check(copy);
                });
            }
        }
    });
}

#[test]
fn a_copy_that_comes_later_works_like_the_first() {
    let mut first = calls_sandbox();
    let copy = Copy::load();
    copy.kills();
    kill(&mut first);
    copy.keeps_deadlines();
    copy.returns();
}

#[test]
fn a_host_function_can_use_another_copy() {
    let copy = Copy::load();
    let mut sandbox = Sandbox::builder(&calls_image())
        .host_fn("notify", move || copy.keeps_deadlines())
        .host_fn("add", |a: u32, b: u32| a + b)
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .build()
        .unwrap();
    sandbox.call::<()>("notify_host", (3u32,)).unwrap();
    kill(&mut sandbox);
}

#[test]
fn a_forked_child_has_all_copies() {
    let mut sandbox = calls_sandbox();
    let copy = Copy::load();
    copy.kills();
    let child = in_child(|| {
        copy.kills();
        copy.keeps_deadlines();
        kill(&mut calls_sandbox());
    });
    copy.kills();
    kill(&mut sandbox);
    assert_eq!(child, 0, "wait status");
}

fn kill(sandbox: &mut Sandbox) {
    let handle = sandbox.interrupt_handle();
    let killer = thread::spawn(move || {
        while !handle.is_running() {
            thread::yield_now();
        }
        handle.kill()
    });
    let error = sandbox.call::<()>("spin", ()).unwrap_err();
    assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
    assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
}

/// A copy of the library, which is never unloaded.
struct Copy {
    kills: extern "C" fn() -> bool,
    keeps_a_deadline: extern "C" fn() -> bool,
    returns: extern "C" fn(u32) -> bool,
}

impl Copy {
    fn load() -> Copy {
        static COPIES: AtomicU32 = AtomicU32::new(0);
        let number = COPIES.fetch_add(1, Ordering::Relaxed);
        let file = env::temp_dir().join(format!("ampoule-plugin-{}-{number}.so", process::id()));
        fs::copy(built(), &file).unwrap();
        let path = CString::new(file.as_os_str().as_bytes()).unwrap();
        // SAFETY: the file is a shared object of ours, whose initializers are those of Rust's standard library. The functions
        // have the types that are declared in `tests/plugin`.
        unsafe {
            let object = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            assert!(!object.is_null(), "{} cannot be loaded", file.display());
            fs::remove_file(&file).unwrap();
            Copy {
                kills: mem::transmute::<*mut c_void, extern "C" fn() -> bool>(symbol(
                    object,
                    c"ampoule_test_plugin_kills",
                )),
                keeps_a_deadline: mem::transmute::<*mut c_void, extern "C" fn() -> bool>(symbol(
                    object,
                    c"ampoule_test_plugin_keeps_a_deadline",
                )),
                returns: mem::transmute::<*mut c_void, extern "C" fn(u32) -> bool>(symbol(
                    object,
                    c"ampoule_test_plugin_returns",
                )),
            }
        }
    }

    fn kills(&self) {
        for _ in 0..5 {
            assert!((self.kills)());
        }
    }

    fn keeps_deadlines(&self) {
        for _ in 0..5 {
            assert!((self.keeps_a_deadline)());
        }
    }

    fn returns(&self) {
        assert!((self.returns)(500));
    }
}

/// # Safety
///
/// The object must be loaded.
unsafe fn symbol(object: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: the caller answers for the object.
    let symbol = unsafe { libc::dlsym(object, name.as_ptr()) };
    assert!(!symbol.is_null(), "{name:?}");
    symbol
}

/// Cargo puts the shared object beside the tests that depend on it.
fn built() -> PathBuf {
    env::current_exe().unwrap().with_file_name("libampoule_test_plugin.so")
}
