use std::io::{Read, stdin};

fn main() {
    let mut text = String::new();
    stdin().read_to_string(&mut text).expect("the input is text");
    println!("{}", text.split_whitespace().count());
}
