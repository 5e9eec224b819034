//! Function records that are malformed or contradict each other.

use super::builder::*;
use super::*;

#[test]
fn a_record_has_a_possible_size() {
    for (size, left) in [(0, 48), (24, 48), (33, 48), (56, 48), (u32::MAX, 48)] {
        let mut record = greet();
        record.size = size;
        assert_eq!(record_refusal(record), format!("its size {size} is not a multiple of 8 from 32 to {left}"));
    }
}

#[test]
fn a_section_ends_with_a_whole_record() {
    for left in [1, 8, 24, 31] {
        let records = [with_abi(&[]), vec![0; left]].concat();
        assert_eq!(
            refusal(&ElfFile::fixed(records)),
            format!(
                "has a malformed function record at offset 0x20 of `ampoule_fns`: \
                 only {left} bytes are left for it"
            )
        );
    }
}

#[test]
fn a_record_may_have_more_padding_than_it_needs() {
    let mut record = greet();
    record.size += 16;
    record.text.extend([0; 16]);
    let file = ElfFile::fixed(with_abi(&[record, Record::export("next", "fn()")]));
    let image = Image::from_bytes(file.bytes()).expect("the image is good");
    let next = image.export("next").expect("it is exported");
    assert_eq!(next.number(), 32 + 64);
}

#[test]
fn the_fields_of_a_record_are_checked() {
    let cases: [(Change<Record>, &str); 10] = [
        (|record| record.kind = 0, "its kind 0 is unknown"),
        (|record| record.kind = 4, "its kind 4 is unknown"),
        (|record| record.reserved = 5, "its reserved field is 5, not 0"),
        (|record| (record.kind, record.value) = (3, 16), "it is an import with the value 0x10, not 0"),
        (|record| record.name_len = 0, "its name has 0 bytes, not 1 to 255"),
        (|record| record.name_len = 256, "its name has 256 bytes, not 1 to 255"),
        (|record| record.signature_len = 4097, "its signature has 4097 bytes, more than 4096"),
        (|record| record.signature_len = 20, "its name and signature have 25 bytes and 24 have space"),
        (|record| record.text[23] = 1, "its padding is not zero"),
        (|record| record.signature_len -= 1, "its padding is not zero"),
    ];
    for (change, problem) in cases {
        let mut record = greet();
        change(&mut record);
        assert_eq!(record_refusal(record), problem);
    }
}

#[test]
fn the_abi_record_has_no_text() {
    let mut with_name = Record::abi(1, 0);
    with_name.name_len = 1;
    let mut with_signature = Record::abi(1, 0);
    with_signature.signature_len = 1;
    let mut with_padding = Record::abi(1, 0);
    with_padding.text[7] = 1;
    for (record, problem) in [
        (with_name, "it gives the ABI version and has a name or a signature"),
        (with_signature, "it gives the ABI version and has a name or a signature"),
        (with_padding, "its padding is not zero"),
    ] {
        let file = ElfFile::fixed(section(&[record]));
        assert_eq!(
            refusal(&file),
            format!("has a malformed function record at offset 0x0 of `ampoule_fns`: {problem}")
        );
    }
}

#[test]
fn names_and_signatures_are_text() {
    let record = |name, signature| Record::new(2, 0, name, signature);
    assert_eq!(record_refusal(record(b"gr\xffet", b"fn()")), "its name is not UTF-8");
    assert_eq!(record_refusal(record(b"greet", b"fn(\xff)")), "its signature is not UTF-8");
}

#[test]
fn names_have_no_characters_that_hide_or_play_with_the_text_around_them() {
    for character in NOT_PRINTABLE {
        let name = format!("gr{character}et");
        assert_eq!(
            record_refusal(Record::export(&name, "fn()")),
            format!("its name has the character '{}', which does not show what it is", character.escape_unicode())
        );
    }
    for name in ["grüßen", "挨拶", "greet you"] {
        assert!(Image::from_bytes(ElfFile::fixed(with_abi(&[Record::export(name, "fn()")])).bytes()).is_ok(), "{name}");
    }
}

#[test]
fn signatures_have_no_characters_that_hide_or_play_with_the_text_around_them() {
    for character in NOT_PRINTABLE.into_iter().filter(|character| !character.is_ascii_whitespace()) {
        let shown = character.escape_unicode();
        let file = ElfFile::fixed(with_abi(&[Record::export("greet", &format!("fn(Na{character}me)"))]));
        let error = Image::from_bytes(file.bytes()).expect_err("the signature is bad");
        assert_eq!(
            error.problem().to_string(),
            format!(
                "has the function `greet` with a malformed signature `fn(Na{shown}me)`: unexpected character '{shown}' at byte 5"
            )
        );
    }
}

#[test]
fn a_signature_that_cannot_be_read_is_shown_without_its_line_ends() {
    let file = ElfFile::fixed(with_abi(&[Record::export("greet", "fn(\n\t&str")]));
    let error = Image::from_bytes(file.bytes()).expect_err("the signature is bad");
    assert_eq!(
        error.problem().to_string(),
        "has the function `greet` with a malformed signature `fn(\\n\\t&str`: expected `,` or `)`, found the end of the text"
    );
}

#[test]
fn a_signature_that_cannot_be_read_is_shown() {
    let file = ElfFile::fixed(with_abi(&[Record::export("greet", "fn(&str")]));
    let error = Image::from_bytes(file.bytes()).expect_err("the signature is bad");
    assert_eq!(
        error.problem().to_string(),
        "has the function `greet` with a malformed signature `fn(&str`: expected `,` or `)`, found the end of the text"
    );
}

#[test]
fn exactly_one_record_gives_the_abi_version() {
    let none = ElfFile::fixed(section(&[greet()]));
    assert_eq!(
        refusal(&none),
        "does not say which guest ABI it was built for; call `ampoule_guest::main!()` in its crate root"
    );
    let empty = ElfFile::fixed(Vec::new());
    assert_eq!(refusal(&empty), refusal(&none));

    let two = ElfFile::fixed(with_abi(&[greet(), Record::abi(1, 0)]));
    assert_eq!(
        refusal(&two),
        "says twice which guest ABI it was built for; \
         call `ampoule_guest::main!()` once, and link ampoule-guest once"
    );
}

#[test]
fn the_abi_record_may_stand_anywhere() {
    let file = ElfFile::fixed(section(&[greet(), Record::abi(1, 0)]));
    let image = Image::from_bytes(file.bytes()).expect("the image is good");
    let greet = image.export("greet").expect("it is exported");
    assert_eq!(greet.number(), 0);
}

#[test]
fn versions_that_the_host_does_not_speak_are_refused() {
    let AbiVersion { major, minor } = AbiVersion::HOST;
    for (image_major, image_minor) in [(0, 0), (major + 1, 0), (major, minor + 1)] {
        // Records of kinds that a later version may have do not hide that the version is the reason.
        let mut later = greet();
        later.kind = 9;
        let records = section(&[later, Record::abi(image_major, image_minor)]);
        assert_eq!(
            refusal(&ElfFile::fixed(records)),
            format!(
                "was built for guest ABI {image_major}.{image_minor}, this host runs {major}.{minor}; \
                 build guest and host with the same version of Ampoule"
            )
        );
    }
}

#[test]
fn a_host_runs_older_minor_versions_of_its_major_version() {
    let version = |major, minor| AbiVersion { major, minor };
    assert!(version(2, 0).runs_on(version(2, 3)));
    assert!(version(2, 3).runs_on(version(2, 3)));
    assert!(!version(2, 4).runs_on(version(2, 3)));
    assert!(!version(1, 0).runs_on(version(2, 3)));
    assert!(!version(3, 0).runs_on(version(2, 3)));
}

#[test]
fn two_exports_have_two_names() {
    let records = with_abi(&[greet(), Record::export("greet", "fn()")]);
    assert_eq!(refusal(&ElfFile::fixed(records)), "exports two functions `greet`; rename one");
}

#[test]
fn an_import_may_be_repeated_with_the_same_types() {
    let records = with_abi(&[
        Record::import("log", "fn(&str)"),
        Record::import("log", "fn(String) -> ()"),
        Record::export("log", "fn(u8)"),
    ]);
    let image = Image::from_bytes(ElfFile::fixed(records).bytes()).expect("the image is good");

    let imports: Vec<(&str, u32)> = image.imports().map(|import| (import.name(), import.number())).collect();
    assert_eq!(imports, [("log", 32), ("log", 72)]);
}

#[test]
fn an_import_is_not_repeated_with_other_types() {
    let records = with_abi(&[Record::import("log", "fn(&str)"), Record::import("log", "fn(u32) -> bool")]);
    assert_eq!(refusal(&ElfFile::fixed(records)), "imports the function `log` both as (&str) and as (u32) -> bool");
}

#[test]
fn the_number_of_records_is_bounded() {
    let imports = |count| {
        let records = vec![Record::import("f", "fn()"); count];
        ElfFile::fixed(with_abi(&records))
    };
    assert!(Image::from_bytes(imports(4095).bytes()).is_ok());
    assert_eq!(refusal(&imports(4096)), "has more than 4096 function records");
}

/// 48 bytes, the last of which is padding.
fn greet() -> Record {
    Record::export("greet", "fn(&str) -> String")
}

/// What a record is refused for that stands behind the ABI record.
fn record_refusal(record: Record) -> String {
    let file = ElfFile::fixed(with_abi(&[record]));
    let error = Image::from_bytes(file.bytes()).expect_err("the record is bad");
    match error.problem() {
        ImageProblem::Record { offset: 32, problem } => problem.to_string(),
        other => panic!("{other}"),
    }
}

/// Control characters, marks that change the direction of text, ends of lines, and characters that are not seen.
const NOT_PRINTABLE: [char; 16] = [
    '\u{1b}',
    '\u{7f}',
    '\u{85}',
    '\u{ad}',
    '\u{61c}',
    '\u{200b}',
    '\u{200d}',
    '\u{200f}',
    '\u{2028}',
    '\u{202e}',
    '\u{2066}',
    '\u{3164}',
    '\u{fe0f}',
    '\u{feff}',
    '\u{fff9}',
    '\u{e0041}',
];
