//! What an operand is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use split_lock_assist::decode::LINE_BYTES;
use split_lock_find::records::{Place, Site as Record};
use split_lock_symbols::{FunctionName, Variable};

use super::site::in_words;

/// The operand of a split lock: of the first one, but for `last`.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) bytes: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Variable {
        name: FunctionName,
        offset: u64,
        file: String,
    },
    Data {
        file: String,
        offset: u64,
    },
    Heap {
        offset: u64,
    },
    Stack,
    ThreadStack,
    Anonymous {
        offset: u64,
    },
    Unknown,
}

pub(super) fn operand(record: &Record) -> Operand {
    let address = record.first_operand;
    let from = |start: u64| address.saturating_sub(start);
    Operand {
        bytes: record.operand_bytes,
        first: address,
        last: record.last_operand,
        kind: match &record.place {
            Place::File { path, start } => in_file(path, address, *start),
            Place::Heap { start } => Kind::Heap {
                offset: from(*start),
            },
            Place::Stack => Kind::Stack,
            Place::ThreadStack => Kind::ThreadStack,
            Place::Anonymous { start } => Kind::Anonymous {
                offset: from(*start),
            },
            Place::Unknown => Kind::Unknown,
        },
    }
}

fn in_file(path: &[u8], address: u64, start: u64) -> Kind {
    // What the kernel calls memory that is shared and has no file.
    if path == b"/dev/zero (deleted)" {
        return Kind::Anonymous {
            offset: address.saturating_sub(start),
        };
    }
    let path = Path::new(OsStr::from_bytes(path));
    let file = path.display().to_string();
    match Variable::in_file(path, address, start) {
        Ok(Some(Variable { name, offset })) => Kind::Variable { name, offset, file },
        Ok(None) | Err(_) => Kind::Data {
            file,
            offset: address.saturating_sub(start),
        },
    }
}

impl Operand {
    /// How far into its cache line it begins.
    pub(super) fn line_offset(&self) -> u64 {
        self.first % LINE_BYTES
    }

    /// The kind, as a word for programs.
    pub(super) fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Variable { .. } => "variable",
            Kind::Data { .. } => "data",
            Kind::Heap { .. } => "heap",
            Kind::Stack => "stack",
            Kind::ThreadStack => "thread-stack",
            Kind::Anonymous { .. } => "anonymous",
            Kind::Unknown => "unknown",
        }
    }

    /// What stays the same from run to run, in words.
    pub(super) fn in_words(&self) -> String {
        match &self.kind {
            Kind::Variable { name, offset, file } => {
                format!("`{}` of {file}", in_words(name, *offset))
            }
            Kind::Data { file, offset } => format!("data of {file} at {offset:#x}"),
            Kind::Heap { .. } => "on the heap (brk)".into(),
            Kind::Stack => "on the first thread's stack".into(),
            Kind::ThreadStack => "on a thread's stack".into(),
            Kind::Anonymous { .. } => "in memory without a file (mmap)".into(),
            Kind::Unknown => format!("at {:#x}", self.first),
        }
    }
}
