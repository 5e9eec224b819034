use super::*;
use crate::testing::TestDir;

#[test]
fn what_cargo_sets_for_the_host_is_kept_from_the_guest() {
    for name in [
        "CARGO_CFG_TARGET_OS",
        "CARGO_FEATURE_SERDE",
        "CARGO_PKG_NAME",
        "CARGO_TARGET_DIR",
        "DEP_Z_ROOT",
        "OUT_DIR",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "TARGET",
    ] {
        assert!(is_for_host(name, OsStr::new("value")), "{name}");
    }
}

#[test]
fn what_the_user_set_for_all_builds_reaches_the_guest() {
    for name in [
        "CARGO_HOME",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_OFFLINE",
        "CARGO_PROFILE_RELEASE_LTO",
        "HTTPS_PROXY",
        "PATH",
        "RUSTUP_TOOLCHAIN",
    ] {
        assert!(!is_for_host(name, OsStr::new("value")), "{name}");
    }
}

#[test]
fn a_wrapper_that_compiles_is_kept_and_one_that_analyzes_is_not() {
    let is_dropped = |wrapper| is_for_host("RUSTC_WRAPPER", OsStr::new(wrapper));
    assert!(!is_dropped("/usr/bin/sccache"));
    assert!(is_dropped("/toolchain/bin/clippy-driver"));
    assert!(is_dropped("rust-analyzer"));
}

#[test]
fn the_users_flags_follow_those_of_the_guest() {
    let dir = TestDir::new();
    let guest = crate::guest("guest").rustflag("-Ctarget-cpu=x86-64-v3");
    let mut command = Command::new("cargo");
    prepare(&mut command, &dir.build_script(), &guest);
    assert_eq!(
        value(&command, "CARGO_ENCODED_RUSTFLAGS"),
        "-C\x1ftarget-feature=+crt-static\x1f-C\x1frelocation-model=pie\x1f-Ctarget-cpu=x86-64-v3"
    );
}

#[test]
fn a_variable_of_the_guest_wins_over_what_is_dropped() {
    let dir = TestDir::new();
    let guest = crate::guest("guest").env("PROFILE", "tiny");
    let mut command = Command::new("cargo");
    prepare(&mut command, &dir.build_script(), &guest);
    assert_eq!(value(&command, "PROFILE"), "tiny");
}

fn value<'a>(command: &'a Command, name: &str) -> &'a OsStr {
    command.get_envs().find(|(known, _)| *known == name).and_then(|(_, value)| value).unwrap()
}
