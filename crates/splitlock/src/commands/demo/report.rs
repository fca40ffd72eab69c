//! What came of it.

use std::time::Duration;

use split_lock_assist::guard::{Reaction, Statistics};
use split_lock_report::text::count;
use split_lock_repro::linux::{Ending, LinuxVm, LongestStall, SPLIT_LOCKS, Session, Stage};

use crate::args::demo::LinuxArgs;
use crate::page::{Page, Severity};

/// A guest that stands at one instruction for so long hangs, even if its kernel has not noticed.
const HANGS_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Report<'a> {
    pub(super) guest: &'a LinuxVm,
    pub(super) session: &'a Session,
    pub(super) ending: Ending,
    /// How long it was to be listened to after its first split lock began.
    pub(super) duration: Duration,
}

impl Report<'_> {
    pub(super) fn split_locks_done(&self) -> u32 {
        match self.session.stage() {
            Stage::Done { .. } => SPLIT_LOCKS,
            _ => self.session.split_locks_done(),
        }
    }

    /// Whether the guest has stopped to get on, by its own account or by ours, or has not lived through it.
    pub(super) fn hung(&self) -> bool {
        !self.session.complaints().is_empty() || self.stands_still() || self.is_gone()
    }

    /// It was at one instruction for long and did not get through, or it has not done a single split lock in all the
    /// time that it had.
    fn stands_still(&self) -> bool {
        let stood = self
            .guest
            .counts()
            .longest_stall
            .as_ref()
            .map(|stall| stall.time);
        let time = match (self.session.stage(), self.ending) {
            (Stage::Done { .. }, _) => None,
            (_, Ending::TimeIsOver) if self.split_locks_done() == 0 => Some(self.duration),
            _ => stood,
        };
        time.is_some_and(|time| time >= HANGS_AFTER)
    }

    fn is_gone(&self) -> bool {
        let is_over = matches!(
            self.ending,
            Ending::Panicked | Ending::PoweredOff | Ending::Restarted
        );
        is_over && !matches!(self.session.stage(), Stage::Done { .. })
    }

    /// Since the start.
    pub(super) fn began(&self) -> Option<Duration> {
        match self.session.stage() {
            Stage::Splitting { since } | Stage::Done { since, .. } => Some(since),
            Stage::Booting | Stage::Asked => None,
        }
    }

    /// A title, and what there is to know in a few lines.
    pub(super) fn page(&self, args: &LinuxArgs) -> Page {
        let mut page = Page::for_terminal();
        let (title, severity) = self.title();
        page.title(&title, severity);
        page.paragraph(&self.where_it_stood());
        self.what_the_guest_said(&mut page);
        page.heading("What its vCPU did");
        let runs = |number| count(number, "run", "runs");
        let exits = count(self.guest.counts().exits, "exit", "exits");
        let without = runs(self.guest.counts().runs_without_progress);
        let did = format!(
            "{} and {exits}; {without} without progress",
            runs(self.guest.counts().runs)
        );
        page.item("-", &did);
        if let Some(statistics) = self.guest.statistics() {
            page.heading("What the guard did");
            page.item("-", &guard_in_words(args.guard, statistics));
        }
        page
    }

    fn title(&self) -> (String, Severity) {
        let (done, duration) = (self.split_locks_done(), self.duration);
        let bad = |title: String| (title, Severity::Bad);
        match (self.session.stage(), self.ending) {
            (Stage::Done { since, at }, _) => {
                let severity = match self.hung() {
                    true => Severity::Unsure,
                    false => Severity::Good,
                };
                let took = ms(at - since);
                let title =
                    format!("The guest got through all {SPLIT_LOCKS} split locks, in {took}.");
                (title, severity)
            }
            (_, Ending::Panicked) => {
                bad("The guest's kernel panicked after the split locks began.".into())
            }
            (_, Ending::PoweredOff) => bad(format!(
                "The guest has switched itself off: {done} of {SPLIT_LOCKS} split locks done."
            )),
            (_, Ending::Restarted) => bad(format!(
                "The guest has restarted: {done} of {SPLIT_LOCKS} split locks done."
            )),
            _ if self.stands_still() || (self.hung() && done == 0) => {
                let done = count(done.into(), "split lock", "split locks");
                bad(format!("The guest hangs: {done} done after {duration:?}."))
            }
            _ => {
                let complains = match self.hung() {
                    true => ", so that its kernel complains",
                    false => "",
                };
                let title = format!(
                    "The guest is slow{complains}: {done} of {SPLIT_LOCKS} split locks after {duration:?}."
                );
                (title, Severity::Unsure)
            }
        }
    }

    fn where_it_stood(&self) -> String {
        match &self.guest.counts().longest_stall {
            Some(LongestStall { instruction, time }) => {
                let time = ms(*time);
                format!("For {time} its vCPU stood at {instruction}.")
            }
            None => "Its vCPU was never seen at one split lock for 20 ms or more.".into(),
        }
    }

    fn why_no_complaint(&self) -> &'static str {
        if self.is_gone() {
            "nothing"
        } else if self.stands_still() {
            "no complaints in the guest's log, although it hangs: its kernel complains only of a grace period of RCU that \
             does not end, and not before 3 s"
        } else {
            "no complaints in the guest's log"
        }
    }

    fn what_the_guest_said(&self, page: &mut Page) {
        page.heading("What its kernel said");
        if self.session.complaints().is_empty() {
            page.item("-", self.why_no_complaint());
        }
        for heard in self.session.complaints() {
            let since = heard.at.saturating_sub(self.began().unwrap_or_default());
            let text = format!("{} after {}: {}", heard.complaint, ms(since), heard.line);
            page.item("-", &text);
        }
        if self.session.more_complaints() > 0 {
            page.item("-", &format!("and {} more", self.session.more_complaints()));
        }
    }
}

fn guard_in_words(reaction: Reaction, statistics: &Statistics) -> String {
    format!(
        "{reaction}: found it held up {}, emulated {} there and {} before they could trap, and granted {}",
        count(statistics.stalls, "time", "times"),
        count(statistics.emulated_at_stalls, "instruction", "instructions"),
        statistics.emulated_at_breakpoints,
        count(statistics.graces, "long run", "long runs"),
    )
}

fn ms(time: Duration) -> String {
    match time < Duration::from_secs(1) {
        true => format!("{} ms", time.as_millis()),
        false => format!("{:.1} s", time.as_secs_f64()),
    }
}
