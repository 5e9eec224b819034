//! Builds the guest that uses popular crates.

fn main() {
    // Two hundred crates are compiled: as quickly as possible, since none of them has much to do.
    ampoule_build::guest("guest").profile("dev").locked().build();
}
