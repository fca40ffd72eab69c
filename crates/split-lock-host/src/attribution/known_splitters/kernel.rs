//! Code of Linux itself that has split locks.

use serde::Serialize;

use crate::KernelSplitLock;

/// A function of the kernel in which a split lock has been reported, and why that was.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct KnownKernelSplitter {
    /// The function that died.
    pub function: &'static str,
    /// What is known of it, in a sentence.
    pub what: &'static str,
    /// What can be done about it, in a sentence.
    pub remedy: &'static str,
    /// Addresses of pages.
    pub sources: &'static [&'static str],
}

static KNOWN: [KnownKernelSplitter; 1] = [KnownKernelSplitter {
    function: "skb_clone",
    what: "In August 2026 many machines died here: an XDP program for several buffers on the loopback device (that of NetBird 0.77.1) \
           makes the kernel take network buffers from a page pool at odd addresses, and `lock incl` on their shared part splits.",
    remedy: "Take such a program away (NetBird: go back to 0.77.0, or to a later release without it), and a kernel that has the fix.",
    sources: &[
        "https://github.com/netbirdio/netbird/issues/7294",
        "https://github.com/netbirdio/netbird/issues/7331",
    ],
}];

impl KernelSplitLock {
    /// What is known of the function in which it was.
    #[must_use]
    pub fn known(&self) -> Option<&'static KnownKernelSplitter> {
        let function = self.place.as_deref()?.split('+').next()?;
        let is_kernels_own = self.module.is_none();
        KNOWN
            .iter()
            .find(|known| is_kernels_own && known.function == function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_known_by_its_whole_name_and_only_in_the_kernel_itself() {
        let of = |place: &str, module: Option<&str>| {
            let oops = KernelSplitLock {
                place: Some(place.to_owned()),
                module: module.map(str::to_owned),
                comm: None,
            };
            oops.known().is_some()
        };
        assert!(of("skb_clone+0x159/0x1e0", None));
        assert!(!of("skb_clone_sk+0x159/0x1e0", None));
        assert!(!of("skb_clone+0x159/0x1e0", Some("mydrv")));
    }
}
