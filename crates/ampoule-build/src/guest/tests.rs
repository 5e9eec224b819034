use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Object, elf};

use super::*;
use crate::testing::TestDir;

#[test]
fn an_image_is_a_static_pie_without_a_writable_code_segment() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write("guest/src/main.rs", "fn main() {}");
    let artifacts = build(&dir, guest("../guest")).0.unwrap();

    let [artifact] = artifacts.as_slice() else { panic!("{artifacts:?}") };
    assert_eq!(artifact.name(), "guest");
    assert_eq!(artifact.path(), dir.path().join("out/ampoule/guest"));
    assert_is_guest_image(&fs::read(artifact.path()).unwrap());
}

#[test]
fn an_image_of_the_system_linker_is_one_as_well() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write("guest/src/main.rs", "fn main() {}");
    let artifacts = build(&dir, guest("../guest").rustflag("-Clinker-features=-lld")).0.unwrap();
    assert_is_guest_image(&fs::read(artifacts[0].path()).unwrap());
}

#[test]
fn an_image_has_line_tables_unless_its_profile_says_otherwise() {
    let has_lines = |profile: &str| {
        let dir = TestDir::new();
        guest_package(&dir, profile);
        dir.write("guest/src/main.rs", "fn main() {}");
        let artifacts = build(&dir, guest("../guest")).0.unwrap();
        let image = fs::read(artifacts[0].path()).unwrap();
        ElfFile64::<object::Endianness>::parse(&*image).unwrap().section_by_name(".debug_line").is_some()
    };
    assert!(has_lines(""));
    assert!(!has_lines("[profile.release]\ndebug = false\n"));
}

#[test]
fn every_file_that_the_guest_is_made_from_is_an_input() {
    let dir = TestDir::new();
    guest_package(&dir, "[dependencies]\npart = { path = \"../part\" }\n");
    dir.write("guest/src/main.rs", "fn main() { part::run(include_str!(\"../data file.txt\")) }");
    dir.write("guest/data file.txt", "");
    dir.write("guest/.cargo/config.toml", "");
    package(&dir, "part", "");
    dir.write("part/src/lib.rs", "pub fn run(_: &str) {}");
    dir.write("part/build.rs", "fn main() { println!(\"cargo:rerun-if-changed=table.txt\") }");
    dir.write("part/table.txt", "");
    dir.write("part/notes.txt", "");

    let (result, inputs) = build(&dir, guest("../guest"));
    result.unwrap();
    let expected = [
        "guest/.cargo/config.toml",
        "guest/Cargo.lock",
        "guest/Cargo.toml",
        "guest/data file.txt",
        "guest/src/main.rs",
        "part/Cargo.toml",
        "part/src/lib.rs",
        "part/table.txt",
    ];
    let missing: Vec<&str> = expected.into_iter().filter(|file| !inputs.contains(*file)).collect();
    assert!(missing.is_empty(), "{missing:?} of {inputs:?}");
    assert!(!inputs.contains("part/notes.txt"), "{inputs:?}");
}

#[test]
fn a_build_script_that_names_no_inputs_may_read_all_of_its_package() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write("guest/src/main.rs", "fn main() {}");
    dir.write("guest/build.rs", "fn main() {}");
    dir.write("guest/schema/messages.txt", "");
    let (result, inputs) = build(&dir, guest("../guest"));
    result.unwrap();
    assert!(inputs.contains("guest/schema"), "{inputs:?}");
    assert!(inputs.contains("guest/build.rs"), "{inputs:?}");
}

#[test]
fn a_guest_that_does_not_compile_is_told_apart_and_its_sources_are_inputs() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write("guest/src/main.rs", "fn main() { missing() }");
    let (result, inputs) = build(&dir, guest("../guest"));
    assert!(
        matches!(result, Err(BuildError::Compile { ref package, lacks_guest_library: false }) if package == "guest")
    );
    assert!(inputs.contains("guest/src"), "{inputs:?}");
}

#[test]
fn every_binary_is_built_unless_some_are_named() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write("guest/src/bin/one.rs", "fn main() {}");
    dir.write("guest/src/bin/two-b.rs", "fn main() {}");
    assert_eq!(names(&build(&dir, guest("../guest")).0.unwrap()), ["one", "two-b"]);
    assert_eq!(names(&build(&dir, guest("../guest").bin("two-b")).0.unwrap()), ["two-b"]);
}

#[test]
fn an_unknown_binary_is_answered_with_those_that_there_are() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write("guest/src/bin/one.rs", "fn main() {}");
    match build(&dir, guest("../guest").bin("on")).0 {
        Err(BuildError::UnknownBinary { bin, available, .. }) => {
            assert_eq!((bin.as_str(), available.as_slice()), ("on", ["one".to_owned()].as_slice()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn features_profile_and_variables_reach_the_guest() {
    let dir = TestDir::new();
    guest_package(
        &dir,
        "[features]\ndefault = [\"plain\"]\nplain = []\nfast = []\n\
         [[bin]]\nname = \"guest\"\nrequired-features = [\"fast\"]\n\
         [profile.checked]\ninherits = \"release\"\ndebug-assertions = true\n",
    );
    dir.write(
        "guest/src/main.rs",
        "const _: () = assert!(cfg!(not(feature = \"plain\")) && cfg!(debug_assertions));\n\
         fn main() { println!(env!(\"GREETING\")) }",
    );
    let incomplete = build(&dir, guest("../guest")).0;
    assert!(matches!(incomplete, Err(BuildError::MissingFeatures { .. })), "{incomplete:?}");

    let complete =
        guest("../guest").no_default_features().features(["fast"]).profile("checked").env("GREETING", "good morning");
    let artifacts = build(&dir, complete).0.unwrap();
    let image = fs::read(artifacts[0].path()).unwrap();
    assert!(image.windows(12).any(|bytes| bytes == b"good morning"));
}

#[test]
fn the_flags_do_not_reach_build_scripts() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write(
        "guest/src/main.rs",
        "#![allow(unexpected_cfgs)] #[cfg(not(marked))] compile_error!(\"flag lost\"); fn main() {}",
    );
    dir.write(
        "guest/build.rs",
        "#![allow(unexpected_cfgs)] #[cfg(marked)] compile_error!(\"flag leaked\"); fn main() {}",
    );
    build(&dir, guest("../guest").rustflag("--cfg=marked")).0.unwrap();
}

#[test]
fn a_package_without_a_binary_is_no_guest() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write("guest/src/lib.rs", "");
    let result = build(&dir, guest("../guest")).0;
    assert!(matches!(result, Err(BuildError::NoBinary { ref package }) if package == "guest"), "{result:?}");
}

#[test]
fn a_workspace_is_no_guest() {
    let dir = TestDir::new();
    dir.write("guest/Cargo.toml", "[workspace]\n");
    let result = build(&dir, guest("../guest")).0;
    assert!(matches!(result, Err(BuildError::NotAPackage { .. })), "{result:?}");
}

#[test]
fn a_missing_package_is_named() {
    let dir = TestDir::new();
    let error = build(&dir, guest("../guset")).0.unwrap_err();
    assert!(error.to_string().contains("guset/Cargo.toml"), "{error}");
    assert!(matches!(error, BuildError::GuestNotFound { .. }));
}

#[test]
fn what_cargo_refuses_is_not_blamed_on_the_compiler() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write("guest/src/main.rs", "fn main() {}");
    let result = build(&dir, guest("../guest").features(["no-such-feature"])).0;
    assert!(matches!(result, Err(BuildError::Cargo { .. })), "{result:?}");
}

#[test]
fn a_locked_guest_needs_its_lock_file() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write("guest/src/main.rs", "fn main() {}");
    let result = build(&dir, guest("../guest").locked()).0;
    assert!(matches!(result, Err(BuildError::Cargo { .. })), "{result:?}");
    assert!(!dir.path().join("guest/Cargo.lock").exists());
}

#[test]
fn an_image_that_did_not_change_keeps_its_time() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write("guest/src/main.rs", "fn main() {}");
    let artifacts = build(&dir, guest("../guest")).0.unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(artifacts[0].path()).unwrap().set_modified(long_ago).unwrap();

    build(&dir, guest("../guest")).0.unwrap();
    assert_eq!(fs::metadata(artifacts[0].path()).unwrap().modified().unwrap(), long_ago);
}

#[test]
fn on_docs_rs_the_images_are_empty() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write("guest/src/main.rs", "fn main() { missing() }");
    let script = BuildScript { docs_rs: true, ..dir.build_script() };
    let artifacts = guest("../guest").build_in(&script, &mut Inputs::default()).unwrap();
    assert_eq!(names(&artifacts), ["guest"]);
    assert_eq!(fs::metadata(artifacts[0].path()).unwrap().len(), 0);
}

#[test]
fn a_program_without_the_guest_library_is_no_guest_and_its_manifest_is_named() {
    let dir = TestDir::new();
    package(&dir, "guest", "");
    dir.write("guest/src/main.rs", "fn main() {}");
    let error = build(&dir, guest("../guest")).0.unwrap_err();
    let manifest = dir.path().join("guest/Cargo.toml");
    let remedy = format!("cargo add ampoule-guest --manifest-path '{}'", manifest.display());
    assert!(error.to_string().contains(&remedy), "{error}");
    assert!(matches!(error, BuildError::NoGuestLibrary { manifest: named } if named == manifest));
}

#[test]
fn a_guest_may_have_the_guest_library_through_another_crate() {
    let dir = TestDir::new();
    guest_library(&dir);
    package(&dir, "kit", GUEST_LIBRARY);
    dir.write("kit/src/lib.rs", "");
    package(&dir, "guest", "[dependencies]\nkit = { path = \"../kit\" }\n");
    dir.write("guest/src/main.rs", "fn main() {}");
    build(&dir, guest("../guest")).0.unwrap();
}

#[test]
fn a_guest_that_does_not_compile_without_the_guest_library_is_told_to_add_it() {
    let dir = TestDir::new();
    package(&dir, "guest", "");
    dir.write("guest/src/main.rs", "ampoule_guest::main!();");
    let error = build(&dir, guest("../guest")).0.unwrap_err();
    assert!(error.to_string().ends_with("lacks `ampoule-guest`, which `cargo add ampoule-guest` adds"), "{error}");
    assert!(matches!(error, BuildError::Compile { lacks_guest_library: true, .. }));
}

#[test]
fn where_the_package_is_missing_its_images_are_taken() {
    let dir = TestDir::new();
    dir.write("host/guests/one", "1");
    dir.write("host/guests/two", "2");
    let shipped = || guest("../guest").or_prebuilt("guests");
    let (all, inputs) = build(&dir, shipped());
    assert_eq!(names(all.as_ref().unwrap()), ["one", "two"]);
    assert_eq!(fs::read(all.unwrap()[1].path()).unwrap(), b"2");
    assert!(inputs.contains("host/guests") && inputs.contains("host/guests/one"), "{inputs:?}");
    assert_eq!(names(&build(&dir, shipped().bin("two")).0.unwrap()), ["two"]);

    let missing = build(&dir, shipped().bin("three")).0;
    assert!(
        matches!(missing, Err(BuildError::Prebuilt { ref path, .. }) if path.ends_with("guests/three")),
        "{missing:?}"
    );
    let nothing = build(&dir, guest("../guest").or_prebuilt("images")).0;
    assert!(matches!(nothing, Err(BuildError::NothingPrebuilt { .. })), "{nothing:?}");
}

#[test]
fn where_the_package_is_there_it_is_built_and_can_be_saved() {
    let dir = TestDir::new();
    guest_package(&dir, "");
    dir.write("guest/src/main.rs", "fn main() {}");
    dir.write("host/guests/guest", "outdated");
    let script = BuildScript { save_guests: Some(dir.path().join("kept")), ..dir.build_script() };
    let artifacts = guest("../guest").or_prebuilt("guests").build_in(&script, &mut Inputs::default()).unwrap();
    let image = fs::read(artifacts[0].path()).unwrap();
    assert_is_guest_image(&image);
    assert!(fs::read(dir.path().join("kept/guest")).unwrap() == image, "the image was not saved");
}

#[test]
fn a_user_replaces_the_build_by_images() {
    let dir = TestDir::new();
    guest_package(
        &dir,
        "[features]\nextra = []\n[[bin]]\nname = \"two\"\nrequired-features = [\"extra\"]\n[[bin]]\nname = \"one\"\n",
    );
    dir.write("guest/src/bin/one.rs", "does not compile");
    dir.write("guest/src/bin/two.rs", "does not compile");
    dir.write("images/one", "1");
    let script = BuildScript { prebuilt_guests: Some(dir.path().join("images")), ..dir.build_script() };
    let build = |guest: Guest| guest.build_in(&script, &mut Inputs::default());
    assert_eq!(names(&build(guest("../guest")).unwrap()), ["one"]);
    let missing = build(guest("../guest").bin("two"));
    assert!(
        matches!(missing, Err(BuildError::Prebuilt { ref path, .. }) if path.ends_with("images/two")),
        "{missing:?}"
    );
    assert_eq!(fs::read(build(guest("../guest")).unwrap()[0].path()).unwrap(), b"1");

    dir.write("host/guests/one", "shipped");
    let shipped = build(guest("../missing").or_prebuilt("guests")).unwrap();
    assert_eq!(fs::read(shipped[0].path()).unwrap(), b"1");
}

/// Builds as the build script of a package `host` would, and returns the inputs relative to `dir`.
fn build(dir: &TestDir, guest: Guest) -> (Result<Vec<Artifact>, BuildError>, BTreeSet<String>) {
    let mut inputs = Inputs::default();
    let result = guest.build_in(&dir.build_script(), &mut inputs);
    let prefix = format!("cargo:rerun-if-changed={}/", dir.path().display());
    let inputs = inputs.directives().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).collect();
    (result, inputs)
}

/// Writes the manifest of a guest, and the library on which it depends.
fn guest_package(dir: &TestDir, rest: &str) {
    guest_library(dir);
    package(dir, "guest", &format!("{rest}{GUEST_LIBRARY}"));
}

/// A package that stands for the guest library: it has its name, and is built faster.
fn guest_library(dir: &TestDir) {
    package(dir, "ampoule-guest", "");
    dir.write("ampoule-guest/src/lib.rs", "");
}

/// Writes the manifest of a package that is its own workspace.
fn package(dir: &TestDir, name: &str, rest: &str) {
    let manifest =
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{rest}\n[workspace]\n");
    dir.write(&format!("{name}/Cargo.toml"), &manifest);
}

fn names(artifacts: &[Artifact]) -> Vec<&str> {
    let mut names: Vec<&str> = artifacts.iter().map(Artifact::name).collect();
    names.sort_unstable();
    names
}

fn assert_is_guest_image(image: &[u8]) {
    let elf = ElfFile64::<object::Endianness>::parse(image).unwrap();
    let endian = elf.endian();
    assert_eq!(elf.elf_header().e_type(endian), elf::ET_DYN);
    assert_eq!(elf.elf_header().e_machine(endian), elf::EM_X86_64);
    for segment in elf.elf_program_headers() {
        let flags = segment.p_flags(endian);
        match segment.p_type(endian) {
            elf::PT_INTERP => panic!("the image is dynamically linked"),
            elf::PT_LOAD => assert!(!flags.contains(elf::PF_W | elf::PF_X)),
            elf::PT_GNU_STACK => assert!(!flags.contains(elf::PF_X)),
            _ => {}
        }
    }
}

/// The dependency on the guest library.
const GUEST_LIBRARY: &str = "[dependencies.ampoule-guest]\npath = \"../ampoule-guest\"\n";
