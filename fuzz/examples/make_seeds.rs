//! Makes the seeds of the targets again: `cargo run --manifest-path fuzz/Cargo.toml --example make_seeds`.
//!
//! The executables come from the C compiler, so they differ a little from machine to machine.

use std::error::Error;
use std::fs;
use std::path::Path;

use ampoule::Image;
use ampoule_abi::codec;
use ampoule_abi::layout::{
    AllocationHeader, AllocationKind, GuestMessageKind, LogField, LogLevel, LogRecord, LogValue, MessageLine,
    OutputHeader, OutputKind, PanicRecord, RecordKind, ReturnStatus, SpanParent, SpanRecord, SpanStep,
};
use ampoule_abi::schema::{FunctionTypes, Schema, Tracer};
use ampoule_fuzz::elf::SECTIONS;
use ampoule_fuzz::guest::{Guest, tiny_program};
use ampoule_fuzz::values::{Bits32, Bits64, Borrowing, Collections, Marker, Newtype, Struct, Value};
use serde::Serialize;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let functions = [
        (RecordKind::Export, "run", "fn(u64) -> Result<Vec<u8>, Error>"),
        (RecordKind::Import, "note", "fn(&str, (u8, Option<u32>))"),
    ];
    let guest = Guest::new(SOURCE, &functions)?;
    for (name, arguments) in BUILDS {
        let file = guest.compile(arguments)?;
        Image::from_bytes(file.clone())?;
        seed("elf_image", name, &file)?;
        let code = &guest.section(".text")?;
        seed("symbols", name, &[&file[..], &state(entry(&file), code.len())].concat())?;
        let mut tables = Vec::new();
        for section in SECTIONS {
            let contents = guest.section(section)?;
            tables.extend(u16::try_from(contents.len())?.to_le_bytes());
            tables.extend(contents);
        }
        seed("debug_info", name, &[tables, vec![0; 64]].concat())?;
    }
    for (index, text) in SIGNATURES.into_iter().enumerate() {
        seed("signature", &format!("{index:02}"), text.as_bytes())?;
    }
    for (index, symbol) in SYMBOLS.into_iter().enumerate() {
        seed("function_name", &format!("{index:02}"), symbol.as_bytes())?;
    }
    payloads()?;
    schema()?;
    dynamic()?;
    snapshot_file()?;
    registry()?;
    seed("mailbox", "call", &call())?;
    seed("mailbox", "panic", &panic())?;
    seed("mailbox", "log", &log())?;
    seed("mailbox", "spans", &spans())?;
    seed("mailbox", "allocations", &allocations())?;
    for (name, arguments) in ARGUMENTS {
        let (mut process, mut guest) = (Vec::new(), Vec::new());
        for number in 0..512_u16 {
            process.extend([&[10][..], &number.to_be_bytes(), &arguments].concat());
            guest.extend([&[4][..], &number.to_le_bytes(), &arguments].concat());
        }
        seed("system_calls", name, &process)?;
        seed("guest_system_calls", name, &guest)?;
    }
    seed("messages", "talk", &talk())?;
    for (name, lines) in DEBUGGERS {
        seed("debugger", name, lines.join("\n").as_bytes())?;
    }
    seed("snapshots", "lineage", LINEAGE)?;
    for target in ["address_space", "snapshots", "calls", "messages", "files"] {
        for (name, len) in [("short", 64), ("medium", 256), ("long", 1024)] {
            seed(target, name, &noise(len))?;
        }
    }
    Ok(())
}

/// What debuggers say, one packet for each line. `400000` is about where the guest is.
const DEBUGGERS: [(&str, &[&str]); 6] = [
    (
        "begins",
        &[
            "qSupported:multiprocess+;swbreak+;hwbreak+;qRelocInsn+;fork-events+;vContSupported+;QThreadEvents+;no-resumed+",
            "vMustReplyEmpty",
            "QStartNoAckMode",
            "Hgp0.0",
            "qXfer:features:read:target.xml:0,1000",
            "qXfer:auxv:read::0,1000",
            "qTStatus",
            "?",
            "qfThreadInfo",
            "qsThreadInfo",
            "qAttached:1",
            "qC",
            "g",
        ],
    ),
    (
        "file",
        &[
            "qXfer:exec-file:read:1:0,1000",
            "vFile:setfs:0",
            "vFile:open:2f67756573742f67,0,0",
            "vFile:fstat:3",
            "vFile:pread:3,1000,40",
            "vFile:readlink:2f",
            "vFile:close:3",
        ],
    ),
    (
        "breaks",
        &[
            "?",
            "Z0,401000,1",
            "Z1,401010,1",
            "vCont;c",
            "!\u{3}",
            "g",
            "z0,401000,1",
            "vCont;s:p1.1",
            "vCont;r401000,402000",
            "!\u{3}",
            "D;1",
        ],
    ),
    (
        "watches",
        &[
            "?",
            "Z2,403000,8",
            "Z3,403008,4",
            "Z4,7f7fffffe000,8",
            "vCont;c",
            "!\u{3}",
            "z4,7f7fffffe000,8",
            "vCont;c",
            "!\u{3}",
            "c",
        ],
    ),
    (
        "changes",
        &[
            "?",
            "m400000,40",
            "M403000,4:00112233",
            "X403000,2:ab",
            "P10=0010400000000000",
            "p10",
            "G0000000000000000",
            "vCont;C0b",
            "!\u{3}",
            "vCont;c",
            "!\u{3}",
            "k",
        ],
    ),
    ("kills", &["vKill;1", "D", "!$g#00$?#3f", "!++--\u{3}\u{3}", "T1", "Hc-1", "qRcmd,68656c70"]),
];

/// An input of a target to which all bytes mean something.
fn noise(len: usize) -> Vec<u8> {
    let mut state = len as u64;
    let next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A call in `messages`: the guest puts down a text, hands it to each host function, and returns it.
fn talk() -> Vec<u8> {
    let text = [&[8, 0, 0, 6, 0][..], b"\x02\0\0\0hi"].concat();
    let message = |answers_call: u8, kind: u8, function: u8| [answers_call << 7, 0, function, kind, 6, 0, 0];
    let host_calls = (1..5).flat_map(|function| [&text[..], &message(0, 3, function)].concat());
    let steps = host_calls.chain(text.clone()).chain(message(1, 2, 0));
    [2 | 9 << 3].into_iter().chain(steps).collect()
}

/// The seeds of `codec_decode`: the number of a type, and a payload of it.
fn payloads() -> Result<(), Box<dyn Error>> {
    let structure = Struct {
        name: "outer".into(),
        next: Some(Value::Option(Some(Box::new(Value::Char('ü'))))),
        marker: Marker,
        words: vec![1, u64::MAX],
    };
    let values = vec![
        Value::Unit,
        Value::Large { unsigned: (1, 2, u128::MAX), signed: (-1, -2, i128::MIN) },
        Value::Float(Bits32(f32::NAN), Bits64(-0.0)),
        Value::Bytes(b"bytes".to_vec()),
        Value::Sequence(vec![Value::Bool(true), Value::Units(vec![(); 3]), Value::Array([1, 2, 3])]),
        Value::Result(Err("no".into())),
        Value::Struct(Box::new(structure.clone())),
    ];
    let collections = Collections {
        map: [("key".into(), values.clone())].into(),
        numbers: [(7, [(1, 'a'), (2, 'b')].into())].into(),
        set: [vec![1, 2], vec![3]].into(),
        values: values.clone(),
    };
    payload(0, &Value::Sequence(values.clone()))?;
    payload(1, &values)?;
    payload(2, &structure)?;
    payload(3, &Newtype(vec![vec![1, 2], vec![]]))?;
    payload(4, &("text", 7_u32, vec![vec![(1_u64, 2_u64)], vec![]]))?;
    payload(5, &vec![[9_u64; 32]; 2])?;
    payload(6, &Borrowing { text: "text", bytes: &[1, 2], list: vec![("a", "b".into())] })?;
    payload(7, &collections)
}

fn payload(choice: u8, value: &impl Serialize) -> Result<(), Box<dyn Error>> {
    let mut bytes = vec![choice; 4096];
    let len = codec::encode(value, &mut bytes[1..])?;
    seed("codec_decode", &format!("{choice}"), &bytes[..=len])
}

/// A seed of `schema`: one of all types.
fn schema() -> Result<(), Box<dyn Error>> {
    let mut tracer = Tracer::new();
    let [result, error] = [tracer.trace::<Value>(), tracer.trace::<Collections>()];
    let functions = vec![FunctionTypes { function: 32, parameters: vec![result, error], result, error }];
    let mut bytes = Vec::new();
    codec::encode(&Schema { types: tracer.finish(), functions }, &mut bytes)?;
    seed("schema", "all", &bytes)
}

/// A seed of `dynamic`: a type, all types, an argument as JSON, and the bytes of a value.
fn dynamic() -> Result<(), Box<dyn Error>> {
    let mut tracer = Tracer::new();
    let place = tracer.trace::<Value>();
    let value =
        Value::Option(Some(Box::new(Value::Sequence(vec![Value::Text("text".to_owned()), Value::Small(1, 2, 3, 4)]))));
    let (mut of_value, mut bytes) = (Vec::new(), Vec::new());
    codec::encode(&value, &mut of_value)?;
    codec::encode(&(place, tracer.finish(), serde_json::to_string(&value)?, of_value), &mut bytes)?;
    seed("dynamic", "value", &bytes)
}

/// Steps of `mailbox`: the guest is ready, is called, prints, calls the host, and returns.
fn call() -> Vec<u8> {
    let ready = MessageLine { kind: GuestMessageKind::Ready as u32, ..MessageLine::default() };
    let host_call = MessageLine { kind: GuestMessageKind::HostCall as u32, sequence: 1, length: 5, ..ready };
    let returned = MessageLine {
        kind: GuestMessageKind::Return as u32,
        sequence: 1,
        status: ReturnStatus::Done as u32,
        length: 5,
        ..MessageLine::default()
    };
    let mut text = [0; 64];
    text[..13].copy_from_slice(b"\x01\0\x02\0hi\x02\0\x03\0no\n");
    let mut result = [0; 64];
    result[..5].copy_from_slice(b"\x01\0\0\0x");
    [
        &[0][..],
        &ready.to_bytes(),
        &[9, 6, 4],
        &text,
        &[3, 13, 0, 0, 0, 12, 0],
        &host_call.to_bytes(),
        &[9, 7, 0],
        &returned.to_bytes(),
        &[5],
        &result,
        &[9, 15, 14],
    ]
    .concat()
}

/// Steps of `mailbox`: the guest leaves a panic behind.
fn panic() -> Vec<u8> {
    let mut record = [0; 64];
    let panic = PanicRecord { message: "out of range", file: "src/main.rs", line: 7, column: 5 };
    let length = codec::encode(&panic, &mut record[..]).expect("it is short");
    let line = MessageLine { kind: GuestMessageKind::Panic as u32, length: length as u32, ..MessageLine::default() };
    [&[0][..], &line.to_bytes(), &[5], &record, &[13]].concat()
}

/// Steps of `mailbox`: the guest logs.
fn log() -> Vec<u8> {
    let record = LogRecord {
        level: LogLevel::Info as u32,
        message: "hi",
        fields: vec![LogField { name: "a", value: LogValue::Bool(true) }],
        ..LogRecord::default()
    };
    put_out(OutputKind::Log, &record)
}

/// Steps of `mailbox`: the guest logs in a span.
fn spans() -> Vec<u8> {
    let record = LogRecord { level: LogLevel::Info as u32, ..LogRecord::default() };
    put_out(OutputKind::Span, &SpanRecord { time: 1, step: SpanStep::Log { parent: SpanParent::Current, record } })
}

/// Steps of `mailbox`: a record waits in the output area.
fn put_out(kind: OutputKind, record: &impl serde::Serialize) -> Vec<u8> {
    let mut area = [0; 64];
    let length = codec::encode(record, &mut area[4..]).expect("it is short") as u16;
    area[..4].copy_from_slice(&OutputHeader { stream: kind.number(), length }.to_bytes());
    [&[4][..], &area, &[3], &u32::from(length + 4).to_le_bytes(), &[12]].concat()
}

/// Steps of `mailbox`: the guest records a block with one caller, and that it is freed.
fn allocations() -> Vec<u8> {
    let kind = OutputKind::Allocation.number();
    let block = AllocationHeader { kind: AllocationKind::Allocated as u32, flags: 0, address: 0x1000, size: 8 };
    let freed = AllocationHeader { kind: AllocationKind::Freed as u32, size: 0, ..block };
    let mut area = [0; 64];
    area[..4].copy_from_slice(&OutputHeader { stream: kind, length: 32 }.to_bytes());
    area[4..28].copy_from_slice(&block.to_bytes());
    area[28..36].copy_from_slice(&0x40_1000_u64.to_le_bytes());
    area[36..40].copy_from_slice(&OutputHeader { stream: kind, length: 24 }.to_bytes());
    area[40..].copy_from_slice(&freed.to_bytes());
    [&[4][..], &area, &[3], &64_u32.to_le_bytes(), &[12]].concat()
}

/// Registers of the program's first instruction, and a stack of addresses in its code.
fn state(entry: u64, code: usize) -> Vec<u8> {
    let stack = 0x7000_0000_u64;
    let registers = [entry, stack, stack + 16, 0, 0, 0];
    let words = (0..26).map(|word| if word % 2 == 0 { stack + 8 * word + 32 } else { entry + word % code as u64 });
    registers.into_iter().chain(words).flat_map(u64::to_le_bytes).collect()
}

fn entry(file: &[u8]) -> u64 {
    u64::from_le_bytes(file[24..32].try_into().expect("it has eight bytes"))
}

/// What a registry sends of a snapshot and its parent.
fn registry() -> Result<(), Box<dyn Error>> {
    let [first, second] = ["0a", "0b"].map(|byte| byte.repeat(32));
    let blob = |kind: &str, size: u32| {
        let media_type = format!("application/vnd.ampoule.snapshot.{kind}");
        json!({"mediaType": media_type, "digest": format!("sha256:{first}"), "size": size})
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.ampoule.snapshot.v1",
        "config": blob("config.v1+json", 100),
        "layers": [blob("layer.v1", 4096), blob("layer.v1", 8192)],
    });
    let config = json!({"snapshots": [{"digest": first, "parent": null}, {"digest": second, "parent": first}]});
    seed("registry", "artifact", format!("\u{2}{manifest}\0{config}").as_bytes())?;
    let answers = [
        ("challenge", r#"Bearer realm="https://a.example/token",service="a",scope="repository:b:pull""#),
        ("error", r#"{"errors":[{"code":"DENIED","message":"no"}]}"#),
        ("token", r#"{"token":"a.b"}"#),
        ("tag", "registry.example:5000/team/name:tag"),
        ("layout", "oci:some/directory:tag"),
    ];
    answers.into_iter().try_for_each(|(name, text)| seed("registry", name, text.as_bytes()))
}

fn seed(target: &str, name: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)?;
    Ok(())
}

/// Arguments for each system call in turn: small numbers; and what `mmap` and others take, a place and a length first.
const ARGUMENTS: [(&str, [u8; 6]); 2] = [("numbers", [1, 2, 3, 0, 0, 0]), ("places", [0x60, 0x4c, 3, 0x62, 0x3f, 0])];

/// Steps of `snapshots`, each of its kind and which sandbox and snapshot it is about: the guest puts values down, is kept,
/// changes them, goes back, faults, goes back, has a sandbox made like it, is killed, and goes.
const LINEAGE: &[u8] = &[
    0, 0, 1, 200, 7, 3, 0, 1, 250, 8, 12, 0, 2, 0, 0, b'h', b'i', 13, 0, 2, 0, 0, 0, 9, 7, 0, 1, 3, 5, 16, 0, 25, 0, 0,
    0, 16, 0, 27, 0, 7, 1, 1, 9, 6, 25, 1, 2, 0, 21, 0x01, 29, 0, 30, 0,
];

const BUILDS: [(&str, &[&str]); 6] = [
    ("dwarf5", &["-gdwarf-5"]),
    ("dwarf4-pie", &["-gdwarf-4", "-static-pie", "-fPIE"]),
    ("dwarf64", &["-gdwarf-5", "-gdwarf64"]),
    ("zlib", &["-gdwarf-5", "-gz=zlib"]),
    ("ranges", &["-gdwarf-4", "-O2", "-ffunction-sections"]),
    ("bare", &["-g0", "-s"]),
];

const SOURCE: &str = r#"
static inline __attribute__((always_inline)) int scaled(volatile int *at) { return *at * 3; }
__attribute__((noinline)) int leaf(volatile int *at) { return scaled(at) + 1; }
int _RNvNtCs1234_5guest6decode5build(volatile int *at) __attribute__((noinline));
int _RNvNtCs1234_5guest6decode5build(volatile int *at) { return leaf(at) + leaf(at + 1); }
int _ZN5shape5Point4moveEi(volatile int *at) __attribute__((noinline, alias("_RNvNtCs1234_5guest6decode5build")));
void _start(void) {
    volatile int numbers[2] = {1, 2};
    _RNvNtCs1234_5guest6decode5build(numbers);
    for (;;) {}
}
"#;

const SYMBOLS: [&str; 10] = [
    "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE",
    "_RINvNtC3std4iter3maphRShE",
    "_ZNSt6vectorIiSaIiEE9push_backEOi",
    "_ZN5space7numbersILin3ELb1ELc120ELm7EEEvv",
    "_ZN5space8callbackIXadL_ZNS_6targetEiEEEEvv",
    "_ZZ3useiENKUlT_E_clIcEEDaS0_",
    "_ZTv0_n24_N1A1fEv.cold",
    "_ZN2tyIM1AKFviEEEvv",
    "_ZN2tyIPFPFvvEiEEEvv",
    "_ZStlsISt11char_traitsIcEERSt13basic_ostreamIcT_ES5_PKc",
];

const SIGNATURES: [&str; 10] = [
    "fn()",
    "fn(&str, u32) -> Result<Vec<u8>, image::DecodeError>",
    "fn(&'a mut [u8; 0x10], (char,)) -> std::io::Result<()>",
    "HashMap<String, Option<(u128, f64)>, RandomState>",
    "fn(&dyn Shape<'a, u8>, Cow<'static, str>, [bool])",
    "Box<dyn Fn(&'a u8, u16) -> std::io::Error + Send + 'static>",
    "<a::T as b::Trait>::Output",
    "Matrix<{ N + 1 }, -3>",
    "r#type::r#struct::<[[u8; MAX]; 4_usize]>",
    "for<'a> unsafe extern fn(*const u8, !) -> impl Iterator<Item = a::B> + ?Sized",
];

/// A whole file, and the state of one.
fn snapshot_file() -> Result<(), Box<dyn Error>> {
    let executable = ampoule::Executable::from_bytes(tiny_program()?)?;
    let program = ampoule::Program::of(&executable).memory_limit(1 << 20);
    let path = std::env::temp_dir().join(format!("ampoule-seed-{}.snap", std::process::id()));
    program.start()?.run_until_input()?.snapshot()?.save(&path)?;
    let file = fs::read(&path)?;
    fs::remove_file(&path)?;
    // As in `docs/snapshot-format.md`: the length of the state, which is the second page's.
    let len = u64::from_le_bytes(file[24..32].try_into()?) as usize;
    seed("snapshot_file", "front", &[&[0], &file[..8192]].concat())?;
    seed("snapshot_file", "state", &[&[1], &file[4096..4096 + len]].concat())
}
