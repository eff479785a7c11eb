//! Tapes as text: a line for each choice, the same for the same tape.
//!
//! ```text
//! raft-sim tape 1
//! # Anything that a person wants to say.
//! [options]
//! seed = 7                    as `raft-sim options` shows them
//! ..
//! [strikes]
//! after 812 crash leader 3 lasts 5312 operations 2 clients e words 8 . 4f
//! at 93125 partition node 1 lasts 20000 operations 1 clients e
//! [draws]
//! link 1>2                    a stream
//! 17 . . 8c                   a draw of it, by its number from 0, and its words
//! ```
//! A strike comes `after` so many events, or `at` so many microseconds. A word is written in
//! hexadecimal digits from the left, without the zeroes at its right end; a calm one is a dot, and
//! those at the end of a line are left out. Nodes are counted from 1, clients from 0. What belongs
//! to the second life, crash, .. of something has a name in two parts: `disk-crash 1.3`.

use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::str::FromStr;

use super::{Key, Planned, Tape, When};
use crate::fault::Fault;
use crate::nemesis::STRIKING;
use crate::options::Options;
use crate::rng::{CALM, Draws, Purpose, Words};

/// No strike lasts longer than this, in microseconds: about twelve days.
const LASTS_MAX_US: u64 = 1 << 40;

/// What opens a tape.
const HEAD: &str = "raft-sim tape 1";
const OPTIONS: &str = "[options]";
const STRIKES: &str = "[strikes]";
const DRAWS: &str = "[draws]";

/// A text that is no tape: the first line that is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapeError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it, in a sentence without its end.
    pub what: String,
}

impl fmt::Display for TapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for TapeError {}

impl fmt::Display for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}\n\n{OPTIONS}")?;
        for (name, value) in self.options.knobs() {
            writeln!(f, "{name} = {value}")?;
        }
        writeln!(f, "\n{STRIKES}")?;
        for strike in self.strikes.iter() {
            writeln!(f, "{strike}")?;
        }
        writeln!(f, "\n{DRAWS}")?;
        for (key, draws) in &self.draws {
            writeln!(f, "{}", stream(*key, self.options.nodes() as u64))?;
            for (number, words) in draws.iter() {
                write!(f, "{number}")?;
                show_words(f, words)?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lasts_us, operations, clients, .. } = self;
        match self.when {
            When::Event(events) => write!(f, "after {events}")?,
            When::Time(at_us) => write!(f, "at {at_us}")?,
        }
        let whom = if self.is_aimed { "leader" } else { "node" };
        write!(f, " {} {whom} {} lasts {lasts_us}", self.fault.name(), self.node + 1)?;
        write!(f, " operations {operations} clients {clients:x}")?;
        if self.words == [CALM; 8] {
            return Ok(());
        }
        write!(f, " words")?;
        show_words(f, &self.words)
    }
}

/// How a stream is called.
fn stream((purpose, entity): Key, nodes: u64) -> String {
    let (high, low) = (entity >> 32, entity & 0xffff_ffff);
    let name = purpose.name();
    match (purpose, high) {
        (Purpose::Link, _) => format!("{name} {}>{}", entity / nodes + 1, entity % nodes + 1),
        (_, 0) => format!("{name} {low}"),
        (_, high) => format!("{name} {high}.{low}"),
    }
}

fn show_words(f: &mut fmt::Formatter<'_>, words: &Words) -> fmt::Result {
    let len = words.iter().rposition(|&word| word != CALM).map_or(0, |last| last + 1);
    words[..len].iter().try_for_each(|&word| match word {
        CALM => write!(f, " ."),
        0 => write!(f, " 0"),
        word => write!(f, " {}", format!("{word:016x}").trim_end_matches('0')),
    })
}

/// What is wrong with a line.
type Wrong = String;

/// The part of a tape that a line is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Options,
    Strikes,
    Draws,
}

impl FromStr for Tape {
    type Err = TapeError;

    fn from_str(text: &str) -> Result<Self, TapeError> {
        let mut lines = text.lines().zip(1..);
        if lines.next().is_none_or(|(line, _)| line.trim_end() != HEAD) {
            return Err(TapeError { line: 1, what: format!("a tape begins with `{HEAD}`") });
        }
        let tape = Self::calm(Options::default());
        let mut reader = Reader { part: Part::Head, stream: None, tape };
        let mut last = 1;
        for (text, line) in lines {
            reader.line(text.trim()).map_err(|what| TapeError { line, what })?;
            last = line;
        }
        reader.enter(Part::Draws).map_err(|what| TapeError { line: last, what })?;
        Ok(reader.tape)
    }
}

struct Reader {
    part: Part,
    stream: Option<Key>,
    tape: Tape,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), Wrong> {
        match (line, self.part) {
            ("", _) => Ok(()),
            _ if line.starts_with('#') => Ok(()),
            (OPTIONS, Part::Head) => self.enter(Part::Options),
            (STRIKES, Part::Head | Part::Options) => self.enter(Part::Strikes),
            (DRAWS, Part::Head | Part::Options | Part::Strikes) => self.enter(Part::Draws),
            (_, Part::Head) => Err(format!("{line} is not `{OPTIONS}`")),
            (_, Part::Options) => self.option(line),
            (_, Part::Strikes) => {
                let strike = read_strike(line.split_ascii_whitespace(), &self.tape.options)?;
                Rc::make_mut(&mut self.tape.strikes).push(strike);
                Ok(())
            }
            (_, Part::Draws) => self.draws(line),
        }
    }

    /// The options are complete where another part begins.
    fn enter(&mut self, part: Part) -> Result<(), Wrong> {
        if self.part == Part::Options {
            self.tape.options.check().map_err(|error| error.to_string())?;
        }
        self.part = part;
        Ok(())
    }

    fn option(&mut self, line: &str) -> Result<(), Wrong> {
        let (name, value) = line.split_once('=').ok_or("an option is like `voters = 3`")?;
        let set = self.tape.options.set(name.trim(), value.trim());
        set.map_err(|error| error.to_string())
    }

    fn draws(&mut self, line: &str) -> Result<(), Wrong> {
        let mut tokens = line.split_ascii_whitespace();
        let first = tokens.next().unwrap_or_default();
        if let Ok(number) = first.parse() {
            return self.draw(number, read_words(tokens)?);
        }
        let nodes = self.tape.options.nodes() as u64;
        self.stream = Some(read_stream(first, tokens, nodes)?);
        Ok(())
    }

    fn draw(&mut self, number: u64, words: Words) -> Result<(), Wrong> {
        let key = self.stream.ok_or("a draw of which stream?")?;
        if words == [CALM; 8] {
            return Ok(());
        }
        let draws: &mut Draws = Rc::make_mut(self.tape.draws.entry(key).or_default());
        match draws.insert(number, words) {
            None => Ok(()),
            Some(_) => Err(format!("draw {number} is there already")),
        }
    }
}

fn read_strike<'a>(
    mut tokens: impl Iterator<Item = &'a str>,
    options: &Options,
) -> Result<Planned, Wrong> {
    let tokens = &mut tokens;
    let when = match tokens.next() {
        Some("after") => When::Event(number(tokens.next())?),
        Some("at") => When::Time(number(tokens.next())?),
        other => return Err(format!("{} is not `after` or `at`", other.unwrap_or_default())),
    };
    let name = tokens.next().unwrap_or_default();
    let fault = Fault::named(name).filter(|fault| STRIKING.contains(fault));
    let fault = fault.ok_or_else(|| format!("no strike is called {name}"))?;
    if !options.faults.contains(fault) {
        return Err(format!("the faults of the options do not have {name}"));
    }
    let is_aimed = match tokens.next() {
        Some("leader") => true,
        Some("node") => false,
        other => return Err(format!("{} is not `leader` or `node`", other.unwrap_or_default())),
    };
    let node: usize = number(tokens.next())?;
    within("the node", node, 1..=options.nodes())?;
    let lasts_us = number(after("lasts", tokens)?)?;
    within("the time", lasts_us, 0..=LASTS_MAX_US)?;
    let operations = number(after("operations", tokens)?)?;
    within("the number", operations, 1..=1 << 16)?;
    let clients = after("clients", tokens)?.unwrap_or_default();
    let clients = u64::from_str_radix(clients, 16).map_err(|_| no_number(clients))?;
    let words = match tokens.next() {
        None => [CALM; 8],
        Some("words") => read_words(tokens)?,
        Some(other) => return Err(format!("{other} is not `words`")),
    };
    Ok(Planned { when, fault, is_aimed, node: node - 1, lasts_us, operations, clients, words })
}

fn after<'a>(
    name: &str,
    tokens: &mut impl Iterator<Item = &'a str>,
) -> Result<Option<&'a str>, Wrong> {
    match tokens.next() {
        Some(token) if token == name => Ok(tokens.next()),
        other => Err(format!("{} is not `{name}`", other.unwrap_or_default())),
    }
}

fn number<T: FromStr>(token: Option<&str>) -> Result<T, Wrong> {
    let token = token.unwrap_or_default();
    token.parse().map_err(|_| no_number(token))
}

fn within<T: Copy + PartialOrd + fmt::Display>(
    name: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), Wrong> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{name} is {value}, not in {}..={}", range.start(), range.end()))
}

fn no_number(token: &str) -> Wrong {
    if token.is_empty() {
        "a number is missing".to_owned()
    } else {
        format!("{token} is no number")
    }
}

fn read_stream<'a>(
    name: &str,
    mut tokens: impl Iterator<Item = &'a str>,
    nodes: u64,
) -> Result<Key, Wrong> {
    let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.name() == name);
    let purpose = purpose.ok_or_else(|| format!("no stream is called {name}"))?;
    let whose = tokens.next().unwrap_or_default();
    let entity = if purpose == Purpose::Link {
        let (from, to) = whose.split_once('>').ok_or("a link is like 1>2")?;
        let (from, to) = (number(Some(from))?, number(Some(to))?);
        within("the node", from, 1..=nodes)?;
        within("the node", to, 1..=nodes)?;
        (from - 1) * nodes + to - 1
    } else if let Some((high, low)) = whose.split_once('.') {
        let (high, low): (u32, u32) = (number(Some(high))?, number(Some(low))?);
        u64::from(high) << 32 | u64::from(low)
    } else {
        number(Some(whose))?
    };
    match tokens.next() {
        None => Ok((purpose, entity)),
        Some(more) => Err(format!("{more} is too much")),
    }
}

fn read_words<'a>(tokens: impl Iterator<Item = &'a str>) -> Result<Words, Wrong> {
    let mut words = [CALM; 8];
    for (at, token) in tokens.enumerate() {
        let word = words.get_mut(at).ok_or("a draw has eight words")?;
        *word = if token == "." { CALM } else { read_word(token)? };
    }
    Ok(words)
}

/// Digits from the left.
fn read_word(token: &str) -> Result<u64, Wrong> {
    let is_word = token.len() <= 16 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    let word = is_word.then(|| u64::from_str_radix(&format!("{token:0<16}"), 16).ok()).flatten();
    word.ok_or_else(|| format!("{token} is no word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAPE: &str = "raft-sim tape 1\n[options]\nvoters = 3\nfaults = crash\n# a comment\n[strikes]\n\
        after 7 crash leader 3 lasts 12 operations 1 clients e words . 8 . 4f\n\
        at 9 crash node 1 lasts 0 operations 1 clients 0\n[draws]\nlink 2>1\n0 . 8\n17 0\n\
        disk-crash 1.3\n4 ffffffffffffffff 1\nschedule 0\n3 .\n";

    #[test]
    fn a_tape_is_read_as_it_was_written() {
        let tape: Tape = TAPE.parse().unwrap();
        assert_eq!(tape.strikes.len(), 2);
        assert_eq!(tape.strikes[0].words[..4], [CALM, 8 << 60, CALM, 0x4f << 56]);
        assert_eq!(tape.draws[&(Purpose::Link, 3)][&17][..2], [0, CALM]);
        assert_eq!(tape.draws[&(Purpose::DiskCrash, 1 << 32 | 3)][&4][..2], [CALM, 1 << 60]);
        assert_eq!((tape.draws.len(), tape.draws_len()), (2, 3), "calm draws are none");
        let text = tape.to_string();
        assert_eq!(text.parse(), Ok(tape.clone()));
        assert_eq!(text.parse::<Tape>().unwrap().to_string(), text);
        assert_eq!(Tape::calm(tape.options).draws_len(), 0);
    }

    #[test]
    fn a_text_that_is_no_tape_names_the_line() {
        let head = "raft-sim tape 1\n";
        let options = format!("{head}\n[options]\n");
        let strikes = format!("{head}[options]\nfaults = crash\n[strikes]\n");
        let draws = format!("{head}[draws]\nlink 1>2\n");
        for (text, line, what) in [
            (String::new(), 1, "a tape begins with `raft-sim tape 1`"),
            ("raft-sim tape 2\n".to_owned(), 1, "a tape begins with `raft-sim tape 1`"),
            (format!("{head}voters = 3\n"), 2, "voters = 3 is not `[options]`"),
            (format!("{options}voters = 0\n\n"), 5, "no voters"),
            (format!("{options}voters = x\n"), 4, "\"x\" is not a number"),
            (format!("{options}voters\n"), 4, "an option is like `voters = 3`"),
            (format!("{options}wheels = 3\n"), 4, "there is no option wheels"),
            (format!("{strikes}never\n"), 5, "never is not `after` or `at`"),
            (format!("{strikes}after x\n"), 5, "x is no number"),
            (format!("{strikes}after 1 rain\n"), 5, "no strike is called rain"),
            (format!("{strikes}after 1 loss\n"), 5, "no strike is called loss"),
            (format!("{strikes}after 1 pause\n"), 5, "do not have pause"),
            (format!("{strikes}after 1 crash all\n"), 5, "all is not `leader` or `node`"),
            (format!("{strikes}after 1 crash node 4\n"), 5, "the node is 4, not in 1..=3"),
            (format!("{strikes}after 1 crash node 1\n"), 5, " is not `lasts`"),
            (format!("{strikes}after 1 crash node 1 lasts\n"), 5, "a number is missing"),
            (format!("{draws}1 2 3 4 5 6 7 8 9 a\n"), 4, "a draw has eight words"),
            (format!("{draws}1 x\n"), 4, "x is no word"),
            (format!("{draws}1 12345678123456781\n"), 4, "12345678123456781 is no word"),
            (format!("{draws}1 2\n1 3\n"), 5, "draw 1 is there already"),
            (format!("{draws}link 1>4\n"), 4, "the node is 4, not in 1..=3"),
            (format!("{draws}link 1\n"), 4, "a link is like 1>2"),
            (format!("{draws}client 1 2\n"), 4, "2 is too much"),
            (format!("{draws}tide 1\n"), 4, "no stream is called tide"),
            (format!("{draws}[strikes]\n"), 4, "no stream is called [strikes]"),
            (format!("{head}[draws]\n1 2\n"), 3, "a draw of which stream?"),
        ] {
            let error = text.parse::<Tape>().unwrap_err();
            assert!(error.line == line && error.what.contains(what), "{text:?}: {error}");
        }
    }
}
