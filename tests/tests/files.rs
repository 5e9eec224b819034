//! Programs do with files in a sandbox what they do outside, and reach no others than those that they are granted.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ampoule::{Access, Executable, Files, FilesError, GrantError, Program, ProgramError, ProgramOutput};
use ampoule_tests::native::Native;
use ampoule_tests::places::{assert_same_lines, places};
use tempfile::tempdir;

/// A program that makes system calls on files.
const PROGRAM: &[u8] = include_bytes!(env!("FILES"));

/// The kernel is the oracle: the same calls, in the same order, give the same results in memory, in a host directory, and in
/// one that lies under memory. What the sandbox has written to the host is what the program has written natively.
#[test]
fn any_calls_in_any_order_give_what_they_give_natively() {
    for seed in 0..8 {
        let arguments = ["random".to_owned(), seed.to_string(), "500".to_owned()];
        let native = tempdir().unwrap();
        let expected = natively(native.path(), &arguments);
        let (granted, under_memory) = (tempdir().unwrap(), tempdir().unwrap());
        for (place, files) in places(granted.path(), under_memory.path()) {
            let found = text(&run(&arguments, files, place).stdout);
            assert_same_lines(&found, &expected, &format!("seed {seed} in {place}"));
        }
        assert_eq!(tree(native.path()), tree(granted.path()), "seed {seed}");
    }
}

#[test]
fn conditions_of_a_path_and_nodes_that_cannot_be_made_are_as_they_are_natively() {
    for arguments in [["resolutions".to_owned()], ["nodes".to_owned()]] {
        let native = tempdir().unwrap();
        let expected = natively(native.path(), &arguments);
        let (granted, under_memory) = (tempdir().unwrap(), tempdir().unwrap());
        for (place, files) in places(granted.path(), under_memory.path()) {
            let found = text(&run(&arguments, files, place).stdout);
            assert_same_lines(&found, &expected, &format!("{arguments:?} in {place}"));
        }
    }
}

#[test]
fn what_is_mounted_is_listed_where_it_has_been_moved_to() {
    let (granted, root) = (tempdir().unwrap(), tempdir().unwrap());
    fs::create_dir_all(root.path().join("before/granted")).unwrap();
    let files = Files::none().root(root.path()).dir(granted.path(), "/before/granted", Access::ReadOnly);
    let arguments = ["moved-mount", "/before", "/after", " /after/granted host "].map(str::to_owned);
    assert_eq!(text(&run(&arguments, files, "/").stdout), "1\n");
}

#[test]
fn nothing_leads_out_of_what_is_granted() {
    let secret = tempdir().unwrap();
    let file = secret.path().join("secret");
    fs::write(&file, "what nobody is to see").unwrap();
    for access in [Access::ReadWrite, Access::ReadOnly] {
        let granted = tempdir().unwrap();
        symlink(&file, granted.path().join("outside")).unwrap();
        for files in [
            Files::none().dir(granted.path(), "/granted", access),
            Files::none().root(granted.path()),
            Files::libraries().dir(granted.path(), "/granted", access).tmp(1 << 20),
        ] {
            for place in ["/granted", "/", "/tmp"] {
                let arguments = ["escape".to_owned(), file.display().to_string()];
                let program = program(&arguments).files(files.clone()).current_dir(place);
                // Not each of them has each place.
                let Ok(output) = program.run() else { continue };
                let said = text(&output.stdout);
                assert!(output.status.success(), "{:?}: {said}", output.status);
                assert!(!said.contains("nobody") && !said.contains("root:x:"), "{said}");
                for refused in ["openat", "link", "linkat", "rename", "unlink", "truncate", "chmod", "chroot"] {
                    let line = said.lines().find(|line| line.starts_with(&format!("{refused}: "))).unwrap();
                    assert!(!line.ends_with("done"), "{line} in {place} of {files:?}");
                }
            }
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "what nobody is to see");
        assert_eq!(fs::read_dir(secret.path()).unwrap().count(), 1);
    }
}

#[test]
fn what_is_granted_to_be_read_stays_as_it_is() {
    let granted = tempdir().unwrap();
    fs::write(granted.path().join("a"), "before").unwrap();
    let before = tree(granted.path());
    let arguments = ["random".to_owned(), "3".to_owned(), "300".to_owned()];
    let read_only = Files::none().dir(granted.path(), "/granted", Access::ReadOnly);
    let output = run(&arguments, read_only, "/granted");
    assert_eq!(output.status.code(), Some(1), "nothing can be made there");
    let output = run(&arguments, Files::none().root(granted.path()), "/");
    assert!(output.status.success() && output.stdout.len() > 1000, "what it changes is in memory");
    assert_eq!(tree(granted.path()), before);
}

#[test]
fn a_grant_that_cannot_be_given_is_named() {
    let file = tempdir().unwrap().path().join("missing");
    let error = failure(Files::none().dir(&file, "/granted", Access::ReadOnly), "/");
    assert!(matches!(error, FilesError::Grant(GrantError::Missing { .. })) && names(&error, &file), "{error}");
    let directory = tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = failure(Files::none().root(&file), "/");
    assert!(matches!(error, FilesError::Grant(GrantError::NotADirectory { .. })) && names(&error, &file), "{error}");
    let error = failure(Files::none().dir(directory.path(), "granted", Access::ReadOnly), "/");
    assert!(matches!(error, FilesError::Grant(GrantError::InvalidPlace { .. })), "{error}");
    let error = failure(Files::none().dir(directory.path(), "/tmp", Access::ReadOnly).tmp(5), "/");
    assert!(matches!(error, FilesError::Grant(GrantError::SamePlace { .. })), "{error}");
    let error = failure(Files::none(), "/nowhere");
    assert!(matches!(error, FilesError::CurrentDirectory { .. }) && names(&error, Path::new("/nowhere")), "{error}");
}

fn names(error: &FilesError, path: &Path) -> bool {
    error.to_string().contains(path.to_str().unwrap())
}

fn failure(files: Files, place: &str) -> FilesError {
    match program(&["random".to_owned()]).files(files).current_dir(place).run() {
        Err(ProgramError::Files(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn program(arguments: &[String]) -> Program {
    Program::of(&Executable::from_bytes(PROGRAM).unwrap()).args(arguments)
}

fn run(arguments: &[String], files: Files, place: &str) -> ProgramOutput {
    program(arguments).files(files).current_dir(place).run().unwrap()
}

/// What the program prints natively.
fn natively(directory: &Path, arguments: &[String]) -> String {
    let output = Native::new(PROGRAM).command().args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All names below a directory, with what they are and what they contain.
fn tree(directory: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let contents = match metadata.file_type() {
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            kind if kind.is_file() => fs::read(&path).unwrap(),
            _ => Vec::new(),
        };
        let name = path.file_name().unwrap().into();
        found.push((name, metadata.permissions().mode(), contents));
        if metadata.is_dir() {
            found.extend(tree(&path));
        }
    }
    found
}
