//! The one table in which a comparison ends: a row for each thing measured, a column for each peer,
//! and how many times more than ours.

use std::fmt::Write as _;

use crate::cells::{Cell, Reading, Workload};

/// What a row tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Nanoseconds, or instructions where these are counted.
    Work,
    /// Calls of the allocator.
    Allocations,
    /// Bytes kept.
    Bytes,
}

/// One row: thousandths for each unit of work, one for each peer, ours first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was measured.
    pub label: String,
    /// In what it is told.
    pub unit: &'static str,
    /// In the order of the columns; `None` where a peer does not take part.
    pub thousandths: Vec<Option<u64>>,
}

impl Metric {
    /// What a cell is measured for.
    #[must_use]
    pub fn of(cell: &Cell) -> &'static [Self] {
        match cell.workload {
            Workload::One | Workload::Outstanding | Workload::Batches
                if cell.shape.command_bytes != 256 =>
            {
                &[Self::Work]
            }
            Workload::One | Workload::Outstanding | Workload::Batches | Workload::Idle => {
                &[Self::Work, Self::Allocations]
            }
            Workload::Lagging | Workload::Election => &[Self::Work],
            Workload::GroupBytes | Workload::EntryBytes64 | Workload::EntryBytes1 => &[Self::Bytes],
        }
    }

    /// What a reading says of it, in thousandths for each unit.
    #[must_use]
    pub fn thousandths(self, reading: &Reading) -> u64 {
        let total = match self {
            Self::Work => reading.work,
            Self::Allocations => reading.memory.allocations,
            Self::Bytes => reading.memory.kept_bytes,
        };
        total * 1000 / reading.units
    }
}

/// The table, ready to be printed.
#[must_use]
pub fn render(peers: &[&str], rows: &[Row]) -> String {
    let mut table = String::new();
    let label = rows.iter().map(|row| row.label.len()).max().unwrap_or(0);
    let unit = rows.iter().map(|row| row.unit.len()).max().unwrap_or(0);
    write!(table, "{:label$}  {:unit$}", "", "").expect("a string grows");
    for (position, peer) in peers.iter().enumerate() {
        write!(table, " {peer:>10}").expect("a string grows");
        if position > 0 {
            write!(table, " {:>8}", "x ours").expect("a string grows");
        }
    }
    table.push('\n');
    for row in rows {
        write!(table, "{:label$}  {:unit$}", row.label, row.unit).expect("a string grows");
        let ours = row.thousandths.first().copied().flatten();
        for (position, value) in row.thousandths.iter().enumerate() {
            let shown = value.map_or_else(|| "-".to_owned(), decimal);
            write!(table, " {shown:>10}").expect("a string grows");
            if position > 0 {
                let ratio = ratio(*value, ours);
                write!(table, " {ratio:>8}").expect("a string grows");
            }
        }
        table.push('\n');
    }
    table
}

fn ratio(theirs: Option<u64>, ours: Option<u64>) -> String {
    match (theirs, ours) {
        (Some(theirs), Some(ours)) if ours > 0 => decimal(theirs * 1000 / ours),
        (Some(_) | None, Some(_) | None) => "-".to_owned(),
    }
}

/// A number of thousandths, with as many decimals as its size leaves interesting.
fn decimal(thousandths: u64) -> String {
    let (whole, rest) = (thousandths / 1000, thousandths % 1000);
    match whole {
        0..10 => format!("{whole}.{:02}", rest / 10),
        10..100 => format!("{whole}.{}", rest / 100),
        100.. => whole.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_what_was_measured_and_how_many_times_ours_that_is() {
        let thousandths = vec![Some(1_500), Some(15_750), None];
        let rows = [Row { label: "w1".to_owned(), unit: "ns", thousandths }];
        let table = render(&["ours", "one", "two"], &rows);
        let words: Vec<&str> = table.split_whitespace().collect();
        let head = ["ours", "one", "x", "ours", "two", "x", "ours"];
        assert_eq!(words[..7], head);
        assert_eq!(words[7..], ["w1", "ns", "1.50", "15.7", "10.5", "-", "-"]);
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        assert_eq!(ratio(Some(7), Some(0)), "-");
        assert_eq!(decimal(0), "0.00");
        assert_eq!(decimal(123_456), "123");
    }
}
