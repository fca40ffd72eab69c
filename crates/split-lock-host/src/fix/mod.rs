//! What can be done, with exact commands, and what it gives up.

use serde::Serialize;

use crate::{Condition, LogOnlyReason, OffReason};
use crate::{Fact, Facts, facts, mode};

mod boot_loader;

pub use boot_loader::BootLoader;

/// Something that can be done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// What it does, in a sentence without its full stop.
    pub what: String,
    /// The commands, or what to do where there is none.
    pub steps: Vec<Step>,
    /// What is lost by it, in a sentence without its full stop.
    pub gives_up: Option<String>,
    /// Whether it works only after a reboot.
    pub needs_reboot: bool,
    /// Where it has to be done.
    pub place: FixLocation,
}

/// Where something has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FixLocation {
    /// On the machine itself.
    Here,
    /// On the machine that runs the container from which this one was looked at.
    HostOfContainer,
    /// By whoever runs the host of the virtual machine.
    HostOfVirtualMachine,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// For how long that lasts.
    pub lasts: Persistence,
    /// What to type, or what to write where.
    pub command: String,
}

/// For how long a step lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Persistence {
    /// From now on until the next boot.
    UntilReboot,
    /// From the next boot on.
    FromNextBoot,
}

const SYSCTL_FILE: &str = "/etc/sysctl.d/60-split-lock.conf";

/// What can be done about a condition, the least first. Nothing that would have no effect there.
pub(crate) fn fixes(
    condition: Condition,
    facts: &Facts,
    boot_loader: Option<&BootLoader>,
) -> Vec<Fix> {
    let is_contained = facts.container.known().is_some();
    let is_nixos = facts.os.known().is_some_and(|os| os.is("nixos"));
    let builder = FixBuilder {
        facts,
        // The files of a container say nothing of its host's distribution and boot loader.
        boot_loader: boot_loader.filter(|_| !is_contained),
        is_nixos: is_nixos && !is_contained,
        place: match is_contained {
            true => FixLocation::HostOfContainer,
            false => FixLocation::Here,
        },
    };
    match condition {
        Condition::Livelock => builder.against_the_sleep(),
        Condition::Slowdown { .. } => builder.against_the_limit(),
        Condition::Fatal => vec![builder.against_sigbus()],
        Condition::LogOnly {
            because: LogOnlyReason::BusLocks,
        } => vec![builder.detection_off(
            "Only if the log is flooded: keeps the kernel from looking for bus locks",
            "the log lines that tell who locks the bus",
        )],
        Condition::Off {
            because: OffReason::RateLimitWithoutBusLocks,
        } => vec![builder.parameter_removed(
            "The limit does nothing on this CPU. Without it the kernel warns of split locks, and slows down \
             who splits them",
            "that nobody is slowed down",
        )],
        Condition::KernelSplitLock => builder.against_the_kernels_bug(),
        Condition::HostTraps => vec![builder.avoided()],
        Condition::HostDecides => vec![builder.asked()],
        Condition::LogOnly { .. }
        | Condition::Off { .. }
        | Condition::NotApplicable { .. }
        | Condition::NotCompiledIn
        | Condition::Unknown => vec![],
    }
}

impl Fix {
    fn giving_up(mut self, what: &str) -> Self {
        self.gives_up = Some(what.into());
        self
    }

    fn after_reboot(mut self) -> Self {
        self.needs_reboot = true;
        self
    }

    fn at(mut self, place: FixLocation) -> Self {
        self.place = place;
        self
    }
}

/// Hosts on which the doctor may not run, by a part of what they call themselves.
const OTHER_HOSTS: [(&str, &str); 7] = [
    ("microsoft", "Windows or Azure (Hyper-V)"),
    ("vmware", "VMware (ESXi, Workstation or Fusion)"),
    ("innotek", "VirtualBox"),
    ("virtualbox", "VirtualBox"),
    ("parallels", "Parallels"),
    ("amazon", "Amazon EC2"),
    ("google", "Google Cloud"),
];

struct FixBuilder<'a> {
    facts: &'a Facts,
    boot_loader: Option<&'a BootLoader>,
    is_nixos: bool,
    place: FixLocation,
}

impl FixBuilder<'_> {
    /// Without anything that is given up, and at once.
    fn fix(&self, what: &str, steps: Vec<Step>) -> Fix {
        Fix {
            what: what.into(),
            steps,
            gives_up: None,
            needs_reboot: false,
            place: self.place,
        }
    }

    fn against_the_sleep(&self) -> Vec<Fix> {
        let mut fixes = vec![self.restarted()];
        if self.has_sysctl() {
            if !self.facts.forgets_cpus() {
                fixes.push(self.relieved());
            }
            fixes.push(self.not_mitigated());
        }
        if self.facts.has_cpu_flag("bus_lock_detect") == Some(true) {
            fixes.push(self.rate_limit());
        }
        fixes.push(self.detection_off(
            "Switches detection off altogether",
            "the log lines that tell who splits locks, and all protection from them",
        ));
        let own_code = "If the VMM is your own, nothing has to be switched off: end its runs less often than the sleep \
            is long, or after so much CPU time of the thread (kvm-preemption-timer), or do the guest's split locks in \
            the CPU's place (split-lock-assist)";
        fixes.push(self.fix(own_code, vec![]).at(FixLocation::Here));
        if self.lacks_sysctl() {
            let newer_kernel = "A newer kernel (6.2 or later, or a 6.1 with updates) can be told to warn without the sleep";
            fixes.push(self.fix(newer_kernel, vec![]).after_reboot());
        }
        fixes
    }

    /// It is there, or it could not be seen and should be.
    fn has_sysctl(&self) -> bool {
        let is_there = self.facts.split_lock_mitigate.value.is_there();
        is_there.unwrap_or_else(|| self.release_has_sysctl() == Some(true))
    }

    /// Whether the kernel is too old for it, and it is not only that it could not be seen.
    fn lacks_sysctl(&self) -> bool {
        let is_seen = self.facts.split_lock_mitigate.known().is_some();
        !is_seen && self.release_has_sysctl() == Some(false)
    }

    fn release_has_sysctl(&self) -> Option<bool> {
        let (release, suffix) = facts::release(self.facts)?;
        Some(release.lookup(suffix).features.sysctl)
    }

    /// What needs no privilege, and gives nothing up, is first: docs/survive.md has the same order.
    fn restarted(&self) -> Fix {
        let what = "Gets the guests of a VMM that can be restarted past their split locks, without privilege";
        self.fix(what, now("splitlock run -- qemu-system-x86_64 ..."))
    }

    fn relieved(&self) -> Fix {
        let what = "Gets programs and virtual machines out of a livelock, within a budget, and lets everybody else be punished \
            as before";
        let steps = now("sudo splitlock watch --relieve");
        self.fix(what, steps)
            .giving_up("up to 20 ms of each second in which nobody is punished; and who is merely slowed down stays slow")
    }

    fn not_mitigated(&self) -> Fix {
        let persistent = if self.is_nixos {
            r#"in configuration.nix: boot.kernel.sysctl."kernel.split_lock_mitigate" = 0;"#.into()
        } else {
            format!("echo 'kernel.split_lock_mitigate = 0' | sudo tee {SYSCTL_FILE}")
        };
        let mut steps = now("sudo sysctl kernel.split_lock_mitigate=0");
        steps.extend(from_next_boot(vec![persistent]));
        self.fix("Takes the sleep away, and keeps the log lines", steps)
            .giving_up(
                "whoever splits locks is no longer slowed down, and can slow down everybody else on this machine",
            )
    }

    fn rate_limit(&self) -> Fix {
        let what = "Limits bus locks per second: programs that lock the bus share a limit, and nobody is held up for ever";
        self.fix(what, self.parameter("split_lock_detect=ratelimit:100"))
            .giving_up(
                "virtual machines are then neither trapped nor throttled by this host: their VMM has to do \
                 that (KVM_CAP_X86_BUS_LOCK_EXIT; QEMU: -machine bus-lock-ratelimit=N)",
            )
            .after_reboot()
    }

    fn detection_off(&self, what: &str, gives_up: &str) -> Fix {
        self.fix(what, self.parameter("split_lock_detect=off"))
            .giving_up(gives_up)
            .after_reboot()
    }

    fn against_the_limit(&self) -> Vec<Fix> {
        let modes = self.facts.kvm.bus_lock_exit.known();
        let for_machines = modes.is_some_and(|&modes| modes > 0).then(|| {
            self.fix(
                "The limit does not hold for virtual machines. Their VMM can be told to hold them to one",
                now("for each of QEMU's: -machine bus-lock-ratelimit=100"),
            )
        });
        let protection = "all protection from programs that lock the bus";
        let without = self.detection_off("Takes the limit away", protection);
        for_machines.into_iter().chain([without]).collect()
    }

    fn against_sigbus(&self) -> Fix {
        let what = match self.facts.has_cpu_flag("split_lock_detect") {
            Some(false) => {
                "Goes back to the default, which warns: programs are then named in the log and not killed"
            }
            _ => {
                "Goes back to the default, which warns: programs and guests are then slowed down and not killed \
                 (see what this says after that)"
            }
        };
        self.parameter_removed(what, "that split locks are found at once")
    }

    fn parameter_removed(&self, what: &str, gives_up: &str) -> Fix {
        self.fix(what, self.without_parameter())
            .giving_up(gives_up)
            .after_reboot()
    }

    fn against_the_kernels_bug(&self) -> Vec<Fix> {
        let other_code = "Take another version of the code that is named above, or of whatever calls it (a driver, a security or \
            VPN client that loads programs into the network path), and report the oops to whoever maintains it";
        vec![
            self.fix(other_code, now("sudo dmesg | splitlock explain -   # which instruction, and where its operand was")),
            self.detection_off(
                "Until then, lets the instruction run",
                "the only sign of what may be damaged memory: the misaligned address is still used",
            ),
        ]
    }

    fn avoided(&self) -> Fix {
        let what = "Find the program that the log names, and run another build of it (32-bit builds split more often \
            than 64-bit ones); whoever runs the host can switch detection off there";
        self.fix(what, vec![]).at(FixLocation::Here)
    }

    fn asked(&self) -> Fix {
        let inside = "In here only this helps: another build of the program that splits locks (`splitlock find` names the \
            instructions), or another size or kind of virtual machine";
        let names = |fact: &Fact<String>, part: &str| {
            fact.known()
                .is_some_and(|name| name.to_lowercase().contains(part))
        };
        let host = if names(&self.facts.kernel_release, "microsoft") {
            Some("Windows (this is WSL2)")
        } else {
            OTHER_HOSTS
                .iter()
                .find(|(part, _)| names(&self.facts.hypervisor, part))
                .map(|(_, host)| *host)
        };
        let Some(host) = host else {
            let what = "Nothing in here helps: have whoever can do so run this";
            let fix = self.fix(what, now("splitlock doctor"));
            return fix.at(FixLocation::HostOfVirtualMachine);
        };
        let what = format!(
            "{inside}. The host is {host}: `splitlock doctor` runs there only if it is Linux; whoever runs it can be told \
             that a guest's split locks (locked accesses across a cache line) may be trapped and throttled by the host"
        );
        self.fix(&what, vec![]).at(FixLocation::Here)
    }

    fn parameter(&self, parameter: &str) -> Vec<Step> {
        let steps = match self.boot_loader {
            Some(boot_loader) => boot_loader.with(parameter, self.old_parameter()),
            None => vec![format!(
                "put {parameter} on the kernel's command line, in your boot loader's configuration"
            )],
        };
        from_next_boot(steps)
    }

    fn without_parameter(&self) -> Vec<Step> {
        let old = self.old_parameter().unwrap_or("split_lock_detect=…");
        let steps = match (self.boot_loader, self.old_parameter()) {
            (Some(boot_loader), Some(old)) => boot_loader.without(old),
            _ => vec![format!(
                "take {old} off the kernel's command line, in your boot loader's configuration"
            )],
        };
        from_next_boot(steps)
    }

    /// What is on the command line now. Whoever captured the machine wrote that, and it is about to be part of a
    /// command: nothing in it may mean something to a shell.
    fn old_parameter(&self) -> Option<&str> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_=:".contains(c);
        mode::parameter(self.facts.command_line.known()?)
            .filter(|parameter| parameter.chars().all(is_plain))
    }
}

fn now(command: &str) -> Vec<Step> {
    steps(vec![command.into()], Persistence::UntilReboot)
}

fn from_next_boot(commands: Vec<String>) -> Vec<Step> {
    steps(commands, Persistence::FromNextBoot)
}

fn steps(commands: Vec<String>, lasts: Persistence) -> Vec<Step> {
    let step = |command| Step { lasts, command };
    commands.into_iter().map(step).collect()
}

#[cfg(test)]
mod tests;
