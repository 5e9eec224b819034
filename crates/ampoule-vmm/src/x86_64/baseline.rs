//! What of a processor guests are to find, whatever else it has, so that they can continue on others.

use std::fmt;
use std::str::FromStr;

use super::features::FeatureSet;

/// What of a processor a guest finds, and no more: the least that all machines have on which it, or a snapshot of it, is to
/// run.
///
/// It is written as a level of the architecture, `x86-64-v1` to `x86-64-v3`, and features beyond that by their names in
/// `/proc/cpuinfo`: `x86-64-v2+aes+pclmulqdq`. What a feature needs comes with it. The levels are those of the [psABI][1]
/// (System V Application Binary Interface, AMD64 Architecture Processor Supplement, section 3.1.1), by which compilers and
/// distributions go, too. There is no `x86-64-v4`, since guests have no AVX-512.
///
/// Processors of servers have `x86-64-v3` since about 2015. Guests below it restore slower, because only with `xsave` can their
/// vector registers be set without a call into the kernel. And `fsgsbase` is in no level: without it, a system call sets the
/// base of a thread's own data.
///
/// ```
/// use ampoule_vmm::Baseline;
///
/// let baseline: Baseline = "x86-64-v2+aes".parse()?;
/// assert!(baseline.features().contains(&"sse4_2"));
/// assert!(!baseline.features().contains(&"avx2"));
/// # Ok::<(), ampoule_vmm::ParseBaselineError>(())
/// ```
///
/// [1]: https://gitlab.com/x86-psABIs/x86-64-ABI
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Baseline(FeatureSet);

impl Baseline {
    /// What a guest may find beside what all processors of the architecture have, by the names of `/proc/cpuinfo`.
    pub fn features(self) -> Vec<&'static str> {
        self.0.names()
    }

    pub(crate) fn set(self) -> FeatureSet {
        self.0
    }
}

/// A text that is no [`Baseline`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseBaselineError {
    /// It does not begin with a level that guests can have.
    #[error("`{given}` is no level of a processor that guests can have: use `x86-64-v1`, `x86-64-v2` or `x86-64-v3`")]
    Level {
        /// What it begins with.
        given: String,
    },
    /// It names a feature that guests do not have, or that is none.
    #[error("`{given}` is no feature that can be added to a level; these can: {}", FeatureSet::all().names().join(", "))]
    Feature {
        /// The name.
        given: String,
    },
}

impl FromStr for Baseline {
    type Err = ParseBaselineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('+');
        let given = parts.next().unwrap_or_default();
        let level = LEVELS.iter().position(|(name, _)| *name == given);
        let level = level.ok_or_else(|| ParseBaselineError::Level { given: given.to_owned() })?;
        let mut set = level_set(level);
        for name in parts {
            let feature = FeatureSet::named(name);
            set = set.with(feature.ok_or_else(|| ParseBaselineError::Feature { given: name.to_owned() })?);
        }
        for (features, needed) in NEEDS {
            if !set.is_disjoint(FeatureSet::of_names(features)) {
                set = set.with(FeatureSet::of_names(&[needed]));
            }
        }
        Ok(Self(set))
    }
}

/// As it can be read: the highest level, and what is beyond.
impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |level: &usize| self.0.contains(level_set(*level));
        let level = (0..LEVELS.len()).rev().find(has).unwrap_or_default();
        f.write_str(LEVELS[level].0)?;
        self.0.without(level_set(level)).names().iter().try_for_each(|name| write!(f, "+{name}"))
    }
}

impl fmt::Debug for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Baseline({self})")
    }
}

fn level_set(level: usize) -> FeatureSet {
    LEVELS[..=level].iter().fold(FeatureSet::default(), |set, (_, names)| set.with(FeatureSet::of_names(names)))
}

/// The levels, and what each adds to the one before it, as far as 64-bit processors can be without it.
const LEVELS: [(&str, &[&str]); 3] = [
    ("x86-64-v1", &[]),
    ("x86-64-v2", &["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"]),
    ("x86-64-v3", &["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"]),
];

/// Features of which none is without another one. What needs something comes before that which it needs.
const NEEDS: [(&[&str], &str); 10] = [
    (&["vaes"], "aes"),
    (&["vpclmulqdq"], "pclmulqdq"),
    (&["tsxldtrk"], "rtm"),
    (&["sha512", "sm3", "sm4", "avx_vnni", "avx_ifma", "avx_vnni_int8", "avx_ne_convert", "avx_vnni_int16"], "avx2"),
    (&["avx2", "fma", "f16c", "vaes", "vpclmulqdq", "xop", "fma4"], "avx"),
    (&["avx", "xsaveopt", "xsavec", "xgetbv1"], "xsave"),
    (&["avx"], "sse4_2"),
    (&["sse4_2"], "sse4_1"),
    (&["sse4_1"], "ssse3"),
    (&["ssse3"], "pni"),
];

#[cfg(test)]
mod tests;
