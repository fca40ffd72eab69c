//! The handler, event by event, against what kernels do.

use split_lock_model::handler::{
    Action, Handler, Interrupted, Message, Reenabled, Retry, Rules, Signal, TaskId, Trap,
    TrapOrigin, Trapped, Wait,
};
use split_lock_model::machine::{CoreId, CpuId, Hardware};
use split_lock_model::time::Jiffies;

use crate::{machine, profile};

const CPU: CpuId = CpuId(0);

fn kernel(text: &str, cpus: u32, siblings: u32) -> Handler {
    on(text, cpus, siblings, Hardware::ICE_LAKE)
}

fn on(text: &str, cpus: u32, siblings: u32, hardware: Hardware) -> Handler {
    let machine = machine(cpus, siblings);
    Handler::new(&profile(text), machine, hardware, Rules::UPSTREAM)
}

fn trap(kernel: &mut Handler, now: u64, task: TaskId, cpu: u32) -> Action {
    let trap = Trap::new(task, CpuId(cpu), TrapOrigin::Guest);
    kernel.trap(Jiffies(now), trap).action
}

/// The sleep's tick has come, and no signal.
fn slept(kernel: &mut Handler, now: u64, task: TaskId, cpu: u32) -> Option<Action> {
    kernel.sleep_over(Jiffies(now), task, CpuId(cpu), false)
}

fn signal(kernel: &mut Handler, now: u64, task: TaskId, cpu: u32) -> Option<Action> {
    kernel.signal(Jiffies(now), task, CpuId(cpu), Signal::Ordinary)
}

fn reenable(kernel: &mut Handler, now: u64, cpu: u32) -> Option<Reenabled> {
    kernel.reenable(Jiffies(now), CpuId(cpu))
}

/// Whom the window's end hands the semaphore to.
fn handed_to(kernel: &mut Handler, now: u64, cpu: u32) -> Option<TaskId> {
    reenable(kernel, now, cpu).expect("due").handed_to
}

fn open(cpu: u32, closes: u64) -> Action {
    Action::Retry(Retry::WindowOpen {
        cpu: CpuId(cpu),
        closes: Some(Jiffies(closes)),
    })
}

fn back(cause: Interrupted) -> Option<Action> {
    Some(Action::Retry(Retry::DetectionOn(cause)))
}

#[test]
fn an_undisturbed_trap_sleeps_then_opens_a_window_that_closes() {
    let mut kernel = kernel("6.1.192,hz=250", 1, 1);
    let task = kernel.spawn();
    let sleep = Action::Sleep {
        wake: Jiffies(105),
        wait: Wait::Interruptible,
    };
    let kernel = &mut kernel;
    assert_eq!(trap(kernel, 100, task, 0), sleep);
    assert_eq!(slept(kernel, 104, task, 0), None, "not yet");
    assert_eq!(slept(kernel, 105, task, 0), Some(open(0, 108)));
    assert!(!kernel.detects(task, CPU));
    assert_eq!(reenable(kernel, 107, 0), None, "timers never fire early");
    assert_eq!(handed_to(kernel, 108, 0), None);
    assert!(kernel.detects(task, CPU));
    assert_eq!(reenable(kernel, 109, 0), None, "only once");
}

#[test]
fn a_signal_in_the_last_tick_counts_as_a_completed_sleep() {
    for (now, passes) in [(101, false), (103, false), (104, true)] {
        let mut kernel = kernel("6.1.192,hz=250", 1, 1);
        let task = kernel.spawn();
        trap(&mut kernel, 100, task, 0);
        let action = signal(&mut kernel, now, task, 0);
        let expected = if passes {
            Some(open(0, now + 3))
        } else {
            back(Interrupted::Asleep)
        };
        assert_eq!(action, expected, "at {now}");
    }
}

#[test]
fn a_pending_signal_allows_no_sleep_at_all() {
    let mut kernel = kernel("6.12", 1, 1);
    let task = kernel.spawn();
    let pending = Trap {
        signal_pending: true,
        ..Trap::new(task, CPU, TrapOrigin::User)
    };
    let action = kernel.trap(Jiffies(5), pending).action;
    assert_eq!(Some(action), back(Interrupted::BeforeSleep));
    assert!(kernel.detects(task, CPU));
}

#[test]
fn the_semaphore_serves_in_order_and_a_hand_over_beats_a_signal() {
    let mut kernel = kernel("6.12,hz=250", 4, 1);
    let [a, b, c, d] = [0; 4].map(|_| kernel.spawn());
    for (task, cpu) in [(a, 0), (b, 1), (c, 2), (d, 3)] {
        trap(&mut kernel, 0, task, cpu);
    }
    let kernel = &mut kernel;
    let with_signal_pending =
        |kernel: &mut Handler, task, cpu| kernel.sleep_over(Jiffies(4), task, CpuId(cpu), true);
    // A free semaphore is taken without a look at signals.
    assert_eq!(with_signal_pending(kernel, a, 0), Some(open(0, 7)));
    let queue = Some(Action::Queue {
        wait: Wait::Interruptible,
    });
    assert_eq!(slept(kernel, 4, b, 1), queue);
    assert_eq!(slept(kernel, 4, c, 2), queue);
    // A taken one is not waited for with a signal pending.
    assert_eq!(with_signal_pending(kernel, d, 3), back(Interrupted::Queued));
    assert_eq!(kernel.waiters().collect::<Vec<_>>(), [b, c]);

    assert_eq!(handed_to(kernel, 7, 0), Some(b));
    assert_eq!(kernel.holder(), Some(b));
    // Both a signal and the hand-over reach b before it runs; it runs on another CPU now.
    assert_eq!(signal(kernel, 8, b, 3), Some(open(3, 11)));
    let again = kernel.granted(Jiffies(8), b, CpuId(3));
    assert_eq!(again, None, "once is enough");

    assert_eq!(signal(kernel, 8, c, 2), back(Interrupted::Queued));
    assert_eq!(handed_to(kernel, 11, 3), None);
    assert_eq!(kernel.holder(), None);
}

#[test]
fn a_thread_that_dies_with_the_semaphore_in_hand_passes_it_on() {
    let mut kernel = kernel("6.12,hz=250", 3, 1);
    let [a, b, c] = [0; 3].map(|_| kernel.spawn());
    for (task, cpu) in [(a, 0), (b, 1), (c, 2)] {
        trap(&mut kernel, 0, task, cpu);
        slept(&mut kernel, 4, task, cpu);
    }
    assert_eq!(handed_to(&mut kernel, 7, 0), Some(b));
    assert_eq!(kernel.exit(b), Some(c));
    let granted = kernel.granted(Jiffies(7), c, CpuId(2));
    assert_eq!(granted, Some(open(2, 10)));
    assert_eq!(kernel.exit(c), None, "its window still closes");
    assert!(reenable(&mut kernel, 10, 2).is_some());
    assert_eq!(kernel.holder(), None);
}

#[test]
fn detection_is_switched_per_core() {
    let mut kernel = kernel("6.12,hz=250", 4, 2);
    let task = kernel.spawn();
    trap(&mut kernel, 0, task, 1);
    slept(&mut kernel, 4, task, 1);
    let off: Vec<_> = (0..4)
        .map(|cpu| !kernel.detects(task, CpuId(cpu)))
        .collect();
    assert_eq!(off, [true, true, false, false]);
}

#[test]
fn without_mitigation_an_old_kernel_forgets_a_core() {
    let mut old = kernel("6.12,mitigate=0", 2, 1);
    let (a, b) = (old.spawn(), old.spawn());
    assert_eq!(trap(&mut old, 0, a, 0), open(0, 3));
    let forgotten = Action::Retry(Retry::WindowOpen {
        cpu: CpuId(1),
        closes: None,
    });
    assert_eq!(trap(&mut old, 0, b, 1), forgotten);
    assert!(reenable(&mut old, 3, 0).is_some());
    assert_eq!(reenable(&mut old, 100, 1), None);
    assert!(
        old.detects(a, CpuId(0)) && !old.detects(b, CpuId(1)),
        "off for good"
    );

    let mut repaired = kernel("6.15,mitigate=0", 2, 1);
    let (a, b) = (repaired.spawn(), repaired.spawn());
    assert_eq!(trap(&mut repaired, 0, a, 0), open(0, 3));
    assert_eq!(trap(&mut repaired, 0, b, 1), open(1, 3));
}

#[test]
fn work_that_runs_on_another_cpu_forgets_a_core_until_its_next_window() {
    let mut kernel = kernel("6.12.117,hz=250", 2, 1);
    let (here, there) = (CpuId(0), CpuId(1));
    let task = kernel.spawn();
    trap(&mut kernel, 0, task, 1);
    assert_eq!(slept(&mut kernel, 4, task, 1), Some(open(1, 7)));
    assert_eq!(kernel.reenable_elsewhere(Jiffies(6), there, here), None);
    let done = kernel.reenable_elsewhere(Jiffies(7), there, here);
    assert_eq!(done.map(|done| done.core), Some(CoreId(0)));
    assert!(kernel.is_off(there) && !kernel.is_off(here));
    assert_eq!(kernel.holder(), None, "the semaphore is free all the same");
    assert_eq!(kernel.pending_work().count(), 0, "nothing will come");

    // A trap cannot happen there, but a thread that slept meanwhile may have its window there.
    let other = kernel.spawn();
    trap(&mut kernel, 10, other, 0);
    assert_eq!(slept(&mut kernel, 14, other, 1), Some(open(1, 17)));
    assert!(reenable(&mut kernel, 17, 1).is_some());
    assert!(!kernel.is_off(there));
}

#[test]
fn each_era_warns_in_its_own_way() {
    let messages = |profile: &str| {
        let mut kernel = kernel(profile, 1, 1);
        let task = kernel.spawn();
        let trap = Trap::new(task, CPU, TrapOrigin::User);
        [0, 1].map(|_| kernel.trap(Jiffies(0), trap).message)
    };
    assert_eq!(messages("6.6"), [Some(Message::SplitLock), None]);
    assert_eq!(messages("5.15"), [Some(Message::SplitLock); 2]);

    let mut early = kernel("5.15", 1, 1);
    let task = early.spawn();
    let exempt = Action::Retry(Retry::ThreadExempt);
    assert_eq!(trap(&mut early, 0, task, 0), exempt);
    assert!(!early.detects(task, CPU));
    let other = early.spawn();
    assert!(early.detects(other, CPU));
}

#[test]
fn sigbus_and_alignment_checks() {
    let mut fatal = kernel("6.6,mode=fatal", 1, 1);
    let task = fatal.spawn();
    let guest = Trap::new(task, CPU, TrapOrigin::Guest);
    let sigbus = |message| Trapped {
        message: Some(message),
        action: Action::Sigbus,
    };
    assert_eq!(fatal.trap(Jiffies(0), guest), sigbus(Message::FatalGuest));
    assert_eq!(fatal.trap(Jiffies(0), guest).message, None, "once per boot");
    let user = Trap::new(task, CPU, TrapOrigin::User);
    assert_eq!(fatal.trap(Jiffies(0), user).message, None);

    let mut warn = kernel("6.6", 1, 1);
    let task = warn.spawn();
    let asked = |origin| Trap {
        alignment_check: true,
        ..Trap::new(task, CPU, origin)
    };
    let user = warn.trap(Jiffies(0), asked(TrapOrigin::User)).action;
    assert_eq!(user, Action::Sigbus);
    let guest = warn.trap(Jiffies(0), asked(TrapOrigin::Guest)).action;
    assert_eq!(guest, Action::InjectAlignmentCheck);

    let mut off = kernel("6.6,mode=off", 1, 1);
    let task = off.spawn();
    assert!(!off.detects(task, CPU));
    let bogus = off.trap(Jiffies(0), Trap::new(task, CPU, TrapOrigin::Guest));
    assert_eq!(bogus, sigbus(Message::BogusGuest));
}

#[test]
fn bus_locks_are_rationed_for_programs_and_not_for_guests() {
    let mut kernel = on(
        "6.6,hz=100,mode=ratelimit:2",
        1,
        1,
        Hardware::SAPPHIRE_RAPIDS,
    );
    let task = kernel.spawn();
    assert!(!kernel.detects(task, CPU) && kernel.bus_lock_traps(TrapOrigin::User));
    assert!(!kernel.bus_lock_traps(TrapOrigin::Guest));
    let done = Action::Retry(Retry::BusLockDone);
    assert_eq!(kernel.bus_lock(Jiffies(10), task).action, done);
    assert_eq!(kernel.bus_lock(Jiffies(11), task).action, done);
    // 20 ms are 2 ticks and the extra one; the wheel adds another.
    let mut wake = 15;
    let mut action = Some(kernel.bus_lock(Jiffies(11), task).action);
    while let Some(Action::Sleep { wake: until, wait }) = action {
        assert_eq!((until, wait), (Jiffies(wake), Wait::Uninterruptible));
        assert_eq!(
            kernel.signal(until, task, CPU, Signal::Fatal),
            None,
            "uninterruptible"
        );
        action = kernel.sleep_over(until, task, CPU, true);
        wake += 4;
    }
    assert_eq!(action, Some(done));
    assert_eq!(
        wake - 4,
        111,
        "the first look after a second is strictly over"
    );

    let silent = on("6.6,mode=ratelimit:2", 1, 1, Hardware::ICE_LAKE);
    assert!(
        !silent.bus_lock_traps(TrapOrigin::User),
        "silently off without the hardware"
    );
    assert!(!on("6.12", 1, 1, Hardware::ZEN_5).bus_lock_traps(TrapOrigin::User));
    assert!(on("6.13", 1, 1, Hardware::ZEN_5).bus_lock_traps(TrapOrigin::User));
    assert!(!on("6.13", 1, 1, Hardware::SAPPHIRE_RAPIDS).bus_lock_traps(TrapOrigin::User));
}
