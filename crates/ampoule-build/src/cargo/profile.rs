//! How much debug information the guest's image has, where its author has not decided that.

use std::env;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::{Package, Workspace};

/// A variable that makes cargo put line tables into what it builds with a profile, and its value. `None` if the profile, a
/// cargo configuration file or the environment decides that already, or if the profile is derived from `dev`, which has all
/// debug information.
pub(super) fn line_tables(workspace: &Workspace, guest: &Package, profile: &str) -> Option<(String, &'static str)> {
    let settings = settings(&workspace.root, guest.dir());
    leaves_debug_open(profile, &settings, |variable| env::var_os(variable).is_some())
        .then(|| (variable(profile, "DEBUG"), "line-tables-only"))
}

/// The tables of profiles, by their names, that apply to a package.
fn settings(workspace_root: &Path, guest_dir: &Path) -> Vec<Table> {
    let home = env::var_os("CARGO_HOME").map(Into::into).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let home = home.iter().flat_map(|home| [home.join("config.toml"), home.join("config")]);
    let configurations = guest_dir.ancestors().map(|dir| dir.join(".cargo"));
    let configurations = configurations.flat_map(|dir| [dir.join("config.toml"), dir.join("config")]);
    // A file that is missing has nothing to say; of one that is broken, cargo itself reports that.
    let profiles = |path| match fs::read_to_string(path).ok()?.parse::<Table>().ok()?.remove("profile")? {
        Value::Table(profiles) => Some(profiles),
        _ => None,
    };
    [workspace_root.join("Cargo.toml")].into_iter().chain(configurations).chain(home).filter_map(profiles).collect()
}

/// Whether nothing sets the debug information of a profile, or of those that it inherits from up to `release`.
fn leaves_debug_open(profile: &str, settings: &[Table], is_set: impl Fn(&str) -> bool) -> bool {
    let mut profile = profile;
    for _ in 0..MAX_INHERITANCE {
        let of = |key: &str| settings.iter().find_map(|profiles| profiles.get(profile)?.get(key));
        let in_environment = |key: &str| is_set(&variable(profile, key));
        if of("debug").or(of("strip")).is_some() || in_environment("DEBUG") || in_environment("STRIP") {
            return false;
        }
        profile = match (profile, of("inherits").and_then(Value::as_str)) {
            ("release" | "bench", _) => return true,
            (_, Some(parent)) => parent,
            (_, None) => return false,
        };
    }
    false
}

/// The variable for a key of a profile (The Cargo Book, "Configuration").
fn variable(profile: &str, key: &str) -> String {
    format!("CARGO_PROFILE_{}_{key}", profile.to_uppercase().replace('-', "_"))
}

/// How many profiles may inherit from each other. More are a circle, which cargo reports.
const MAX_INHERITANCE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_open(profile: &str, manifest: &str) -> bool {
        let manifest: Table = manifest.parse().unwrap();
        let profiles: Vec<Table> = manifest.get("profile").and_then(Value::as_table).cloned().into_iter().collect();
        leaves_debug_open(profile, &profiles, |_| false)
    }

    #[test]
    fn only_a_profile_that_does_not_say_what_it_wants_gets_line_tables() {
        assert!(is_open("release", ""));
        assert!(is_open("release", "[profile.dev]\ndebug = 0\n[profile.release.package.part]\ndebug = 2"));
        for own in ["debug = false", "debug = \"full\"", "strip = true"] {
            assert!(!is_open("release", &format!("[profile.release]\n{own}")), "{own}");
        }
        assert!(!is_open("release", "profile.release = { debug = 1 }"));
    }

    #[test]
    fn a_profile_has_what_it_inherits() {
        let inherits = "[profile.plugin]\ninherits = \"small\"\n[profile.small]\ninherits = \"release\"\n";
        assert!(is_open("plugin", inherits));
        assert!(!is_open("plugin", &format!("{inherits}debug = 1")));
        assert!(!is_open("plugin", "[profile.plugin]\ninherits = \"dev\""));
        assert!(!is_open("round", "[profile.round]\ninherits = \"round\""));
    }

    #[test]
    fn the_environment_decides_too() {
        let named = |name: &'static str| move |variable: &str| variable == name;
        assert!(!leaves_debug_open("release", &[], named("CARGO_PROFILE_RELEASE_DEBUG")));
        assert!(!leaves_debug_open("release", &[], named("CARGO_PROFILE_RELEASE_STRIP")));
        assert!(leaves_debug_open("release", &[], named("CARGO_PROFILE_DEV_DEBUG")));
    }
}
