//! What a user sees of the build of a guest.
//!
//! Cargo keeps the standard error stream of a build script to itself, unless the script fails or cargo was started with `-vv`.
//! It shows warnings, but only when the script has ended, and again in each later build until the script runs again. So there
//! is a warning only of a build that was long enough for the user to wonder about, and it is true in each of the later builds.

use std::time::Duration;

/// Notes that the build of a package begins; `what` says how it is built.
pub(crate) fn began(package: &str, what: &str) {
    eprintln!("building the guest package `{package}` ({what})");
}

/// Notes that a package was built.
pub(crate) fn ended(package: &str, took: Duration) {
    eprintln!("built the guest package `{package}` in {}", seconds(took));
    if let Some(warning) = warning(package, took) {
        println!("cargo:warning={warning}");
    }
}

fn warning(package: &str, took: Duration) -> Option<String> {
    (took >= LONG).then(|| {
        let seconds = seconds(took);
        format!(
            "the last build of the guest package `{package}` took {seconds}; cargo repeats this line until the next one, and \
             shows with `-vv` a build while it runs"
        )
    })
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

/// As long as a user is thought to wait without a word.
const LONG: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_build_is_worth_a_warning() {
        assert_eq!(warning("guest", Duration::from_millis(9_999)), None);
        let text = warning("guest", Duration::from_millis(61_250)).unwrap();
        assert!(text.starts_with("the last build of the guest package `guest` took 61.2 s; "), "{text}");
    }
}
