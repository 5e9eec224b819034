//! Builds the guests of the tests.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    ampoule_build::guest("guests/calls").build();
    ampoule_build::guest("guests/crash").profile("dev").rustflag("-Cdebuginfo=2").build();
    ampoule_build::guest("guests/hostile").build();
    ampoule_build::guest("guests/logger").build();
    ampoule_build::guest("guests/memory").build();
    ampoule_build::guest("guests/shop").build();
    ampoule_build::guest("guests/tasks").build();
    ampoule_build::guest("guests/tenant").build();
    for (name, kind) in [("c-fixed", "-static"), ("c-pie", "-static-pie")] {
        build_c_guest(name, "guests/c/guest.c", &["-O2", kind]);
    }
    for (name, kind) in [("debugger-fixed", "-static"), ("debugger-pie", "-static-pie")] {
        build_c_guest(name, "guests/debugger/guest.c", &["-O0", "-g", kind]);
    }
    build_program();
}

/// Compiles a program that is no guest. Its path is in `PROGRAM`, while the tests are compiled.
fn build_program() {
    const SOURCE: &str = "guests/c/program.c";
    println!("cargo:rerun-if-changed={SOURCE}");
    let program = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("program");
    let status =
        Command::new("cc").args(["-O2", "-Wall", "-static", "-o"]).arg(&program).args([SOURCE, "-lm"]).status();
    match status {
        Ok(status) if status.success() => {}
        other => panic!("`cc` could not build {SOURCE}: {other:?}"),
    }
    println!("cargo:rustc-env=PROGRAM={}", program.display());
}

/// Compiles a guest in C.
fn build_c_guest(name: &str, source: &str, options: &[&str]) {
    println!("cargo:rerun-if-changed={source}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let image = out.join(name);
    let status = Command::new("cc")
        .args(["-Wall", "-Werror", "-fPIE"])
        .args(options)
        .arg("-o")
        .args([image.as_os_str(), source.as_ref()])
        .status();
    match status {
        Ok(status) if status.success() => {}
        other => panic!("`cc` could not build {source}: {other:?}"),
    }
    ampoule_build::prebuilt(name, image).build();
}
