//! Small freestanding guests in C, made by the C compiler that Rust links with.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs, io, process};

use ampoule_abi::layout::{ABI_MAJOR, ABI_MINOR, RECORD_HEADER_LEN, RecordKind, padded_text_len};

/// A guest's source, in a folder of its own that goes with it.
pub struct Guest {
    folder: PathBuf,
    numbers: Vec<u32>,
}

impl Guest {
    /// `functions` are the guest's exports and imports, each with its name and signature.
    pub fn new(source: &str, functions: &[(RecordKind, &str, &str)]) -> io::Result<Self> {
        let folder = env::temp_dir().join(format!("ampoule-fuzz-{}", process::id()));
        fs::create_dir_all(&folder)?;
        let abi = u64::from(ABI_MAJOR) << 32 | u64::from(ABI_MINOR);
        let mut records = record(RecordKind::Abi, abi, "", "");
        let mut numbers = Vec::new();
        for &(kind, name, signature) in functions {
            numbers.push(records.len() as u32);
            records.extend(record(kind, 0, name, signature));
        }
        let bytes = records.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
        let attributes = "section(\"ampoule_fns\"), aligned(8), used";
        let section = format!("__attribute__(({attributes})) static unsigned char functions[] = {{{bytes}}};");
        fs::write(folder.join("guest.c"), format!("{section}\n{source}"))?;
        Ok(Self { folder, numbers })
    }

    /// The numbers of the functions (`docs/abi.md`, section 1), in the order in which they were given.
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// The guest as an executable, compiled with these arguments beside the usual ones.
    pub fn compile(&self, arguments: &[&str]) -> io::Result<Vec<u8>> {
        let status = Command::new("cc")
            .current_dir(&self.folder)
            .args(["-O1", "-static", "-nostdlib", "-fno-stack-protector", "-fasynchronous-unwind-tables"])
            .arg(format!("-ffile-prefix-map={}=.", self.folder.display())) // so that it is the same each time
            .args(["-Wl,-z,norelro", "-Wl,--eh-frame-hdr", "-Wl,--build-id=none", "-o", "guest", "guest.c"])
            .args(arguments)
            .status()?;
        if status.success() { fs::read(self.folder.join("guest")) } else { Err(io::Error::other("cc failed")) }
    }

    /// The contents of a section of what was compiled last; nothing if there is none.
    pub fn section(&self, name: &str) -> io::Result<Vec<u8>> {
        let section = self.folder.join("section");
        fs::write(&section, [])?;
        Command::new("objcopy")
            .current_dir(&self.folder)
            .args(["--dump-section", &format!("{name}=section"), "guest", "copy"])
            .stderr(Stdio::null()) // it complains where there is none
            .status()?;
        fs::read(section)
    }
}

/// A program that reads a byte and prints another one, and is a guest without functions, too.
pub fn tiny_program() -> io::Result<Vec<u8>> {
    Guest::new(include_str!("../../tests/guests/c/tiny.c"), &[])?.compile(&["-s"])
}

impl Drop for Guest {
    fn drop(&mut self) {
        // What is left behind is small, and where it is temporary files go.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A function record (`docs/abi.md`, section 1).
fn record(kind: RecordKind, value: u64, name: &str, signature: &str) -> Vec<u8> {
    let size = RECORD_HEADER_LEN + padded_text_len(name, signature);
    let mut record = (size as u32).to_le_bytes().to_vec();
    record.extend((kind as u16).to_le_bytes());
    record.extend([0, 0]);
    record.extend(value.to_le_bytes());
    record.extend((name.len() as u32).to_le_bytes());
    record.extend((signature.len() as u32).to_le_bytes());
    record.extend(name.bytes().chain(signature.bytes()));
    record.resize(size, 0);
    record
}
