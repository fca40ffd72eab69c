//! Medians and spreads, as text.

/// A sorted sample.
pub(crate) struct Distribution(Vec<f64>);

impl Distribution {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Distribution(values)
    }

    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let last = self.0.len() - 1;
        self.0[((last as f64) * q).round() as usize]
    }
}

/// The first scheme is what the others are compared with, round by round.
pub(crate) fn print_costs(names: &[&str], costs_ns: &[Vec<f64>]) {
    println!(
        "\nCost of a guest exit that does not expire the budget, against {}",
        names[0]
    );
    println!(
        "  {:32} {:>9} {:>16}   of {} rounds",
        "",
        "median",
        "quartiles",
        costs_ns[0].len()
    );
    for (name, costs) in names.iter().zip(costs_ns) {
        let ratios = costs
            .iter()
            .zip(&costs_ns[0])
            .map(|(cost, bare)| cost / bare);
        let ratio = Distribution::of(ratios.collect());
        let median_ns = Distribution::of(costs.clone()).quantile(0.5);
        println!(
            "  {name:32} {:>8.3}x {:>7.3}..{:.3}x   {median_ns:.0} ns",
            ratio.quantile(0.5),
            ratio.quantile(0.25),
            ratio.quantile(0.75),
        );
    }
}

/// The schemes' overshoots for each budget.
pub(crate) fn print_overshoots(names: &[&str], budgets_us: &[u64], late_us: &[Vec<Distribution>]) {
    println!("\nOvershoot in us: p50 / p99 / max");
    for (budget_us, late_us) in budgets_us.iter().zip(late_us) {
        println!("  budget {budget_us} us, {} runs each", late_us[0].0.len());
        for (name, late) in names.iter().zip(late_us) {
            println!(
                "    {name:32} {:>8.1} {:>9.1} {:>9.1}",
                late.quantile(0.5),
                late.quantile(0.99),
                late.quantile(1.0),
            );
        }
    }
}
