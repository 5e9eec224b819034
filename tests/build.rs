//! Builds the guests of the tests.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    ampoule_build::guest("guests/calls").build();
    ampoule_build::guest("guests/crash").profile("dev").rustflag("-Cdebuginfo=2").build();
    ampoule_build::guest("guests/hostile").build();
    ampoule_build::guest("guests/logger").build();
    ampoule_build::guest("guests/memory").build();
    ampoule_build::guest("guests/profiled").build();
    ampoule_build::guest("guests/shop").build();
    ampoule_build::guest("guests/streams").build();
    ampoule_build::guest("guests/tasks").build();
    ampoule_build::guest("guests/tenant").build();
    for (name, kind) in [("c-fixed", "-static"), ("c-pie", "-static-pie")] {
        build_c_guest(name, "guests/c/guest.c", &["-O2", kind]);
    }
    for (name, kind) in [("debugger-fixed", "-static"), ("debugger-pie", "-static-pie")] {
        build_c_guest(name, "guests/debugger/guest.c", &["-O0", "-g", kind]);
    }
    build_program("PROGRAM", "guests/c/program.c");
    build_program("SIGNALS", "guests/c/signals.c");
    build_program("PREPARED", "guests/c/prepared.c");
    build_program("FILES", "guests/c/files.c");
    build_program("WAITS", "guests/c/waits.c");
    build_program("TERMINAL", "guests/c/terminal.c");
    build_program("SHARED", "guests/c/shared.c");
    build_program("MAPPED", "guests/c/mapped.c");
    build_program("PROCESSOR", "guests/c/processor.c");
    for (variable, source) in [("TINY", "guests/c/tiny.c"), ("COUNTER", "guests/c/counter.c")] {
        build_program_with(variable, source, &["-nostdlib", "-s", "-Wl,-z,noseparate-code,--build-id=none"]);
    }
}

/// Compiles a program that is no guest. Its path is in this variable, while the tests are compiled.
fn build_program(variable: &str, source: &str) {
    build_program_with(variable, source, &["-lm"]);
}

/// The same, with options that stand behind the source.
fn build_program_with(variable: &str, source: &str, options: &[&str]) {
    println!("cargo:rerun-if-changed={source}");
    let program = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(variable);
    let mut command = Command::new("cc");
    let status = command.args(["-O2", "-Wall", "-static", "-o"]).arg(&program).arg(source).args(options).status();
    match status {
        Ok(status) if status.success() => {}
        other => panic!("`cc` could not build {source}: {other:?}"),
    }
    println!("cargo:rustc-env={variable}={}", program.display());
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
