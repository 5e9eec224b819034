//! Libraries without which a program could not start, from what the dynamic loader says of them.

use std::fmt;

use ampoule_abi::text::printable_name;

/// A shared library that the dynamic loader has not found among the [files](crate::Files) of a program.
///
/// It is what the program has printed: as any other text of a program's, this may be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingLibrary {
    /// What it is called, as a rule without a directory.
    pub name: String,
}

impl MissingLibrary {
    /// The library of which the end of standard error tells, where that is the loader's.
    pub(super) fn reported_in(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let name = text.lines().find_map(|line| {
            // The GNU C library's loader, then musl's.
            let of_gnu = line.split_once(": error while loading shared libraries: ").and_then(|(_, rest)| {
                let (name, problem) = rest.split_once(": ")?;
                problem.starts_with("cannot open shared object file").then_some(name)
            });
            let of_musl = line.split_once("Error loading shared library ").and_then(|(_, rest)| {
                let (name, problem) = rest.split_once(": ")?;
                problem.starts_with("No such file").then_some(name)
            });
            of_gnu.or(of_musl)
        })?;
        (name.len() <= LONGEST_NAME).then(|| Self { name: name.to_owned() })
    }
}

impl fmt::Display for MissingLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the shared library `{}` is not among the program's files; grant it the host's libraries (`Files::libraries`, \
             `--libs`), or the directory that has it (`Files::dir`, `--dir`)",
            printable_name(&self.name)
        )
    }
}

/// The code with which loaders end a program that they cannot start (the GNU C library's `elf/rtld.c`, musl's
/// `ldso/dynlink.c`).
pub(super) const LOADER_FAILED: i32 = 127;

/// Of names that are longer there is none (Linux's `PATH_MAX`).
const LONGEST_NAME: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<String> {
        MissingLibrary::reported_in(text.as_bytes()).map(|missing| missing.name)
    }

    #[test]
    fn what_loaders_say_is_understood() {
        let gnu = "/usr/bin/jq: error while loading shared libraries: libjq.so.1: cannot open shared object file: No such file \
                   or directory\n";
        assert_eq!(found(gnu).as_deref(), Some("libjq.so.1"));
        let musl = "Error loading shared library libz.so.1: No such file or directory (needed by ./a.out)\nError relocating \
                    ./a.out: inflate: symbol not found\n";
        assert_eq!(found(musl).as_deref(), Some("libz.so.1"));
        for other in [
            "",
            "sh: nothing: not found\n",
            "a: error while loading shared libraries: b: file too short\n",
            "a: error while loading shared libraries: b",
            "Error loading shared library b: Exec format error\n",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
        let long =
            format!("Error loading shared library {}: No such file or directory\n", "x".repeat(LONGEST_NAME + 1));
        assert_eq!(found(&long), None);
    }

    #[test]
    fn a_name_is_shown_as_a_name() {
        let shown = MissingLibrary { name: "lib\u{1b}[2J".to_owned() }.to_string();
        assert!(!shown.contains('\u{1b}') && shown.contains("--libs"), "{shown}");
    }
}
