//! All there is to say about an instruction, for programs. The fields are described in docs/explain.md.

use std::ops::RangeInclusive;

use serde_json::{Value, json};
use split_lock_assist::decode::{LINE_BYTES, PAGE_BYTES};
use split_lock_assist::partial::{Crossing, LockKind, OperandLocation, Split};
use split_lock_symbols::{ListingLine, Origin, SourceLine};

use super::answer::Answer;
use super::text::hexadecimal;

impl Answer {
    pub(super) fn json(&self) -> Value {
        let analysis = self.analysis.as_ref();
        json!({
            "schema": "splitlock-explanation",
            "schema_version": 1,
            "split": match analysis.map_or(Split::No, |analysis| analysis.split) {
                Split::No if self.loads_a_selector() => "depends",
                Split::Yes => "yes",
                Split::No => "no",
                Split::Depends => "depends",
            },
            "answer": self.headline(),
            "bits": self.code.mode.bits(),
            "address": self.code.rip.map(address),
            "instruction": analysis.map(|analysis| json!({
                "bytes": hexadecimal(analysis.instruction.bytes(), ""),
                "text": analysis.instruction.to_string(),
            })),
            "lock": analysis.map_or("no-instruction", |analysis| lock(analysis.lock)),
            "operand": self.location().map(|location| self.operand(location)),
            "found_in": self.code.origin.as_ref().map(origin),
            "around": self.around(),
            "linux": self.treatment,
            "durations_in": "ns",
            "assumed": self.code.assumptions,
            "notes": self.notes(),
        })
    }

    fn operand(&self, location: &OperandLocation) -> Value {
        let size = location.operand.bytes;
        let last = |first| self.last_byte(first, size);
        json!({
            "bytes": size,
            "sum": location.operand.sum(&self.known),
            "unknown": location.needs,
            "first": location.address.map(address),
            "last": location.address.map(last).map(address),
            "line": crossing(&location.line, LINE_BYTES),
            "page": crossing(&location.page, PAGE_BYTES),
            "fault": location.fault.map(|fault| fault.to_string()),
            "must_be_aligned": location.operand.must_be_aligned,
        })
    }

    fn around(&self) -> Vec<Value> {
        let line = |line: &ListingLine| {
            json!({
                "address": self.code.rip.map(|_| address(line.address)),
                "bytes": hexadecimal(&line.bytes, ""),
                "text": line.text,
                "locks": line.locks,
                "here": line.is_here,
            })
        };
        self.code.listing.lines.iter().map(line).collect()
    }
}

/// Programs do not agree on how large a number can be.
fn address(value: u64) -> String {
    format!("{value:#x}")
}

fn lock(lock: LockKind) -> &'static str {
    match lock {
        LockKind::Prefix => "prefix",
        LockKind::Exchange => "xchg",
        LockKind::Implicit(_) => "implicit",
        LockKind::None => "none",
        LockKind::Refused => "not-allowed",
    }
}

fn crossing(crossing: &Crossing, unit: u64) -> Value {
    let pair = |range: &RangeInclusive<u64>| [*range.start(), *range.end()];
    let (crosses, remainders) = match crossing {
        Crossing::Never => ("never", None),
        Crossing::Always => ("always", None),
        Crossing::IfRemainder(ranges) => {
            ("depends", Some(ranges.iter().map(pair).collect::<Vec<_>>()))
        }
    };
    json!({ "bytes": unit, "crosses": crosses, "if_remainder_in": remainders })
}

fn origin(origin: &Origin) -> Value {
    let source = |source: &SourceLine| json!({ "file": source.file, "line": source.line });
    json!({
        "pid": origin.pid,
        "file": origin.file,
        "address_in_file": origin.address_in_file.map(address),
        "symbol": origin.symbol().map(|(name, offset)| json!({
            "name": name.demangled,
            "mangled": name.mangled,
            "offset": offset,
        })),
        "source": origin.source.iter().map(source).collect::<Vec<_>>(),
    })
}
