//! A plugin for QEMU's emulators (TCG) that records which instructions split locks: `splitlock find` does it.
//!
//! When the emulator translates a block, each instruction that locks its operand gets a callback for its store. The
//! callback compares the operand's place with the cache line, which for most is all; a split lock is counted in a file
//! that is mapped shared ([`split_lock_find::records`]), so that nothing is lost at a crash or a kill, and forks count
//! together. Memory is bounded: the file by its tables, the translated instructions by the emulator's own cache
//! ([`candidates`]).
//!
//! A program that executes another is followed here: the emulator shows us every system call before it makes it, and in
//! the place of execve(2) we execute the emulator with that program ([`follow`]). Where that is not possible the call
//! goes its way, and the record says so.
//!
//! | module | what it is |
//! |---|---|
//! | [`instruction`] | whether an instruction locks, calls or returns |
//! | [`candidates`] | the locked instructions that were translated |
//! | [`callers`] | calls that have not returned |
//! | [`crossing`] | what is done about a split lock |
//! | [`place`], [`layout`] | what code and operand are part of |
//! | [`follow`] | programs that the program executes |
//! | [`guest`] | which program of a guest it is |
//! | [`plugin`] | all of it together |
//! | [`sys`] | QEMU's interface, and system calls |
//!
//! # Versions
//! Interface versions 1 (QEMU 7.2) to 7 (11.1). What is used has changed twice: since version 3 an instruction's bytes are
//! copied, since version 7 callbacks get data in the place of the plugin's number. A guest's registers, and with them its
//! address spaces, are shown since version 2, and its memory since version 4. Functions are looked up when the plugin
//! is loaded, so what an emulator lacks is named.
#![expect(
    rustdoc::private_intra_doc_links,
    reason = "the library has no interface but QEMU's"
)]

mod callers;
mod candidates;
mod crossing;
mod follow;
mod guest;
mod instruction;
mod layout;
mod place;
mod plugin;
mod sys;
