//! The instruction sets that user code can find, by the names that Linux has for them in `/proc/cpuinfo`
//! (`arch/x86/include/asm/cpufeatures.h`).

use std::arch::x86_64::{__cpuid_count, CpuidResult};
use std::convert::Infallible;

/// Some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct FeatureSet(u64);

impl FeatureSet {
    /// Those that the processor has. Those whose registers no guest has are left out.
    pub(crate) fn of_processor() -> Self {
        let found: Result<Self, Infallible> = Self::found_by(|leaf, subleaf| Ok(__cpuid_count(leaf, subleaf)));
        match found {
            Ok(found) => found,
        }
    }

    /// Those that whoever executes `cpuid` in this way finds.
    pub(crate) fn found_by<E>(mut cpuid: impl FnMut(u32, u32) -> Result<CpuidResult, E>) -> Result<Self, E> {
        let (highest, highest_extended) = (cpuid(0, 0)?.eax, cpuid(EXTENDED, 0)?.eax);
        let mut found = Self::default();
        for (leaf, subleaf, features) in TABLE {
            let last = if *leaf >= EXTENDED { highest_extended } else { highest };
            if *leaf > last || *leaf == SUBLEAVES_IN_EAX && *subleaf > cpuid(*leaf, 0)?.eax {
                continue;
            }
            let result = cpuid(*leaf, *subleaf)?;
            for (register, bit, name) in *features {
                if register.of(&result) >> bit & 1 != 0 {
                    found.insert(name);
                }
            }
        }
        Ok(found)
    }

    /// All features that there are.
    pub(crate) fn all() -> Self {
        Self(u64::MAX >> (64 - COUNT))
    }

    /// The feature of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut set = Self::default();
        set.insert(name).then_some(set)
    }

    /// Those of these names, all of which are [features](TABLE).
    pub(crate) fn of_names(names: &[&str]) -> Self {
        let mut set = Self::default();
        for name in names {
            assert!(set.insert(name), "{name} is a feature");
        }
        set
    }

    fn insert(&mut self, name: &str) -> bool {
        let index = all().position(|(_, _, _, _, known)| known == name);
        self.0 |= index.map_or(0, |index| 1 << index);
        index.is_some()
    }

    pub(crate) fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(crate) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(crate) fn contains(self, others: Self) -> bool {
        others.without(self).is_empty()
    }

    pub(crate) fn is_disjoint(self, others: Self) -> bool {
        self.0 & others.0 == 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn names(self) -> Vec<&'static str> {
        self.each().map(|(_, _, _, _, name)| name).collect()
    }

    /// The bits that say so in what `cpuid` returns in a register for a leaf.
    pub(crate) fn bits(self, leaf: u32, subleaf: u32, register: Register) -> u32 {
        let here = self.each().filter(|(l, s, r, _, _)| (*l, *s, *r) == (leaf, subleaf, register));
        here.fold(0, |bits, (_, _, _, bit, _)| bits | 1 << bit)
    }

    fn each(self) -> impl Iterator<Item = Entry> {
        all().enumerate().filter(move |(index, _)| self.0 >> index & 1 != 0).map(|(_, entry)| entry)
    }
}

/// All of them, by leaf, subleaf, register, bit and name.
type Entry = (u32, u32, Register, u32, &'static str);

fn all() -> impl Iterator<Item = Entry> {
    TABLE.iter().flat_map(|(leaf, subleaf, features)| {
        features.iter().map(|(register, bit, name)| (*leaf, *subleaf, *register, *bit, *name))
    })
}

/// Where `cpuid` returns a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// A bit, and the name of what it stands for.
type Feature = (Register, u32, &'static str);

impl Register {
    fn of(self, result: &CpuidResult) -> u32 {
        match self {
            Self::Eax => result.eax,
            Self::Ebx => result.ebx,
            Self::Ecx => result.ecx,
            Self::Edx => result.edx,
        }
    }
}

use Register::{Eax, Ebx, Ecx, Edx};

const EXTENDED: u32 = 0x8000_0000;

/// The leaf whose subleaf 0 says in EAX which is its last.
const SUBLEAVES_IN_EAX: u32 = 0x7;

/// By leaf and subleaf: where they stand, and their names (AMD64 Architecture Programmer's Manual, volume 3, appendix E; Intel 64
/// and IA-32 Architectures Software Developer's Manual, volume 2, CPUID).
const TABLE: &[(u32, u32, &[Feature])] = &[
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
            (Ebx, 4, "hle"),
            (Ebx, 5, "avx2"),
            (Ebx, 8, "bmi2"),
            (Ebx, 9, "erms"),
            (Ebx, 11, "rtm"),
            (Ebx, 18, "rdseed"),
            (Ebx, 19, "adx"),
            (Ebx, 23, "clflushopt"),
            (Ebx, 24, "clwb"),
            (Ebx, 29, "sha_ni"),
            (Ecx, 5, "waitpkg"),
            (Ecx, 8, "gfni"),
            (Ecx, 9, "vaes"),
            (Ecx, 10, "vpclmulqdq"),
            (Ecx, 22, "rdpid"),
            (Ecx, 25, "cldemote"),
            (Ecx, 27, "movdiri"),
            (Ecx, 28, "movdir64b"),
            (Edx, 4, "fsrm"),
            (Edx, 14, "serialize"),
            (Edx, 16, "tsxldtrk"),
        ],
    ),
    (
        0x7,
        1,
        &[
            (Eax, 0, "sha512"),
            (Eax, 1, "sm3"),
            (Eax, 2, "sm4"),
            (Eax, 4, "avx_vnni"),
            (Eax, 7, "cmpccxadd"),
            (Eax, 23, "avx_ifma"),
            (Edx, 4, "avx_vnni_int8"),
            (Edx, 5, "avx_ne_convert"),
            (Edx, 10, "avx_vnni_int16"),
        ],
    ),
    (0xd, 1, &[(Eax, 0, "xsaveopt"), (Eax, 1, "xsavec"), (Eax, 2, "xgetbv1")]),
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
            (Ecx, 29, "mwaitx"),
            (Edx, 27, "rdtscp"),
        ],
    ),
    (0x8000_0008, 0, &[(Ebx, 0, "clzero"), (Ebx, 4, "rdpru")]),
];

const COUNT: usize = {
    let (mut count, mut at) = (0, 0);
    while at < TABLE.len() {
        count += TABLE[at].2.len();
        at += 1;
    }
    count
};

const _: () = assert!(0 < COUNT && COUNT <= 64, "a set has a bit for each");
