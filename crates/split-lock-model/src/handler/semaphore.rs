//! `buslock_sem`: a semaphore of one, first come first served.

use std::collections::VecDeque;

use super::task::TaskId;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Semaphore {
    holder: Option<TaskId>,
    /// Present waiters, smallest place first.
    queue: VecDeque<(u64, TaskId)>,
    next_ticket: u64,
}

impl Semaphore {
    pub(super) fn holder(&self) -> Option<TaskId> {
        self.holder
    }

    pub(super) fn waiters(&self) -> impl ExactSizeIterator<Item = TaskId> {
        self.queue.iter().map(|&(_, task)| task)
    }

    /// Takes the semaphore if it is free. The kernel does not look at signals here.
    pub(super) fn try_take(&mut self, task: TaskId) -> bool {
        if self.holder.is_some() {
            return false;
        }
        self.holder = Some(task);
        true
    }

    /// Lines up: behind everyone, or behind those whose place is not greater.
    pub(super) fn enqueue(&mut self, task: TaskId, place: Option<u64>) {
        let place = place.unwrap_or_else(|| {
            self.next_ticket += 1;
            self.next_ticket - 1
        });
        let at = self.queue.partition_point(|&(other, _)| other <= place);
        self.queue.insert(at, (place, task));
    }

    pub(super) fn is_first(&self, task: TaskId) -> bool {
        self.queue.front().is_some_and(|&(_, first)| first == task)
    }

    pub(super) fn leave(&mut self, task: TaskId) {
        self.queue.retain(|&(_, waiter)| waiter != task);
    }

    /// Hands the semaphore to the first waiter, who holds it from now on, running or not.
    pub(super) fn release(&mut self) -> Option<TaskId> {
        self.holder = self.queue.pop_front().map(|(_, task)| task);
        self.holder
    }
}
