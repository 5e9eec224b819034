//! What an Ampoule host and its guest agree on.
//!
//! This crate is the [guest ABI](https://github.com/ampoule-rs/ampoule/blob/main/docs/abi.md) in Rust: the layout of
//! the structures that both sides read ([`layout`]), the encoding of the values that travel between them ([`codec`]), and
//! what the types of these values are made of ([`schema`]). How each shows what the other says is in [`text`]. The host
//! library and the guest library are built on it; applications and guests use those.

#![no_std]

extern crate alloc;

pub mod codec;
pub mod layout;
pub mod mapped;
pub mod schema;
pub mod stream;
pub mod text;
