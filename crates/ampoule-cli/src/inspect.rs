//! `ampoule inspect`

mod executable;
mod snapshot;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use ampoule::image::Function;
use ampoule::{Image, Limits, Output, Sandbox, SnapshotFile, dynamic};
use ampoule_abi::text::printable_name;
use serde::Serialize;

use crate::arguments::InspectArguments;
use crate::failure::{Failure, Status};
use crate::text::bytes;
use crate::{host_functions, print};
use executable::Executable;

pub(crate) fn run(arguments: &InspectArguments) -> Result<Status, Failure> {
    if SnapshotFile::is_one(&arguments.image) {
        return snapshot::run(arguments);
    }
    let image = Image::from_file(&arguments.image)?;
    let types = if arguments.types { Some(types(&image)?) } else { None };
    let report = Report::of(&image, types);
    if arguments.json { print_json(&report) } else { print(report.text().as_bytes()) }
}

fn print_json(report: &impl Serialize) -> Result<Status, Failure> {
    let text = serde_json::to_string_pretty(report).expect("a report is text and numbers") + "\n";
    print(text.as_bytes())
}

/// A report for people: a name and a value in each line.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{name:<12} {value}");
    }

    /// Adds several values of one name.
    fn add_all(&mut self, name: &str, values: impl IntoIterator<Item = impl AsRef<str>>) {
        for (index, value) in values.into_iter().enumerate() {
            self.add(if index == 0 { name } else { "" }, value.as_ref());
        }
    }
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
        let (exports, imports) = functions(image);
        Self {
            name: image.name(),
            bytes: image.bytes().len(),
            abi: image.abi_version().to_string(),
            executable: Executable::of(image.bytes()),
            exports,
            imports,
            types,
        }
    }

    fn text(&self) -> String {
        let mut lines = Lines::default();
        lines.add("image", &printable_name(self.name).to_string());
        lines.add("size", &bytes(self.bytes as u64));
        lines.add("abi", &self.abi);
        for (name, value) in self.executable.lines() {
            lines.add(name, &value);
        }
        for (title, functions) in [("exports", &self.exports), ("imports", &self.imports)] {
            if functions.is_empty() {
                lines.add(title, "nothing");
            }
            lines.add_all(title, functions.iter().map(FunctionReport::text));
        }
        lines.add_all("types", self.types.iter().flatten());
        if self.types.as_ref().is_some_and(Vec::is_empty) {
            lines.add("types", "the guest describes none");
        }
        lines.0
    }
}

/// Exports and imports of an image.
fn functions(image: &Image) -> (Vec<FunctionReport<'_>>, Vec<FunctionReport<'_>>) {
    // An import that is declared in several places is one.
    let imports: BTreeMap<&str, &Function> = image.imports().map(|import| (import.name(), import)).collect();
    (image.exports().map(FunctionReport::of).collect(), imports.into_values().map(FunctionReport::of).collect())
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

    fn text(&self) -> String {
        format!("{}{}", self.name, self.signature)
    }
}

/// The definitions of the types of which the guest says what they are made of once it has started.
fn types(image: &Image) -> Result<Vec<String>, Failure> {
    let limits = Limits::new().deadline(START_TIME);
    let builder = Sandbox::builder(image).stdout(Output::discard()).stderr(Output::discard()).limits(limits);
    host_functions::refuse_all(image, builder, "inspect").build()?;
    Ok(image.described_types().iter().filter_map(dynamic::Type::definition).collect())
}

/// How long a guest may take to start.
const START_TIME: Duration = Duration::from_secs(10);
