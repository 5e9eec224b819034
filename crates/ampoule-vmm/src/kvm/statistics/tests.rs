use super::*;

/// A file with these statistics: name, flags, value.
struct Fake(Vec<u8>);

impl Fake {
    fn new(statistics: &[(&str, u32, u64)]) -> Fake {
        let data = HEADER + statistics.len() * (DESCRIPTOR + NAME);
        let header = [0, NAME, statistics.len(), 0, HEADER, data];
        let mut bytes: Vec<u8> = header.iter().flat_map(|word| (*word as u32).to_ne_bytes()).collect();
        for (index, (name, flags, _)) in statistics.iter().enumerate() {
            bytes.extend([*flags, 1 << 16, 8 * index as u32, 0].iter().flat_map(|word| word.to_ne_bytes()));
            bytes.extend(name.bytes().chain(std::iter::repeat(0)).take(NAME));
        }
        bytes.extend(statistics.iter().flat_map(|(_, _, value)| value.to_ne_bytes()));
        Fake(bytes)
    }
}

impl FileExt for Fake {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        unreachable!("statistics are only read")
    }
}

#[test]
fn statistics_are_found_by_their_names() {
    let file = Fake::new(&[("halt_exits", 0, 1), ("io_exits", 0, 2), ("exits", 0, 3)]);
    let expected = Statistics { exits: Some(3), io_exits: Some(2), ..Statistics::default() };
    assert_eq!(parse(&file).unwrap(), expected);
}

#[test]
fn a_statistic_that_does_not_only_grow_is_none_of_ours() {
    let file = Fake::new(&[("exits", 1, 3), ("mmio_exits", 0, 4)]);
    assert_eq!(parse(&file).unwrap(), Statistics { mmio_exits: Some(4), ..Statistics::default() });
}

#[test]
fn a_name_may_fill_its_field() {
    let whole = "n".repeat(NAME);
    assert_eq!(parse(&Fake::new(&[(&whole, 0, 1)])).unwrap(), Statistics::default());
}

#[test]
fn a_file_that_is_cut_short_or_claims_too_much_is_an_error() {
    let whole = Fake::new(&[("exits", 0, 3)]);
    for len in 0..whole.0.len() {
        assert!(parse(&Fake(whole.0[..len].to_vec())).is_err(), "{len}");
    }
    for (at, claimed) in [(4, LONGEST_NAME + 1), (8, MOST + 1), (4, u32::MAX), (8, u32::MAX), (20, u32::MAX)] {
        let mut bytes = whole.0.clone();
        bytes[at..at + 4].copy_from_slice(&claimed.to_ne_bytes());
        assert!(parse(&Fake(bytes)).is_err(), "{claimed:#x} at {at}");
    }
}

const NAME: usize = 16;
