//! Builds the guests of the tests.

fn main() {
    ampoule_build::guest("guests/calls").build();
    ampoule_build::guest("guests/hostile").build();
}
