//! `ampoule inspect`

mod executable;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use ampoule::image::Function;
use ampoule::{Image, Limits, Output, Sandbox, dynamic};
use ampoule_abi::text::printable_name;
use serde::Serialize;

use crate::arguments::InspectArguments;
use crate::failure::{Failure, Status};
use crate::text::bytes;
use crate::{host_functions, print};
use executable::Executable;

pub(crate) fn run(arguments: &InspectArguments) -> Result<Status, Failure> {
    let image = Image::from_file(&arguments.image)?;
    let types = if arguments.types { Some(types(&image)?) } else { None };
    let report = Report::of(&image, types);
    let text = match arguments.json {
        true => serde_json::to_string_pretty(&report).expect("a report is text and numbers") + "\n",
        false => report.text(),
    };
    print(text.as_bytes())
}

/// What is said of an image.
#[derive(Debug, Serialize)]
struct Report<'a> {
    name: &'a str,
    bytes: usize,
    abi: String,
    #[serde(flatten)]
    executable: Executable,
    exports: Vec<FunctionReport<'a>>,
    imports: Vec<FunctionReport<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    types: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct FunctionReport<'a> {
    name: &'a str,
    signature: String,
    parameters: Vec<String>,
    result: String,
    error: Option<String>,
}

impl<'a> Report<'a> {
    fn of(image: &'a Image, types: Option<Vec<String>>) -> Self {
        // An import that is declared in several places is one.
        let imports: BTreeMap<&str, &Function> = image.imports().map(|import| (import.name(), import)).collect();
        Self {
            name: image.name(),
            bytes: image.bytes().len(),
            abi: image.abi_version().to_string(),
            executable: Executable::of(image.bytes()),
            exports: image.exports().map(FunctionReport::of).collect(),
            imports: imports.into_values().map(FunctionReport::of).collect(),
            types,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<12} {value}");
        };
        line("image", &printable_name(self.name).to_string());
        line("size", &bytes(self.bytes as u64));
        line("abi", &self.abi);
        for (name, value) in self.executable.lines() {
            line(name, &value);
        }
        for (title, functions) in [("exports", &self.exports), ("imports", &self.imports)] {
            if functions.is_empty() {
                line(title, "nothing");
            }
            for (index, function) in functions.iter().enumerate() {
                line(if index == 0 { title } else { "" }, &format!("{}{}", function.name, function.signature));
            }
        }
        for (index, definition) in self.types.iter().flatten().enumerate() {
            line(if index == 0 { "types" } else { "" }, definition);
        }
        if self.types.as_ref().is_some_and(Vec::is_empty) {
            line("types", "the guest describes none");
        }
        text
    }
}

impl<'a> FunctionReport<'a> {
    fn of(function: &'a Function) -> Self {
        let signature = function.signature();
        Self {
            name: function.name(),
            signature: signature.to_string(),
            parameters: signature.parameters().iter().map(ToString::to_string).collect(),
            result: signature.result().to_string(),
            error: signature.error().map(ToString::to_string),
        }
    }
}

/// The definitions of the types of which the guest says what they are made of once it has started.
fn types(image: &Image) -> Result<Vec<String>, Failure> {
    let limits = Limits::new().deadline(START_TIME);
    let builder = Sandbox::builder(image).stdout(Output::discard()).stderr(Output::discard()).limits(limits);
    host_functions::refuse_all(image, builder).build()?;
    Ok(image.described_types().iter().filter_map(dynamic::Type::definition).collect())
}

/// How long a guest may take to start.
const START_TIME: Duration = Duration::from_secs(10);
