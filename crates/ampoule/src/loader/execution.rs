//! What is started when a file is executed: itself, or the interpreter that it names, as Linux's `execve` decides it.
//!
//! The files are the program's own. They are as untrusted as the program: what is read of them is bounded.

use std::path::Path;
use std::sync::Arc;

use ampoule_vfs::{Context, Errno, File, FileType, NoProcess, Timestamp, Vfs};
use ampoule_vmm::FrozenFile;
use linux_raw_sys::general::O_RDONLY;

use crate::address_space::MappedFile;
use crate::image::{Bytes, Executable, MAX_FILE_SIZE, read_program};
use crate::personality::linux::{Keep, ProcessFiles, mapped_file};

use super::{ExecuteError, Interpreter};

/// What is to be loaded.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) executable: Executable,
    /// The path by which it was executed, where that leads to it among the files of the process.
    pub(crate) path: Option<String>,
    /// What links it, where it names something.
    pub(crate) interpreter: Option<Interpreter>,
    /// Its arguments. Those of a script are behind those of its interpreter.
    pub(crate) arguments: Vec<String>,
}

/// The file that is executed, and what is found of it.
struct Found {
    path: String,
    bytes: Bytes,
    /// The file as others find it who execute it.
    file: Option<Arc<FrozenFile>>,
    /// None where it is none of the process's files.
    open: Option<File>,
}

impl Execution {
    /// What starts when the program at `path` is executed with these arguments, of which the first is its name: the one that the
    /// process has open, or else the host's. The process has open what is loaded then.
    ///
    /// # Errors
    ///
    /// An [`ExecuteError`].
    pub(crate) fn of_program(
        path: &Path,
        arguments: Vec<String>,
        files: &mut ProcessFiles,
    ) -> Result<Self, ExecuteError> {
        let name = path.to_string_lossy();
        let found = match files.executable.take() {
            Some(open) => {
                let (bytes, mapped) = read_open(&files.vfs, &open)
                    .map_err(|reason| ExecuteError::Program { program: (*name).into(), reason })?;
                let path = std::path::absolute(path).map_or(name.into(), |path| path.to_string_lossy().into_owned());
                Found { path, bytes, file: mapped.frozen, open: Some(open) }
            }
            None => {
                let (bytes, file) = read_program(path)?;
                Found { path: name.into(), bytes, file, open: None }
            }
        };
        Self::of_found(found, arguments, files)
    }

    /// What starts when an executable is that has been checked.
    pub(crate) fn of_checked(executable: &Executable, arguments: Vec<String>) -> Self {
        Self { executable: executable.clone(), path: None, interpreter: None, arguments }
    }

    fn of_found(mut found: Found, mut arguments: Vec<String>, files: &mut ProcessFiles) -> Result<Self, ExecuteError> {
        let first = found.path.clone();
        let shown = found.open.is_some().then(|| first.clone());
        let mut scripts = 0;
        while let Some(line) = found.bytes.strip_prefix(b"#!") {
            let script = || found.path.as_str().into();
            if scripts == MAX_SCRIPTS {
                return Err(ExecuteError::TooManyScripts { program: first.into(), limit: MAX_SCRIPTS });
            }
            scripts += 1;
            let (interpreter, argument) = command(line).ok_or_else(|| ExecuteError::ScriptLine { script: script() })?;
            let (open, bytes, mapped) = read(files, interpreter.as_bytes()).map_err(|reason| {
                ExecuteError::ScriptInterpreter { script: script(), interpreter: interpreter.into(), reason }
            })?;
            let before = [interpreter].into_iter().chain(argument).map(str::to_owned).chain([found.path.clone()]);
            arguments = before.chain(arguments.drain(..).skip(1)).collect();
            let next = Found { path: interpreter.to_owned(), bytes, file: mapped.frozen, open: Some(open) };
            if let Some(script) = std::mem::replace(&mut found, next).open {
                files.vfs.close(script);
            }
        }
        let Found { path, bytes, file, open } = found;
        let executable = Executable::check_program(path.as_str().into(), bytes, file.as_deref())?;
        let interpreter = match executable.interpreter() {
            Some(interpreter) => Some(find_interpreter(&path, interpreter, files)?),
            None => None,
        };
        files.executable = open;
        Ok(Self { executable, path: shown, interpreter, arguments })
    }
}

/// The interpreter and its argument in the first line of a script, behind the `#!`. `None` where there is none, or the line
/// cannot be read.
fn command(line: &[u8]) -> Option<(&str, Option<&str>)> {
    let line = &line[..line.len().min(LINE_LEN - 2)];
    let end = line.iter().position(|byte| *byte == b'\n');
    let text = std::str::from_utf8(&line[..end.unwrap_or(line.len())]).ok()?.trim_matches(BLANKS);
    let (interpreter, argument) = match text.split_once(BLANKS) {
        Some((interpreter, argument)) => (interpreter, Some(argument.trim_start_matches(BLANKS))),
        // It may have been cut.
        None if end.is_none() && line.len() == LINE_LEN - 2 => return None,
        None => (text, None),
    };
    (!interpreter.is_empty() && !text.contains('\0')).then_some((interpreter, argument))
}

/// Reads and checks the interpreter of an executable.
fn find_interpreter(program: &str, path: &[u8], files: &mut ProcessFiles) -> Result<Interpreter, ExecuteError> {
    let name = String::from_utf8_lossy(path).into_owned();
    let (open, bytes, mapped) = read(files, path).map_err(|reason| ExecuteError::Interpreter {
        program: program.into(),
        interpreter: name.as_str().into(),
        reason,
    })?;
    files.vfs.close(open);
    let executable = Executable::check_interpreter(name.into(), bytes, mapped.frozen.as_deref())?;
    Ok(Interpreter::new(executable, Arc::new(mapped)))
}

/// Reads one of the process's files.
fn read(files: &mut ProcessFiles, path: &[u8]) -> Result<(File, Bytes, MappedFile), Errno> {
    let directory = files.directory.location().clone();
    let open = files.vfs.open(&context(), &directory, path, O_RDONLY, 0)?;
    match read_open(&files.vfs, &open) {
        Ok((bytes, mapped)) => Ok((open, bytes, mapped)),
        Err(errno) => {
            files.vfs.close(open);
            Err(errno)
        }
    }
}

fn read_open(vfs: &Vfs, open: &File) -> Result<(Bytes, MappedFile), Errno> {
    if vfs.file_type(open.location())? != FileType::Regular || vfs.special(open.location()).is_some() {
        return Err(Errno::EACCES);
    }
    let len = vfs.len(open)?;
    if len > MAX_FILE_SIZE {
        return Err(Errno::EFBIG);
    }
    // Whoever names it wants it executed, wherever it is.
    let mapped = MappedFile { executable: true, ..mapped_file(vfs, &context(), open, Keep::Frozen)? };
    if let Some(frozen) = &mapped.frozen
        && let Ok(bytes) = frozen.shared_bytes()
    {
        return Ok((Bytes::File(bytes), mapped));
    }
    let mut bytes = vec![0; len as usize];
    let mut done = 0;
    while done < bytes.len() {
        match vfs.read_at(open, &mut bytes[done..], done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    bytes.truncate(done);
    Ok((bytes.into(), mapped))
}

/// Nothing in the files depends on the process before there is one.
fn context() -> Context<'static> {
    Context { now: Timestamp::default(), process: &NoProcess }
}

/// What separates words in the first line of a script.
const BLANKS: [char; 2] = [' ', '\t'];

/// How much of a script is looked at, in bytes (`BINPRM_BUF_SIZE` of Linux's `include/uapi/linux/binfmts.h`).
const LINE_LEN: usize = 256;

/// How many scripts can interpret one another (Linux's `exec_binprm` in `fs/exec.c`).
const MAX_SCRIPTS: usize = 5;

#[cfg(test)]
mod tests;
