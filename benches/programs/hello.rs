//! A Rust program that does as good as nothing.

fn main() {
    println!("hello");
}
