use super::*;
use crate::testing::TestDir;

#[test]
fn musl_is_preferred_where_it_is_installed() {
    let dir = TestDir::new();
    let script = machine(&dir, &[MUSL, GLIBC], &["rcrt1.o", "libc.a"]);
    assert_eq!(choose(&script).unwrap(), MUSL);
}

#[test]
fn a_directory_without_a_standard_library_is_not_an_installed_target() {
    let dir = TestDir::new();
    dir.write(&format!("{MUSL}/self-contained/rcrt1.o"), "");
    let script = machine(&dir, &[GLIBC], &["rcrt1.o", "libc.a"]);
    assert_eq!(choose(&script).unwrap(), GLIBC);
}

#[test]
fn without_musl_and_static_glibc_the_error_says_what_to_install() {
    let dir = TestDir::new();
    let script = machine(&dir, &[GLIBC], &["rcrt1.o"]);
    let error = choose(&script).unwrap_err();
    assert_eq!(no_glibc(&error), &NoGlibc::NoFile { linker: linker(&script), file: "libc.a" });
    let message = error.to_string();
    for remedy in ["rustup target add x86_64-unknown-linux-musl", "`libc6-dev`", "`glibc-static`"] {
        assert!(message.contains(remedy), "{message}");
    }
}

#[test]
fn glibc_needs_its_standard_library() {
    let dir = TestDir::new();
    let script = machine(&dir, &[], &["rcrt1.o", "libc.a"]);
    assert_eq!(no_glibc(&choose(&script).unwrap_err()), &NoGlibc::NoStd);
}

#[test]
fn the_c_compiler_of_another_machine_is_not_asked_for_glibc() {
    let dir = TestDir::new();
    let mut script = machine(&dir, &[GLIBC], &[]);
    script.glibc_linker = None;
    script.machine = "aarch64-unknown-linux-gnu".to_owned();
    assert_eq!(no_glibc(&choose(&script).unwrap_err()), &NoGlibc::NoCrossLinker);
}

#[test]
fn a_linker_that_is_not_there_is_named() {
    let dir = TestDir::new();
    let mut script = machine(&dir, &[GLIBC], &[]);
    script.glibc_linker = Some("no-such-linker".into());
    let expected = NoGlibc::NoLinker { linker: "no-such-linker".to_owned() };
    assert_eq!(no_glibc(&choose(&script).unwrap_err()), &expected);
}

/// A machine whose rustc has the given targets, and whose linker has the given files.
fn machine(dir: &TestDir, targets: &[&str], files: &[&str]) -> BuildScript {
    for target in targets {
        dir.write(&format!("{target}/libstd-0123456789abcdef.rlib"), "");
    }
    for file in files {
        dir.write(&format!("lib/{file}"), "");
    }
    let root = dir.path().display();
    BuildScript {
        rustc: program(dir, "rustc", &format!("echo \"{root}/$4\"")),
        glibc_linker: Some(
            program(
                dir,
                "linker",
                &format!(
                    "file=\"${{1#-print-file-name=}}\"\n\
                     if [ -e \"{root}/lib/$file\" ]; then echo \"{root}/lib/$file\"; else echo \"$file\"; fi"
                ),
            )
            .into(),
        ),
        ..dir.build_script()
    }
}

/// The program is put in place by another process: a test that starts a process in another thread would inherit a file that
/// is open for writing, and Linux does not run such a file.
fn program(dir: &TestDir, name: &str, body: &str) -> PathBuf {
    let text = dir.write(&format!("{name}.sh"), &format!("#!/bin/sh\n{body}\n"));
    let path = dir.path().join(name);
    let status = Command::new("install").args(["-m", "755"]).args([&text, &path]).status().unwrap();
    assert!(status.success());
    path
}

fn linker(script: &BuildScript) -> String {
    script.glibc_linker.as_ref().unwrap().to_string_lossy().into_owned()
}

fn no_glibc(error: &BuildError) -> &NoGlibc {
    match error {
        BuildError::NoStaticLibc { glibc } => glibc,
        other => panic!("not about a C library: {other}"),
    }
}
