//! Calls a guest that does not come to an end, and leaves a core dump of it, as `docs/core-dumps.md` shows.
//!
//! ```text
//! cargo run --example search -- /tmp
//! ```

use std::env;
use std::error::Error;
use std::time::Duration;

use ampoule::{CallError, CoreDumps, Image, Limits, Sandbox};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::args_os().nth(1).unwrap_or_else(|| env::temp_dir().into());
    let image = Image::from_file(env!("AMPOULE_GUEST_search"))?;
    let mut sandbox = Sandbox::builder(&image)
        .core_dumps(CoreDumps::to_dir(directory))
        .limits(Limits::new().deadline(Duration::from_secs(1)))
        .build()?;
    let primes = [2_u64, 3, 5, 7, 11, 13];
    println!("7 is number {:?}", sandbox.call::<Option<u64>>("position", (&primes[..], 7_u64))?);
    match sandbox.call::<Option<u64>>("position", (&primes[..], 6_u64)) {
        Ok(found) => println!("6 is number {found:?}"),
        Err(error) => {
            println!("{error}");
            if let CallError::Terminated { core_dump: Some(core_dump), .. } = &error
                && let Ok(path) = core_dump.path()
            {
                println!("gdb {} {}", image.name(), path.display());
            }
        }
    }
    Ok(())
}
