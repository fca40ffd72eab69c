//! A stretch of a simulated machine's time, line by line; and as text.

use split_lock_model::kernel::Profile;
use split_lock_model::machine::CoreId;
use split_lock_model::sim::{Scenario, ScenarioError, SpanKind, Timeline, Track, Until, simulate};
use split_lock_model::time::Nanos;

/// More lines of threads than this are not read by anybody.
const MOST_THREADS: usize = 8;

/// More than a picture can show, and small enough to be kept.
const MOST_SPANS: usize = 200_000;

/// What came just before is seen too.
const BEFORE: Nanos = Nanos::from_millis(2);

/// Part of a timeline.
#[derive(Debug, Clone)]
pub struct View {
    timeline: Timeline,
    /// Where it begins.
    pub from: Nanos,
    /// How much time it shows.
    pub length: Nanos,
    pub(crate) rows: Vec<TimelineRow>,
    hidden: usize,
}

/// One line of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimelineRow {
    /// When this thread's timer interrupted it.
    Kicks(u32),
    Thread(u32),
    /// Whether this core detects split locks.
    Core(CoreId),
    Semaphore,
}

/// Something on a row, in time since the view's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimelineSpan {
    pub(crate) kind: SpanKind,
    pub(crate) start: Nanos,
    pub(crate) end: Nanos,
}

impl View {
    /// Simulates until the end of the stretch, whatever becomes of the threads before.
    ///
    /// # Errors
    /// [`ScenarioError`], as from any simulation.
    pub fn of(
        kernel: &Profile,
        scenario: &Scenario,
        from: Nanos,
        length: Nanos,
    ) -> Result<Self, ScenarioError> {
        let traced = Scenario {
            horizon: from.plus(length),
            until: Until::Horizon,
            trace_spans: MOST_SPANS,
            ..scenario.clone()
        };
        let report = simulate(kernel, &traced)?;
        Ok(View {
            timeline: report.timeline.expect("a trace was asked for"),
            from,
            length,
            rows: rows(scenario),
            hidden: scenario.tasks.len().saturating_sub(MOST_THREADS),
        })
    }

    /// What is missing from it, if anything.
    pub(crate) fn missing(&self) -> Option<String> {
        match (self.hidden, self.timeline.truncated) {
            (0, false) => None,
            (0, true) => Some("More happened than can be shown: the end is missing.".into()),
            (1, _) => Some("One more thread is not shown.".into()),
            (more, _) => Some(format!("{more} more threads are not shown.")),
        }
    }

    /// How a reader knows the row.
    pub(crate) fn name(&self, row: TimelineRow) -> String {
        match row {
            TimelineRow::Kicks(task) => format!("{}'s timer", self.task(task)),
            TimelineRow::Thread(task) => self.task(task).into(),
            TimelineRow::Core(core) => format!("core {} detects", core.0),
            TimelineRow::Semaphore => "semaphore".into(),
        }
    }

    pub(crate) fn task(&self, task: u32) -> &str {
        &self.timeline.tasks[task as usize]
    }

    /// What happens on a row, in order. Of kicks, the moment is the start.
    pub(crate) fn spans(&self, row: TimelineRow) -> Vec<TimelineSpan> {
        let track = match row {
            TimelineRow::Kicks(task) => return self.kicks(task),
            TimelineRow::Thread(task) => Track::Task(task),
            TimelineRow::Core(core) => Track::Core(core),
            TimelineRow::Semaphore => Track::Semaphore,
        };
        let spans = self.timeline.spans.iter();
        let mut spans: Vec<_> = spans
            .filter(|span| span.track == track && span.end > self.from)
            .map(|span| TimelineSpan {
                kind: span.kind,
                start: span.start.since(self.from),
                end: span.end.since(self.from).min(self.length),
            })
            .filter(|span| span.start < span.end)
            .collect();
        spans.sort_unstable_by_key(|span| span.start);
        spans
    }

    /// A timer is seen by what its signal brings about: the thread wakes up, if it has to, and
    /// leaves its program.
    fn kicks(&self, task: u32) -> Vec<TimelineSpan> {
        let spans = self.spans(TimelineRow::Thread(task));
        let left =
            |span: &TimelineSpan| matches!(span.kind, SpanKind::Vmm | SpanKind::SignalHandler);
        let mut kicks = vec![];
        for (index, span) in spans.iter().enumerate().filter(|(_, span)| left(span)) {
            let before = index.checked_sub(1).map(|before| spans[before]);
            let waking = before.filter(|b| b.kind == SpanKind::Waking && b.end == span.start);
            kicks.push(TimelineSpan {
                start: waking.map_or(span.start, |waking| waking.start),
                ..*span
            });
        }
        kicks
    }

    /// The kernel's ticks.
    pub(crate) fn ticks(&self) -> impl Iterator<Item = Nanos> {
        let seen = self
            .timeline
            .ticks
            .iter()
            .filter(|&&tick| tick >= self.from);
        seen.map(|tick| tick.since(self.from))
            .filter(|&tick| tick <= self.length)
    }
}

/// Where a timeline is worth looking at: just before the first thread begins.
pub fn beginning(scenario: &Scenario) -> Nanos {
    let first = scenario.tasks.first();
    first.map_or(Nanos::ZERO, |task| task.start.since(BEFORE))
}

fn rows(scenario: &Scenario) -> Vec<TimelineRow> {
    let shown = || (0..).zip(&scenario.tasks).take(MOST_THREADS);
    let threads = shown().flat_map(|(index, task)| {
        let kicks = task
            .kind
            .period()
            .is_some()
            .then_some(TimelineRow::Kicks(index));
        kicks.into_iter().chain([TimelineRow::Thread(index)])
    });
    let migrates = shown().any(|(_, task)| task.migrate_every.is_some());
    let all = (0..scenario.topology.cores()).map(CoreId);
    let mut cores: Vec<_> = if migrates {
        all.take(MOST_THREADS).collect()
    } else {
        let started = shown().map(|(_, task)| scenario.topology.core_of(task.cpu));
        started.collect()
    };
    cores.sort_unstable();
    cores.dedup();
    threads
        .chain(cores.into_iter().map(TimelineRow::Core))
        .chain([TimelineRow::Semaphore])
        .collect()
}

/// Draws the view with characters, in lines no wider than `width`.
pub fn text(view: &View, width: usize) -> String {
    let names: Vec<String> = view.rows.iter().map(|&row| view.name(row)).collect();
    let gutter = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        + 1;
    let columns = width.saturating_sub(gutter).max(10);
    let mut text = format!("{:gutter$}{}\n", "ms", axis(view, columns));
    let mut seen = vec![];
    for (&row, name) in view.rows.iter().zip(&names) {
        let cells: String = cells(view, row, columns).into_iter().collect();
        seen.extend(cells.chars());
        text.push_str(format!("{name:gutter$}{cells}").trim_end());
        text.push('\n');
    }
    let key = KEY.iter().filter(|(symbol, _)| seen.contains(symbol));
    for (symbol, meaning) in key {
        text.push_str(&format!("  {symbol}  {meaning}\n"));
    }
    text.extend(view.missing().map(|missing| format!("{missing}\n")));
    text
}

/// What each symbol stands for. The most of a column decides, so what is short may not be seen.
const KEY: [(char, &str); 14] = [
    ('|', "a signal interrupts"),
    ('#', "runs, and split locks complete"),
    ('=', "runs, detection on"),
    ('i', "its guest serves interrupts"),
    ('z', "asleep for splitting a lock"),
    ('q', "waits for the semaphore"),
    ('k', "in the kernel, about a trap"),
    ('v', "VMM between two runs, or signal handler"),
    ('w', "waits for its CPU"),
    ('+', "detection is on"),
    ('-', "detection is off"),
    (
        'u',
        "detection is off, and the thread does not come to its split lock",
    ),
    ('.', "nobody holds the semaphore"),
    ('H', "somebody holds the semaphore"),
];

/// Labels at round times, each above the column that begins then.
fn axis(view: &View, columns: usize) -> String {
    const ROOM: u64 = 7;
    let column_ns = view.length.0.div_ceil(columns as u64);
    let step = STEPS_MS
        .map(|ms| ms * 1_000_000)
        .into_iter()
        .find(|step| *step >= ROOM * column_ns)
        .unwrap_or(view.length.0);
    let mut line = String::new();
    for time in (0..view.length.0).step_by(step as usize) {
        let column = column_of(Nanos(time), view.length, columns);
        let label = view.from.plus(Nanos(time)).as_millis_f64();
        line = format!("{line:column$}{label}");
    }
    line
}

const STEPS_MS: [u64; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 500];

fn column_of(time: Nanos, length: Nanos, columns: usize) -> usize {
    let column = u128::from(time.0) * columns as u128 / u128::from(length.0);
    (column as usize).min(columns - 1)
}

fn cells(view: &View, row: TimelineRow, columns: usize) -> Vec<char> {
    let column_of = |time| column_of(time, view.length, columns);
    let background = match row {
        TimelineRow::Kicks(_) | TimelineRow::Thread(_) => ' ',
        TimelineRow::Core(_) => '+',
        TimelineRow::Semaphore => '.',
    };
    let mut cells = vec![(background, 0); columns];
    let width = view.length.0 / columns as u64;
    for span in view.spans(row) {
        if let TimelineRow::Kicks(_) = row {
            cells[column_of(span.start)].0 = '|';
            continue;
        }
        let (first, last) = (column_of(span.start), column_of(Nanos(span.end.0 - 1)));
        for (column, cell) in cells.iter_mut().enumerate().take(last + 1).skip(first) {
            let begin = column as u64 * width;
            let part = span
                .end
                .0
                .min(begin + width)
                .saturating_sub(span.start.0.max(begin));
            // A thread always does something; elsewhere what is not the rule has to fill half.
            let least = match row {
                TimelineRow::Thread(_) => cell.1,
                _ => cell.1.max(width / 2),
            };
            if part > least || (part == width && part > 0) {
                *cell = (symbol(span.kind), part);
            }
        }
    }
    cells.into_iter().map(|(symbol, _)| symbol).collect()
}

fn symbol(kind: SpanKind) -> char {
    match kind {
        SpanKind::GuestUndetected => '#',
        SpanKind::Guest => '=',
        SpanKind::Interrupts => 'i',
        SpanKind::Asleep => 'z',
        SpanKind::Queued => 'q',
        SpanKind::Trap | SpanKind::Waking => 'k',
        SpanKind::Vmm | SpanKind::SignalHandler => 'v',
        SpanKind::WaitingForCpu => 'w',
        SpanKind::DetectionOff => '-',
        SpanKind::WindowUnused => 'u',
        SpanKind::Held(_) => 'H',
        SpanKind::Running(_) => ' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use split_lock_model::sim::{Budget, Program, TaskSpec};

    fn view(ms: u64) -> View {
        let guest = Program::split_loop(Nanos(1_000)).unwrap();
        let budget = Budget::Relative(Nanos::from_millis(ms));
        let scenario = Scenario::single(TaskSpec::vcpu(guest, budget));
        let kernel = "6.6,hz=1000".parse().unwrap();
        View::of(&kernel, &scenario, Nanos::ZERO, Nanos::from_millis(30)).unwrap()
    }

    #[test]
    fn a_livelock_looks_like_one() {
        let text = text(&view(1), 80);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row("vCPU's timer").matches('|').count() >= 29, "{text}");
        assert!(row("vCPU ").ends_with("zzzz"), "{text}");
        assert!(
            !text.contains('#') && !row("core 0").contains('-'),
            "{text}"
        );
    }

    #[test]
    fn progress_looks_like_progress() {
        let view = view(15);
        let text = text(&view, 80);
        assert!(text.contains("###") && text.contains("---"), "{text}");
        assert_eq!(view.spans(TimelineRow::Kicks(0)).len(), 1);
        let spans = view.spans(TimelineRow::Thread(0));
        assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }
}
