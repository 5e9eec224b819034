//! `ampoule call`

use std::fs::File;
use std::io::{self, Read};

use ampoule::dynamic::{ArgumentError, DynamicCall, Value};
use ampoule::{CallError, Image, Output, Sandbox, dynamic};
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::arguments::CallArguments;
use crate::failure::{Failure, Report, Status};
use crate::host_functions::HostFunctions;
use crate::print;
use crate::text::GuestText;

pub(crate) fn run(arguments: &CallArguments) -> Result<Status, Failure> {
    let done = call(arguments);
    if arguments.json {
        return print_report(&done);
    }
    let failure = match done {
        Ok(Ok(value)) if value.is_unit() => return Ok(Status::Done),
        Ok(Ok(value)) => return print(&json_line(&value)?),
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
    let builder = arguments.settings.apply(Sandbox::builder(&image));
    let builder = host_functions.answer(&image, builder, &arguments.host_fn)?;
    let built = builder.stdout(Output::writer(GuestText::new())).stderr(Output::writer(GuestText::new())).build();
    let mut sandbox = built.map_err(|error| host_functions.failure().unwrap_or_else(|| error.into()))?;

    let mut call = sandbox.dynamic_fn(&arguments.function)?.prepare();
    for text in &texts {
        add(&mut call, text).map_err(Failure::usage)?;
    }
    let answer = call.make(&mut sandbox);
    match host_functions.failure() {
        Some(refused) => Err(refused),
        None => Ok(answer?),
    }
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

fn json_line(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let mut text = serde_json::to_vec(value)
        .map_err(|error| Failure::new(Status::Host, format!("the result cannot be written as JSON: {error}")))?;
    text.push(b'\n');
    Ok(text)
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

fn print_report(done: &Result<Answer, Failure>) -> Result<Status, Failure> {
    let (report, status) = match done {
        Ok(Ok(value)) => (JsonReport::Result(value), Status::Done),
        Ok(Err(error)) => {
            let (message, value) = (error.message(), error.value());
            (JsonReport::Error(JsonError::Function { kind: "function", message, value }), Status::Failed)
        }
        Err(failure) => (JsonReport::Error(JsonError::Other(failure.report())), failure.status()),
    };
    print(&json_line(&report)?)?;
    Ok(status)
}
