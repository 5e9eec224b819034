//! Builds the guests that the examples embed.

fn main() {
    ampoule_build::guest("guests/checkout").build();
    ampoule_build::guest("guests/hello").build();
    // For a debugger: not optimized, with all debug information.
    ampoule_build::guest("guests/search").profile("dev").rustflag("-Cdebuginfo=2").build();
    ampoule_build::guest("guests/thumbnail").build();
}
