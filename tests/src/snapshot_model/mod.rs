//! Several sandboxes of one lineage and their snapshots, beside a model that keeps plain copies, and what can happen to them.

mod step;
mod world;

pub use step::{Change, End, Step};
pub use world::World;
