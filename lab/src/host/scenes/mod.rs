//! What is tried on the machine: each is one command of `cargo lab`, and says what has to come of it.

pub(crate) mod check;
pub(crate) mod cost;
pub(crate) mod demo;
pub(crate) mod faults;
pub(crate) mod find;
pub(crate) mod oops;
pub(crate) mod patch;
pub(crate) mod policies;
pub(crate) mod programs;
pub(crate) mod relieve;
pub(crate) mod selftest;
pub(crate) mod survive;
pub(crate) mod tools;
pub(crate) mod watch;
pub(crate) mod windows;
