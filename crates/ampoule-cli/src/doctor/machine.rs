//! What guests need of the machine and of the process: platform, hypervisor, limits.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ampoule_vmm::Hypervisor;
use ampoule_vmm::kvm::{Kvm, OpenError};

use super::Examination;
use crate::text::bytes;

/// The processor and the kernel.
pub(super) fn platform(examination: &mut Examination) {
    match std::env::consts::ARCH {
        "x86_64" => examination.ok("processor", processor()),
        other => examination.fail("processor", format!("{other}: guests need x86-64")),
    }
    let release = read("/proc/sys/kernel/osrelease");
    match release.as_deref().map(|release| (release, version(release))) {
        Some((release, Some(version))) if version >= OLDEST_KERNEL => {
            examination.ok("kernel", format!("Linux {release}"));
        }
        Some((release, Some(_))) => {
            examination.fail("kernel", format!("Linux {release}: 5.11 or newer is needed"));
        }
        _ => examination.warn("kernel", "its version is not known; Linux 5.11 or newer is needed"),
    }
}

/// What `/proc/cpuinfo` says of the first processor.
fn processor() -> String {
    let info = read("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let flags = field("flags").unwrap_or_default();
    let has = |flag: &str| flags.split(' ').any(|it| it == flag);
    let virtualization = match (has("vmx"), has("svm")) {
        (true, _) => "with VMX",
        (_, true) => "with SVM",
        _ => "showing neither VMX nor SVM",
    };
    let place = if has("hypervisor") { ", in a virtual machine" } else { "" };
    format!("{}, {virtualization}{place}", field("model name").unwrap_or_else(|| "x86-64".to_owned()))
}

/// The version's first two numbers.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Opens the device, which tries it out.
pub(super) fn hypervisor(examination: &mut Examination, device: &Path) -> Option<Arc<dyn Hypervisor>> {
    let error = match Kvm::open_path(device) {
        Ok(kvm) => {
            examination.ok("device", format!("{}: readable and writable", device.display()));
            examination.ok("kvm", format!("everything that is needed\n{}", kvm.detection()));
            examination.ok("virtual cpu", kvm.capabilities());
            return Some(Arc::new(kvm));
        }
        Err(error) => error,
    };
    let could_be_opened = !matches!(
        error,
        OpenError::Missing { .. }
            | OpenError::PermissionDenied { .. }
            | OpenError::NotKvm { .. }
            | OpenError::Failed { .. }
    );
    if could_be_opened {
        examination.ok("device", format!("{}: readable and writable", device.display()));
        examination.fail("kvm", error);
    } else {
        examination.fail("device", error);
        examination.skip("kvm", "the device cannot be used");
    }
    None
}

/// Limits of the process and of the machine that a host with many sandboxes reaches first.
pub(super) fn limits(examination: &mut Examination) {
    match open_files() {
        Some(files) if files < FEW_FILES => examination.warn(
            "open files",
            format!("at most {files} (`ulimit -n`), and each sandbox takes a few: raise it for more than some dozens"),
        ),
        Some(files) => examination.ok("open files", format!("at most {files} (`ulimit -n`)")),
        None => examination.warn("open files", "their limit is not known"),
    }
    match read("/proc/sys/vm/max_map_count").and_then(|count| count.parse::<u64>().ok()) {
        Some(count) if count < DEFAULT_MAPPINGS => examination.warn(
            "mappings",
            format!("at most {count} (`vm.max_map_count`), fewer than by default: raise it to {DEFAULT_MAPPINGS}"),
        ),
        Some(count) => examination.ok("mappings", format!("at most {count} (`vm.max_map_count`)")),
        None => examination.warn("mappings", "`vm.max_map_count` cannot be read"),
    }
    match available_memory() {
        Some(available) if available < LITTLE_MEMORY => {
            examination.warn("memory", format!("only {} are available", bytes(available)));
        }
        Some(available) => examination.ok("memory", format!("{} are available", bytes(available))),
        None => examination.warn("memory", "how much is available is not known"),
    }
    match status_field("Seccomp").as_deref() {
        Some("0") => examination.ok("seccomp", "no filter"),
        Some("2") => examination.ok(
            "seccomp",
            "a filter is active; the trial below shows whether it lets guests run (docs/guide/pages/processes.md lists what it \
             has to allow)",
        ),
        Some(mode) => examination.warn("seccomp", format!("mode {mode}")),
        None => examination.warn("seccomp", "whether there is a filter is not known"),
    }
}

fn open_files() -> Option<u64> {
    let limits = read("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        soft => soft.parse().ok(),
    }
}

fn available_memory() -> Option<u64> {
    let info = read("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn status_field(name: &str) -> Option<String> {
    let status = read("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The oldest kernel whose KVM has all that is needed (`CONTRIBUTING.md`, "Versions").
const OLDEST_KERNEL: (u32, u32) = (5, 11);
/// A limit of open files that is less than what distributions set.
const FEW_FILES: u64 = 256;
/// `DEFAULT_MAX_MAP_COUNT` of Linux, `include/linux/mm.h`.
const DEFAULT_MAPPINGS: u64 = 65_530;
/// Less than the default memory limit of one guest.
const LITTLE_MEMORY: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_kernel_is_its_first_two_numbers() {
        assert_eq!(version("5.11.0-1022-gke"), Some((5, 11)));
        assert_eq!(version("6.1"), Some((6, 1)));
        assert!(version("5.4.0-rc1").is_some_and(|version| version < OLDEST_KERNEL));
        assert_eq!(version("unknown"), None);
    }
}
