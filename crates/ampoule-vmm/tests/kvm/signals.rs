//! Signals of the application while virtual machines are made.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::shim::{SYSTEM_BASE, System};
use ampoule_vmm::{Hypervisor, HypervisorError, WriteTracking};

#[test]
fn signals_of_the_application_do_not_make_a_creation_fail() {
    let kvm = Kvm::shared().unwrap();
    in_a_storm(libc::SIGUSR1, || {
        for creation in 0..CREATIONS {
            create(&kvm).unwrap_or_else(|error| panic!("creation {creation}: {error}"));
        }
    });
}

#[test]
fn signals_of_the_application_do_not_change_what_is_found_out_about_kvm() {
    let kvm = Kvm::shared().unwrap();
    in_a_storm(libc::SIGUSR2, || {
        for opening in 0..OPENINGS {
            let opened = Kvm::open().unwrap_or_else(|error| panic!("opening {opening}: {error}"));
            assert_eq!(opened.detection(), kvm.detection());
        }
    });
}

#[test]
fn a_creation_in_a_storm_of_signals_leaves_the_mask_as_it_was() {
    let kvm = Kvm::shared().unwrap();
    block(&[libc::SIGWINCH, libc::SIGHUP]);
    let before = blocked();
    in_a_storm(libc::SIGURG, || {
        for _ in 0..CREATIONS / 4 {
            create(&kvm).unwrap();
        }
    });
    assert_eq!(blocked(), before);
}

/// One of everything that is asked of the kernel before a guest runs.
fn create(kvm: &Kvm) -> Result<(), HypervisorError> {
    let (system, tables) = System::new(8).unwrap();
    let mut vm = kvm.create_vm()?;
    vm.map(0, SYSTEM_BASE, system.region().clone(), WriteTracking::On)?;
    let mut vcpu = vm.create_vcpu(&system.syscall_entry())?;
    vcpu.set_special_regs(&system.initial_special_regs(kvm.capabilities(), tables.root()))?;
    vcpu.special_regs()?;
    let fpu = vcpu.fpu()?;
    vcpu.set_fpu(&fpu)?;
    vcpu.statistics()?;
    vcpu.abandon()?;
    vm.unmap(0)
}

/// Does something on this thread, which meanwhile gets a signal whenever it has handled the one before.
fn in_a_storm(signal: libc::c_int, work: impl FnOnce()) {
    extern "C" fn on_signal(_: libc::c_int) {
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
    static HANDLED: AtomicU64 = AtomicU64::new(0);

    let handler: extern "C" fn(libc::c_int) = on_signal;
    // SAFETY: a `sigaction` of zeros is valid: an empty mask, no flags (`SA_RESTART` is none of them), the default disposition.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: the handler is of the kind that the flags say, only adds to an atomic, and lives as long as the process.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }, 0);

    let is_over = AtomicBool::new(false);
    // SAFETY: has no preconditions.
    let target = unsafe { libc::pthread_self() };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // SAFETY: the thread `target` waits for this one before it ends.
                unsafe { libc::pthread_kill(target, signal) };
                thread::yield_now();
            }
        });
        let over = Over(&is_over);
        work();
        drop(over);
    });
    assert!(HANDLED.load(Ordering::Relaxed) > 0);
}

/// Ends the storm, where the work has failed too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Blocks signals on this thread.
fn block(signals: &[libc::c_int]) {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` is initialized by `sigemptyset` before it is used.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
    }
}

/// The signals that this thread has blocked.
fn blocked() -> Vec<libc::c_int> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: without a new set the call only fills the old one.
    let set = unsafe {
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), set.as_mut_ptr()), 0);
        set.assume_init()
    };
    // SAFETY: the set is initialized.
    (1..=64).filter(|signal| unsafe { libc::sigismember(&raw const set, *signal) } == 1).collect()
}

/// Enough that a signal comes in at every step of some of them.
const CREATIONS: usize = 120;

/// Each runs several trial guests.
const OPENINGS: usize = 20;
