//! Scripts and their interpreters, good and bad, in a tree of memory.

use ampoule_vfs::{Builder, Quota};
use linux_raw_sys::general::{O_CREAT, O_DIRECTORY, O_PATH, O_WRONLY};

use super::*;
use crate::loader::tests::elf::Elf;

#[test]
fn a_script_starts_its_interpreter_with_its_argument_and_itself() {
    for (line, expected) in [
        ("#!/bin/program\n", vec!["/bin/program", "/script", "one", "two"]),
        ("#!  /bin/program \t \nrest", vec!["/bin/program", "/script", "one", "two"]),
        ("#!/bin/program", vec!["/bin/program", "/script", "one", "two"]),
        ("#! /bin/program  -x  y z \n", vec!["/bin/program", "-x  y z", "/script", "one", "two"]),
        ("#!/outer\n", vec!["/bin/program", "-e", "/outer", "/script", "one", "two"]),
    ] {
        let mut files = Files::new();
        files.add("/script", line.as_bytes());
        files.add("/outer", b"#!/bin/program -e\n");
        let execution = files.execute("/script").unwrap();
        assert_eq!(execution.arguments, expected, "{line:?}");
        assert_eq!(execution.executable.name(), "/bin/program");
        assert!(execution.interpreter.is_none());
        let exe = files.0.executable.unwrap();
        assert_eq!(files.0.vfs.path_of(&context(), &exe), b"/bin/program");
    }
}

#[test]
fn a_dynamic_program_brings_its_interpreter() {
    let mut files = Files::new();
    files.add("/dynamic", &Elf::default().with_interpreter("/lib/ld.so"));
    let error = files.execute("/dynamic").unwrap_err();
    let ExecuteError::Interpreter { reason: Errno::ENOENT, .. } = error else { panic!("{error}") };
    assert!(error.to_string().contains("`--libs`"), "{error}");

    files.add("/lib/ld.so", &Elf { base: 0, position_independent: true, ..Elf::default() }.bytes());
    let execution = files.execute("/dynamic").unwrap();
    assert!(execution.interpreter.is_some());
    assert_eq!(execution.arguments, ["script", "one", "two"]);

    files.add("/lib/ld.so", b"not a program");
    assert!(matches!(files.execute("/dynamic").unwrap_err(), ExecuteError::Image(_)));
}

#[test]
fn what_cannot_be_started_says_why() {
    let mut files = Files::new();
    for line in ["#!\n", "#!  \n", "#!\n/bin/program", "#!/bin/pro\0gram\n"] {
        files.add("/script", line.as_bytes());
        let error = files.execute("/script").unwrap_err();
        assert!(matches!(error, ExecuteError::ScriptLine { .. }), "{line:?}: {error}");
    }
    files.add("/script", &[b"#!/".as_slice(), &[b'x'; 300], b"\n"].concat());
    assert!(matches!(files.execute("/script").unwrap_err(), ExecuteError::ScriptLine { .. }));
    files.add("/script", b"#!/bin/missing -x\n");
    let error = files.execute("/script").unwrap_err();
    assert!(matches!(error, ExecuteError::ScriptInterpreter { reason: Errno::ENOENT, .. }), "{error}");
    files.add("/script", b"#!/script\n");
    assert!(matches!(files.execute("/script").unwrap_err(), ExecuteError::TooManyScripts { limit: 5, .. }));
    assert!(matches!(files.execute("/nothing").unwrap_err(), ExecuteError::Image(_)));
    for path in ["/bin", "/dev/zero"] {
        let error = files.execute(path).unwrap_err();
        assert!(matches!(&error, ExecuteError::Program { reason: Errno::EACCES, .. }), "{path}: {error}");
    }
}

/// A tree with a program in it.
struct Files(ProcessFiles);

impl Files {
    fn new() -> Self {
        let mut vfs = Builder::new().memory("/", Quota::default()).build().unwrap();
        let root = vfs.root();
        for directory in [b"/bin", b"/lib"] {
            vfs.create_directory(&context(), &root, directory, 0o755).unwrap();
        }
        let directory = vfs.open(&context(), &root, b"/", O_PATH | O_DIRECTORY, 0).unwrap();
        let terminal = Default::default();
        let mut files = Self(ProcessFiles { vfs, directory, executable: None, descriptors: 16, terminal });
        files.add("/bin/program", &Elf::default().bytes());
        files
    }

    fn add(&mut self, path: &str, bytes: &[u8]) {
        let ProcessFiles { vfs, .. } = &mut self.0;
        let root = vfs.root();
        let file = vfs.open(&context(), &root, path.as_bytes(), O_CREAT | O_WRONLY, 0o755).unwrap();
        vfs.set_len(&context(), &file, 0).unwrap();
        assert_eq!(vfs.write_at(&context(), &file, bytes, 0).unwrap(), bytes.len());
        vfs.close(file);
    }

    fn execute(&mut self, path: &str) -> Result<Execution, ExecuteError> {
        let ProcessFiles { vfs, executable, .. } = &mut self.0;
        let root = vfs.root();
        *executable = vfs.open(&context(), &root, path.as_bytes(), O_RDONLY, 0).ok();
        let arguments = ["script", "one", "two"].map(str::to_owned).to_vec();
        Execution::of_program(Path::new(path), arguments, &mut self.0)
    }
}
