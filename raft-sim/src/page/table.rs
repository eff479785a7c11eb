//! Columns of small numbers, and the texts that they refer to: the shape in which a page holds a
//! run. Numbers that rise are written as differences, texts once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// No node, no message, no end.
pub(super) const NONE: i64 = -1;

/// One column.
#[derive(Debug, Default)]
pub(super) struct Column(Vec<i64>);

impl Column {
    pub(super) fn push(&mut self, value: i64) {
        self.0.push(value);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, row: usize) -> i64 {
        self.0[row]
    }

    pub(super) fn set(&mut self, row: usize, value: i64) {
        self.0[row] = value;
    }

    /// As it is.
    pub(super) fn plain(&self) -> Value {
        json!(self.0)
    }

    /// Each number as the difference to the one before.
    pub(super) fn rising(&self) -> Value {
        let before = std::iter::once(0).chain(self.0.iter().copied());
        json!(self.0.iter().zip(before).map(|(value, before)| value - before).collect::<Vec<_>>())
    }

    /// Each number as the difference to that of another column, or nothing.
    pub(super) fn after(&self, other: &Self) -> Value {
        let both = self.0.iter().zip(&other.0);
        let differences = both.map(|(&value, start)| if value < 0 { NONE } else { value - start });
        json!(differences.collect::<Vec<_>>())
    }
}

/// Texts, each once.
#[derive(Debug, Default)]
pub(super) struct Texts {
    known: BTreeMap<String, i64>,
    in_order: Vec<String>,
}

impl Texts {
    /// The number of a text.
    pub(super) fn number(&mut self, text: String) -> i64 {
        if let Some(&number) = self.known.get(&text) {
            return number;
        }
        let number = signed(self.in_order.len() as u64);
        self.in_order.push(text.clone());
        self.known.insert(text, number);
        number
    }

    pub(super) fn json(&self) -> Value {
        json!(self.in_order)
    }
}

/// A number that a page shows: no run comes near the limit.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_written_as_what_they_differ_by() {
        let column = |values: &[i64]| Column(values.to_vec());
        assert_eq!(column(&[3, 3, 10]).rising(), json!([3, 0, 7]));
        assert_eq!(column(&[5, NONE]).after(&column(&[3, 4])), json!([2, -1]));
        assert_eq!(column(&[1, -1]).plain(), json!([1, -1]));
    }

    #[test]
    fn a_text_is_kept_once() {
        let mut texts = Texts::default();
        let numbers = ["a", "b", "a"].map(|text| texts.number(text.to_owned()));
        assert_eq!((numbers, texts.json()), ([0, 1, 0], json!(["a", "b"])));
    }
}
