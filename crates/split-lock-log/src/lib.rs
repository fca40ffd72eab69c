//! Split locks and bus locks in kernel logs, however the log came to be a text.
//!
//! The parser streams, in bounded memory, over any bytes. It finds what the kernel writes about split
//! locks when it boots and when it runs, since 5.7, in the output of `dmesg` and `journalctl` (JSON and
//! the export format, too), in syslog files, in `/dev/kmsg`, and in what is left of these after a mail
//! program has wrapped and quoted them. A message that is damaged is reported as damaged: neither dropped
//! nor guessed.
//!
//! ```
//! use split_lock_log::{Message, Records};
//!
//! let log = "[  180.886150] x86/split lock detection: #AC: CPU 0/KVM/10167 took a split_lock trap at \
//!            address: 0x3ff2624d\n";
//! for record in Records::new(log.as_bytes()) {
//!     if let Message::Trap(trap) = record?.message {
//!         assert_eq!((&trap.comm[..], trap.tid), (&b"CPU 0/KVM"[..], 10167));
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

mod colour;
mod event;
mod header;
mod journal;
mod line;
mod log_start;
mod message;
mod partial;
mod patterns;
mod position;
mod record;
mod records;
mod scanner;
mod source;
mod stamp;

pub use event::Event;
pub use log_start::LogStart;
pub use record::{
    Boot, Caller, Damage, Exception, Message, MessageCounts, Reaction, Record, RefusedWrite,
    Suppressed, Trap, TrapKind,
};
pub use records::Records;
pub use scanner::{MAX_LINE_BYTES, Scanner};
pub use source::Source;
pub use stamp::{Stamp, WallFormat};
