//! What the compiler says of an application, or of a guest, that uses its library wrongly.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Mistakes, each as a statement, and what the compiler's message for it says.
const MISTAKES: &[(&str, &str, &[&str])] = &[
    (
        "error_without_text",
        "builder.try_host_fn(\"open\", || Err::<u32, Local>(Local));",
        &[
            "error[E0277]: `Local` cannot be the error of a host function",
            "this closure's error has no text",
            ".map_err(|error| format!(\"{error:?}\"))",
        ],
    ),
    (
        "argument_without_tuple",
        "sandbox.call::<u32>(\"f\", 5u32);",
        &["`u32` cannot be the arguments of a guest function", "even where there is only one, as in `(5,)`"],
    ),
    (
        "parameter_without_tuple",
        "sandbox.typed_fn::<u32, u32>(\"f\");",
        &["`u32` cannot be the parameters of a guest function", "even where there is only one, as in `(u32,)`"],
    ),
    (
        "parameter_that_cannot_be_decoded",
        "builder.host_fn(\"take\", |value: Local| ());",
        &["cannot be a host function", "and implement `serde::Deserialize`"],
    ),
    (
        "host_function_without_data",
        "builder.host_fn_with::<u32, _, _, ()>(\"take\", |value: u32| ());",
        &["cannot be a host function that works with the data of a call", "its first parameter is the data, `&mut T`"],
    ),
    (
        "host_function_that_cannot_be_sent",
        "let shared = std::rc::Rc::new(1u32); builder.host_fn(\"count\", move || *shared);",
        &["`Rc<u32>` cannot be sent between threads safely", "to implement `HostFunction<(), u32>`"],
    ),
];

/// Mistakes in a guest, each as an item, and what the compiler's message for it says.
const MISTAKES_OF_GUESTS: &[(&str, &str, &[&str])] = &[
    (
        "error_that_cannot_travel",
        "#[ampoule_guest::export]\nfn answer() -> Result<u32, Local> {\n    Err(Local)\n}",
        &[
            "error[E0277]: `Local` cannot be the error of an exported function",
            "fn answer() -> Result<u32, Local> {",
            "implement `std::fmt::Display`, and the host gets its text, or derive `serde::Serialize`",
        ],
    ),
    (
        "error_that_cannot_be_made",
        "#[ampoule_guest::import]\nfn price() -> Result<u32, Local>;",
        &[
            "error[E0277]: `Local` cannot be the error of an imported function",
            "fn price() -> Result<u32, Local>;",
            "or implement `From<ampoule_guest::HostError>`",
        ],
    ),
];

#[test]
fn a_mistake_is_answered_with_what_to_write_instead() {
    let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiler-messages");
    let sources = project.join("src/bin");
    fs::create_dir_all(&sources).unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let manifest = format!(
        "[package]\nname = \"mistakes\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\nampoule = {{ path = {:?} }}\n\
         ampoule-guest = {{ path = {:?} }}\n",
        repository.join("crates/ampoule"),
        repository.join("crates/ampoule-guest")
    );
    fs::write(project.join("Cargo.toml"), manifest).unwrap();
    fs::copy(repository.join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    for (name, mistake, _) in MISTAKES {
        let source = format!(
            "use ampoule::{{Builder, Sandbox}};\nstruct Local;\nfn with(mut sandbox: Sandbox, builder: Builder) {{\n    \
             {mistake}\n}}\nfn main() {{}}\n"
        );
        fs::write(sources.join(name).with_extension("rs"), source).unwrap();
    }
    for (name, mistake, _) in MISTAKES_OF_GUESTS {
        let source = format!("#![allow(dead_code)]\nstruct Local;\n{mistake}\nfn main() {{}}\n");
        fs::write(sources.join(name).with_extension("rs"), source).unwrap();
    }
    for (name, mistake, expected) in MISTAKES.iter().chain(MISTAKES_OF_GUESTS) {
        let output = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["check", "--offline", "--bin", name, "--target-dir", "target"])
            .current_dir(&project)
            .env("CARGO_TERM_COLOR", "never")
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{mistake} compiles");
        for part in *expected {
            assert!(message.contains(part), "{name}: `{part}` is not in:\n{message}");
        }
    }
}
