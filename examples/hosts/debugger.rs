//! A guest under gdb: waits for the debugger, then has the guest greet.
//!
//! ```text
//! cargo run --example debugger -- unix:guest.sock
//! gdb -ex 'target remote guest.sock'                 # in another terminal, in the same directory
//! ```

use std::error::Error;

use ampoule::{GdbServer, Image, Sandbox};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: debugger unix:PATH|tcp:PORT")?;
    let server = GdbServer::listen(&address.parse()?)?;
    println!("the guest waits for gdb at {}", server.address());

    let image = Image::embedded(ampoule::include_guest!("hello"))?;
    let mut sandbox = Sandbox::builder(&image).host_fn("weekday", || "Monday".to_string()).gdb(server).build()?;
    let greeting: String = sandbox.call("greet", ("World",))?;
    println!("{greeting}");
    Ok(())
}
