//! `ampoule push` and `ampoule pull`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::fake_registry::{Answer, FakeRegistry};
use super::{Chain, answer};

#[test]
fn a_snapshot_is_pushed_and_pulled_from_the_shell() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let layout = format!("oci:{}:1", there.path().join("layout").display());
    let pushed = run(&["push", path(&chain.path(1)), &layout]);
    assert_eq!((pushed.code, pushed.stderr.as_str()), (0, ""));
    let first = pushed.stdout.lines().next().unwrap();
    assert!(first.starts_with("pushed       oci:") && first.contains("/layout@sha256:"), "{first}");
    assert_eq!(pushed.stdout.lines().count(), 3);
    let file = there.path().join("calls.snap");
    let pulled = run(&["pull", &layout, "-o", path(&file), "--json"]);
    let report: Value = serde_json::from_str(&pulled.stdout).unwrap();
    assert!(first.ends_with(report["reference"].as_str().unwrap()), "{report}");
    assert_eq!(report["layers"][1]["file"], path(&file));
    assert_eq!(report["layers"][1]["was_there"], false);
    assert_eq!(answer(&file), 102);
    let again = run(&["pull", &layout, "-o", path(&file)]);
    assert_eq!(again.stdout.matches("was there already").count(), 2, "{}", again.stdout);
}

#[test]
fn credentials_are_those_of_docker() {
    let (chain, there, registry) = (Chain::new(), TempDir::new().unwrap(), FakeRegistry::start());
    registry.trick(|request| {
        let is_known = request.authorization.as_deref() == Some("Basic dXNlcjpzZWNyZXQ=");
        (!is_known).then(|| Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"tests\""))
    });
    let reference = registry.reference("1").to_string();
    let push = |config: &str| {
        fs::write(there.path().join("config.json"), config).unwrap();
        let chain = chain.path(0);
        let mut command = command(&["push", path(&chain), &reference, "--plain-http"]);
        Done::of(&command.env("DOCKER_CONFIG", there.path()).output().unwrap())
    };
    let login = |secret: &str| format!(r#"{{"auths":{{"{}":{{"auth":"{secret}"}}}}}}"#, registry.address());
    assert_eq!(push(&login("dXNlcjpzZWNyZXQ=")).code, 0);
    for config in [login("dXNlcjp3cm9uZw=="), "{}".to_owned()] {
        let done = push(&config);
        assert_eq!(done.code, 125);
        assert!(done.stderr.contains("does not grant access to `team/calls` (401)"), "{}", done.stderr);
    }
    for config in [login("?"), "{".to_owned()] {
        let done = push(&config);
        assert_eq!(done.code, 125);
        assert!(done.stderr.contains("cannot be used"), "{}", done.stderr);
    }
}

#[test]
fn what_goes_wrong_is_one_line_in_terms_of_options() {
    let (chain, there, registry) = (Chain::new(), TempDir::new().unwrap(), FakeRegistry::start());
    let reference = registry.reference("1").to_string();
    let file = there.path().join("calls.snap");
    let missing = run(&["pull", &reference, "-o", path(&file), "--plain-http"]);
    assert_eq!(missing.code, 127);
    let wrong = run(&["pull", "Not A Reference", "-o", path(&file)]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("use `registry.example/name:tag`"), "{}", wrong.stderr);
    assert_eq!(run(&["push", path(&chain.path(0)), &reference, "--plain-http"]).code, 0);
    let large = run(&["pull", &reference, "-o", path(&file), "--plain-http", "--size-limit", "1K"]);
    assert_eq!(large.code, 2);
    assert!(large.stderr.ends_with("the limit is 1024: raise it with `--size-limit`\n"), "{}", large.stderr);
    let secure = run(&["pull", &reference, "-o", path(&file)]);
    assert_eq!(secure.code, 125);
    assert!(secure.stderr.ends_with("is reached with `--plain-http`\n"), "{}", secure.stderr);
    let no_snapshot = run(&["push", "/etc/passwd", &reference, "--plain-http"]);
    assert_eq!((no_snapshot.code, no_snapshot.stderr.lines().count()), (126, 1));
    assert!(!file.exists());
}

struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Done {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code().unwrap(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

fn run(arguments: &[&str]) -> Done {
    Done::of(&command(arguments).output().unwrap())
}

/// The program, for which nobody has logged in anywhere.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule-command-line"));
    command.args(arguments).env("DOCKER_CONFIG", "/nonexistent");
    command
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
