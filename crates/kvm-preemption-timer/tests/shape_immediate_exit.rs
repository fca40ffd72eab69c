//! A VMM that tells its vCPUs what to do through a channel, sets `immediate_exit` through a mapping of
//! its own and sends a signal with an empty handler, and clears `immediate_exit` on the vCPU's thread
//! once it has seen it.

mod common;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

use common::foreign::{self, OwnRunPage, descriptor};
use common::{OUT_LOOP, SPIN, both_configs, one_vcpu};
use kvm_ioctls::{VcpuExit, VcpuFd};
use kvm_preemption_timer::{Config, Deadline, Interruption, RunEnd, Signal, VcpuBinding};
use nix::unistd::{Pid, gettid};

enum Event {
    Pause,
    Resume,
    Finish,
}

struct Counts {
    expired: u64,
    exits: u64,
}

/// How the others talk to a vCPU's thread.
struct VcpuHandle {
    events: Sender<Event>,
    responses: Receiver<()>,
    run_page: OwnRunPage,
    thread: Pid,
    signal: i32,
}

impl VcpuHandle {
    fn send(&self, event: Event) {
        self.events.send(event).unwrap();
        self.run_page.set_immediate_exit(1);
        foreign::send(self.thread, self.signal);
    }

    fn pause(&self) -> Result<(), RecvTimeoutError> {
        self.send(Event::Pause);
        self.responses.recv_timeout(Duration::from_secs(30))
    }
}

fn run_vcpu(
    vcpu: &mut VcpuFd,
    config: Config,
    events: &Receiver<Event>,
    responses: &Sender<()>,
) -> Counts {
    let mut binding = VcpuBinding::of_with_config(vcpu, config).unwrap();
    let mut counts = Counts {
        expired: 0,
        exits: 0,
    };
    let budget = Duration::from_millis(1);
    let mut deadline = Deadline::after(budget);
    loop {
        match binding.run_until(vcpu, deadline).unwrap() {
            RunEnd::Exit(VcpuExit::IoOut(..)) => {
                counts.exits += 1;
                continue;
            }
            RunEnd::Exit(exit) => panic!("{exit:?}"),
            RunEnd::Interrupted(Interruption::Expired(_)) => {
                counts.expired += 1;
                deadline = Deadline::after(budget);
            }
            RunEnd::Interrupted(_) => {}
        }
        // In this order: what is sent after the look sets it again.
        vcpu.set_kvm_immediate_exit(0);
        match events.try_recv() {
            Ok(Event::Pause) => {
                responses.send(()).unwrap();
                let resumed = events.recv().unwrap();
                assert!(matches!(resumed, Event::Resume));
            }
            Ok(Event::Finish) | Err(TryRecvError::Disconnected) => return counts,
            Ok(Event::Resume) => panic!("it was not paused"),
            Err(TryRecvError::Empty) => {}
        }
    }
}

#[test]
fn every_pause_is_noticed_and_every_deadline_holds() {
    for (config, offset) in both_configs().into_iter().zip(1..) {
        for code in [SPIN, OUT_LOOP] {
            let Some((_vm, mut vcpu)) = one_vcpu(code) else {
                return;
            };
            let signal = Signal::realtime(offset).unwrap().number();
            foreign::handle(signal);
            let run_page = OwnRunPage::map(descriptor(&vcpu));
            let (events, its_events) = mpsc::channel();
            let (its_responses, responses) = mpsc::channel();
            let (threads, thread) = mpsc::channel();
            let vcpu_thread = std::thread::spawn(move || {
                threads.send(gettid()).unwrap();
                run_vcpu(&mut vcpu, config, &its_events, &its_responses)
            });
            let handle = VcpuHandle {
                events,
                responses,
                run_page,
                thread: thread.recv().unwrap(),
                signal,
            };
            for pause in 0..100 {
                std::thread::sleep(Duration::from_micros(pause * 37));
                handle.pause().unwrap();
                handle.events.send(Event::Resume).unwrap();
            }
            handle.send(Event::Finish);
            let counts = vcpu_thread.join().unwrap();
            assert!(counts.expired > 20, "{} deadlines", counts.expired);
            assert_eq!(counts.exits > 0, code == OUT_LOOP);
        }
    }
}
