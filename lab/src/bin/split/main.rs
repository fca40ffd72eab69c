//! Splits locks, for a machine whose CPU detects that.

use std::thread;
use std::time::Duration;

use clap::Parser;

mod sys;

use sys::CrossingWord;

/// Split locks in threads of this program, and say at which address.
#[derive(Debug, Parser)]
#[command(name = "lab-split")]
struct Args {
    /// Threads that split locks, one after the other; the kernel logs the first trap of each.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Split locks of each thread.
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// Pause after each split lock, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pause_ms: u64,
}

fn main() {
    let args = Args::parse();
    for _ in 0..args.threads {
        let thread = thread::spawn(move || split(args.count, args.pause_ms));
        let (address, value) = thread.join().expect("splitting does not panic");
        println!("{value} split locks at 0x{address:x}");
    }
}

/// Where the instruction lies, and to what it has counted.
fn split(count: u32, pause_ms: u64) -> (u64, u32) {
    let mut word = CrossingWord::default();
    let mut address = 0;
    for _ in 0..count {
        address = word.increment();
        thread::sleep(Duration::from_millis(pause_ms));
    }
    (address, word.get())
}
