//! Splits locks, for a machine whose CPU detects that.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;

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
    /// A signal for each thread after each so many microseconds.
    #[arg(long, value_name = "US", value_parser = clap::value_parser!(u32).range(1..))]
    signal_every_us: Option<u32>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    for _ in 0..args.threads {
        let thread = thread::spawn(move || {
            let _timer = args
                .signal_every_us
                .map(interrupt_this_thread)
                .transpose()?;
            anyhow::Ok(split(args.count, args.pause_ms))
        });
        let (address, value) = thread.join().expect("splitting does not panic")?;
        println!("{value} split locks at 0x{address:x}");
    }
    Ok(())
}

/// For as long as the timer is kept.
fn interrupt_this_thread(every_us: u32) -> Result<Timer> {
    const SIGNAL: Signal = Signal::SIGALRM;
    sys::handle(SIGNAL)?;
    let notify = SigevNotify::SigevThreadId {
        signal: SIGNAL,
        thread_id: gettid().as_raw(),
        si_value: 0,
    };
    let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?;
    let period = TimeSpec::from_duration(Duration::from_micros(every_us.into()));
    timer.set(Expiration::Interval(period), TimerSetTimeFlags::empty())?;
    Ok(timer)
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
