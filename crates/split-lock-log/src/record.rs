//! What a log says, as data.

use std::ops::AddAssign;

use crate::Stamp;

/// One message of the kernel's, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Number of its line, from 1; of its first one where a message or an entry has several.
    pub line: u64,
    /// Bytes before that line, after decompression.
    pub offset: u64,
    /// Lines that it takes up: more than one if something has wrapped it.
    pub lines: u8,
    /// When it was written.
    pub stamp: Stamp,
    /// The machine that the log names.
    pub host: Option<Vec<u8>>,
    /// Who was running when it was written, where the kernel is configured to say so.
    pub caller: Option<Caller>,
    /// Whether the kernel's `x86/split lock detection: ` is missing before it, which some loggers take for a tag.
    pub lacks_prefix: bool,
    /// What it says.
    pub message: Message,
}

/// Who was running when a line was written (`CONFIG_PRINTK_CALLER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// `[T123]`: a thread.
    Thread(u32),
    /// `[C1]`: a CPU that was not in a thread's context.
    Cpu(u32),
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A thread split a lock.
    Trap(Trap),
    /// What the kernel decided about detection when it started.
    Boot(Boot),
    /// Messages that the kernel has left out.
    Suppressed(Suppressed),
    /// The kernel tried to switch detection on or off, and was refused.
    RefusedWrite(RefusedWrite),
    /// `Linux version …`: from here on it is another boot.
    Started {
        /// The kernel's release, such as `6.6.1`.
        release: Vec<u8>,
    },
    /// The kernel itself split a lock, and that thread died of it.
    KernelSplitLock(Box<KernelOops>),
    /// A program got SIGBUS for a misaligned access.
    AlignmentSignal(AlignmentSignal),
    /// One of these messages, of which a part is missing or wrong.
    Damaged {
        /// What is wrong.
        damage: Damage,
        /// The beginning of the line, as it is.
        text: Vec<u8>,
    },
}

/// `Oops: Split lock detected`: what the kernel printed of itself before the thread died. What is `None` is not there,
/// or was cut off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelOops {
    /// `[#1]`: the first oops since the kernel started, or which.
    pub number: Option<u32>,
    /// On which CPU.
    pub cpu: Option<u32>,
    /// The thread's name.
    pub comm: Option<Vec<u8>>,
    /// The thread's id.
    pub tid: Option<u32>,
    /// The instruction.
    pub rip: Option<CodeAddress>,
    /// `Code:` as it is written: bytes in hexadecimal, `<f0>` for the one at RIP.
    pub code: Option<Vec<u8>>,
    /// By their names in the log: `RAX`, `EFLAGS`.
    pub registers: Vec<(String, u64)>,
    /// Whether its last line (`---[ end trace`) is there.
    pub is_complete: bool,
}

/// `skb_clone+0x159/0x1e0 [module]`: an address in the kernel's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeAddress {
    /// The function's name.
    pub function: String,
    /// How far into it.
    pub offset: u64,
    /// How long it is.
    pub size: u64,
    /// The module that it is in; `None` for the kernel's own.
    pub module: Option<String>,
}

/// `traps: NAME[PID] trap alignment check`: what a program gets in mode `fatal`, and in every mode if it has set
/// EFLAGS.AC itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignmentSignal {
    /// The thread's name.
    pub comm: Vec<u8>,
    /// The thread's id.
    pub tid: u32,
    /// The instruction.
    pub ip: u64,
    /// The file that it is in, and how far from where that part of it was loaded.
    pub module: Option<(Vec<u8>, u64)>,
}

/// A thread split a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trap {
    /// How the kernel calls it.
    pub kind: TrapKind,
    /// The thread's name: any bytes but NUL, slashes and spaces among them.
    pub comm: Vec<u8>,
    /// The thread's id, in the initial PID namespace.
    pub tid: u32,
    /// For #AC the instruction that split, for #DB the one after it.
    pub address: u64,
}

/// Which message tells of a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrapKind {
    /// `#AC: … took a split_lock trap`: in mode `warn`; since 5.19 once per thread.
    SplitLock,
    /// `#AC: … fatal split_lock trap`: a guest's, in mode `fatal`; once per boot.
    FatalSplitLock,
    /// `#AC: … bogus split_lock trap`: a guest's, that the host cannot explain; once per boot.
    BogusSplitLock,
    /// `#DB: … took a bus_lock trap`: each one, as far as the rate limit allows.
    BusLock,
}

impl TrapKind {
    /// The exception that it came by.
    #[must_use]
    pub fn exception(self) -> Exception {
        match self {
            TrapKind::SplitLock | TrapKind::FatalSplitLock | TrapKind::BogusSplitLock => {
                Exception::AlignmentCheck
            }
            TrapKind::BusLock => Exception::Debug,
        }
    }
}

/// How the CPU tells the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exception {
    /// #AC, before the access.
    AlignmentCheck,
    /// #DB, after it.
    Debug,
}

/// What the kernel decided about detection when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Boot {
    /// `disabled` (printed until 7.0).
    Disabled,
    /// By #AC, 5.13 and later.
    SplitLocks(Reaction),
    /// By #AC, in the words of 5.7 to 5.12.
    SplitLocksBefore513(Reaction),
    /// By #DB.
    BusLocks {
        /// What user space gets.
        reaction: Reaction,
        /// Only for accesses to memory that is not write-back (#AC has the others).
        only_not_write_back: bool,
    },
    /// User space shares this many bus locks per second.
    BusLockRate {
        /// Bus locks per second.
        per_second: u32,
    },
    /// `MSR access failed: Disabled`
    MsrAccessFailed,
    /// `No splitlock CPU offline handler` (5.19 and later).
    NoOfflineHandler,
}

/// What user space gets for a split lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reaction {
    /// Mode `warn`.
    Warn,
    /// Mode `fatal`.
    Sigbus,
}

/// `N callbacks suppressed`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Suppressed {
    /// Of which traps.
    pub exception: Exception,
    /// How many messages were left out.
    pub count: u64,
}

/// `unchecked MSR access error: WRMSR to 0x33 …`: a write to MSR_TEST_CTRL, by which the kernel switches
/// detection on and off, faulted.
///
/// A kernel that cannot switch detection off for a moment cannot let a thread past its split lock. This is seen
/// in guests whose CPU raises #AC although they may not write this register (TDX): there the instruction faults
/// for ever, whatever the guest's own settings are. The kernel prints it for the first unchecked write to *any*
/// register that is refused, so that it is not there says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RefusedWrite {
    /// What was to be written. Bit 29 is detection: 0 was to switch it off.
    pub value: u64,
    /// The instruction of the kernel's that tried.
    pub rip: u64,
}

/// What is wrong with a damaged message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Damage {
    /// It ends too early, and does not go on in the next line.
    CutShort,
    /// It ends in the digits of an address that has more in the next line, or nothing behind it to say that these are all.
    AddressCutShort,
    /// Its end is there, and its beginning is not.
    NoBeginning,
    /// It is none of the kernel's messages, though it begins like them.
    Garbled,
    /// Its line is longer than [`MAX_LINE_BYTES`](crate::MAX_LINE_BYTES).
    LineTooLong,
}

/// How many there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// Traps that were printed.
    pub traps: u64,
    /// What kernels said about detection when they started.
    pub boot_messages: u64,
    /// Traps that were not printed, by the kernel's own count.
    pub suppressed: u64,
    /// Attempts to switch detection on or off that were refused, as far as they were printed.
    pub refused_writes: u64,
    /// Starts of a kernel.
    pub starts: u64,
    /// Damaged messages.
    pub damaged: u64,
    /// Lines of programs that have one of the messages in them, and are no records.
    pub foreign_lines: u64,
    /// Split locks of the kernel itself.
    pub kernel_split_locks: u64,
    /// Programs that got SIGBUS for a misaligned access.
    pub alignment_signals: u64,
}

impl MessageCounts {
    /// Counts one more.
    pub fn add(&mut self, message: &Message) {
        match message {
            Message::Trap(_) => self.traps += 1,
            Message::Boot(_) => self.boot_messages += 1,
            Message::Suppressed(suppressed) => {
                self.suppressed = self.suppressed.saturating_add(suppressed.count);
            }
            Message::RefusedWrite(_) => self.refused_writes += 1,
            Message::Started { .. } => self.starts += 1,
            Message::KernelSplitLock(_) => self.kernel_split_locks += 1,
            Message::AlignmentSignal(_) => self.alignment_signals += 1,
            Message::Damaged { .. } => self.damaged += 1,
        }
    }
}

impl AddAssign for MessageCounts {
    fn add_assign(&mut self, more: Self) {
        self.traps += more.traps;
        self.boot_messages += more.boot_messages;
        self.suppressed = self.suppressed.saturating_add(more.suppressed);
        self.refused_writes += more.refused_writes;
        self.starts += more.starts;
        self.damaged += more.damaged;
        self.foreign_lines += more.foreign_lines;
        self.kernel_split_locks += more.kernel_split_locks;
        self.alignment_signals += more.alignment_signals;
    }
}
