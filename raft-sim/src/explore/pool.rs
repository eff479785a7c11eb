//! Many short lists in one piece of memory.

/// Lists, one behind the other.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    items: Vec<T>,
}

/// Where one list is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range {
    start: u32,
    end: u32,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

impl<T: Copy> Pool<T> {
    /// Adds a list.
    pub(crate) fn add(&mut self, list: impl IntoIterator<Item = T>) -> Range {
        let length =
            |items: &Vec<T>| u32::try_from(items.len()).expect("fewer than 2^32 fit memory");
        let start = length(&self.items);
        self.items.extend(list);
        Range { start, end: length(&self.items) }
    }

    pub(crate) fn at(&self, index: u32) -> T {
        self.items[index as usize]
    }
}

impl Range {
    pub(crate) fn indices(self) -> std::ops::Range<u32> {
        self.start..self.end
    }
}
