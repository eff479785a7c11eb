//! A quick look at one JSON object: where its members are, without taking them apart.
//!
//! It knows strings without escapes, numbers, `null` and arrays of those, written any way that JSON
//! allows. What is more than that goes to a real parser, and comes back in this form.

/// A member's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Null,
    /// A string, a number, or a truth value: as it is written, a string with its quotes.
    Plain(&'a str),
    /// An array of two plain items or nulls.
    Pair(Option<&'a str>, Option<&'a str>),
}

/// The members of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
    is_first: bool,
    /// Whether strings may contain escapes: then they are as a real parser writes them.
    with_escapes: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Option<Self> {
        Self::of(text, false)
    }

    /// Of a text that a real parser has written.
    pub(super) fn of_canonical(text: &'a str) -> Option<Self> {
        Self::of(text, true)
    }

    fn of(text: &'a str, with_escapes: bool) -> Option<Self> {
        let mut scan = Scan { text, at: 0, is_first: true, with_escapes };
        scan.space();
        scan.eat(b'{').then_some(scan)
    }

    /// The next member; `Some(None)`: there is none, and nothing behind the object. `None`: this is
    /// more than can be looked at quickly.
    pub(super) fn member(&mut self) -> Option<Option<(&'a str, Item<'a>)>> {
        self.space();
        if self.eat(b'}') {
            self.space();
            return (self.at == self.text.len()).then_some(None);
        }
        if !std::mem::take(&mut self.is_first) {
            if !self.eat(b',') {
                return None;
            }
            self.space();
        }
        let name = self.string()?;
        self.space();
        if !self.eat(b':') {
            return None;
        }
        self.space();
        let item = if self.eat(b'[') { self.pair()? } else { self.plain()? };
        Some(Some((&name[1..name.len() - 1], item)))
    }

    fn pair(&mut self) -> Option<Item<'a>> {
        self.space();
        let first = self.plain()?;
        self.space();
        if !self.eat(b',') {
            return None;
        }
        self.space();
        let second = self.plain()?;
        self.space();
        if !self.eat(b']') {
            return None;
        }
        let plain = |item| match item {
            Item::Null => Some(None),
            Item::Plain(text) => Some(Some(text)),
            Item::Pair(..) => None,
        };
        Some(Item::Pair(plain(first)?, plain(second)?))
    }

    fn plain(&mut self) -> Option<Item<'a>> {
        if self.byte() == Some(b'"') {
            return self.string().map(Item::Plain);
        }
        let begin = self.at;
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        while self.byte().is_some_and(is_word) {
            self.at += 1;
        }
        let word = &self.text[begin..self.at];
        let digits = word.strip_prefix('-').unwrap_or(word);
        let is_number = !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        match word {
            "null" => Some(Item::Null),
            "true" | "false" => Some(Item::Plain(word)),
            // Fractions and powers of ten have many spellings.
            _ if is_number && word != "-0" => Some(Item::Plain(word)),
            _ if self.with_escapes && !word.is_empty() => Some(Item::Plain(word)),
            _ => None,
        }
    }

    /// A string, with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let begin = self.at;
        if !self.eat(b'"') {
            return None;
        }
        loop {
            match self.byte()? {
                b'"' => break,
                b'\\' if self.with_escapes => self.at += 2,
                b'\\' | 0..=31 => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(&self.text[begin..self.at])
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let is_there = self.byte() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}
