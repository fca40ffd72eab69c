//! What things are called.

use split_lock_log::{Exception, TrapKind};

pub(super) fn exception(kind: TrapKind) -> &'static str {
    match kind.exception() {
        Exception::AlignmentCheck => "AC",
        Exception::Debug => "DB",
    }
}
