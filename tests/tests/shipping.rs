//! The crates can be published, and an application with a guest can be published and installed as `docs/shipping.md` says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use serde_json::Value;

#[test]
fn each_package_either_has_what_crates_io_shows_or_is_not_published() {
    let metadata = success(&cargo(&repository(), "metadata --no-deps --format-version 1"));
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let mut published = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if package["publish"].as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        published.insert(name);
        for field in ["description", "documentation", "license", "readme", "repository", "rust_version"] {
            assert!(package[field].as_str().is_some_and(|text| !text.is_empty()), "{name} has no {field}");
        }
        for (field, most) in [("keywords", 5), ("categories", 5)] {
            let count = package[field].as_array().unwrap().len();
            assert!((1..=most).contains(&count), "{name} has {count} {field}");
        }
    }
    assert_eq!(published, BTreeSet::from(PUBLISHED));
}

#[test]
fn a_package_brings_its_licences_its_readme_and_the_documents_it_refers_to() {
    for name in PUBLISHED {
        let files = success(&cargo(&repository(), &format!("package --list --allow-dirty --offline -p {name}")));
        let files: BTreeSet<&str> = files.lines().collect();
        for file in ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"] {
            assert!(files.contains(file), "{name}: {files:?}");
        }
        let refers = ["ampoule", "ampoule-abi", "ampoule-guest"].contains(&name);
        assert_eq!(files.contains("docs/abi.md"), refers, "{name}: {files:?}");
        assert!(!files.iter().any(|file| file.starts_with("docs/guide")), "{name}: {files:?}");
    }
}

#[test]
fn an_application_with_a_guest_is_installed_from_what_is_published() {
    let shop = Shop::new();
    shop.publish(&repository(), &PUBLISHED);
    let files = shop.write_documented_files();

    // The guest as sources. Its image is saved where the host has it afterwards.
    shop.publish(&shop.project(), &["greeter-guest", "greeter"]);
    let save = Some(shop.project().join("greeter/guests"));
    success(&shop.install(save.as_deref()));
    assert_eq!(shop.run(), "Hello, World!\n");

    // A guest that is not there is answered with those that are.
    let main = shop.published("greeter").join("src/main.rs");
    let text = fs::read_to_string(&main).unwrap();
    fs::write(&main, text.replace("(\"greeter-guest\")", "(\"greter\")")).unwrap();
    let message = String::from_utf8(shop.install(None).stderr).unwrap();
    assert!(message.contains("there is no guest `greter`; build.rs has built `greeter-guest`"), "{message}");

    // The guest as an image, which is published without the guest's package.
    shop.write("greeter/build.rs", files.build_script_with_image);
    let manifest = files.host_manifest.replace("greeter-guest = {", "# greeter-guest = {");
    shop.write("greeter/Cargo.toml", &manifest);
    fs::remove_dir_all(shop.published("greeter-guest")).unwrap();
    shop.publish(&shop.project(), &["greeter"]);
    fs::remove_dir_all(shop.project()).unwrap();
    assert!(shop.published("greeter").join("guests/greeter-guest").exists());
    success(&shop.install(None));
    assert_eq!(shop.run(), "Hello, World!\n");
}

/// The packages that are published.
const PUBLISHED: [&str; 11] = [
    "ampoule",
    "ampoule-abi",
    "ampoule-build",
    "ampoule-cli",
    "ampoule-conformance",
    "ampoule-guest",
    "ampoule-macros",
    "ampoule-oci",
    "ampoule-symbols",
    "ampoule-vfs",
    "ampoule-vmm",
];

/// A directory with a project, and with what is published, which stands for crates.io.
struct Shop {
    root: PathBuf,
}

/// What the test changes of the documented files.
struct Documented<'a> {
    host_manifest: &'a str,
    build_script_with_image: &'a str,
}

impl Shop {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shipping");
        if root.exists() {
            fs::remove_dir_all(&root).unwrap();
        }
        fs::create_dir_all(root.join("published")).unwrap();
        Self { root }
    }

    fn project(&self) -> PathBuf {
        self.root.join("project")
    }

    /// The directory of what was published of a package.
    fn published(&self, package: &str) -> PathBuf {
        self.root.join("published").join(package_id(package))
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes the files of `docs/shipping.md`: each is a block of code behind a line that begins with the file's name.
    fn write_documented_files(&self) -> Documented<'static> {
        let mut blocks = Vec::new();
        let mut lines = SHIPPING.split_inclusive('\n');
        let mut title = "";
        while let Some(line) = lines.next() {
            if line.starts_with("```") {
                let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
                blocks.push((title, block.concat()));
            } else if !line.trim().is_empty() {
                title = line;
            }
        }
        self.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"greeter\", \"greeter-guest\"]\n");
        let find = |title: &str| {
            let mut found = blocks.iter().filter(|(start, _)| start.starts_with(title));
            &*found.next().unwrap_or_else(|| panic!("docs/shipping.md has no {title}")).1.clone().leak()
        };
        for file in [
            "greeter-guest/Cargo.toml",
            "greeter-guest/src/lib.rs",
            "greeter-guest/src/main.rs",
            "greeter/Cargo.toml",
            "greeter/build.rs",
            "greeter/src/main.rs",
        ] {
            self.write(file, find(&format!("`{file}`:")));
        }
        Documented {
            host_manifest: find("`greeter/Cargo.toml`:"),
            build_script_with_image: find("`greeter/build.rs`, instead"),
        }
    }

    /// Packages what would be published, and puts it where cargo finds it instead of on crates.io.
    fn publish(&self, workspace: &Path, packages: &[&str]) {
        let target_dir = self.root.join("packaged");
        let mut package_them = self.cargo("package --no-verify --allow-dirty");
        package_them.args(packages.iter().flat_map(|package| ["-p", package]));
        success(&package_them.arg("--target-dir").arg(&target_dir).current_dir(workspace).output().unwrap());
        for package in packages {
            let published = self.published(package);
            if published.exists() {
                fs::remove_dir_all(published).unwrap();
            }
            // Without the times in the archive, which are always the same: cargo compiles again what is newer.
            let mut tar = Command::new("tar");
            tar.arg("xzmf").arg(target_dir.join("package").join(package_id(package) + ".crate"));
            success(&tar.current_dir(self.root.join("published")).output().unwrap());
            // It lies below the repository's workspace, but is not part of it.
            let manifest = self.published(package).join("Cargo.toml");
            let text = fs::read_to_string(&manifest).unwrap();
            fs::write(manifest, text + "\n[workspace]\n").unwrap();
        }
    }

    /// Compiles what was published of the application, as cargo does after it has fetched it, and saves the images of its
    /// guests in a directory.
    fn install(&self, guests: Option<&Path>) -> Output {
        let mut install = self.cargo("install --debug --force");
        install.arg("--root").arg(self.root.join("installed"));
        install.arg("--path").arg(self.published("greeter"));
        install.envs(guests.map(|dir| ("AMPOULE_SAVE_GUESTS", dir)));
        install.arg("--target-dir").arg(target_dir()).current_dir(self.root.join("published")).output().unwrap()
    }

    /// What the application prints that was installed.
    fn run(&self) -> String {
        success(&Command::new(self.root.join("installed/bin/greeter")).output().unwrap())
    }

    /// Cargo, for which that is published which was published here.
    fn cargo(&self, arguments: &str) -> Command {
        let mut config = String::from("[patch.crates-io]\n");
        for entry in self.root.join("published").read_dir().unwrap() {
            let dir = entry.unwrap().path();
            let (package, _) = dir.file_name().unwrap().to_str().unwrap().rsplit_once('-').unwrap();
            config += &format!("{package} = {{ path = '{}' }}\n", dir.display());
        }
        // The cargo that builds the guest finds it too, since all packages are below.
        fs::create_dir_all(self.root.join(".cargo")).unwrap();
        fs::write(self.root.join(".cargo/config.toml"), config).unwrap();
        let mut command = command(arguments);
        command.arg("--offline");
        command
    }
}

/// What cargo calls a package that it has packaged.
fn package_id(package: &str) -> String {
    let version = if PUBLISHED.contains(&package) { env!("CARGO_PKG_VERSION") } else { "0.1.0" };
    format!("{package}-{version}")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Survives from run to run, unlike what is compiled in it.
fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("shipping-target")
}

fn cargo(dir: &Path, arguments: &str) -> Output {
    command(arguments).current_dir(dir).output().unwrap()
}

fn command(arguments: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").expect("tests are run by cargo"));
    command.args(arguments.split(' '));
    for variable in ["AMPOULE_PREBUILT_GUESTS", "AMPOULE_SAVE_GUESTS", "CARGO_TARGET_DIR", "RUSTFLAGS"] {
        command.env_remove(variable);
    }
    command
}

fn success(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

const SHIPPING: &str = include_str!("../../docs/shipping.md");
