//! Guests in which more than one thing goes on, played as a VMM plays them.

mod two_tasks;

pub use two_tasks::{Moment, SceneError, Task, TaskState, TwoTasks};
