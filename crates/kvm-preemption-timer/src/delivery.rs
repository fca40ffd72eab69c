//! How the signal reaches KVM, whatever else the thread and the VMM do with signals.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::{self, HandlerRegistration, InstalledHandler, Process, RunPage};
use crate::{Config, Error, Mechanism, Signal, SignalSet};

/// Delivery of one signal to one vCPU's runs on one thread. The handler is there in both mechanisms:
/// with [`Mechanism::MaskedSignal`] for a thread that unblocks the signal after all.
///
/// The handler counts a signal first and sets its bit of `immediate_exit` then. So as long as the
/// count is not the one that was taken last, a signal is still to be taken, whatever `immediate_exit`
/// says.
#[derive(Debug)]
pub(crate) struct SignalDelivery {
    signal: Signal,
    mechanism: Mechanism,
    kvm_mask: Option<KvmMask>,
    /// The handler's count when its signals were last taken.
    taken: u32,
    /// Somebody else has been at work since the masks and the handler were last looked at.
    must_check: bool,
    process: Process,
    registration: HandlerRegistration,
    // After the handler has lost its vCPU, the process can lose its handler.
    installed: InstalledHandler,
    // And only when nothing is left to be delivered, the thread's mask is as before.
    saved: SavedDelivery,
}

impl SignalDelivery {
    pub(crate) fn new(vcpu: BorrowedFd<'_>, config: Config) -> Result<Self, Error> {
        let Config {
            signal, mechanism, ..
        } = config;
        let page = RunPage::map(vcpu)?;
        let saved = SavedDelivery::save(signal)?;
        let installed = InstalledHandler::new(signal)?;
        let registration = HandlerRegistration::new(page, signal)?;
        let mut delivery = SignalDelivery {
            signal,
            mechanism,
            kvm_mask: None,
            taken: registration.slot().signals(),
            must_check: false,
            process: Process::current(),
            registration,
            installed,
            saved,
        };
        // From here on, drop undoes what has been done, also when the next step fails.
        let thread_mask = sys::set_blocked(signal, delivery.is_masked())?;
        let told = config.kvm_mask;
        if delivery.is_masked() || told.is_some_and(|mask| mask.contains(signal.number())) {
            let mask = KvmMask::set(vcpu, told, told.unwrap_or(thread_mask), signal)?;
            delivery.kvm_mask = Some(mask);
        }
        Ok(delivery)
    }

    fn is_masked(&self) -> bool {
        self.mechanism == Mechanism::MaskedSignal
    }

    fn page(&self) -> &RunPage {
        &self.registration.slot().page
    }

    /// Before a run: a signal that was not taken yet will end it, even if somebody has cleared
    /// `immediate_exit` since.
    #[inline]
    pub(crate) fn before_run(&mut self) -> Result<(), Error> {
        if self.must_check {
            self.check()?;
        }
        if self.registration.slot().signals() != self.taken {
            self.page().request_exit();
        }
        Ok(())
    }

    /// The next KVM_RUN comes back at once, until [`SignalDelivery::take_signal`].
    pub(crate) fn end_next_run(&self) {
        self.page().request_exit();
    }

    /// Have the masks and the handler looked at before the next run.
    pub(crate) fn check_before_run(&mut self) {
        self.must_check = true;
    }

    /// Whatever the thread has done to its mask, this crate's signal is as it has to be; and what the
    /// thread blocks by now does not interrupt the guest.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        let thread_mask = sys::set_blocked(self.signal, self.is_masked())?;
        if !self.is_masked() {
            self.installed.check()?;
        }
        if let Some(mask) = &mut self.kvm_mask {
            mask.follow(thread_mask, self.signal)?;
        }
        self.must_check = false;
        Ok(())
    }

    /// Takes all signals of this vCPU that have come, so that the next run can begin. Says whether
    /// one of them may have been a timer's.
    pub(crate) fn take_signal(&mut self) -> bool {
        /// More than the two sources of signals ever queue; somebody else may queue any number.
        const AT_ONCE: usize = 32;
        let mut from_timer = self.take_handled();
        if self.is_masked() {
            let received = std::iter::from_fn(|| sys::receive(self.signal));
            for signal in received.take(AT_ONCE) {
                from_timer |= signal.from_timer;
            }
        }
        from_timer
    }

    /// Anything that the handler has seen may have been the timer.
    fn take_handled(&mut self) -> bool {
        let taken_before = self.taken;
        loop {
            self.taken = self.registration.slot().signals();
            self.page().withdraw_exit_request();
            // A signal between these two lines would be forgotten by `immediate_exit`, not by the
            // count.
            if self.registration.slot().signals() == self.taken {
                return self.taken != taken_before;
            }
        }
    }

    /// Makes the next KVM_RUN finish pending I/O and come back without entering the guest.
    #[cfg(any(feature = "kvm-ioctls", test))]
    pub(crate) fn begin_completion(&self) {
        self.page().request_exit();
    }

    /// Back to ordinary runs. A signal that came meanwhile still interrupts the next one.
    #[cfg(any(feature = "kvm-ioctls", test))]
    pub(crate) fn end_completion(&self) {
        self.page().withdraw_exit_request();
        if self.registration.slot().signals() != self.taken {
            self.page().request_exit();
        }
    }

    /// Clears what others have written to `immediate_exit`.
    #[cfg(feature = "kvm-ioctls")]
    pub(crate) fn withdraw_exit_requests_of_others(&self) {
        self.page().withdraw_exit_requests_of_others();
    }
}

impl Drop for SignalDelivery {
    /// A signal that was sent may still be on its way. It must not find the handler gone, nor request
    /// an exit of a vCPU that is somebody else's by then: so it is blocked and consumed.
    fn drop(&mut self) {
        // None of these calls fails for a thread and a vCPU for which it succeeded before, and there
        // is nobody left to tell.
        if let Ok(mask) = sys::set_blocked(self.signal, true) {
            let is_blocked = mask.contains(self.signal.number());
            if is_blocked != self.is_masked() {
                // The thread has changed its mask since, and keeps that.
                self.saved.was_blocked = is_blocked;
            }
        }
        while sys::receive(self.signal).is_some() {}
        // In a process that was forked off, the run page and the vCPU are the parent's.
        if self.process.is_current() {
            self.page().withdraw_exit_request();
            if let Some(mask) = &self.kvm_mask {
                let _ = mask.restore();
            }
        }
    }
}

/// KVM's signal mask of a vCPU, with this crate's signal taken out.
#[derive(Debug)]
struct KvmMask {
    vcpu: OwnedFd,
    /// The VMM's own, which stands for as long as the vCPU is bound and after that.
    told: Option<SignalSet>,
    in_kvm: SignalSet,
}

impl KvmMask {
    fn set(
        vcpu: BorrowedFd<'_>,
        told: Option<SignalSet>,
        mask: SignalSet,
        signal: Signal,
    ) -> Result<Self, Error> {
        // A descriptor of our own: the mask is restored on this vCPU, whatever the caller does with
        // theirs.
        let vcpu = vcpu.try_clone_to_owned().map_err(|source| Error::System {
            call: "fcntl(F_DUPFD_CLOEXEC)",
            target: "the vCPU",
            source,
        })?;
        let in_kvm = mask.without(signal.number());
        sys::set_signal_mask(vcpu.as_fd(), Some(in_kvm))?;
        Ok(KvmMask { vcpu, told, in_kvm })
    }

    /// A signal that the thread blocks and KVM does not would interrupt every run while it is
    /// pending, and one that only KVM blocks would interrupt none.
    fn follow(&mut self, thread_mask: SignalSet, signal: Signal) -> Result<(), Error> {
        let mask = thread_mask.without(signal.number());
        if self.told.is_none() && mask != self.in_kvm {
            sys::set_signal_mask(self.vcpu.as_fd(), Some(mask))?;
            self.in_kvm = mask;
        }
        Ok(())
    }

    fn restore(&self) -> Result<(), Error> {
        sys::set_signal_mask(self.vcpu.as_fd(), self.told)
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
            was_blocked: sys::thread_mask()?.contains(signal.number()),
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
    use std::sync::atomic::{AtomicBool, Ordering};
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
        let numbers = [
            libc::SIGALRM,
            libc::SIGUSR2,
            libc::SIGVTALRM,
            libc::SIGPROF,
            libc::SIGUSR1,
        ];
        Signal::new(numbers[which]).unwrap()
    }

    fn deliver(file: &OwnedFd, signal: Signal) -> SignalDelivery {
        SignalDelivery::new(file.as_fd(), Config::new().signal(signal)).unwrap()
    }

    /// Whether a signal that has not been taken would end the next run.
    fn nothing_is_forgotten(delivery: &SignalDelivery) -> bool {
        let slot = delivery.registration.slot();
        // In this order: what comes between makes both true.
        let unforgotten = slot.page.immediate_exit() != 0;
        slot.signals() == delivery.taken || unforgotten || {
            // It came between the two looks above; the handler has finished by now.
            slot.page.immediate_exit() != 0
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
                    sys::send_signal(Process::current(), me, signal).unwrap();
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
        let mut delivery = deliver(&run_page(), signal);
        under_signal_flood(signal, || {
            let taken = delivery.take_signal();
            assert!(nothing_is_forgotten(&delivery));
            taken
        });
    }

    #[test]
    fn completing_io_never_forgets_a_signal() {
        let signal = signal(1);
        let mut delivery = deliver(&run_page(), signal);
        under_signal_flood(signal, || {
            delivery.begin_completion();
            delivery.end_completion();
            assert!(nothing_is_forgotten(&delivery));
            delivery.take_signal()
        });
    }

    #[test]
    fn nothing_is_left_of_it() {
        let signal = signal(2);
        for was_blocked in [false, true] {
            sys::set_blocked(signal, was_blocked).unwrap();
            let file = run_page();
            let delivery = deliver(&file, signal);
            assert!(HandlerRegistration::exists(signal));
            sys::send_signal(Process::current(), sys::current_tid(), signal).unwrap();
            drop(delivery);
            assert!(!HandlerRegistration::exists(signal));
            assert!(!sys::is_pending(signal));
            let is_blocked = sys::thread_mask().unwrap().contains(signal.number());
            assert_eq!(is_blocked, was_blocked);
            let page = RunPage::map(file.as_fd()).unwrap();
            assert_eq!(page.immediate_exit(), 0);
        }
    }

    #[test]
    fn an_exit_that_others_request_is_left_alone() {
        let file = run_page();
        let others = RunPage::map(file.as_fd()).unwrap();
        others.request_exit_as(1);
        let signal = signal(3);
        let mut delivery = deliver(&file, signal);
        sys::send_signal(Process::current(), sys::current_tid(), signal).unwrap();
        assert!(delivery.take_signal());
        assert_eq!(others.immediate_exit(), 1);
        drop(delivery);
        assert_eq!(others.immediate_exit(), 1);
    }

    #[test]
    fn an_exit_that_others_withdraw_is_requested_again_before_the_run() {
        let file = run_page();
        let others = RunPage::map(file.as_fd()).unwrap();
        let signal = signal(4);
        let mut delivery = deliver(&file, signal);
        sys::send_signal(Process::current(), sys::current_tid(), signal).unwrap();
        others.request_exit_as(0);
        delivery.before_run().unwrap();
        assert_ne!(others.immediate_exit(), 0);
    }
}
