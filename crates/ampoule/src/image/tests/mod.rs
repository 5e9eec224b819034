//! What a good image gives, and what each bad one is refused for.

mod builder;
mod headers;
mod hostile;
mod records;
mod segments;

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use ampoule_vmm::GuestVirt;
use ampoule_vmm::address_map::{USER_END, USER_START};

use builder::{BASE, CODE, DATA, ElfFile, FUNCTIONS, Record, with_abi};

use super::executable::ProgramHeaders;
use super::source::MAX_FILE_SIZE;
use super::*;

#[test]
fn a_fixed_image_is_read() {
    let image = Image::from_bytes(fixed().bytes()).expect("the image is good");

    let executable = image.executable();
    assert_eq!(executable.bias(), 0);
    assert_eq!(executable.entry(), GuestVirt(BASE + CODE));
    let program_headers = ProgramHeaders { address: GuestVirt(BASE + 64), count: 3, entry_size: 56 };
    assert_eq!(executable.program_headers(), Some(program_headers));
    assert_eq!(image.abi_version(), AbiVersion { major: 1, minor: 0 });
}

#[test]
fn a_static_pie_has_the_addresses_where_it_is_loaded() {
    let file = ElfFile::position_independent(functions());
    let image = Image::from_bytes(file.bytes()).expect("the image is good");

    let executable = image.executable();
    assert_eq!(executable.bias(), 0x40_0000);
    assert_eq!(executable.entry(), GuestVirt(0x40_0000 + CODE));
    let addresses: Vec<GuestVirt> = executable.segments().map(|segment| segment.address()).collect();
    assert_eq!(addresses, [GuestVirt(0x40_0000), GuestVirt(0x40_0000 + DATA)]);
    assert_eq!(executable.program_headers().map(|table| table.address), Some(GuestVirt(0x40_0000 + 64)));
}

#[test]
fn an_executable_need_not_list_functions() {
    let mut file = fixed();
    file.sections.clear();
    let executable = Executable::check("plain".into(), file.bytes().into()).expect("it can be loaded and run");
    assert_eq!(executable.entry(), GuestVirt(BASE + CODE));
    assert_eq!(executable.segments().len(), 2);

    assert!(Image::from_bytes(file.bytes()).is_err(), "nothing in it can be called");
}

#[test]
fn a_program_that_is_executed_again_under_its_name_is_not_read_again() {
    // It is no file that was written a moment ago.
    let check = |name: &str| {
        let (bytes, file) = read_program(Path::new("/usr/bin/env")).unwrap();
        Executable::check_program(name.into(), bytes, file.as_deref()).unwrap()
    };
    let first = check("env");
    assert!(check("env").is(&first));
    assert!(first.file() == fs::read("/usr/bin/env").unwrap());
    let renamed = check("renamed");
    assert!(!renamed.is(&first) && renamed.name() == "renamed");

    let (bytes, file) = read_program(Path::new("/usr/bin/env")).unwrap();
    let interpreter = Executable::check_interpreter("env".into(), bytes, file.as_deref());
    assert!(!interpreter.is_ok_and(|interpreter| interpreter.is(&first)));
}

#[test]
fn an_executable_that_cannot_be_run_is_refused_by_name() {
    let mut file = fixed();
    file.entry = 0;
    let error = Executable::check("plain".into(), file.bytes().into()).expect_err("it has no entry");
    assert_eq!(error.to_string(), "guest image `plain` starts at 0x0, which is not in an executable segment");
}

#[test]
fn segments_have_their_bytes_and_permissions() {
    let bytes = fixed().bytes();
    let image = Image::from_bytes(bytes.clone()).expect("the image is good");
    let segments: Vec<Segment<'_>> = image.executable().segments().collect();
    let [code, data] = segments[..] else {
        panic!("two segments, not {}", segments.len());
    };

    assert_eq!(code.address(), GuestVirt(BASE));
    assert_eq!(code.memory_size(), DATA);
    assert_eq!(code.bytes(), &bytes[..DATA as usize]);
    assert_eq!(code.permissions(), Permissions { read: true, write: false, execute: true });

    assert_eq!(data.address(), GuestVirt(BASE + DATA));
    assert_eq!(data.bytes(), &bytes[DATA as usize..][..data.bytes().len()]);
    assert_eq!(data.memory_size(), data.bytes().len() as u64 + 0x3000);
    assert_eq!(data.permissions(), Permissions { read: true, write: true, execute: false });
}

#[test]
fn functions_are_found_by_name_and_by_number() {
    let image = Image::from_bytes(fixed().bytes()).expect("the image is good");

    let greet = image.export("greet").expect("it is exported");
    assert_eq!(greet.number(), 32, "behind the ABI record");
    assert_eq!(greet.signature().to_string(), "(&str) -> String");
    let position = image.export_position(32).expect("it is exported");
    assert_eq!(image.export_at(position).name(), "greet");

    let names: Vec<&str> = image.exports().map(Function::name).collect();
    assert_eq!(names, ["greet", "größe"]);
    let names: Vec<&str> = image.imports().map(Function::name).collect();
    assert_eq!(names, ["weekday"]);

    assert!(image.export("weekday").is_none());
    assert!(image.export_position(33).is_none());
}

#[test]
fn clones_are_the_same_image() {
    let image = Image::from_bytes(fixed().bytes()).expect("the image is good");
    let read_again = Image::from_bytes(fixed().bytes()).expect("the image is good");

    assert!(image.is_same(&image.clone()));
    assert!(!image.is_same(&read_again));
}

#[test]
fn an_embedded_image_is_not_copied_and_may_lie_anywhere() {
    let mut bytes = vec![0];
    bytes.extend(fixed().bytes());
    let bytes: &'static [u8] = &bytes.leak()[1..];
    let image = Image::embedded(EmbeddedImage::new("fixed", bytes)).expect("the image is good");

    let first = image.executable().segments().next().expect("there is a segment");
    assert!(std::ptr::eq(first.bytes().as_ptr(), bytes.as_ptr()));
}

#[test]
fn an_image_is_read_from_a_file() {
    let file = TemporaryFile::new("good");
    fs::write(&file.0, fixed().bytes()).expect("the file is written");
    let image = Image::from_file(&file.0).expect("the image is good");

    assert_eq!(image.exports().len(), 2);
    assert_eq!(image.name(), file.0.to_str().expect("the path is UTF-8"));
}

#[test]
fn a_missing_file_is_reported_with_its_path_and_cause() {
    let error = Image::from_file("/nowhere/guest").expect_err("there is no such file");

    assert!(error.to_string().starts_with("guest image `/nowhere/guest` cannot be read: No such file"), "{error}");
    let ImageProblem::Read { reason } = error.problem() else { panic!("{error:?}") };
    assert_eq!(reason.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_path_cannot_play_with_the_terminal_that_shows_it() {
    let error = Image::from_file("/nowhere/\x1b[2J\n\u{202e}guest").expect_err("there is no such file");

    let text = error.to_string();
    assert!(text.starts_with("guest image `/nowhere/\\u{1b}[2J\\n\\u{202e}guest` cannot be read: "), "{text}");
    assert_eq!(error.name(), "/nowhere/\x1b[2J\n\u{202e}guest");
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    for path in ["/", "/dev/null"] {
        let error = Image::from_file(path).expect_err("it is no regular file");
        assert_eq!(error.to_string(), format!("guest image `{path}` is not a regular file"));
    }
}

#[test]
fn a_file_beyond_the_limit_is_refused() {
    let file = TemporaryFile::new("large");
    File::create(&file.0).and_then(|file| file.set_len(MAX_FILE_SIZE + 1)).expect("the file is created");
    let error = Image::from_file(&file.0).expect_err("the file is too large");

    assert!(matches!(error.problem(), ImageProblem::TooLarge { limit: MAX_FILE_SIZE }));
}

#[test]
fn messages_name_where_the_image_came_from() {
    let file = TemporaryFile::new("text");
    fs::write(&file.0, "#!/bin/sh").expect("the file is written");
    let text = "is not an ELF file; a guest is a static Linux executable";

    let embedded = EmbeddedImage::new("hello", b"#!/bin/sh");
    let errors = [Image::from_file(&file.0), Image::embedded(embedded), Image::from_bytes(b"#!/bin/sh")]
        .map(|result| result.expect_err("it is no image").to_string());
    assert_eq!(
        errors,
        [
            format!("guest image `{}` {text}", file.0.display()),
            format!("guest image `hello` {text}"),
            format!("guest image `in memory` {text}"),
        ]
    );
}

/// An image for tests of what holds one.
pub(crate) fn image() -> Image {
    Image::from_bytes(fixed().bytes()).expect("the image is good")
}

/// A good image at fixed addresses.
fn fixed() -> ElfFile {
    ElfFile::fixed(functions())
}

fn functions() -> Vec<u8> {
    with_abi(&[
        Record::export("greet", "fn(&str) -> String"),
        Record::import("weekday", "fn() -> String"),
        Record::export("größe", "fn()"),
    ])
}

/// What the file is refused for.
fn refusal(file: &ElfFile) -> String {
    refusal_of(file.bytes())
}

fn refusal_of(bytes: Vec<u8>) -> String {
    let error = Image::from_bytes(bytes).expect_err("the image is bad");
    error.problem().to_string()
}

/// What makes a part of a good image bad.
type Change<T> = fn(&mut T);

struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str) -> Self {
        let name = format!("ampoule-image-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
