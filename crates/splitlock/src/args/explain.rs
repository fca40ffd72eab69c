//! The command line of `explain`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use split_lock_assist::cpu::Mode;
use split_lock_assist::partial::RegisterSetting;
use split_lock_symbols::CodePlace;

use super::Host;

/// Explain one instruction: does it lock, can it split, where does its operand lie, what would Linux
/// do?
///
/// Give its bytes, as a kernel's log or a debugger prints them, or an address in a program, a library
/// or a running process. What is not known of the registers is not guessed: the answer then says what
/// it depends on.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("instruction").args(["bytes", "exe", "pid"]).required(true),
    after_help = "Examples:\n  \
    splitlock explain f0 48 0f ab 3e --reg rsi=0x303c --reg rdi=0\n  \
    splitlock explain 'Code: 48 89 e5 <f0> 0f c1 43 1e c3' --reg rbx=0x7fff1fe0\n  \
    splitlock explain --exe ./game --address 0x401136\n  \
    splitlock explain --exe vmlinux --address skb_clone+0x159/0x1e0\n  \
    splitlock explain --pid 4711 --address 0x7f5c0a1136 --host debian-12\n\n\
    Exit codes: 0 fine, 1 it is a split lock and --fail-on split was given, 2 usage or environment \
    error."
)]
pub(crate) struct ExplainArgs {
    /// Its bytes in hexadecimal digits, with or without blanks, commas, colons, 0x or \x between them;
    /// `<f0>` marks the first one among others, as in a kernel's `Code:` line; `-` reads them from
    /// standard input.
    pub(crate) bytes: Vec<String>,
    /// Look in this ELF program or library.
    #[arg(long, value_name = "FILE", requires = "address")]
    pub(crate) exe: Option<PathBuf>,
    /// Look in the memory of this process or thread.
    #[arg(long, value_name = "PID", requires = "address")]
    pub(crate) pid: Option<u32>,
    /// Its address: with --exe that in the file, or the one that it had while the program ran; or a function and how far
    /// into it, as debuggers and kernels write it (`main+0x10`, `skb_clone+0x159/0x1e0`).
    #[arg(long, value_name = "ADDRESS|FUNCTION+OFFSET", conflicts_with = "bytes")]
    pub(crate) address: Option<CodePlace>,
    /// Where FILE was loaded: the first address of its first line in /proc/PID/maps.
    #[arg(long, value_name = "ADDRESS", value_parser = address, conflicts_with_all = ["bytes", "pid"])]
    pub(crate) base: Option<u64>,
    /// What is known of a register when the instruction runs: `rsi=0x303c`, `edi=-1`, `fs_base=0x7000`,
    /// `eflags=0x246`; several separated by commas, or the option several times.
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',')]
    pub(crate) reg: Vec<RegisterSetting>,
    /// Address of the instruction whose bytes are given.
    #[arg(long, value_name = "ADDRESS", value_parser = address, conflicts_with_all = ["exe", "pid"])]
    pub(crate) rip: Option<u64>,
    /// What kind of code it is. Without this option what the file says, and 64 for bytes.
    #[arg(long, value_enum, value_name = "16|32|64")]
    pub(crate) bits: Option<Bits>,
    /// Whose treatment of a split lock is told: `native` is this host's; with a KERNEL such as
    /// `6.6,hz=1000` or `debian-12` that kernel's, on a CPU that detects split locks.
    #[arg(long, value_name = "native|KERNEL", default_value = "native")]
    pub(crate) host: Host,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// End with exit code 1 if it certainly is a split lock.
    #[arg(long, value_enum, value_name = "PROBLEM")]
    pub(crate) fail_on: Option<FailOn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bits {
    /// Real mode, virtual 8086 mode or a 16-bit segment.
    #[value(name = "16")]
    Bits16,
    /// A program of 32 bits.
    #[value(name = "32")]
    Bits32,
    /// A program of 64 bits.
    #[value(name = "64")]
    Bits64,
}

impl From<Bits> for Mode {
    fn from(bits: Bits) -> Self {
        match bits {
            Bits::Bits16 => Mode::Bits16,
            Bits::Bits32 => Mode::Bits32,
            Bits::Bits64 => Mode::Bits64,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// The instruction is a split lock.
    Split,
}

fn address(text: &str) -> Result<u64, String> {
    match text.parse()? {
        CodePlace::Address(address) => Ok(address),
        CodePlace::InFunction(_) => Err("an address is written as 0x401136".to_owned()),
    }
}
