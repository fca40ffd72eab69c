//! Who the threads are, and whether they still are.

use std::collections::HashMap;

use serde::Serialize;
use split_lock_host::Root;
use split_lock_host::who::{Owner, Vm};
use split_lock_watch::Key;

use crate::machine;

/// What people know a thread by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Person {
    /// The thread's name; none if it was gone before anybody could ask.
    pub(super) comm: Option<String>,
    /// The name of its process.
    pub(super) process: Option<String>,
    /// The virtual machine that its process runs.
    pub(super) vm: Option<Vm>,
}

/// The threads that were met so far.
#[derive(Debug)]
pub(super) struct People {
    root: Root,
    known: HashMap<Key, Person>,
}

impl People {
    pub(super) fn new(root: Root) -> Self {
        Self {
            root,
            known: HashMap::new(),
        }
    }

    /// Asks who a thread is, the first time that it is met.
    pub(super) fn meet(&mut self, thread: Key) -> &Person {
        let root = &self.root;
        self.known
            .entry(thread)
            .or_insert_with(|| look_up(root, thread))
    }

    /// Whether a thread has ended, as far as can be seen.
    pub(super) fn has_ended(&self, thread: Key) -> bool {
        let Key { pid, tid } = thread;
        let folder = format!("proc/{pid}/task/{tid}");
        self.root.has(folder).is_there() == Some(false)
    }

    pub(super) fn forget(&mut self, thread: Key) -> Person {
        self.known.remove(&thread).unwrap_or_default()
    }
}

fn look_up(root: &Root, thread: Key) -> Person {
    match Owner::now(root, thread.tid) {
        Owner::Lives { comm, process } => Person {
            comm: Some(comm),
            process: Some(process.comm),
            vm: process.vm,
        },
        _ => Person::default(),
    }
}

impl Person {
    /// The thread's name.
    pub(super) fn name(&self) -> &str {
        self.comm.as_deref().unwrap_or("(gone)")
    }

    /// The virtual machine, or else the program.
    pub(super) fn place(&self) -> String {
        match &self.vm {
            Some(vm) => {
                let vmm = machine::vmm(vm.vmm);
                machine::name(vm).map_or(vmm.to_owned(), |name| format!("{name} ({vmm})"))
            }
            None => self.process.clone().unwrap_or_default(),
        }
    }
}
