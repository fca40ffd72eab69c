//! The table of one guest at one level.

use crate::column::Column;
use crate::scheme::{NO_DETECTION, Scheme, WARN};
use crate::table::Distribution;

/// A column for each length of runs, the longest last.
pub(crate) struct Sheet {
    pub(crate) title: String,
    pub(crate) columns: Vec<Kicked>,
}

/// What was measured with runs of one length.
pub(crate) struct Kicked {
    pub(crate) every_ms: u64,
    pub(crate) column: Column,
    /// What emulating takes with breakpoints, if there are any.
    pub(crate) operation_us: Option<f64>,
}

impl Sheet {
    pub(crate) fn print(&self) {
        println!();
        self.row(&self.title, |kicked| {
            format!("kicked every {} ms", kicked.every_ms)
        });
        self.row("turns/s without detection", |kicked| {
            format!("{:.1}", kicked.column.rate(NO_DETECTION).median())
        });
        println!("  work, of that without detection");
        self.rows(
            |scheme| scheme != NO_DETECTION,
            |kicked, scheme| kicked.column.work(scheme).text(3),
        );
        println!("  work, of the better of what it chooses from");
        self.rows(Scheme::chooses, |kicked, auto| {
            kicked.column.choice(auto).text(3)
        });
        println!("  time lost per split lock, us");
        self.rows(
            |scheme| scheme.detects,
            |kicked, scheme| microseconds(kicked.column.lost_us(scheme)),
        );
        println!("  time asleep per split lock, us");
        self.rows(Scheme::is_left_to_sleep, |kicked, scheme| {
            microseconds(kicked.column.asleep_us(scheme))
        });
        let longest = self.columns.last().expect("there is a column");
        println!(
            "  how often emulating could be done in what is slept under warn at {} ms",
            longest.every_ms
        );
        let asleep = longest.column.asleep_us(WARN);
        self.rows(Scheme::emulates, |kicked, scheme| {
            times(asleep.as_ref(), kicked.emulating_us(scheme))
        });
        println!("  exits per split lock");
        self.rows(Scheme::emulates, |kicked, scheme| {
            format!("{:.3}", kicked.column.exits_per_turn(scheme))
        });
    }

    /// How each choice compares with the better of what there was to choose from, and where that was.
    pub(crate) fn choices(&self) -> Vec<(Distribution, String)> {
        let of_column = |kicked: &Kicked| -> Vec<(Distribution, String)> {
            let case =
                |auto: Scheme| format!("{}, {} ms, {}", self.title, kicked.every_ms, auto.name());
            let choosing = kicked.column.choosing();
            choosing
                .map(|auto| (kicked.column.choice(auto), case(auto)))
                .collect()
        };
        self.columns.iter().flat_map(of_column).collect()
    }

    /// A row for each of these schemes.
    fn rows(&self, which: impl Fn(Scheme) -> bool, cell: impl Fn(&Kicked, Scheme) -> String) {
        for &scheme in self.columns[0].column.schemes() {
            if which(scheme) {
                self.row(&format!("  {}", scheme.name()), |kicked| {
                    cell(kicked, scheme)
                });
            }
        }
    }

    fn row(&self, label: &str, cell: impl Fn(&Kicked) -> String) {
        let cells = self.columns.iter().map(cell);
        let cells: String = cells.map(|cell| format!("{cell:>24}")).collect();
        println!("  {label:26}{cells}");
    }
}

impl Kicked {
    /// Without breakpoints it is long enough to be seen as a difference.
    fn emulating_us(&self, scheme: Scheme) -> Option<f64> {
        if scheme.breakpoints {
            return self.operation_us;
        }
        self.column.lost_us(scheme).map(|lost| lost.median())
    }
}

fn microseconds(us: Option<Distribution>) -> String {
    us.map_or("stuck".into(), |us| us.text(0))
}

fn times(asleep: Option<&Distribution>, emulating_us: Option<f64>) -> String {
    match (asleep, emulating_us) {
        (Some(asleep), Some(us)) if us > 0.0 => format!("{:.1}", asleep.median() / us),
        _ => "-".into(),
    }
}
