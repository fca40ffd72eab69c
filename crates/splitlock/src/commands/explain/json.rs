//! All there is to say about an instruction, for programs. The fields are described in docs/explain.md.

use serde_json::{Value, json};
use split_lock_assist::decode::{LINE_BYTES, PAGE_BYTES};
use split_lock_assist::partial::{Crossing, Lock, Place, Split, Verdict};
use split_lock_symbols::{Line, Origin};

use super::answer::Answer;
use super::text::{hexadecimal, last_byte};

impl Answer {
    pub(super) fn json(&self) -> Value {
        let verdict = self.verdict.as_ref();
        json!({
            "schema": "splitlock-explanation",
            "schema_version": 1,
            "split": split(verdict),
            "answer": self.headline(),
            "bits": self.subject.mode.bits(),
            "address": self.subject.rip.map(address),
            "instruction": verdict.map(|verdict| json!({
                "bytes": hexadecimal(verdict.instruction.bytes(), ""),
                "text": verdict.instruction.to_string(),
            })),
            "lock": verdict.map_or("no-instruction", |verdict| lock(verdict.lock)),
            "operand": verdict
                .and_then(|verdict| verdict.place.as_ref())
                .map(|place| self.operand(place)),
            "found_in": self.subject.origin.as_ref().map(origin),
            "around": self.around(),
            "linux": self.treatment,
            "durations_in": "ns",
            "assumed": self.subject.assumed,
            "notes": self.notes(),
        })
    }

    fn operand(&self, place: &Place) -> Value {
        let size = place.operand.bytes;
        let last = |first| last_byte(first, size, self.subject.mode);
        json!({
            "bytes": size,
            "sum": place.operand.sum(&self.known),
            "unknown": place.needs,
            "first": place.address.map(address),
            "last": place.address.map(last).map(address),
            "line": crossing(&place.line, LINE_BYTES),
            "page": crossing(&place.page, PAGE_BYTES),
            "fault": place.fault.map(|fault| fault.to_string()),
            "must_be_aligned": place.operand.must_be_aligned,
        })
    }

    fn around(&self) -> Vec<Value> {
        let line = |line: &Line| {
            json!({
                "address": self.subject.rip.map(|_| address(line.address)),
                "bytes": hexadecimal(&line.bytes, ""),
                "text": line.text,
                "locks": line.locks,
                "here": line.is_here,
            })
        };
        self.subject.listing.lines.iter().map(line).collect()
    }
}

/// Programs do not agree on how large a number can be.
fn address(value: u64) -> String {
    format!("{value:#x}")
}

fn split(verdict: Option<&Verdict>) -> &'static str {
    match verdict.map_or(Split::No, |verdict| verdict.split) {
        Split::Yes => "yes",
        Split::No => "no",
        Split::Depends => "depends",
    }
}

fn lock(lock: Lock) -> &'static str {
    match lock {
        Lock::Prefix => "prefix",
        Lock::Exchange => "xchg",
        Lock::Implicit(_) => "implicit",
        Lock::None => "none",
        Lock::Refused => "not-allowed",
    }
}

fn crossing(crossing: &Crossing, unit: u64) -> Value {
    let (crosses, remainders) = match crossing {
        Crossing::Never => ("never", None),
        Crossing::Always => ("always", None),
        Crossing::IfRemainder(remainders) => {
            let pair = |range: &std::ops::RangeInclusive<u64>| [*range.start(), *range.end()];
            (
                "depends",
                Some(remainders.iter().map(pair).collect::<Vec<_>>()),
            )
        }
    };
    json!({ "bytes": unit, "crosses": crosses, "if_remainder_in": remainders })
}

fn origin(origin: &Origin) -> Value {
    json!({
        "pid": origin.pid,
        "file": origin.file,
        "address_in_file": origin.in_file.map(address),
        "symbol": origin.symbol().map(|(name, offset)| json!({
            "name": name.shown,
            "mangled": name.in_file,
            "offset": offset,
        })),
        "source": origin
            .source
            .iter()
            .map(|source| json!({ "file": source.file, "line": source.line }))
            .collect::<Vec<_>>(),
    })
}
