//! Timer and guard under the filter that the guide lists, and nothing else.
//!
//! The filter kills the process that does anything else, so that is one of its own.
#![expect(
    unsafe_code,
    reason = "a filter is installed by two calls that no library here has"
)]

#[path = "kvm/vm.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod vm;

use std::process::{Command, ExitCode};
use std::time::Duration;

use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use kvm_preemption_timer::{Deadline, Outcome, PreemptibleVcpu};
use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter, sock_fprog};
use split_lock_assist::guard::{Config, Ended, Reaction, Run, VcpuGuard};
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu};
use split_lock_assist::pause::PauseGate;
use vm::{SPLIT, TestVm, kvm};

const GUIDE: &str = include_str!("../../../docs/integration.md");
const ROLE: &str = "SPLITLOCK_TEST_FILTERED";

/// `0: lock inc qword ptr [rsi]; jmp 0`
const SPLIT_LOOP: &[u8] = &[0xf0, 0x48, 0xff, 0x06, 0xeb, 0xfa];

fn main() -> ExitCode {
    let Some(kvm) = kvm() else {
        return ExitCode::SUCCESS;
    };
    if std::env::var_os(ROLE).is_some() {
        be_filtered(&kvm);
    }
    let itself = || Command::new(std::env::current_exe().expect("this program has a file"));
    let status = itself().env(ROLE, "1").status().expect("it runs once more");
    assert!(
        status.success(),
        "the filter of the guide is not enough: {status}"
    );
    // Shows that the filter is one.
    let status = itself().env(ROLE, "forbidden").status();
    let status = status.expect("it runs once more");
    assert!(
        !status.success(),
        "what the guide does not list is let through"
    );
    println!("test the_filter_of_the_guide_is_enough ... ok");
    ExitCode::SUCCESS
}

/// What the guide lists, in the cells of its table.
fn listed() -> Vec<&'static str> {
    let table = GUIDE
        .lines()
        .skip_while(|line| !line.contains("a seccomp filter lets through"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    names.collect()
}

enum Allowed {
    Call(i64),
    /// With this second argument.
    With(i64, u32),
}

fn allowed(name: &str) -> Allowed {
    let ioctl = |request| Allowed::With(libc::SYS_ioctl, request);
    match name {
        "rt_sigaction" => Allowed::Call(libc::SYS_rt_sigaction),
        "rt_sigpending" => Allowed::Call(libc::SYS_rt_sigpending),
        "rt_sigprocmask" => Allowed::Call(libc::SYS_rt_sigprocmask),
        "rt_sigtimedwait" => Allowed::Call(libc::SYS_rt_sigtimedwait),
        "rt_sigreturn" => Allowed::Call(libc::SYS_rt_sigreturn),
        "gettid" => Allowed::Call(libc::SYS_gettid),
        "getpid" => Allowed::Call(libc::SYS_getpid),
        "tgkill" => Allowed::Call(libc::SYS_tgkill),
        "timer_create" => Allowed::Call(libc::SYS_timer_create),
        "timer_settime" => Allowed::Call(libc::SYS_timer_settime),
        "timer_delete" => Allowed::Call(libc::SYS_timer_delete),
        "clock_gettime" => Allowed::Call(libc::SYS_clock_gettime),
        "fcntl(F_DUPFD_CLOEXEC)" => {
            Allowed::With(libc::SYS_fcntl, libc::F_DUPFD_CLOEXEC.cast_unsigned())
        }
        "fcntl(F_GETFD)" => Allowed::With(libc::SYS_fcntl, libc::F_GETFD.cast_unsigned()),
        "close" => Allowed::Call(libc::SYS_close),
        "mmap" => Allowed::Call(libc::SYS_mmap),
        "munmap" => Allowed::Call(libc::SYS_munmap),
        "getrusage" => Allowed::Call(libc::SYS_getrusage),
        "futex" => Allowed::Call(libc::SYS_futex),
        "clock_nanosleep" => Allowed::Call(libc::SYS_clock_nanosleep),
        "sched_yield" => Allowed::Call(libc::SYS_sched_yield),
        "brk" => Allowed::Call(libc::SYS_brk),
        "KVM_RUN" => ioctl(0xae80),
        "KVM_SET_SIGNAL_MASK" => ioctl(0x4004_ae8b),
        "KVM_GET_REGS" => ioctl(0x8090_ae81),
        "KVM_SET_REGS" => ioctl(0x4090_ae82),
        "KVM_GET_SREGS" => ioctl(0x8138_ae83),
        "KVM_TRANSLATE" => ioctl(0xc018_ae85),
        "KVM_GET_MP_STATE" => ioctl(0x8004_ae98),
        "KVM_SET_GUEST_DEBUG" => ioctl(0x4048_ae9b),
        "KVM_GET_VCPU_EVENTS" => ioctl(0x8040_ae9f),
        "KVM_SET_VCPU_EVENTS" => ioctl(0x4040_aea0),
        "KVM_GET_DEBUGREGS" => ioctl(0x8080_aea1),
        "KVM_SET_DEBUGREGS" => ioctl(0x4080_aea2),
        "KVM_GET_NESTED_STATE" => ioctl(0xc080_aebe),
        other => panic!("the guide lists {other}, of which this test does not know the number"),
    }
}

/// The program ends with the first instruction that says what to do.
fn program() -> Vec<sock_filter> {
    const NUMBER: u32 = 0;
    const SECOND_ARGUMENT: u32 = 24;
    let load = |offset| statement(BPF_LD | BPF_W | BPF_ABS, offset);
    let answer = |answer| statement(BPF_RET | BPF_K, answer);
    let unless_equal = |value: u32, skip| sock_filter {
        jf: skip,
        ..statement(BPF_JMP | BPF_JEQ | BPF_K, value)
    };
    // The process says by its exit code how it went.
    let mut program = vec![
        load(NUMBER),
        unless_equal(libc::SYS_exit_group as u32, 1),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    // Without optimization the standard library looks whether a descriptor is open before it closes it.
    let in_debug_builds = cfg!(debug_assertions).then_some("fcntl(F_GETFD)");
    for name in listed().into_iter().chain(in_debug_builds) {
        match allowed(name) {
            Allowed::Call(number) => program.extend([
                unless_equal(number as u32, 1),
                answer(libc::SECCOMP_RET_ALLOW),
            ]),
            Allowed::With(number, argument) => program.extend([
                unless_equal(number as u32, 4),
                load(SECOND_ARGUMENT),
                unless_equal(argument, 1),
                answer(libc::SECCOMP_RET_ALLOW),
                load(NUMBER),
            ]),
        }
    }
    program.push(answer(libc::SECCOMP_RET_KILL_PROCESS));
    program
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

fn install_filter() {
    let mut filter = program();
    let program = sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: a call with numbers.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0);
    // SAFETY: the program and its instructions live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    assert_eq!(result, 0);
}

/// Everything that a vCPU's thread does: binding, runs, kicks, a stall, breakpoints, letting go.
fn be_filtered(kvm: &Kvm) -> ! {
    let forbidden = std::env::var_os(ROLE).is_some_and(|role| role == "forbidden");
    let support = BreakpointSupport::probe(kvm).expect("breakpoints can be tried");
    let cpl = if support.at(3).is_some() { 3 } else { 0 };
    let vm = TestVm::new(kvm, SPLIT_LOOP);
    let vcpu = vm.vcpu(0, cpl, 0);
    install_filter();
    if forbidden {
        // SAFETY: it would say whether a file exists.
        unsafe { libc::access(c"/".as_ptr(), libc::F_OK) };
    }
    let works = emulates(&vm, vcpu, support).is_some_and(|emulated| emulated > 1);
    // SAFETY: at once: what a Rust program does at its end is not what the filter is for.
    unsafe { libc::_exit(i32::from(!works)) }
}

fn emulates(vm: &TestVm, vcpu: VcpuFd, support: BreakpointSupport) -> Option<u64> {
    let gate = PauseGate::new();
    let mut kvm = KvmVcpu::new(&vcpu, support).ok()?;
    let mut vcpu = PreemptibleVcpu::new(vcpu).ok()?;
    let kicker = vcpu.kicker();
    kicker.kick().ok()?;
    let mut pass = gate.pass(move || kicker.kick());
    let mut guard = VcpuGuard::new(Config::new(Reaction::Emulate));
    guard.feign_stall();
    let wall = Duration::from_millis(5);
    for _ in 0..20 {
        let deadline = Deadline::after(guard.budget(wall));
        loop {
            let outcome = {
                let _inside = pass.enter();
                vcpu.run_until(deadline).ok()?
            };
            match outcome {
                Outcome::Exit(VcpuExit::Debug(exit)) => {
                    let mut parts = kvm.stopped(GuestRam::new(&vm.memory), &pass);
                    guard.handle_breakpoint(exit, &mut parts).ok()?;
                }
                Outcome::Kicked => {}
                Outcome::Expired(_) => break,
                Outcome::Exit(_) => return None,
            }
        }
        let cpu = Duration::ZERO;
        let ended = Ended::Expired;
        let mut parts = kvm.stopped(GuestRam::new(&vm.memory), &pass);
        guard
            .after_run(&Run { wall, cpu, ended }, &mut parts)
            .ok()?;
    }
    let mut parts = kvm.stopped(GuestRam::new(&vm.memory), &pass);
    guard.clear_breakpoints(&mut parts).ok()?;
    let statistics = guard.statistics();
    let emulated = statistics.emulated_at_stalls + statistics.emulated_at_breakpoints;
    (vm.word(SPLIT) >= emulated).then_some(emulated)
}
