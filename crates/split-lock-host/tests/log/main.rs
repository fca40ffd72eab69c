//! The parser of kernel logs, from the outside.

use split_lock_host::log::{Message, Record, Records};

#[path = "../common/anything.rs"]
mod anything;
mod corpus;
mod damage;
mod hostile;
mod properties;
mod sources;
mod written;

/// All records of a log that can be read.
fn records(log: &[u8]) -> Vec<Record> {
    Records::new(log).collect::<Result<_, _>>().unwrap()
}

fn messages(log: &[u8]) -> Vec<Message> {
    records(log)
        .into_iter()
        .map(|record| record.message)
        .collect()
}
