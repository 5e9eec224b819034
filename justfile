# The commands of this project. `just` lists them.

default:
    @just --list

# Everything that continuous integration checks.
ci:
    bash .ci/run

# Run the tests; they need /dev/kvm.
test:
    cargo test --workspace

# Run the tests on ordinary KVM, in QEMU's emulation of AMD SVM, with both kinds of paging; fetches Debian packages once.
test-svm *arguments:
    scripts/test-svm {{arguments}}

# Push and pull snapshots by a registry; fetches Debian's docker-registry once.
test-registry:
    scripts/test-registry

# Compare the test suites of other programs, natively and sealed; takes hours, and says which of Debian's packages it needs.
programs *arguments:
    scripts/programs {{arguments}}

# Format all code.
fmt:
    cargo fmt --all

# Lint all code, warnings denied.
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Build the documentation, warnings denied.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Build the guide as a book, in target/book; needs mdBook.
book:
    scripts/book

# Compile what is published with the oldest Rust that it promises to work with, if that is installed.
oldest-rust:
    scripts/oldest-rust

# Compare the public interfaces with those of the last release; needs cargo-semver-checks.
semver:
    scripts/semver

# Package all crates as they would be published, and compile the packages.
package:
    cargo package $(grep -L '^publish = false$' crates/*/Cargo.toml | cut -d / -f 2 | sed 's/^/--package=/')

# Measure calls and creation; prints ratios to the bare exit of the same run.
bench:
    cargo run --release -p ampoule-bench

# Sandboxes at random through calls, kills, faults and resets for five minutes.
soak:
    AMPOULE_SOAK_SECONDS=300 cargo test --release -p ampoule-tests --test soak -- --nocapture

# Random operations on memory in guests, and restores around them, against a model for half an hour.
soak-memory:
    AMPOULE_MODEL_SECONDS=1800 cargo test --release -p ampoule-tests --test memory_model -- --nocapture memory_is_what_the_model_says

# Fuzz one target for so many seconds, or all for a moment; needs a nightly toolchain and cargo-fuzz.
fuzz target="" seconds="20":
    scripts/fuzz --seconds {{seconds}} {{target}}

# The two examples.
examples:
    cargo run --release --example hello
    cargo run --release --example thumbnail -- examples/pictures/valley.jpg target/valley-small.png
