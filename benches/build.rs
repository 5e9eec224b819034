//! Builds the guests that are measured.

fn main() {
    ampoule_build::guest("guest").build();
    ampoule_build::guest("../tests/guests/calls").build();
    ampoule_build::guest("../tests/guests/memory").build();
    ampoule_build::guest("../tests/guests/profiled").build();
}
