//! Builds the guests and the programs that are measured.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    for (variable, source) in [("ECHO", "programs/echo.c"), ("CALLS", "programs/calls.c"), ("SUM", "programs/sum.c")] {
        build(variable, source, Command::new("cc").args(["-O2", "-Wall", "-static"]));
    }
    let rustc = std::env::var_os("RUSTC").expect("cargo sets RUSTC");
    build("HELLO", "programs/hello.rs", Command::new(rustc).args(["-O", "-Ctarget-feature=+crt-static"]));
    ampoule_build::guest("guest").build();
    ampoule_build::guest("../tests/guests/calls").build();
    ampoule_build::guest("../tests/guests/memory").build();
    ampoule_build::guest("../tests/guests/profiled").build();
    ampoule_build::guest("../tests/guests/streams").build();
}

/// Compiles a program that is no guest. Its path is in this variable, while the benchmark is compiled.
fn build(variable: &str, source: &str, compiler: &mut Command) {
    println!("cargo:rerun-if-changed={source}");
    let program = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(variable);
    match compiler.arg("-o").arg(&program).arg(source).status() {
        Ok(status) if status.success() => {}
        other => panic!("{compiler:?} could not build {source}: {other:?}"),
    }
    println!("cargo:rustc-env={variable}={}", program.display());
}
