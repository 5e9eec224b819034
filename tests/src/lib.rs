//! What the tests share: the images of their guests, sandboxes with the host functions that these import, a model of
//! snapshots, child processes, programs that run natively and the places of their files, and the log.
//!
//! The tests are in `tests/`, their guests in `guests/`.

pub mod child;
pub mod log;
pub mod native;
pub mod places;
pub mod snapshot_model;

use std::sync::LazyLock;

use ampoule::{Builder, Image, Output, Sandbox, Snapshot, Spawn};

/// The well-behaved guest.
pub fn calls_image() -> Image {
    static IMAGE: LazyLock<Image> = LazyLock::new(|| {
        Image::embedded(ampoule::include_guest!("calls")).expect("the image of the guest `calls` is sound")
    });
    IMAGE.clone()
}

/// The guest that does its worst.
pub fn hostile_image() -> Image {
    static IMAGE: LazyLock<Image> = LazyLock::new(|| {
        Image::embedded(ampoule::include_guest!("hostile")).expect("the image of the guest `hostile` is sound")
    });
    IMAGE.clone()
}

/// The guest with types and errors of its own.
pub fn shop_image() -> Image {
    static IMAGE: LazyLock<Image> = LazyLock::new(|| {
        Image::embedded(ampoule::include_guest!("shop")).expect("the image of the guest `shop` is sound")
    });
    IMAGE.clone()
}

/// The guest that hides things, and looks for what others have hidden.
pub fn tenant_image() -> Image {
    static IMAGE: LazyLock<Image> = LazyLock::new(|| {
        Image::embedded(ampoule::include_guest!("tenant")).expect("the image of the guest `tenant` is sound")
    });
    IMAGE.clone()
}

/// The guest that logs.
pub fn logger_image() -> Image {
    static IMAGE: LazyLock<Image> = LazyLock::new(|| {
        Image::embedded(ampoule::include_guest!("logger")).expect("the image of the guest `logger` is sound")
    });
    IMAGE.clone()
}

/// The guest that maps memory everywhere.
pub fn memory_image() -> Image {
    static IMAGE: LazyLock<Image> = LazyLock::new(|| {
        Image::embedded(ampoule::include_guest!("memory")).expect("the image of the guest `memory` is sound")
    });
    IMAGE.clone()
}

/// The guest that reads and writes streams.
pub fn streams_image() -> Image {
    static IMAGE: LazyLock<Image> = LazyLock::new(|| {
        Image::embedded(ampoule::include_guest!("streams")).expect("the image of the guest `streams` is sound")
    });
    IMAGE.clone()
}

/// The guest of whose time it is known where it goes.
pub fn profiled_image() -> Image {
    static IMAGE: LazyLock<Image> = LazyLock::new(|| {
        Image::embedded(ampoule::include_guest!("profiled")).expect("the image of the guest `profiled` is sound")
    });
    IMAGE.clone()
}

/// The host functions that the well-behaved guest imports.
macro_rules! with_calls_functions {
    ($settings:expr) => {
        $settings
            .host_fn("add", |a: u32, b: u32| a + b)
            .host_fn("notify", || ())
            .try_host_fn("parse", |text: String| text.parse::<u32>())
            .try_host_fn("transform", |bytes: Vec<u8>| {
                let inverted: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
                Ok::<_, String>(inverted)
            })
    };
}

/// Settings for the well-behaved guest, with every host function that it imports. What it prints is lost.
pub fn calls_builder() -> Builder {
    calls_functions(Sandbox::builder(&calls_image())).stdout(Output::discard()).stderr(Output::discard())
}

/// Adds every host function that the well-behaved guest imports.
pub fn calls_functions(builder: Builder) -> Builder {
    with_calls_functions!(builder)
}

/// Settings for a sandbox made from a snapshot of the well-behaved guest, with every host function that it imports. What it
/// prints is lost.
pub fn calls_spawn(spawn: Spawn) -> Spawn {
    with_calls_functions!(spawn).stdout(Output::discard()).stderr(Output::discard())
}

/// A sandbox of the well-behaved guest.
///
/// # Panics
/// Where it cannot be built, for example because there is no `/dev/kvm`.
pub fn calls_sandbox() -> Sandbox {
    built(calls_builder())
}

/// A sandbox of the guest that does its worst.
///
/// # Panics
/// Where it cannot be built, for example because there is no `/dev/kvm`.
pub fn hostile_sandbox() -> Sandbox {
    built(Sandbox::builder(&hostile_image()).stdout(Output::discard()).stderr(Output::discard()))
}

/// Settings for the guest that hides things. What it prints is lost, and the host counts its ticks from 0.
pub fn tenant_builder() -> Builder {
    Sandbox::builder(&tenant_image())
        .stdout(Output::discard())
        .stderr(Output::discard())
        .host_fn("tick", ticks())
        .host_fn("words_of_host", words)
}

/// A sandbox of the guest that hides things.
///
/// # Panics
/// Where it cannot be built, for example because there is no `/dev/kvm`.
pub fn tenant_sandbox() -> Sandbox {
    built(tenant_builder())
}

/// Settings for a sandbox made from a snapshot of the guest that hides things; what it prints is lost, and its ticks are
/// counted from 0.
pub fn tenant_spawn(snapshot: &Snapshot) -> Spawn {
    snapshot
        .builder()
        .stdout(Output::discard())
        .stderr(Output::discard())
        .host_fn("tick", ticks())
        .host_fn("words_of_host", words)
}

/// Settings for the guest that maps memory everywhere. What it prints is lost.
pub fn memory_builder() -> Builder {
    Sandbox::builder(&memory_image()).stdout(Output::discard()).stderr(Output::discard())
}

/// A sandbox of the guest that maps memory everywhere.
///
/// # Panics
/// Where it cannot be built, for example because there is no `/dev/kvm`.
pub fn memory_sandbox() -> Sandbox {
    built(memory_builder())
}

fn ticks() -> impl FnMut(u64) -> u64 + Send {
    let mut ticks = 0;
    move |step| {
        ticks += step;
        ticks
    }
}

fn words(count: u32, word: u64) -> Vec<u64> {
    vec![word; count as usize]
}

fn built(builder: Builder) -> Sandbox {
    match builder.build() {
        Ok(sandbox) => sandbox,
        Err(error) => panic!("the tests need a working hypervisor: {error}"),
    }
}
