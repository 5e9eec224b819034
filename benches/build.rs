//! Builds the guest that is measured.

fn main() {
    ampoule_build::guest("../tests/guests/calls").build();
}
