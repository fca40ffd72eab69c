//! A signal whose handler sets `kvm_run.immediate_exit`.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::ActiveMechanism;
use crate::sys::{self, HandlerRegistration, InstalledHandler, RunPage};
use crate::{Error, Signal};

/// The handler counts a signal first and sets `immediate_exit` then. So as long as the count is not
/// the one that was taken last, a signal is still to be taken, whatever `immediate_exit` says.
#[derive(Debug)]
pub(crate) struct HandledSignal {
    registration: HandlerRegistration,
    // After the handler has lost its vCPU, the process can lose its handler.
    _installed: InstalledHandler,
    // And only when nothing is left to be delivered, the thread's mask is as before.
    _saved: SavedDelivery,
    /// The handler's count when its signals were last taken.
    taken: u32,
    signal: Signal,
}

impl HandledSignal {
    pub(crate) fn new(vcpu: &OwnedFd, signal: Signal) -> Result<Self, Error> {
        let page = RunPage::map(vcpu.as_fd())?;
        page.immediate_exit().store(0, Ordering::SeqCst);
        let saved = SavedDelivery::save(signal)?;
        let installed = InstalledHandler::new(signal)?;
        let registration = HandlerRegistration::new(page, signal);
        sys::set_blocked(signal, false)?;
        Ok(HandledSignal {
            taken: registration.slot().signals(),
            registration,
            _installed: installed,
            _saved: saved,
            signal,
        })
    }
}

impl ActiveMechanism for HandledSignal {
    /// Anything that the handler has seen may have been the timer.
    fn take_signal(&mut self) -> bool {
        let slot = self.registration.slot();
        let taken_before = self.taken;
        loop {
            self.taken = slot.signals();
            slot.page.immediate_exit().store(0, Ordering::SeqCst);
            // A signal between these two lines would be forgotten by `immediate_exit`, not by the
            // count.
            if slot.signals() == self.taken {
                return self.taken != taken_before;
            }
        }
    }

    fn begin_completion(&self) {
        let immediate_exit = self.registration.slot().page.immediate_exit();
        immediate_exit.store(1, Ordering::SeqCst);
    }

    fn end_completion(&self) {
        let slot = self.registration.slot();
        slot.page.immediate_exit().store(0, Ordering::SeqCst);
        if slot.signals() != self.taken {
            slot.page.immediate_exit().store(1, Ordering::SeqCst);
        }
    }
}

impl Drop for HandledSignal {
    /// A signal that was sent may still be on its way. It must not find the handler gone, nor set
    /// `immediate_exit` for a vCPU that is somebody else's by then: so it is blocked and consumed.
    fn drop(&mut self) {
        let _ = sys::set_blocked(self.signal, true);
        while sys::receive(self.signal).is_some() {}
        let slot = self.registration.slot();
        slot.page.immediate_exit().store(0, Ordering::SeqCst);
    }
}

/// Whether the thread blocked a signal: restored on drop.
#[derive(Debug)]
struct SavedDelivery {
    signal: Signal,
    was_blocked: bool,
}

impl SavedDelivery {
    fn save(signal: Signal) -> Result<Self, Error> {
        Ok(SavedDelivery {
            signal,
            was_blocked: sys::thread_mask()?.contains(signal),
        })
    }
}

impl Drop for SavedDelivery {
    fn drop(&mut self) {
        // Does not fail for a thread for which it succeeded before.
        let _ = sys::set_blocked(self.signal, self.was_blocked);
    }
}

#[cfg(test)]
mod tests {
    //! Without KVM: any file that can be mapped stands for the run page.

    use super::*;
    use std::io::Write;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    const GIVE_UP: Duration = Duration::from_secs(120);

    fn run_page() -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; 4096]).unwrap();
        file.into()
    }

    /// Each test has a signal of its own: the handler belongs to the process. Standard signals, so
    /// that a flood of them does not queue up.
    fn signal(which: usize) -> Signal {
        Signal::new([libc::SIGXCPU, libc::SIGXFSZ, libc::SIGVTALRM, libc::SIGPROF][which]).unwrap()
    }

    /// Whether a signal that has not been taken would end the next run.
    fn nothing_is_forgotten(handled: &HandledSignal) -> bool {
        let slot = handled.registration.slot();
        // In this order: what comes between makes both true.
        let unforgotten = slot.page.immediate_exit().load(Ordering::SeqCst) == 1;
        slot.signals() == handled.taken || unforgotten || {
            // It came between the two looks above; the handler has finished by now.
            slot.page.immediate_exit().load(Ordering::SeqCst) == 1
        }
    }

    /// Repeats `check` under a flood of signals, until it has said often enough that there were any.
    fn under_signal_flood(signal: Signal, mut check: impl FnMut() -> bool) {
        const OFTEN: usize = 1000;
        /// Also when a check fails: the flood would go on for ever.
        struct StopAtEnd<'a>(&'a AtomicBool);
        impl Drop for StopAtEnd<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (stop, me) = (AtomicBool::new(false), sys::current_tid());
        std::thread::scope(|scope| {
            let _stop = StopAtEnd(&stop);
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    sys::send_signal(me, signal).unwrap();
                    std::thread::yield_now();
                }
            });
            let start = Instant::now();
            let mut seen = 0;
            while seen < OFTEN && start.elapsed() < GIVE_UP {
                seen += usize::from(check());
            }
            assert_eq!(seen, OFTEN, "too few signals came");
        });
    }

    #[test]
    fn taking_a_signal_never_forgets_the_next_one() {
        let signal = signal(0);
        let mut handled = HandledSignal::new(&run_page(), signal).unwrap();
        under_signal_flood(signal, || {
            let taken = handled.take_signal();
            assert!(nothing_is_forgotten(&handled));
            taken
        });
    }

    #[test]
    fn completing_io_never_forgets_a_signal() {
        let signal = signal(1);
        let mut handled = HandledSignal::new(&run_page(), signal).unwrap();
        under_signal_flood(signal, || {
            handled.begin_completion();
            handled.end_completion();
            assert!(nothing_is_forgotten(&handled));
            handled.take_signal()
        });
    }

    #[test]
    fn nothing_is_left_of_it() {
        let signal = signal(2);
        for was_blocked in [false, true] {
            sys::set_blocked(signal, was_blocked).unwrap();
            let file = run_page();
            let handled = HandledSignal::new(&file, signal).unwrap();
            assert!(HandlerRegistration::exists(signal));
            sys::send_signal(sys::current_tid(), signal).unwrap();
            drop(handled);
            assert!(!HandlerRegistration::exists(signal));
            assert!(!sys::is_pending(signal));
            assert_eq!(sys::thread_mask().unwrap().contains(signal), was_blocked);
            let page = RunPage::map(file.as_fd()).unwrap();
            assert_eq!(page.immediate_exit().load(Ordering::SeqCst), 0);
        }
    }

    #[test]
    fn a_vcpu_that_was_left_without_immediate_exit_cleared_can_run() {
        let file = run_page();
        let page = RunPage::map(file.as_fd()).unwrap();
        page.immediate_exit().store(1, Ordering::SeqCst);
        let _handled = HandledSignal::new(&file, signal(3)).unwrap();
        assert_eq!(page.immediate_exit().load(Ordering::SeqCst), 0);
    }
}
