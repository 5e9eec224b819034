//! `ampoule call`

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use ampoule::dynamic::{ArgumentError, DynamicCall, Value};
use ampoule::{CallError, Frequency, Image, Output, Profile, Sandbox, dynamic};
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::arguments::CallArguments;
use crate::failure::{Failure, Report, Status};
use crate::host_functions::HostFunctions;
use crate::print;
use crate::text::GuestText;

pub(crate) fn run(arguments: &CallArguments) -> Result<Status, Failure> {
    let done = call(arguments);
    let limit = arguments.settings.mailbox().saturating_mul(JSON_PER_BYTE);
    if arguments.json {
        return print_report(&done, limit);
    }
    let failure = match done {
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
    let image = Image::from_file(&arguments.image)?;
    let Some(function) = image.export(&arguments.function) else {
        return Err(Failure::from(CallError::UnknownFunction {
            image: image.name().to_owned(),
            function: arguments.function.clone(),
            exports: image.exports().map(|function| function.name().to_owned()).collect(),
        }));
    };
    let texts = texts(&arguments.arguments)?;
    let expected = function.signature().parameters().len();
    if texts.len() != expected {
        let given = texts.len();
        let signature = function.signature();
        return Err(Failure::usage(format!("`{}` is {signature}, called with {given} arguments", function.name())));
    }
    let host_functions = HostFunctions::default();
    let mut builder = arguments.settings.apply(Sandbox::builder(&image));
    if let Some(trace) = arguments.look.trace()? {
        builder = builder.trace(trace);
    }
    if let Some(server) = arguments.look.gdb()? {
        builder = builder.gdb(server);
    }
    let builder = host_functions.answer(&image, builder, &arguments.host_fn)?;
    let built = builder.stdout(Output::writer(GuestText::stderr())).stderr(Output::writer(GuestText::stderr())).build();
    let mut sandbox = built.map_err(|error| host_functions.failure().unwrap_or_else(|| error.into()))?;

    let mut call = sandbox.dynamic_fn(&arguments.function)?.prepare();
    for text in &texts {
        add(&mut call, text).map_err(Failure::usage)?;
    }
    if arguments.profile.is_some() {
        sandbox.profile(Frequency::default()).map_err(|error| Failure::new(Status::Host, error))?;
    }
    let answer = call.make(&mut sandbox);
    if let (Some(path), Some(profile)) = (&arguments.profile, sandbox.take_profile()) {
        write_profile(path, &profile)
            .map_err(|reason| Failure::new(Status::Host, format!("{}: {reason}", path.display())))?;
    }
    match host_functions.failure() {
        Some(refused) => Err(refused),
        None => Ok(answer?),
    }
}

/// In the form that the file's name asks for.
fn write_profile(path: &Path, profile: &Profile) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => profile.flame_graph(&mut file)?,
        Some("pb" | "pprof") => profile.pprof(&mut file)?,
        _ => profile.folded(&mut file)?,
    }
    file.flush()
}

/// The arguments as JSON, from wherever they are.
fn texts(arguments: &[String]) -> Result<Vec<String>, Failure> {
    let texts = arguments.iter().enumerate().map(|(index, argument)| {
        let number = index + 1;
        let text = match argument.strip_prefix('@') {
            Some(path) => read(path)
                .map_err(|reason| Failure::usage(format!("argument {number}: {path} cannot be read: {reason}")))?,
            None => argument.clone(),
        };
        match serde_json::from_str::<IgnoredAny>(&text) {
            Ok(_) => Ok(text),
            Err(error) => {
                let hint = "text has quotes of its own: '\"World\"'";
                Err(Failure::usage(format!("argument {number} is not JSON: {error}; {hint}")))
            }
        }
    });
    texts.collect()
}

fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    match path {
        "-" => io::stdin().read_to_string(&mut text)?,
        path => File::open(path)?.read_to_string(&mut text)?,
    };
    Ok(text)
}

fn add(call: &mut DynamicCall, text: &str) -> Result<(), ArgumentError> {
    call.argument(&mut serde_json::Deserializer::from_str(text))
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
