//! Which program or virtual machine a thread belongs to.

use std::collections::HashMap;

use serde::Serialize;
use split_lock_host::Root;
use split_lock_host::attribution::{Owner, ProgramTimers, Vm};

use crate::livelock::ThreadState;
use crate::thread_table::ThreadId;

/// The names of a thread: its own, its process's, and its virtual machine's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ThreadIdentity {
    /// The thread's name; none if it was gone before anybody could ask.
    pub comm: Option<String>,
    /// The name of its process.
    pub process: Option<String>,
    /// The virtual machine that its process runs.
    pub vm: Option<Vm>,
    /// What can interrupt it, once it has been held up; of programs only.
    #[serde(flatten)]
    pub timers: Option<ProgramTimers>,
}

impl ThreadIdentity {
    fn read(root: &Root, thread: ThreadId) -> Self {
        match Owner::now(root, thread.tid) {
            Owner::Lives { comm, process } => Self {
                comm: Some(comm),
                process: Some(process.comm),
                vm: process.vm,
                timers: None,
            },
            _ => Self::default(),
        }
    }

    /// The thread's name, or that there is none any more.
    #[must_use]
    pub fn name(&self) -> &str {
        self.comm.as_deref().unwrap_or("(gone)")
    }

    /// The virtual machine, or else the program.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.vm {
            Some(vm) => {
                let name = vm.best_name();
                name.map_or(vm.vmm.to_string(), |name| format!("{name} ({})", vm.vmm))
            }
            None => self.process.clone().unwrap_or_default(),
        }
    }
}

/// The identities of threads, each read from procfs once: when it is first asked for.
#[derive(Debug)]
pub(crate) struct IdentityCache {
    root: Root,
    known: HashMap<ThreadId, ThreadIdentity>,
}

impl IdentityCache {
    pub(crate) fn new(root: Root) -> Self {
        Self {
            root,
            known: HashMap::new(),
        }
    }

    pub(crate) fn identify(&mut self, thread: ThreadId, state: ThreadState) -> &ThreadIdentity {
        let root = &self.root;
        let known = self.known.entry(thread);
        let identity = known.or_insert_with(|| ThreadIdentity::read(root, thread));
        if state >= ThreadState::HeldUp && identity.vm.is_none() {
            let timers = &mut identity.timers;
            timers.get_or_insert_with(|| ProgramTimers::of(root, thread.pid, &[thread.tid]));
        }
        identity
    }

    pub(crate) fn has_ended(&self, thread: ThreadId) -> bool {
        let ThreadId { pid, tid } = thread;
        let folder = format!("proc/{pid}/task/{tid}");
        self.root.has(folder).is_there() == Some(false)
    }

    pub(crate) fn remove(&mut self, thread: ThreadId) -> ThreadIdentity {
        self.known.remove(&thread).unwrap_or_default()
    }
}
