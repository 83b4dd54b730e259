//! Samples, what is said of them, and how it is printed.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::machine::Cores;

/// Times of one kind.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// Adds the time since a moment.
    pub(crate) fn since(&mut self, moment: Instant) {
        self.push(moment.elapsed());
    }

    /// Adds those of somebody else.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// What is said of them.
    pub(crate) fn row(mut self, name: impl Into<String>) -> Row {
        self.0.sort_unstable();
        let quantile = |part: f64| {
            let place = (part * self.0.len() as f64).ceil() as usize;
            let sample = self.0.get(place.saturating_sub(1).min(self.0.len().saturating_sub(1)));
            sample.copied().unwrap_or_default().as_secs_f64() * 1e3
        };
        let times = Times {
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            most: quantile(1.0),
        };
        Row { name: name.into(), count: self.0.len(), times, ..Row::default() }
    }
}

/// Quantiles in milliseconds.
#[derive(Debug, Default, Clone, Copy)]
struct Times {
    p50: f64,
    p95: f64,
    p99: f64,
    most: f64,
}

/// One line of a report.
#[derive(Debug, Default, Clone)]
pub(crate) struct Row {
    name: String,
    count: usize,
    times: Times,
    rate: Option<f64>,
    ratio: Option<f64>,
    cores: Option<Cores>,
    aim: &'static str,
}

impl Row {
    /// How many a second, over the whole.
    pub(crate) fn within(mut self, passed: Duration) -> Self {
        self.rate = Some(self.count as f64 / passed.as_secs_f64());
        self
    }

    /// Who was how busy meanwhile.
    pub(crate) fn on(mut self, cores: Cores) -> Self {
        self.cores = Some(cores);
        self
    }

    /// What is aimed at.
    pub(crate) fn aim(mut self, aim: &'static str) -> Self {
        self.aim = aim;
        self
    }

    /// The ratio of medians to a baseline: how many times longer.
    pub(crate) fn longer_than(mut self, baseline: &Self) -> Self {
        self.ratio = Some(self.times.p50 / baseline.times.p50);
        self
    }

    /// The ratio of rates to a baseline: which part of it.
    pub(crate) fn part_of(mut self, baseline: &Self) -> Self {
        self.ratio = self.rate.zip(baseline.rate).map(|(own, other)| own / other);
        self
    }

    /// The same to a median in milliseconds, if there is one.
    pub(crate) fn times_longer(mut self, baseline: Option<f64>) -> Self {
        self.ratio = baseline.map(|baseline| self.times.p50 / baseline);
        self
    }

    /// The median in milliseconds.
    pub(crate) fn median(&self) -> f64 {
        self.times.p50
    }

    /// The 95th percentile in milliseconds.
    pub(crate) fn p95(&self) -> f64 {
        self.times.p95
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "n": self.count,
            "p50_ms": self.times.p50,
            "p95_ms": self.times.p95,
            "p99_ms": self.times.p99,
            "max_ms": self.times.most,
            "per_second": self.rate,
            "ratio": self.ratio,
            "server_cores": self.cores.map(|cores| cores.server),
            "bench_cores": self.cores.map(|cores| cores.bench),
            "aim": self.aim,
        })
    }
}

/// A figure that is no time.
#[derive(Debug, Clone)]
struct Fact {
    name: String,
    value: f64,
    unit: &'static str,
    aim: &'static str,
}

/// What a bench has found.
#[derive(Debug)]
pub(crate) struct Report {
    bench: &'static str,
    /// What `ratio` is the ratio to.
    baseline: &'static str,
    rows: Vec<Row>,
    facts: Vec<Fact>,
    notes: Vec<String>,
}

impl Report {
    /// An empty one.
    pub(crate) fn new(bench: &'static str, baseline: &'static str) -> Self {
        Self { bench, baseline, rows: Vec::new(), facts: Vec::new(), notes: Vec::new() }
    }

    /// Adds rows.
    pub(crate) fn add(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.rows.extend(rows);
    }

    /// Adds a figure that is no time.
    pub(crate) fn fact(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        aim: &'static str,
    ) {
        self.facts.push(Fact { name: name.into(), value, unit, aim });
    }

    /// Adds what a reader has to know: who is missing, and why.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// One line of JSON.
    pub(crate) fn to_json(&self, machine: &str) -> Value {
        let rows: Vec<_> = self.rows.iter().map(Row::to_json).collect();
        let facts: Vec<_> = self
            .facts
            .iter()
            .map(|fact| {
                json!({
                    "name": fact.name, "value": fact.value, "unit": fact.unit, "aim": fact.aim,
                })
            })
            .collect();
        json!({
            "bench": self.bench,
            "machine": machine,
            "baseline": self.baseline,
            "rows": rows,
            "facts": facts,
            "notes": self.notes,
        })
    }

    /// A table for people.
    pub(crate) fn to_table(&self, machine: &str) -> String {
        let heads =
            ["", "n", "p50 ms", "p95", "p99", "max", "per s", "ratio", "server", "bench", "aim"];
        let mut lines: Vec<Vec<String>> = vec![heads.map(str::to_owned).to_vec()];
        for row in &self.rows {
            let Times { p50, p95, p99, most } = row.times;
            let optional = |value: Option<f64>, digits| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
            };
            let mut line = vec![row.name.clone(), row.count.to_string()];
            line.extend([p50, p95, p99, most].map(|time| format!("{time:.3}")));
            line.push(optional(row.rate, 0));
            line.push(optional(row.ratio, 2));
            line.push(optional(row.cores.map(|cores| cores.server), 2));
            line.push(optional(row.cores.map(|cores| cores.bench), 2));
            line.push(row.aim.to_owned());
            lines.push(line);
        }
        let mut text = format!("{}: {machine}\nratio: {}\n", self.bench, self.baseline);
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: Vec<_> = (0..heads.len()).map(|column| width(column).unwrap_or(0)).collect();
        for line in &lines {
            let mut printed = format!("  {:<1$}", line[0], widths[0]);
            for (cell, width) in line[1..].iter().zip(&widths[1..]).take(heads.len() - 2) {
                // Writing into a string can't fail.
                let _ = write!(printed, "  {cell:>width$}");
            }
            let _ = write!(printed, "  {}", line[heads.len() - 1]);
            text.push_str(printed.trim_end());
            text.push('\n');
        }
        for Fact { name, value, unit, aim } in &self.facts {
            let aim = if aim.is_empty() { String::new() } else { format!("  (aim: {aim})") };
            let _ = writeln!(text, "  {name}: {value:.2} {unit}{aim}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "  {note}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_that_were_taken() {
        let mut samples = Samples::default();
        for millisecond in (1..=100).rev() {
            samples.push(Duration::from_millis(millisecond));
        }
        let row = samples.row("x").within(Duration::from_secs(10));
        assert_eq!((row.times.p50, row.times.p95), (50.0, 95.0));
        assert_eq!((row.times.p99, row.times.most), (99.0, 100.0));
        assert_eq!(row.rate, Some(10.0));
        assert_eq!(Samples::default().row("nothing").times.p99, 0.0);
    }
}
