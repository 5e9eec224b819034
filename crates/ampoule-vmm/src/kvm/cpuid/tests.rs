use std::arch::x86_64::CpuidResult;

use super::*;

fn entry(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, ..Default::default() }
}

/// A processor with AVX-512 and AMX.
fn large() -> CpuId {
    CpuId::from_entries(&[
        entry(0x0, 0, [0x20, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
        entry(0x1, 0, [0, 0, 1 << 26, 0]),
        entry(0x7, 0, [1, u32::MAX, u32::MAX, u32::MAX]),
        entry(0xd, 0, [0x6_02e7, 11008, 11008, 0]),
        entry(0xd, 1, [0xf, 0, 0x1800, 0]),
        entry(0xd, 2, [256, 576, 0, 0]),
        entry(0xd, 5, [64, 1088, 0, 0]),
        entry(0xd, 18, [8192, 2816, 6, 0]),
        entry(0x1d, 0, [1, 0, 0, 0]),
    ])
    .unwrap()
}

#[test]
fn large_register_state_is_hidden_consistently() {
    let mut cpuid = large();
    assert_eq!(restrict(&mut cpuid), 7);

    let features = find(&cpuid, 0x7, 0).unwrap();
    assert_eq!(features.ebx & 1 << 16, 0, "AVX512F");
    assert_eq!(features.edx & 1 << 24, 0, "AMX-TILE");
    assert_ne!(features.ebx & 1 << 5, 0, "AVX2 stays");
    assert!(has_fsgsbase(&cpuid) && has_umip(&cpuid));

    let state = find(&cpuid, 0xd, 0).unwrap();
    assert_eq!([state.eax, state.edx], [7, 0]);
    assert_eq!([state.ebx, state.ecx], [832, 832]);
    assert_eq!(find(&cpuid, 0xd, 2).unwrap().eax, 256);
    assert_eq!(find(&cpuid, 0xd, 5).unwrap().eax, 0);
    assert_eq!(find(&cpuid, 0xd, 18).unwrap().eax, 0);
    assert_eq!(find(&cpuid, 0x1d, 0).unwrap().eax, 0);
}

#[test]
fn what_only_ring_0_could_use_is_hidden() {
    let mut cpuid = CpuId::from_entries(&[
        entry(0x1, 0, [0, 0, u32::MAX, u32::MAX]),
        entry(0x7, 0, [1, u32::MAX, u32::MAX, u32::MAX]),
        entry(0x8000_0001, 0, [0, 0, u32::MAX, u32::MAX]),
        entry(0x8000_000a, 0, [1, 8, 0, u32::MAX]),
    ])
    .unwrap();
    restrict(&mut cpuid);
    let basic = find(&cpuid, 0x1, 0).unwrap();
    assert_eq!(basic.ecx, !(1 << 5 | 1 << 21), "all but VMX and x2APIC");
    let extended = find(&cpuid, 0x7, 0).unwrap();
    assert_eq!((extended.ecx & 1 << 7, extended.edx & 1 << 20), (0, 0), "CET_SS, CET_IBT");
    assert_ne!(extended.ecx & 1 << 8, 0, "GFNI stays");
    let amd = find(&cpuid, 0x8000_0001, 0).unwrap();
    assert_eq!((amd.ecx & 1 << 2, amd.ecx & 1 << 5), (0, 1 << 5), "SVM goes, and LZCNT stays");
    assert_eq!(find(&cpuid, 0x8000_000a, 0).unwrap(), &entry(0x8000_000a, 0, [0; 4]));
}

#[test]
fn the_vendor_stays() {
    let mut cpuid = large();
    restrict(&mut cpuid);
    assert_eq!(find(&cpuid, 0x0, 0), find(&large(), 0x0, 0), "the vendor string and the highest leaf");
}

#[test]
fn a_processor_without_avx_keeps_x87_and_sse() {
    let mut cpuid = CpuId::from_entries(&[entry(0x1, 0, [0, 0, 1 << 26, 0]), entry(0xd, 0, [3, 576, 576, 0])]).unwrap();
    assert_eq!(restrict(&mut cpuid), 3);
    assert_eq!(find(&cpuid, 0xd, 0).unwrap().ecx, 576);
}

#[test]
fn a_processor_without_xsave_has_no_extended_state() {
    let mut cpuid = CpuId::from_entries(&[entry(0x1, 0, [0; 4])]).unwrap();
    assert_eq!(restrict(&mut cpuid), 0);
    assert!(!has_fsgsbase(&cpuid) && !has_umip(&cpuid));
}

/// A processor that has everything.
fn everything() -> CpuId {
    let all = [u32::MAX; 4];
    let features = [(0x1, 0), (0x7, 1), (0x7, 2), (0xd, 1), (0x14, 0), (0x8000_0001, 0), (0x8000_0008, 0)];
    let mut entries: Vec<_> = features.map(|(leaf, subleaf)| entry(leaf, subleaf, all)).to_vec();
    entries.push(entry(0x0, 0, [0x20, 0, 0, 0]));
    entries.push(entry(0x7, 0, [2, u32::MAX, u32::MAX, u32::MAX]));
    entries.push(entry(0xd, 0, [0x6_02e7, 11008, 11008, 0]));
    entries.push(entry(0xd, 2, [256, 576, 0, 0]));
    entries.push(entry(0x8000_0000, 0, [0x8000_0021, 0, 0, 0]));
    CpuId::from_entries(&entries).unwrap()
}

fn found(cpuid: &CpuId) -> FeatureSet {
    let found: Result<_, ()> = FeatureSet::found_by(|leaf, subleaf| {
        let kvm_cpuid_entry2 { eax, ebx, ecx, edx, .. } = find(cpuid, leaf, subleaf).copied().unwrap_or_default();
        Ok(CpuidResult { eax, ebx, ecx, edx })
    });
    found.unwrap()
}

#[test]
fn guests_find_nothing_in_further_subleaves_that_snapshots_do_not_name() {
    let mut cpuid = everything();
    restrict(&mut cpuid);
    for subleaf in [1, 2] {
        let kvm_cpuid_entry2 { eax, ebx, ecx, edx, .. } = *find(&cpuid, 0x7, subleaf).unwrap();
        let named = [Register::Eax, Register::Ebx, Register::Ecx, Register::Edx]
            .map(|register| FeatureSet::all().bits(0x7, subleaf, register));
        assert_eq!([eax, ebx, ecx, edx], named, "{subleaf}");
    }
}

#[test]
fn a_guest_with_a_baseline_finds_that_and_no_more() {
    for text in
        ["x86-64-v1", "x86-64-v2", "x86-64-v2+xsave", "x86-64-v3", "x86-64-v3+aes+rdtscp+xsavec+clzero+avx_ifma"]
    {
        let baseline: Baseline = text.parse().unwrap();
        let mut cpuid = everything();
        restrict(&mut cpuid);
        let before = found(&cpuid);
        limit(&mut cpuid, baseline);
        assert_eq!(found(&cpuid), baseline.set(), "{text} of {before:?}");
    }
}

#[test]
fn a_baseline_decides_on_the_register_state() {
    for (text, xcr0, area) in [("x86-64-v2", 0, 0), ("x86-64-v2+xsave", 3, 576), ("x86-64-v3", 7, 832)] {
        let mut cpuid = everything();
        restrict(&mut cpuid);
        assert_eq!(limit(&mut cpuid, text.parse().unwrap()), xcr0, "{text}");
        let state = find(&cpuid, 0xd, 0).unwrap();
        assert_eq!((u64::from(state.eax), state.ebx), (xcr0, area), "{text}");
        let avx = find(&cpuid, 0xd, 2).unwrap();
        assert_eq!(avx.eax, if xcr0 == 7 { 256 } else { 0 }, "{text}");
    }
}

#[test]
fn a_baseline_leaves_what_64_bit_code_and_the_system_need() {
    let mut cpuid = everything();
    restrict(&mut cpuid);
    limit(&mut cpuid, "x86-64-v1".parse().unwrap());
    let [basic, extended] = [0x1, 0x8000_0001].map(|leaf| find(&cpuid, leaf, 0).unwrap());
    assert_eq!((basic.ecx, basic.edx), (1 << 31, u32::MAX));
    for (bit, name) in [(11, "SYSCALL"), (20, "NX"), (29, "LM")] {
        assert_ne!(extended.edx & 1 << bit, 0, "{name}");
    }
    assert!(has_umip(&cpuid) && !has_fsgsbase(&cpuid));
}
