//! `ampoule push` and `ampoule pull` as clap reads them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use crate::quantities::size;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pushes a snapshot to a registry of container images, or to an image layout
    Push(PushArguments),
    /// Pulls a snapshot from a registry of container images, or from an image layout
    Pull(PullArguments),
}

/// Sends the file, and those that it is a difference from, as layers of an artifact. Layers that are there already are not sent
/// again. The credentials are those that `docker login` stores.
#[derive(Debug, Args)]
#[command(after_help = PUSH_EXAMPLES)]
pub(crate) struct PushArguments {
    /// A snapshot that `ampoule prepare` has stored
    pub(crate) snapshot: PathBuf,
    /// `REGISTRY/NAME:TAG`, or `oci:DIR:TAG` for an image layout; the tag is `latest` by default
    pub(crate) reference: ampoule_oci::Reference,
    #[command(flatten)]
    pub(crate) transfer: TransferArguments,
}

/// Receives the snapshot, and those that it is a difference from into files beside it, unless they are there already. The
/// credentials are those that `docker login` stores.
#[derive(Debug, Args)]
#[command(after_help = PULL_EXAMPLES)]
pub(crate) struct PullArguments {
    /// `REGISTRY/NAME:TAG` or `REGISTRY/NAME@sha256:…`, or `oci:DIR:TAG` for an image layout; the tag is `latest` by default
    pub(crate) reference: ampoule_oci::Reference,
    /// The file to store it in, which is replaced
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// How much the files may take together; 8G by default
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) size_limit: Option<u64>,
    #[command(flatten)]
    pub(crate) transfer: TransferArguments,
}

/// What is the same in both directions.
#[derive(Debug, Args)]
pub(crate) struct TransferArguments {
    /// Speaks HTTP without TLS, as a registry on this machine does
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// Writes JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

const PUSH_EXAMPLES: &str = "\
Examples:
  ampoule push python.snap registry.example/workers/python:1
  ampoule push --plain-http python.snap localhost:5000/python
  ampoule push python.snap oci:layout:1

Whoever can pull the snapshot can read the memory of the program.";

const PULL_EXAMPLES: &str = "\
Examples:
  ampoule pull registry.example/workers/python:1 -o python.snap
  ampoule pull registry.example/workers/python@sha256:6ae1… -o python.snap
  ampoule pull oci:layout:1 -o python.snap
  ampoule run --libs python.snap < request";
