//! The kernel's split-lock handler as a state machine without I/O.
//!
//! The handler owns no clock, thread or timer. Whoever drives it says what happened and at which
//! tick; the handler answers with what the kernel would make the thread do next:
//!
//! | it happened | tell the handler | the thread then |
//! |---|---|---|
//! | a split lock while [`Handler::detects`] says yes | [`Handler::trap`] | does the [`Action`] |
//! | a signal for a thread that sleeps or queues | [`Handler::signal`] | does the [`Action`], if any |
//! | the tick that ends a sleep | [`Handler::sleep_over`] | does the [`Action`] |
//! | the tick at which a window's work is due | [`Handler::reenable`] | (any thread it names: [`Handler::granted`]) |
//! | a split lock finished while [`Handler::bus_lock_traps`] says yes | [`Handler::bus_lock`] | does the [`Action`] |
//! | the thread ended | [`Handler::exit`] | |
//!
//! Three drivers use it: the simulator on a virtual clock, an emulated host on the real clock (the
//! handler behind a mutex, real threads that really sleep), and comparisons against real kernels.
//! Late or contradictory events, which a real clock brings (a signal that races with the tick), are
//! answered with `None` and change nothing.
//!
//! Steps are those of the kernel since 5.19 (b041b525dab9) unless said otherwise; [`Rules`] holds
//! the choices where an alternative kernel could differ, and [`Rules::UPSTREAM`] is the real one.

mod action;
mod bus_lock;
mod detection;
mod rules;
mod semaphore;
mod state;
mod task;
mod wait;

pub use action::{Action, Interrupted, Message, Retry, Trap, TrapOrigin, Trapped};
pub use detection::ReenableWork;
pub use rules::{OnSignal, Rules};
pub use state::{Handler, Reenabled};
pub use task::TaskId;
pub use wait::{Signal, Wait};
