//! What happens in the process that splits locks.

use std::cell::RefCell;
use std::io::{self, PipeWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use kvm_preemption_timer::{MonotonicTime, ThreadCpuTime};
use nix::sys::signal::{SigEvent, SigSet, SigevNotify, Signal};
use nix::sys::timer::{Expiration, Timer as PosixTimer, TimerSetTimeFlags};
use nix::time::ClockId;
use serde::{Deserialize, Serialize};

use super::Timer;
use crate::host::{Kernel, Punished, PunishedThread};
use crate::sys::program::{LoopState, end_process, set_real_interval, split_in_a_loop};

/// What the program's timer sends.
const TIMER: Signal = Signal::SIGALRM;
/// The end of a run.
const END: Signal = Signal::SIGUSR2;
/// Detection comes back on the emulated kernel. The program does not have it on a real one, so it ends no sleep.
const WINDOW_END: Signal = Signal::SIGUSR1;

/// What a process sends before it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// It ran to its end.
    Ran(Ran),
    /// The emulated kernel ends it at its split lock.
    Sigbus,
    /// Its split locks did not trap where the emulated kernel detects them.
    NoTrap,
    /// It could not.
    Failed(String),
}

/// How far a program came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ran {
    pub(super) turns: u64,
    pub(super) elapsed_ns: u64,
    pub(super) cpu_ns: u64,
    /// Signals of its timer that it handled.
    pub(super) signals: u64,
}

/// A program that runs, as its signal handlers see it.
struct Running {
    began: MonotonicTime,
    cpu_ns_at_start: u64,
    signals: u64,
    emulated: Option<Emulated>,
    /// They stop when they are dropped.
    _timers: Vec<PosixTimer>,
    to: PipeWriter,
}

/// A kernel that the program's split locks meet.
struct Emulated {
    thread: PunishedThread,
    detects_at_start: bool,
    window_end: PosixTimer,
}

thread_local! {
    /// There is one in a process, whose only thread runs the handlers, one at a time.
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// Runs for `length`, sends how far it came, and ends the process.
pub(super) fn run(
    timer: Timer,
    period: Duration,
    length: Duration,
    kernel: Option<Kernel>,
    to: &PipeWriter,
) {
    let copy = to.try_clone();
    let failed = match copy.and_then(|to| begin(timer, period, length, kernel, to)) {
        Ok(never) => never,
        Err(error) => error.to_string(),
    };
    send(to, &Message::Failed(failed));
}

/// Returns only what is wrong.
fn begin(
    timer: Timer,
    period: Duration,
    length: Duration,
    kernel: Option<Kernel>,
    to: PipeWriter,
) -> io::Result<String> {
    let emulated = kernel.map(Emulated::new).transpose()?;
    let traps = emulated.as_ref().is_some_and(|it| it.detects_at_start);
    let mut signals = vec![TIMER, END];
    if emulated.is_some() {
        signals.extend([Signal::SIGBUS, WINDOW_END]);
    }
    let began = MonotonicTime::now();
    let mut end = posix_timer(ClockId::CLOCK_MONOTONIC, END)?;
    set_to(&mut end, began + length)?;
    let mut timers = vec![end];
    timers.extend(start_timer(timer, period)?);
    let running = Running {
        began,
        cpu_ns_at_start: ThreadCpuTime::now().as_nanos(),
        signals: 0,
        emulated,
        _timers: timers,
        to,
    };
    RUNNING.set(Some(running));
    split_in_a_loop(&signals, traps, on_signal)?;
    Ok("the loop ended".into())
}

fn start_timer(timer: Timer, period: Duration) -> io::Result<Option<PosixTimer>> {
    let clock = match timer {
        Timer::None => return Ok(None),
        Timer::ItimerReal => {
            set_real_interval(period)?;
            return Ok(None);
        }
        Timer::Monotonic => ClockId::CLOCK_MONOTONIC,
        Timer::ProcessCpu => ClockId::CLOCK_PROCESS_CPUTIME_ID,
        Timer::ThreadCpu => ClockId::CLOCK_THREAD_CPUTIME_ID,
    };
    let mut started = posix_timer(clock, TIMER)?;
    started.set(
        Expiration::Interval(period.into()),
        TimerSetTimeFlags::empty(),
    )?;
    Ok(Some(started))
}

fn posix_timer(clock: ClockId, signal: Signal) -> nix::Result<PosixTimer> {
    let notify = SigevNotify::SigevSignal {
        signal,
        si_value: 0,
    };
    PosixTimer::new(clock, SigEvent::new(notify))
}

fn set_to(timer: &mut PosixTimer, at: MonotonicTime) -> nix::Result<()> {
    let at = Duration::from_nanos(at.as_nanos());
    timer.set(
        Expiration::OneShot(at.into()),
        TimerSetTimeFlags::TFD_TIMER_ABSTIME,
    )
}

/// All signals are blocked meanwhile.
fn on_signal(signal: Signal, state: &mut LoopState) {
    RUNNING.with_borrow_mut(|running| {
        if let Some(running) = running {
            running.on_signal(signal, state);
        }
    });
}

impl Running {
    fn on_signal(&mut self, signal: Signal, state: &mut LoopState) {
        match signal {
            TIMER => self.signals += 1,
            END => self.end(state.turns),
            _ => {}
        }
        let Some(kernel) = &mut self.emulated else {
            return;
        };
        let message = match kernel.treat(signal, state) {
            Ok(Punished::Retry) => return,
            Ok(Punished::Sigbus) => Message::Sigbus,
            Err(error) => Message::Failed(error.to_string()),
        };
        send(&self.to, &message);
        end_process(0)
    }

    fn end(&self, turns: u64) -> ! {
        let elapsed = MonotonicTime::now().saturating_since(self.began);
        let ran = Ran {
            turns,
            elapsed_ns: elapsed.as_nanos() as u64,
            cpu_ns: ThreadCpuTime::now().as_nanos() - self.cpu_ns_at_start,
            signals: self.signals,
        };
        let emulated = self.emulated.as_ref();
        let message = match emulated.is_some_and(|it| it.never_trapped(turns)) {
            true => Message::NoTrap,
            false => Message::Ran(ran),
        };
        send(&self.to, &message);
        end_process(0)
    }
}

impl Emulated {
    fn new(kernel: Kernel) -> io::Result<Self> {
        // What would wake the thread up on a real kernel.
        let signals = [TIMER, END].into_iter().collect::<SigSet>();
        let thread = PunishedThread::new(Arc::new(kernel), 0, signals)?;
        Ok(Self {
            detects_at_start: thread.detection().detects,
            thread,
            window_end: posix_timer(ClockId::CLOCK_MONOTONIC, WINDOW_END)?,
        })
    }

    /// Whether so many turns should have trapped, and did not.
    fn never_trapped(&self, turns: u64) -> bool {
        let traps = self.thread.kernel().punishments(self.thread.cpu()).traps;
        self.detects_at_start && turns > 0 && traps == 0
    }

    /// Punishes the thread at its split lock, and has the next one trap or not, as the kernel has it by then.
    fn treat(&mut self, signal: Signal, state: &mut LoopState) -> io::Result<Punished> {
        if signal == Signal::SIGBUS && self.thread.punish()? == Punished::Sigbus {
            return Ok(Punished::Sigbus);
        }
        let detection = self.thread.detection();
        state.traps = detection.detects;
        if let (false, Some(until)) = (detection.detects, detection.until) {
            set_to(&mut self.window_end, until)?;
        }
        Ok(Punished::Retry)
    }
}

/// In one piece: a pipe takes so much at once.
fn send(mut to: &PipeWriter, message: &Message) {
    let message = serde_json::to_vec(message).unwrap_or_default();
    // If nobody listens, nobody wants to know.
    let _ = to.write_all(&message);
}
