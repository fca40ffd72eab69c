//! Guest work under each scheme, and what a split lock costs there.

use std::time::Duration;

use split_lock_repro::vm::Level;

use crate::column::{Column, Spans};
use crate::extent::Extent;
use crate::scheme::{NO_DETECTION, NO_DETECTION_ARMED, Scheme, WARN, all_at};
use crate::subject::Machine;
use crate::table::Distribution;

/// Spans are several punishments long, or at least several turns. There are fewer of the longest.
const GUESTS: [(&str, u64, usize); 4] = [
    ("split", 200, 0),
    ("sparse:1ms", 200, 0),
    ("sparse:10ms", 300, 0),
    ("sparse:100ms", 800, 2),
];

/// Below the threshold of most kernels, and above that of all.
const KICKS_MS: [(Level, &[u64]); 2] = [(Level::Cpl0, &[1, 5, 20]), (Level::Cpl3, &[1, 20])];

/// What is to be reached: see the end of the output.
const LEAST_CHOICE: f64 = 0.9;

pub(crate) fn measure(machine: &Machine, extent: &Extent) {
    println!("\nGuest work, and what a split lock costs: median (and quartiles)");
    println!(
        "With breakpoints, the cost is in comparison with `{}`.",
        NO_DETECTION_ARMED.name()
    );
    let mut tables = vec![];
    for (level, kicks_ms) in KICKS_MS {
        let kicks_ms: Vec<u64> = extent.choose(kicks_ms).collect();
        for (guest, span_ms, fewer_rounds) in extent.choose(&GUESTS) {
            let spans = Spans {
                length: Duration::from_millis(span_ms) / extent.hurry,
                rounds: extent.rounds.saturating_sub(fewer_rounds).max(1),
            };
            let column = |&ms: &u64| {
                let kicks_every = Duration::from_millis(ms);
                let schemes = all_at(level, machine.reach);
                Column::measure(machine, extent, (guest, level), schemes, kicks_every, spans)
            };
            let table = Table {
                guest,
                level,
                kicks_ms: kicks_ms.clone(),
                columns: kicks_ms.iter().map(column).collect(),
            };
            table.print();
            tables.push(table);
        }
    }
    print_choices(&tables);
}

/// One guest at one level.
struct Table {
    guest: &'static str,
    level: Level,
    kicks_ms: Vec<u64>,
    columns: Vec<Column>,
}

impl Table {
    fn print(&self) {
        println!();
        let kicks = self
            .kicks_ms
            .iter()
            .map(|ms| format!("kicked every {ms} ms"));
        print_row(&format!("{} at {}", self.guest, self.level), kicks);
        self.row("turns/s without detection", |column| {
            format!("{:.1}", column.rate(NO_DETECTION).median())
        });
        println!("  work, of that without detection");
        self.rows(
            |scheme| scheme != NO_DETECTION,
            |column, scheme| column.work(scheme).text(3),
        );
        println!("  work, of the better of what it chooses from");
        self.rows(Scheme::chooses, |column, auto| column.choice(auto).text(3));
        println!("  time lost per split lock, us");
        self.rows(
            |scheme| scheme.detects,
            |column, scheme| {
                let lost = column.lost_us(scheme);
                lost.map_or("stuck".into(), |lost| lost.text(0))
            },
        );
        println!(
            "  how many times as much that is under warn at {} ms",
            self.longest_ms()
        );
        self.rows(Scheme::emulates, |column, scheme| {
            self.times_less(column.lost_us(scheme))
        });
        println!("  exits per split lock");
        self.rows(Scheme::emulates, |column, scheme| {
            format!("{:.3}", column.exits_per_turn(scheme))
        });
    }

    /// A row for each of these schemes.
    fn rows(&self, which: impl Fn(Scheme) -> bool, cell: impl Fn(&Column, Scheme) -> String) {
        for &scheme in self.columns[0].schemes() {
            if which(scheme) {
                self.row(&format!("  {}", scheme.name()), |column| {
                    cell(column, scheme)
                });
            }
        }
    }

    fn row(&self, label: &str, cell: impl Fn(&Column) -> String) {
        print_row(label, self.columns.iter().map(cell));
    }

    fn longest_ms(&self) -> u64 {
        *self.kicks_ms.last().expect("there is a column")
    }

    /// Where the difference is lost in the noise, all that can be said is how much it is at least.
    fn times_less(&self, lost: Option<Distribution>) -> String {
        let longest = self.columns.last().expect("there is a column");
        let (Some(warn), Some(lost)) = (longest.lost_us(WARN), lost) else {
            return "-".into();
        };
        let (low, high) = (lost.quantile(0.25), lost.quantile(0.75));
        if low > 0.0 {
            format!("{:.0}", warn.median() / lost.median())
        } else if high > 0.0 {
            format!("over {:.0}", warn.median() / high)
        } else {
            "-".into()
        }
    }
}

fn print_row(label: &str, cells: impl Iterator<Item = String>) {
    let cells: String = cells.map(|cell| format!("{cell:>24}")).collect();
    println!("  {label:26}{cells}");
}

/// Whether `auto` is never worse than so much of the better of the two.
fn print_choices(tables: &[Table]) {
    let mut all = vec![];
    for table in tables {
        for (column, kick_ms) in table.columns.iter().zip(&table.kicks_ms) {
            for auto in column.choosing() {
                let case = format!(
                    "{} at {}, {kick_ms} ms, {}",
                    table.guest,
                    table.level,
                    auto.name()
                );
                all.push((column.choice(auto), case));
            }
        }
    }
    all.sort_by(|(one, _), (other, _)| one.median().total_cmp(&other.median()));
    let good = all
        .iter()
        .filter(|(ratio, _)| ratio.median() >= LEAST_CHOICE);
    println!(
        "\n  auto makes at least {LEAST_CHOICE} of the better's work in {} of {} cases; the worst:",
        good.count(),
        all.len()
    );
    for (ratio, case) in all.iter().take(5) {
        println!("    {:24} {case}", ratio.text(3));
    }
}
