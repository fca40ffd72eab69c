//! Which signals can be used to force a vCPU out.

use std::fmt;
use std::ops::RangeInclusive;

/// A signal that can force a vCPU out of KVM_RUN.
///
/// The default is SIGSTKFLT: nothing on Linux raises it, applications do not use it, and as a
/// standard signal it coalesces and can always be sent, whereas a real-time signal can be refused
/// when the user's limit of queued signals (`ulimit -i`) is reached.
///
/// ```
/// use kvm_preemption_timer::Signal;
///
/// assert!(Signal::new(10).is_ok()); // SIGUSR1
/// let error = Signal::new(9).unwrap_err(); // SIGKILL
/// assert!(error.to_string().contains("cannot be blocked"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

/// Why a signal cannot force a vCPU out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("signal {number} cannot be used to force a vCPU out: {why}; choose another one")]
pub struct UnusableSignal {
    /// The signal's number.
    pub number: i32,
    /// What speaks against it.
    pub why: &'static str,
}

fn realtime_signals() -> RangeInclusive<i32> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}

impl Signal {
    /// The signal with this number.
    ///
    /// # Errors
    /// [`UnusableSignal`] if it cannot be blocked (SIGKILL, SIGSTOP), is raised by faults
    /// of the thread itself, stops, continues or ends the process, comes from the kernel for other
    /// reasons (SIGCHLD, SIGIO, SIGXCPU and the like), is kept by the C library, or does not exist.
    pub fn new(number: i32) -> Result<Self, UnusableSignal> {
        let unusable = |why| Err(UnusableSignal { number, why });
        match number {
            libc::SIGKILL | libc::SIGSTOP => unusable("it cannot be blocked"),
            libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGFPE
            | libc::SIGILL
            | libc::SIGTRAP
            | libc::SIGSYS
            | libc::SIGABRT => unusable("it reports a fault of the thread that gets it"),
            libc::SIGCONT | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => {
                unusable("job control discards it while it is pending")
            }
            libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM => {
                unusable("it asks the process to end, and would be taken for our own")
            }
            libc::SIGCHLD
            | libc::SIGPIPE
            | libc::SIGIO
            | libc::SIGURG
            | libc::SIGWINCH
            | libc::SIGXCPU
            | libc::SIGXFSZ
            | libc::SIGPWR => {
                unusable("the kernel sends it for reasons of its own, and it would be lost")
            }
            _ if (1..32).contains(&number) => Ok(Signal(number)),
            _ if realtime_signals().contains(&number) => Ok(Signal(number)),
            _ if (32..=64).contains(&number) => unusable("the C library keeps it for itself"),
            _ => unusable("there is no such signal"),
        }
    }

    /// The real-time signal SIGRTMIN + `offset`.
    ///
    /// # Errors
    /// [`UnusableSignal`] if it lies beyond SIGRTMAX.
    pub fn realtime(offset: u32) -> Result<Self, UnusableSignal> {
        let offset = i32::try_from(offset).unwrap_or(i32::MAX);
        Self::new(realtime_signals().start().saturating_add(offset))
    }

    /// The signal's number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl Default for Signal {
    fn default() -> Self {
        Signal(libc::SIGSTKFLT)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first_realtime = *realtime_signals().start();
        match self.0 {
            libc::SIGALRM => f.write_str("SIGALRM"),
            libc::SIGUSR1 => f.write_str("SIGUSR1"),
            libc::SIGUSR2 => f.write_str("SIGUSR2"),
            libc::SIGSTKFLT => f.write_str("SIGSTKFLT"),
            libc::SIGVTALRM => f.write_str("SIGVTALRM"),
            libc::SIGPROF => f.write_str("SIGPROF"),
            number if number >= first_realtime => {
                write!(f, "SIGRTMIN+{}", number - first_realtime)
            }
            number => write!(f, "signal {number}"),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_real_time_signal_can_be_used() {
        let count = realtime_signals().count() as u32;
        for offset in 0..count {
            assert!(Signal::realtime(offset).is_ok());
        }
        assert!(Signal::realtime(count).is_err());
        assert!(Signal::realtime(u32::MAX).is_err());
    }

    #[test]
    fn signals_of_the_c_library_are_refused() {
        let error = Signal::new(32).unwrap_err().to_string();
        assert!(error.contains("C library"), "{error}");
    }

    #[test]
    fn signals_that_the_kernel_sends_by_itself_are_refused() {
        // As signal(7) numbers them on x86.
        let numbers = [13, 17, 23, 24, 25, 28, 29, 30];
        for number in numbers {
            let error = Signal::new(number).unwrap_err().to_string();
            assert!(error.contains("the kernel sends it"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_number_is_taken_or_refused(number: i32) {
            if let Ok(signal) = Signal::new(number) {
                prop_assert_eq!(signal.number(), number);
                prop_assert!(!signal.to_string().is_empty());
            }
        }
    }
}
