//! The instruction sets that user code can find, by the names that Linux has for them in `/proc/cpuinfo`
//! (`arch/x86/include/asm/cpufeatures.h`).

use std::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};

/// Those that the processor has. Those whose registers no guest has are left out.
pub(crate) fn features() -> Vec<&'static str> {
    let highest = __cpuid(0).eax;
    let highest_extended = __cpuid(EXTENDED).eax;
    let mut found: Vec<&'static str> = Vec::new();
    for (leaf, subleaf, features) in FEATURES {
        let last = if leaf >= EXTENDED { highest_extended } else { highest };
        if leaf > last || subleaf > 0 && __cpuid_count(leaf, 0).eax < subleaf {
            continue;
        }
        let result = __cpuid_count(leaf, subleaf);
        let has = |(register, bit, _): &&Feature| register.of(&result) >> bit & 1 != 0;
        found.extend(features.iter().filter(has).map(|(_, _, name)| *name));
    }
    found
}

/// Where `cpuid` returns a bit.
#[derive(Clone, Copy)]
enum Register {
    Eax,
    Ebx,
    Ecx,
}

/// A bit, and the name of what it stands for.
type Feature = (Register, u32, &'static str);

impl Register {
    fn of(self, result: &CpuidResult) -> u32 {
        match self {
            Self::Eax => result.eax,
            Self::Ebx => result.ebx,
            Self::Ecx => result.ecx,
        }
    }
}

use Register::{Eax, Ebx, Ecx};

const EXTENDED: u32 = 0x8000_0000;

/// By leaf and subleaf: where they stand, and their names (AMD64 Architecture Programmer's Manual, volume 3, appendix E; Intel 64
/// and IA-32 Architectures Software Developer's Manual, volume 2, CPUID).
const FEATURES: [(u32, u32, &[Feature]); 4] = [
    (
        0x1,
        0,
        &[
            (Ecx, 0, "pni"),
            (Ecx, 1, "pclmulqdq"),
            (Ecx, 9, "ssse3"),
            (Ecx, 12, "fma"),
            (Ecx, 13, "cx16"),
            (Ecx, 19, "sse4_1"),
            (Ecx, 20, "sse4_2"),
            (Ecx, 22, "movbe"),
            (Ecx, 23, "popcnt"),
            (Ecx, 25, "aes"),
            (Ecx, 26, "xsave"),
            (Ecx, 28, "avx"),
            (Ecx, 29, "f16c"),
            (Ecx, 30, "rdrand"),
        ],
    ),
    (
        0x7,
        0,
        &[
            (Ebx, 0, "fsgsbase"),
            (Ebx, 3, "bmi1"),
            (Ebx, 5, "avx2"),
            (Ebx, 8, "bmi2"),
            (Ebx, 9, "erms"),
            (Ebx, 18, "rdseed"),
            (Ebx, 19, "adx"),
            (Ebx, 23, "clflushopt"),
            (Ebx, 24, "clwb"),
            (Ebx, 29, "sha_ni"),
            (Ecx, 8, "gfni"),
            (Ecx, 9, "vaes"),
            (Ecx, 10, "vpclmulqdq"),
            (Ecx, 22, "rdpid"),
            (Ecx, 27, "movdiri"),
            (Ecx, 28, "movdir64b"),
        ],
    ),
    (0x7, 1, &[(Eax, 4, "avx_vnni"), (Eax, 23, "avx_ifma")]),
    (
        0x8000_0001,
        0,
        &[
            (Ecx, 0, "lahf_lm"),
            (Ecx, 5, "abm"),
            (Ecx, 6, "sse4a"),
            (Ecx, 7, "misalignsse"),
            (Ecx, 8, "3dnowprefetch"),
            (Ecx, 11, "xop"),
            (Ecx, 16, "fma4"),
            (Ecx, 21, "tbm"),
        ],
    ),
];
