//! Splits locks, for a machine whose CPU detects that.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use nix::time::{ClockId, clock_getres};

mod guest;
mod signals;
mod sys;

use sys::CrossingWord;

/// Split locks in threads of this program, and say at which address.
#[derive(Debug, Parser)]
#[command(name = "lab-split")]
struct Args {
    /// Threads that split locks, one after the other; the kernel logs the first trap of each.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Split locks of each thread. Without a pause nothing but the loop is between them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Pause after each split lock, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pause_ms: u64,
    /// Pause before the first one, in milliseconds.
    #[arg(long, default_value_t = 0)]
    start_after_ms: u64,
    /// Let a guest of KVM do it instead, on one vCPU for each thread.
    #[arg(long, conflicts_with = "pause_ms")]
    guest: bool,
    /// A signal for each thread after each so many microseconds.
    #[arg(long, value_name = "US", conflicts_with = "guest", value_parser = clap::value_parser!(u32).range(1..))]
    signal_every_us: Option<u32>,
    /// Only say how many nanoseconds a tick of this kernel has.
    #[arg(long, exclusive = true)]
    tick_ns: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.tick_ns {
        // The coarse clock is as fine as the tick.
        let tick: Duration = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?.into();
        println!("{}", tick.as_nanos());
        return Ok(());
    }
    thread::sleep(Duration::from_millis(args.start_after_ms));
    for _ in 0..args.threads {
        let thread = thread::spawn(move || {
            let signals = args.signal_every_us;
            let _signals = signals.map(signals::to_this_thread_every).transpose()?;
            match args.guest {
                true => guest::split(args.count),
                false => Ok(split(args.count, Duration::from_millis(args.pause_ms))),
            }
        });
        let Split { address, value } = thread.join().expect("splitting does not panic")?;
        println!("{value} split locks at 0x{address:x}");
    }
    Ok(())
}

/// What a thread has done.
#[derive(Clone, Copy, Debug)]
struct Split {
    /// Where the instruction lies.
    address: u64,
    /// To what it has counted.
    value: u32,
}

fn split(count: u32, pause: Duration) -> Split {
    let mut word = CrossingWord::default();
    let address = if pause.is_zero() {
        word.increment(count)
    } else {
        let mut address = 0;
        for _ in 0..count {
            address = word.increment(1);
            thread::sleep(pause);
        }
        address
    };
    Split {
        address,
        value: word.get(),
    }
}
