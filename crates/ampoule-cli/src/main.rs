//! The program `ampoule`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ampoule_cli::main()
}
