//! The program `ampoule`, as people and programs use it.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ampoule::EmbeddedImage;
use ampoule_tests::native::write_executable;
use serde_json::{Value, json};

#[test]
fn a_function_is_called_with_json_and_answers_with_json() {
    for (function, arguments, result) in [
        ("total", &[r#"[{"price": 30, "quantity": 2}, {"quantity": 1, "price": 4}]"#][..], "64\n"),
        ("cheapest", &[r#"[{"quantity": 2, "price": 30}]"#], "{\"quantity\":2,\"price\":30}\n"),
        ("cheapest", &["[]"], "null\n"),
        ("pay", &[r#""Cash""#], "\"cash\"\n"),
        ("pay", &[r#"{"Card": {"number": "12"}}"#], "\"card 12\"\n"),
        ("pay", &[r#"{"Voucher": 5}"#], "\"voucher 5\"\n"),
        ("count_items", &[r#"{"items": ["a"], "shelves": [{"items": ["b", "c"], "shelves": []}]}"#], "3\n"),
        // The type of this result can only be written, so the guest describes each.
        ("receipt", &["5", "6", r#"["", "a"]"#], "{\"total\":5,\"pieces\":6,\"notes\":[\"Gift\",{\"Text\":\"a\"}]}\n"),
        ("receipt", &["5", "6", "[]"], "{\"total\":5,\"pieces\":6,\"notes\":[]}\n"),
    ] {
        let done = shop(function, arguments);
        assert_eq!((done.stdout.as_str(), done.stderr.as_str(), done.code), (result, "", 0), "{function}");
    }
}

#[test]
fn a_function_that_returns_nothing_writes_nothing_and_what_the_guest_prints_goes_to_standard_error() {
    let done = calls("print_and_notify", &["2"]);
    assert_eq!((done.stdout.as_str(), done.code), ("", 0));
    assert_eq!(done.stderr, "notification 0\nnotification 1\n");
}

#[test]
fn arguments_may_be_negative_come_from_files_and_from_standard_input() {
    let file = directory().join("orders.json");
    fs::write(&file, r#"[{"quantity": 2, "price": 30}]"#).unwrap();
    let path = format!("@{}", file.display());
    assert_eq!(shop("total", &[&path]).stdout, "60\n");

    let image = image(ampoule::include_guest!("shop"));
    let mut call = command();
    call.args(["call", &image, "total", "@-"]).args(SHOP_HOST);
    let mut child = call.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(br#"[{"quantity": 3, "price": 30}]"#).unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"90\n");

    assert!(shop("total", &["-5"]).one_line().contains("invalid type: integer `-5`, expected Vec<Order>"));
    let missing = shop("total", &["@/nonexistent"]);
    assert_eq!(missing.code, 2);
    assert!(missing.one_line().starts_with("argument 1: /nonexistent cannot be read: No such file"));
}

#[test]
fn what_is_wrong_with_a_command_line_is_one_line_and_the_guest_does_not_run() {
    for (function, arguments, message) in [
        (
            "total",
            &[r#"[{"quantity": 2, "price": "x"}]"#][..],
            "argument 1, [0].price: invalid type: string \"x\", expected u64 at line 1 column 29",
        ),
        (
            "total",
            &[r#"[{"quantity": 2, "pirce": 1}]"#],
            "argument 1, [0]: unknown field `pirce`; did you mean `price`? at line 1 column 24",
        ),
        (
            "pay",
            &[r#""Cheque""#],
            "argument 1: unknown variant `Cheque`; there is `Cash`, `Card`, `Voucher` at line 1 column 8",
        ),
        (
            "price",
            &["lamp"],
            "argument 1 is not JSON: expected value at line 1 column 1; text has quotes of its own: '\"World\"'",
        ),
        ("price", &[], "`price` is (&str) -> Result<u64, ShopError>, called with 0 arguments"),
        ("price", &["1", "2"], "`price` is (&str) -> Result<u64, ShopError>, called with 2 arguments"),
        ("total", &["[]", "--memory", "5"], "`--memory` of 5 bytes is out of range: 1048576 to 34359738368"),
        (
            "total",
            &["[]", "--host-fn", "stokc=1"],
            "--host-fn stokc: the image does not import it; it imports discount, record, stock, stock.by_alias, stock.or_text",
        ),
        ("total", &["[]", "--host-fn", "stock=x"], "--host-fn stock: not JSON: expected value at line 1 column 1"),
        ("discounted", &["1", "2", "--host-fn", "discount=7"], "host function `discount` is given twice"),
    ] {
        let done = shop(function, arguments);
        assert_eq!((done.one_line(), done.stdout.as_str()), (message, ""), "{function}");
        assert!([2, 125].contains(&done.code), "{function}: {}", done.code);
    }
    let untransferable = shop("extended", &["1"]);
    assert!(untransferable.one_line().contains("argument 1 cannot travel"), "{}", untransferable.stderr);
    assert_eq!(untransferable.code, 2);
}

#[test]
fn bytes_go_in_from_a_file_and_out_as_they_are() {
    let file = directory().join("bytes");
    let bytes: Vec<u8> = (0..=255).collect();
    fs::write(&file, &bytes).unwrap();
    let argument = format!("@{}", file.display());
    let image = image(ampoule::include_guest!("calls"));
    let raw = |function: &str| {
        let mut command = command();
        command.args(["call", &image, function, &argument, "--raw"]).args(CALLS_HOST);
        command.output().unwrap()
    };
    assert_eq!(raw("echo_bytes").stdout, bytes);
    let refused = raw("sum_of_bytes");
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("`sum_of_bytes` returns u64: `--raw` writes bytes"), "{message}");
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0));
    assert_eq!(calls("sum_of_bytes", &[&argument]).stdout, format!("{}\n", 255 * 128));
}

#[test]
fn host_functions_are_answered_with_constants_and_those_that_are_missing_are_named_together() {
    let image = image(ampoule::include_guest!("shop"));
    let call = |answers: &[&str]| {
        let answers = answers.iter().flat_map(|answer| ["--host-fn", answer]);
        done(command().args(["call", &image, "discounted", "5", "6"]).args(answers))
    };
    let rest = ["record=1", "stock=5", "stock.by_alias=5"];
    let all = |discount| call(&[&rest[..], &["stock.or_text=5", discount]].concat());
    assert_eq!(all(r#"discount={"price": 2, "quantity": 3}"#).stdout, "6\n");

    let wrong = all("discount=7");
    let message =
        "the answer of host function `discount`: invalid type: integer `7`, expected struct Order at line 1 column 1";
    assert_eq!((wrong.one_line(), wrong.code), (message, 2));

    let missing = call(&rest);
    assert_eq!(
        (missing.one_line(), missing.code),
        (
            "the guest imports discount(&Order) -> Order, stock.or_text(&str) -> Result<u32, HostError>; give an answer for \
             each with `--host-fn NAME=JSON`",
            2
        )
    );
}

#[test]
fn a_core_dump_is_written_where_it_was_asked_for_and_the_message_says_where() {
    let dir = directory().join("core-dumps");
    fs::remove_dir_all(&dir).ok();
    fs::create_dir(&dir).unwrap();
    let core = dir.join("box.1.core");
    let done = calls("fault", &["--name", "box", "--core-dir", dir.to_str().unwrap()]);
    assert!(done.stderr.contains(&format!("; core dump: {}", core.display())), "{}", done.stderr);
    assert!(fs::read(&core).unwrap().starts_with(b"\x7fELF"));
    let done = calls("fault", &["--name", "box"]);
    assert!(!done.stderr.contains("core dump"), "{}", done.stderr);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
}

#[test]
fn the_exit_code_says_how_a_call_ended() {
    for (function, arguments, code, message) in [
        ("divide", &["3", "0"][..], 1, "`divide` failed: 3 cannot be divided by zero"),
        ("panics", &["\"help\""], 101, "guest function `panics` panicked: help"),
        (
            "spin",
            &["--deadline", "100ms"],
            124,
            "in guest function `spin` of sandbox `calls-1`: the call took longer than",
        ),
        (
            "spin",
            &["--cpu", "50ms"],
            124,
            "in guest function `spin` of sandbox `calls-1`: the call took more than 50ms of",
        ),
        ("notify_for_ever", &["--host-calls", "9"], 3, "in guest function `notify_for_ever` of sandbox"),
        (
            "read_the_clock_for_ever",
            &["--cpu", "50ms", "--name", "box"],
            124,
            "in guest function `read_the_clock_for_ever` of sandbox `box`: the call took more",
        ),
        ("print_and_end", &["\"abort\""], 134, "guest fault in `print_and_end` of sandbox `calls-1`: "),
        ("print_and_end", &["\"exit\""], 3, "guest fault in `print_and_end` of sandbox `calls-1`: "),
        ("fault", &[], 139, "guest fault in `fault` of sandbox `calls-1`: read of null pointer 0x0 in `fault`"),
    ] {
        let done = calls(function, arguments);
        assert!(done.one_line().starts_with(message), "{function}: {}", done.stderr);
        assert_eq!((done.code, done.stdout.as_str()), (code, ""), "{function}");
        assert!(!done.stderr.contains("poisoned") && !done.stderr.contains("Builder::"), "{}", done.stderr);
    }
    let full = calls("fault", &["--verbose"]).stderr;
    assert!(full.contains("\n    0: ") && full.contains("\n  registers:\n"), "{full}");
}

#[test]
fn what_is_no_image_and_what_is_not_there_have_exit_codes_of_their_own() {
    let call = |image: &str, function: &str| done(command().args(["call", image, function]).args(SHOP_HOST));
    let missing = call("/nonexistent", "f");
    assert_eq!(missing.code, 127);
    assert!(missing.one_line().starts_with("guest image `/nonexistent` cannot be read: No such file"));

    let other = call(env!("CARGO_BIN_EXE_ampoule-command-line"), "f");
    assert_eq!(other.code, 126);
    assert!(
        other
            .one_line()
            .ends_with("link it statically (Rust: -C target-feature=+crt-static with --target, C: -static)")
    );

    let typo = shop("prise", &[]);
    assert_eq!(typo.code, 127);
    assert!(typo.one_line().contains("exports no function `prise`; did you mean `price`?"));
}

#[test]
fn a_program_reads_results_and_errors_as_json() {
    let of = |done: &Done| serde_json::from_str::<Value>(&done.stdout).unwrap();
    let result = shop("price", &["\"lamp\"", "--json"]);
    assert_eq!((of(&result), result.code), (json!({"result": 30}), 0));
    assert_eq!(of(&calls("empty", &["--json"])), json!({"result": null}));

    let failed = shop("price", &["\"chair\"", "--json"]);
    let error = json!({"kind": "function", "message": "only 2 are left", "value": {"SoldOut": {"left": 2}}});
    assert_eq!((of(&failed), failed.stderr.as_str(), failed.code), (json!({ "error": error }), "", 1));
    let failed = shop("fail_with_sentence", &["--json"]);
    let error = json!({"kind": "function", "message": "this is all that there is to say", "value": null});
    assert_eq!(of(&failed), json!({ "error": error }));

    for (function, arguments, kind, code) in [
        ("fault", &["--json"][..], "fault", 139),
        ("spin", &["--json", "--deadline", "50ms"], "time limit", 124),
        ("no_such_function", &["--json"], "not found", 127),
        ("divide", &["--json"], "usage", 2),
    ] {
        let done = calls(function, arguments);
        assert_eq!((of(&done)["error"]["kind"].as_str(), done.code), (Some(kind), code), "{function}");
        assert!(of(&done)["error"]["message"].as_str().is_some_and(|message| message.contains(function)));
    }
}

#[test]
fn the_guest_finds_the_settings_of_the_command_line() {
    let done = calls("arguments", &["--arg", "one", "--arg", "--two"]);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("[\"calls\",\"one\",\"--two\"]\n", ""));
    let done = calls("variables", &["--env", "A=b=c", "--env", "C="]);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("[[\"A\",\"b=c\"],[\"C\",\"\"]]\n", ""));
}

#[test]
fn a_guest_that_describes_no_types_is_called_by_its_signatures() {
    // The guest in C describes no types; its signatures have none of their own.
    let image = image(ampoule::include_guest!("c-pie"));
    let call = |arguments: &[&str]| {
        done(command().args(["call", &image]).args(arguments).args(["--host-fn", "weekday=\"Monday\""]))
    };
    let done = call(&["greet", "\"World\""]);
    assert_eq!((done.stdout.as_str(), done.code), ("\"Hello, World on Monday\"\n", 0));
    assert_eq!(done.stderr, "asking for the day\nthere is one\ngreeting\n");
    assert_eq!(call(&["add", "4294967295", "2"]).stdout, "1\n");
    assert!(call(&["add", "4294967296", "2"]).one_line().contains("expected u32"));
}

#[test]
fn an_image_is_inspected_without_running_it() {
    let image = image(ampoule::include_guest!("shop"));
    let text = done(command().args(["inspect", &image]));
    assert_eq!((text.code, text.stderr.as_str()), (0, ""));
    for line in [
        format!("image        {image}"),
        "abi          1.0".to_owned(),
        "debug        names of functions, source lines, inlined functions".to_owned(),
        "             price(&str) -> Result<u64, ShopError>".to_owned(),
        "imports      discount(&Order) -> Order".to_owned(),
    ] {
        assert!(text.stdout.lines().any(|it| it == line), "{line}\n{}", text.stdout);
    }

    let report: Value = serde_json::from_str(&done(command().args(["inspect", &image, "--json"])).stdout).unwrap();
    assert_eq!(report["kind"], "static-pie");
    assert_eq!(report["bytes"], fs::metadata(&image).unwrap().len());
    assert_eq!(report["debug"], json!({"symbols": true, "lines": true, "dwarf": true}));
    let exports = report["exports"].as_array().unwrap();
    let price = exports.iter().find(|export| export["name"] == "price").unwrap();
    assert_eq!(price["parameters"], json!(["&str"]));
    assert_eq!((&price["result"], &price["error"]), (&json!("u64"), &json!("ShopError")));
    assert_eq!(report["imports"].as_array().unwrap().len(), 5);
    let segments = report["segments"].as_array().unwrap();
    assert!(segments.iter().any(|segment| segment["permissions"] == "r-x"));

    let fixed = self::image(ampoule::include_guest!("c-fixed"));
    let report: Value = serde_json::from_str(&done(command().args(["inspect", &fixed, "--json"])).stdout).unwrap();
    assert_eq!(report["kind"], "static");
}

#[test]
fn the_types_of_a_guest_are_shown_once_it_has_said_what_they_are() {
    let image = image(ampoule::include_guest!("shop"));
    let text = done(command().args(["inspect", &image, "--types"])).stdout;
    for definition in [
        "struct Order { quantity: u64, price: u64 }",
        "struct Shelf { items: Vec<String>, shelves: Vec<Shelf> }",
        "enum Payment { Cash, Card { number: String }, Voucher(u32) }",
        "enum ShopError { SoldOut { left: u32 }, Unknown(String), Closed }",
    ] {
        assert_eq!(text.matches(definition).count(), 1, "{text}");
    }
    let image = self::image(ampoule::include_guest!("c-pie"));
    let text = done(command().args(["inspect", &image, "--types"])).stdout;
    assert!(text.ends_with("types        the guest describes none\n"), "{text}");
}

#[test]
fn a_machine_on_which_guests_run_is_found_well() {
    let text = done(command().arg("doctor"));
    assert_eq!(text.code, 0, "{}", text.stdout);
    assert!(text.stdout.ends_with("\nThis machine can run guests.\n"), "{}", text.stdout);
    let report: Value = serde_json::from_str(&done(command().args(["doctor", "--json"])).stdout).unwrap();
    assert_eq!(report["ok"], true);
    for name in ["processor", "kernel", "device", "kvm", "virtual cpu", "trial", "limits", "reset"] {
        assert_eq!(state(&report, name), "ok", "{report:#}");
    }
}

#[test]
fn a_machine_without_the_device_is_told_what_to_do() {
    let (report, code) = doctor(command().args(["doctor", "--json", "--device", "/nonexistent/kvm"]));
    assert_eq!((&report["ok"], code), (&json!(false), 1));
    assert_eq!(
        (state(&report, "kernel"), state(&report, "device"), state(&report, "trial")),
        ("ok", "failed", "skipped")
    );
    let finding = finding(&report, "device");
    assert!(finding.starts_with("/nonexistent/kvm: no such device; load the kernel module"), "{finding}");
}

#[test]
fn a_device_that_the_user_may_not_open_is_told_apart_from_one_that_is_missing() {
    // Somebody without privileges, in a place that they can reach.
    let dir = PathBuf::from("/tmp").join(format!("ampoule-doctor-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let program = dir.join("ampoule");
    write_executable(&program, &fs::read(env!("CARGO_BIN_EXE_ampoule-command-line")).unwrap());
    let device = dir.join("device");
    fs::write(&device, "").unwrap();
    fs::set_permissions(&device, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut examined = Command::new(&program);
    examined.args(["doctor", "--json", "--device"]).arg(&device);
    // SAFETY: `geteuid` only returns a number.
    if unsafe { libc::geteuid() } == 0 {
        examined.uid(NOBODY).gid(NOBODY);
    } else {
        fs::set_permissions(&device, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    }
    let (report, code) = doctor(&mut examined);
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!((code, state(&report, "device"), state(&report, "kvm")), (1, "failed", "skipped"));
    assert!(finding(&report, "device").contains("permission denied; "), "{report:#}");
}

#[test]
fn what_is_no_hypervisor_is_not_taken_for_one() {
    let (report, code) = doctor(command().args(["doctor", "--json", "--device", "/dev/null"]));
    assert_eq!((code, finding(&report, "device").as_str()), (1, "/dev/null: not a KVM device"));
}

#[test]
fn shells_are_given_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = done(command().args(["completions", shell]));
        assert_eq!(script.code, 0);
        assert!(script.stdout.contains("--host-fn") || script.stdout.contains("-l host-fn"), "{shell}");
        assert!(script.stdout.contains("ampoule"), "{shell}");
    }
}

#[test]
fn help_has_examples_and_the_exit_codes() {
    let help = |arguments: &[&str]| done(command().args(arguments)).stdout;
    for command in ["call", "run", "inspect", "doctor", "bench", "completions"] {
        let text = help(&[command, "--help"]);
        assert!(text.contains("\nExamples:\n") && text.contains(&format!("ampoule {command} ")), "{text}");
    }
    let text = help(&["--help"]);
    for line in text.lines().skip_while(|line| *line != "Exit codes:").skip(1).filter(|line| !line.is_empty()) {
        let (code, meaning) = line.trim().split_once(' ').unwrap();
        assert!(DOCUMENT.contains(&format!("| {code} | {} |", meaning.trim())), "docs/command-line.md lacks: {line}");
    }
}

#[test]
fn the_transcripts_of_the_documentation_are_what_the_program_prints() {
    let dir = directory().join("transcripts");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("guests")).unwrap();
    for guest in [ampoule::include_guest!("shop"), ampoule::include_guest!("calls")] {
        fs::write(dir.join("guests").join(guest.name()), guest.bytes()).unwrap();
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ampoule-command-line"), dir.join("ampoule")).unwrap();
    let mut lines = DOCUMENT.lines();
    // One shell for all, so that variables keep their values.
    let (mut script, mut expected) = (String::from("PATH=$PWD:$PATH\nexec 2>&1\n"), String::new());
    while lines.any(|line| line == "```console") {
        for line in lines.by_ref().take_while(|line| *line != "```") {
            expected += &format!("{line}\n");
            if let Some(command) = line.strip_prefix("$ ") {
                script += &format!("cat <<'END'\n{line}\nEND\n{command}\n");
            }
        }
    }
    assert!(expected.lines().filter(|line| line.starts_with("$ ampoule")).count() >= 10);
    let shown = Command::new("sh").arg("-c").arg(script).current_dir(&dir).output().unwrap();
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), expected);
}

/// What a command has done.
struct Done {
    stdout: String,
    stderr: String,
    code: i32,
}

impl Done {
    /// The message, which has to be one line behind all that the guest has printed.
    fn one_line(&self) -> &str {
        let last = self.stderr.lines().last().and_then(|line| line.strip_prefix("ampoule: "));
        last.unwrap_or_else(|| panic!("the last line is no message: {:?}", self.stderr))
    }
}

fn done(command: &mut Command) -> Done {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Done {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().expect("the program exits"),
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ampoule-command-line"))
}

/// Calls a function of the guest with types of its own.
fn shop(function: &str, arguments: &[&str]) -> Done {
    let image = image(ampoule::include_guest!("shop"));
    done(command().args(["call", &image, function]).args(arguments).args(SHOP_HOST))
}

/// Calls a function of the well-behaved guest.
fn calls(function: &str, arguments: &[&str]) -> Done {
    let image = image(ampoule::include_guest!("calls"));
    done(command().args(["call", &image, function]).args(arguments).args(CALLS_HOST))
}

#[test]
fn what_a_call_costs_here_is_measured_against_what_the_system_offers() {
    let report: Value = serde_json::from_str(&done(command().args(["bench", "--json"])).stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!((&rows[0]["name"], &rows[0]["ratio"]), (&json!("call of a function"), &json!(1.0)), "{report:#}");
    // A call is one exit, and going back adds none.
    assert_eq!((&rows[0]["exits"], &rows[1]["exits"]), (&json!(1.0), &json!(1.0)), "{report:#}");
    assert!(rows.iter().all(|row| row["microseconds"].as_f64().unwrap() > 0.0), "{report:#}");
    let text = done(command().arg("bench")).stdout;
    assert_eq!(text.lines().count(), rows.len() + 1, "{text}");
}

/// The report of `doctor`, and the exit code.
fn doctor(command: &mut Command) -> (Value, i32) {
    let done = done(command);
    (serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{}{}", done.stdout, done.stderr)), done.code)
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut checks = report["checks"].as_array().unwrap().iter();
    checks.find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

fn state<'a>(report: &'a Value, name: &str) -> &'a str {
    check(report, name)["state"].as_str().unwrap()
}

fn finding(report: &Value, name: &str) -> String {
    check(report, name)["finding"].as_str().unwrap().to_owned()
}

/// The file of a guest.
fn image(guest: EmbeddedImage) -> String {
    let path = directory().join(guest.name());
    // Tests that run at the same time find either nothing or all of it.
    if !fs::read(&path).is_ok_and(|bytes| bytes == guest.bytes()) {
        let new = path.with_extension(format!("{:?}", std::thread::current().id()));
        fs::write(&new, guest.bytes()).unwrap();
        fs::rename(&new, &path).unwrap();
    }
    path.to_str().unwrap().to_owned()
}

fn directory() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("command-line");
    fs::create_dir_all(&path).unwrap();
    path
}

/// Answers for all that the guest `shop` imports.
const SHOP_HOST: [&str; 10] = [
    "--host-fn",
    "record=1",
    "--host-fn",
    r#"discount={"quantity": 1, "price": 1}"#,
    "--host-fn",
    "stock=5",
    "--host-fn",
    "stock.by_alias=5",
    "--host-fn",
    "stock.or_text=5",
];

/// Answers for all that the guest `calls` imports.
const CALLS_HOST: [&str; 8] =
    ["--host-fn", "add=4", "--host-fn", "notify=null", "--host-fn", "parse=6", "--host-fn", "transform=[]"];

/// The user `nobody`, by custom.
const NOBODY: u32 = 65_534;

const DOCUMENT: &str = include_str!("../../docs/command-line.md");
