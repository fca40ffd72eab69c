//! A gate that every vCPU goes through on its way into the guest.
//!
//! Going in and out while nobody pauses is two stores and two loads on cache lines of one's own. What
//! makes that enough is the order: a vCPU first says that it is inside and then looks whether the
//! gate is closed; whoever pauses first closes the gate and then looks who is inside. In the total
//! order of these (`SeqCst`) at least one of the two sees the other.

use std::fmt;
use std::hint;
use std::panic::RefUnwindSafe;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Pause;

/// How often is looked again before a thread goes to sleep. A pause lasts as long as a vCPU needs to
/// get out of the guest, which is less than two context switches.
const SPINS: u32 = 2_000;

/// A vCPU that is still inside after so long is kicked again: its kick could not be sent, or it has gone meanwhile.
const UNTIL_NEXT_KICK: Duration = Duration::from_millis(1);

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
/// gate stays open for at least as long as that took.
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
}

/// What has become of a kick.
///
/// An error says no more than that it was not sent; `()` that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kick {
    /// The vCPU is going to leave.
    Sent,
    /// It could not be sent this time. The vCPU is waited for, and kicked again.
    NotSent,
    /// The vCPU is not in the guest any more, and will not be again with this pass: it counts as outside.
    Gone,
}

#[derive(Debug, Default)]
struct Shared {
    closed: OwnLine<AtomicBool>,
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
    /// How many sleep until something changes: waking nobody would be a system call all the same.
    sleepers: usize,
    /// Since when somebody waits for the gate to open, on the way in.
    kept_out_since: Option<Instant>,
    /// Until then the gate stays open.
    open_until: Option<Instant>,
}

struct Holder {
    inside: OwnLine<AtomicBool>,
    kick: Box<dyn Fn() -> Kick + Send + Sync>,
}

/// A kick that panics leaves nothing of the gate's half changed, and what it captured is its owner's affair.
impl RefUnwindSafe for Holder {}

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
    /// moment ago, and has to make it leave. It says what has become of it: [`Kick`], `()`, or a `Result` whose
    /// error means that it was not sent. So it may be `move || kicker.kick()`, also if the vCPU can have gone by then.
    ///
    /// A kick must not be lost. A kick
    /// between [`GuestPass::enter`] and KVM_RUN has to end that KVM_RUN, also when it comes before the
    /// thread has reached it. A blocked signal that only KVM unblocks, or `immediate_exit` set by a
    /// signal handler, does that (`kvm_preemption_timer::Kicker` is either); a signal with an empty
    /// handler does not. A kick that comes too late may end the next run: such a run has to be
    /// nothing but a reason to run again.
    ///
    /// It is not called under a lock of the gate, and called again, once a millisecond, until the vCPU is outside.
    pub fn pass<K: Into<Kick>>(&self, kick: impl Fn() -> K + Send + Sync + 'static) -> GuestPass {
        let holder = Arc::new(Holder {
            inside: OwnLine::default(),
            kick: Box::new(move || kick().into()),
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
    #[inline]
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

    #[inline]
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
        let paused = Paused { shared };
        let holders = Arc::clone(&lock(&shared.holders));
        let inside = |holder: &&Arc<Holder>| holder.inside.0.load(SeqCst);
        // All of them first, so that they leave at the same time.
        let mut kicked: Vec<_> = holders.iter().filter(inside).collect();
        kicked.retain(|holder| (holder.kick)() != Kick::Gone);
        for holder in kicked {
            shared.wait_until_outside(holder);
        }
        paused
    }
}

impl Shared {
    fn wait_until_open(&self) {
        let is_open = || !self.closed.0.load(SeqCst);
        {
            let mut turns = lock(&self.turns);
            if is_open() {
                return;
            }
            turns.kept_out_since.get_or_insert_with(Instant::now);
        }
        if !spin_until(is_open) {
            let mut turns = lock(&self.turns);
            while !is_open() {
                turns = wait(&self.opened, turns);
            }
        }
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
        if spin_until(outside) {
            return;
        }
        while !self.has_left(outside) {
            if (holder.kick)() == Kick::Gone {
                return;
            }
        }
    }

    /// Waits for that, but not for ever.
    fn has_left(&self, outside: impl Fn() -> bool) -> bool {
        let inside = |_: &mut Turns| !outside();
        let mut turns = lock(&self.turns);
        turns.sleepers += 1;
        let waited = self.left.wait_timeout_while(turns, UNTIL_NEXT_KICK, inside);
        let (mut turns, result) = waited.unwrap_or_else(PoisonError::into_inner);
        turns.sleepers -= 1;
        !result.timed_out()
    }

    /// Wakes those who wait. Whoever has seen the old state under the lock waits by now.
    fn tell(&self, condition: &Condvar) {
        if lock(&self.turns).sleepers > 0 {
            condition.notify_all();
        }
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.pass.leave();
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        let mut turns = lock(&self.shared.turns);
        turns.open_until = turns.kept_out_since.take().map(|since| {
            let now = Instant::now();
            now + (now - since)
        });
        turns.now += 1;
        self.shared.closed.0.store(false, SeqCst);
        let sleepers = turns.sleepers;
        drop(turns);
        if sleepers > 0 {
            self.shared.opened.notify_all();
        }
    }
}

impl Drop for GuestPass {
    fn drop(&mut self) {
        // It may be that an `Inside` was forgotten.
        self.leave();
        let mut holders = lock(&self.shared.holders);
        let others = |holder: &&Arc<Holder>| !Arc::ptr_eq(holder, &self.holder);
        *holders = holders.iter().filter(others).cloned().collect();
    }
}

impl From<()> for Kick {
    fn from((): ()) -> Self {
        Self::Sent
    }
}

impl<E> From<Result<(), E>> for Kick {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Sent,
            Err(_) => Self::NotSent,
        }
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

fn wait<'a>(condition: &Condvar, mut turns: MutexGuard<'a, Turns>) -> MutexGuard<'a, Turns> {
    turns.sleepers += 1;
    let mut turns = condition
        .wait(turns)
        .unwrap_or_else(PoisonError::into_inner);
    turns.sleepers -= 1;
    turns
}
