//! The parser of kernel logs, from the outside.

use split_lock_log::{Exception, Message, Record, Records, Scanner};

mod anything;
mod archives;
mod corpus;
mod damage;
mod encoded;
mod hostile;
mod journal;
mod properties;
mod sources;
mod written;

/// All records of a log that can be read. A log that ends in the middle of a line may have been cut off there, and is
/// what other tests are about.
fn records(log: &[u8]) -> Vec<Record> {
    Records::new(&*with_end(log))
        .collect::<Result<_, _>>()
        .unwrap()
}

fn with_end(log: &[u8]) -> Vec<u8> {
    match log.last() {
        None | Some(b'\n') => log.to_vec(),
        Some(_) => [log, b"\n"].concat(),
    }
}

fn messages(log: &[u8]) -> Vec<Message> {
    records(log)
        .into_iter()
        .map(|record| record.message)
        .collect()
}

fn in_words(message: &Message) -> String {
    match message {
        Message::Trap(trap) => {
            let kind = trap.kind.name().replace('_', " ");
            let comm = trap.comm.escape_ascii();
            format!("{kind} at {:#x} by {} {comm}", trap.address, trap.tid)
        }
        Message::Boot(boot) => format!("boot: {boot:?}"),
        Message::Suppressed(suppressed) => {
            let what = match suppressed.exception {
                Exception::AlignmentCheck => "split locks",
                Exception::Debug => "bus locks",
            };
            format!("suppressed: {} {what}", suppressed.count)
        }
        Message::RefusedWrite(refused) => {
            format!("refused: {:#x} by {:#x}", refused.value, refused.rip)
        }
        Message::Started { release } => format!("started: {}", release.escape_ascii()),
        Message::KernelSplitLock(oops) => {
            let comm = oops.comm.as_deref().unwrap_or_default().escape_ascii();
            let place = oops
                .rip
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            format!("kernel split lock in {place} by {comm}")
        }
        Message::AlignmentSignal(signal) => {
            format!(
                "SIGBUS at {:#x} of {} {}",
                signal.ip,
                signal.tid,
                signal.comm.escape_ascii()
            )
        }
        Message::Damaged { damage, .. } => format!("damaged: {damage:?}"),
    }
}

/// The same log in chunks of these sizes, over and over.
fn in_chunks(log: &[u8], sizes: &[usize]) -> Vec<Record> {
    let mut scanner = Scanner::new();
    let log = with_end(log);
    let mut rest = &log[..];
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        scanner.feed(chunk);
        rest = after;
    }
    scanner.finish();
    std::iter::from_fn(|| scanner.take()).collect()
}
