//! A gate that every vCPU goes through on its way into the guest.
//!
//! Going in and out while nobody pauses is two stores and two loads on cache lines of one's own. What
//! makes that enough is the order: a vCPU first says that it is inside and then looks whether the
//! gate is closed; whoever pauses first closes the gate and then looks who is inside. In the total
//! order of these (`SeqCst`) at least one of the two sees the other.

use std::fmt;
use std::hint;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Pause;

/// How often is looked again before a thread goes to sleep. A pause lasts as long as a vCPU needs to
/// get out of the guest, which is less than two context switches.
const SPINS: u32 = 2_000;

/// From here on a wait is left to the kernel.
const SHORT_WAIT: Duration = Duration::from_micros(50);

/// The gate between the vCPU threads of one VM and its guest: [`Pause`] for a VM with any number of
/// vCPUs. Every vCPU thread has a [`GuestPass`].
///
/// ```
/// use split_lock_assist::pause::{Pause, PauseGate};
///
/// let gate = PauseGate::new();
/// let mut pass = gate.pass(|| { /* kick this vCPU */ });
/// {
///     let _inside = pass.enter();
///     // KVM_RUN
/// }
/// let _paused = pass.pause_others();
/// // Nobody else is in the guest.
/// ```
///
/// A thread that is inside cannot pause the others, because it would wait for itself:
///
/// ```compile_fail
/// use split_lock_assist::pause::{Pause, PauseGate};
///
/// let mut pass = PauseGate::new().pass(|| {});
/// let inside = pass.enter();
/// pass.pause_others();
/// drop(inside);
/// ```
///
/// # Who waits for whom
/// Those who pause get their turn in the order in which they asked. A vCPU that splits locks all the
/// time would keep the others out all the time; so after a pause in which somebody was kept out, the
/// gate stays open for at least as long as it was closed.
#[derive(Debug, Clone, Default)]
pub struct PauseGate {
    shared: Arc<Shared>,
}

/// One vCPU thread's right to enter the guest. Given back when it is dropped.
#[derive(Debug)]
pub struct GuestPass {
    shared: Arc<Shared>,
    holder: Arc<Holder>,
}

/// A vCPU is in the guest, or about to be, until this is dropped.
#[derive(Debug)]
#[must_use = "the vCPU counts as outside as soon as this is dropped"]
pub struct Inside<'a> {
    pass: &'a GuestPass,
}

/// No other vCPU is in the guest until this is dropped.
#[derive(Debug)]
#[must_use = "the others may go back in as soon as this is dropped"]
pub struct Paused<'a> {
    shared: &'a Shared,
    closed_at: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    closed: OwnLine<AtomicBool>,
    /// How many wait for the gate to open, on their way in.
    kept_out: AtomicUsize,
    turns: Mutex<Turns>,
    /// The gate has opened, and so the turn has gone to the next.
    opened: Condvar,
    /// Somebody has left while the gate was closed.
    left: Condvar,
    /// Replaced as a whole when somebody comes or goes, so that nobody waits for a lock meanwhile.
    holders: Mutex<Arc<[Arc<Holder>]>>,
}

/// Those who want to pause, first come first served.
#[derive(Debug, Default)]
struct Turns {
    next: u64,
    now: u64,
    /// Until then the gate stays open.
    open_until: Option<Instant>,
}

struct Holder {
    inside: OwnLine<AtomicBool>,
    kick: Box<dyn Fn() + Send + Sync>,
}

/// On cache lines that nothing else is on: CPUs fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OwnLine<T>(T);

impl PauseGate {
    /// An open gate that nobody has a pass for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A pass for one vCPU. `kick` is called on other threads, while this vCPU is inside or was a
    /// moment ago, and has to make it leave.
    ///
    /// A kick must not be lost: the gate kicks once and waits for as long as it takes. So a kick
    /// between [`GuestPass::enter`] and KVM_RUN has to end that KVM_RUN, also when it comes before the
    /// thread has reached it. A blocked signal that only KVM unblocks, or `immediate_exit` set by a
    /// signal handler, does that (`kvm_preemption_timer::Kicker` is either); a signal with an empty
    /// handler does not. A kick that comes too late may end the next run: such a run has to be
    /// nothing but a reason to run again.
    ///
    /// It is not called under a lock of the gate.
    pub fn pass(&self, kick: impl Fn() + Send + Sync + 'static) -> GuestPass {
        let holder = Arc::new(Holder {
            inside: OwnLine::default(),
            kick: Box::new(kick),
        });
        let mut holders = lock(&self.shared.holders);
        *holders = holders.iter().chain([&holder]).cloned().collect();
        drop(holders);
        GuestPass {
            shared: Arc::clone(&self.shared),
            holder,
        }
    }
}

impl GuestPass {
    /// Goes in, after waiting until nobody pauses. Hold the answer exactly while KVM_RUN lasts:
    /// handling an exit inside would make others wait for it.
    pub fn enter(&mut self) -> Inside<'_> {
        loop {
            self.holder.inside.0.store(true, SeqCst);
            if !self.shared.closed.0.load(SeqCst) {
                return Inside { pass: self };
            }
            self.leave();
            self.shared.wait_until_open();
        }
    }

    fn leave(&self) {
        self.holder.inside.0.store(false, SeqCst);
        if self.shared.closed.0.load(SeqCst) {
            self.shared.tell(&self.shared.left);
        }
    }
}

impl Pause for GuestPass {
    type Paused<'a> = Paused<'a>;

    fn pause_others(&self) -> Paused<'_> {
        let shared = &*self.shared;
        shared.wait_for_turn();
        shared.closed.0.store(true, SeqCst);
        // From here on, so that the gate opens again if a kick panics.
        let paused = Paused {
            shared,
            closed_at: Instant::now(),
        };
        let holders = Arc::clone(&lock(&shared.holders));
        let inside = |holder: &&Arc<Holder>| holder.inside.0.load(SeqCst);
        // All of them first, so that they leave at the same time.
        let kicked: Vec<_> = holders.iter().filter(inside).collect();
        for holder in &kicked {
            (holder.kick)();
        }
        for holder in kicked {
            shared.wait_until_outside(holder);
        }
        paused
    }
}

impl Shared {
    fn wait_until_open(&self) {
        self.kept_out.fetch_add(1, SeqCst);
        if !spin_until(|| !self.closed.0.load(SeqCst)) {
            let mut turns = lock(&self.turns);
            while self.closed.0.load(SeqCst) {
                turns = wait(&self.opened, turns);
            }
        }
        self.kept_out.fetch_sub(1, SeqCst);
    }

    fn wait_for_turn(&self) {
        let mut turns = lock(&self.turns);
        let mine = turns.next;
        turns.next += 1;
        while turns.now != mine {
            turns = wait(&self.opened, turns);
        }
        let open_until = turns.open_until;
        drop(turns);
        if let Some(open_until) = open_until {
            wait_until(open_until);
        }
    }

    /// Returns once it has been outside after the gate was closed: it cannot have gone in again.
    fn wait_until_outside(&self, holder: &Holder) {
        let outside = || !holder.inside.0.load(SeqCst);
        if !spin_until(outside) {
            let mut turns = lock(&self.turns);
            while !outside() {
                turns = wait(&self.left, turns);
            }
        }
    }

    /// Wakes those who wait. Whoever has seen the old state under the lock waits by now.
    fn tell(&self, condition: &Condvar) {
        drop(lock(&self.turns));
        condition.notify_all();
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.pass.leave();
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        let mut turns = lock(&self.shared.turns);
        let now = Instant::now();
        let someone_waits = self.shared.kept_out.load(SeqCst) > 0;
        turns.open_until = someone_waits.then(|| now + (now - self.closed_at));
        turns.now += 1;
        self.shared.closed.0.store(false, SeqCst);
        drop(turns);
        self.shared.opened.notify_all();
    }
}

impl Drop for GuestPass {
    fn drop(&mut self) {
        let mut holders = lock(&self.shared.holders);
        let others = |holder: &&Arc<Holder>| !Arc::ptr_eq(holder, &self.holder);
        *holders = holders.iter().filter(others).cloned().collect();
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder")
            .field("inside", &self.inside.0)
            .finish_non_exhaustive()
    }
}

/// Whether it came true soon.
fn spin_until(condition: impl Fn() -> bool) -> bool {
    (0..SPINS).any(|_| {
        hint::spin_loop();
        condition()
    })
}

fn wait_until(moment: Instant) {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > SHORT_WAIT {
            thread::sleep(left);
        } else {
            // Those who may go in now might be waiting for this CPU.
            thread::yield_now();
        }
    }
}

/// No panic can leave what is behind these locks half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition
        .wait(guard)
        .unwrap_or_else(PoisonError::into_inner)
}
