//! Which part of the code may use which: the layers of `docs/design.md`, read from the sources.
//!
//! A rule names files and what must not stand in them. Tests are free to reach wherever they like.

use std::fs;
use std::path::{Path, PathBuf};

/// What must not stand in the files below a folder, or in a file.
struct Rule {
    why: &'static str,
    within: &'static [&'static str],
    except: &'static [&'static str],
    forbidden: &'static [&'static str],
}

#[test]
fn no_layer_reaches_where_it_must_not() {
    let mut broken = Vec::new();
    for rule in RULES {
        for file in rule.files() {
            let text = without_tests(&read(&file));
            for (line, code) in Lines::of(&text) {
                for word in rule.forbidden.iter().filter(|word| code.uses(word)) {
                    broken.push(format!("{}:{line}: `{word}`: {}", file.display(), rule.why));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{} places:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn the_rules_are_about_files_that_exist_and_would_be_noticed() {
    for rule in RULES {
        assert!(!rule.files().is_empty(), "{}", rule.why);
        for path in rule.within.iter().chain(rule.except) {
            assert!(root().join(path).exists(), "{path}");
        }
    }
    let uses = |text: &'static str, word| Lines::of(text).any(|(_, code)| code.uses(word));
    assert!(uses("use ampoule_vmm::x86_64::paging::Access;", "x86_64"));
    assert!(uses("use crate::{\n    machine,\n    Vm,\n};", "Vm"));
    assert!(uses("let machine = crate::machine::Machine::new();", "machine"));
    assert!(uses("fn run(vm: &dyn ampoule_vmm::Vm) {}", "Vm"));
    assert!(!uses("let mailbox = self.mailbox.len(); // crate::mailbox::len", "mailbox"));
    assert!(!uses("Error::Hypervisor(error) => {}", "Hypervisor"));
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests;\n\nb"), "a\n\n\n\nb");
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\n    x\n}\nb"), "a\n\n\n\n\nb");
}

/// All parts of a guest that runs, for what the application hands in.
const WHAT_RUNS_A_GUEST: &[&str] = &[
    "machine",
    "sandbox",
    "conversation",
    "pool",
    "host_function",
    "program",
    "loader",
    "address_space",
    "guest_memory",
    "personality",
    "interrupt",
    "Processor",
    "Backend",
];

const RULES: &[Rule] = &[
    Rule {
        why: "the host library knows no architecture and no hypervisor: it runs processors (`ampoule_vmm::processor`)",
        within: &["crates/ampoule/src"],
        except: &[],
        forbidden: &[
            "x86_64",
            "aarch64",
            "kvm",
            "Kvm",
            "Vcpu",
            "Vm",
            "Regs",
            "SpecialRegs",
            "Exit",
            "Trap",
            "target_arch",
        ],
    },
    Rule {
        why: "a hypervisor is chosen by whoever builds a sandbox; everything else has a `Backend`",
        within: &["crates/ampoule/src"],
        except: &[
            "crates/ampoule/src/platform.rs",
            "crates/ampoule/src/sandbox/builder.rs",
            "crates/ampoule/src/program/mod.rs",
            "crates/ampoule/src/stored/mod.rs",
        ],
        forbidden: &["Hypervisor"],
    },
    Rule {
        why: "what was chosen becomes a `Backend` in one place",
        within: &["crates/ampoule/src"],
        except: &["crates/ampoule/src/platform.rs"],
        forbidden: &["VirtualMachines", "default_hypervisor"],
    },
    Rule {
        why: "memory of a guest is written only through `TrackedRegion`, which notes it: else it would cross a restore",
        within: &["crates/ampoule/src"],
        except: &[],
        forbidden: &["Region", "PartWriter"],
    },
    Rule {
        why: "the Linux process knows nothing of calls, and nothing of what runs it",
        within: &["crates/ampoule/src/personality"],
        except: &[],
        forbidden: &[
            "machine",
            "sandbox",
            "conversation",
            "pool",
            "host_function",
            "signature",
            "loader",
            "interrupt",
            "Processor",
            "PageMap",
            "Backend",
        ],
    },
    Rule {
        why: "an address space knows only memory and the map of its pages",
        within: &["crates/ampoule/src/address_space", "crates/ampoule/src/guest_memory"],
        except: &[],
        forbidden: &[
            "machine",
            "sandbox",
            "conversation",
            "pool",
            "host_function",
            "signature",
            "loader",
            "personality",
            "fault",
            "interrupt",
            "Processor",
            "Backend",
        ],
    },
    Rule {
        why: "the mailbox is memory and messages, whoever runs the guest",
        within: &["crates/ampoule/src/conversation/mailbox", "crates/ampoule/src/conversation/mailbox.rs"],
        except: &[],
        forbidden: &[
            "machine",
            "sandbox",
            "pool",
            "host_function",
            "personality",
            "address_space",
            "loader",
            "interrupt",
        ],
    },
    Rule {
        why: "memory of the host's is described here, whoever is shown it",
        within: &["crates/ampoule/src/host_memory"],
        except: &[],
        forbidden: WHAT_RUNS_A_GUEST,
    },
    Rule {
        why: "a stream is what the application hands in, whoever passes its pieces and waits for them",
        within: &["crates/ampoule/src/stream"],
        except: &[],
        forbidden: WHAT_RUNS_A_GUEST,
    },
    Rule {
        why: "grants of files become a tree, whoever runs in it",
        within: &["crates/ampoule/src/files"],
        except: &[],
        forbidden: &[
            "machine",
            "sandbox",
            "conversation",
            "pool",
            "host_function",
            "program",
            "loader",
            "address_space",
            "interrupt",
            "Processor",
            "Backend",
        ],
    },
    Rule {
        why: "libraries are files that an address space has mapped, whoever asks for their names",
        within: &["crates/ampoule/src/libraries.rs"],
        except: &[],
        forbidden: &[
            "machine",
            "sandbox",
            "conversation",
            "pool",
            "program",
            "personality",
            "fault",
            "profile",
            "interrupt",
            "Processor",
            "Backend",
        ],
    },
    Rule {
        why: "a log record is text and an event, wherever it comes from",
        within: &["crates/ampoule/src/guest_log"],
        except: &[],
        forbidden: &["machine", "sandbox", "conversation", "pool", "personality", "address_space", "Processor"],
    },
    Rule {
        why: "a machine runs a process, and knows nothing of calls: neither functions nor the messages about them",
        within: &["crates/ampoule/src/machine"],
        except: &[],
        forbidden: &[
            "sandbox",
            "conversation",
            "BuildError",
            "CallError",
            "pool",
            "host_function",
            "signature",
            "arguments",
        ],
    },
    Rule {
        why: "a program is a process that runs to its end: nobody calls it",
        within: &["crates/ampoule/src/program", "crates/ampoule/src/input.rs"],
        except: &[],
        forbidden: &["sandbox", "conversation", "pool", "host_function", "signature", "arguments", "Processor"],
    },
    Rule {
        why: "a conversation is about one call at a time, whoever makes it and whatever becomes of the guest then",
        within: &["crates/ampoule/src/conversation"],
        except: &[],
        forbidden: &["sandbox", "pool", "personality", "address_space", "loader", "Processor"],
    },
    Rule {
        why: "a value without a Rust type is bytes and a guest's types, whoever sends it",
        within: &["crates/ampoule/src/dynamic"],
        except: &["crates/ampoule/src/dynamic/mod.rs"],
        forbidden: &[
            "machine",
            "sandbox",
            "conversation",
            "pool",
            "personality",
            "address_space",
            "loader",
            "interrupt",
            "Processor",
            "Backend",
        ],
    },
    Rule {
        why: "a debugger knows a machine's guest, and neither calls nor who makes them",
        within: &["crates/ampoule/src/debugger"],
        except: &[],
        forbidden: &["sandbox", "conversation", "pool", "host_function", "signature", "arguments", "Backend"],
    },
    Rule {
        why: "a guest that is not debugged knows of no debugger: the machine has a tracer",
        within: &[
            "crates/ampoule/src/machine",
            "crates/ampoule/src/conversation",
            "crates/ampoule/src/address_space",
            "crates/ampoule/src/interrupt",
            "crates/ampoule/src/personality",
            "crates/ampoule/src/loader",
        ],
        except: &[],
        forbidden: &["debugger", "gdbstub"],
    },
    Rule {
        why: "what is loaded does not depend on what runs it",
        within: &["crates/ampoule/src/image", "crates/ampoule/src/loader", "crates/ampoule/src/signature"],
        except: &[],
        forbidden: &["machine", "sandbox", "conversation", "pool", "interrupt", "Processor", "Backend"],
    },
    Rule {
        why: "a core dump is written of a process, whatever runs it and whoever asks for it",
        within: &["crates/ampoule/src/core_dump"],
        except: &[],
        forbidden: &["machine", "sandbox", "conversation", "pool", "interrupt", "Processor", "Backend", "PageMap"],
    },
    Rule {
        why: "a snapshot file is written and read whoever its guest is: only the module itself knows sandboxes and programs",
        within: &[
            "crates/ampoule/src/stored/format.rs",
            "crates/ampoule/src/stored/known.rs",
            "crates/ampoule/src/stored/opened.rs",
            "crates/ampoule/src/stored/read.rs",
            "crates/ampoule/src/stored/record.rs",
            "crates/ampoule/src/stored/write.rs",
        ],
        except: &[],
        forbidden: &["sandbox", "program", "pool", "host_function", "personality", "address_space", "Backend"],
    },
    Rule {
        why: "a kill and a limit reach no further than the processor's interrupter",
        within: &["crates/ampoule/src/interrupt"],
        except: &[],
        forbidden: &["machine", "sandbox", "conversation", "pool", "personality", "loader", "Processor"],
    },
    Rule {
        why: "metrics are told what happens, and look at nothing themselves",
        within: &["crates/ampoule/src/metrics"],
        except: &[],
        forbidden: &[
            "machine",
            "Sandbox",
            "Pool",
            "conversation",
            "host_function",
            "personality",
            "address_space",
            "guest_memory",
            "loader",
            "image",
            "Processor",
            "Backend",
        ],
    },
    Rule {
        why: "a terminal is lent to a program, whatever runs that",
        within: &["crates/ampoule/src/terminal"],
        except: &[],
        forbidden: &["machine", "sandbox", "conversation", "pool", "personality", "address_space", "Processor"],
    },
    Rule {
        why: "a trace is lines that somebody else has made, and a span is what it is given",
        within: &["crates/ampoule/src/trace.rs", "crates/ampoule/src/spans.rs"],
        except: &[],
        forbidden: &["machine", "sandbox", "conversation", "pool", "personality", "address_space", "interrupt"],
    },
    Rule {
        why: "a profile is stacks and images, whoever has sampled them",
        within: &["crates/ampoule/src/profile"],
        except: &["crates/ampoule/src/profile/error.rs"],
        forbidden: &[
            "machine",
            "sandbox",
            "conversation",
            "pool",
            "personality",
            "address_space",
            "loader",
            "interrupt",
            "Processor",
        ],
    },
    Rule {
        why: "what is above the door of the hypervisor is the same for all of them",
        within: &[
            "crates/ampoule-vmm/src/x86_64",
            "crates/ampoule-vmm/src/hypervisor.rs",
            "crates/ampoule-vmm/src/hypervisor",
            "crates/ampoule-vmm/src/interpose.rs",
            "crates/ampoule-vmm/src/count.rs",
            "crates/ampoule-vmm/src/inject.rs",
            "crates/ampoule-vmm/src/processor",
            "crates/ampoule-vmm/src/processor.rs",
            "crates/ampoule-vmm/src/memory",
            "crates/ampoule-vmm/src/memory.rs",
            "crates/ampoule-vmm/src/page_set.rs",
            "crates/ampoule-vmm/src/address.rs",
            "crates/ampoule-vmm/src/linux",
        ],
        except: &["crates/ampoule-vmm/src/hypervisor/open_error.rs", "crates/ampoule-vmm/src/linux/uninterrupted.rs"],
        forbidden: &["kvm", "kvm_bindings", "kvm_ioctls", "Kvm"],
    },
    Rule {
        why: "the architecture is chosen in one place: `crate::arch`",
        within: &[
            "crates/ampoule-vmm/src/hypervisor.rs",
            "crates/ampoule-vmm/src/hypervisor",
            "crates/ampoule-vmm/src/interpose.rs",
            "crates/ampoule-vmm/src/count.rs",
            "crates/ampoule-vmm/src/inject.rs",
            "crates/ampoule-vmm/src/processor",
            "crates/ampoule-vmm/src/processor.rs",
            "crates/ampoule-vmm/src/memory",
            "crates/ampoule-vmm/src/memory.rs",
            "crates/ampoule-vmm/src/page_set.rs",
            "crates/ampoule-vmm/src/address.rs",
            "crates/ampoule-vmm/src/linux",
            "crates/ampoule-vmm/src/platform.rs",
        ],
        except: &[],
        forbidden: &["x86_64", "target_arch"],
    },
    Rule {
        why: "what both sides of the ABI share, and what reads hostile images, depends on nothing of ours",
        within: &["crates/ampoule-abi/src", "crates/ampoule-symbols/src"],
        except: &[],
        forbidden: &["ampoule_vmm", "ampoule", "libc"],
    },
    Rule {
        why: "files are names and bytes, whoever asks for them: neither processes nor guests",
        within: &["crates/ampoule-vfs/src"],
        except: &[],
        forbidden: &["ampoule_vmm", "ampoule", "ampoule_abi", "libc"],
    },
    Rule {
        why: "files in memory know of the host only where a file of it is",
        within: &["crates/ampoule-vfs/src/memory", "crates/ampoule-vfs/src/sparse.rs"],
        except: &[],
        forbidden: &["rustix", "mount", "walk", "vfs", "process"],
    },
    Rule {
        why: "the command line is an application like any other; what examines the machine asks the hypervisor",
        within: &["crates/ampoule-cli/src"],
        except: &[
            "crates/ampoule-cli/src/arguments.rs",
            "crates/ampoule-cli/src/doctor/machine.rs",
            "crates/ampoule-cli/src/doctor/trial.rs",
        ],
        forbidden: &["ampoule_vmm", "Hypervisor"],
    },
    Rule {
        why: "the host library reaches no network: what moves its files stands beside it",
        within: &["crates/ampoule/src", "crates/ampoule-vmm/src", "crates/ampoule-vfs/src"],
        except: &[],
        forbidden: &["ampoule_oci", "ureq", "oci_spec"],
    },
    Rule {
        why: "what is pushed and pulled is files, whatever runs what is in them",
        within: &["crates/ampoule-oci/src"],
        // Which characters can be shown is said there.
        except: &["crates/ampoule-oci/src/text.rs"],
        forbidden: &["ampoule_vmm", "ampoule_abi", "Hypervisor", "Sandbox", "Pool", "libc"],
    },
    Rule {
        why: "only the client of registries speaks HTTP, and knows who asks",
        within: &["crates/ampoule-oci/src"],
        except: &[
            "crates/ampoule-oci/src/registry/mod.rs",
            "crates/ampoule-oci/src/registry/http.rs",
            "crates/ampoule-oci/src/registry/login.rs",
        ],
        forbidden: &["ureq", "http_auth", "docker_credential"],
    },
    Rule {
        why: "a store has blobs and a manifest, whatever they are",
        within: &[
            "crates/ampoule-oci/src/registry",
            "crates/ampoule-oci/src/store.rs",
            "crates/ampoule-oci/src/blob.rs",
            "crates/ampoule-oci/src/new_file.rs",
        ],
        except: &[],
        forbidden: &["artifact", "push", "pull", "layout", "SnapshotFile"],
    },
    Rule {
        why: "a guest knows nothing of its host but the ABI",
        within: &["crates/ampoule-guest/src"],
        except: &[],
        forbidden: &["ampoule_vmm", "ampoule_symbols"],
    },
];

impl Rule {
    /// The source files that the rule is about, without tests.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut pending: Vec<_> = self.within.iter().map(|path| root().join(path)).collect();
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
                files.push(path);
            }
        }
        files.retain(|file| !self.except.iter().any(|except| *file == root().join(except)));
        files
    }
}

fn is_test(path: &Path) -> bool {
    let is_test =
        |name: &str| matches!(name, "tests" | "tests.rs" | "model" | "fuzzing") || name.ends_with("_tests.rs");
    path.strip_prefix(root()).unwrap().iter().any(|part| part.to_str().is_some_and(is_test))
}

/// The text without the items that are only for tests; all lines keep their numbers.
fn without_tests(text: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start() != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        kept.push("");
        let indent = line.len() - line.trim_start().len();
        for line in lines.by_ref() {
            kept.push("");
            let is_last = line.trim_end().ends_with(';') || line.trim() == "}" || line.trim() == "},";
            if is_last && line.len() - line.trim_start().len() == indent {
                break;
            }
        }
    }
    kept.join("\n")
}

/// A line without its comment.
#[derive(Clone, Copy)]
struct Code<'text> {
    text: &'text str,
    /// Whether it is a part of a `use` declaration.
    is_import: bool,
}

/// The lines of a file with their numbers.
struct Lines<'text> {
    lines: std::iter::Enumerate<std::str::Lines<'text>>,
    in_import: bool,
}

impl<'text> Lines<'text> {
    fn of(text: &'text str) -> Self {
        Self { lines: text.lines().enumerate(), in_import: false }
    }
}

impl<'text> Iterator for Lines<'text> {
    type Item = (usize, Code<'text>);

    fn next(&mut self) -> Option<Self::Item> {
        let (index, line) = self.lines.next()?;
        let text = line.split("//").next().unwrap_or_default();
        let begins = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "]
            .iter()
            .any(|start| text.trim_start().starts_with(start));
        let is_import = self.in_import || begins;
        self.in_import = is_import && !text.contains(';');
        Some((index + 1, Code { text, is_import }))
    }
}

impl Code<'_> {
    /// Whether the line imports this, or names it by a path. A variable or a variant of the same name does not count.
    fn uses(self, word: &str) -> bool {
        let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        self.text.match_indices(word).any(|(at, _)| {
            let (before, after) = (&self.text[..at], &self.text[at + word.len()..]);
            let is_word = !is_part(before.as_bytes().last()) && !is_part(after.as_bytes().first());
            let is_named = ["crate::", "super::", "ampoule_vmm::"].iter().any(|root| before.ends_with(root))
                || (after.starts_with("::") && word.starts_with(|first: char| first.is_ascii_lowercase()));
            is_word && (self.is_import || is_named)
        })
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
