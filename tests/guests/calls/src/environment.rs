//! What `std` offers in a sandbox, and what it does not.

use std::time::{Duration, Instant, SystemTime};

use ampoule_guest::export;

#[export]
fn print(text: &str) {
    print!("{text}");
}

#[export]
fn print_error(text: &str) {
    eprint!("{text}");
}

#[export]
fn arguments() -> Vec<String> {
    std::env::args().collect()
}

#[export]
fn variables() -> Vec<(String, String)> {
    std::env::vars().collect()
}

#[export]
fn open_file(path: &str) -> Result<(), std::io::Error> {
    std::fs::File::open(path).map(drop)
}

#[export]
fn create_file(path: &str) -> Result<(), std::io::Error> {
    std::fs::File::create(path).map(drop)
}

#[export]
fn connect(address: &str) -> Result<(), std::io::Error> {
    std::net::TcpStream::connect(address).map(drop)
}

#[export]
fn start_thread() -> Result<(), std::io::Error> {
    std::thread::Builder::new().spawn(|| ()).map(drop)
}

#[export]
fn start_process(program: &str) -> Result<(), std::io::Error> {
    std::process::Command::new(program).spawn().map(drop)
}

#[export]
fn read_stdin() -> Result<usize, std::io::Error> {
    std::io::Read::read(&mut std::io::stdin(), &mut [0; 16])
}

/// Seconds since 1970, and whether the monotonic clock goes forward over a sleep of `sleep_ms`.
#[export]
fn clocks(sleep_ms: u64) -> (u64, bool) {
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(sleep_ms));
    let advanced = start.elapsed() >= Duration::from_millis(sleep_ms);
    (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(), advanced)
}

/// Fills blocks of memory of many sizes and checks them.
#[export]
fn exercise_memory(rounds: u32) -> bool {
    (0..rounds).all(|round| {
        let blocks: Vec<Vec<u8>> =
            [16, 1000, 70_000, 300_000].map(|size| vec![round as u8; size + round as usize]).to_vec();
        blocks.iter().all(|block| block.iter().all(|byte| *byte == round as u8))
    })
}

/// Asks for more memory than there is, and lives on.
#[export]
fn allocate_too_much() -> bool {
    let mut huge: Vec<u8> = Vec::new();
    huge.try_reserve(1 << 40).is_err()
}

/// A number that depends on the hasher's random keys.
#[export]
fn hasher_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(1)
}

#[export]
fn exit(code: i32) {
    std::process::exit(code);
}

#[export]
fn abort() {
    std::process::abort();
}
