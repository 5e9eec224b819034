//! Hosts whose build scripts build their guests, built and run by cargo as a user would.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

#[test]
fn a_host_embeds_its_guest_and_follows_its_changes() {
    let project = Project::new("embeds");
    project.host("ampoule_build::guest(\"../guest\").build();", &["my-guest"]);
    project.guest("guest", "my-guest", "fn main() { println!(\"MARK one.\") }");
    assert_eq!(success(&project.cargo("host", "run")), "my-guest: one\n");

    project.write("guest/src/main.rs", "fn main() { println!(\"MARK two.\") }");
    assert_eq!(success(&project.cargo("host", "run")), "my-guest: two\n");

    // The build before created the guest's Cargo.lock, perhaps later than cargo's note of when the script ran.
    success(&project.cargo("host", "build"));
    let unchanged = project.cargo("host", "build -v");
    success(&unchanged);
    assert!(stderr(&unchanged).contains("Fresh embeds"), "{}", stderr(&unchanged));
}

#[test]
fn a_host_embeds_several_guests() {
    let project = Project::new("several");
    project.host(
        "ampoule_build::guest(\"../first\").build(); ampoule_build::guest(\"../second\").build();",
        &["first", "second"],
    );
    project.guest("first", "first", "fn main() { println!(\"MARK 1.\") }");
    project.guest("second", "second", "fn main() { println!(\"MARK 2.\") }");
    assert_eq!(success(&project.cargo("host", "run")), "first: 1\nsecond: 2\n");

    let main = "fn main() { println!(\"{}\", env!(\"AMPOULE_GUESTS\")) }";
    project.write("host/src/main.rs", main);
    assert_eq!(success(&project.cargo("host", "run")), "`first`, `second`\n");
}

#[test]
fn two_guests_of_one_name_end_the_build() {
    let project = Project::new("namesakes");
    project.host(
        "ampoule_build::prebuilt(\"guest\", \"a\").build(); ampoule_build::prebuilt(\"guest\", \"b\").build();",
        &["guest"],
    );
    project.write("host/a", "");
    project.write("host/b", "");
    let refused = project.cargo("host", "check");
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("this build script has two guests called `guest`"), "{}", stderr(&refused));
}

#[test]
fn a_host_embeds_an_image_that_exists() {
    let project = Project::new("existing");
    project.host("ampoule_build::prebuilt(\"filter\", \"images/filter.elf\").build();", &["filter"]);
    project.write("host/images/filter.elf", "MARK first.");
    assert_eq!(success(&project.cargo("host", "run")), "filter: first\n");
    project.write("host/images/filter.elf", "MARK second.");
    assert_eq!(success(&project.cargo("host", "run")), "filter: second\n");
}

#[test]
fn who_builds_a_host_can_hand_in_the_images() {
    let project = Project::new("handed-in");
    project.host("ampoule_build::guest(\"../guest\").build();", &["guest"]);
    project.guest("guest", "guest", "fn main() { println!(\"MARK built.\") }");
    project.write("images/guest", "MARK handed in.");
    let mut cargo = project.command("host", "run");
    cargo.env("AMPOULE_PREBUILT_GUESTS", project.path("images"));
    assert_eq!(success(&cargo.output().unwrap()), "guest: handed in\n");
    assert_eq!(success(&project.cargo("host", "run")), "guest: built\n");
}

#[test]
fn a_guest_that_is_saved_in_every_build_is_not_built_again_in_every_build() {
    let project = Project::new("saved");
    project.host("ampoule_build::guest(\"../guest\").build();", &["guest"]);
    project.guest("guest", "guest", "fn main() {}");
    let check = || {
        let mut cargo = project.command("host", "check -v");
        cargo.env("AMPOULE_SAVE_GUESTS", project.path("images"));
        let output = cargo.output().unwrap();
        success(&output);
        stderr(&output)
    };
    assert!(check().contains("Compiling saved v0.1.0"));
    // To cargo the copy is newer than the start of the build script that has made it.
    check();
    let third = check();
    assert!(third.contains("Fresh saved v0.1.0"), "{third}");
    fs::remove_file(project.path("images/guest")).unwrap();
    check();
    assert!(project.path("images/guest").exists());
}

#[test]
fn a_user_who_wants_to_sees_that_a_guest_is_built_and_how_long_it_took() {
    let project = Project::new("visible");
    project.host("ampoule_build::guest(\"../guest\").build();", &["guest"]);
    project.guest("guest", "guest", "fn main() {}");
    let shown = project.cargo("host", "check -vv");
    success(&shown);
    let shown = stderr(&shown);
    let [began, compiling, ended] =
        ["building the guest package `guest`", "Compiling guest v0.1.0", "built the guest package"]
            .map(|text| shown.find(text).unwrap_or_else(|| panic!("no `{text}` in {shown}")));
    assert!(began < compiling && compiling < ended, "{shown}");
}

#[test]
fn a_guest_that_does_not_compile_shows_the_compilers_message_until_it_is_mended() {
    let project = Project::new("mended");
    project.host("ampoule_build::guest(\"../guest\").build();", &["guest"]);
    project.guest("guest", "guest", "fn main() { no_such_function() }");
    let broken = project.cargo("host", "check");
    assert!(!broken.status.success());
    let message = stderr(&broken);
    assert!(message.contains("error[E0425]: cannot find function `no_such_function`"), "{message}");
    assert!(message.contains("src/main.rs:1:13"), "{message}");
    assert!(message.contains("the guest package `guest` does not compile"), "{message}");
    assert!(!message.contains("panicked"), "{message}");

    project.write("guest/src/main.rs", "fn main() {}");
    success(&project.cargo("host", "check"));
}

#[test]
fn a_build_script_that_lives_with_a_broken_guest_runs_again_when_it_is_mended() {
    let project = Project::new("tolerated");
    project.host(
        "if ampoule_build::guest(\"../guest\").try_build().is_err() {\n\
             println!(\"cargo:rustc-env=AMPOULE_GUEST_guest={}/Cargo.toml\", env!(\"CARGO_MANIFEST_DIR\"));\n\
         }",
        &["guest"],
    );
    project.guest("guest", "guest", "fn main() { println!(\"MARK mended.\"); no_such_function() }");
    assert_eq!(success(&project.cargo("host", "run")), "guest: none\n");

    project.write("guest/src/main.rs", "fn main() { println!(\"MARK mended.\") }");
    assert_eq!(success(&project.cargo("host", "run")), "guest: mended\n");
}

#[test]
fn a_wrapper_for_the_hosts_workspace_does_not_see_the_guest() {
    let project = Project::new("wrapped");
    project.host("ampoule_build::guest(\"../guest\").build();", &["guest"]);
    project.guest("guest", "guest", "fn main() {}");
    let log = project.path("log");
    let wrapper = project.program("wrapper", &format!("echo \"$*\" >> '{}'\nexec \"$@\"", log.display()));
    let mut cargo = project.command("host", "check");
    success(&cargo.env("RUSTC_WORKSPACE_WRAPPER", wrapper).output().unwrap());

    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("--crate-name wrapped"), "{log}");
    assert!(!log.contains("--crate-name guest"), "{log}");
}

/// Cargo runs a build script once for `check` and once for `build`, since what analyzes and what compiles are told apart.
#[test]
fn a_guest_is_compiled_once_for_all_who_need_it() {
    let project = Project::new("once");
    project.host("ampoule_build::guest(\"../guest\").build();", &["guest"]);
    project.guest("guest", "guest", "fn main() { println!(\"MARK one.\") }");
    let log = project.path("log");
    let record = format!(
        "fn main() {{ println!(\"cargo:rerun-if-changed=build.rs\"); \
         let log = std::fs::OpenOptions::new().create(true).append(true).open({log:?}); \
         std::io::Write::write_all(&mut log.unwrap(), b\"built\\n\").unwrap() }}"
    );
    project.write("guest/build.rs", &record);
    let wrapper = project.program("wrapper", "exec \"$@\"");
    success(&project.command("host", "check").env("RUSTC_WORKSPACE_WRAPPER", wrapper).output().unwrap());
    assert_eq!(success(&project.cargo("host", "run")), "guest: one\n");
    assert_eq!(fs::read_to_string(log).unwrap(), "built\n");
}

/// They are built in one place, in which a binary is found by its name.
#[test]
fn guests_of_several_hosts_may_have_the_same_name() {
    let [one, other] = ["one", "other"].map(|mark| {
        let project = Project::new(mark);
        project.host("ampoule_build::guest(\"../guest\").build();", &["guest"]);
        project.guest("guest", "guest", &format!("fn main() {{ println!(\"MARK {mark}.\") }}"));
        project
    });
    assert_eq!(success(&one.cargo("host", "run")), "guest: one\n");
    assert_eq!(success(&other.cargo("host", "run")), "guest: other\n");
    // Nothing of it has changed but the time of a source.
    one.write("guest/src/main.rs", "fn main() { println!(\"MARK one.\") }");
    assert_eq!(success(&one.cargo("host", "run")), "guest: one\n");
}

/// The guest's profile is the host's, so that in one build directory each cargo would wait for the other's lock.
#[test]
fn host_and_guest_share_a_workspace_with_one_job_and_one_build_directory() {
    let project = Project::new("workspace");
    project.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"host\", \"guest\"]\ndefault-members = [\"host\"]\n\
         [profile.dev.package.guest]\ndebug-assertions = false\n",
    );
    project.lock(".");
    project.member_host("ampoule_build::guest(\"../guest\").profile(\"dev\").build();", &["guest"]);
    project.member_guest(
        "guest",
        "guest",
        "fn main() { println!(\"{}\", if cfg!(debug_assertions) { \"MARK theirs.\" } else { \"MARK ours.\" }) }",
    );
    let mut cargo = project.command(".", "run -j1");
    cargo.env("CARGO_BUILD_BUILD_DIR", target_dir());
    assert_eq!(success(&cargo.output().unwrap()), "guest: ours\n");
    assert!(!project.path("guest/Cargo.lock").exists());
}

/// A directory of packages: a host, in a folder `host`, and its guests.
struct Project {
    name: &'static str,
    root: PathBuf,
}

impl Project {
    fn new(name: &'static str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if root.exists() {
            fs::remove_dir_all(&root).unwrap();
        }
        Self { name, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// An executable shell script.
    fn program(&self, name: &str, body: &str) -> PathBuf {
        let text = self.write(&format!("{name}.sh"), &format!("#!/bin/sh\n{body}\n"));
        let path = self.path(name);
        assert!(Command::new("install").args(["-m", "755"]).args([&text, &path]).status().unwrap().success());
        path
    }

    /// A guest package of its own, with one binary.
    fn guest(&self, package: &str, bin: &str, main: &str) {
        self.member_guest(package, bin, main);
        self.make_workspace(package);
    }

    fn member_guest(&self, package: &str, bin: &str, main: &str) {
        self.write(&format!("{package}/src/main.rs"), main);
        self.write(
            &format!("{package}/Cargo.toml"),
            &format!(
                "{}[[bin]]\nname = \"{bin}\"\npath = \"src/main.rs\"\n\
                 [dependencies.ampoule-guest]\npath = \"../ampoule-guest\"\n",
                manifest(package)
            ),
        );
        // It stands for the guest library: it has its name, and is built faster.
        self.write("ampoule-guest/Cargo.toml", &manifest("ampoule-guest"));
        self.write("ampoule-guest/src/lib.rs", "");
    }

    /// A host package of its own, named as the project, that prints for each of its guests what stands between `MARK ` and `.` in the image.
    fn host(&self, build: &str, guests: &[&str]) {
        self.member_host(build, guests);
        self.make_workspace("host");
        self.lock("host");
    }

    fn member_host(&self, build: &str, guests: &[&str]) {
        let ampoule_build = env!("CARGO_MANIFEST_DIR");
        self.write(
            "host/Cargo.toml",
            &format!("{}[build-dependencies]\nampoule-build = {{ path = \"{ampoule_build}\" }}\n", manifest(self.name)),
        );
        self.write("host/build.rs", &format!("fn main() {{ {build} }}"));
        let guests: Vec<String> = guests
            .iter()
            .map(|guest| format!("(\"{guest}\", include_bytes!(env!(concat!(\"AMPOULE_GUEST_\", \"{guest}\"))))"))
            .collect();
        self.write(
            "host/src/main.rs",
            &format!("{HOST_MAIN}const GUESTS: &[(&str, &[u8])] = &[{}];", guests.join(", ")),
        );
    }

    fn make_workspace(&self, package: &str) {
        let path = self.path(&format!("{package}/Cargo.toml"));
        let manifest = fs::read_to_string(&path).unwrap();
        fs::write(path, manifest + "[workspace]\n").unwrap();
    }

    /// Fixes the dependencies to the versions with which this crate is tested, so that they are here already.
    fn lock(&self, package: &str) {
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
        fs::copy(lock, self.path(package).join("Cargo.lock")).unwrap();
    }

    fn cargo(&self, package: &str, arguments: &str) -> Output {
        self.command(package, arguments).output().unwrap()
    }

    fn command(&self, package: &str, arguments: &str) -> Command {
        let mut command = Command::new(env::var_os("CARGO").expect("tests are run by cargo"));
        command.args(arguments.split(' ')).arg("--offline").current_dir(self.path(package));
        command.arg("--target-dir").arg(target_dir());
        for variable in [
            "AMPOULE_PREBUILT_GUESTS",
            "AMPOULE_SAVE_GUESTS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            command.env_remove(variable);
        }
        command
    }
}

/// Shared by all hosts, so that this crate is built for them once.
fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("target")
}

fn manifest(package: &str) -> String {
    format!("[package]\nname = \"{package}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n")
}

fn success(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const HOST_MAIN: &str = r#"
fn main() {
    for (name, image) in GUESTS {
        let start = image.windows(5).position(|bytes| bytes == b"MARK ");
        let mark = start.map_or("none", |start| {
            let rest = &image[start + 5..];
            let end = rest.iter().position(|byte| *byte == b'.').unwrap();
            std::str::from_utf8(&rest[..end]).unwrap()
        });
        println!("{name}: {mark}");
    }
}
"#;
