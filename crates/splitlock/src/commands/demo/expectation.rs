//! What is to be expected on this host, said before it happens.

use std::time::Duration;

use split_lock_host::Detection;
use split_lock_model::analysis::Thresholds;
use split_lock_model::kernel::Profile;
use split_lock_model::time::Nanos;

use crate::args::demo::LinuxArgs;

/// Why nothing will hang here, or what else should be known; `None` where the host does what the demonstration
/// is about.
pub(super) fn note(
    args: &LinuxArgs,
    detection: &Detection,
    kernel: Option<&Profile>,
) -> Option<String> {
    let done_at_once =
        |why: &str| format!("{why}, so nothing will hang here: the guest will be done at once");
    Some(match detection {
        Detection::NotSupported {
            virtual_machine: false,
        } => done_at_once("this CPU does not detect split locks"),
        Detection::NotSupported {
            virtual_machine: true,
        } => "this machine is itself a virtual one: whether its split locks are punished is up to its host, \
              and if they are not, nothing will hang here"
            .into(),
        Detection::Off { parameter } => {
            done_at_once(&format!("split-lock detection is switched off here ({parameter})"))
        }
        Detection::On { mitigate, .. } if mitigate.as_deref() == Some("0") => {
            done_at_once("this kernel punishes nobody (kernel.split_lock_mitigate is 0)")
        }
        Detection::On { mode, .. } if mode == "fatal" => {
            "this host is booted with split_lock_detect=fatal: its kernel ends this program with SIGBUS at \
             the guest's first split lock"
                .into()
        }
        Detection::Unknown => {
            "whether this CPU detects split locks could not be seen; if it does not, nothing will hang here"
                .into()
        }
        Detection::On { .. } => return of_kernel(args.quantum, kernel?),
        _ => return None,
    })
}

/// What a kernel that detects split locks does, by the model, to a vCPU that is called out so often.
fn of_kernel(quantum: Duration, kernel: &Profile) -> Option<String> {
    let Some(limits) = Thresholds::of(kernel) else {
        return Some(
            "this host's kernel makes nobody sleep for a split lock: nothing will hang here".into(),
        );
    };
    let Nanos(never_up_to) = limits.never_up_to();
    let never_up_to = Duration::from_nanos(never_up_to);
    (quantum > never_up_to).then(|| {
        format!(
            "runs of {quantum:?} may be long enough for this kernel's punishment, which only those up to \
             {never_up_to:?} never are: the guest may get on, slowly"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_expect_follows_from_the_kernel_and_the_quantum() {
        let note = |kernel: &str, ms| {
            let kernel: Profile = kernel.parse().unwrap();
            of_kernel(Duration::from_millis(ms), &kernel)
        };
        assert_eq!(note("6.12.117,hz=250", 1), None);
        assert_eq!(note("6.12.117,hz=250", 8), None);
        let long = note("6.12.117,hz=250", 50).unwrap();
        assert!(long.contains("50ms") && long.contains("8ms"), "{long}");
        assert!(
            note("5.15,hz=250", 1)
                .unwrap()
                .contains("nothing will hang")
        );
    }
}
