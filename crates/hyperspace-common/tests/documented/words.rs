//! Frames in bytes and in words.

use std::collections::HashMap;

use hyperspace_common::Kind;

use crate::frames::Frame;

/// Where the words begin.
const COLUMN: usize = 40;
/// Where long bytes go on, and where the words are below them: under the payload.
const INDENT: usize = 13;
/// The longest line.
const WIDTH: usize = 132;

/// The fields of each message, by their numbers.
pub(crate) struct Schema(HashMap<&'static str, HashMap<u64, Field>>);

struct Field {
    name: &'static str,
    kind: &'static str,
    repeated: bool,
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Schema {
    /// As the files in `proto/` have it.
    pub(crate) fn read() -> Self {
        let mut messages: HashMap<_, HashMap<_, _>> = HashMap::new();
        let files = [
            include_str!("../../proto/hyperspace.proto"),
            include_str!("../../proto/corestore.proto"),
            include_str!("../../proto/hypercore.proto"),
            include_str!("../../proto/network.proto"),
            include_str!("../../proto/log.proto"),
            include_str!("../../proto/store.proto"),
            include_str!("../../proto/access.proto"),
        ];
        let mut message = "";
        for line in files.iter().flat_map(|file| file.lines()) {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["message", name, "{"] => message = name,
                [label @ ("required" | "optional" | "repeated"), kind, name, "=", number, ..] => {
                    let number = number.trim_end_matches(';').parse().unwrap();
                    let kind = kind.rsplit('.').next().unwrap();
                    let field = Field { name, kind, repeated: label == "repeated" };
                    messages.entry(message).or_default().insert(number, field);
                }
                _ => {}
            }
        }
        Self(messages)
    }

    /// The bytes, and the words beside them; below them where they are long.
    pub(crate) fn lines(&self, frame: &Frame) -> String {
        let (bytes, words) = (bytes_of(frame), self.words(frame));
        if bytes.len() < COLUMN - 1 && COLUMN + words.len() <= WIDTH {
            return format!("{bytes:COLUMN$}{words}");
        }
        format!("{}\n{:INDENT$}{}", folded(&bytes, " "), "", folded(&words, ", "))
    }

    fn words(&self, frame: &Frame) -> String {
        let Frame { kind, method, id, payload, message, .. } = frame;
        let said = message.map(|message| self.message(message, payload));
        let is_event = method.name().starts_with("On");
        match (kind, *id, said) {
            (Kind::Request, 0, Some(said)) if is_event => format!("event {method} {said}"),
            (Kind::Request, 0, said) => {
                format!("{method} {}, no answer wanted", said.unwrap_or("{}".into()))
            }
            (Kind::Request, id, said) => format!("{method} {}, call {id}", said.unwrap_or("{}".into())),
            (Kind::Response, id, said) => format!("answer to {id}: {}", said.unwrap_or("done".into())),
            (Kind::Error, id, said) => format!("error to {id}: {}", said.unwrap_or_default()),
        }
    }

    /// A message as its fields are named.
    fn message(&self, name: &str, mut bytes: &[u8]) -> String {
        let mut said: Vec<(&Field, Vec<String>)> = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Value::Number(varint(&mut bytes)),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).unwrap();
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    Value::Bytes(value)
                }
                other => panic!("the schema has no fields on the wire as {other}"),
            };
            let field = &self.0[name][&(key >> 3)];
            let value = self.value(field.kind, value);
            match said.last_mut() {
                Some((last, values)) if last.name == field.name => values.push(value),
                _ => said.push((field, vec![value])),
            }
        }
        let said = said.iter().map(|(field, values)| {
            let values = values.join(", ");
            if field.repeated {
                format!("{}: [{values}]", field.name)
            } else {
                format!("{}: {values}", field.name)
            }
        });
        let said: Vec<String> = said.collect();
        if said.is_empty() { "{}".into() } else { format!("{{ {} }}", said.join(", ")) }
    }

    fn value(&self, kind: &str, value: Value<'_>) -> String {
        match (kind, value) {
            ("bool", Value::Number(number @ 0..=1)) => (number == 1).to_string(),
            // Numbers of errors are below 0, and go over the wire in two's complement.
            ("uint32", Value::Number(number)) => u32::try_from(number).unwrap().cast_signed().to_string(),
            ("uint64", Value::Number(number)) => number.to_string(),
            ("string", Value::Bytes(text)) => format!("{:?}", str::from_utf8(text).unwrap()),
            ("bytes", Value::Bytes(bytes)) if is_text(bytes) => {
                format!("{:?}", str::from_utf8(bytes).unwrap())
            }
            ("bytes", Value::Bytes(bytes)) => hex(bytes),
            (message, Value::Bytes(bytes)) => self.message(message, bytes),
            (kind, Value::Number(number)) => panic!("{number} as {kind}"),
        }
    }
}

fn bytes_of(frame: &Frame) -> String {
    let (head, payload) = (hex(&frame.head), hex(&frame.payload));
    if payload.is_empty() { head } else { format!("{head}  {payload}") }
}

/// Whether these are words, and no key.
fn is_text(bytes: &[u8]) -> bool {
    bytes.len() < 32 && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Two digits a byte; 32 of the same, which are a key, in short.
fn hex(mut bytes: &[u8]) -> String {
    let mut words = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        if bytes.starts_with(&[*first; 32]) {
            words.push(format!("{first:02x}..{first:02x}"));
            bytes = &bytes[32..];
        } else {
            words.push(format!("{first:02x}"));
            bytes = rest;
        }
    }
    words.join(" ")
}

/// In several lines, as it is too long for one.
fn folded(text: &str, between: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for piece in text.split_inclusive(between) {
        if INDENT + line.len() + piece.trim_end().len() > WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        line.push_str(piece);
    }
    lines.push(line);
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join(&format!("\n{:INDENT$}", ""))
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a number without an end")
}
