//! Any schema is refused, or can be compared with the host's types and with its values.

#![no_main]

use ampoule_abi::codec;
use ampoule_abi::schema::{Checker, Coverage, Schema, Tracer, difference, untransferable};
use ampoule_fuzz::values::{Collections, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(schema) = codec::decode::<Schema>(input) else { return };
    if let Err(error) = schema.check() {
        assert!(!error.to_string().is_empty());
        return;
    }
    let types = &schema.types;
    let mut tracer = Tracer::new();
    let hosts = [tracer.trace::<Value>(), tracer.trace::<Collections>()];
    let host_types = tracer.finish();
    let mut coverage = Coverage::new();
    let value = Value::Option(Some(Box::new(Value::Pair(Box::new((Value::Char('a'), Value::Units(vec![(); 2])))))));
    for function in schema.functions.iter().take(8) {
        for root in [function.result, function.error] {
            if let Some(path) = untransferable(types, root) {
                assert!(path.len() < MAX_TEXT);
            }
            for host in hosts {
                if let Some(difference) = difference((types, root), (&host_types, host)) {
                    assert!(difference.to_string().len() < MAX_TEXT);
                }
            }
            let mut checker = Checker::new(types, &mut coverage);
            if let Err(difference) = checker.value(root, &value) {
                assert!(difference.to_string().len() < MAX_TEXT);
            } else {
                checker.finish();
            }
        }
    }
});

/// A text has a path and two names in it, each character of which may be escaped.
const MAX_TEXT: usize = 1 << 18;
