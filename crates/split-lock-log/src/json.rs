//! Messages in JSON of any shape: which strings hold them, and what is said beside them about when, where and who.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::header::{Origin, whole_wall};
use crate::journal::Entry;
use crate::patterns::Patterns;
use crate::{Stamp, WallFormat};

mod field_name;

pub(crate) use field_name::FieldName;

/// What is known of a string from what stands beside it, and further out.
#[derive(Debug, Clone, Default)]
struct Context {
    stamp: Stamp,
    host: Option<Vec<u8>>,
    origin: Origin,
}

/// Deeper than this nobody nests logs; JSON in strings of JSON is as deep again.
const MOST_LEVELS: usize = 64;
const MOST_NESTED_TEXTS: usize = 3;

/// The entries of a document: each line of each string in it that may hold a message.
///
/// The same message is often there twice, as it came and as it was understood (`stdout` and `stdout_lines`, `message`
/// and `event.original`). What one field has said is not counted again when another says it.
pub(crate) fn entries(document: &Value, patterns: &Patterns) -> Vec<Entry> {
    let mut walk = Walk {
        patterns,
        found: vec![],
        place: Place::default(),
        fields: 0,
        records: 0,
        nested_texts: 0,
    };
    walk.value(document, &Context::default(), MOST_LEVELS);
    walk.without_repetitions()
}

struct Walk<'a> {
    patterns: &'a Patterns,
    found: Vec<(Place, Entry)>,
    /// Where it is now.
    place: Place,
    fields: usize,
    records: usize,
    nested_texts: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    /// Of several objects in an array each is a record of its own.
    record: usize,
    field: usize,
}

impl Walk<'_> {
    fn value(&mut self, value: &Value, context: &Context, levels: usize) {
        let Some(levels) = levels.checked_sub(1) else {
            return;
        };
        match value {
            Value::Object(members) => self.object(members, context, levels),
            Value::Array(items) => match bytes(items) {
                Some(text) => self.text(&text, context),
                None => {
                    let context = beside_time(items, context);
                    let place = self.place;
                    for item in items {
                        if item.is_object() {
                            self.records += 1;
                            self.place.record = self.records;
                        }
                        self.value(item, &context, levels);
                        self.place = place;
                    }
                }
            },
            Value::String(text) => self.string(text, context, levels),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn object(&mut self, members: &Map<String, Value>, outer: &Context, levels: usize) {
        let context = context(members, outer);
        for (name, value) in members {
            if FieldName::of(name.as_bytes()) != Some(FieldName::Question) {
                let place = self.place;
                self.fields += 1;
                self.place.field = self.fields;
                self.value(value, &context, levels);
                self.place = place;
            }
        }
    }

    fn string(&mut self, text: &str, context: &Context, levels: usize) {
        let is_json =
            text.trim_start().starts_with(['{', '[']) && self.nested_texts < MOST_NESTED_TEXTS;
        if is_json
            && self.patterns.any_in(text.as_bytes())
            && let Ok(inner @ (Value::Object(_) | Value::Array(_))) =
                serde_json::from_str(text.trim())
        {
            self.nested_texts += 1;
            self.value(&inner, context, levels);
            self.nested_texts -= 1;
            return;
        }
        self.text(text.as_bytes(), context);
    }

    fn text(&mut self, text: &[u8], context: &Context) {
        if !self.patterns.any_in(text) {
            return;
        }
        let entry = |message: &[u8]| Entry {
            stamp: context.stamp.clone(),
            host: context.host.clone(),
            origin: context.origin,
            message: message.to_vec(),
        };
        // Several lines are several messages, and a journal's one message may have several lines, in a name.
        let text = text.trim_ascii_end();
        let is_journal = context.origin != Origin::Unknown;
        for line in text.split(|&byte| byte == b'\n' && !is_journal) {
            if is_journal || self.patterns.any_in(line) {
                self.found.push((self.place, entry(line)));
            }
        }
    }

    fn without_repetitions(self) -> Vec<Entry> {
        let mut kept: Vec<(Place, Entry, Vec<usize>)> = vec![];
        for (place, entry) in self.found {
            let core = |entry: &Entry| core(&entry.message).to_vec();
            let repeated = kept.iter_mut().find(|(of, first, said_by)| {
                of.record == place.record
                    && of.field != place.field
                    && !said_by.contains(&place.field)
                    && first.stamp == entry.stamp
                    && core(first) == core(&entry)
            });
            match repeated {
                Some((_, _, said_by)) => said_by.push(place.field),
                None => kept.push((place, entry, vec![])),
            }
        }
        kept.into_iter().map(|(_, entry, _)| entry).collect()
    }
}

/// Without what stands in front of it, which may be written in several ways.
fn core(message: &[u8]) -> &[u8] {
    let message = message.trim_ascii();
    let words: [&[u8]; 3] = [b"x86/split lock", b"#AC: ", b"#DB: "];
    let start = words
        .iter()
        .find_map(|words| memchr::memmem::find(message, words));
    &message[start.unwrap_or(0)..]
}

/// The journal writes what is no text as an array of bytes.
fn bytes(items: &[Value]) -> Option<Vec<u8>> {
    let byte = |item: &Value| u8::try_from(item.as_u64()?).ok();
    (!items.is_empty()).then(|| items.iter().map(byte).collect())?
}

/// `["1763823189123456789", "line"]`: Loki's.
fn beside_time(items: &[Value], outer: &Context) -> Context {
    let mut context = outer.clone();
    if let [first, second, ..] = items
        && second.is_string()
        && let Some((wall, text)) = wall(first)
        && wall != WallFormat::TimeOfDay
    {
        (context.stamp.wall, context.stamp.text) = (Some(wall), text);
    }
    context
}

/// What an object says of the messages in it; what it does not say is as it is further out.
fn context(members: &Map<String, Value>, outer: &Context) -> Context {
    let mut context = outer.clone();
    let named = |wanted: FieldName| {
        members
            .iter()
            .filter(move |(name, _)| FieldName::of(name.as_bytes()) == Some(wanted))
            .map(|(_, value)| value)
    };
    let uptimes = members
        .iter()
        .find_map(|(name, value)| match FieldName::of(name.as_bytes()) {
            Some(FieldName::Uptime { per_second }) => Some((per_second, number(value)?)),
            _ => None,
        });
    if let Some((per_second, count)) = uptimes {
        let micros = named(FieldName::UptimeMicros)
            .find_map(number)
            .unwrap_or(0.0);
        let seconds = count / f64::from(per_second) + micros / 1e6;
        context.stamp.uptime = Duration::try_from_secs_f64(seconds).ok().map(to_micros);
    }
    let walls = [0, 1]
        .into_iter()
        .find_map(|rank| named(FieldName::Time(rank)).find_map(wall));
    if let Some((wall, text)) = walls {
        (context.stamp.wall, context.stamp.text) = (Some(wall), text);
    } else if let Some(uptime) = named(FieldName::Time(0)).find_map(number)
        && (0.0..1e9).contains(&uptime)
    {
        // `dmesg --json`
        context.stamp.uptime = Duration::try_from_secs_f64(uptime).ok().map(to_micros);
    }
    if context.stamp.text.is_empty()
        && let Some(uptime) = context.stamp.uptime
    {
        let text = format!("{}.{:06}", uptime.as_secs(), uptime.subsec_micros());
        context.stamp.text = text.into_bytes();
    }
    // Loki has what is common to several lines in an object beside them.
    let labels = members.get("stream").or_else(|| members.get("labels"));
    let host = host_in(members).or_else(|| host_in(labels?.as_object()?));
    context.host = host.or(context.host);
    let transport = named(FieldName::Transport).find_map(Value::as_str);
    let program = named(FieldName::Program).find_map(Value::as_str);
    context.origin = match (transport, program) {
        (Some("kernel"), _) => Origin::Kernel,
        (Some(_), _) => Origin::Program,
        (None, Some("kernel")) => Origin::Kernel,
        (None, Some(program)) if !program.is_empty() => Origin::Program,
        _ => context.origin,
    };
    context
}

fn host_in(members: &Map<String, Value>) -> Option<Vec<u8>> {
    let is_host = |name: &str| FieldName::of(name.as_bytes()) == Some(FieldName::Host);
    let mut hosts = members.iter().filter(|(name, _)| is_host(name));
    hosts.find_map(|(_, host)| match host {
        Value::String(host) => Some(host.clone().into_bytes()),
        Value::Object(host) => Some(host.get("name")?.as_str()?.as_bytes().to_vec()),
        _ => None,
    })
}

/// The kernel's times have microseconds.
fn to_micros(time: Duration) -> Duration {
    Duration::from_micros((time.as_nanos() + 500).div_euclid(1000) as u64)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn wall(value: &Value) -> Option<(WallFormat, Vec<u8>)> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let digits = text.len();
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let format = match (is_number, digits) {
        (true, 16) => WallFormat::UnixMicros,
        (true, 19) => WallFormat::UnixNanos,
        _ => whole_wall(text.as_bytes())?,
    };
    Some((format, text.into_bytes()))
}

/// What stands before an object in a sequence (`-o json-seq`), and in a stream of events (`-o json-sse`).
const BEFORE_JSON: [&[u8]; 2] = [b"\x1e", b"data: "];

/// The value in a line, or in a beginning of one, if it looks like an object or an array of objects or strings.
pub(crate) fn value_in(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii();
    let mut marks = BEFORE_JSON.iter();
    let value = marks.find_map(|mark| line.strip_prefix(*mark));
    let line = value.unwrap_or(line).trim_ascii_start();
    let is_value = match line {
        [b'{', rest @ ..] => {
            matches!(rest.trim_ascii_start(), [] | [b'"' | b'}', ..])
        }
        [b'[', rest @ ..] => matches!(rest.trim_ascii_start(), [] | [b'"' | b'{' | b']', ..]),
        _ => false,
    };
    is_value.then_some(line)
}

#[derive(Debug)]
pub(crate) enum JsonLine {
    /// A whole value, and the entries in it.
    Entries(Vec<Entry>),
    /// A value that has no end, or is damaged otherwise.
    Broken,
    /// No object and no array.
    Other,
}

impl JsonLine {
    pub(crate) fn read(line: &[u8], patterns: &Patterns) -> Self {
        let Some(value) = value_in(line) else {
            return JsonLine::Other;
        };
        match serde_json::from_slice::<Value>(value) {
            Ok(value) => JsonLine::Entries(entries(&value, patterns)),
            Err(error) if error.is_data() => JsonLine::Other,
            Err(_) => JsonLine::Broken,
        }
    }

    /// The journal's entry that a line is, whatever it is about.
    pub(crate) fn any_entry(line: &[u8]) -> Option<Entry> {
        let value: Value = serde_json::from_slice(value_in(line)?).ok()?;
        any_entry(&value)
    }
}

/// The first message in a value, whatever it is about.
pub(crate) fn any_entry(value: &Value) -> Option<Entry> {
    let Value::Object(members) = value else {
        return None;
    };
    let context = context(members, &Context::default());
    let mut named = members
        .iter()
        .filter(|(name, _)| FieldName::of(name.as_bytes()) == Some(FieldName::Message));
    let message = named.find_map(|(_, value)| match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Array(items) => bytes(items),
        _ => None,
    })?;
    Some(Entry {
        stamp: context.stamp,
        host: context.host,
        origin: context.origin,
        message,
    })
}

#[cfg(test)]
mod tests;
