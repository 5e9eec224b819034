//! Builds the guest.

fn main() {
    ampoule_build::guest("rules").build();
}
