//! Medians and spreads, as text.

/// A sorted sample.
pub(crate) struct Distribution(Vec<f64>);

impl Distribution {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Distribution(values)
    }

    /// What each of these is of the one that was measured in the same round.
    pub(crate) fn of_ratios<T>(these: &[T], those: &[T], of: impl Fn(&T) -> f64) -> Self {
        let pairs = these.iter().zip(those);
        Distribution::of(pairs.map(|(this, that)| of(this) / of(that)))
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Between two values it lies on the line from the one to the other.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let place = (self.0.len() - 1) as f64 * q;
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        self.0[low] + (self.0[high] - self.0[low]) * place.fract()
    }

    /// The median and the quartiles.
    pub(crate) fn text(&self, digits: usize) -> String {
        let [low, median, high] = [0.25, 0.5, 0.75].map(|q| self.quantile(q));
        format!("{median:.digits$} ({low:.digits$}..{high:.digits$})")
    }
}
