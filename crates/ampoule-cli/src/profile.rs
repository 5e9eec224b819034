//! Files of profiles.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::failure::{Failure, Status};

/// How a profile is written.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    FlameGraph,
    Pprof,
    Folded,
}

/// Writes a profile in the form that the file's name asks for.
pub(crate) fn write(
    path: &Path,
    write: impl FnOnce(Form, &mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), Failure> {
    let form = match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => Form::FlameGraph,
        Some("pb" | "pprof") => Form::Pprof,
        _ => Form::Folded,
    };
    let written = File::create(path).map(BufWriter::new).and_then(|mut file| {
        write(form, &mut file)?;
        file.flush()
    });
    written.map_err(|reason| Failure::new(Status::Host, format!("{}: {reason}", path.display())))
}
