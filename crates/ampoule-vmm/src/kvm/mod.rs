//! The backend for Linux KVM.
//!
//! Registers travel in the page that a vCPU shares with the kernel (`KVM_CAP_SYNC_REGS`), so that a call into a guest costs
//! one `KVM_RUN` and no other system call.

mod cpuid;
mod detection;
mod dirty_ring;
mod open_error;
mod registers;
mod run_page;
mod shared;
mod slots;
mod statistics;
mod vcpu;
mod vm;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};

use crate::hypervisor::{self, BaselineError, Hypervisor, HypervisorError, Vm};
use crate::linux::clock_source;
use crate::linux::process::PerProcess;
use crate::linux::uninterrupted::{uninterrupted, without_signals};
use crate::x86_64::baseline::Baseline;
use crate::x86_64::capabilities::Capabilities;
use crate::x86_64::features::FeatureSet;
use crate::x86_64::probe::{Features, ProbeError, Trials, found_features, probe};
use crate::x86_64::vdso::CLOCK_SOURCE;

pub use detection::{Detection, Extension, Needed, Processor};
pub use open_error::{DeviceAccess, DeviceGroup, OpenError};

use vm::KvmVm;

/// KVM, opened and found usable.
#[derive(Debug)]
pub struct Kvm {
    device: Arc<Device>,
    capabilities: Capabilities,
    detection: Detection,
    /// What errors call the device.
    path: PathBuf,
    /// The same for guests that find less of the processor, as far as that was asked for.
    limited: Mutex<BTreeMap<Baseline, Limited>>,
}

impl Kvm {
    /// The path that [`open`](Kvm::open) opens.
    pub const DEVICE: &'static str = "/dev/kvm";

    /// Opens [`Kvm::DEVICE`] and tries it out, which takes a few milliseconds.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong and what to do about it.
    pub fn open() -> Result<Kvm, OpenError> {
        Kvm::open_path(Path::new(Kvm::DEVICE))
    }

    /// Like [`open`](Kvm::open), for a device with another name.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong and what to do about it.
    pub fn open_path(path: &Path) -> Result<Kvm, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|reason| open_error::diagnose(path, reason))?;
        Kvm::open_as(path, file.into())
    }

    /// Uses a device that is open already, and tries it out like [`open`](Kvm::open): for a process that may no longer open
    /// it itself, and was handed the descriptor by another process or opened the device before it gave up the right to.
    /// Errors name the device by its path under `/proc/self/fd`.
    ///
    /// Pass the result to the sandboxes of `ampoule` with `Builder::hypervisor`. A program that the process executes
    /// inherits the descriptor, unless it was opened with `O_CLOEXEC`.
    ///
    /// ```no_run
    /// use std::os::fd::OwnedFd;
    ///
    /// use ampoule_vmm::kvm::Kvm;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device: OwnedFd = std::fs::File::options().read(true).write(true).open(Kvm::DEVICE)?.into();
    /// // From here on the process may give up the right to open files.
    /// let kvm = Kvm::from_fd(device)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong and what to do about it.
    pub fn from_fd(device: OwnedFd) -> Result<Kvm, OpenError> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", device.as_raw_fd()));
        Kvm::open_as(&path, device)
    }

    fn open_as(path: &Path, device: OwnedFd) -> Result<Kvm, OpenError> {
        let (device, detection) = Device::ask(path, device)?;
        Kvm::try_out(path, device, detection)
    }

    fn try_out(path: &Path, device: Device, mut detection: Detection) -> Result<Kvm, OpenError> {
        let device = Arc::new(device);
        let features = Features {
            fsgsbase: cpuid::has_fsgsbase(&device.cpuid),
            umip: cpuid::has_umip(&device.cpuid),
            xcr0: device.xcr0,
            steady_counter: clock_source::is_named(CLOCK_SOURCE),
        };
        let trials = detection.trials.insert(Trials::default());
        // A trial that was ended by a signal would show nothing, but look like a fault of the hypervisor.
        let probed = without_signals(|| {
            probe(features, trials, |supposed| Ok(Box::new(KvmVm::create(device.clone(), supposed)?)))
        });
        match probed {
            Ok(capabilities) => {
                tracing::debug!(%capabilities, %detection, "opened KVM");
                Ok(Kvm { device, capabilities, detection, path: path.to_owned(), limited: Mutex::default() })
            }
            Err(reason) => Err(Kvm::untried(path, detection, reason)),
        }
    }

    /// Why no guest could be tried out.
    fn untried(path: &Path, detection: Detection, reason: ProbeError) -> OpenError {
        let path = path.to_owned();
        if reason.is_shortage() {
            OpenError::Exhausted { path, reason }
        } else {
            OpenError::Unusable { path, detection: detection.into(), reason }
        }
    }

    /// Tries out the same device with guests that are to find what this baseline has.
    fn limited(&self, baseline: Baseline) -> Result<Limited, OpenError> {
        let mut detection = self.detection.clone();
        let device = self.device.limited(baseline, &mut detection);
        let mut kvm = Kvm::try_out(&self.path, device, detection)?;
        let found = without_signals(|| {
            let vm = KvmVm::create(kvm.device.clone(), kvm.capabilities)?;
            found_features(Box::new(vm), &kvm.capabilities)
        });
        let found = found.map_err(|reason| Kvm::untried(&self.path, kvm.detection.clone(), reason))?;
        let (missing, beyond) = (baseline.set().without(found), found.without(baseline.set()));
        if !missing.is_empty() {
            return Ok(Limited::Missing(missing));
        }
        if !beyond.is_empty() {
            return Ok(Limited::NotHidden(beyond));
        }
        kvm.capabilities.baseline = Some(baseline);
        Ok(Limited::Hidden(Arc::new(kvm)))
    }

    /// What was found out when it was opened.
    pub fn detection(&self) -> &Detection {
        &self.detection
    }

    /// The process's own KVM, opened at the first call and kept. A call that fails is not remembered: the next one tries
    /// again. A forked child shares its parent's: both can use the device, each for virtual machines of its own.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong and what to do about it.
    pub fn shared() -> Result<Arc<Kvm>, OpenError> {
        static SHARED: PerProcess<Mutex<Option<Arc<Kvm>>>> = PerProcess::new();
        // A child keeps its parent's, unless that was just being opened at the fork.
        let inherited = |parents: &Mutex<Option<Arc<Kvm>>>| parents.try_lock().ok()?.clone();
        let shared = SHARED
            .get(|parents| Mutex::new(parents.and_then(inherited)))
            .map_err(|reason| OpenError::Failed { path: Kvm::DEVICE.into(), reason })?;
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kvm) = &*shared {
            return Ok(kvm.clone());
        }
        let kvm = Arc::new(Kvm::open()?);
        *shared = Some(kvm.clone());
        Ok(kvm)
    }
}

impl Hypervisor for Kvm {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        let vm = KvmVm::create(self.device.clone(), self.capabilities)?;
        Ok(Box::new(vm))
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Tried out once for each baseline.
    fn with_baseline(&self, baseline: Baseline) -> Result<Arc<dyn Hypervisor>, BaselineError> {
        // In a forked child the lock may be one that nobody will release. What is tried out in vain is no harm.
        let known = self.limited.try_lock().ok().and_then(|limited| limited.get(&baseline).cloned());
        let limited = match known {
            Some(limited) => limited,
            None => {
                let limited = self.limited(baseline).map_err(hypervisor::OpenError::from)?;
                if let Ok(mut all) = self.limited.try_lock() {
                    // Snapshot files say which, and may be from anybody.
                    if all.len() == MOST_LIMITED {
                        all.clear();
                    }
                    all.insert(baseline, limited.clone());
                }
                limited
            }
        };
        match limited {
            Limited::Hidden(kvm) => Ok(kvm),
            Limited::Missing(missing) => Err(BaselineError::Missing { baseline, features: missing.names() }),
            Limited::NotHidden(beyond) => Err(BaselineError::NotHidden { baseline, features: beyond.names() }),
        }
    }
}

/// What came of trying to hide what is beyond a baseline.
#[derive(Clone, Debug)]
enum Limited {
    Hidden(Arc<Kvm>),
    Missing(FeatureSet),
    NotHidden(FeatureSet),
}

/// For how many baselines it is remembered how guests behave.
const MOST_LIMITED: usize = 16;

/// The open device, and what need be asked of it only once.
#[derive(Debug)]
struct Device {
    kvm: Arc<kvm_ioctls::Kvm>,
    /// What guests see of the processor.
    cpuid: CpuId,
    /// The register state that guests may use; 0 without XSAVE.
    xcr0: u64,
    /// The size of a vCPU's shared page and what follows it, in bytes.
    run_page_len: usize,
    /// Whether the statistics of vCPUs can be read.
    has_statistics: bool,
}

impl Device {
    /// Queries the device that was opened as `path`.
    fn ask(path: &Path, device: OwnedFd) -> Result<(Device, Detection), OpenError> {
        // SAFETY: the descriptor is open, and nobody else owns it any more. That it is KVM's is checked next; until then
        // it is only asked for its version, which other devices answer with an error.
        let kvm = unsafe { kvm_ioctls::Kvm::from_raw_fd(device.into_raw_fd()) };
        let api_version = check_version(path, kvm.get_api_version())?;
        let mut detection = Detection::begin(api_version, |number| kvm.check_extension_raw(number.into()));
        if let Some(capability) = detection.missing() {
            return Err(OpenError::MissingCapability {
                path: path.to_owned(),
                capability,
                detection: detection.into(),
            });
        }
        let ask = || {
            Ok((
                uninterrupted(|| kvm.get_vcpu_mmap_size())?,
                uninterrupted(|| kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES))?,
            ))
        };
        let (run_page_len, mut cpuid) = ask().map_err(|errno: kvm_ioctls::Error| OpenError::Undescribed {
            path: path.to_owned(),
            detection: detection.clone().into(),
            reason: errno.into(),
        })?;
        let offered_xcr0 = cpuid::offered_state(&cpuid);
        let xcr0 = cpuid::restrict(&mut cpuid);
        let (fsgsbase, umip) = (cpuid::has_fsgsbase(&cpuid), cpuid::has_umip(&cpuid));
        detection.processor = Some(Processor { fsgsbase, umip, xcr0, offered_xcr0 });
        let has_statistics = detection.has(detection::STATISTICS);
        Ok((Device { kvm: Arc::new(kvm), cpuid, xcr0, run_page_len, has_statistics }, detection))
    }

    /// The same, for guests that find what this baseline has.
    fn limited(&self, baseline: Baseline, detection: &mut Detection) -> Device {
        let mut cpuid = self.cpuid.clone();
        let offered_xcr0 = cpuid::offered_state(&cpuid);
        let xcr0 = cpuid::limit(&mut cpuid, baseline);
        let (fsgsbase, umip) = (cpuid::has_fsgsbase(&cpuid), cpuid::has_umip(&cpuid));
        detection.processor = Some(Processor { fsgsbase, umip, xcr0, offered_xcr0 });
        let Device { kvm, run_page_len, has_statistics, .. } = self;
        Device { kvm: kvm.clone(), cpuid, xcr0, run_page_len: *run_page_len, has_statistics: *has_statistics }
    }
}

/// Makes sure that this is KVM with the interface that this backend knows.
fn check_version(path: &Path, found: i32) -> Result<i32, OpenError> {
    match u32::try_from(found) {
        Ok(KVM_API_VERSION) => Ok(found),
        Ok(_) => Err(OpenError::ApiVersion { path: path.to_owned(), found }),
        Err(_) => Err(OpenError::NotKvm { path: path.to_owned() }),
    }
}
