use super::*;
use crate::arguments::Arguments;
use crate::stream::Streams;

/// What a function with 32 parameters of one type gets and is given.
#[rustfmt::skip]
type Most = (u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32,
             u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);

#[rustfmt::skip]
const MOST: Most = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
                    17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32);

#[test]
fn a_function_may_have_32_parameters_and_gets_each_in_its_place() {
    #[rustfmt::skip]
    let mut function = |a1: u32, a2: u32, a3: u32, a4: u32, a5: u32, a6: u32, a7: u32, a8: u32,
                        a9: u32, a10: u32, a11: u32, a12: u32, a13: u32, a14: u32, a15: u32, a16: u32,
                        a17: u32, a18: u32, a19: u32, a20: u32, a21: u32, a22: u32, a23: u32, a24: u32,
                        a25: u32, a26: u32, a27: u32, a28: u32, a29: u32, a30: u32, a31: u32, a32: u32| {
        vec![a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16,
             a17, a18, a19, a20, a21, a22, a23, a24, a25, a26, a27, a28, a29, a30, a31, a32]
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    MOST.encode(&mut encoder, &mut Streams::of_call(1)).unwrap();
    encoder.finish().unwrap();
    let got = HostFunction::<Most, _>::call(&mut function, &bytes[..]).unwrap();
    assert_eq!(got, (1..=32).collect::<Vec<_>>());
    assert_eq!(<Most as Arguments>::types().len(), 32);
}
