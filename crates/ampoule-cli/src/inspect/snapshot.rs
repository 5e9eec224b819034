//! `ampoule inspect` of a snapshot.

use ampoule::{SnapshotFile, SnapshotInfo};
use ampoule_abi::text::printable_name;
use serde::Serialize;

use super::{FunctionReport, Lines, functions, print_json};
use crate::arguments::InspectArguments;
use crate::failure::{Failure, Status};
use crate::print;
use crate::text::bytes;

/// Reads all of it, and of what it is a difference from.
pub(super) fn run(arguments: &InspectArguments) -> Result<Status, Failure> {
    let info = SnapshotFile::new(&arguments.image).verify()?;
    let report = Report::of(&info);
    if arguments.json { print_json(&report) } else { print(report.text().as_bytes()) }
}

/// What is said of a snapshot.
#[derive(Debug, Serialize)]
struct Report<'a> {
    digest: String,
    parent: Option<String>,
    compressed: bool,
    /// `guest` or `program`.
    kind: &'static str,
    name: &'a str,
    image_bytes: usize,
    memory_limit: usize,
    used_bytes: u64,
    stored_bytes: u64,
    processor: &'a [String],
    baseline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exports: Option<Vec<FunctionReport<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    imports: Option<Vec<FunctionReport<'a>>>,
}

impl<'a> Report<'a> {
    fn of(info: &'a SnapshotInfo) -> Self {
        let of_image = info.image.as_ref().map(functions);
        let (exports, imports) = of_image.unzip();
        Self {
            digest: info.digest.to_string(),
            parent: info.parent.map(|parent| parent.to_string()),
            compressed: info.is_compressed,
            kind: if info.image.is_some() { "guest" } else { "program" },
            name: &info.name,
            image_bytes: info.image_size,
            memory_limit: info.memory_limit,
            used_bytes: info.used_bytes,
            stored_bytes: info.stored_bytes,
            processor: &info.features,
            baseline: info.baseline.map(|baseline| baseline.to_string()),
            exports,
            imports,
        }
    }

    fn text(&self) -> String {
        let mut lines = Lines::default();
        let waits = if self.kind == "guest" { "waits for a call" } else { "waits for its input" };
        lines.add("snapshot", &format!("of {} `{}`, which {waits}", self.kind, printable_name(self.name)));
        lines.add("digest", &self.digest);
        lines.add("parent", self.parent.as_deref().unwrap_or("none"));
        if self.compressed {
            lines.add("compressed", "yes");
        }
        lines.add("image", &bytes(self.image_bytes as u64));
        let (used, stored) = (bytes(self.used_bytes), bytes(self.stored_bytes));
        lines.add("memory", &format!("{used} of {}, {stored} of them here", bytes(self.memory_limit as u64)));
        match &self.baseline {
            Some(baseline) => lines.add("processor", baseline),
            None => lines.add("processor", &self.processor.join(" ")),
        }
        for (title, functions) in [("exports", &self.exports), ("imports", &self.imports)] {
            lines.add_all(title, functions.iter().flatten().map(FunctionReport::text));
        }
        lines.0
    }
}
