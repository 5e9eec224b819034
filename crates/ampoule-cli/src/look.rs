//! What shows what a guest does, of `ampoule call`, `run` and `prepare`.

use std::fs::File;
use std::path::PathBuf;

use ampoule::{
    Builder, CoreDumps, DebuggerAddress, Frequency, GdbServer, Profile, Program, ProgramSpawn, Spawn, Trace,
};
use clap::{Args, ValueHint};

use crate::failure::{Failure, Status};
use crate::profile::{self, Form};
use crate::text::GuestText;

/// The options.
#[derive(Debug, Args)]
#[command(next_help_heading = "Seeing inside")]
pub(crate) struct Look {
    /// Holds the guest before its first instruction until gdb attaches here: `unix:PATH`, `tcp:PORT` or `tcp:ADDRESS:PORT`
    #[arg(long, value_name = "ADDRESS")]
    gdb: Option<DebuggerAddress>,
    /// Writes each system call, host call and end of the guest as `strace` would, to standard error or to this file
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, value_hint = ValueHint::FilePath)]
    trace: Option<Option<PathBuf>>,
    /// Writes a core dump to this directory when the guest ends by a fault or a limit
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    core_dir: Option<PathBuf>,
    /// Samples the guest from its start on, and writes the profile to this file: a flame graph for `.svg`, pprof's format for
    /// `.pb`, folded stacks otherwise
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    profile: Option<PathBuf>,
}

impl Look {
    /// Has a guest or a program traced, debugged and dumped as asked for.
    pub(crate) fn apply<W: Watched>(&self, mut watched: W) -> Result<W, Failure> {
        if let Some(trace) = self.trace()? {
            watched = watched.trace(trace);
        }
        if let Some(server) = self.gdb()? {
            watched = watched.gdb(server);
        }
        if let Some(directory) = &self.core_dir {
            watched = watched.core_dumps(CoreDumps::to_dir(directory));
        }
        Ok(watched)
    }

    /// Listens for gdb, if it is to attach, and says so.
    fn gdb(&self) -> Result<Option<GdbServer>, Failure> {
        let Some(address) = &self.gdb else { return Ok(None) };
        let server = GdbServer::listen(address).map_err(|error| Failure::new(Status::Host, error))?;
        eprintln!("ampoule: waiting for gdb, `target remote {}`", target_remote(server.address()));
        Ok(Some(server))
    }

    /// How often the guest is sampled, if it is.
    pub(crate) fn frequency(&self) -> Option<Frequency> {
        self.profile.as_ref().map(|_| Frequency::default())
    }

    /// Writes what was sampled, in the form that the file's name asks for.
    pub(crate) fn write_profile(&self, profile: Option<&Profile>) -> Result<(), Failure> {
        let (Some(path), Some(profile)) = (&self.profile, profile) else { return Ok(()) };
        profile::write(path, |form, file| match form {
            Form::FlameGraph => profile.flame_graph(file),
            Form::Pprof => profile.pprof(file),
            Form::Folded => profile.folded(file),
        })
    }

    /// Where the trace goes, if there is to be one.
    fn trace(&self) -> Result<Option<Trace>, Failure> {
        match &self.trace {
            None => Ok(None),
            Some(None) => Ok(Some(Trace::writer(GuestText::stderr()))),
            Some(Some(path)) => match File::create(path) {
                Ok(file) => Ok(Some(Trace::writer(file))),
                Err(reason) => Err(Failure::new(Status::Host, format!("{}: {reason}", path.display()))),
            },
        }
    }
}

/// How gdb writes an address.
fn target_remote(address: &DebuggerAddress) -> String {
    let text = address.to_string();
    text.strip_prefix("unix:").or(text.strip_prefix("tcp:")).unwrap_or(&text).to_owned()
}

/// Settings of a guest or a program that is about to start, or to go on.
pub(crate) trait Watched: Sized {
    fn trace(self, trace: Trace) -> Self;
    fn gdb(self, server: GdbServer) -> Self;
    fn core_dumps(self, dumps: CoreDumps) -> Self;
}

macro_rules! watched {
    ($($settings:ident),*) => {$(
        impl Watched for $settings {
            fn trace(self, trace: Trace) -> Self {
                $settings::trace(self, trace)
            }

            fn gdb(self, server: GdbServer) -> Self {
                $settings::gdb(self, server)
            }

            fn core_dumps(self, dumps: CoreDumps) -> Self {
                $settings::core_dumps(self, dumps)
            }
        }
    )*};
}

watched!(Builder, Spawn, Program, ProgramSpawn);
