//! Texts by number, each once: keys, values and processes as a history names them.

use std::hash::Hasher;

use hashbrown::HashTable;
use rustc_hash::FxHasher;

/// Texts, numbered from zero in the order in which they came up.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    texts: String,
    /// Where each text ends.
    ends: Vec<usize>,
    /// Looked up by text, never walked through.
    numbers: HashTable<u32>,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, number: u32) -> &str {
        text(&self.texts, &self.ends, number)
    }

    /// The number of a text, a new one if it has none.
    pub(super) fn number(&mut self, name: &str) -> u32 {
        let Self { texts, ends, numbers } = self;
        let hash = hash(name);
        if let Some(number) = numbers.find(hash, |number| text(texts, ends, *number) == name) {
            return *number;
        }
        let number = u32::try_from(ends.len()).expect("fewer texts than events");
        texts.push_str(name);
        ends.push(texts.len());
        numbers.insert_unique(hash, number, |number| self::hash(text(texts, ends, *number)));
        number
    }
}

fn text<'a>(texts: &'a str, ends: &[usize], number: u32) -> &'a str {
    let number = number as usize;
    let begin = number.checked_sub(1).map_or(0, |before| ends[before]);
    &texts[begin..ends[number]]
}

fn hash(name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    hasher.finish()
}
