//! What is to be expected on this host, said before it happens.

use split_lock_host::Detection;

use crate::args_demo::LinuxArgs;

/// Why nothing will hang here, or what else should be known; `None` where the host does what the demonstration
/// is about.
pub(super) fn note(args: &LinuxArgs, detection: &Detection) -> Option<String> {
    if let Some([a, b, c]) = args.stand_in {
        return Some(format!(
            "the bytes {a:02x} {b:02x} {c:02x} before the guest's locked instruction stand for a split lock that \
             is detected; only the lab's kernel module knows them"
        ));
    }
    let why = match detection {
        Detection::NotSupported {
            virtual_machine: false,
        } => "this CPU does not detect split locks".to_owned(),
        Detection::NotSupported {
            virtual_machine: true,
        } => {
            return Some(
                "this machine is itself a virtual one: whether its split locks are punished is up to its host, \
                 and if they are not, nothing will hang here"
                    .into(),
            );
        }
        Detection::Off { parameter } => {
            format!("split-lock detection is switched off here ({parameter})")
        }
        Detection::On { mitigate, .. } if mitigate.as_deref() == Some("0") => {
            "this kernel punishes nobody (kernel.split_lock_mitigate is 0)".into()
        }
        Detection::On { mode, .. } if mode == "fatal" => {
            return Some(
                "this host is booted with split_lock_detect=fatal: its kernel ends this program with SIGBUS at \
                 the guest's first split lock"
                    .into(),
            );
        }
        Detection::Unknown => {
            "whether this CPU detects split locks could not be seen; if it does not".into()
        }
        _ => return None,
    };
    Some(format!(
        "{why}, so nothing will hang here: the guest will be done at once"
    ))
}
