//! What goes on at a guest's console, and what to do next: without a clock, without a guest.

use std::time::Duration;

use super::complaint::Complaint;
use super::program::{BEGIN_MARK, END_MARK, UP_MARK};

/// A root shell's, whatever it calls itself.
const PROMPT_END: &str = "# ";

/// After this time without an answer it is asked again. A prompt may have been torn apart by a line of the kernel's,
/// or have been none.
const ANSWER: Duration = Duration::from_secs(10);

/// What brings a shell to show its prompt once more.
const ENTER: &str = "\n";

/// A line is looked at up to here.
const LONGEST_LINE: usize = 4096;

/// More are counted, and not kept.
const COMPLAINTS_KEPT: usize = 100;

/// How long the guest is looked at after its program is done, unless its shell asks for more before that.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct SessionTimeouts {
    /// From the start to the prompt.
    pub boot: Duration,
    /// From the first split lock on.
    pub split: Duration,
}

/// A session at the guest's console: waits for the prompt, starts the program, and reads its output.
#[derive(Debug)]
pub struct Session {
    timeouts: SessionTimeouts,
    stage: Stage,
    line: String,
    has_output: bool,
    split_locks_done: u32,
    complaints: Vec<LoggedComplaint>,
    more_complaints: u64,
    ending: Option<Ending>,
    /// Since when an answer is due: a prompt, or the program's first words.
    due_since: Option<Duration>,
}

/// A complaint, and when it was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedComplaint {
    /// What kind.
    pub complaint: Complaint,
    /// When, since the start.
    pub at: Duration,
    /// The line itself.
    pub line: String,
}

/// How far the guest has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No prompt yet.
    Booting,
    /// The program's name has been typed.
    Asked,
    /// It has begun, at this time since the start.
    Splitting {
        /// When.
        since: Duration,
    },
    /// It is done.
    Done {
        /// When it began.
        since: Duration,
        /// When it was done.
        at: Duration,
    },
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleAction {
    /// Let the guest run.
    Wait,
    /// Type this.
    Type(&'static str),
    /// It is over.
    End(Ending),
}

/// How it came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The program is done, and its CPU is everybody's again.
    Done,
    /// The time for the split locks is over, and the program is not done.
    TimeIsOver,
    /// No byte came.
    NoOutput,
    /// No prompt came.
    NoPrompt,
    /// The program's name was typed, and it did not begin.
    NotStarted,
    /// The guest's kernel has given up.
    Panicked,
    /// The guest has switched itself off.
    PoweredOff,
    /// The guest restarts.
    Restarted,
}

impl Session {
    /// Before the guest's first instruction.
    #[must_use]
    pub fn new(timeouts: SessionTimeouts) -> Self {
        Self {
            timeouts,
            stage: Stage::Booting,
            line: String::new(),
            has_output: false,
            split_locks_done: 0,
            complaints: vec![],
            more_complaints: 0,
            ending: None,
            due_since: None,
        }
    }

    /// How far the guest has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// How many split locks the program has said that it has done.
    #[must_use]
    pub fn split_locks_done(&self) -> u32 {
        self.split_locks_done
    }

    /// What the guest's kernel has complained about since the split locks began.
    #[must_use]
    pub fn complaints(&self) -> &[LoggedComplaint] {
        &self.complaints
    }

    /// How many complaints came after those that were kept.
    #[must_use]
    pub fn more_complaints(&self) -> u64 {
        self.more_complaints
    }

    /// The guest says something, at this time since the start.
    pub fn add_output(&mut self, text: &str, at: Duration) {
        self.has_output |= !text.is_empty();
        for c in text.chars() {
            if c == '\n' {
                let line = std::mem::take(&mut self.line);
                self.add_line(&line, at);
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(c);
            }
        }
    }

    /// The guest has had a triple fault: what it means depends on what it has said before.
    #[must_use]
    pub fn ending_after_reset(&self) -> Ending {
        self.ending.unwrap_or(Ending::Restarted)
    }

    /// What is to be done now, at this time since the start.
    pub fn next(&mut self, now: Duration) -> ConsoleAction {
        if let Some(ending) = self.ending {
            return ConsoleAction::End(ending);
        }
        let is_over = |since: Duration, timeout: Duration| now.saturating_sub(since) >= timeout;
        match self.stage {
            Stage::Booting if self.is_at_prompt() => {
                self.stage = Stage::Asked;
                self.line.clear();
                self.due_since = Some(now);
                ConsoleAction::Type(COMMAND)
            }
            Stage::Booting | Stage::Asked if is_over(Duration::ZERO, self.timeouts.boot) => {
                ConsoleAction::End(match (self.stage, self.has_output) {
                    (_, false) => Ending::NoOutput,
                    (Stage::Asked, true) => Ending::NotStarted,
                    (_, true) => Ending::NoPrompt,
                })
            }
            Stage::Booting | Stage::Asked
                if self.due_since.is_some_and(|since| is_over(since, ANSWER)) =>
            {
                self.due_since = Some(now);
                ConsoleAction::Type(if self.stage == Stage::Asked {
                    COMMAND
                } else {
                    ENTER
                })
            }
            Stage::Splitting { since } if is_over(since, self.timeouts.split) => {
                ConsoleAction::End(Ending::TimeIsOver)
            }
            Stage::Done { at, .. } if self.is_at_prompt() || is_over(at, AFTERWARDS) => {
                ConsoleAction::End(Ending::Done)
            }
            _ => ConsoleAction::Wait,
        }
    }

    fn is_at_prompt(&self) -> bool {
        self.line.ends_with(PROMPT_END)
    }

    fn add_line(&mut self, line: &str, at: Duration) {
        match self.stage {
            Stage::Booting | Stage::Asked if line.contains(BEGIN_MARK) => {
                self.stage = Stage::Splitting { since: at };
            }
            Stage::Booting if line.contains(UP_MARK) => self.due_since = Some(at),
            Stage::Splitting { since } if line.contains(END_MARK) => {
                self.stage = Stage::Done { since, at };
            }
            Stage::Splitting { .. } => {
                let done = count_in(line).unwrap_or(0);
                self.split_locks_done = self.split_locks_done.max(done);
            }
            _ => {}
        }
        let complaint = Complaint::in_line(line);
        let ending = if complaint == Some(Complaint::Panic) {
            Some(Ending::Panicked)
        } else if ["reboot: Power down", "reboot: System halted"]
            .iter()
            .any(|it| line.contains(it))
        {
            Some(Ending::PoweredOff)
        } else if line.contains("reboot: Restarting system") {
            Some(Ending::Restarted)
        } else {
            None
        };
        self.ending = self.ending.or(ending);
        if let Some(complaint) = complaint {
            self.keep(complaint, line, at);
        }
    }

    fn keep(&mut self, complaint: Complaint, line: &str, at: Duration) {
        if matches!(self.stage, Stage::Booting | Stage::Asked) && complaint != Complaint::Panic {
            return;
        }
        if self.complaints.len() == COMPLAINTS_KEPT {
            self.more_complaints += 1;
            return;
        }
        self.complaints.push(LoggedComplaint {
            complaint,
            at,
            line: line.to_owned(),
        });
    }
}

/// In `splitlock: 100 done`, 100.
fn count_in(line: &str) -> Option<u32> {
    let (_, count) = line.split_once("splitlock: ")?;
    count.strip_suffix(" done")?.parse().ok()
}

/// What is typed: the program's name, and the key that ends a line.
const COMMAND: &str = "/splitlock/split\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::PROGRAM;

    const TIMEOUTS: SessionTimeouts = SessionTimeouts {
        boot: Duration::from_secs(60),
        split: Duration::from_secs(10),
    };

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn asked() -> Session {
        let mut session = Session::new(TIMEOUTS);
        session.add_output("[    0.1] Linux version\n\nguest# ", s(5));
        assert_eq!(session.next(s(5)), ConsoleAction::Type(COMMAND));
        session.add_output("/splitlock/split\n", s(5));
        session
    }

    fn splitting() -> Session {
        let mut session = asked();
        session.add_output(BEGIN_MARK, s(6));
        session.add_output("\n", s(7));
        assert_eq!(session.stage(), Stage::Splitting { since: s(7) });
        session
    }

    #[test]
    fn the_command_is_the_program() {
        assert_eq!(COMMAND.trim_end(), PROGRAM);
    }

    #[test]
    fn nothing_is_typed_before_the_prompt() {
        let mut session = Session::new(TIMEOUTS);
        session.add_output("[    0.1] # of CPUs: 1\n", s(1));
        assert_eq!(session.next(s(1)), ConsoleAction::Wait);
        session.add_output("guest# ", s(2));
        assert_eq!(session.next(s(2)), ConsoleAction::Type(COMMAND));
        assert_eq!(session.next(s(2)), ConsoleAction::Wait);
    }

    #[test]
    fn who_does_not_answer_is_asked_again() {
        let mut session = Session::new(TIMEOUTS);
        session.add_output(
            &format!("splitlock: {UP_MARK}\nguest# [    5.0] random\n"),
            s(5),
        );
        assert_eq!(session.next(s(14)), ConsoleAction::Wait);
        assert_eq!(session.next(s(15)), ConsoleAction::Type(ENTER));
        assert_eq!(session.next(s(16)), ConsoleAction::Wait);
        session.add_output("guest# ", s(16));
        assert_eq!(session.next(s(16)), ConsoleAction::Type(COMMAND));
        assert_eq!(session.next(s(25)), ConsoleAction::Wait);
        assert_eq!(session.next(s(26)), ConsoleAction::Type(COMMAND));
        session.add_output(&format!("{BEGIN_MARK}\n"), s(27));
        assert_eq!(session.next(s(36)), ConsoleAction::Wait);
    }

    #[test]
    fn a_guest_that_gets_through_is_looked_at_until_its_next_prompt() {
        let mut session = splitting();
        session.add_output("splitlock: 1 done\nsplitlock: 200 done\n", s(7));
        assert_eq!(session.split_locks_done(), 200);
        session.add_output(&format!("{END_MARK}, and so on\n"), s(8));
        let done = Stage::Done {
            since: s(7),
            at: s(8),
        };
        assert_eq!(session.stage(), done);
        assert_eq!(session.next(s(8)), ConsoleAction::Wait);
        session.add_output("guest# ", s(9));
        assert_eq!(session.next(s(9)), ConsoleAction::End(Ending::Done));
    }

    #[test]
    fn a_guest_that_hangs_is_listened_to_until_the_time_is_over() {
        let mut session = splitting();
        let stall = "[ 10.2] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:";
        session.add_output(&format!("{stall}\n"), s(10));
        assert_eq!(session.next(s(16)), ConsoleAction::Wait);
        assert_eq!(session.next(s(17)), ConsoleAction::End(Ending::TimeIsOver));
        let [logged] = session.complaints() else {
            panic!("{:?}", session.complaints())
        };
        assert_eq!(logged.complaint, Complaint::RcuStall);
        assert_eq!((logged.at, &logged.line[..]), (s(10), stall));
    }

    #[test]
    fn what_was_wrong_before_the_split_locks_is_not_their_fault() {
        let mut session = Session::new(TIMEOUTS);
        session.add_output(
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n",
            s(3),
        );
        assert_eq!(session.complaints(), []);
    }

    #[test]
    fn a_guest_may_stay_silent_or_go_away() {
        let over = |said: &str| {
            let mut session = Session::new(TIMEOUTS);
            session.add_output(said, s(1));
            match session.next(s(60)) {
                ConsoleAction::Type(_) => session.next(s(60)),
                next => next,
            }
        };
        assert_eq!(over(""), ConsoleAction::End(Ending::NoOutput));
        assert_eq!(over("[ 0.0] Linux\n"), ConsoleAction::End(Ending::NoPrompt));
        assert_eq!(over("guest# "), ConsoleAction::End(Ending::NotStarted));
        assert_eq!(
            over("reboot: Power down\n"),
            ConsoleAction::End(Ending::PoweredOff)
        );
        assert_eq!(
            over("reboot: Restarting system\n"),
            ConsoleAction::End(Ending::Restarted)
        );
        let panic = "Kernel panic - not syncing: No working init found.\n";
        assert_eq!(over(panic), ConsoleAction::End(Ending::Panicked));
    }

    #[test]
    fn a_triple_fault_means_what_the_guest_has_said_before() {
        let mut session = Session::new(TIMEOUTS);
        assert_eq!(session.ending_after_reset(), Ending::Restarted);
        session.add_output(
            "Kernel panic - not syncing: x\nreboot: Restarting system\n",
            s(1),
        );
        assert_eq!(session.ending_after_reset(), Ending::Panicked);
    }

    #[test]
    fn endless_lines_and_complaints_do_not_fill_the_memory() {
        let mut session = splitting();
        session.add_output(&"x".repeat(3 * LONGEST_LINE), s(8));
        assert!(session.line.len() <= LONGEST_LINE);
        session.add_output("\n", s(8));
        for _ in 0..COMPLAINTS_KEPT + 5 {
            session.add_output("BUG: soft lockup\n", s(8));
        }
        assert_eq!(session.complaints().len(), COMPLAINTS_KEPT);
        assert_eq!(session.more_complaints(), 5);
    }
}
