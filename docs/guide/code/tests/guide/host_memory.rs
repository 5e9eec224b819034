//! What `docs/guide/pages/host-memory.md` shows.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;

use ampoule::{Call, Files, Image, MapAccess, Program, Sandbox};

#[test]
fn a_file_and_a_slice_are_read_in_place() -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("dictionary"))?;
    let mut sandbox = Sandbox::builder(&image).build()?;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lines.txt");
    fs::write(&path, "a\nb\nc\n")?;

    let text = File::open(path)?;
    let mapping = sandbox.map_file(&text, .., None, MapAccess::Read)?;
    let lines: u64 = sandbox.call("count_lines", (mapping.bytes(),))?;
    let first: u64 = sandbox.call("count_lines", (mapping.part(..4).expect("the file is longer"),))?;
    sandbox.unmap(&mapping)?;
    assert_eq!((lines, first), (3, 2));

    let text = "one\ntwo\n".repeat(300_000);
    let lines: u64 = sandbox.call_lending([text.as_bytes()], |[text]| Call::new("count_lines", (text,)))?;
    assert_eq!(lines, 600_000);
    Ok(())
}

#[test]
fn a_program_finds_a_file_by_its_name() -> Result<(), Box<dyn Error>> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("named.txt");
    fs::write(&path, "a\nb\nc\n")?;

    let text = File::open(path)?;
    let program = Program::new("/usr/bin/wc").files(Files::libraries()).args(["-l", "/dev/ampoule/text"]);
    let output = program.map_file(&text, .., "text", MapAccess::Read).run()?;
    assert_eq!(output.stdout, b"3 /dev/ampoule/text\n");
    Ok(())
}
