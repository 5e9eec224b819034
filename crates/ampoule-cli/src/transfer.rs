//! `ampoule push` and `ampoule pull`

mod arguments;

use std::fmt::Write;

use ampoule_oci::{LayoutError, Options, PullError, PushError, Reference, RegistryError};
use serde::Serialize;

use crate::failure::{Failure, Status};
use crate::print;
use crate::text::bytes;
use arguments::{PullArguments, PushArguments, TransferArguments};

pub(crate) use arguments::Command;

pub(crate) fn run(command: &Command) -> Result<Status, Failure> {
    match command {
        Command::Push(arguments) => push(arguments),
        Command::Pull(arguments) => pull(arguments),
    }
}

fn push(arguments: &PushArguments) -> Result<Status, Failure> {
    let PushArguments { snapshot, reference, transfer } = arguments;
    let pushed = ampoule_oci::push(snapshot, reference, &options(transfer))?;
    let layers = pushed.layers.iter().map(|layer| LayerReport {
        digest: layer.digest.to_string(),
        bytes: layer.size,
        was_there: layer.was_there,
        file: None,
    });
    Report::new(reference.with_digest(pushed.digest), layers.collect()).print("pushed", transfer)
}

fn pull(arguments: &PullArguments) -> Result<Status, Failure> {
    let PullArguments { reference, output, size_limit, transfer } = arguments;
    let options = size_limit.iter().fold(options(transfer), |options, limit| options.size_limit(*limit));
    let pulled = ampoule_oci::pull(reference, output, &options)?;
    let layers = pulled.layers.iter().map(|layer| LayerReport {
        digest: layer.digest.to_string(),
        bytes: layer.size,
        was_there: layer.was_there,
        file: Some(layer.path.display().to_string()),
    });
    Report::new(reference.with_digest(pulled.digest), layers.collect()).print("pulled", transfer)
}

fn options(arguments: &TransferArguments) -> Options {
    Options::new().plain_http(arguments.plain_http)
}

/// What was transferred.
#[derive(Debug, Serialize)]
struct Report {
    /// By the digest.
    reference: String,
    /// The files, the snapshot's own as the last.
    layers: Vec<LayerReport>,
}

#[derive(Debug, Serialize)]
struct LayerReport {
    digest: String,
    bytes: u64,
    was_there: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

impl Report {
    fn new(reference: Reference, layers: Vec<LayerReport>) -> Self {
        Self { reference: reference.to_string(), layers }
    }

    fn print(&self, done: &str, arguments: &TransferArguments) -> Result<Status, Failure> {
        let text = match arguments.json {
            true => serde_json::to_string_pretty(self).expect("a report is text and numbers") + "\n",
            false => self.text(done),
        };
        print(text.as_bytes())
    }

    fn text(&self, done: &str) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<12} {value}");
        };
        line(done, &self.reference);
        for (index, layer) in self.layers.iter().enumerate() {
            let was_there = if layer.was_there { ", was there already" } else { "" };
            let name = if index == 0 { "layers" } else { "" };
            line(name, &format!("{} ({}{was_there})", layer.digest, bytes(layer.bytes)));
        }
        text
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        let status = match error {
            PushError::Snapshot(error) => return error.into(),
            PushError::Registry(error) => return error.into(),
            PushError::Layout(error) => return error.into(),
            PushError::Digest { .. } => Status::Usage,
            _ => Status::Host,
        };
        Self::new(status, error)
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        let status = match error {
            PullError::Registry(error) => return error.into(),
            PullError::Layout(error) => return error.into(),
            PullError::NameOfParent { .. } | PullError::TooLarge { .. } => Status::Usage,
            PullError::Receive { .. } | PullError::Write { .. } => Status::Host,
            _ => Status::NotAnImage,
        };
        Self::new(status, error)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let status = match error {
            RegistryError::NotFound { .. } => Status::NotFound,
            _ => Status::Host,
        };
        Self::new(status, error)
    }
}

impl From<LayoutError> for Failure {
    fn from(error: LayoutError) -> Self {
        let status = match error {
            LayoutError::NotFound { .. } => Status::NotFound,
            LayoutError::Read { .. } | LayoutError::Write { .. } => Status::Host,
            _ => Status::NotAnImage,
        };
        Self::new(status, error)
    }
}
