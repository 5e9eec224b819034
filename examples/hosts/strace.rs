//! Shows what a guest asks of its host, from its first instruction on: system calls, host calls, and its end.
//!
//! ```text
//! cargo run --release --example strace
//! ```

use std::error::Error;

use ampoule::{Image, Sandbox, Trace};

fn main() -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("hello"))?;
    let trace = Trace::writer(std::io::stderr());
    let mut sandbox = Sandbox::builder(&image).host_fn("weekday", || "Monday".to_string()).trace(trace).build()?;

    let greeting: String = sandbox.call("greet", ("World",))?;
    println!("{greeting}");
    Ok(())
}
