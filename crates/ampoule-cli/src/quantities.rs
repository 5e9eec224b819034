//! Sizes and times as people write them: `64M`, `1.5s`.

use std::time::Duration;

/// A size in bytes: a number, and `K`, `M` or `G` for 1,024, its square and its cube.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = split(text);
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return Err("a size is a number of bytes, or of K, M or G: `64M`".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "a size is a whole number: `64M`".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "it is too large".to_owned())
}

/// A size that an address can have.
pub(crate) fn memory(text: &str) -> Result<usize, String> {
    size(text)?.try_into().map_err(|_| "it is too large".to_owned())
}

/// A time: a number, and `us`, `ms`, `s`, `m` or `h`.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "" => return Err("a time has a unit: `us`, `ms`, `s`, `m` or `h`, as in `1.5s`".to_owned()),
        _ => return Err("the unit of a time is `us`, `ms`, `s`, `m` or `h`, as in `1.5s`".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "a time is a number with a unit: `1.5s`".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "it is too long".to_owned())
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_in_powers_of_1024() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("7B", 7), ("64M", 64 << 20), ("3KiB", 3072), ("2G", 2 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1.5M", "-1", "64 M", "64MB", "64m", "99999999999999999999", "99999999999G"] {
            size(text).expect_err(text);
        }
    }

    #[test]
    fn times_have_a_unit() {
        for (text, milliseconds) in [("2s", 2000), ("1.5s", 1500), ("250ms", 250), ("1m", 60_000), ("1h", 3_600_000)] {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(time("5us"), Ok(Duration::from_micros(5)));
        for text in
            ["", "2", "s", "-1s", "1.2.3s", "2 s", "2d", "1e9s", &"9".repeat(400), &format!("{}h", "9".repeat(40))]
        {
            time(text).expect_err(text);
        }
    }
}
