//! What guests see of the processor: everything that KVM supports, except features whose registers are not enabled, and
//! those that need a ring 0 that uses or enables them: virtualization, the interrupt controller, shadow stacks.
//!
//! A guest's extended register state is x87, SSE and AVX. Larger state (AVX-512, AMX) would have to be saved, restored and
//! scrubbed for every guest.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use crate::x86_64::baseline::Baseline;
use crate::x86_64::features::{FeatureSet, Register};

/// Removes from `cpuid` the features that guests must not use, and returns the value for XCR0, or 0 when the processor has
/// no XSAVE.
pub(super) fn restrict(cpuid: &mut CpuId) -> u64 {
    let xcr0 = offered_state(cpuid) & X87_SSE_AVX;
    let area = state_area(cpuid, xcr0);
    for entry in cpuid.as_mut_slice() {
        match (entry.function, entry.index) {
            (0x1, _) => entry.ecx &= !LEAF_1_ECX,
            (0x7, 0) => {
                entry.ebx &= !LEAF_7_EBX;
                entry.ecx &= !LEAF_7_ECX;
                entry.edx &= !LEAF_7_EDX;
            }
            // What there is beyond the features that are known by name, and comes to be there, needs to be looked at before a
            // guest may find it: it may have state, and snapshots do not say that they need it.
            (0x7, subleaf) => {
                let known = |register| FeatureSet::all().bits(0x7, subleaf, register);
                entry.eax &= known(Register::Eax);
                entry.ebx &= known(Register::Ebx);
                entry.ecx &= known(Register::Ecx);
                entry.edx &= known(Register::Edx);
            }
            (0xd, 0) => {
                entry.eax = xcr0 as u32;
                entry.edx = 0;
                entry.ebx = area;
                entry.ecx = area;
            }
            (0xd, 1) => {
                entry.ecx = 0;
                entry.edx = 0;
            }
            (0xd, component) if component > 63 || xcr0 >> component & 1 == 0 => clear(entry),
            // AMX tiles and tile arithmetic, AVX10.
            (0x1d | 0x1e | 0x24, _) => clear(entry),
            (0x8000_0001, _) => entry.ecx &= !(SVM | LIGHTWEIGHT_PROFILING),
            // SVM's revision and features.
            (0x8000_000a, _) => clear(entry),
            _ => {}
        }
    }
    xcr0
}

/// Removes from what [`restrict`] has left all instructions that are beyond a baseline, and everything else that guests do not
/// need of what processors do not have in common. Returns the value for XCR0.
pub(super) fn limit(cpuid: &mut CpuId, baseline: Baseline) -> u64 {
    let set = baseline.set();
    let has = |name| set.contains(FeatureSet::of_names(&[name]));
    let wanted = match (has("xsave"), has("avx")) {
        (false, _) => 0,
        (true, false) => X87_SSE,
        (true, true) => X87_SSE_AVX,
    };
    let xcr0 = offered_state(cpuid) & wanted;
    let area = state_area(cpuid, xcr0);
    for entry in cpuid.as_mut_slice() {
        let bits = |register| set.bits(entry.function, entry.index, register);
        match (entry.function, entry.index) {
            (0x1, _) => entry.ecx &= bits(Register::Ecx) | HYPERVISOR,
            (0x7, 0) => {
                entry.ebx &= bits(Register::Ebx);
                entry.ecx &= bits(Register::Ecx) | UMIP;
                entry.edx &= bits(Register::Edx);
            }
            (0x7, _) => {
                entry.eax &= bits(Register::Eax);
                entry.edx &= bits(Register::Edx);
            }
            (0xd, 0) if xcr0 != 0 => {
                entry.eax = xcr0 as u32;
                (entry.ebx, entry.ecx) = (area, area);
            }
            (0xd, 1) if xcr0 != 0 => {
                entry.eax &= bits(Register::Eax);
                entry.ebx = 0;
            }
            (0xd, component) if component < 64 && component > 1 && xcr0 >> component & 1 != 0 => {}
            // Further extended state, SGX, processor trace, key locker.
            (0xd | 0x12 | 0x14 | 0x19, _) => clear(entry),
            (0x8000_0001, _) => {
                entry.ecx &= bits(Register::Ecx) | TOPOLOGY;
                entry.edx &= bits(Register::Edx) | COMMON_EXTENDED;
            }
            (0x8000_0008, _) => entry.ebx &= bits(Register::Ebx),
            // Encrypted memory, AMD's further features, and those of Zhaoxin.
            (0x8000_001f | 0x8000_0021 | 0xc000_0001, _) => clear(entry),
            _ => {}
        }
    }
    xcr0
}

/// Whether the processor has `rdfsbase` and its kin.
pub(super) fn has_fsgsbase(cpuid: &CpuId) -> bool {
    find(cpuid, 0x7, 0).is_some_and(|entry| entry.ebx & FSGSBASE != 0)
}

/// Whether the processor can keep ring 3 from reading the registers of ring 0.
pub(super) fn has_umip(cpuid: &CpuId) -> bool {
    find(cpuid, 0x7, 0).is_some_and(|entry| entry.ecx & UMIP != 0)
}

/// The register state that KVM offers, as bits of XCR0. To be asked before [`restrict`].
///
/// The leaf of the extended state decides, not the XSAVE bit of leaf 1: some hypervisors list in leaf 1 only features that
/// they emulate.
pub(super) fn offered_state(cpuid: &CpuId) -> u64 {
    find(cpuid, 0xd, 0).map_or(0, |entry| u64::from(entry.edx) << 32 | u64::from(entry.eax))
}

/// The size of the XSAVE area for `xcr0`, in bytes.
fn state_area(cpuid: &CpuId, xcr0: u64) -> u32 {
    (2..64)
        .filter(|component| xcr0 >> component & 1 != 0)
        .filter_map(|component| find(cpuid, 0xd, component))
        .map(|entry| entry.ebx.saturating_add(entry.eax))
        .fold(LEGACY_AREA, u32::max)
}

fn find(cpuid: &CpuId, function: u32, index: u32) -> Option<&kvm_cpuid_entry2> {
    cpuid.as_slice().iter().find(|entry| entry.function == function && entry.index == index)
}

fn clear(entry: &mut kvm_cpuid_entry2) {
    entry.eax = 0;
    entry.ebx = 0;
    entry.ecx = 0;
    entry.edx = 0;
}

/// Bits 0 to 2 of XCR0.
const X87_SSE_AVX: u64 = 0b111;
const X87_SSE: u64 = 0b11;

/// The legacy region and header of an XSAVE area, in bytes.
const LEGACY_AREA: u32 = 512 + 64;

/// That there is a hypervisor, in ECX of leaf 1.
const HYPERVISOR: u32 = 1 << 31;

/// In ECX of leaf 0x80000001, how the other leaves count cores: CmpLegacy, TopologyExtensions.
const TOPOLOGY: u32 = 1 << 1 | 1 << 22;

/// In EDX of leaf 0x80000001: what all 64-bit processors have (SYSCALL, NX, LM), what AMD repeats there of leaf 1, and pages of
/// 1 GiB.
const COMMON_EXTENDED: u32 = 1 << 11 | 1 << 20 | 1 << 29 | 0x0183_f3ff | 1 << 26;

/// VMX, x2APIC, in leaf 1.
const LEAF_1_ECX: u32 = 1 << 5 | 1 << 21;

// Bits of leaf 7 (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID).
const FSGSBASE: u32 = 1 << 0;
const UMIP: u32 = 1 << 2;

/// MPX; AVX512F, DQ, IFMA, PF, ER, CD, BW, VL.
const LEAF_7_EBX: u32 = 1 << 14 | 1 << 16 | 1 << 17 | 1 << 21 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31;

/// AVX512_VBMI, PKU, OSPKE, AVX512_VBMI2, CET_SS, VNNI, BITALG, VPOPCNTDQ.
const LEAF_7_ECX: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 11 | 1 << 12 | 1 << 14;

/// AVX512_4VNNIW, 4FMAPS, VP2INTERSECT; CET_IBT; AMX-BF16; AVX512-FP16; AMX-TILE, AMX-INT8.
const LEAF_7_EDX: u32 = 1 << 2 | 1 << 3 | 1 << 8 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 24 | 1 << 25;

/// AMD's virtualization.
const SVM: u32 = 1 << 2;

/// LWP, an AMD feature with extended state of its own.
const LIGHTWEIGHT_PROFILING: u32 = 1 << 15;

#[cfg(test)]
mod tests;
