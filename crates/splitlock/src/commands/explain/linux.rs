//! What Linux does about a split lock.

use serde::{Serialize, Serializer};
use serde_json::json;
use split_lock_host::Facts;
use split_lock_model::analysis::Thresholds;
use split_lock_model::explain::kernel_in_words;
use split_lock_model::kernel::{Era, Mode, Profile};
use split_lock_model::machine::Hardware;
use split_lock_model::time::Nanos;

use crate::kernel_choice::of_this_host;

/// What becomes of a thread that splits a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Treatment {
    /// What this host's settings say; `None` if another kernel was asked for.
    pub(super) this_host: Option<String>,
    /// What is said below is what this kernel would do where the CPU detects split locks; here it
    /// does not.
    pub(super) supposed: bool,
    /// `None` if this host's kernel is none that the model knows.
    pub(super) kernel: Option<KernelTreatment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct KernelTreatment {
    pub(super) kernel: Profile,
    /// The rule, in a sentence.
    pub(super) rule: String,
    /// What that means for a program.
    pub(super) program: String,
    /// What that means for a guest of KVM.
    pub(super) guest: String,
    /// If it makes threads sleep.
    #[serde(serialize_with = "in_nanoseconds")]
    pub(super) limits: Option<Thresholds>,
}

/// The times of the sleep and of what follows.
fn in_nanoseconds<S: Serializer>(limits: &Option<Thresholds>, to: S) -> Result<S::Ok, S::Error> {
    let limits = limits.as_ref().map(|limits| {
        let (sleep_longer_than, sleep_at_most) = limits.sleep();
        let (window_longer_than, window_at_most) = limits.window();
        json!({
            "hz": limits.hz().get(),
            "sleep_ticks": limits.sleep_ticks().0,
            "sleep_longer_than": sleep_longer_than,
            "sleep_at_most": sleep_at_most,
            "window_longer_than": window_longer_than,
            "window_at_most": window_at_most,
            "never_up_to": limits.never_up_to(),
            "always_from": limits.always_from(),
        })
    });
    limits.serialize(to)
}

/// A CPU that notices all there is to notice.
const DETECTS: Hardware = Hardware::SAPPHIRE_RAPIDS;

/// The bus is locked, and nobody notices.
const NOTHING: &str = "nothing, but that the instruction is slow and holds up the whole machine.";

impl Treatment {
    /// By a kernel on a CPU that detects split locks.
    pub(super) fn by(kernel: &Profile) -> Self {
        Self {
            this_host: None,
            supposed: false,
            kernel: Some(KernelTreatment::of(kernel, DETECTS)),
        }
    }

    /// By this host. Where it detects none, what its kernel would do elsewhere is told.
    pub(super) fn on_this_host(facts: &Facts) -> Self {
        let detection = facts.detection();
        let of = |this_host: String, supposed, kernel| Self {
            this_host: Some(this_host),
            supposed,
            kernel,
        };
        let warn = match of_this_host(facts) {
            Ok(kernel) => kernel,
            Err(error) => return of(format!("{detection}; {error:#}"), false, None),
        };
        let hardware = facts.hardware();
        if let Some(kernel) = detection.as_booted(&warn) {
            let kernel = KernelTreatment::of(&kernel, hardware);
            return of(detection.to_string(), false, Some(kernel));
        }
        let reported = match warn.arms_bus_lock(hardware) {
            true => ". This CPU reports bus locks of programs after the fact (#DB)",
            false => "",
        };
        let kernel = KernelTreatment::of(&warn, DETECTS);
        of(format!("{detection}{reported}"), true, Some(kernel))
    }
}

impl KernelTreatment {
    fn of(kernel: &Profile, hardware: Hardware) -> Self {
        let (program, guest) = effects(kernel, hardware);
        Self {
            kernel: kernel.clone(),
            rule: kernel_in_words(kernel),
            program,
            guest,
            limits: Thresholds::of(kernel),
        }
    }
}

/// What a program notices, and what a guest of KVM.
fn effects(kernel: &Profile, hardware: Hardware) -> (String, String) {
    let strings = |program: &str, guest: &str| (program.to_owned(), guest.to_owned());
    if let Some(limits) = Thresholds::of(kernel) {
        return slowed(&limits);
    }
    match kernel.mode() {
        Mode::Ratelimit(n) if kernel.arms_bus_lock(hardware) => (
            format!(
                "after the instruction, sleeps of 20 ms while all programs together have more than \
                 {n} bus locks a second."
            ),
            NOTHING.to_owned(),
        ),
        Mode::Off | Mode::Ratelimit(_) => strings(NOTHING, NOTHING),
        Mode::Fatal => strings(
            "SIGBUS.",
            "KVM_RUN ends with KVM_EXIT_EXCEPTION, vector 17, and SIGBUS for the VMM.",
        ),
        Mode::Warn => {
            let then = match kernel.features().era {
                Era::Thread => ", and nothing from then on.",
                _ => "; no sleep.",
            };
            let program = format!("a line in the log for the first one of each thread{then}");
            strings(&program, "the same for the thread of the vCPU.")
        }
    }
}

/// What follows from the sleep for whoever is interrupted by a timer.
fn slowed(limits: &Thresholds) -> (String, String) {
    let (never, always) = (limits.never_up_to(), limits.always_from());
    let safe = format!("from {always} on it always gets past, if no other core splits locks");
    let (program, guest) = match never {
        Nanos::ZERO => (
            format!("signals less than {always} apart can keep it here for ever"),
            format!(
                "a VMM that ends every run of the vCPU in less than {always} can keep it here for ever"
            ),
        ),
        _ => (
            format!("with a signal every {never} or more often it never gets past"),
            format!("if the VMM ends every run of the vCPU within {never}, it never gets past"),
        ),
    };
    (format!("{program}; {safe}."), format!("{guest}; {safe}."))
}

#[cfg(test)]
mod tests {
    use split_lock_host::Root;

    use super::*;

    fn by(kernel: &str) -> KernelTreatment {
        Treatment::by(&kernel.parse().unwrap()).kernel.unwrap()
    }

    fn host(files: &[(&str, &str)]) -> Treatment {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            #[expect(clippy::disallowed_methods, reason = "a test's own file")]
            std::fs::write(path, text).unwrap();
        }
        Treatment::on_this_host(&Facts::read(&Root::open(root.path()).unwrap()))
    }

    fn on(flags: &str, command_line: &str, mitigate: &str) -> Treatment {
        host(&[
            (
                "proc/cpuinfo",
                &format!("vendor_id : GenuineIntel\nflags : {flags}\n"),
            ),
            ("proc/sys/kernel/osrelease", "6.13\n"),
            ("boot/config-6.13", "CONFIG_HZ=250\n"),
            ("proc/cmdline", command_line),
            ("proc/sys/kernel/split_lock_mitigate", mitigate),
        ])
    }

    #[test]
    fn a_kernel_that_makes_threads_sleep_has_limits() {
        let treated = by("6.6,hz=250");
        let limits = treated.limits.unwrap();
        assert_eq!((limits.hz().get(), limits.sleep_ticks().0), (250, 4));
        assert_eq!(limits.sleep().0, Nanos::from_millis(16));
        assert_eq!(limits.window().1, Nanos::from_millis(12));
        for words in [&treated.program, &treated.guest] {
            assert!(words.contains("12ms") && words.contains("16ms"), "{words}");
        }
        assert!(treated.guest.contains("VMM") && !treated.program.contains("VMM"));
        // There is no signal period that is never enough.
        let treated = by("6.12,hz=100");
        assert!(!treated.program.contains("never"), "{}", treated.program);
        assert!(treated.guest.contains("10ms"), "{}", treated.guest);
    }

    #[test]
    fn each_mode_treats_programs_and_guests_in_its_way() {
        for (kernel, program, guest) in [
            ("6.6,mode=fatal", "SIGBUS", "KVM_EXIT_EXCEPTION"),
            ("6.6,mode=off", "nothing", "nothing"),
            ("6.6,mode=ratelimit:7", "more than 7 bus locks", "nothing"),
            ("6.6,mitigate=0", "no sleep", "the same"),
            ("5.15", "nothing from then on", "the same"),
            ("5.4", "nothing", "nothing"),
        ] {
            let treated = by(kernel);
            assert!(
                treated.program.contains(program),
                "{kernel}: {}",
                treated.program
            );
            assert!(treated.guest.contains(guest), "{kernel}: {}", treated.guest);
            assert_eq!(treated.limits, None);
        }
    }

    #[test]
    fn this_host_is_told_as_it_is_booted() {
        let kernel = |treatment: Treatment| treatment.kernel.unwrap().kernel.to_string();
        let warn = on("split_lock_detect", "", "1");
        assert!(!warn.supposed);
        let warn = kernel(warn);
        let both = "split_lock_detect bus_lock_detect";
        for (command_line, mitigate, setting) in [
            ("", "0", "mitigate=0"),
            ("split_lock_detect=fatal", "1", "mode=fatal"),
            ("split_lock_detect=ratelimit:9", "1", "mode=ratelimit:9"),
        ] {
            let treatment = on(both, command_line, mitigate);
            assert!(!treatment.supposed);
            assert_eq!(kernel(treatment), format!("{warn},{setting}"));
        }
        let limited = on(both, "split_lock_detect=ratelimit:9", "1")
            .kernel
            .unwrap();
        assert!(limited.program.contains("9 bus locks"));
    }

    #[test]
    fn where_nothing_is_detected_that_is_said_first() {
        for (flags, command_line, said) in [
            ("fpu", "", "not supported by this CPU"),
            ("fpu hypervisor", "", "its host decides"),
            ("split_lock_detect", "split_lock_detect=off", "off"),
            ("bus_lock_detect", "", "reports bus locks"),
        ] {
            let treatment = on(flags, command_line, "1");
            let this_host = treatment.this_host.unwrap();
            assert!(this_host.contains(said), "{this_host}");
            assert!(treatment.supposed);
            assert!(treatment.kernel.unwrap().limits.is_some());
        }
    }

    #[test]
    fn a_host_whose_kernel_is_not_known_is_told_as_far_as_it_goes() {
        let treatment = host(&[("proc/sys/kernel/osrelease", "plan9")]);
        assert_eq!(treatment.kernel, None);
        assert!(treatment.this_host.unwrap().contains("plan9"));
    }
}
