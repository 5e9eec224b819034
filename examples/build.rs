//! Builds the guests that the examples embed.

fn main() {
    ampoule_build::guest("guests/hello").build();
    ampoule_build::guest("guests/thumbnail").build();
}
