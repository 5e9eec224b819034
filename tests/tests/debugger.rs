//! A debugger at a live guest: gdb itself, as its users run it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use ampoule::{DebuggerAddress, GdbServer, Image, Output, Sandbox};

#[test]
fn first() {
    let image = Image::embedded(ampoule::include_guest!("debugger-pie")).unwrap();
    let path = PathBuf::from(format!("/tmp/dbg-{}.sock", std::process::id()));
    let server = GdbServer::listen(&DebuggerAddress::Unix(path.clone())).unwrap();
    let gdb = thread::spawn(move || {
        Command::new("gdb")
            .args(["-nx", "-batch", "-ex", &format!("target remote {}", path.display())])
            .args(std::env::var("GDB_EX").unwrap_or_default().split(';').flat_map(|x| ["-ex", x]).collect::<Vec<_>>())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    });
    let mut sandbox = Sandbox::builder(&image).stdout(Output::discard()).gdb(server).build().unwrap();
    let r = sandbox.call::<u64>("total", (4u64,));
    eprintln!("result {r:?}");
    drop(sandbox);
    let out = gdb.join().unwrap();
    eprintln!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}
