//! The Linux kernel's messages about split locks and bus locks, read from any log that holds them.
//!
//! [`Scanner`] is a parser without I/O, which takes a log in chunks and in bounded memory; [`Records`] and
//! [`Source`] read files, pipes, compressed logs and `/dev/kmsg` through it. It knows what kernels have printed
//! about split locks since 5.7, in the output of `dmesg` and `journalctl` (JSON and the export format, too), in
//! syslog files, and in what is left of these after a mail program has wrapped and quoted them. A message that is
//! damaged becomes a record that says so: it is neither dropped nor guessed. [`Event`] is a record as flat fields,
//! for tables and JSON, and [`Message::to_kernel_text`] gives the kernel's own words back.
//!
//! ```
//! use split_lock_log::{Event, Message, Records};
//!
//! let log = "[  180.886150] x86/split lock detection: #AC: CPU 0/KVM/10167 took a split_lock trap at \
//!            address: 0x3ff2624d\n";
//! for record in Records::new(log.as_bytes()) {
//!     let record = record?;
//!     if let Message::Trap(trap) = &record.message {
//!         assert_eq!((&trap.comm[..], trap.tid), (&b"CPU 0/KVM"[..], 10167));
//!     }
//!     assert_eq!(Event::new("dmesg.txt", &record).address.as_deref(), Some("0x3ff2624d"));
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

mod colour;
mod event;
mod header;
mod journal;
mod json;
mod line;
mod log_start;
mod message;
mod oops;
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
    AlignmentSignal, Boot, Caller, CodeAddress, Damage, Exception, KernelOops, Message,
    MessageCounts, Reaction, Record, RefusedWrite, Suppressed, Trap, TrapKind,
};
pub use records::Records;
pub use scanner::{MAX_LINE_BYTES, Scanner};
pub use source::{LeftOut, Source, Visit, for_each_log};
pub use stamp::{Stamp, WallFormat};
