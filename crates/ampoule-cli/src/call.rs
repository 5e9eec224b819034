//! `ampoule call`

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};

use ampoule::dynamic::{ArgumentError, DynamicCall, Value};
use ampoule::signature::{Signature, Type};
use ampoule::{BuildError, CallError, Image, MapAccess, Output, Sandbox, Snapshot, SnapshotFile, dynamic};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde::de::value::{self, BytesDeserializer};

use crate::arguments::CallArguments;
use crate::failure::{Failure, Report, Status};
use crate::host_functions::HostFunctions;
use crate::print;
use crate::profile::{self, Form};
use crate::text::GuestText;

pub(crate) fn run(arguments: &CallArguments) -> Result<Status, Failure> {
    let done = call(arguments);
    let limit = arguments.settings.mailbox().saturating_mul(JSON_PER_BYTE);
    if arguments.json {
        return print_report(&done, limit);
    }
    let failure = match done {
        Ok(Ok(value)) if arguments.raw => match value.as_bytes() {
            Some(bytes) => return print(bytes),
            None => {
                Failure::usage(format!("`{}` returns {}: `--raw` writes bytes", arguments.function, value.data_type()))
            }
        },
        Ok(Ok(value)) if value.is_unit() => return Ok(Status::Done),
        Ok(Ok(value)) => return print(&json_line(&value, limit)?),
        Ok(Err(error)) => failure_of(arguments, &error),
        Err(failure) if arguments.verbose => failure.in_full(),
        Err(failure) => failure,
    };
    Err(failure)
}

/// What the function gives, or its own error.
type Answer = Result<Value, dynamic::Failure>;

/// Everything that can be found out without the guest is checked before it is started.
fn call(arguments: &CallArguments) -> Result<Answer, Failure> {
    let stored = match SnapshotFile::is_one(&arguments.image) {
        true => Some(SnapshotFile::new(&arguments.image).files(arguments.grants.files()).snapshot()?),
        false => None,
    };
    let image = match &stored {
        Some(stored) => stored.image().clone(),
        None => Image::from_file(&arguments.image)?,
    };
    let Some(function) = image.export(&arguments.function) else {
        return Err(Failure::from(CallError::UnknownFunction {
            image: image.name().to_owned(),
            function: arguments.function.clone(),
            exports: image.exports().map(|function| function.name().to_owned()).collect(),
        }));
    };
    let (signature, given) = (function.signature(), arguments.arguments.len());
    if given != signature.parameters().len() {
        return Err(Failure::usage(format!("`{}` is {signature}, called with {given} arguments", function.name())));
    }
    let given = given_arguments(&arguments.arguments, signature)?;
    let host_functions = HostFunctions::default();
    let built = match stored {
        Some(stored) => spawn(arguments, &stored, &host_functions)?,
        None => build(arguments, &image, &host_functions)?,
    };
    let mut sandbox = built.map_err(|error| host_functions.failure().unwrap_or_else(|| error.into()))?;

    let mut call = sandbox.dynamic_fn(&arguments.function)?.prepare();
    for argument in &given {
        argument.add_to(&mut call).map_err(Failure::usage)?;
    }
    let answer = call.make(&mut sandbox);
    arguments.look.write_profile(sandbox.take_profile().as_ref())?;
    if let (Some(path), Some(profile)) = (&arguments.memory_profile, sandbox.take_memory_profile()) {
        let measure = arguments.memory_measure.into();
        profile::write(path, |form, file| match form {
            Form::FlameGraph => profile.flame_graph(measure, file),
            Form::Pprof => profile.pprof(file),
            Form::Folded => profile.folded(measure, file),
        })?;
    }
    match host_functions.failure() {
        Some(refused) => Err(refused),
        None => Ok(answer?),
    }
}

/// Starts the guest of an image.
fn build(
    arguments: &CallArguments,
    image: &Image,
    host_functions: &HostFunctions,
) -> Result<Result<Sandbox, BuildError>, Failure> {
    let mut builder = arguments.settings.apply(Sandbox::builder(image)).files(arguments.grants.files());
    if arguments.memory_profile.is_some() {
        builder = builder.profile_memory();
    }
    for (file, name) in arguments.grants.mapped()? {
        builder = builder.map_file(file, .., name, MapAccess::Read);
    }
    builder = arguments.look.apply(builder)?;
    if let Some(frequency) = arguments.look.frequency() {
        builder = builder.profile(frequency);
    }
    for (name, function) in host_functions.answers(image, &arguments.host_fn)? {
        builder = builder.dynamic_host_fn(name, function);
    }
    Ok(builder.stdout(Output::writer(GuestText::stderr())).stderr(Output::writer(GuestText::stderr())).build())
}

/// Continues the guest of a snapshot.
fn spawn(
    arguments: &CallArguments,
    stored: &Snapshot,
    host_functions: &HostFunctions,
) -> Result<Result<Sandbox, BuildError>, Failure> {
    let mut spawn = arguments.look.apply(stored.builder().limits(arguments.settings.limits()))?;
    for (name, function) in host_functions.answers(stored.image(), &arguments.host_fn)? {
        spawn = spawn.dynamic_host_fn(name, function);
    }
    let built = spawn.stdout(Output::writer(GuestText::stderr())).stderr(Output::writer(GuestText::stderr())).build();
    let Ok(mut sandbox) = built else { return Ok(built) };
    for (file, name) in arguments.grants.mapped()? {
        let mapped = sandbox.map_file(file, .., name, MapAccess::Read);
        mapped.map_err(|error| Failure::usage(format!("`--map` of `{name}`: {error}")))?;
    }
    if let Some(frequency) = arguments.look.frequency() {
        sandbox.profile(frequency).map_err(|error| Failure::new(Status::Host, error))?;
    }
    if arguments.memory_profile.is_some() {
        sandbox.profile_memory();
    }
    Ok(Ok(sandbox))
}

/// An argument as it was given.
enum Given {
    Json(String),
    /// The content of a file, for a parameter of bytes.
    Raw(Vec<u8>),
}

impl Given {
    fn add_to(&self, call: &mut DynamicCall) -> Result<(), ArgumentError> {
        match self {
            Self::Json(text) => call.argument(&mut serde_json::Deserializer::from_str(text)),
            Self::Raw(bytes) => call.argument(BytesDeserializer::<value::Error>::new(bytes)),
        }
    }
}

/// The arguments of a function with this signature, from wherever they are.
fn given_arguments(arguments: &[String], signature: &Signature) -> Result<Vec<Given>, Failure> {
    let given = arguments.iter().zip(signature.parameters()).enumerate().map(|(index, (argument, parameter))| {
        let number = index + 1;
        let unreadable = |path: &str, reason: &dyn fmt::Display| {
            Failure::usage(format!("argument {number}: {path} cannot be read: {reason}"))
        };
        let text = match argument.strip_prefix('@') {
            Some(path) => {
                let bytes = read(path).map_err(|reason| unreadable(path, &reason))?;
                if *parameter == Type::of::<Vec<u8>>() {
                    return Ok(Given::Raw(bytes));
                }
                String::from_utf8(bytes).map_err(|reason| unreadable(path, &reason))?
            }
            None => argument.clone(),
        };
        match serde_json::from_str::<IgnoredAny>(&text) {
            Ok(_) => Ok(Given::Json(text)),
            Err(error) => {
                let hint = "text has quotes of its own: '\"World\"'";
                Err(Failure::usage(format!("argument {number} is not JSON: {error}; {hint}")))
            }
        }
    });
    given.collect()
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match path {
        "-" => io::stdin().read_to_end(&mut bytes)?,
        path => File::open(path)?.read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

fn failure_of(arguments: &CallArguments, error: &dynamic::Failure) -> Failure {
    Failure::new(Status::Failed, format!("`{}` failed: {error}", arguments.function))
}

/// A line of at most `limit` bytes: the names in a value are the guest's, and may make it much longer than its message was.
fn json_line(value: &impl Serialize, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut line = Bounded { bytes: Vec::new(), limit };
    match serde_json::to_writer(&mut line, value) {
        Ok(()) => {
            line.bytes.push(b'\n');
            Ok(line.bytes)
        }
        Err(error) if error.is_io() => Err(Failure::new(
            Status::Ended,
            format!("the result is longer than {limit} bytes as JSON: raise `--mailbox`, of which it is a multiple"),
        )),
        Err(error) => Err(Failure::new(Status::Host, format!("the result cannot be written as JSON: {error}"))),
    }
}

/// Bytes that end where there are too many of them.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `--json` writes.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum JsonReport<'a> {
    Result(&'a Value),
    Error(JsonError<'a>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum JsonError<'a> {
    Function { kind: &'static str, message: &'a str, value: Option<&'a Value> },
    Other(Report<'a>),
}

fn print_report(done: &Result<Answer, Failure>, limit: usize) -> Result<Status, Failure> {
    let (report, status) = match done {
        Ok(Ok(value)) => (JsonReport::Result(value), Status::Done),
        Ok(Err(error)) => {
            let (message, value) = (error.message(), error.value());
            (JsonReport::Error(JsonError::Function { kind: "function", message, value }), Status::Failed)
        }
        Err(failure) => (JsonReport::Error(JsonError::Other(failure.report())), failure.status()),
    };
    print(&json_line(&report, limit)?)?;
    Ok(status)
}

/// How many bytes of JSON a byte of the mailbox may become. A `bool` in a field with a name of a dozen characters takes some 20.
const JSON_PER_BYTE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_has_a_bound() {
        let value = ["a".repeat(10), "a".repeat(10)];
        assert_eq!(json_line(&value, 27).unwrap(), b"[\"aaaaaaaaaa\",\"aaaaaaaaaa\"]\n");
        assert_eq!(json_line(&value, 26).unwrap_err().status(), Status::Ended);
    }
}
