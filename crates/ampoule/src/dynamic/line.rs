//! Values on a line, as a trace shows them: in the way of `strace`, and as much of each as tells which it is.
//!
//! A value has a bounded part of the line, whatever it holds: [`MAX_TEXT`] bytes of a text, [`MAX_ELEMENTS`] elements of a sequence or
//! a map, and [`MAX_VALUE`] bytes in all. What is left out is `...`.

use std::fmt::Write;

use ampoule_abi::codec::DecodeError;
use ampoule_abi::schema::{Content, DataType, Field};
use ampoule_abi::text::{is_printable, printable_name};

use super::read::{ReadError, Reader};

/// Shows values of these types that stand one behind the other: `1, "lamp", {quantity=2, price=30}`. From the first on that is
/// no value of its type, or of whose type nothing is known, it is how many bytes are left.
pub(crate) fn values(types: &[DataType], places: &[u32], bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut reader = Reader::new(types, bytes);
    for (index, place) in places.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        let (mut end, mut line) = (reader, Line::default());
        if end.pass(*place).is_err() {
            put(&mut text, format_args!("{} bytes", reader.remaining()));
            break;
        }
        // All of it can be read, so it is cut only where it is long.
        if let Err(Cut) = line.value(&mut reader, *place) {
            line.text.truncate(line.text.floor_char_boundary(MAX_VALUE));
            line.text.push_str("...");
        }
        text.push_str(&line.text);
        reader = end;
    }
    text
}

/// The part of the line that one value has.
#[derive(Default)]
struct Line {
    text: String,
}

/// A value is not shown to its end: it has taken its part of the line, or cannot be read.
struct Cut;

type Shown = Result<(), Cut>;

impl Line {
    fn value(&mut self, reader: &mut Reader<'_>, place: u32) -> Shown {
        macro_rules! number {
            ($number:ty) => {
                put(&mut self.text, <$number>::from_le_bytes(reader.array()?))
            };
        }
        let types = reader.types();
        match &types[place as usize] {
            DataType::Unknown | DataType::Untransferable => return Err(Cut),
            DataType::Unit => {
                reader.unit()?;
                self.text.push_str("()");
            }
            DataType::Bool => put(&mut self.text, reader.bool()?),
            DataType::I8 => number!(i8),
            DataType::I16 => number!(i16),
            DataType::I32 => number!(i32),
            DataType::I64 => number!(i64),
            DataType::I128 => number!(i128),
            DataType::U8 => number!(u8),
            DataType::U16 => number!(u16),
            DataType::U32 => number!(u32),
            DataType::U64 => number!(u64),
            DataType::U128 => number!(u128),
            DataType::F32 => number!(f32),
            DataType::F64 => number!(f64),
            DataType::Char => put(&mut self.text, format_args!("{:?}", reader.char()?)),
            DataType::String => quote(&mut self.text, reader.text()?),
            DataType::Bytes => {
                let bytes = reader.block()?;
                let shown = &bytes[..bytes.len().min(MAX_TEXT)];
                put(&mut self.text, format_args!("\"{}\"{}", shown.escape_ascii(), more(shown.len() < bytes.len())));
            }
            _ => {
                let mut inner = *reader;
                self.compound(&mut inner, place)?;
                reader.go_to(inner);
            }
        }
        if self.text.len() > MAX_VALUE { Err(Cut) } else { Ok(()) }
    }

    /// A value that has parts, which are a level deeper.
    fn compound(&mut self, reader: &mut Reader<'_>, place: u32) -> Shown {
        match &reader.types()[place as usize] {
            DataType::Option(inner) => match reader.is_some()? {
                true => {
                    reader.enter()?;
                    self.text.push_str("Some(");
                    self.value(reader, *inner)?;
                    self.text.push(')');
                }
                false => self.text.push_str("None"),
            },
            DataType::Sequence(element) => {
                reader.enter()?;
                let count = reader.count()?;
                self.list(std::iter::repeat_n(*element, count), reader)?;
            }
            DataType::Array(element, count) => {
                reader.enter()?;
                reader.begin_fields(*count as usize)?;
                self.list(std::iter::repeat_n(*element, *count as usize), reader)?;
            }
            DataType::Map(key, value) => {
                reader.enter()?;
                self.map((*key, *value), reader)?;
            }
            DataType::Tuple(elements) => {
                reader.enter()?;
                reader.begin_fields(elements.len())?;
                self.tuple(elements, reader)?;
            }
            DataType::Struct { fields, .. } => {
                reader.enter()?;
                reader.begin_fields(fields.len())?;
                self.fields(fields, reader)?;
            }
            _ => {
                reader.enter()?;
                let (index, variant) = reader.variant(place)?;
                match &*variant.name {
                    "" => put(&mut self.text, index),
                    name => put(&mut self.text, printable_name(name)),
                }
                self.content(&variant.content, reader)?;
            }
        }
        Ok(())
    }

    /// What a variant of an enum holds.
    fn content(&mut self, content: &Content, reader: &mut Reader<'_>) -> Shown {
        match content {
            Content::Unknown => Err(Cut),
            Content::Unnamed(held) if held.is_empty() => Ok(()),
            Content::Unnamed(held) => self.tuple(held, reader),
            Content::Named(fields) => {
                self.text.push(' ');
                self.fields(fields, reader)
            }
        }
    }

    fn fields(&mut self, fields: &[Field], reader: &mut Reader<'_>) -> Shown {
        self.text.push('{');
        for (index, field) in fields.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            put(&mut self.text, format_args!("{separator}{}=", printable_name(&field.name)));
            self.value(reader, field.data_type)?;
        }
        self.text.push('}');
        Ok(())
    }

    fn tuple(&mut self, parts: &[u32], reader: &mut Reader<'_>) -> Shown {
        self.text.push('(');
        for (index, part) in parts.iter().enumerate() {
            self.text.push_str(if index > 0 { ", " } else { "" });
            self.value(reader, *part)?;
        }
        self.text.push(')');
        Ok(())
    }

    /// The first of many elements. The others are passed over.
    fn list(&mut self, elements: impl ExactSizeIterator<Item = u32>, reader: &mut Reader<'_>) -> Shown {
        let count = elements.len();
        self.text.push('[');
        for (index, element) in elements.enumerate() {
            if index >= MAX_ELEMENTS {
                reader.pass(element)?;
                continue;
            }
            self.text.push_str(if index > 0 { ", " } else { "" });
            self.value(reader, element)?;
        }
        self.text.push_str(if count > MAX_ELEMENTS { ", ...]" } else { "]" });
        Ok(())
    }

    fn map(&mut self, (key, value): (u32, u32), reader: &mut Reader<'_>) -> Shown {
        let count = reader.count()?;
        self.text.push('{');
        for index in 0..count {
            if index >= MAX_ELEMENTS {
                reader.pass(key)?;
                reader.pass(value)?;
                continue;
            }
            self.text.push_str(if index > 0 { ", " } else { "" });
            self.value(reader, key)?;
            self.text.push_str(": ");
            self.value(reader, value)?;
        }
        self.text.push_str(if count > MAX_ELEMENTS { ", ...}" } else { "}" });
        Ok(())
    }
}

impl From<ReadError> for Cut {
    fn from(_: ReadError) -> Self {
        Self
    }
}

impl From<DecodeError> for Cut {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

/// A text in quotes, or its beginning.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    quote(&mut quoted, text);
    quoted
}

fn quote(line: &mut String, text: &str) {
    let shown = &text[..text.floor_char_boundary(MAX_TEXT)];
    line.push('"');
    for character in shown.chars() {
        match character {
            '"' | '\\' => line.extend(['\\', character]),
            character if is_printable(character) => line.push(character),
            character => line.extend(character.escape_default()),
        }
    }
    line.push('"');
    line.push_str(more(shown.len() < text.len()));
}

fn more(is_cut: bool) -> &'static str {
    if is_cut { "..." } else { "" }
}

fn put(text: &mut String, shown: impl std::fmt::Display) {
    write!(text, "{shown}").expect("text goes into a string");
}

/// How much of a text is shown, in bytes: as much as of one that a system call reads.
const MAX_TEXT: usize = 64;

/// How many elements of a sequence or a map are shown.
const MAX_ELEMENTS: usize = 8;

/// How much of the line a value has, in bytes.
const MAX_VALUE: usize = 512;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ampoule_abi::codec::{MAX_DEPTH, encode};
    use ampoule_abi::schema::Tracer;
    use serde::{Deserialize, Serialize};

    use super::*;

    fn shown<T: Serialize + for<'de> Deserialize<'de>>(value: &T) -> String {
        let mut tracer = Tracer::new();
        let place = tracer.trace::<T>();
        values(&tracer.finish(), &[place], &bytes(value))
    }

    fn bytes(value: &impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(value, &mut bytes).unwrap();
        bytes
    }

    #[derive(Serialize, Deserialize)]
    struct Order {
        article: String,
        pieces: Option<u32>,
    }

    #[derive(Serialize, Deserialize)]
    enum Payment {
        Cash,
        Card(u8, i64),
        Voucher { code: char },
    }

    #[test]
    fn values_look_like_what_they_are() {
        let order = |pieces| Order { article: "lamp".to_owned(), pieces };
        assert_eq!(shown(&order(Some(2))), r#"{article="lamp", pieces=Some(2)}"#);
        assert_eq!(shown(&order(None)), r#"{article="lamp", pieces=None}"#);
        assert_eq!(shown(&[Payment::Cash, Payment::Card(7, -1)]), "[Cash, Card(7, -1)]");
        assert_eq!(shown(&Payment::Voucher { code: '\n' }), r"Voucher {code='\n'}");
        assert_eq!(shown(&((), 1.5, true)), "((), 1.5, true)");
        assert_eq!(shown(&BTreeMap::from([(1, "one".to_owned()), (2, "two".to_owned())])), r#"{1: "one", 2: "two"}"#);
        assert_eq!(shown(&Vec::<u32>::new()), "[]");
        assert_eq!(shown(&"a\"\\\n\u{202e}ü".to_owned()), r#""a\"\\\n\u{202e}ü""#);
    }

    #[test]
    fn of_what_is_long_the_beginning_is_shown() {
        assert_eq!(shown(&"x".repeat(65)), format!("\"{}\"...", "x".repeat(64)));
        assert_eq!(shown(&(0..9).collect::<Vec<u32>>()), "[0, 1, 2, 3, 4, 5, 6, 7, ...]");
        assert_eq!(shown(&(0..9).map(|key| (key, ())).collect::<BTreeMap<u32, ()>>()).matches("()").count(), 8);
        let many = shown(&vec![vec!["x".repeat(100); 100]; 100]);
        assert!(many.len() <= MAX_VALUE + 3 && many.ends_with("..."), "{many}");
        let nested = |levels: usize| values(&[DataType::Option(0)], &[0], &[vec![1; levels], vec![0]].concat());
        assert!(nested(3) == "Some(Some(Some(None)))" && nested(MAX_DEPTH - 1).len() == MAX_VALUE + 3);
        assert!(nested(MAX_DEPTH + 1).ends_with(" bytes"));
    }

    #[test]
    fn each_value_has_its_part_of_the_line() {
        let types = [DataType::String, DataType::U32, DataType::Unknown];
        let mut payload = bytes(&"long".repeat(1000));
        payload.extend(bytes(&7u32));
        payload.extend([1, 2, 3]);
        let line = values(&types, &[0, 1, 2], &payload);
        assert!(line.ends_with("long\"..., 7, 3 bytes"), "{line}");
    }

    #[test]
    fn what_is_no_value_of_its_type_is_a_number_of_bytes() {
        let types = [DataType::String, DataType::Bool];
        for payload in [&[][..], &[9], &[200, 0, 0, 0, b'x'], &[1, 0, 0, 0, 0xff]] {
            assert_eq!(values(&types, &[0], payload), format!("{} bytes", payload.len()));
        }
        assert_eq!(values(&types, &[1, 0], &[1, 9]), "true, 1 bytes");
    }
}
