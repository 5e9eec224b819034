//! The smallest complete program: the guest greets, and asks the host for the day of the week.
//!
//! ```text
//! cargo run --release --example hello
//! ```

use std::error::Error;

use ampoule::{Image, Sandbox};

fn main() -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("hello"))?;
    let mut sandbox = Sandbox::builder(&image).host_fn("weekday", || "Monday".to_string()).build()?;

    let greeting: String = sandbox.call("greet", ("World",))?;
    println!("{greeting}");
    Ok(())
}
